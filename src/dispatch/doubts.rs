//! Answers whose beginning the store has failed to record, and which are not in the log so far.
//!
//! Such a beginning may still be on its way. If it is found in the log later it is ended there and then: nobody writes
//! that answer. Where this process is gone before that, others end it like all that it has left open.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::ids::MessageId;

/// How many are kept in mind; behind that the oldest is forgotten. A write that is late is late by seconds, and each of
/// these has waited for a store that failed.
const MOST: usize = 4096;

/// Which answers those are.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<VecDeque<MessageId>>);

impl Doubts {
    /// This one may have begun.
    pub(super) fn add(&self, answer: MessageId) {
        let mut kept = self.kept();
        if kept.len() >= MOST {
            kept.pop_front();
        }
        kept.push_back(answer);
    }

    /// It is known now; whether it was not.
    pub(super) fn take(&self, answer: MessageId) -> bool {
        let mut kept = self.kept();
        let at = kept.iter().position(|kept| *kept == answer);
        at.and_then(|at| kept.remove(at)).is_some()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<MessageId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
