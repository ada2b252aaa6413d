//! The rooms that were written to lately: their number and where their logs end, so that an append to a busy room
//! looks nothing up.
//!
//! Only what is committed comes in here, so a rollback has nothing to undo.

use std::collections::HashMap;

use crate::{ids::RoomId, store::Head};

/// What an append must know of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Its number.
    pub(super) rid: i64,
    /// Where its log ends.
    pub(super) head: Head,
}

/// A cache in two halves: when the younger one is full the older one is forgotten. What is in use moves to the
/// younger half each time it is written to, so this forgets about the least recently used, without a list to keep.
#[derive(Debug)]
pub(super) struct KnownRooms {
    half: usize,
    young: HashMap<RoomId, Known>,
    old: HashMap<RoomId, Known>,
}

impl KnownRooms {
    /// Remembers the last `half` rooms at least, and twice as many at most.
    pub(super) fn new(half: usize) -> Self {
        Self { half, young: HashMap::new(), old: HashMap::new() }
    }

    /// What is known of a room.
    pub(super) fn get(&self, room: &RoomId) -> Option<Known> {
        self.young.get(room).or_else(|| self.old.get(room)).copied()
    }

    /// Remembers a room as it is now.
    pub(super) fn insert(&mut self, room: RoomId, known: Known) {
        if self.young.len() >= self.half && !self.young.contains_key(&room) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(room, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Seq;

    fn known(rid: i64) -> Known {
        Known { rid, head: Head { seq: Seq(1), fence: Seq(1) } }
    }

    #[test]
    fn the_rooms_not_written_to_for_longest_are_forgotten() {
        let room = |n: i64| RoomId::parse(&format!("r{n}")).unwrap();
        let mut rooms = KnownRooms::new(2);
        for n in 1..=4 {
            rooms.insert(room(n), known(n));
            rooms.insert(room(1), known(1));
        }
        assert_eq!(rooms.get(&room(1)), Some(known(1)));
        assert_eq!(rooms.get(&room(4)), Some(known(4)));
        assert_eq!(rooms.get(&room(2)), None);
        rooms.insert(room(4), known(40));
        assert_eq!(rooms.get(&room(4)), Some(known(40)), "the newest value, not an older half's");
    }
}
