//! What is broken at the moment: every part of the world asks here before it does something.

use std::{collections::BTreeSet, ops::RangeInclusive};

/// The state of the world outside the nodes. Shares are of a hundred.
#[derive(Debug, Clone)]
pub struct Weather {
    /// How long a call takes to the store, and its answer back; in milliseconds.
    pub store_delay: RangeInclusive<u64>,
    /// Calls that fail before they are carried out.
    pub fail_before: u32,
    /// Calls that fail although they were carried out.
    pub fail_after: u32,
    /// Nodes that do not reach the store.
    pub without_store: BTreeSet<usize>,
    /// How long a hint travels, in milliseconds.
    pub bus_delay: RangeInclusive<u64>,
    /// Hints that are lost.
    pub bus_lost: u32,
    /// Hints that arrive twice.
    pub bus_twice: u32,
    /// Pairs of nodes, the smaller first, between which no hint arrives, and nobody is told.
    pub parted: BTreeSet<(usize, usize)>,
    /// Nodes that have lost their connection to the bus, and know it.
    pub without_bus: BTreeSet<usize>,
    /// Answers of LLMs that fail.
    pub llm_fails: u32,
}

impl Weather {
    /// Nothing is broken, and everything takes a little time.
    pub fn calm() -> Self {
        Self {
            store_delay: 0..=2,
            fail_before: 0,
            fail_after: 0,
            without_store: BTreeSet::new(),
            bus_delay: 0..=3,
            bus_lost: 0,
            bus_twice: 0,
            parted: BTreeSet::new(),
            without_bus: BTreeSet::new(),
            llm_fails: 0,
        }
    }

    /// Whether hints of one node reach the other.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        !self.parted.contains(&(from.min(to), from.max(to)))
            && !self.without_bus.contains(&from)
            && !self.without_bus.contains(&to)
    }
}
