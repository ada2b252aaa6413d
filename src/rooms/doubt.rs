//! Events of which nobody knows whether they were appended: the store failed behind its write, or before it.
//!
//! Whoever sent them was told to try again; whoever follows commits must hear of those that are in the log, once, for
//! nobody decides them a second time. They are looked for when the room is read again. When that fails the room stays
//! unread, and they are looked for the next time.

use std::collections::HashSet;

use crate::{
    domain::event::Recorded,
    ids::{EventId, Seq},
    rooms::{commit::Entry, load, worker::Worker},
    store::Error,
};

impl Worker {
    /// An append of these was not answered.
    pub(super) fn doubt(&mut self, group: &[Entry]) {
        self.doubtful.extend(group.iter().flat_map(|entry| &entry.recorded).map(doubtful));
    }

    /// Finds out what has become of them, in a log that is known up to `end`.
    pub(super) async fn settle_doubts(&mut self, end: Seq) -> Result<(), Error> {
        let Some(first) = self.doubtful.iter().map(|(seq, _)| *seq).min() else {
            return Ok(());
        };
        let wanted: HashSet<EventId> = self.doubtful.iter().map(|(_, id)| *id).collect();
        let store = self.rooms.store().as_ref();
        let mut found = Vec::new();
        let mut after = Seq(first.0.saturating_sub(1));
        while after < end {
            let records = store.read(&self.id, after, load::PAGE).await?;
            let Some(last) = records.last() else {
                break;
            };
            after = last.seq;
            for record in records.iter().filter(|record| wanted.contains(&record.event_id)) {
                found.push(load::recorded(store, record)?);
            }
        }
        self.doubtful.clear();
        self.unobserved.extend(found);
        Ok(())
    }
}

/// Where it would stand, and which it is.
fn doubtful(recorded: &Recorded) -> (Seq, EventId) {
    (recorded.seq, recorded.event_id)
}
