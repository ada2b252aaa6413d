//! What a seed has in store: how large its world is, and what breaks when.
//!
//! Each seed picks some kinds of faults and leaves out the others: what hides behind one fault is found by seeds
//! without it.

use std::time::Duration;

use super::random::Random;

/// What one seed does.
#[derive(Debug)]
pub struct Plan {
    pub nodes: usize,
    pub clients: usize,
    pub rooms: usize,
    /// How long clients talk.
    pub length: Duration,
    /// How long a client waits between two things it does, in milliseconds.
    pub pace: u64,
    /// What goes wrong all the time.
    pub steady: Steady,
    /// What goes wrong when, by time.
    pub faults: Vec<(Duration, Fault)>,
}

/// Shares of a hundred, and times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Steady {
    pub store_delay: u64,
    pub bus_delay: u64,
    pub bus_lost: u32,
    pub bus_twice: u32,
    pub fail_before: u32,
    pub fail_after: u32,
    pub llm_fails: u32,
    /// How often a client's connection breaks, instead of doing something.
    pub cuts: u32,
    /// Clients that read slowly.
    pub slow_readers: u32,
}

/// Something that breaks, and is mended after a time.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// A node is killed and started again.
    Crash(usize, Duration),
    /// A node is killed and never comes back.
    Kill(usize),
    /// A node ends in order and is started again.
    Drain(usize, Duration),
    /// Hints between two nodes are lost.
    Part(usize, usize, Duration),
    /// A node loses its connection to the bus.
    WithoutBus(usize, Duration),
    /// A node does not reach the store.
    WithoutStore(usize, Duration),
    /// The store takes this long for everything.
    SlowStore(Duration, Duration),
    /// The store fails in most cases.
    FailingStore(Duration),
    /// A node's clock is wrong from now on.
    Clock(usize, i64),
}

const KINDS: usize = 9;

impl Plan {
    pub fn of(random: &Random) -> Self {
        let mut random = random.of("plan");
        let nodes = *random.pick(&[2, 3, 3, 3]);
        let length = random.millis(2000..=6000);
        let steady = steady(&mut random);
        let kinds: Vec<usize> = (0..KINDS).filter(|_| random.percent(45)).collect();
        let count = if kinds.is_empty() { 0 } else { random.below(6) };
        let latest = u64::try_from(length.as_millis()).unwrap();
        let mut faults: Vec<_> = (0..count)
            .map(|_| {
                let kind = *random.pick(&kinds);
                (random.millis(300..=latest), fault(kind, nodes, &mut random))
            })
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        Self {
            nodes,
            clients: 2 + random.below(3),
            rooms: *random.pick(&[1, 1, 1, 2]),
            length,
            pace: *random.pick(&[120, 250, 500]),
            steady,
            faults,
        }
    }
}

fn steady(random: &mut Random) -> Steady {
    let mut sometimes = |share: u32, of: &[u32]| if random.percent(share) { *random.pick(of) } else { 0 };
    Steady {
        bus_lost: sometimes(40, &[2, 10, 40, 100]),
        bus_twice: sometimes(40, &[5, 30]),
        fail_before: sometimes(25, &[1, 5, 15]),
        fail_after: sometimes(25, &[1, 5, 15]),
        llm_fails: sometimes(40, &[10, 40]),
        cuts: sometimes(40, &[3, 10]),
        slow_readers: sometimes(30, &[30, 60]),
        store_delay: u64::from(sometimes(50, &[5, 20, 80])) + 1,
        bus_delay: u64::from(sometimes(50, &[10, 100, 400])) + 1,
    }
}

fn fault(kind: usize, nodes: usize, random: &mut Random) -> Fault {
    let node = random.below(nodes);
    let other = (node + 1 + random.below(nodes - 1)) % nodes;
    let lasts = random.millis(100..=4000);
    match kind {
        0 => Fault::Crash(node, lasts),
        1 => Fault::Drain(node, lasts),
        2 => Fault::Part(node, other, lasts),
        3 => Fault::WithoutBus(node, lasts),
        // Perhaps for longer than a lease lasts.
        4 => Fault::WithoutStore(node, lasts * 2),
        5 => Fault::SlowStore(random.millis(100..=900), lasts),
        6 => Fault::FailingStore(lasts),
        7 => Fault::Kill(node),
        _ => Fault::Clock(node, *random.pick(&[-3_600_000, -2000, 2000, 60_000, 3_600_000])),
    }
}
