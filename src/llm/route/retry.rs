//! How long to wait before a model is asked again.
//!
//! Exponential with full jitter: callers that failed together do not come back together. Owns no timer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::llm::ErrorKind;

/// How often and how soon a model is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// How often one model is asked at most, the first time included; at least once.
    pub attempts: u32,
    /// The longest wait before the second attempt; doubles with each further one.
    pub base: Duration,
    /// No wait is longer, but for what a provider asks for when nobody else is left.
    pub max: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts: 3, base: Duration::from_millis(500), max: Duration::from_secs(10) }
    }
}

impl RetrySettings {
    /// The wait before the attempt behind `done` failed ones, when nothing else is asked for.
    pub(super) fn backoff(&self, done: u32, jitter: &Jitter) -> Duration {
        let factor = 1u32.checked_shl(done.saturating_sub(1)).unwrap_or(u32::MAX);
        jitter.up_to(self.base.saturating_mul(factor).min(self.max))
    }
}

/// Whether a failure says something about the provider's state rather than about the request: it may be gone the
/// next time, and several in a row mean that the provider is out of order.
pub(super) fn is_transient(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::RateLimited
        | ErrorKind::Overloaded
        | ErrorKind::Unreachable
        | ErrorKind::Network
        | ErrorKind::Timeout
        | ErrorKind::Garbled => true,
        ErrorKind::ContextTooLong | ErrorKind::Refused | ErrorKind::BadRequest | ErrorKind::Auth => false,
    }
}

/// Random waits from a seed: splitmix64, which is even enough for spreading calls and needs no lock.
#[derive(Debug)]
pub struct Jitter(AtomicU64);

impl Jitter {
    /// The same seed gives the same waits.
    pub fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From nothing to `most`, each microsecond as likely as the next.
    pub(super) fn up_to(&self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.next() % micros.saturating_add(1).max(1))
    }
}
