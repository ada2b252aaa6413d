//! What one who is counted has taken: token buckets of everything, and the streams that are open.
//!
//! A bucket is one number, the time at which it will be full again; taking one moves it on by what one takes to come
//! back, and is refused where it would lie further ahead than a whole bucket. So there is no lock, nothing to refill,
//! and what was taken can be given back.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::allowance::{
    rate::{Paces, Rate, What},
    usage::Known,
};

/// When it will be full again, in nanoseconds of the allowances' clock.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one, if there is one.
    pub(super) fn take(&self, rate: Rate, now: u64) -> bool {
        let taken = |full: u64| {
            let next = full.max(now).saturating_add(rate.cost());
            (next.saturating_sub(now) <= rate.depth()).then_some(next)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// How long until there is one; `None`: there is one.
    pub(super) fn wait(&self, rate: Rate, now: u64) -> Option<u64> {
        let ahead = self.0.load(Ordering::Relaxed).saturating_sub(now).saturating_add(rate.cost());
        ahead.checked_sub(rate.depth()).filter(|wait| *wait > 0)
    }

    /// One was taken for nothing.
    fn give_back(&self, rate: Rate) {
        // Lying in the past is as good as being full.
        let given = |full: u64| Some(full.saturating_sub(rate.cost()));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, given);
    }

    fn is_full(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }
}

/// What one who is counted has taken.
#[derive(Debug)]
pub(super) struct Purse {
    paces: Paces,
    /// What a namespace has taken of the store; of all others nothing is known, which takes no memory.
    known: OnceLock<Box<Known>>,
    buckets: [Bucket; What::COUNT],
    /// Streams that have joined.
    pub(super) streams: AtomicUsize,
    /// Streams that have not joined.
    pub(super) waiting: AtomicUsize,
}

impl Purse {
    pub(super) fn new(paces: &Paces) -> Self {
        Self {
            paces: paces.clone(),
            known: OnceLock::new(),
            buckets: Default::default(),
            streams: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// What is known of a namespace.
    pub(super) fn known(&self) -> &Known {
        self.known.get_or_init(Box::default)
    }

    pub(super) fn rate(&self, what: What) -> Option<Rate> {
        self.paces.of(what)
    }

    /// The bucket and its rate; `None`: there is no limit.
    fn limited(&self, what: What) -> Option<(&Bucket, Rate)> {
        Some((self.buckets.get(what.index())?, self.rate(what)?))
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self, what: What, now: u64) -> bool {
        self.limited(what).is_none_or(|(bucket, rate)| bucket.take(rate, now))
    }

    /// How long until there is one; `None`: there is one.
    pub(super) fn wait(&self, what: What, now: u64) -> Option<u64> {
        self.limited(what).and_then(|(bucket, rate)| bucket.wait(rate, now))
    }

    /// One was taken for nothing.
    pub(super) fn give_back(&self, what: What) {
        if let Some((bucket, rate)) = self.limited(what) {
            bucket.give_back(rate);
        }
    }

    /// Whether nothing is missing: a new one would be the same.
    pub(super) fn is_full(&self, now: u64) -> bool {
        self.buckets.iter().all(|bucket| bucket.is_full(now))
    }
}

/// Takes a place among `most`.
pub(super) fn enter(places: &AtomicUsize, most: usize) -> bool {
    let one_more = |taken: usize| (taken < most).then(|| taken.saturating_add(1));
    places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
}

/// Gives a place back.
pub(super) fn leave(places: &AtomicUsize) {
    let one_less = |taken: usize| Some(taken.saturating_sub(1));
    let _ = places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
}
