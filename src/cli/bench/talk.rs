//! The load of messages: who says the next one, and what came of each.
//!
//! Every text is followed from when it was due to each of the members, by the digits in it. Texts of all times count for
//! loss, repetition and order; only those that were due while it was measured count for the figures. A sender whose
//! session is over says nothing more.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    figures::Times,
    hear::{Event, kind},
    plan::{Pace, Plan},
    say::{Header, Template},
    seen::{Came, Seen},
    world::{Outbox, Script},
};

/// How messages are spoken with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// As commands, which are acknowledged.
    Acknowledged,
    /// As commands, which are not.
    Unacknowledged,
    /// As texts, with nothing around them.
    Bare,
}

/// What makes room for another message in a closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credit {
    /// Nothing: the times are fixed.
    None,
    /// The acknowledgement.
    Ack,
    /// The sender's own message, where nothing is acknowledged.
    Echo,
}

/// Who says something.
#[derive(Debug)]
struct Sender {
    session: usize,
    sent: u32,
    /// What the server has refused: nobody waits for it.
    refused: BTreeSet<u32>,
    is_gone: bool,
}

/// What was counted.
#[derive(Debug)]
pub(super) struct Counts {
    /// Messages that were due while it was measured.
    pub sent: u64,
    /// Those of them that were acknowledged.
    pub acknowledged: u64,
    /// Those of them that were refused.
    pub refused: u64,
    /// All refusals, with their codes, and what was said of the first of each.
    pub codes: BTreeMap<String, (u64, String)>,
    /// Deliveries of the messages that were due while it was measured.
    pub deliveries: u64,
    /// Messages that came again.
    pub duplicated: u64,
    /// Messages that came behind a later one of their sender.
    pub inversions: u64,
    /// Messages of other rooms, and what nobody has said.
    pub astray: u64,
    /// Sessions that ended, by the reason.
    pub ended: BTreeMap<String, u64>,
    /// From when a message was due until it was delivered.
    pub latency: Times,
    /// From when a message was due until it was acknowledged.
    pub ack: Times,
    /// From when a message was due until it was handed to the connection: what the generator adds.
    pub behind: Times,
}

/// See the module.
pub(super) struct Talk {
    rooms: usize,
    members: usize,
    senders_per_room: usize,
    template: Template,
    credit: Credit,
    speech: Speech,
    receivers: Vec<Seen>,
    /// The newest event of each session; 0: none.
    last: Vec<u64>,
    senders: Vec<Sender>,
    /// Who is next, among all turns.
    turn: usize,
    /// What is measured: from when to when.
    window: (u64, u64),
    is_stopped: bool,
    /// Deliveries that have not come, of everything that was sent.
    outstanding: i64,
    /// Deliveries of all times.
    pub arrivals: u64,
    /// See there.
    pub counts: Counts,
}

impl Talk {
    /// A load by this plan, in which every message calls these LLMs.
    pub(super) fn new(plan: &Plan, speech: Speech, mentions: &[String]) -> Self {
        let has_acks = speech == Speech::Acknowledged;
        let per_room = plan.senders_per_room();
        let sender = |number: usize| {
            let (room, place) = (number / per_room, number % per_room);
            let member = place * plan.members / per_room;
            Sender {
                session: room * plan.members + member,
                sent: 0,
                refused: BTreeSet::new(),
                is_gone: false,
            }
        };
        Self {
            rooms: plan.rooms,
            members: plan.members,
            senders_per_room: per_room,
            template: match speech {
                Speech::Bare => Template::text(plan.payload),
                Speech::Acknowledged | Speech::Unacknowledged => {
                    Template::message(plan.payload, has_acks, mentions)
                }
            },
            credit: match (plan.pace, has_acks) {
                (Pace::Rate(_), _) => Credit::None,
                (Pace::InFlight(_), true) => Credit::Ack,
                (Pace::InFlight(_), false) => Credit::Echo,
            },
            speech,
            receivers: vec![Seen::of(per_room); plan.sessions()],
            last: vec![0; plan.sessions()],
            senders: (0..plan.rooms * per_room).map(sender).collect(),
            turn: 0,
            window: (u64::MAX, u64::MAX),
            is_stopped: false,
            outstanding: 0,
            arrivals: 0,
            counts: Counts::new(),
        }
    }

    /// From now on it is known what is measured.
    pub(super) fn measure(&mut self, from: u64, to: u64) {
        self.window = (from, to);
    }

    /// Nothing more is said.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// What comes of a message makes room for no other.
    pub(super) fn without_refill(&mut self) {
        self.credit = Credit::None;
    }

    /// Whether messages are acknowledged.
    pub(super) fn has_acks(&self) -> bool {
        self.speech == Speech::Acknowledged
    }

    /// Whether this session says something.
    pub(super) fn is_sender(&self, session: usize) -> bool {
        self.senders.iter().any(|sender| sender.session == session)
    }

    /// The session of a sender.
    pub(super) fn session_of(&self, sender: u32) -> Option<usize> {
        self.senders.get(sender as usize).map(|sender| sender.session)
    }

    /// Where a session is that comes back; none: nowhere.
    pub(super) fn last_seq(&self, session: usize) -> Option<u64> {
        self.last.get(session).copied().filter(|seq| *seq > 0)
    }

    /// Whether all that was said has come to everybody.
    pub(super) fn is_delivered(&self) -> bool {
        self.outstanding <= 0
    }

