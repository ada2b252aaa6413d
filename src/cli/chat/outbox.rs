//! What was said and not yet answered. Pure.
//!
//! Lasting commands go out one at a time, in the order they were typed: the answer to one is there before the next
//! one leaves, so that a command that must be repeated (too fast, or the connection was lost) is never overtaken. A
//! repeat carries the same `request_id`, so the server carries it out once. Transient commands go out at once and
//! are never repeated: an interrupt that comes late would stop another answer.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::wire::pb::room::v1::{ClientMessage, Error, client_message::Payload};

/// How often a command is repeated after an answer that allows it.
const REPEATS_MAX: u32 = 10;

/// The first wait when the server names none; doubled with each repeat.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// No wait is longer, whatever the server says: a person would rather be told.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The commands on their way.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<ClientMessage>,
    /// The first of the queue has been sent.
    in_flight: bool,
    repeats: u32,
    wait_until: Option<Instant>,
    loose: HashSet<String>,
}

/// What an error means for the command it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It will be sent again after this long.
    Again(Duration),
    /// It was refused for good.
    Refused,
    /// It is not one of these commands.
    Unknown,
}

impl Outbox {
    /// Takes a command in. What comes back is to be sent at once.
    pub fn push(&mut self, message: ClientMessage) -> Option<ClientMessage> {
        if is_lasting(&message) {
            self.queue.push_back(message);
            return None;
        }
        self.loose.insert(message.request_id.clone());
        Some(message)
    }

    /// The next command to send now, if there is one.
    pub fn next(&mut self, now: Instant) -> Option<ClientMessage> {
        if self.in_flight || self.wait_until.is_some_and(|until| until > now) {
            return None;
        }
        let next = self.queue.front()?.clone();
        self.wait_until = None;
        self.in_flight = true;
        Some(next)
    }

    /// When [`Outbox::next`] is worth asking again without a new answer or command.
    pub fn wait_until(&self) -> Option<Instant> {
        self.wait_until
    }

    /// The command was carried out. Whether it is one of these.
    pub fn acked(&mut self, request_id: &str) -> bool {
        if self.loose.remove(request_id) {
            return true;
        }
        let first = self.is_first(request_id);
        if first {
            self.drop_first();
        }
        first
    }

    /// The command was answered by an error.
    pub fn refused(&mut self, request_id: &str, error: &Error, now: Instant) -> Verdict {
        if self.loose.remove(request_id) {
            return Verdict::Refused;
        }
        if !self.is_first(request_id) {
            return Verdict::Unknown;
        }
        if !error.retryable || self.repeats >= REPEATS_MAX {
            self.drop_first();
            return Verdict::Refused;
        }
        let wait = match error.retry_after_ms {
            0 => FIRST_WAIT * 2_u32.pow(self.repeats.min(8)),
            ms => Duration::from_millis(ms.into()),
        };
        let wait = wait.min(WAIT_MAX);
        self.repeats += 1;
        self.in_flight = false;
        self.wait_until = Some(now + wait);
        Verdict::Again(wait)
    }

    /// The connection was lost: what was on its way goes out again on the next one. The transient commands that
    /// come back here were lost with it.
    pub fn connection_lost(&mut self) -> Vec<String> {
        self.in_flight = false;
        self.loose.drain().collect()
    }

    /// How many commands wait for their answer or their turn.
    pub fn len(&self) -> usize {
        self.queue.len() + self.loose.len()
    }

    /// Whether everything was answered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_first(&self, request_id: &str) -> bool {
        self.queue.front().is_some_and(|first| first.request_id == request_id)
    }

    fn drop_first(&mut self) {
        self.queue.pop_front();
        self.in_flight = false;
        self.repeats = 0;
        self.wait_until = None;
    }
}

/// Whether the server remembers the command by its `request_id`.
fn is_lasting(message: &ClientMessage) -> bool {
    !matches!(
        message.payload,
        Some(
            Payload::Ping(_)
                | Payload::Typing(_)
                | Payload::Interrupt(_)
                | Payload::MarkRead(_)
                | Payload::SetPresence(_)
                | Payload::Signal(_)
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::room::v1::{InterruptLlm, SendMessage};

    fn say(id: &str) -> ClientMessage {
        let payload = Some(Payload::Message(SendMessage { content: id.into(), ..Default::default() }));
        ClientMessage { payload, request_id: id.into() }
    }

    fn sent(outbox: &mut Outbox, now: Instant) -> Option<String> {
        outbox.next(now).map(|message| message.request_id)
    }

    #[test]
    fn commands_go_out_one_after_the_other() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        assert_eq!(outbox.push(say("a")), None);
        outbox.push(say("b"));
        assert_eq!(sent(&mut outbox, now).as_deref(), Some("a"));
        assert_eq!(sent(&mut outbox, now), None);
        assert!(!outbox.acked("b"), "it was not sent yet");
        assert!(outbox.acked("a"));
        assert_eq!(sent(&mut outbox, now).as_deref(), Some("b"));
        assert!(outbox.acked("b"));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_command_that_came_too_fast_is_repeated_before_the_next_one() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        outbox.push(say("a"));
        outbox.push(say("b"));
        outbox.next(now);
        let error = Error { retryable: true, retry_after_ms: 700, ..Default::default() };
        let wait = Duration::from_millis(700);
        assert_eq!(outbox.refused("a", &error, now), Verdict::Again(wait));
        assert_eq!(sent(&mut outbox, now), None);
        assert_eq!(outbox.wait_until(), Some(now + wait));
        assert_eq!(sent(&mut outbox, now + wait).as_deref(), Some("a"));
        assert_eq!(outbox.refused("a", &Error::default(), now), Verdict::Refused);
        assert_eq!(sent(&mut outbox, now).as_deref(), Some("b"));
    }

    #[test]
    fn repeats_end() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        outbox.push(say("a"));
        let error = Error { retryable: true, ..Default::default() };
        let mut at = now;
        for _ in 0..REPEATS_MAX {
            assert!(outbox.next(at).is_some());
            let Verdict::Again(wait) = outbox.refused("a", &error, at) else { panic!("too early") };
            assert!(wait <= WAIT_MAX);
            at += wait;
        }
        assert!(outbox.next(at).is_some());
        assert_eq!(outbox.refused("a", &error, at), Verdict::Refused);
        assert!(outbox.is_empty());
    }

    #[test]
    fn after_a_lost_connection_lasting_commands_go_out_again_and_transient_ones_do_not() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        outbox.push(say("a"));
        outbox.next(now);
        let interrupt = ClientMessage {
            payload: Some(Payload::Interrupt(InterruptLlm::default())),
            request_id: "i".into(),
        };
        assert_eq!(outbox.push(interrupt.clone()), Some(interrupt));
        assert_eq!(outbox.connection_lost(), ["i"]);
        assert_eq!(sent(&mut outbox, now).as_deref(), Some("a"));
        assert_eq!(outbox.len(), 1);
    }
}
