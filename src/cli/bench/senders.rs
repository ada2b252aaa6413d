//! Who says something: some members of every room, one room after the other, and in each one sender after the other.
//!
//! A sender whose session is over says nothing more, and neither does one whose counter has come to its end.

use std::collections::{BTreeSet, HashMap};

use super::plan::Plan;

/// Who says something.
#[derive(Debug)]
pub(super) struct Sender {
    /// Its session.
    pub session: usize,
    /// How much it has said.
    pub sent: u32,
    /// What of it the server has refused: nobody waits for it.
    pub refused: BTreeSet<u32>,
    is_gone: bool,
}

impl Sender {
    /// Whether it has said the text with this number, and was not refused.
    pub(super) fn has_said(&self, counter: u32) -> bool {
        counter < self.sent && !self.refused.contains(&counter)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Senders {
    rooms: usize,
    members: usize,
    per_room: usize,
    all: Vec<Sender>,
    of_session: HashMap<usize, usize>,
    /// Who is next, among all turns.
    turn: usize,
}

impl Senders {
    /// Those of this plan.
    pub(super) fn new(plan: &Plan) -> Self {
        let per_room = plan.senders_per_room();
        let sender = |number: usize| {
            let (room, place) = (number / per_room, number % per_room);
            let session = room * plan.members + place * plan.members / per_room;
            Sender { session, sent: 0, refused: BTreeSet::new(), is_gone: false }
        };
        let all: Vec<Sender> = (0..plan.rooms * per_room).map(sender).collect();
        let of_session = all.iter().enumerate().map(|(number, sender)| (sender.session, number)).collect();
        Self { rooms: plan.rooms, members: plan.members, per_room, all, of_session, turn: 0 }
    }

    /// Whose turn it is, with its number; none: all are gone.
    pub(super) fn next(&mut self) -> Option<(u32, &mut Sender)> {
        let turns = self.all.len();
        for _ in 0..turns {
            let turn = self.turn;
            self.turn = (turn + 1) % turns;
            let number = (turn % self.rooms) * self.per_room + turn / self.rooms;
            let speaks = |sender: &&Sender| !sender.is_gone && sender.sent < u32::MAX;
            if self.all.get(number).filter(speaks).is_some() {
                return Some((u32::try_from(number).ok()?, self.all.get_mut(number)?));
            }
        }
        None
    }

    /// The sender with this number.
    pub(super) fn get(&self, number: u32) -> Option<&Sender> {
        self.all.get(number as usize)
    }

    /// The same, to change.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Sender> {
        self.all.get_mut(number as usize)
    }

    /// Whether this session says something.
    pub(super) fn is_one(&self, session: usize) -> bool {
        self.of_session.contains_key(&session)
    }

    /// This session is over.
    pub(super) fn gone(&mut self, session: usize) {
        let number = self.of_session.get(&session);
        if let Some(sender) = number.and_then(|number| self.all.get_mut(*number)) {
            sender.is_gone = true;
        }
    }

    /// The place of a sender among those of the room of this session; none: it speaks in another room.
    pub(super) fn place(&self, session: usize, number: u32) -> Option<u32> {
        let place = (number as usize).checked_sub(session / self.members * self.per_room)?;
        u32::try_from(place).ok().filter(|_| place < self.per_room)
    }

    /// All that speak in the room of this session, in the order of their places.
    pub(super) fn beside(&self, session: usize) -> impl Iterator<Item = (u32, &Sender)> {
        let first = session / self.members * self.per_room;
        (0..).zip(self.all.iter().skip(first).take(self.per_room))
    }
}
