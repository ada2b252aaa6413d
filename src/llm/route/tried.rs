//! Attempts that came to nothing and may have to be paid for all the same.
//!
//! A provider that had the request may have read it, and may bill what it read, whatever became of the answer. Whoever
//! asks owns the list, so that it is right at any moment: also when the call is dropped in the middle.

use async_trait::async_trait;

use crate::llm::{Error, route::Prices};

/// An attempt that was sent to a provider, gave no answer, and may be billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Who was asked.
    pub provider: String,
    /// For which model; empty: the provider's default.
    pub model: String,
    /// What the model costs; nothing if it is built in. `None`: nobody knows.
    pub prices: Option<Prices>,
}

/// Whoever pays for attempts.
#[async_trait]
pub trait Payer: Send {
    /// The list; true at any moment.
    fn tried(&mut self) -> &mut Vec<Tried>;

    /// Whether one more attempt may be made, although all that is in the list may be billed besides. Asked before each
    /// attempt behind the first one that may be.
    async fn admits_another(&mut self) -> bool;
}

/// Whoever only keeps the list pays whatever it comes to.
#[async_trait]
impl Payer for Vec<Tried> {
    fn tried(&mut self) -> &mut Vec<Tried> {
        self
    }

    async fn admits_another(&mut self) -> bool {
        true
    }
}

/// The list while one attempt runs, which is its last entry until it is known to cost nothing.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a mut Vec<Tried>);

impl<'a> Running<'a> {
    /// The attempt is about to be sent.
    pub(super) fn new(all: &'a mut Vec<Tried>, attempt: Tried) -> Self {
        all.push(attempt);
        Self(all)
    }

    /// It answers: what that costs is for the caller to settle.
    pub(super) fn answered(self) {
        self.0.pop();
    }

    /// It has failed.
    pub(super) fn failed(self, error: &Error) {
        if !error.kind.may_be_billed() {
            self.0.pop();
        }
    }
}
