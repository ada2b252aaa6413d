//! Something an LLM is asked, and the way to stop it.
//!
//! A job is made when somebody asks, and does not change any more: what the room's policy was then goes with it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    domain::{
        command::Command, llm::Run, poll::Poll, rejection::Rejection, room::Room, settings::TurnPolicy,
    },
    ids::{AutopilotId, LlmId, MessageId, PollId, RoomId, Seq, UserId},
    rooms::Used,
};

/// A turn, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TurnOf {
    /// The autopilot.
    pub(super) autopilot: AutopilotId,
    /// Which of its turns, from 1.
    pub(super) number: u32,
}

/// Something an LLM is asked.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) room: RoomId,
    /// The id the answer will have.
    pub(super) message_id: MessageId,
    pub(super) llm_id: LlmId,
    /// The message that asks.
    pub(super) reply_to: MessageId,
    /// The message at the beginning of the chain in which LLMs ask one another: of a person, as far as is known.
    pub(super) root: MessageId,
    /// Set: a vote is asked for, and nothing is said aloud.
    pub(super) poll_id: Option<PollId>,
    pub(super) chain_depth: u32,
    pub(super) asked_by: Option<UserId>,
    /// The answer whose place it takes.
    pub(super) replaces: Option<MessageId>,
    /// The turn of an autopilot that it is.
    pub(super) turn: Option<TurnOf>,
    /// The model that is asked instead of the LLM's own; empty: its own.
    pub(super) model: String,
    /// What the LLM is told ends with the message that asks, whatever has been said since.
    pub(super) at_question: bool,
    /// Where the log ended when this was asked.
    pub(super) asked_at: Seq,
    /// How the room takes turns, when this was asked.
    pub(super) policy: TurnPolicy,
}

impl Job {
    /// An LLM of `room` is asked by a message.
    pub(super) fn new(room: &Room, llm_id: LlmId, reply_to: MessageId) -> Self {
        Self {
            room: room.id.clone(),
            message_id: MessageId(Uuid::now_v7()),
            llm_id,
            reply_to,
            root: reply_to,
            poll_id: None,
            chain_depth: 0,
            asked_by: None,
            replaces: None,
            turn: None,
            model: String::new(),
            at_question: false,
            asked_at: room.seq,
            policy: room.profile.settings.turns,
        }
    }

    /// An LLM of `room` is asked to vote.
    pub(super) fn vote(room: &Room, llm_id: LlmId, poll: &Poll) -> Self {
        let asked_by = poll.creator.user().or(poll.asked_by.as_ref()).cloned();
        Self { poll_id: Some(poll.id), asked_by, ..Self::new(room, llm_id, poll.message_id) }
    }

    /// Whether it is an answer that is read in the room, and so takes a turn in its conversation. A vote is none.
    pub(super) fn is_spoken(&self) -> bool {
        self.poll_id.is_none()
    }

    /// Whether somebody waits for it: votes and the turns of an autopilot are asked for by nobody in particular.
    pub(super) fn is_question(&self) -> bool {
        self.is_spoken() && self.turn.is_none()
    }

    /// What begins it.
    pub(super) fn start(&self) -> Command {
        match self.turn {
            Some(turn) => Command::StartTurn(turn.autopilot, self.run()),
            None => Command::StartRun(self.run()),
        }
    }

    /// The run that this begins; the rest is known to the decision.
    fn run(&self) -> Run {
        Run {
            message_id: self.message_id,
            llm_id: self.llm_id.clone(),
            llm_name: String::new(),
            reply_to: self.reply_to,
            poll_id: self.poll_id,
            chain_depth: self.chain_depth,
            asked_by: self.asked_by.clone(),
            started_at: Timestamp::default(),
            replaces: self.replaces,
            turn: self.turn.map(|turn| turn.number),
            model: self.model.clone(),
        }
    }
}

/// A way to stop a run, why it was stopped, and what it has used so far: whoever ends its room with it keeps that.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    pub(super) token: CancellationToken,
    why: Arc<Mutex<Option<Rejection>>>,
    used: Arc<Mutex<Used>>,
}

impl Stop {
    /// Stops it. The first reason stays: it is the one that ended the answer.
    pub(super) fn stop(&self, why: &Rejection) {
        let mut known = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_with(|| why.clone());
        drop(known);
        self.token.cancel();
    }

    /// Keeps what the run has used so far.
    pub(super) fn use_up(&self, used: Used) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = used;
    }

    /// What the run has used so far.
    pub(super) fn used(&self) -> Used {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why it was stopped, in words; empty: it was not.
    pub(super) fn why(&self) -> String {
        self.refusal().map(|why| why.message).unwrap_or_default()
    }

    /// What whoever asked is told, if it is stopped before it has begun; `None`: it was not stopped.
    pub(super) fn refusal(&self) -> Option<Rejection> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
