//! Counts what goes wrong often, and says so rarely.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Between two warnings of the same thing.
const QUIET: Duration = Duration::from_secs(10);

/// How often something happened, and whether it is time to say it.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    total: u64,
    told: u64,
    told_at: Option<Instant>,
}

impl Tally {
    /// One more. `Some`: warn now, of so many since the last warning.
    pub(super) fn add(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.total += 1;
        if state.told_at.is_some_and(|at| at.elapsed() < QUIET) {
            return None;
        }
        state.told_at = Some(Instant::now());
        let since = state.total - state.told;
        state.told = state.total;
        Some(since)
    }

    /// How often it happened.
    pub(super) fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_and_then_how_many_there_were() {
        let tally = Tally::default();
        assert_eq!(tally.add(), Some(1));
        for _ in 0..100 {
            assert_eq!(tally.add(), None);
        }
        tokio::time::advance(QUIET).await;
        assert_eq!(tally.add(), Some(101));
        assert_eq!(tally.add(), None);
        assert_eq!(tally.total(), 103);
    }
}
