//! Who is dead, as far as one who looks can tell: pure.
//!
//! A node is dead when its beat has not changed for as long as a lease lasts, by the time of whoever looks, and while
//! that one could see. Whoever could not look for a while starts anew: when the store was away, nobody could say that
//! they live, and nobody must be buried for it.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{ids::NodeId, store::Lease};

/// What one observer has seen of the others.
#[derive(Debug)]
pub struct Watch {
    lease: Duration,
    gap: Duration,
    seen: HashMap<NodeId, Seen>,
    looked: Option<Instant>,
}

/// The newest beat of a node, and since when it is known.
#[derive(Debug, Clone, Copy)]
struct Seen {
    beat: u64,
    since: Instant,
}

impl Watch {
    /// Somebody who has seen nothing yet. `lease`: how long a node may be silent; `gap`: how far two looks may be from
    /// each other and still count as one.
    pub fn new(lease: Duration, gap: Duration) -> Self {
        Self { lease, gap, seen: HashMap::new(), looked: None }
    }

    /// Looks at all leases, which were read between `began` and `ended`; returns those of the dead.
    ///
    /// A look that failed is not told of.
    pub fn look(&mut self, leases: &[Lease], began: Instant, ended: Instant) -> Vec<Lease> {
        if self.looked.is_none_or(|looked| ended.saturating_duration_since(looked) > self.gap) {
            self.seen.clear();
        }
        self.looked = Some(ended);
        self.seen.retain(|node, _| leases.iter().any(|lease| lease.node == *node));
        let mut dead = Vec::new();
        for lease in leases {
            let seen = self.seen.entry(lease.node).or_insert(Seen { beat: lease.beat, since: ended });
            if seen.beat != lease.beat {
                *seen = Seen { beat: lease.beat, since: ended };
            } else if began.saturating_duration_since(seen.since) >= self.lease {
                // The answer was read at some moment behind `began`: until then at least nothing has changed.
                dead.push(*lease);
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);
    const EVERY: Duration = Duration::from_secs(3);

    struct Looks {
        watch: Watch,
        now: Instant,
    }

    impl Looks {
        fn new() -> Self {
            Self { watch: Watch::new(LEASE, 2 * EVERY), now: Instant::now() }
        }

        /// Looks after this time, at leases that are read at once; who is dead.
        fn after(&mut self, wait: Duration, leases: &[(NodeId, u64)]) -> Vec<NodeId> {
            self.now += wait;
            let leases: Vec<_> = leases.iter().map(|&(node, beat)| Lease { node, beat }).collect();
            self.watch.look(&leases, self.now, self.now).into_iter().map(|dead| dead.node).collect()
        }
    }

    #[test]
    fn who_is_silent_for_a_lease_is_dead_and_nobody_else() {
        let (mut looks, silent, alive) = (Looks::new(), NodeId::random(), NodeId::random());
        assert_eq!(looks.after(Duration::ZERO, &[(silent, 7), (alive, 1)]), []);
        for beat in 2..=5 {
            assert_eq!(looks.after(EVERY, &[(silent, 7), (alive, beat)]), []);
        }
        assert_eq!(looks.after(EVERY, &[(silent, 7), (alive, 6)]), [silent]);
        // Somebody else was faster to say so, and it has come back under its old name.
        assert_eq!(looks.after(EVERY, &[(alive, 7)]), []);
        assert_eq!(looks.after(EVERY, &[(silent, 7), (alive, 8)]), []);
    }

    #[test]
    fn one_sign_of_life_in_time_is_enough() {
        let (mut looks, slow) = (Looks::new(), NodeId::random());
        for beat in 0..50 {
            for _ in 0..5 {
                assert_eq!(looks.after(EVERY, &[(slow, beat)]), []);
            }
        }
        // Whatever the beat is: that it changes is what counts.
        assert_eq!(looks.after(EVERY, &[(slow, 1)]), []);
    }

    #[test]
    fn who_could_not_look_starts_anew() {
        let (mut looks, silent) = (Looks::new(), NodeId::random());
        for _ in 0..5 {
            assert_eq!(looks.after(EVERY, &[(silent, 1)]), []);
        }
        // The store was away for longer than two looks: nobody could say that they live.
        assert_eq!(looks.after(3 * EVERY, &[(silent, 1)]), []);
        for _ in 0..4 {
            assert_eq!(looks.after(EVERY, &[(silent, 1)]), []);
        }
        assert_eq!(looks.after(EVERY, &[(silent, 1)]), [silent]);
        // One look that is missing does not matter.
        let mut looks = Looks::new();
        looks.after(EVERY, &[(silent, 1)]);
        looks.after(2 * EVERY, &[(silent, 1)]);
        looks.after(2 * EVERY, &[(silent, 1)]);
        assert_eq!(looks.after(EVERY, &[(silent, 1)]), [silent]);
    }

    #[test]
    fn the_time_that_reading_takes_counts_for_the_node() {
        let (mut watch, node, start) = (Watch::new(LEASE, 2 * EVERY), NodeId::random(), Instant::now());
        let leases = [Lease { node, beat: 1 }];
        let reading = Duration::from_secs(2);
        let mut dead_at = None;
        for look in 0..10_u32 {
            let began = start + look * EVERY;
            if !watch.look(&leases, began, began + reading).is_empty() {
                dead_at = dead_at.or(Some(began - start));
            }
        }
        // Known since second 2, so not at second 15.
        assert_eq!(dead_at, Some(Duration::from_secs(18)));
        // Whoever is stopped while reading has seen nothing either.
        let began = start + 10 * EVERY;
        assert_eq!(watch.look(&leases, began, began + 3 * LEASE), []);
    }
}
