//! The last events of a room, in memory: what a session that fell behind, or came back, most often needs.
//!
//! In a busy room one commit can bring more than a session's queue takes. Reading what is missing from the store for
//! each of a thousand sessions would cost more than all deliveries together; here it is a reference to bytes that
//! are there already. Bounded in bytes and in time; whatever is not here is read from the store.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{ids::Seq, store::Page, wire::frame};

/// Bytes kept of one room, beyond its newest batch.
const KEPT_BYTES: usize = 512 * 1024;
/// How long they are kept: a quiet room keeps nothing.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(10);

/// Consecutive events, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Position of the first.
    pub first: Seq,
    /// Position of the last.
    pub last: Seq,
    /// Their frames.
    pub frames: Bytes,
}

/// The last batches of one room, without holes.
#[derive(Debug, Default)]
pub(super) struct Recent {
    stretches: VecDeque<(Instant, Stretch)>,
    bytes: usize,
}

impl Recent {
    /// Adds the newest events.
    pub(super) fn push(&mut self, stretch: Stretch, now: Instant) {
        if self.stretches.back().is_some_and(|(_, newest)| newest.last.next() != stretch.first) {
            self.stretches.clear();
            self.bytes = 0;
        }
        self.bytes += stretch.frames.len();
        self.stretches.push_back((now, stretch));
        while self.bytes > KEPT_BYTES && self.stretches.len() > 1 {
            self.forget_oldest();
        }
    }

    /// Forgets what is too old; when there will be more, if anything is left.
    pub(super) fn forget_old(&mut self, now: Instant) -> Option<Instant> {
        while self.stretches.front().is_some_and(|(at, _)| now.duration_since(*at) >= KEPT_FOR) {
            self.forget_oldest();
        }
        self.stretches.front().map(|(at, _)| *at + KEPT_FOR)
    }

    fn forget_oldest(&mut self) {
        if let Some((_, stretch)) = self.stretches.pop_front() {
            self.bytes -= stretch.frames.len();
        }
    }

    /// What follows `after`, up to a page of it; `None`: it is not all here.
    pub(super) fn behind(&self, after: Seq, page: Page) -> Option<Vec<Stretch>> {
        let wanted = after.next();
        let start = self
            .stretches
            .iter()
            .position(|(_, stretch)| stretch.first <= wanted && wanted <= stretch.last)?;
        let (mut events, mut bytes) = (page.events, page.bytes);
        let mut found: Vec<Stretch> = Vec::new();
        for (_, stretch) in self.stretches.iter().skip(start) {
            let from = found.last().map_or(wanted, |previous| previous.last.next());
            let Some(part) = cut(stretch, from, events, bytes, found.is_empty()) else {
                break;
            };
            events = events.saturating_sub(super::outbound::count(part.first, part.last));
            bytes = bytes.saturating_sub(part.frames.len());
            let whole = part.last == stretch.last;
            found.push(part);
            if !whole {
                break;
            }
        }
        Some(found)
    }
}

/// The part of a stretch from `from` on that fits; at least one event if `must`.
fn cut(stretch: &Stretch, from: Seq, events: usize, bytes: usize, must: bool) -> Option<Stretch> {
    let skipped = frame::skip(&stretch.frames, from.0.checked_sub(stretch.first.0)?)?;
    let mut last = from.before();
    let mut end = skipped;
    let mut taken = 0;
    while last < stretch.last {
        let next = end + frame::len_at(&stretch.frames, end)?;
        let fits = taken < events && next - skipped <= bytes;
        if !(fits || must && taken == 0) {
            break;
        }
        (last, end, taken) = (last.next(), next, taken + 1);
    }
    (taken > 0).then(|| Stretch { first: from, last, frames: stretch.frames.slice(skipped..end) })
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// Events from `first` to `last`, each of which is its position in a few bytes.
    fn stretch(first: u64, last: u64) -> Stretch {
        let mut frames = BytesMut::new();
        for seq in first..=last {
            frame::put_stored(&mut frames, b"", Seq(seq));
        }
        Stretch { first: Seq(first), last: Seq(last), frames: frames.freeze() }
    }

    fn all(stretches: &[Stretch]) -> (u64, u64, Bytes) {
        let ends = (stretches.first().unwrap().first.0, stretches.last().unwrap().last.0);
        let frames: Vec<u8> = stretches.iter().flat_map(|stretch| stretch.frames.to_vec()).collect();
        (ends.0, ends.1, frames.into())
    }

    const WIDE: Page = Page { events: 1000, bytes: 1 << 20 };

    #[test]
    fn what_follows_any_position_is_found_whatever_the_batches_were() {
        let mut recent = Recent::default();
        let now = Instant::now();
        for (first, last) in [(5, 9), (10, 10), (11, 200)] {
            recent.push(stretch(first, last), now);
        }
        for after in 4..200 {
            let (first, last, frames) = all(&recent.behind(Seq(after), WIDE).unwrap());
            assert_eq!((first, last), (after + 1, 200));
            assert_eq!(frames, stretch(after + 1, 200).frames);
        }
        assert_eq!(recent.behind(Seq(3), WIDE), None);
        assert_eq!(recent.behind(Seq(200), WIDE), None);
    }

    #[test]
    fn a_page_is_kept_and_one_event_always_fits() {
        let mut recent = Recent::default();
        recent.push(stretch(1, 10), Instant::now());
        recent.push(stretch(11, 20), Instant::now());
        let page = Page { events: 13, ..WIDE };
        assert_eq!(all(&recent.behind(Seq(2), page).unwrap()), (3, 15, stretch(3, 15).frames));
        let page = Page { bytes: 1, ..WIDE };
        assert_eq!(all(&recent.behind(Seq(2), page).unwrap()), (3, 3, stretch(3, 3).frames));
    }

    #[test]
    fn nothing_is_kept_behind_a_hole_or_for_long_or_beyond_the_bytes() {
        let mut recent = Recent::default();
        let now = Instant::now();
        recent.push(stretch(1, 10), now);
        recent.push(stretch(12, 13), now);
        assert_eq!(recent.behind(Seq(5), WIDE), None);
        assert!(recent.behind(Seq(11), WIDE).is_some());
        recent.push(stretch(14, 15), now + Duration::from_secs(3));
        assert_eq!(recent.forget_old(now + Duration::from_secs(9)), Some(now + KEPT_FOR));
        assert!(recent.behind(Seq(11), WIDE).is_some());
        assert_eq!(recent.forget_old(now + KEPT_FOR), Some(now + Duration::from_secs(3) + KEPT_FOR));
        assert_eq!(recent.behind(Seq(11), WIDE), None);
        assert!(recent.behind(Seq(13), WIDE).is_some());
        assert_eq!(recent.forget_old(now + KEPT_FOR * 2), None);
        assert_eq!(recent.bytes, 0);
        for n in 0..100 {
            recent.push(stretch(n * 2000 + 1, n * 2000 + 2000), now);
        }
        assert!(recent.bytes <= KEPT_BYTES);
        assert!(!recent.stretches.is_empty());
    }
}
