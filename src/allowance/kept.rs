//! Those who are told apart: one purse for each, as long as something is missing in it or somebody holds it.
//!
//! Bounded. When there are as many as may be, those that are quiet are forgotten, at most once in a second; if that
//! makes no place, newcomers share one purse. It is refused nobody by itself.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;

use crate::allowance::{purse::Purse, rate::Paces};

/// A look at all of them is not worth more often, in nanoseconds.
const SWEEP: u64 = 1_000_000_000;

/// The purses of one kind.
#[derive(Debug)]
pub(super) struct Kept<K: Eq + Hash> {
    purses: DashMap<K, Arc<Purse>>,
    most: usize,
    /// For whoever is one too many.
    shared: Arc<Purse>,
    swept: AtomicU64,
}

impl<K: Eq + Hash + Clone> Kept<K> {
    pub(super) fn new(most: usize, shared: &Paces) -> Self {
        let shared = Arc::new(Purse::new(shared));
        Self { purses: DashMap::new(), most, shared, swept: AtomicU64::new(0) }
    }

    /// The purse of one.
    pub(super) fn of(&self, key: &K, paces: &Paces, now: u64) -> Arc<Purse> {
        if let Some(known) = self.purses.get(key) {
            return Arc::clone(&known);
        }
        if self.purses.len() >= self.most && !self.makes_place(now) {
            return Arc::clone(&self.shared);
        }
        Arc::clone(&self.purses.entry(key.clone()).or_insert_with(|| Arc::new(Purse::new(paces))))
    }

    fn makes_place(&self, now: u64) -> bool {
        let last = self.swept.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= SWEEP || last == 0;
        let ours = due
            && self.swept.compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if ours {
            self.forget_quiet(now);
        }
        self.purses.len() < self.most
    }

    /// Forgets those in which nothing is missing and which nobody holds.
    pub(super) fn forget_quiet(&self, now: u64) {
        // A purse is only handed out under the lock of its place, which this holds as well.
        self.purses.retain(|_, purse| Arc::strong_count(purse) > 1 || !purse.is_full(now));
    }

    /// All that are known now.
    pub(super) fn keys(&self) -> Vec<K> {
        self.purses.iter().map(|entry| entry.key().clone()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.purses.len()
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::allowance::rate::{Rate, What};

    const SECOND: u64 = 1_000_000_000;

    fn one_a_second() -> Paces {
        let rate = Rate::in_each(NonZeroU32::MIN, Duration::from_secs(1));
        Paces::new([(What::Joins, Some(rate))])
    }

    #[test]
    fn a_flood_of_newcomers_shares_one_purse_and_leaves_the_others_alone() {
        let paces = one_a_second();
        let kept: Kept<u32> = Kept::new(3, &paces);
        for key in 0..3 {
            assert!(kept.of(&key, &paces, SECOND).take(What::Joins, SECOND));
        }
        assert!(kept.of(&100, &paces, SECOND).take(What::Joins, SECOND), "the first newcomer");
        for key in 101..1000 {
            assert!(!kept.of(&key, &paces, SECOND).take(What::Joins, SECOND), "{key} has the same purse");
        }
        assert_eq!(kept.len(), 3, "nothing grows");
        let later = 2 * SECOND;
        assert!(kept.of(&1, &paces, later).take(What::Joins, later), "who was there has what is theirs");
        // All but that one have been quiet long enough.
        assert!(kept.of(&7, &paces, later).take(What::Joins, later));
        assert_eq!(kept.len(), 2);
    }

    #[test]
    fn what_somebody_holds_is_not_forgotten() {
        let paces = one_a_second();
        let kept: Kept<u32> = Kept::new(10, &paces);
        let held = kept.of(&1, &paces, 0);
        kept.of(&2, &paces, 0);
        kept.forget_quiet(SECOND);
        assert_eq!(kept.len(), 1);
        assert!(Arc::ptr_eq(&held, &kept.of(&1, &paces, 0)));
        drop(held);
        kept.forget_quiet(SECOND);
        assert_eq!(kept.len(), 0);
    }
}
