//! The rooms that this node wants to hear of, and those of which the server has not been told so yet.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::ids::RoomId;

/// Set by feeds, taken by the task that talks to the server.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    rooms: HashSet<RoomId>,
    /// The server must be told whether these are wanted.
    changed: HashSet<RoomId>,
    /// Wanted, and nobody was told yet that this has come into force.
    untold: HashSet<RoomId>,
}

/// What the server must be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Wanted.
    pub(super) add: Vec<RoomId>,
    /// Not wanted any more.
    pub(super) remove: Vec<RoomId>,
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, room: &RoomId) {
        let mut state = self.lock();
        if state.rooms.insert(room.clone()) {
            state.changed.insert(room.clone());
            state.untold.insert(room.clone());
            self.changed.notify_one();
        }
    }

    pub(super) fn remove(&self, room: &RoomId) {
        let mut state = self.lock();
        if state.rooms.remove(room) {
            state.changed.insert(room.clone());
            state.untold.remove(room);
            self.changed.notify_one();
        }
    }

    /// A subscription has ended: it must be made again if the room is still wanted, and whether it is.
    pub(super) fn ended(&self, room: &RoomId) -> bool {
        let mut state = self.lock();
        let is_wanted = state.rooms.contains(room);
        if is_wanted {
            state.changed.insert(room.clone());
            state.untold.insert(room.clone());
            self.changed.notify_one();
        }
        is_wanted
    }

    pub(super) fn contains(&self, room: &RoomId) -> bool {
        self.lock().rooms.contains(room)
    }

    /// All of them, for a server that knows of none.
    pub(super) fn all(&self) -> Vec<RoomId> {
        let mut state = self.lock();
        state.changed.clear();
        state.rooms.iter().cloned().collect()
    }

    /// The server knows that these are wanted: those of them of which this must be told, once.
    pub(super) fn in_force(&self, rooms: &[RoomId]) -> Vec<RoomId> {
        let mut state = self.lock();
        rooms.iter().filter_map(|room| state.untold.take(room)).collect()
    }

    /// What has changed since the last time; waits until something has.
    pub(super) async fn changes(&self) -> Changes {
        loop {
            let changes = self.take();
            if changes != Changes::default() {
                return changes;
            }
            self.changed.notified().await;
        }
    }

    fn take(&self) -> Changes {
        let mut state = self.lock();
        let changed = std::mem::take(&mut state.changed);
        let (add, remove) = changed.into_iter().partition(|room| state.rooms.contains(room));
        Changes { add, remove }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomId {
        RoomId::parse(name).unwrap()
    }

    #[tokio::test]
    async fn the_server_is_told_of_what_holds_in_the_end() {
        let wanted = Wanted::default();
        wanted.add(&room("a"));
        wanted.add(&room("b"));
        wanted.remove(&room("b"));
        let changes = wanted.changes().await;
        assert_eq!((changes.add, changes.remove), (vec![room("a")], vec![room("b")]));
        wanted.add(&room("a"));
        wanted.remove(&room("never"));
        assert!(!wanted.ended(&room("never")));
        assert_eq!(wanted.take(), Changes::default());
        assert!(wanted.ended(&room("a")));
        assert_eq!(wanted.changes().await.add, [room("a")]);
        assert!(wanted.ended(&room("a")));
        assert_eq!(wanted.all(), [room("a")]);
        assert_eq!(wanted.take(), Changes::default());
    }

    #[test]
    fn what_has_come_into_force_is_told_once_however_often_the_server_is_told() {
        let wanted = Wanted::default();
        let all = [room("a"), room("b"), room("c")];
        all[..2].iter().for_each(|room| wanted.add(room));
        wanted.remove(&room("b"));
        // The connection is lost before the server has answered.
        wanted.take();
        wanted.all();
        assert_eq!(wanted.in_force(&all), [room("a")]);
        assert_eq!(wanted.in_force(&all), []);
        wanted.ended(&room("a"));
        assert_eq!(wanted.in_force(&all), [room("a")]);
    }
}
