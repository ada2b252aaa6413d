//! The line of rooms for the slots of this node: fair over namespaces, and in each namespace over its rooms.
//!
//! Pure. A slot goes to the namespace that has fewest, and among those with as many to the one that has waited longest
//! since it last got one; there, to the room that has. However many rooms a namespace lets stand in the line, another
//! with a single one waits for no more than the next slot that becomes free, as long as it has fewer.

use std::collections::{HashMap, VecDeque};

use crate::ids::{Namespace, RoomId};

/// Rooms in which something can begin as soon as a slot is free. Whoever puts a room in sees to it that it stands here
/// once.
#[derive(Debug, Default)]
pub(super) struct Line {
    spaces: HashMap<Namespace, Space>,
    /// Namespaces that have a room in the line, in the order of their turns.
    turns: VecDeque<Namespace>,
}

/// What a namespace has of the line. None is kept that has nothing.
#[derive(Debug, Default)]
struct Space {
    /// In the order of their turns.
    rooms: VecDeque<RoomId>,
    /// Slots that it has.
    running: usize,
}

impl Line {
    /// A room stands at the end, as far as its namespace goes.
    pub(super) fn push(&mut self, room: RoomId) {
        let namespace = room.namespace();
        let space = self.spaces.entry(namespace.clone()).or_default();
        if space.rooms.is_empty() {
            self.turns.push_back(namespace);
        }
        space.rooms.push_back(room);
    }

    /// Takes out the room whose turn it is. Whether it takes a slot is said by [`Line::begun`].
    pub(super) fn pop(&mut self) -> Option<RoomId> {
        let running = |namespace: &Namespace| self.spaces.get(namespace).map_or(0, |space| space.running);
        // The first of those that have fewest.
        let (at, _) = self.turns.iter().enumerate().min_by_key(|(_, namespace)| running(namespace))?;
        let space = self.turns.get(at).and_then(|namespace| self.spaces.get_mut(namespace))?;
        let room = space.rooms.pop_front();
        if space.rooms.is_empty() {
            let idle = space.running == 0;
            let left = self.turns.remove(at);
            if let Some(namespace) = left.filter(|_| idle) {
                self.spaces.remove(&namespace);
            }
        }
        room
    }

    /// A room has got a slot: its namespace has had its turn.
    pub(super) fn begun(&mut self, room: &RoomId) {
        let namespace = room.namespace();
        if let Some(at) = self.turns.iter().position(|other| *other == namespace) {
            self.turns.remove(at);
            self.turns.push_back(namespace.clone());
        }
        self.spaces.entry(namespace).or_default().running += 1;
    }

    /// A room has given a slot back.
    pub(super) fn ended(&mut self, room: &RoomId) {
        let namespace = room.namespace();
        if let Some(space) = self.spaces.get_mut(&namespace) {
            space.running = space.running.saturating_sub(1);
        }
        self.tidy(&namespace);
    }

    /// Takes rooms out of the line.
    pub(super) fn retain(&mut self, keep: impl Fn(&RoomId) -> bool) {
        self.spaces.values_mut().for_each(|space| space.rooms.retain(&keep));
        let (spaces, has_room) = (&self.spaces, |space: &Space| !space.rooms.is_empty());
        self.turns.retain(|namespace| spaces.get(namespace).is_some_and(has_room));
        self.spaces.retain(|_, space| space.running > 0 || has_room(space));
    }

    /// Takes a room out of the line.
    pub(super) fn remove(&mut self, room: &RoomId) {
        let namespace = room.namespace();
        if let Some(space) = self.spaces.get_mut(&namespace) {
            space.rooms.retain(|other| other != room);
        }
        self.tidy(&namespace);
    }

    fn tidy(&mut self, namespace: &Namespace) {
        let Some(space) = self.spaces.get(namespace).filter(|space| space.rooms.is_empty()) else {
            return;
        };
        let idle = space.running == 0;
        self.turns.retain(|other| other != namespace);
        if idle {
            self.spaces.remove(namespace);
        }
    }
}

#[cfg(test)]
impl Line {
    /// Every room in the line.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RoomId> {
        self.spaces.values().flat_map(|space| &space.rooms)
    }

    /// How many rooms and namespaces are known: none where nothing runs and nothing waits.
    pub(super) fn len(&self) -> usize {
        assert!(self.turns.iter().all(|namespace| !self.spaces[namespace].rooms.is_empty()));
        self.iter().count() + self.spaces.len()
    }

    /// The namespaces that have a room in the line, and how many slots each has.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Namespace, usize)> {
        self.turns.iter().map(|namespace| (namespace, self.spaces[namespace].running))
    }

    /// How many slots a namespace has.
    pub(super) fn running(&self, namespace: &Namespace) -> usize {
        self.spaces.get(namespace).map_or(0, |space| space.running)
    }
}
