//! LLMs that talk among themselves: whose turn it is, and when it is over. Pure: what has happened is in the log.

mod next;
#[cfg(test)]
mod tests;

pub use next::{Kind, Next, Side, Taken, Turn};

use crate::ids::{AutopilotId, LlmId, MessageId, UserId};

/// How they talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One after the other.
    RoundRobin,
    /// One LLM chooses who speaks.
    Moderator,
    /// For and against in turn.
    Debate,
    /// Each carries on the work of the one before.
    Relay,
    /// Until all agree.
    Consensus,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Turns are taken.
    Running,
    /// No turn is taken until it is resumed.
    Paused,
    /// Over.
    Ended,
}

/// What a person's message does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnHuman {
    /// The next turn takes it into account.
    #[default]
    Steer,
    /// It pauses.
    Pause,
}

/// What the end of the server does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnRestart {
    /// It ends.
    #[default]
    Stop,
    /// It goes on where it was.
    Continue,
}

/// What it is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutopilotInput {
    /// How they talk.
    pub mode: Mode,
    /// What about.
    pub topic: String,
    /// Who, in order; empty: all.
    pub llms: Vec<LlmId>,
    /// Who chooses, in the mode that needs it.
    pub moderator: Option<LlmId>,
    /// 0: the usual number.
    pub max_turns: u32,
    /// What a person's message does.
    pub on_human: OnHuman,
    /// What the end of the server does.
    pub on_restart: OnRestart,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autopilot {
    /// Unique.
    pub id: AutopilotId,
    /// How they talk.
    pub mode: Mode,
    /// Where it stands.
    pub status: Status,
    /// What about.
    pub topic: String,
    /// Who, in order; never empty.
    pub llms: Vec<LlmId>,
    /// Who chooses.
    pub moderator: Option<LlmId>,
    /// The most turns.
    pub max_turns: u32,
    /// Turns that have been taken.
    pub turns: u32,
    /// What a person's message does.
    pub on_human: OnHuman,
    /// What the end of the server does.
    pub on_restart: OnRestart,
    /// On whose behalf.
    pub started_by: UserId,
    /// Why it is paused or over.
    pub reason: String,
    /// Whom the moderator has chosen to speak next.
    pub chosen: Option<LlmId>,
    /// What for.
    pub instruction: String,
    /// What from outside of the room the moderator had read when it chose.
    pub outside: Vec<String>,
    /// Who agrees to what was said last.
    pub agreed: Vec<LlmId>,
    /// Who has taken the last turn.
    pub last: Option<LlmId>,
    /// Turns in a row that have come to nothing.
    pub failures: u32,
    /// The message that started it.
    pub message_id: MessageId,
}

/// What a person can do to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    /// End it at once.
    Stop,
    /// After the turn that is being taken.
    Pause,
    /// Go on.
    Resume,
}

/// What the server, or an LLM by a tool, does to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The moderator has chosen.
    Choose {
        /// Who speaks next.
        llm: LlmId,
        /// What for.
        instruction: String,
        /// What from outside of the room whoever chose had read.
        outside: Vec<String>,
    },
    /// An LLM agrees to what was said last.
    Agree(LlmId),
    /// It pauses.
    Pause {
        /// Why.
        reason: String,
    },
    /// It is over.
    End {
        /// Why.
        reason: String,
    },
    /// The server has been away: by its rule it ends or goes on.
    Restarted,
}
