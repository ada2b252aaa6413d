//! Where answers come from: the trait, what it promises, and the backends behind it.
//!
//! Knows models, not rooms: it is handed a finished conversation and gives back a stream of deltas.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use thiserror::Error;

mod assemble;
pub mod chat_service;
mod fault;
mod form;
pub mod offline;
pub mod open;
pub mod openai;
mod retry_after;
pub mod route;
pub mod scripted;
pub mod tokens;

/// Who said something, as a model sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// The instructions.
    System,
    /// Everybody else in the room.
    User,
    /// The model itself.
    Assistant,
}

/// One entry of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// A text.
    Text {
        /// Who said it.
        speaker: Speaker,
        /// What.
        text: String,
    },
    /// The model called tools, perhaps with a text before.
    ToolCalls {
        /// What it said besides; may be empty.
        text: String,
        /// Never empty.
        calls: Vec<ToolCall>,
    },
    /// What a tool returned; every call has exactly one, behind it.
    ToolResult {
        /// [`ToolCall::id`] of the call.
        call_id: String,
        /// What it returned.
        result: String,
    },
}

/// A tool a model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_` and `-`; at most 64.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON schema of the arguments.
    pub parameters: serde_json::Value,
}

/// A call of a tool, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Unique within the answer.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// As the model wrote them: meant to be JSON, not checked.
    pub arguments: String,
}

/// What a provider is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The model's name as the provider knows it; empty: the provider's default.
    pub model: String,
    /// The conversation, oldest first, beginning with the instructions.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// The form the answer must have; `None`: plain text.
    pub form: Option<AnswerForm>,
    /// The longest answer, in tokens.
    pub max_tokens: u32,
    /// Who is asked, by the name others see: for providers that speak for themselves.
    pub display_name: String,
}

/// The form of an answer that a program reads.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerForm {
    /// Letters, digits, `_` and `-`; at most 64.
    pub name: String,
    /// JSON schema of the whole answer. A provider that cannot enforce it passes it on as well as it can: whoever
    /// asks checks the answer.
    pub schema: serde_json::Value,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// It was done.
    Stop,
    /// It wants the results of its tool calls.
    ToolCalls,
    /// The longest answer was reached.
    Length,
    /// The provider's own filter stopped it.
    Filtered,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// More text; never empty, always whole characters.
    Text(String),
    /// A whole call of a tool.
    ToolCall(ToolCall),
    /// Tokens, when the provider says; the last one counts.
    Usage {
        /// Given to the model.
        prompt_tokens: u32,
        /// Made by the model.
        completion_tokens: u32,
    },
    /// The model works on what is not said, or not yet: it thinks, or writes a call that is held back. Only a sign of
    /// life, for whoever counts the time.
    Progress,
    /// The end; nothing follows.
    Done(Finish),
}

/// What a caller can do about an [`struct@Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Too many requests.
    RateLimited,
    /// The provider is too busy.
    Overloaded,
    /// The conversation is too long for the model.
    ContextTooLong,
    /// The provider declines to answer this.
    Refused,
    /// The request is wrong: an unknown model, bad arguments.
    BadRequest,
    /// The key is missing or wrong.
    Auth,
    /// No connection came about: nothing was sent.
    Unreachable,
    /// The connection failed or was cut.
    Network,
    /// No answer in time.
    Timeout,
    /// The answer could not be understood.
    Garbled,
}

impl ErrorKind {
    /// The name in `llm_done.error_code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ContextTooLong => "context_too_long",
            Self::Refused => "refused",
            Self::BadRequest => "bad_request",
            Self::Auth => "auth",
            // To whoever asked it is all one.
            Self::Unreachable | Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Garbled => "garbled",
        }
    }

    /// Whether the provider may have read the request and may bill what it read, although no answer has begun. What it
    /// turned away it did not read. A provider that is down must not use up budgets: only what may have been sent is
    /// [`Self::Network`].
    pub fn may_be_billed(self) -> bool {
        match self {
            Self::Network | Self::Timeout | Self::Garbled => true,
            Self::RateLimited
            | Self::Overloaded
            | Self::ContextTooLong
            | Self::Refused
            | Self::BadRequest
            | Self::Auth
            | Self::Unreachable => false,
        }
    }

    /// What a room may be told: never the provider's own text, which can hold keys and prompts.
    pub fn public_message(self) -> &'static str {
        match self {
            Self::RateLimited => "the model's provider limits the rate of requests",
            Self::Overloaded => "the model's provider is overloaded",
            Self::ContextTooLong => "the conversation is too long for the model",
            Self::Refused => "the model's provider declined to answer",
            Self::BadRequest => "the model's provider does not accept the request",
            Self::Auth => "the model's provider does not accept the server's credentials",
            Self::Unreachable | Self::Network => "the model's provider cannot be reached",
            Self::Timeout => "the model did not answer in time",
            Self::Garbled => "the model's provider sent something that is no answer",
        }
    }
}

/// Why there is no answer, or no more of it. Classified once, by the provider.
#[derive(Debug, Clone, Error)]
#[error("{provider}: {message}")]
pub struct Error {
    /// What a caller can act on.
    pub kind: ErrorKind,
    /// Which provider.
    pub provider: String,
    /// What happened, for the log only: never the provider's own text, which is logged at debug where it is read.
    pub message: String,
    /// Not before this time has passed, when the provider says.
    pub retry_after: Option<Duration>,
}

/// An answer as it comes.
pub type Deltas = BoxStream<'static, Result<Delta, Error>>;

/// Makes answers.
///
/// # Contract
///
/// * The stream yields text and whole tool calls in the order of the model, then [`Delta::Done`], then ends. After
///   an error it ends. An end without `Done` or error never happens: a provider turns it into
///   [`ErrorKind::Network`].
/// * Text comes as it is made, and is never held back longer than it takes to see what it is; a tool call is held back
///   until it is whole. [`Delta::Progress`] stands for what a model makes meanwhile, never for a connection that is
///   only kept open. However the bytes were cut on their way, no character and no call is.
/// * What a provider writes in place of an answer, in whatever dialect, is an error and never text.
/// * **Errors** are classified here and nowhere else: who asks acts on [`ErrorKind`] and `retry_after`. Before the
///   first delta they come from `answer` or from the stream, as the provider tells them. `message` is for the log: it is
///   short, on one line, and holds no key nor any text of the provider.
/// * **Cancel safety.** Dropping the future or the stream stops the call upstream at once, and leaves a provider that
///   works. What one caller does not read holds up no other.
/// * Nothing is retried inside once a delta was yielded.
/// * An answer is bounded: what is longer than any answer is [`ErrorKind::Garbled`].
/// * Timeouts are the caller's, but for connecting. Making a provider opens no connection.
///
/// The suite `tests/salon/providers/conformance.rs` plays all of it against every provider.
#[async_trait]
pub trait Provider: Send + Sync + fmt::Debug + 'static {
    /// As in `llm.providers.<name>`.
    fn name(&self) -> &str;

    /// Whether it understands what it is given; what only stands in for a model is not asked for summaries.
    fn is_model(&self) -> bool {
        true
    }

    /// Begins an answer; returns when the provider has accepted the request, with some as late as the first token.
    async fn answer(&self, request: Request) -> Result<Deltas, Error>;
}
