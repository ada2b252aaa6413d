//! The load of messages: what is said, and what came of each.
//!
//! Every text is followed from when it was due to each of the members, by the digits in it. Texts of all times count for
//! loss, repetition and order; only those that were due while it was measured count for the figures. What a server says
//! that nobody has sent, or that it has refused, is astray; nothing that it says makes this wait for ever.

use std::collections::BTreeMap;

use super::{
    catch_up::CatchUp,
    counts::Counts,
    hear::{Event, kind},
    plan::{Pace, Plan},
    receivers::Receivers,
    say::{Header, Template},
    seen::Came,
    senders::Senders,
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

/// See the module.
pub(super) struct Talk {
    members: usize,
    template: Template,
    credit: Credit,
    speech: Speech,
    receivers: Receivers,
    senders: Senders,
    /// What is measured: from when to when.
    window: (u64, u64),
    is_stopped: bool,
    /// Deliveries that have not come, of everything that was sent.
    outstanding: u64,
    /// Messages that were neither acknowledged nor refused.
    unanswered: u64,
    /// Sessions that are back and have not heard all that they missed.
    pub catch_up: CatchUp,
    /// Why the server closes sessions that are not over yet.
    closing: BTreeMap<usize, String>,
    /// Deliveries of messages, of all times.
    pub arrivals: u64,
    /// Deliveries of what is none: of the parts of answers.
    pub parts: u64,
    /// See there.
    pub counts: Counts,
}

impl Talk {
    /// A load by this plan, in which every message calls these LLMs.
    pub(super) fn new(plan: &Plan, speech: Speech, mentions: &[String]) -> Self {
        let has_acks = speech == Speech::Acknowledged;
        Self {
            members: plan.members,
            template: match speech {
                Speech::Bare => Template::text(plan.payload),
                Speech::Acknowledged | Speech::Unacknowledged => {
                    Template::message(plan.payload, has_acks, mentions)
                }
            },
            credit: match (plan.pace, has_acks) {
                (Pace::Rate(_) | Pace::Silent, _) => Credit::None,
                (Pace::InFlight(_), true) => Credit::Ack,
                (Pace::InFlight(_), false) => Credit::Echo,
            },
            speech,
            receivers: Receivers::new(plan),
            senders: Senders::new(plan),
            window: (u64::MAX, u64::MAX),
            is_stopped: false,
            outstanding: 0,
            unanswered: 0,
            catch_up: CatchUp::default(),
            closing: BTreeMap::new(),
            arrivals: 0,
            parts: 0,
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
        self.senders.is_one(session)
    }

    /// The session of a sender.
    pub(super) fn session_of(&self, sender: u32) -> Option<usize> {
        self.senders.get(sender).map(|sender| sender.session)
    }

    /// Where a session is that comes back; none: nowhere.
    pub(super) fn last_seq(&self, session: usize) -> Option<u64> {
        self.receivers.last(session)
    }

    /// Whether all that was said has come to everybody, and was acknowledged where that is done.
    pub(super) fn is_delivered(&self) -> bool {
        self.outstanding == 0 && (self.unanswered == 0 || !self.has_acks())
    }

    /// All that has come of what was said: it grows as long as something does.
    pub(super) fn come(&self) -> u64 {
        self.arrivals + self.parts + self.counts.answered
    }

    /// The next sender says what was due then.
    pub(super) fn send(&mut self, due: u64, now: u64, say: &mut Outbox) {
        let Some((number, sender)) = self.senders.next() else {
            return;
        };
        let header = Header { sender: number, counter: sender.sent, due };
        say.push(sender.session, self.template.with(header));
        sender.sent += 1;
        self.outstanding += self.members as u64;
        self.unanswered += 1;
        if self.is_measured(due) {
            self.counts.sent += 1;
            self.counts.behind.record(now.saturating_sub(due));
        }
    }

    /// Whether that moment is within what is measured.
    pub(super) fn is_measured(&self, due: u64) -> bool {
        (self.window.0..self.window.1).contains(&due)
    }

    /// Remembers how far a session has come; whether the event is one behind a later one.
    pub(super) fn follow(&mut self, session: usize, event: &Event<'_>) -> bool {
        // `resumed` says where the log ends, not how far this session has come.
        if event.seq == 0 || event.kind == kind::RESUMED {
            return false;
        }
        if event.kind == kind::ROOM_STATE {
            self.receivers.begin(session, event.seq);
        } else if !self.receivers.follow(session, event.seq) {
            return true;
        }
        self.catch_up.heard(session, event.seq);
        false
    }

    fn message(&mut self, session: usize, text: &[u8], is_behind: bool, now: u64, say: &mut Outbox) {
        let Some(header) = Header::read(text) else {
            self.counts.astray += 1;
            return;
        };
        let sender = self.senders.get(header.sender).filter(|sender| sender.has_said(header.counter));
        let place = sender.and_then(|_| self.senders.place(session, header.sender));
        let is_own = sender.is_some_and(|sender| sender.session == session);
        let came = place.map_or(Came::Astray, |place| self.receivers.take(session, place, header.counter));
        match came {
            Came::New => self.counts.inversions += u64::from(is_behind),
            Came::Late => self.counts.inversions += 1,
            Came::Twice => self.counts.duplicated += 1,
            Came::Astray => self.counts.astray += 1,
        }
        if matches!(came, Came::Twice | Came::Astray) {
            return;
        }
        self.arrivals += 1;
        self.outstanding = self.outstanding.saturating_sub(1);
        if self.is_measured(header.due) {
            self.counts.deliveries += 1;
            self.counts.latency.record(now.saturating_sub(header.due));
        }
        if self.credit == Credit::Echo && is_own {
            self.refill(now, say);
        }
    }

    fn acknowledged(&mut self, request_id: &[u8], now: u64, say: &mut Outbox) {
        let Some(header) = Header::read(request_id) else {
            return;
        };
        if !self.senders.get(header.sender).is_some_and(|sender| sender.has_said(header.counter)) {
            self.counts.astray += 1;
            return;
        }
        self.counts.answered += 1;
        self.unanswered = self.unanswered.saturating_sub(1);
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
        let Some(sender) = self.senders.get_mut(header.sender) else {
            return;
        };
        if !sender.has_said(header.counter) {
            return;
        }
        sender.refused.insert(header.counter);
        let session = sender.session;
        self.counts.answered += 1;
        self.unanswered = self.unanswered.saturating_sub(1);
        let place = self.senders.place(session, header.sender);
        let told = place.map_or(0, |place| self.receivers.told(session, place, header.counter));
        self.counts.astray += told;
        self.outstanding = self.outstanding.saturating_sub((self.members as u64).saturating_sub(told));
        if self.is_measured(header.due) {
            self.counts.refused += 1;
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
        self.receivers.lost(&self.senders)
    }
}

impl Script for Talk {
    fn joined(&mut self, session: usize, seq: u64) {
        self.closing.remove(&session);
        self.receivers.begin(session, seq);
    }

    fn resumed(&mut self, session: usize, seq: u64) {
        self.closing.remove(&session);
        if self.receivers.last(session).is_none_or(|last| last < seq) {
            self.catch_up.begin(session, seq);
        }
    }

    fn heard(&mut self, session: usize, message: &[u8], now: u64, say: &mut Outbox) {
        if self.speech == Speech::Bare {
            return self.message(session, message, false, now, say);
        }
        let Some(event) = Event::read(message) else {
            self.counts.astray += 1;
            return;
        };
        let is_behind = self.follow(session, &event);
        match event.kind {
            kind::MESSAGE => match event.text() {
                Some(text) => self.message(session, text, is_behind, now, say),
                None => self.counts.astray += 1,
            },
            kind::ACK => self.acknowledged(event.request_id, now, say),
            kind::ERROR => self.refused(&event, now, say),
            kind::CLOSING => {
                self.closing.insert(session, event.closing());
            }
            _ => self.counts.inversions += u64::from(is_behind),
        }
    }

    fn ended(&mut self, session: usize, why: &str) {
        // What the server has said before is more than how the stream or the connection ended.
        let why = self.closing.remove(&session).unwrap_or_else(|| why.to_owned());
        *self.counts.ended.entry(why).or_default() += 1;
        self.senders.gone(session);
        self.catch_up.end(session);
    }
}

#[cfg(test)]
#[path = "talk_tests.rs"]
mod tests;
