//! How an exchange ended: left by who reads it, asked by who explains it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::llm::Error;

/// How an exchange ended, which async-openai does not tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate(Arc<Mutex<Option<Ended>>>);

/// The end of an exchange.
#[derive(Debug, Clone)]
pub(super) enum Ended {
    /// The request was refused in words that name the wish for usage.
    OverUsage,
    /// The body ended; had there been an end mark, nobody would have read so far.
    Cut,
    /// The body failed.
    Failed(Error),
}

impl Fate {
    /// Whether the body ended before an end mark.
    pub(super) fn is_cut(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Some(Ended::Cut))
    }

    /// Whether the request was refused, perhaps because of the wish for usage.
    pub(super) fn is_over_usage(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Some(Ended::OverUsage))
    }

    /// Why the body failed, if it did.
    pub(super) fn failure(&self) -> Option<Error> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Ended::Failed(error)) => Some(error.clone()),
            Some(Ended::OverUsage | Ended::Cut) | None => None,
        }
    }

    /// Leaves how the body ended.
    pub(super) fn set(&self, ended: Ended) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
    }
}
