//! What is to be remembered of who did what: the seam to whoever keeps it.
//!
//! A fact has ids and words of ours in it, never a secret, a token or what somebody has said.

use std::fmt;

use async_trait::async_trait;

use crate::{auth::principal::Credential, clock::Timestamp, domain::rejection::Code, ids::Namespace};

/// Something that was done, or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// When.
    pub at: Timestamp,
    /// Whose affair it is; none: the server's.
    pub namespace: Option<Namespace>,
    /// By which credential.
    pub by: Credential,
    /// From where, as far as the connection tells.
    pub from: Option<std::net::IpAddr>,
    /// What: a word for a kind of thing and one for what was done, `identity.create`.
    pub action: &'static str,
    /// To what, by its id; empty: to the namespace as a whole.
    pub target: String,
    /// Why it was refused; none: it was done.
    pub refused: Option<Code>,
}

/// Keeps facts.
///
/// # Contract
/// A fact is told behind what it is about. Telling it never fails: whoever keeps facts says in the log what is lost.
#[async_trait]
pub trait AuditSink: fmt::Debug + Send + Sync {
    /// Keeps one.
    async fn tell(&self, fact: Fact);
}

/// Keeps nothing but a line in the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogSink;

#[async_trait]
impl AuditSink for LogSink {
    async fn tell(&self, fact: Fact) {
        let Fact { at: _, namespace, by, from, action, target, refused } = fact;
        let namespace = namespace.map_or_else(|| "-".to_owned(), |namespace| namespace.to_string());
        let refused = refused.map(Code::as_str);
        tracing::info!(action, namespace, target, %by, ?from, refused, "administration");
    }
}