    /// The next sender says what was due then.
    pub(super) fn send(&mut self, due: u64, now: u64, say: &mut Outbox) {
        for _ in 0..self.senders.len() {
            let turn = self.turn;
            self.turn = (turn + 1) % self.senders.len();
            // One room after the other, and in each room one sender after the other.
            let number = (turn % self.rooms) * self.senders_per_room + turn / self.rooms;
            let Some(sender) = self.senders.get_mut(number).filter(|sender| !sender.is_gone) else {
                continue;
            };
            let name = u32::try_from(number).unwrap_or(u32::MAX);
            say.push(sender.session, self.template.with(Header { sender: name, counter: sender.sent, due }));
            sender.sent += 1;
            self.outstanding += i64::try_from(self.members).unwrap_or(i64::MAX);
            if self.is_measured(due) {
                self.counts.sent += 1;
                self.counts.behind.record(now.saturating_sub(due));
            }
            return;
        }
    }

    /// Whether that moment is within what is measured.
    pub(super) fn is_measured(&self, due: u64) -> bool {
        (self.window.0..self.window.1).contains(&due)
    }

    fn message(&mut self, session: usize, text: &[u8], now: u64, say: &mut Outbox) {
        let Some(header) = Header::read(text) else {
            self.counts.astray += 1;
            return;
        };
        let first = session / self.members * self.senders_per_room;
        let place = (header.sender as usize).checked_sub(first).and_then(|place| u32::try_from(place).ok());
        let came = match (place, self.receivers.get_mut(session)) {
            (Some(place), Some(seen)) => seen.take(place, header.counter),
            _ => Came::Astray,
        };
        match came {
            Came::New => {}
            Came::Late => self.counts.inversions += 1,
            Came::Twice => self.counts.duplicated += 1,
            Came::Astray => self.counts.astray += 1,
        }
        if matches!(came, Came::Twice | Came::Astray) {
            return;
        }
        self.arrivals += 1;
        self.outstanding -= 1;
        if self.is_measured(header.due) {
            self.counts.deliveries += 1;
            self.counts.latency.record(now.saturating_sub(header.due));
        }
        let is_own = || self.senders.get(header.sender as usize).is_some_and(|one| one.session == session);
        if self.credit == Credit::Echo && is_own() {
            self.refill(now, say);
        }
    }

    fn acknowledged(&mut self, request_id: &[u8], now: u64, say: &mut Outbox) {
        let Some(header) = Header::read(request_id) else {
            return;
        };
        if self.is_measured(header.due) {
            self.counts.acknowledged += 1;
            self.counts.ack.record(now.saturating_sub(header.due));
        }
        if self.credit == Credit::Ack {
            self.refill(now, say);
        }
    }

    fn refused(&mut self, event: &Event<'_>, now: u64, say: &mut Outbox) {
        let (code, words) = event.error();
        self.counts.codes.entry(code).or_insert((0, words)).0 += 1;
        let Some(header) = Header::read(event.request_id) else {
            return;
        };
        if self.is_measured(header.due) {
            self.counts.refused += 1;
        }
        if let Some(sender) = self.senders.get_mut(header.sender as usize) {
            sender.refused.insert(header.counter);
            self.outstanding -= i64::try_from(self.members).unwrap_or(i64::MAX);
        }
        if self.credit == Credit::Ack {
            self.refill(now, say);
        }
    }

    /// There is room for another message.
    pub(super) fn refill(&mut self, now: u64, say: &mut Outbox) {
        if !self.is_stopped {
            self.send(now, now, say);
        }
    }

    /// What never came, of everything that was said.
    pub(super) fn lost(&self) -> u64 {
        let of = |(session, seen): (usize, &Seen)| {
            let first = session / self.members * self.senders_per_room;
            let senders = self.senders.iter().skip(first).take(self.senders_per_room).zip(0..);
            let missing: u64 =
                senders.map(|(sender, place)| seen.lost(place, sender.sent, &sender.refused)).sum();
            missing + seen.overflow()
        };
        self.receivers.iter().enumerate().map(of).sum()
    }
}

impl Script for Talk {
    fn joined(&mut self, session: usize, seq: u64) {
        if let Some(last) = self.last.get_mut(session) {
            *last = seq;
        }
    }

    fn heard(&mut self, session: usize, message: &[u8], now: u64, say: &mut Outbox) {
        if self.speech == Speech::Bare {
            return self.message(session, message, now, say);
        }
        let Some(event) = Event::read(message) else {
            self.counts.astray += 1;
            return;
        };
        // `resumed` says where the log ends, not how far this session has come.
        if let Some(last) =
            self.last.get_mut(session).filter(|_| event.seq > 0 && event.kind != kind::RESUMED)
        {
            *last = event.seq;
        }
        match event.kind {
            kind::MESSAGE => match event.text() {
                Some(text) => self.message(session, text, now, say),
                None => self.counts.astray += 1,
            },
            kind::ACK => self.acknowledged(event.request_id, now, say),
            kind::ERROR => self.refused(&event, now, say),
            _ => {}
        }
    }

    fn ended(&mut self, session: usize, why: &str) {
        *self.counts.ended.entry(why.to_owned()).or_default() += 1;
        for sender in self.senders.iter_mut().filter(|sender| sender.session == session) {
            sender.is_gone = true;
        }
    }
}

impl Counts {
    fn new() -> Self {
        Self {
            sent: 0,
            acknowledged: 0,
            refused: 0,
            codes: BTreeMap::new(),
            deliveries: 0,
            duplicated: 0,
            inversions: 0,
            astray: 0,
            ended: BTreeMap::new(),
            latency: Times::new(),
            ack: Times::new(),
            behind: Times::new(),
        }
    }
}
