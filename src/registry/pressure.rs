//! Whether the server is so busy that what is told together is told sooner.
//!
//! Measured where it hurts: how long commands wait for a room that has nothing else to do, which only work for others
//! delays; the store does not. A mean over the last such commands, of all rooms; wrong by a race at most for a moment, and
//! then events wait a few milliseconds that need not, or are told one by one.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// From here on: several times what a server that keeps up needs, and far below what people notice.
const HIGH: Duration = Duration::from_micros(1500);
/// The part of one command in the mean.
const PART: u64 = 8;

/// See the module.
#[derive(Debug, Default)]
pub struct Pressure {
    /// In nanoseconds.
    mean: AtomicU64,
}

impl Pressure {
    /// A command has waited so long.
    pub fn waited(&self, wait: Duration) {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX / PART);
        let mean = self.mean.load(Ordering::Relaxed);
        self.mean.store(mean - mean / PART + wait / PART, Ordering::Relaxed);
    }

    /// Whether the server falls behind.
    pub fn is_high(&self) -> bool {
        Duration::from_nanos(self.mean.load(Ordering::Relaxed)) > HIGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_late_command_is_none_and_many_are_until_it_is_over() {
        let pressure = Pressure::default();
        pressure.waited(Duration::from_millis(8));
        assert!(!pressure.is_high());
        (0..8).for_each(|_| pressure.waited(Duration::from_millis(8)));
        assert!(pressure.is_high());
        (0..30).for_each(|_| pressure.waited(Duration::from_micros(50)));
        assert!(!pressure.is_high());
        pressure.waited(Duration::MAX);
        assert!(pressure.is_high());
    }
}
