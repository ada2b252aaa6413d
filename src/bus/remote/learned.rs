//! Servers that a cluster has told of, beside those of `bus.url`: when all of the latter are away, these are asked.

use std::sync::{Mutex, PoisonError};

/// More than a cluster of usual size has; what a server tells of must not grow without a limit.
const MOST: usize = 64;

/// The servers that were told of last.
#[derive(Debug)]
pub(in crate::bus) struct Learned<T>(Mutex<Vec<T>>);

impl<T> Default for Learned<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Learned<T> {
    /// Keeps these in place of the last ones; a server that knows of none changes nothing.
    pub(in crate::bus) fn learn(&self, servers: impl IntoIterator<Item = T>) {
        let servers: Vec<T> = servers.into_iter().take(MOST).collect();
        if !servers.is_empty() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = servers;
        }
    }

    /// These, and behind them all that are known beside.
    pub(in crate::bus) fn behind(&self, servers: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<T> {
        let mut all = servers.to_vec();
        for server in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if !all.iter().any(|known| same(known, server)) {
                all.push(server.clone());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_stands_behind_what_is_configured() {
        let learned = Learned::default();
        let all = |learned: &Learned<usize>| learned.behind(&[1, 2], usize::eq);
        assert_eq!(all(&learned), [1, 2]);
        learned.learn([3, 2, 3]);
        assert_eq!(all(&learned), [1, 2, 3]);
        learned.learn([]);
        assert_eq!(all(&learned), [1, 2, 3]);
        learned.learn(10..1000);
        assert_eq!(all(&learned).len(), 2 + MOST);
    }
}
