//! The going away of a server, as its sessions see it, and how they are spread over the others.
//!
//! In two steps: from [`Drain::refuse`] on nobody is let in, while those who are here go on and answers end; with
//! [`Drain::close`] every session ends. It decides nothing and waits for nobody: `server` does. A step is never taken
//! back, and one that is taken twice changes nothing.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The first may come back after this: the connection has to be opened anew anyway.
const SOONEST: Duration = Duration::from_millis(100);
/// Over how long a few streams come back: nobody waits longer than a person would before asking what is wrong.
const SPREAD_MIN: Duration = Duration::from_secs(3);
/// Each further stream adds this much, which makes a thousand joins in a second, on all the other servers together.
const SPREAD_EACH: Duration = Duration::from_millis(1);
/// Over how long the most come back.
const SPREAD_MAX: Duration = Duration::from_secs(30);
/// A tenth more or less, in thousandths: streams that began together do not end together.
const AGE_JITTER: u64 = 100;

/// Whether, and until when, the server is going away. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<Steps>);

#[derive(Debug, Default)]
struct Steps {
    refusing: CancellationToken,
    closing: CancellationToken,
    plan: OnceLock<Plan>,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    deadline: Instant,
    spread: Duration,
}

impl Drain {
    /// From now on nobody is let in.
    pub fn refuse(&self) {
        self.0.refusing.cancel();
    }

    /// From now on sessions end. `deadline`: when those that do not read are cut; `streams`: how many there are.
    pub fn close(&self, deadline: Instant, streams: usize) {
        self.0.plan.get_or_init(|| Plan { deadline, spread: spread(streams) });
        self.refuse();
        self.0.closing.cancel();
    }

    /// Whether nobody is let in any more.
    pub fn is_refusing(&self) -> bool {
        self.0.refusing.is_cancelled()
    }

    /// Waits until nobody is let in any more.
    pub async fn refusing(&self) {
        self.0.refusing.cancelled().await;
    }

    /// Waits until sessions have to end.
    pub async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// How long a stream that is being read may still take; none: nothing has been decided yet.
    pub fn time_left(&self) -> Option<Duration> {
        self.0.plan.get().map(|plan| plan.deadline.saturating_duration_since(Instant::now()))
    }

    /// When one stream may come back: another wait for each.
    pub fn come_back_after(&self) -> Duration {
        let spread = self.0.plan.get().map_or(SPREAD_MIN, |plan| plan.spread);
        SOONEST + part_of(spread.saturating_sub(SOONEST), random())
    }
}

/// Over how long so many streams come back.
fn spread(streams: usize) -> Duration {
    SPREAD_EACH.saturating_mul(u32::try_from(streams).unwrap_or(u32::MAX)).clamp(SPREAD_MIN, SPREAD_MAX)
}

/// How long one stream lives that may become about `age` old.
pub(super) fn age_of_one(age: Duration) -> Duration {
    age.mul_f64(0.001 * f64_of(1000 - AGE_JITTER + random() % (2 * AGE_JITTER + 1)))
}

fn f64_of(thousandths: u64) -> f64 {
    f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX))
}

/// A random part of `whole`.
fn part_of(whole: Duration, random: u64) -> Duration {
    let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % millis.saturating_add(1).max(1))
}

fn random() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_streams_come_back_over_a_longer_time() {
        assert_eq!(spread(0), SPREAD_MIN);
        assert_eq!(spread(3000), SPREAD_MIN);
        assert_eq!(spread(10_000), Duration::from_secs(10));
        assert_eq!(spread(usize::MAX), SPREAD_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_streams_use_all_of_the_time_they_are_given() {
        let drain = Drain::default();
        assert_eq!(drain.time_left(), None);
        drain.close(Instant::now() + Duration::from_secs(12), 10_000);
        assert_eq!(drain.time_left(), Some(Duration::from_secs(12)));
        let mut in_second = [0_u32; 10];
        for _ in 0..10_000 {
            let wait = drain.come_back_after();
            assert!(wait >= SOONEST && wait <= Duration::from_secs(10), "{wait:?}");
            in_second[usize::try_from(wait.as_millis().saturating_sub(1) / 1000).unwrap()] += 1;
        }
        assert!(in_second.iter().all(|came| (700..1300).contains(came)), "{in_second:?}");
    }

    #[tokio::test]
    async fn closing_refuses_as_well_and_the_first_plan_stands() {
        let drain = Drain::default();
        assert!(!drain.is_refusing());
        let deadline = Instant::now() + Duration::from_secs(60);
        drain.close(deadline, 1);
        drain.close(deadline + Duration::from_secs(600), 1);
        drain.refusing().await;
        drain.closing().await;
        assert!(drain.time_left().unwrap() <= Duration::from_secs(60));
    }

    #[test]
    fn ages_differ_by_a_tenth() {
        let age = Duration::from_secs(1000);
        let ages: Vec<Duration> = (0..1000).map(|_| age_of_one(age)).collect();
        assert!(ages.iter().all(|one| (900.0..=1100.001).contains(&one.as_secs_f64())));
        assert!(ages.iter().any(|one| one.as_secs() < 920) && ages.iter().any(|one| one.as_secs() > 1080));
    }
}
