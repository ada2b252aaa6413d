//! What every answer of this node stands on: the rooms, the models, the limits, and what is remembered of others.
//!
//! Here is only who holds what; what is done with it is in the files of what it is done for, each with its part of
//! [`LlmDispatcher`]. Nothing here fails: a lock that a panic has left is taken all the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    doubts::Doubts, limits::DispatchLimits, schedule::Schedule, summaries::Summaries, toolbox::Toolbox,
    turns::Autopilots,
};
use crate::{allowance::Allowances, budget::Budgets, llm::route::Router, rooms::Rooms};

/// Starts, owns and stops the answers of LLMs.
#[derive(Debug, Clone)]
pub struct LlmDispatcher(pub(super) Arc<Inner>);

/// What they share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) rooms: Rooms,
    pub(super) router: Arc<Router>,
    pub(super) budgets: Budgets,
    pub(super) limits: DispatchLimits,
    pub(super) allowances: Allowances,
    pub(super) toolbox: Toolbox,
    pub(super) autopilots: Autopilots,
    pub(super) schedule: Mutex<Schedule>,
    pub(super) doubts: Doubts,
    pub(super) draining: AtomicBool,
    /// Ends with the drain: what only helps other nodes holds nobody up.
    pub(super) leaving: CancellationToken,
    pub(super) summaries: Summaries,
    pub(super) tasks: TaskTracker,
}

impl LlmDispatcher {
    /// Held only for a moment.
    pub(super) fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.0.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
