//! The one source of chance: numbers that follow from a seed.

use std::{ops::RangeInclusive, time::Duration};

/// A generator (`SplitMix64`). Each part of a simulation has its own, so that a draw more in one moves no other.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        // Seeds are counted from 0: the first number of one must not be that of its neighbour.
        random.next();
        random
    }

    /// A generator of its own for the part with this name.
    pub fn of(&self, part: &str) -> Self {
        let mixed = part.bytes().fold(self.0, |hash, byte| mix(hash ^ u64::from(byte)));
        Self::new(mixed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap().max(1);
        usize::try_from(self.next() % end).unwrap()
    }

    /// Whether something that happens in so many of a hundred cases happens now.
    pub fn percent(&mut self, share: u32) -> bool {
        self.next() % 100 < u64::from(share)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A time within these milliseconds.
    pub fn millis(&mut self, within: RangeInclusive<u64>) -> Duration {
        let span = within.end() - within.start() + 1;
        Duration::from_millis(within.start() + self.next() % span)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
