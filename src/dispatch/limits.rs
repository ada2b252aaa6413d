//! How the answers of this node are bounded: in number, in time, and in what a model is given.
//!
//! Values only, converted from the settings where the server is put together. Nothing here fails.

use std::time::Duration;

/// How runs behave.
#[derive(Debug, Clone)]
pub struct DispatchLimits {
    /// Runs at the same time in one room.
    pub runs_per_room: usize,
    /// Runs that wait in one room; beyond it they are refused.
    pub queue_per_room: usize,
    /// Runs at the same time on this node.
    pub runs_per_node: usize,
    /// Chunks are merged over this time; the first text goes out at once.
    pub chunk_window: Duration,
    /// Until the first text or tool call.
    pub first_token: Duration,
    /// For the whole answer.
    pub total: Duration,
    /// Messages an LLM is given.
    pub history_messages: usize,
    /// Tokens a model is given at most, its answer included.
    pub context_tokens: u64,
    /// How what no longer fits is summarised.
    pub summary: SummarySettings,
    /// The longest answer, in tokens.
    pub max_tokens: u32,
    /// How many LLMs may ask one another in a chain.
    pub chain_depth: u32,
    /// How often a model may be asked again with the results of its tools.
    pub tool_rounds: usize,
    /// Tool calls in one answer.
    pub tool_calls: usize,
    /// How long a call waits for a person to approve it.
    pub approval: Duration,
}

/// How messages that LLMs are not given any more are summarised.
#[derive(Debug, Clone, Default)]
pub struct SummarySettings {
    /// The model that writes; empty: the default provider's own default.
    pub model: String,
    /// How many messages must have been left out since the last summary; 0: none is ever written.
    pub after: u32,
    /// The longest summary, in tokens.
    pub max_tokens: u32,
}
