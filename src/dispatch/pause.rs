//! A run that waits for a person: others may have its slot meanwhile, and it stands in line to go on.

use std::sync::Arc;

use crate::dispatch::{
    inner::{Inner, LlmDispatcher},
    job::Job,
};

/// Waits without a slot, and behind that for a slot.
///
/// Dropped meanwhile, the run has none: it only records its end, which takes none.
pub(super) async fn without_slot<T>(inner: &Arc<Inner>, job: &Job, wait: impl Future<Output = T>) -> T {
    let dispatcher = LlmDispatcher(Arc::clone(inner));
    dispatcher.schedule().give_back(&job.room, job.message_id);
    dispatcher.begin();
    let done = wait.await;
    let turn = dispatcher.schedule().take_back(&job.room, job.message_id);
    dispatcher.begin();
    if let Some(turn) = turn {
        turn.notified().await;
    }
    done
}
