//! Whether the clocks of several servers agree, as far as one can tell by what it hears of the others.
//!
//! Nothing rests on it: the order is that of positions, and who lives is found without a clock. But times in messages,
//! deadlines of polls and windows of budgets are by the clock of whoever writes them, so an operator must hear of it. An
//! event of the future tells it; one of the past may only be old. So of two servers the one that is behind says so.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::clock::Timestamp;

/// So far may an event be ahead: what machines with a time service and a busy network do not reach.
const AHEAD: Duration = Duration::from_secs(30);
/// Between two warnings.
const AGAIN: Duration = Duration::from_secs(10 * 60);

/// When it was told last.
#[derive(Debug, Default)]
pub(super) struct Clocks(Mutex<Option<Instant>>);

impl Clocks {
    /// Holds the time of another server's event against the time here, and warns if it is far ahead.
    pub(super) fn compare(&self, at: Timestamp, now: Timestamp) {
        if let Some(ahead) = self.worth_telling(at, now) {
            let seconds = ahead.as_secs();
            tracing::warn!(
                seconds,
                "the clock of another server is ahead of this one's: times of messages, deadlines of polls and windows \
                 of budgets do not agree; set the clocks by a time service"
            );
        }
    }

    fn worth_telling(&self, at: Timestamp, now: Timestamp) -> Option<Duration> {
        let ahead = at.since(now);
        if ahead <= AHEAD {
            return None;
        }
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| at.elapsed() < AGAIN) {
            return None;
        }
        *told = Some(Instant::now());
        Some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_future_that_is_far_is_told_of_and_not_all_the_time() {
        let clocks = Clocks::default();
        let now = Timestamp(1_700_000_000_000);
        let hour = Duration::from_secs(3600);
        assert_eq!(clocks.worth_telling(now.plus(AHEAD), now), None);
        assert_eq!(clocks.worth_telling(now, now.plus(hour)), None);
        assert_eq!(clocks.worth_telling(now.plus(hour), now), Some(hour));
        assert_eq!(clocks.worth_telling(now.plus(hour), now), None);
        tokio::time::advance(AGAIN).await;
        assert_eq!(clocks.worth_telling(now.plus(hour), now), Some(hour));
    }
}
