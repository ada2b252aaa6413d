//! Buses of several nodes in one process, as far from one another as if a server were between them. For tests of what
//! nodes do about one another.
//!
//! What is published goes through the bytes that a server would carry, so that a test sees how many there are. A node can
//! be cut off, which it does not notice, and the way can be one that loses, repeats and reorders.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use crate::{
    bus::{
        Bus, BusMessage, Subscriber,
        lossy::{Faults, Way},
    },
    ids::{NodeId, RoomId},
    wire::hint::codec,
};

/// What the buses of all nodes meet in.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    nodes: Mutex<Vec<Arc<Node>>>,
    way: Mutex<Way<(Arc<Node>, RoomId, Bytes)>>,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    subscriber: OnceLock<Arc<dyn Subscriber>>,
    wanted: Mutex<HashSet<RoomId>>,
    cut: AtomicBool,
}

/// The bus of one node.
#[derive(Debug)]
pub struct HubBus {
    hub: Hub,
    node: Arc<Node>,
    tasks: TaskTracker,
}

impl Default for Hub {
    fn default() -> Self {
        Self::lossy(1, Faults { drop: 0, repeat: 0, delay: 0 })
    }
}

impl Hub {
    /// One whose faults repeat for the same seed and the same messages.
    pub fn lossy(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Inner {
            nodes: Mutex::default(),
            way: Mutex::new(Way::new(seed, faults)),
            sent: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }))
    }

    /// One more node.
    pub fn node(&self) -> Arc<HubBus> {
        let node = Arc::new(Node {
            id: NodeId::random(),
            subscriber: OnceLock::new(),
            wanted: Mutex::default(),
            cut: AtomicBool::new(false),
        });
        held(&self.0.nodes).push(Arc::clone(&node));
        Arc::new(HubBus { hub: self.clone(), node, tasks: TaskTracker::new() })
    }

    /// Messages that were sent, and their bytes, each once for all receivers.
    pub fn sent(&self) -> (u64, u64) {
        (self.0.sent.load(Ordering::Relaxed), self.0.sent_bytes.load(Ordering::Relaxed))
    }
}

impl HubBus {
    /// From now on nothing that it sends arrives, and nothing comes to it: as if its process had stopped.
    pub fn cut(&self) {
        self.node.cut.store(true, Ordering::Relaxed);
    }

    /// The way to the others is there again.
    pub fn mend(&self) {
        self.node.cut.store(false, Ordering::Relaxed);
    }
}

impl Bus for HubBus {
    fn name(&self) -> &'static str {
        "hub"
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn attach(&self, subscriber: Arc<dyn Subscriber>) {
        let _ = self.node.subscriber.set(subscriber);
    }

    fn subscribe(&self, room: &RoomId) {
        let (node, room) = (Arc::clone(&self.node), room.clone());
        if held(&node.wanted).insert(room.clone()) {
            self.tasks.spawn(async move {
                if let Some(subscriber) = node.subscriber.get() {
                    subscriber.subscribed(&room);
                }
            });
        }
    }

    fn unsubscribe(&self, room: &RoomId) {
        held(&self.node.wanted).remove(room);
    }

    fn publish(&self, room: &RoomId, message: BusMessage) {
        let bytes = codec::encode(self.node.id, room, &message);
        if let Some(subscriber) = self.node.subscriber.get() {
            subscriber.deliver(room, message);
        }
        if self.node.cut.load(Ordering::Relaxed) {
            return;
        }
        self.hub.0.sent.fetch_add(1, Ordering::Relaxed);
        self.hub.0.sent_bytes.fetch_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let others: Vec<Arc<Node>> =
            held(&self.hub.0.nodes).iter().filter(|node| node.id != self.node.id).cloned().collect();
        for node in others {
            let due = held(&self.hub.0.way).pass((node, room.clone(), bytes.clone()));
            for (node, room, bytes) in due {
                node.arrived(&room, &bytes);
            }
        }
    }
}

impl Node {
    fn arrived(&self, room: &RoomId, bytes: &Bytes) {
        let is_wanted = held(&self.wanted).contains(room) && !self.cut.load(Ordering::Relaxed);
        // Whatever this process has written it can read.
        if let (true, Some(subscriber), Ok((_, message))) =
            (is_wanted, self.subscriber.get(), codec::decode(bytes))
        {
            subscriber.deliver(room, message);
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
