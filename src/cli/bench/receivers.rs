//! What all sessions have heard: each of the senders of its room, and how far it is in the room's log.

use super::{
    plan::Plan,
    seen::{Came, Seen},
    senders::Senders,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Receivers {
    members: usize,
    all: Vec<Seen>,
    /// The newest event of each; 0: none.
    last: Vec<u64>,
}

impl Receivers {
    /// All sessions of this plan, which have heard nothing.
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            members: plan.members,
            all: vec![Seen::of(plan.senders_per_room()); plan.sessions()],
            last: vec![0; plan.sessions()],
        }
    }

    /// A session hears the text with this number of the sender at this place of its room.
    pub(super) fn take(&mut self, session: usize, place: u32, counter: u32) -> Came {
        self.all.get_mut(session).map_or(Came::Astray, |seen| seen.take(place, counter))
    }

    /// How many in the room of this session have heard that text.
    pub(super) fn told(&self, session: usize, place: u32, counter: u32) -> u64 {
        let first = session / self.members * self.members;
        let room = self.all.iter().skip(first).take(self.members);
        room.filter(|seen| seen.has(place, counter)).count() as u64
    }

    /// What never came, of everything that these have said.
    pub(super) fn lost(&self, senders: &Senders) -> u64 {
        let of = |(session, seen): (usize, &Seen)| {
            let missing: u64 = senders
                .beside(session)
                .map(|(place, sender)| seen.lost(place, sender.sent, &sender.refused))
                .sum();
            missing + seen.overflow()
        };
        self.all.iter().enumerate().map(of).sum()
    }

    /// The newest event that a session has heard; none: there is none.
    pub(super) fn last(&self, session: usize) -> Option<u64> {
        self.last.get(session).copied().filter(|seq| *seq > 0)
    }

    /// A session knows the room as it is there.
    pub(super) fn begin(&mut self, session: usize, seq: u64) {
        if let Some(last) = self.last.get_mut(session) {
            *last = seq;
        }
    }

    /// A session hears the event at this position; false: it has heard a later one before, or this one.
    pub(super) fn follow(&mut self, session: usize, seq: u64) -> bool {
        let Some(last) = self.last.get_mut(session).filter(|last| seq > **last) else {
            return false;
        };
        *last = seq;
        true
    }
}
