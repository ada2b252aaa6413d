//! An LLM of a room, and its answers that are being written.

use crate::{
    clock::Timestamp,
    ids::{LlmId, MessageId, PollId, Seq, UserId},
};

/// How an LLM is asked to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChatStyle {
    /// No instruction.
    #[default]
    Unspecified,
    /// One or two sentences.
    Conversational,
    /// Thorough.
    Detailed,
    /// Bullet points.
    Bullet,
}

/// An LLM as a room knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LlmConfig {
    /// Unique in the room.
    pub id: LlmId,
    /// The model's name as the provider knows it; empty: the provider's default.
    pub model: String,
    /// Who the LLM is, for its system prompt.
    pub persona: String,
    /// Unique in the room, letter case not counted.
    pub display_name: String,
    /// A few words under the name.
    pub title: String,
    /// How it writes.
    pub chat_style: ChatStyle,
    /// An emoji or a URL.
    pub avatar: String,
    /// Tools from outside it may call, as patterns; the room must allow them as well.
    pub allowed_tools: Vec<String>,
    /// Models that are asked in this order when `model` fails before it has said anything.
    pub fallback_models: Vec<String>,
}

/// The fields of an [`LlmConfig`] that a command changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LlmPatch {
    /// See [`LlmConfig::model`].
    pub model: Option<String>,
    /// See [`LlmConfig::persona`].
    pub persona: Option<String>,
    /// See [`LlmConfig::display_name`].
    pub display_name: Option<String>,
    /// See [`LlmConfig::title`].
    pub title: Option<String>,
    /// See [`LlmConfig::chat_style`].
    pub chat_style: Option<ChatStyle>,
    /// See [`LlmConfig::avatar`].
    pub avatar: Option<String>,
    /// See [`LlmConfig::allowed_tools`].
    pub allowed_tools: Option<Vec<String>>,
    /// See [`LlmConfig::fallback_models`].
    pub fallback_models: Option<Vec<String>>,
}

/// One answer that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The id the answer's message will have; it names the run.
    pub message_id: MessageId,
    /// Who answers.
    pub llm_id: LlmId,
    /// Its name when it began: under it the answer is posted, even when the LLM has been removed meanwhile.
    pub llm_name: String,
    /// The message that asked.
    pub reply_to: MessageId,
    /// Set: the LLM was asked to vote in this poll.
    pub poll_id: Option<PollId>,
    /// How many LLMs asked one another before this one.
    pub chain_depth: u32,
    /// On whose behalf: the human at the beginning of the chain.
    pub asked_by: Option<UserId>,
    /// When it began.
    pub started_at: Timestamp,
    /// The answer whose place it takes when it has a text.
    pub replaces: Option<MessageId>,
    /// The turn of the room's autopilot, from 1.
    pub turn: Option<u32>,
    /// The model it is asked of; empty: the LLM's own.
    pub model: String,
}

impl LiveAnswer {
    /// The same with no more than the first `bytes` of its text; the whole of it if they do not end between characters.
    #[must_use]
    pub fn up_to(&self, bytes: usize) -> Self {
        Self {
            message_id: self.message_id,
            llm_id: self.llm_id.clone(),
            reply_to: self.reply_to,
            text: self.text.get(..bytes).unwrap_or(&self.text).to_owned(),
            started_at: self.started_at,
        }
    }
}

/// An answer that is being written, and where its room's log says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveAnswer {
    /// The answer.
    pub answer: LiveAnswer,
    /// The position of its beginning; zero when that is not known here.
    pub seq: Seq,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunEnd {
    /// By itself.
    Completed,
    /// The LLM chose to say nothing.
    OptedOut,
    /// A member, or the end of the server, stopped it.
    Interrupted,
    /// The provider failed.
    Failed,
    /// A deadline passed.
    TimedOut,
    /// A budget was used up.
    OverBudget,
}

/// What an answer cost and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunReport {
    /// Tokens given to models, as the provider counts them or else as the server does.
    pub prompt_tokens: u32,
    /// Tokens that models made, counted like those.
    pub completion_tokens: u32,
    /// Millionths of the price table's currency; zero without a price.
    pub cost_micros: u64,
    /// From the start to the first token; zero if none came.
    pub first_token_ms: u32,
    /// From the start to the end.
    pub duration_ms: u32,
    /// The model that answered.
    pub model: String,
    /// The provider that answered.
    pub provider: String,
    /// Of a failure: a stable name.
    pub error_code: String,
    /// Of a failure: what happened, safe to show.
    pub error_message: String,
    /// Why the LLM opted out, or who interrupted it.
    pub detail: String,
    /// The tools it called, in the order of their first call.
    pub tools: Vec<ToolUse>,
    /// Of a budget that was used up: when it refills.
    pub retry_at: Option<Timestamp>,
}

/// What an answer did with one tool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolUse {
    /// Which.
    pub tool: String,
    /// How often it was called.
    pub calls: u32,
    /// Of these: refused, or failed.
    pub failures: u32,
}

/// An answer that is being written, with its text so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveAnswer {
    /// Which answer.
    pub message_id: MessageId,
    /// Who answers.
    pub llm_id: LlmId,
    /// The message that asked.
    pub reply_to: MessageId,
    /// What has been sent of it.
    pub text: String,
    /// When it began.
    pub started_at: Timestamp,
}
