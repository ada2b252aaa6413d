//! The log of a room in memory: from the first position on, without holes.
//!
//! In blocks, because one list of all is copied whenever it outgrows its place, and all rooms wait meanwhile: a tenth of a
//! second where a room has a million events.

use crate::{
    ids::{Seq, UserId},
    store::Record,
};

/// Events that lie together.
const BLOCK: usize = 1024;

/// A record with what only the store's own questions need.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) sender: Option<UserId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Log(Vec<Vec<Entry>>);

impl Log {
    /// Adds the next event.
    pub(super) fn push(&mut self, entry: Entry) {
        match self.0.last_mut().filter(|block| block.len() < BLOCK) {
            Some(block) => block.push(entry),
            None => self.0.push(vec![entry]),
        }
    }

    /// The event at this position.
    pub(super) fn get(&self, seq: Seq) -> Option<&Entry> {
        let place = usize::try_from(seq.0.checked_sub(1)?).ok()?;
        self.0.get(place / BLOCK)?.get(place % BLOCK)
    }

    /// The events behind a position, in order.
    pub(super) fn behind(&self, after: Seq) -> impl Iterator<Item = &Entry> {
        // The first event is at position 1.
        let place = usize::try_from(after.0).unwrap_or(usize::MAX);
        let blocks = self.0.get(place / BLOCK..).unwrap_or_default();
        blocks.iter().flatten().skip(place % BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::{clock::Timestamp, domain::event::Kind, ids::EventId};

    fn entry(seq: u64) -> Entry {
        let (public, private) = (Bytes::new(), Bytes::new());
        let (event_id, at) = (EventId(Uuid::nil()), Timestamp::default());
        let record = Record { seq: Seq(seq), event_id, at, kind: Kind::Message, public, private };
        Entry { record, sender: None }
    }

    #[test]
    fn every_position_is_found_and_none_beside() {
        let blocks = BLOCK as u64;
        let mut log = Log::default();
        assert_eq!(log.behind(Seq::ZERO).count(), 0);
        for end in 1..=2 * blocks + 1 {
            log.push(entry(end));
            assert_eq!(log.get(Seq(end)).map(|entry| entry.record.seq), Some(Seq(end)));
            assert!(log.get(Seq(end + 1)).is_none());
        }
        let end = 2 * blocks + 1;
        for after in [0, 1, blocks - 1, blocks, blocks + 1, end - 1] {
            let found: Vec<_> = log.behind(Seq(after)).map(|entry| entry.record.seq.0).collect();
            assert_eq!(found, (after + 1..=end).collect::<Vec<_>>(), "behind {after}");
        }
        for beyond in [end, end + 1, 5 * blocks, u64::MAX] {
            assert_eq!(log.behind(Seq(beyond)).count(), 0, "behind {beyond}");
        }
        assert!(log.get(Seq::ZERO).is_none());
        assert!(log.get(Seq(u64::MAX)).is_none());
    }
}
