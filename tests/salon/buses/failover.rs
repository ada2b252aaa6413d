//! What happens to the buses when servers of theirs die, move, or end connections: on servers that each test starts
//! itself, because it kills them.
//!
//! Runs where `SALON_TEST_REDIS_BIN` and `SALON_TEST_NATS_BIN` name the programs; `.ci/buses` does so.

mod engines;
mod nats;
mod redis;
mod redis_cluster;
mod slow;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use salon::bus::BusMessage;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    has_seen_everything,
    nodes::two,
    servers::Place,
    shared::{Node, room, transient},
};
use crate::harness::{DEADLINE, Session, TestServer};

/// How long it takes until something that each node publishes from now on has arrived at every other: by the bus, since
/// it is not stored.
async fn recovered(nodes: &[&Node], name: &str) -> Duration {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let probe = |n: usize| format!("probe {call} of {n}");
    let begun = Instant::now();
    let mut missing: Vec<(usize, usize)> = (0..nodes.len())
        .flat_map(|from| (0..nodes.len()).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .collect();
    while !missing.is_empty() {
        assert!(begun.elapsed() < DEADLINE, "{name}: nothing arrives from and at {missing:?}");
        for (n, node) in nodes.iter().enumerate() {
            node.bus.publish(&room(name), transient(probe(n).as_bytes()));
        }
        sleep(Duration::from_millis(10)).await;
        missing.retain(|(from, to)| !holds(nodes[*to], name, &probe(*from)));
    }
    begun.elapsed()
}

/// Whether something that is not stored has arrived.
fn holds(node: &Node, name: &str, text: &str) -> bool {
    node.arrived().iter().any(|(at, message)| match message {
        BusMessage::Transient(transient) => at.as_str() == name && transient.frame.ends_with(text.as_bytes()),
        BusMessage::Log(_) | BusMessage::Reaches(_) | BusMessage::Interrupt(_) | BusMessage::Presence(_) => {
            false
        }
    })
}

/// Two servers with one store, and in one room of theirs people on both who talk without a pause.
struct Talk {
    servers: [TestServer; 2],
    room: String,
    readers: [Session; 2],
    end: watch::Sender<bool>,
    writers: JoinHandle<(Session, Session)>,
}

impl Talk {
    async fn start(places: [&Place; 2]) -> Self {
        let (servers, _) = two(places[0], places[1]).await;
        let room = servers[0].room(&[]).await;
        Self::in_room(servers, room).await
    }

    async fn in_room(servers: [TestServer; 2], room: String) -> Self {
        let [a, b] = &servers;
        let (mut ann, mut bob) = (a.join(&room, "ann").await, b.join(&room, "bob").await);
        let readers = [a.join(&room, "reader-a").await, b.join(&room, "reader-b").await];
        let (end, ended) = watch::channel(false);
        let writers = tokio::spawn(async move {
            for n in 0.. {
                ann.talk(&format!("ann {n}")).await;
                bob.talk(&format!("bob {n}")).await;
                if *ended.borrow() {
                    break;
                }
                sleep(Duration::from_millis(5)).await;
            }
            (ann, bob)
        });
        Self { servers, room, readers, end, writers }
    }

    /// Ends the talk: everybody must have seen everything once and in order.
    async fn everything_was_seen(self) {
        self.end.send_replace(true);
        let (mut ann, bob) = self.writers.await.unwrap();
        let last = ann.talk("the end").await.seq;
        let [a, b] = self.servers;
        for session in [ann, bob].into_iter().chain(self.readers) {
            has_seen_everything(&a, &self.room, session, last).await;
        }
        a.shutdown().await;
        b.shutdown().await;
    }
}
