//! What was read a moment ago: for less than a second, so that a change on another node is seen within one.
//!
//! Bounded: when it is full it is emptied, and all is read again. What was not found has a place of its own, so that guesses
//! push nothing good out. A reading that was begun before a change here is not kept.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Readings by what was asked; `None`: it was not there.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    kept: Mutex<Kept<K, V>>,
    /// How many that were found, and how many that were not.
    max: usize,
    fresh: Duration,
}

#[derive(Debug)]
struct Kept<K, V> {
    found: HashMap<K, (Instant, V)>,
    missing: HashMap<K, Instant>,
    generation: u64,
}

/// When a reading was begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    at: Instant,
    generation: u64,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new(max: usize, fresh: Duration) -> Self {
        let kept = Kept { found: HashMap::new(), missing: HashMap::new(), generation: 0 };
        Self { kept: Mutex::new(kept), max, fresh }
    }

    /// What was read; or else, what the reading that has to follow begins with.
    pub(super) fn get(&self, key: &K) -> Result<Option<V>, Begun> {
        let (kept, now) = (self.lock(), Instant::now());
        match (kept.found.get(key), kept.missing.get(key)) {
            (Some((at, value)), _) if now.duration_since(*at) < self.fresh => Ok(Some(value.clone())),
            (_, Some(at)) if now.duration_since(*at) < self.fresh => Ok(None),
            (_, _) => Err(Begun { at: now, generation: kept.generation }),
        }
    }

    /// Whether it was found when it was read last, however long ago: as long as there is room to remember.
    pub(super) fn knows(&self, key: &K) -> bool {
        self.lock().found.contains_key(key)
    }

    /// Keeps a reading, as fresh as it was when it began.
    pub(super) fn put(&self, key: K, value: Option<V>, begun: Begun) {
        let mut kept = self.lock();
        if kept.generation != begun.generation {
            return;
        }
        // Whoever fills it has it emptied: to look for what is old would cost each of them a look at everything.
        match value {
            Some(value) => {
                kept.missing.remove(&key);
                if kept.found.len() >= self.max {
                    kept.found.clear();
                }
                kept.found.insert(key, (begun.at, value));
            }
            None => {
                kept.found.remove(&key);
                if kept.missing.len() >= self.max {
                    kept.missing.clear();
                }
                kept.missing.insert(key, begun.at);
            }
        }
    }

    /// Forgets what has changed here, and nothing else: whoever writes often must not have all that others have read
    /// again. Readings that are under way may be of it, and are not kept.
    pub(super) fn forget(&self, is_changed: impl Fn(&K, Option<&V>) -> bool) {
        let mut kept = self.lock();
        kept.found.retain(|key, (_, value)| !is_changed(key, Some(value)));
        kept.missing.retain(|key, _| !is_changed(key, None));
        kept.generation = kept.generation.wrapping_add(1);
    }

    fn lock(&self) -> MutexGuard<'_, Kept<K, V>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Duration = Duration::from_millis(500);

    fn begin(cache: &Cache<u32, char>, key: u32) -> Begun {
        cache.get(&key).unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_is_as_old_as_its_beginning() {
        let cache = Cache::new(2, FRESH);
        let begun = begin(&cache, 1);
        tokio::time::advance(FRESH / 2).await;
        cache.put(1, Some('a'), begun);
        assert_eq!(cache.get(&1).unwrap(), Some('a'));
        tokio::time::advance(FRESH / 2).await;
        assert!(cache.get(&1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_push_nothing_out_and_are_bounded() {
        let cache = Cache::new(2, FRESH);
        cache.put(1, Some('a'), begin(&cache, 1));
        for guess in 10..21 {
            cache.put(guess, None, begin(&cache, guess));
        }
        assert_eq!(cache.lock().missing.len(), 1);
        assert_eq!((cache.get(&1).unwrap(), cache.get(&20).unwrap()), (Some('a'), None));
        cache.put(2, Some('b'), begin(&cache, 2));
        cache.put(3, Some('c'), begin(&cache, 3));
        assert_eq!(cache.lock().found.len(), 1);
        assert_eq!(cache.get(&3).unwrap(), Some('c'));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_before_a_change_is_not_kept() {
        let cache = Cache::new(2, FRESH);
        cache.put(2, Some('b'), begin(&cache, 2));
        cache.put(3, None, begin(&cache, 3));
        cache.put(4, None, begin(&cache, 4));
        let begun = begin(&cache, 1);
        cache.forget(|key, _| *key == 3);
        cache.put(1, Some('a'), begun);
        assert!(cache.get(&1).is_err() && cache.get(&3).is_err());
        assert_eq!((cache.get(&2).unwrap(), cache.get(&4).unwrap()), (Some('b'), None), "it has not changed");
        cache.forget(|_, value| value == Some(&'b'));
        assert!(cache.get(&2).is_err() && !cache.knows(&2));
    }
}
