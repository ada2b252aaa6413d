//! Which rooms are to be looked at, and when.
//!
//! A room in which something waits for the next look (merged membership, a new count of who is there) or grows old (its
//! last events) is noted here. Of a hundred thousand rooms most are quiet at any time, and to look at each of them every
//! second, in memory that nothing else has touched meanwhile, was five sixths of what they cost between
//! two signs of life (docs/performance.md).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::ids::RoomId;

/// The rooms of one node that are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Calendar(Mutex<BTreeSet<(Instant, RoomId)>>);

impl Calendar {
    /// Takes out `most` of the rooms whose time has come, the longest due first.
    pub(super) fn due(&self, now: Instant, most: usize) -> Vec<RoomId> {
        let mut noted = self.lock();
        let mut due = Vec::new();
        while due.len() < most && noted.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(noted.pop_first().map(|(_, room)| room));
        }
        due
    }

    // Taken after the lock of a feed, never before.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Instant, RoomId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When one room is looked at.
#[derive(Debug)]
pub(super) struct Look {
    calendar: Arc<Calendar>,
    room: RoomId,
    /// The next time; `None`: never.
    next: Option<Instant>,
}

impl Look {
    /// A room that nobody needs to look at.
    pub(super) fn new(calendar: Arc<Calendar>, room: RoomId) -> Self {
        Self { calendar, room, next: None }
    }

    /// It is to be looked at then, which is in about a second from then on. A later look that was noted before is not taken
    /// back: where nothing is left to be done it does nothing.
    pub(super) fn by(&mut self, at: Instant) {
        if self.next.is_none_or(|next| at < next) {
            self.next = Some(at);
            self.calendar.lock().insert((at, self.room.clone()));
        }
    }

    /// It is being looked at.
    pub(super) fn begun(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rooms_come_out_when_they_are_due_and_once() {
        let (calendar, now) = (Arc::new(Calendar::default()), Instant::now());
        let id = |name| RoomId::parse(name).unwrap();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut looks = ["a", "b", "c"].map(|name| Look::new(Arc::clone(&calendar), id(name)));
        let [a, b, c] = &mut looks;
        a.by(after(10));
        b.by(after(2));
        c.by(after(2));
        c.by(after(5));
        assert_eq!(calendar.due(after(1), 9), []);
        assert_eq!(calendar.due(after(2), 1), [id("b")]);
        assert_eq!(calendar.due(after(2), 9), [id("c")]);
        assert_eq!(calendar.due(after(9), 9), []);
        b.begun();
        b.by(after(11));
        assert_eq!(calendar.due(after(11), 9), [id("a"), id("b")]);
    }

    #[test]
    fn what_is_more_urgent_comes_sooner() {
        let (calendar, now) = (Arc::new(Calendar::default()), Instant::now());
        let room = RoomId::parse("room").unwrap();
        let mut look = Look::new(Arc::clone(&calendar), room.clone());
        look.by(now + Duration::from_secs(10));
        look.by(now);
        assert_eq!(calendar.due(now, 9), [room]);
    }
}
