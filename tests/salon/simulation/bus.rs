//! The bus between simulated nodes: hints travel as bytes, late, twice, in another order, or not at all.
//!
//! One task delivers what is due. What is published on a node reaches its own subscriber at once, as the contract says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock},
};

use bytes::Bytes;
use salon::{
    bus::{Bus, BusMessage, LogBatch, Subscriber},
    ids::{NodeId, RoomId},
    wire::hint::codec,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{planted::Planted, random::Random, world::World};

/// By when it is due, then by the order in which it was sent: to whom, and what.
type UnderWay = BTreeMap<(Instant, u64), (Arc<SimBus>, Parcel)>;

/// The bus between all nodes.
#[derive(Debug)]
pub struct Hub {
    random: Mutex<Random>,
    under_way: Mutex<UnderWay>,
    sent: Mutex<u64>,
    nodes: Mutex<Vec<Arc<SimBus>>>,
    more: Notify,
}

#[derive(Debug, Clone)]
enum Parcel {
    Hint(RoomId, Bytes),
    Subscribed(RoomId),
    Interrupted,
}

impl Hub {
    pub fn new(random: Random) -> Self {
        Self {
            random: Mutex::new(random),
            under_way: Mutex::default(),
            sent: Mutex::default(),
            nodes: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Delivers what is due, for ever.
    pub async fn run(&self, world: &World) {
        loop {
            let due = self.under_way.lock().unwrap().first_key_value().map(|(key, _)| key.0);
            match due {
                Some(due) if due <= Instant::now() => {
                    let first = self.under_way.lock().unwrap().pop_first();
                    if let Some((_, (node, parcel))) = first {
                        node.take(parcel, world);
                    }
                }
                Some(due) => tokio::select! {
                    biased;
                    () = self.more.notified() => {}
                    () = sleep_until(due) => {}
                },
                None => self.more.notified().await,
            }
        }
    }

    fn send(&self, to: &Arc<SimBus>, parcel: Parcel, world: &World) {
        let delay = self.random.lock().unwrap().millis(world.weather().bus_delay.clone());
        let mut sent = self.sent.lock().unwrap();
        *sent += 1;
        self.under_way.lock().unwrap().insert((Instant::now() + delay, *sent), (Arc::clone(to), parcel));
        self.more.notify_one();
    }

    fn spread(&self, from: &SimBus, room: &RoomId, bytes: &Bytes, world: &World) {
        let nodes = self.nodes.lock().unwrap().clone();
        let weather = world.weather().clone();
        for to in nodes.iter().filter(|to| to.id != from.id && !to.crashed.is_cancelled()) {
            let (is_lost, is_twice) = {
                let mut random = self.random.lock().unwrap();
                (random.percent(weather.bus_lost), random.percent(weather.bus_twice))
            };
            if is_lost || !weather.reaches(from.node, to.node) {
                continue;
            }
            for _ in 0..=u32::from(is_twice) {
                self.send(to, Parcel::Hint(room.clone(), bytes.clone()), world);
            }
        }
    }

    /// A node learns that it was away.
    pub fn tell_interrupted(&self, node: usize, world: &World) {
        let nodes = self.nodes.lock().unwrap().clone();
        for bus in nodes.iter().filter(|bus| bus.node == node && !bus.crashed.is_cancelled()) {
            self.send(bus, Parcel::Interrupted, world);
        }
    }
}

/// The way of one node to the bus.
#[derive(Debug)]
pub struct SimBus {
    node: usize,
    id: NodeId,
    world: Arc<World>,
    subscriber: OnceLock<Arc<dyn Subscriber>>,
    wanted: Mutex<BTreeSet<RoomId>>,
    in_force: Mutex<BTreeSet<RoomId>>,
    crashed: CancellationToken,
    me: OnceLock<std::sync::Weak<SimBus>>,
}

impl SimBus {
    pub fn join(node: usize, world: &Arc<World>, crashed: CancellationToken) -> Arc<Self> {
        let bus = Arc::new(Self {
            node,
            id: NodeId::random(),
            world: Arc::clone(world),
            subscriber: OnceLock::new(),
            wanted: Mutex::default(),
            in_force: Mutex::default(),
            crashed,
            me: OnceLock::new(),
        });
        bus.me.set(Arc::downgrade(&bus)).unwrap();
        let mut nodes = world.hub.nodes.lock().unwrap();
        nodes.retain(|other| !other.crashed.is_cancelled());
        nodes.push(Arc::clone(&bus));
        drop(nodes);
        bus
    }

    fn take(&self, parcel: Parcel, world: &World) {
        let Some(subscriber) = self.subscriber.get().filter(|_| !self.crashed.is_cancelled()) else {
            return;
        };
        match parcel {
            Parcel::Hint(room, bytes) => {
                if !self.in_force.lock().unwrap().contains(&room) {
                    return;
                }
                let Ok((read, message)) = codec::decode(&bytes) else {
                    assert!(world.planted.is_some(), "a node sends what nodes cannot read");
                    return;
                };
                assert_eq!(read, room);
                if let BusMessage::Log(batch) = &message {
                    world.trace.say(format_args!(
                        "node {} hears {room} {}..={}",
                        self.node, batch.first, batch.last
                    ));
                }
                subscriber.deliver(&room, message);
            }
            Parcel::Subscribed(room) => {
                if self.wanted.lock().unwrap().contains(&room) {
                    self.in_force.lock().unwrap().insert(room.clone());
                    subscriber.subscribed(&room);
                }
            }
            Parcel::Interrupted => subscriber.interrupted(),
        }
    }
}

#[async_trait::async_trait]
impl Bus for SimBus {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn attach(&self, subscriber: Arc<dyn Subscriber>) {
        let _ = self.subscriber.set(subscriber);
    }

    fn subscribe(&self, room: &RoomId) {
        self.wanted.lock().unwrap().insert(room.clone());
        if let Some(me) = self.me.get().and_then(std::sync::Weak::upgrade) {
            self.world.hub.send(&me, Parcel::Subscribed(room.clone()), &self.world);
        }
    }

    fn unsubscribe(&self, room: &RoomId) {
        self.wanted.lock().unwrap().remove(room);
        self.in_force.lock().unwrap().remove(room);
    }

    fn publish(&self, room: &RoomId, message: BusMessage) {
        if self.crashed.is_cancelled() {
            return;
        }
        let bytes = match &message {
            BusMessage::Log(batch) if self.world.planted == Some(Planted::OtherBytes) => {
                codec::encode(self.id, room, &BusMessage::Log(other(batch)))
            }
            message => codec::encode(self.id, room, message),
        };
        if let Some(subscriber) = self.subscriber.get() {
            subscriber.deliver(room, message);
        }
        self.world.hub.spread(self, room, &bytes, &self.world);
    }
}

/// The same events with another character in each: what a codec that damages would make of them.
fn other(batch: &LogBatch) -> LogBatch {
    let frames = batch.frames.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte });
    LogBatch { frames: frames.collect(), ..batch.clone() }
}
