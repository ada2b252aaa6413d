//! What this process believes of rooms, so that an append to a room that nobody else writes to reads nothing first.
//!
//! It is never more than a belief: what is decided on it holds only if the write that it leads to finds it to be true.
//! Appends of this process to one room wait for one another here; those of others show at the write.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Mutex as Turn;

use crate::{
    ids::RoomId,
    store::dynamodb::plan::{End, Facts},
};

/// Rooms that are remembered; of more, those that nobody appends to just now are forgotten.
const ROOMS: usize = 10_000;

/// What is believed of one room.
#[derive(Debug, Default)]
pub(super) struct Hint {
    /// Whoever holds it appends.
    pub(super) turn: Turn<Belief>,
    exists: AtomicBool,
}

/// Where a room's log ends, and what lists say of it, as far as that is known.
#[derive(Debug, Default)]
pub(super) struct Belief {
    /// Where the log ended last.
    pub(super) end: Option<End>,
    /// What lists say of it.
    pub(super) facts: Option<Facts>,
}

impl Hint {
    /// Whether the room is known to exist; it never ceases to.
    pub(super) fn exists(&self) -> bool {
        self.exists.load(Ordering::Relaxed)
    }

    /// The room exists.
    pub(super) fn found(&self) {
        self.exists.store(true, Ordering::Relaxed);
    }
}

/// What is believed of all rooms.
#[derive(Debug, Default)]
pub(super) struct Hints(Mutex<HashMap<RoomId, Arc<Hint>>>);

impl Hints {
    /// Of this room.
    pub(super) fn of(&self, room: &RoomId) -> Arc<Hint> {
        let mut hints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hint) = hints.get(room) {
            return Arc::clone(hint);
        }
        if hints.len() >= ROOMS {
            hints.retain(|_, hint| Arc::strong_count(hint) > 1);
        }
        let hint = Arc::<Hint>::default();
        hints.insert(room.clone(), Arc::clone(&hint));
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hints_in_use_outlive_too_many_rooms() {
        let hints = Hints::default();
        let room = |n: usize| RoomId::parse(&n.to_string()).unwrap();
        let used = hints.of(&room(0));
        used.found();
        hints.of(&room(1)).found();
        for n in 2..=ROOMS {
            hints.of(&room(n));
        }
        assert!(hints.0.lock().unwrap().len() <= ROOMS);
        assert!(hints.of(&room(0)).exists());
        assert!(!hints.of(&room(1)).exists());
    }
}
