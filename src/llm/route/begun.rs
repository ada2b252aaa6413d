//! An answer that has begun, on its way to whoever reads it.
//!
//! Changes nothing of it. How it ends counts for or against the model, and so does a silence that is too long, which
//! ends it: whoever only stopped reading could not tell a model that hangs from a reader who has gone. An answer that
//! is dropped by its reader counts for nothing, and the time that a reader takes is nobody's silence.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::{
    breaker::{Breakers, Key},
    retry::is_transient,
};
use crate::llm::{Delta, Deltas, Error, ErrorKind};

/// Whose answer it is, and how long it may be silent.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) breakers: Arc<Breakers>,
    pub(super) key: Key,
    pub(super) idle: Duration,
}

impl Begun {
    /// All of the answer: what was taken to see whether it begins, and the rest.
    pub(super) fn deltas(self, first: Delta, rest: Deltas) -> Deltas {
        let first = stream::once(std::future::ready(Ok(first)));
        let idle = self.idle;
        let provider = self.key.0.clone();
        let rest = stream::unfold(Some(rest), move |rest| {
            let provider = provider.clone();
            async move {
                let mut rest = rest?;
                match timeout(idle, rest.next()).await {
                    Ok(item) => item.map(|item| (item, Some(rest))),
                    Err(_) => Some((Err(silent(provider)), None)),
                }
            }
        });
        first.chain(rest).inspect(move |item| self.count(item)).boxed()
    }

    fn count(&self, item: &Result<Delta, Error>) {
        match item {
            Ok(Delta::Done(_)) => self.breakers.succeeded(&self.key),
            Ok(_) => {}
            Err(error) if is_transient(error.kind) => drop(self.breakers.failed(&self.key)),
            // The provider lives, and has said why there is no more.
            Err(_) => self.breakers.succeeded(&self.key),
        }
    }
}

fn silent(provider: String) -> Error {
    let message = "nothing more came in time".into();
    Error { kind: ErrorKind::Timeout, provider, message, retry_after: None }
}
