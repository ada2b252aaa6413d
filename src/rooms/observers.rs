//! Everybody who is told of commits, as one; and the audit as one of them.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{
    audit::{self, Audit},
    domain::{event::Recorded, room::Room},
    ids::{MessageId, RoomId},
    rooms::{AfterCommit, Used},
};

/// In the order in which they are told.
#[derive(Debug, Default)]
pub(super) struct Observers(RwLock<Vec<Arc<dyn AfterCommit>>>);

impl Observers {
    /// Adds one; before the first commit.
    pub(super) fn add(&self, observer: Arc<dyn AfterCommit>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    fn each(&self, mut tell: impl FnMut(&dyn AfterCommit)) {
        // They come at the start, and never go.
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().for_each(|observer| tell(observer.as_ref()));
    }
}

impl AfterCommit for Observers {
    fn committed(&self, room: &Room, events: &[Recorded]) {
        self.each(|observer| observer.committed(room, events));
    }

    fn followed(&self, room: &Room, events: &[Recorded]) {
        self.each(|observer| observer.followed(room, events));
    }

    fn concerns(&self, room: &RoomId) -> bool {
        let mut concerns = false;
        self.each(|observer| concerns |= observer.concerns(room));
        concerns
    }

    fn used(&self, room: &RoomId, answer: MessageId) -> Option<Used> {
        let mut used = None;
        self.each(|observer| used = used.take().or_else(|| observer.used(room, answer)));
        used
    }

    fn loaded(&self, room: &Room) {
        self.each(|observer| observer.loaded(room));
    }
}

/// The node that has committed something is the one that records it.
impl AfterCommit for Audit {
    fn committed(&self, room: &Room, events: &[Recorded]) {
        events.iter().filter_map(|event| audit::room::fact(room, event)).for_each(|fact| self.record(fact));
    }

    fn followed(&self, _: &Room, _: &[Recorded]) {}

    fn concerns(&self, _: &RoomId) -> bool {
        false
    }

    fn used(&self, _: &RoomId, _: MessageId) -> Option<Used> {
        None
    }

    fn loaded(&self, _: &Room) {}
}
