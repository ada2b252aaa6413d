//! Which answers of LLMs are still to come from what was typed here. Pure.
//!
//! A pipe ends when everything it caused has ended. An LLM mentioned in one of our messages, or asked to vote in one of
//! our polls, owes an end; so does one that such an answer mentions in turn, if it begins soon: the server may have
//! decided that the chain is long enough. So does an answer that is to be made anew, and LLMs that we have let talk
//! among themselves owe the end of it all.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::wire::pb::room::v1::{AutopilotStatus, LlmThinking, ServerEvent, server_event::Payload};

/// How long an LLM that was called by an LLM may take to begin.
const CHAIN_GRACE: Duration = Duration::from_secs(3);

/// Stands for the LLM where none is known yet.
const ANYBODY: &str = "";

/// What is awaited.
#[derive(Debug, Default)]
pub struct Answers {
    /// Messages that were typed here, and the answers they caused.
    caused: HashSet<String>,
    /// The LLM, the message or poll it is asked by, and until when a beginning is awaited (`None`: until the end).
    awaited: BTreeMap<(String, String), Option<Instant>>,
}

impl Answers {
    /// A message of ours was accepted under this id.
    pub fn ours(&mut self, message_id: &str) {
        self.caused.insert(message_id.to_owned());
    }

    /// Takes in what an event says. `llms` are the ids of the room's LLMs.
    pub fn event<'a>(&mut self, event: &ServerEvent, llms: impl Iterator<Item = &'a str>, now: Instant) {
        match &event.payload {
            Some(Payload::MessageReceived(received)) => {
                let Some(message) = &received.message else { return };
                if !self.caused.contains(&message.message_id) {
                    return;
                }
                let chained = llms.into_iter().any(|llm| llm == message.sender_id);
                let until = chained.then(|| now + CHAIN_GRACE);
                for llm in &message.mentions {
                    self.awaited.insert((message.message_id.clone(), llm.clone()), until);
                }
            }
            Some(Payload::PollCreated(created)) => {
                let Some(poll) = &created.poll else { return };
                if self.caused.contains(&poll.message_id) {
                    for llm in llms.filter(|llm| *llm != poll.creator_id) {
                        self.awaited.insert((poll.poll_id.clone(), llm.to_owned()), Some(now + CHAIN_GRACE));
                    }
                }
            }
            Some(Payload::RegenerateRequested(requested)) if self.caused.contains(&event.event_id) => {
                let key = (requested.message_id.clone(), ANYBODY.to_owned());
                self.awaited.insert(key, Some(now + CHAIN_GRACE));
            }
            Some(Payload::AutopilotChanged(changed)) => {
                let Some(autopilot) = &changed.autopilot else { return };
                let key = (autopilot.autopilot_id.clone(), ANYBODY.to_owned());
                match autopilot.status() {
                    AutopilotStatus::Running if self.caused.contains(&autopilot.message_id) => {
                        self.awaited.insert(key, None);
                    }
                    AutopilotStatus::Running => {}
                    AutopilotStatus::Paused | AutopilotStatus::Ended | AutopilotStatus::Unspecified => {
                        self.awaited.remove(&key);
                    }
                }
            }
            Some(Payload::LlmThinking(thinking)) => self.begins(thinking),
            Some(Payload::LlmDone(done)) => {
                for asked_by in [&done.poll_id, &done.reply_to] {
                    self.awaited.remove(&(asked_by.clone(), done.llm_id.clone()));
                }
            }
            Some(Payload::LlmRemoved(removed)) => self.awaited.retain(|(_, llm), _| *llm != removed.llm_id),
            _ => {}
        }
    }

    fn begins(&mut self, thinking: &LlmThinking) {
        let anew = self.awaited.remove(&(thinking.replaces.clone(), ANYBODY.to_owned())).is_some();
        let asked_by = [thinking.poll_id.as_str(), thinking.reply_to.as_str()];
        for asked_by in asked_by.into_iter().filter(|id| !id.is_empty()) {
            let key = (asked_by.to_owned(), thinking.llm_id.clone());
            if anew || self.caused.contains(asked_by) || self.awaited.contains_key(&key) {
                self.awaited.insert(key, None);
                self.caused.insert(thinking.message_id.clone());
            }
        }
    }

    /// Whether nothing is awaited any more.
    pub fn is_done(&self, now: Instant) -> bool {
        !self.awaited.values().any(|until| until.is_none_or(|until| until > now))
    }

    /// When [`Answers::is_done`] may change without an event.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.awaited.values().flatten().min().copied()
    }

    /// Gives up what has not begun in time.
    pub fn expire(&mut self, now: Instant) {
        self.awaited.retain(|_, until| until.is_none_or(|until| until > now));
    }

    /// Everything typed so far is answered and nothing is awaited: what it was need not be kept.
    pub fn settle(&mut self) {
        if self.awaited.is_empty() {
            self.caused.clear();
        }
    }

    /// The LLMs that are awaited, each once, as far as they are known.
    pub fn awaited(&self) -> Vec<&str> {
        let known = self.awaited.keys().map(|(_, llm)| llm.as_str()).filter(|llm| *llm != ANYBODY);
        let mut llms: Vec<&str> = known.collect();
        llms.sort_unstable();
        llms.dedup();
        llms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::room::v1::{
        Autopilot, AutopilotChanged, LlmDone, Message, MessageReceived, Poll, PollCreated,
        RegenerateRequested,
    };

    fn message(id: &str, sender: &str, mentions: &[&str]) -> Payload {
        let message = Message {
            message_id: id.into(),
            sender_id: sender.into(),
            mentions: mentions.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        Payload::MessageReceived(MessageReceived { message: Some(message) })
    }

    fn thinking(id: &str, llm: &str, reply_to: &str) -> Payload {
        let (message_id, llm_id, reply_to) = (id.into(), llm.into(), reply_to.into());
        Payload::LlmThinking(LlmThinking { message_id, llm_id, reply_to, ..Default::default() })
    }

    fn done(llm: &str, reply_to: &str) -> Payload {
        Payload::LlmDone(LlmDone { llm_id: llm.into(), reply_to: reply_to.into(), ..Default::default() })
    }

    fn tell(answers: &mut Answers, now: Instant, payloads: impl IntoIterator<Item = Payload>) {
        for payload in payloads {
            let event = ServerEvent { payload: Some(payload), ..Default::default() };
            answers.event(&event, ["ada", "bot"].into_iter(), now);
        }
    }

    #[test]
    fn a_mention_in_our_message_is_awaited_to_its_end_and_others_are_not() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.ours("m");
        tell(&mut answers, now, [message("other", "bob", &["bot"]), message("m", "ann", &["ada"])]);
        assert_eq!(answers.awaited(), ["ada"]);
        assert!(!answers.is_done(now + CHAIN_GRACE * 9));
        tell(&mut answers, now, [thinking("a", "ada", "m"), done("ada", "m")]);
        assert!(answers.is_done(now));
    }

    #[test]
    fn a_chain_is_awaited_when_it_begins_in_time() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.ours("m");
        tell(&mut answers, now, [message("m", "ann", &["ada"]), thinking("a", "ada", "m")]);
        tell(&mut answers, now, [message("a", "ada", &["bot"]), done("ada", "m")]);
        assert!(!answers.is_done(now));
        assert!(answers.is_done(now + CHAIN_GRACE), "the chain was not continued");
        tell(&mut answers, now, [thinking("b", "bot", "a")]);
        assert!(!answers.is_done(now + CHAIN_GRACE * 9));
        tell(&mut answers, now, [done("bot", "a")]);
        assert!(answers.is_done(now));
    }

    #[test]
    fn every_llm_is_awaited_that_votes_in_our_poll() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.ours("m");
        let poll = Poll { poll_id: "p".into(), message_id: "m".into(), ..Default::default() };
        tell(&mut answers, now, [Payload::PollCreated(PollCreated { poll: Some(poll) })]);
        assert_eq!(answers.awaited(), ["ada", "bot"]);
        let voting = |llm: &str| {
            let thinking = LlmThinking { llm_id: llm.into(), poll_id: "p".into(), ..Default::default() };
            Payload::LlmThinking(thinking)
        };
        tell(&mut answers, now, [voting("ada")]);
        answers.expire(now + CHAIN_GRACE);
        assert_eq!(answers.awaited(), ["ada"], "the other one did not begin");
        let ended = LlmDone { llm_id: "ada".into(), poll_id: "p".into(), ..Default::default() };
        tell(&mut answers, now, [Payload::LlmDone(ended)]);
        assert!(answers.is_done(now));
    }

    #[test]
    fn an_answer_that_is_made_anew_for_us_is_awaited_and_for_others_not() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.ours("asked");
        let wants = |event_id: &str, answer: &str| {
            let requested = RegenerateRequested { message_id: answer.into(), ..Default::default() };
            let payload = Some(Payload::RegenerateRequested(requested));
            ServerEvent { event_id: event_id.into(), payload, ..Default::default() }
        };
        answers.event(&wants("by-bob", "other"), std::iter::empty(), now);
        assert!(answers.is_done(now));
        answers.event(&wants("asked", "old"), std::iter::empty(), now);
        assert!(!answers.is_done(now) && answers.is_done(now + CHAIN_GRACE));
        let anew = |replaces: &str| {
            Payload::LlmThinking(LlmThinking {
                llm_id: "ada".into(),
                reply_to: "long-ago".into(),
                replaces: replaces.into(),
                ..Default::default()
            })
        };
        tell(&mut answers, now, [anew("old")]);
        assert_eq!(answers.awaited(), ["ada"]);
        assert!(!answers.is_done(now + CHAIN_GRACE * 9));
        tell(&mut answers, now, [done("ada", "long-ago"), anew("other")]);
        assert!(answers.is_done(now));
    }

    #[test]
    fn llms_that_talk_among_themselves_for_us_are_awaited_to_the_end() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let stands = |message_id: &str, status: AutopilotStatus| {
            let autopilot = Autopilot {
                autopilot_id: "p".into(),
                message_id: message_id.into(),
                status: status.into(),
                ..Default::default()
            };
            Payload::AutopilotChanged(AutopilotChanged { autopilot: Some(autopilot) })
        };
        tell(&mut answers, now, [stands("other", AutopilotStatus::Running)]);
        assert!(answers.is_done(now));
        answers.ours("m");
        tell(&mut answers, now, [stands("m", AutopilotStatus::Running)]);
        assert!(!answers.is_done(now + CHAIN_GRACE * 9));
        tell(&mut answers, now, [stands("m", AutopilotStatus::Ended)]);
        assert!(answers.is_done(now));
    }
}
