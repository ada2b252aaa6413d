//! A call of a tool that waits until somebody decides it.

use crate::{
    clock::Timestamp,
    ids::{ApprovalId, LlmId, MessageId, UserId},
};

/// A call that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Unique.
    pub id: ApprovalId,
    /// The answer that waits; it is running.
    pub message_id: MessageId,
    /// Who wants to call.
    pub llm_id: LlmId,
    /// Which tool.
    pub tool: String,
    /// JSON, as the LLM wrote it, whole.
    pub arguments: String,
    /// On whose behalf.
    pub asked_by: Option<UserId>,
    /// When it counts as denied.
    pub expires_at: Timestamp,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decided {
    /// It may be called.
    Approved,
    /// It may not.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The answer ended before.
    Cancelled,
}
