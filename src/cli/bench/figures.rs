//! Times, to three digits.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time that is told apart, in microseconds: beyond a minute nobody waits.
const LONGEST_US: u64 = 60_000_000;

/// How long something took, again and again.
#[derive(Debug, Clone)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    /// None yet.
    #[expect(clippy::expect_used, reason = "bounds and digits are constants that a histogram can have")]
    pub(super) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("sound bounds"))
    }

    /// Takes one more, in nanoseconds.
    pub(super) fn record(&mut self, nanos: u64) {
        self.0.saturating_record((nanos / 1000).max(1));
    }

    /// What they come to.
    pub(super) fn quantiles(&self) -> Quantiles {
        Quantiles {
            p50: self.0.value_at_quantile(0.5),
            p99: self.0.value_at_quantile(0.99),
            p999: self.0.value_at_quantile(0.999),
            max: self.0.max(),
        }
    }
}

/// In microseconds: half were not longer, 99 % were not longer, 99.9 % were not longer, the longest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Quantiles {
    /// The middle.
    pub p50: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_microseconds_and_nothing_is_out_of_bounds() {
        let mut times = Times::new();
        assert_eq!(times.quantiles(), Quantiles::default());
        for micros in 1..=1000 {
            times.record(micros * 1000 + 999);
        }
        assert_eq!(times.quantiles(), Quantiles { p50: 500, p99: 990, p999: 999, max: 1000 });
        times.record(0);
        times.record(u64::MAX);
        assert!(times.quantiles().max >= LONGEST_US);
    }
}
