//! Whether the server is so busy that what is told together is told sooner.
//!
//! Measured where it hurts: how long commands wait for their room, without the time in which it waited for the store; what
//! is left is delayed by work for others alone. A mean over the last commands, of all rooms, that says nothing any more
//! when none has come for a while; wrong by a race at most for a moment, and then events wait a few milliseconds that need
//! not, or are told one by one.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// From here on: several times what a server that keeps up needs, and far below what people notice.
const HIGH: Duration = Duration::from_micros(1500);
/// The part of one command in the mean.
const PART: u64 = 8;
/// How long it holds what was measured.
const HOLDS: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct Pressure {
    /// In nanoseconds.
    mean: AtomicU64,
    /// When that was measured, in nanoseconds from `began`.
    at: AtomicU64,
    began: Instant,
}

impl Default for Pressure {
    fn default() -> Self {
        Self { mean: AtomicU64::new(0), at: AtomicU64::new(0), began: Instant::now() }
    }
}

impl Pressure {
    /// A command has waited so long, until `now`.
    pub fn waited(&self, wait: Duration, now: Instant) {
        let wait = nanos(wait).min(u64::MAX / PART);
        self.at.store(nanos(now.saturating_duration_since(self.began)), Ordering::Relaxed);
        let mean = self.mean.load(Ordering::Relaxed);
        self.mean.store(mean - mean / PART + wait / PART, Ordering::Relaxed);
    }

    /// Whether the server falls behind.
    pub fn is_high(&self, now: Instant) -> bool {
        let at = Duration::from_nanos(self.at.load(Ordering::Relaxed));
        Duration::from_nanos(self.mean.load(Ordering::Relaxed)) > HIGH
            && now.saturating_duration_since(self.began) < at.saturating_add(HOLDS)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_late_command_is_none_and_many_are_until_it_is_over() {
        let pressure = Pressure::default();
        let waited = |millis| pressure.waited(Duration::from_millis(millis), Instant::now());
        let is_high = || pressure.is_high(Instant::now());
        waited(8);
        assert!(!is_high());
        (0..8).for_each(|_| waited(8));
        assert!(is_high());
        (0..30).for_each(|_| waited(0));
        assert!(!is_high());
        pressure.waited(Duration::MAX, Instant::now());
        assert!(is_high());
        tokio::time::advance(HOLDS).await;
        assert!(!is_high(), "nothing is known any more");
    }
}
