//! What every bus between nodes promises, on real servers.
//!
//! Runs where `SALON_TEST_REDIS_URL`, `SALON_TEST_REDIS_CLUSTER_URL` and `SALON_TEST_NATS_URL` name them; `.ci/buses`
//! starts some. Without one the tests that need it say on standard error that they were left out; with
//! `SALON_TEST_BUSES_REQUIRED` that is a failure.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{Bytes, BytesMut};
use salon::{
    bus::{Audience, Bus, BusMessage, Counts, LogBatch, Subscriber, Transient, TransientContent},
    ids::{RoomId, Seq},
    wire::{
        frame,
        hint::codec::{self, NodeId},
    },
};

use super::servers::{Backend, Place};
use crate::harness::until;

/// A node: its bus, and everything that arrived.
#[derive(Debug)]
struct Node {
    bus: Arc<dyn Bus>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    arrived: Mutex<Vec<(RoomId, BusMessage)>>,
    subscribed: Mutex<Vec<RoomId>>,
    interrupted: Mutex<usize>,
}

impl Subscriber for Seen {
    fn deliver(&self, room: &RoomId, message: BusMessage) {
        self.arrived.lock().unwrap().push((room.clone(), message));
    }

    fn subscribed(&self, room: &RoomId) {
        self.subscribed.lock().unwrap().push(room.clone());
    }

    fn interrupted(&self) {
        *self.interrupted.lock().unwrap() += 1;
    }
}

impl Node {
    async fn at(place: &Place) -> Self {
        let node = Self::unconnected(place).await;
        until("there is no connection", || node.bus.counts().connections > 0).await;
        node
    }

    async fn unconnected(place: &Place) -> Self {
        let (bus, seen) = (place.open().await, Arc::new(Seen::default()));
        assert!(bus.is_shared() && !bus.is_reliable());
        bus.attach(Arc::clone(&seen) as Arc<dyn Subscriber>);
        Self { bus, seen }
    }

    async fn in_room(place: &Place, name: &str) -> Self {
        let node = Self::at(place).await;
        node.subscribe(name).await;
        node
    }

    /// Subscribes, and waits until this and all that was wished before is in force.
    async fn subscribe(&self, name: &str) {
        static WISHES: AtomicUsize = AtomicUsize::new(0);
        let last = room(&format!("wish-{}", WISHES.fetch_add(1, Ordering::Relaxed)));
        self.bus.subscribe(&room(name));
        self.bus.subscribe(&last);
        let subscribed = || self.seen.subscribed.lock().unwrap().contains(&last);
        until("the subscription is not in force", subscribed).await;
    }

    fn interrupted(&self) -> usize {
        *self.seen.interrupted.lock().unwrap()
    }

    fn arrived(&self) -> Vec<(RoomId, BusMessage)> {
        self.seen.arrived.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.seen.arrived.lock().unwrap().len()
    }

    async fn has(&self, count: usize) {
        until("messages do not arrive", || self.count() >= count).await;
    }

    fn reaches(&self, seq: u64) -> bool {
        self.seen.arrived.lock().unwrap().iter().any(|(_, message)| match message {
            BusMessage::Log(batch) => batch.last.0 >= seq,
            BusMessage::Reaches(reached) => reached.0 >= seq,
            BusMessage::Transient(_) | BusMessage::Interrupt(_) => false,
        })
    }
}

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn event(seq: u64, content: &[u8]) -> BusMessage {
    let mut frames = BytesMut::new();
    frame::put_stored(&mut frames, content, Seq(seq));
    BusMessage::Log(LogBatch { first: Seq(seq), last: Seq(seq), frames: frames.freeze(), notes: [].into() })
}

fn transient(content: &[u8]) -> BusMessage {
    let mut frame = BytesMut::from(&[0][..]);
    frame.extend_from_slice(&u32::try_from(content.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(content);
    let (frame, content) = (frame.freeze(), TransientContent::Other);
    BusMessage::Transient(Transient { frame, audience: Audience::Room, content })
}

/// The `n`th of a long row of messages of both kinds.
fn message(n: u64) -> BusMessage {
    let content = format!("message {n} {}", "x".repeat(usize::try_from(n % 700).unwrap()));
    if n.is_multiple_of(3) { transient(content.as_bytes()) } else { event(n, content.as_bytes()) }
}

async fn everything_arrives_once_everywhere(place: Place) {
    let (a, b) = (Node::in_room(&place, "r").await, Node::in_room(&place, "r").await);
    let sent: Vec<_> = (1..=100).map(|n| (room("r"), message(n))).collect();
    for (n, (room, message)) in sent.iter().enumerate() {
        a.bus.publish(room, message.clone());
        assert_eq!(a.count(), n + 1, "one's own are delivered before publish returns");
    }
    b.has(100).await;
    assert_eq!(b.arrived(), sent);
    // What the server sends back of a's own would stand before this.
    b.bus.publish(&room("r"), transient(b"the end"));
    a.has(101).await;
    assert_eq!(a.arrived()[..100], sent);
    assert_eq!(a.arrived()[100], (room("r"), transient(b"the end")));
    b.bus.close().await;
    a.bus.close().await;
}

async fn only_what_is_wanted_arrives(place: Place) {
    let (a, b) = (Node::at(&place).await, Node::in_room(&place, "wanted").await);
    a.bus.publish(&room("unwanted"), message(1));
    a.bus.publish(&room("wanted"), message(2));
    b.has(1).await;
    b.bus.unsubscribe(&room("wanted"));
    b.subscribe("other").await;
    a.bus.publish(&room("wanted"), message(4));
    a.bus.publish(&room("other"), message(5));
    b.has(2).await;
    assert_eq!(b.arrived(), [(room("wanted"), message(2)), (room("other"), message(5))]);
    // And again: the order of wishes is the order of their effects.
    for _ in 0..20 {
        b.bus.subscribe(&room("wanted"));
        b.bus.unsubscribe(&room("wanted"));
    }
    b.subscribe("wanted").await;
    a.bus.publish(&room("wanted"), message(7));
    b.has(3).await;
    assert_eq!(b.arrived()[2], (room("wanted"), message(7)));
}

async fn ten_thousand_arrive_in_order(place: Place) {
    let (a, b) = (Node::at(&place).await, Node::in_room(&place, "r").await);
    for wave in 0..10 {
        for n in 1..=1000 {
            a.bus.publish(&room("r"), message(wave * 1000 + n));
        }
        b.has(usize::try_from((wave + 1) * 1000).unwrap()).await;
    }
    let sent: Vec<_> = (1..=10_000).map(|n| (room("r"), message(n))).collect();
    assert_eq!(b.arrived(), sent);
    let nothing_wrong = Counts { connections: 1, ..Counts::default() };
    assert_eq!((a.bus.counts(), b.bus.counts()), (nothing_wrong, nothing_wrong));
}

async fn many_rooms_are_subscribed_together(place: Place) {
    let (a, b) = (Node::at(&place).await, Node::at(&place).await);
    let rooms: Vec<RoomId> = (0..1500).map(|n| room(&format!("room-{n}"))).collect();
    rooms.iter().for_each(|room| b.bus.subscribe(room));
    until("not all are in force", || b.seen.subscribed.lock().unwrap().len() == rooms.len()).await;
    rooms.iter().for_each(|room| a.bus.publish(room, message(1)));
    b.has(rooms.len()).await;
    let mut arrived: Vec<RoomId> = b.arrived().into_iter().map(|(room, _)| room).collect();
    arrived.sort();
    let mut rooms = rooms;
    rooms.sort();
    assert_eq!(arrived, rooms);
}

async fn what_is_lost_is_counted_and_told_of(place: Place) {
    const FLOOD: u64 = 30_000;
    let (a, b) = (Node::at(&place).await, Node::in_room(&place, "r").await);
    let interrupted = b.interrupted();
    // Nothing waits between them, so that the queue must overflow.
    for n in 1..=FLOOD {
        a.bus.publish(&room("r"), event(n, b"x"));
    }
    // A client may drop what comes too fast for it, and says so.
    let is_told = || b.reaches(FLOOD) || b.interrupted() > interrupted;
    until("the end of the flood is not told of", is_told).await;
    let unsent = a.bus.counts().unsent;
    assert!(unsent > 0, "the queue has no bound");
    let is_event = |message: &BusMessage| matches!(message, BusMessage::Log(_));
    let events = || b.arrived().iter().filter(|(_, message)| is_event(message)).count() as u64;
    let is_known = || events() + unsent == FLOOD || b.interrupted() > interrupted;
    until("more is lost than is known of", is_known).await;
}

async fn garbage_is_dropped(place: Place) {
    let (a, b) = (Node::at(&place).await, Node::in_room(&place, "r").await);
    let whole = codec::encode(NodeId::random(), &room("r"), &message(1));
    let mut newer = whole.to_vec();
    newer[1] = 9;
    let mut damaged = whole.to_vec();
    let at = damaged.len() - 1;
    damaged[at] ^= 0xff;
    let garbage = [
        Bytes::new(),
        Bytes::from_static(b"{\"event\": \"message\"}"),
        Bytes::from(newer),
        Bytes::from(damaged),
        whole.slice(..whole.len() / 2),
        codec::encode(NodeId::random(), &room("another"), &message(1)),
    ];
    place.publish_raw("r", &garbage).await;
    until("not all of it is noticed", || b.bus.counts().refused == garbage.len() as u64).await;
    a.bus.publish(&room("r"), message(2));
    b.has(1).await;
    assert_eq!(b.arrived(), [(room("r"), message(2))]);
    place.publish_raw("r", &[whole]).await;
    b.has(2).await;
}

async fn what_is_too_large_is_told_of(place: Place) {
    let (a, b) = (Node::at(&place).await, Node::in_room(&place, "r").await);
    let large = vec![7; 6 << 20];
    a.bus.publish(&room("r"), event(41, &large));
    a.bus.publish(&room("r"), transient(&large));
    a.bus.publish(&room("r"), event(42, &vec![7; 500 << 10]));
    b.has(2).await;
    let arrived: Vec<BusMessage> = b.arrived().into_iter().map(|(_, message)| message).collect();
    assert_eq!(arrived, [BusMessage::Reaches(Seq(41)), event(42, &vec![7; 500 << 10])]);
    assert_eq!(a.bus.counts().too_large, 2);
    assert_eq!(a.bus.counts().connections_lost, 0);
}

async fn a_lost_connection_is_made_again(place: Place) {
    let (behind, network) = place.behind_a_network().await;
    let (a, b) = (Node::in_room(&place, "r").await, Node::in_room(&behind, "r").await);
    b.subscribe("left").await;
    for round in 0..3 {
        let (interrupted, before) = (b.interrupted(), b.count());
        network.cut();
        until("the loss is not noticed", || b.bus.counts().connections_lost > round).await;
        // Nobody hears of this, wishes change meanwhile, and what is not sent is known of.
        a.bus.publish(&room("r"), message(10));
        b.bus.publish(&room("r"), event(100 + round, b"from behind"));
        b.bus.subscribe(&room("new"));
        b.bus.unsubscribe(&room("left"));
        network.mend();
        until("there is no new connection", || b.interrupted() > interrupted).await;
        a.bus.publish(&room("left"), message(11));
        a.bus.publish(&room("new"), message(13));
        a.bus.publish(&room("r"), message(14));
        b.has(before + 3).await;
        let arrived = b.arrived().split_off(before + 1);
        // Rooms have no order among each other.
        assert_eq!(arrived.len(), 2, "{arrived:?}");
        assert!(arrived.contains(&(room("new"), message(13))) && arrived.contains(&(room("r"), message(14))));
        until("what waited is not sent", || a.reaches(100 + round)).await;
        b.bus.unsubscribe(&room("new"));
        b.subscribe("left").await;
    }
}

async fn a_server_may_be_away_at_the_start(place: Place) {
    let (behind, network) = place.behind_a_network().await;
    network.cut();
    let (a, b) = (Node::at(&place).await, Node::unconnected(&behind).await);
    b.bus.subscribe(&room("r"));
    b.bus.publish(&room("r"), event(1, b"here"));
    assert_eq!(b.arrived(), [(room("r"), event(1, b"here"))]);
    assert_eq!(b.interrupted(), 0);
    network.mend();
    until("it is not connected to", || b.interrupted() > 0).await;
    a.bus.publish(&room("r"), message(2));
    b.has(2).await;
    assert_eq!(b.arrived()[1], (room("r"), message(2)));
}

async fn a_wrong_password_ends_the_start(place: Place) {
    let (scheme, rest) = place.url.split_once("://").unwrap();
    let Some((_, host)) = rest.rsplit_once('@') else { panic!("the URL must have a password") };
    let wrong = Place { url: format!("{scheme}://salon:s3cret@{host}"), ..place.clone() };
    let error = wrong.try_open().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("refuses the user") && text.contains("bus.url"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    let nonsense = Place { url: "redis//s3cret:x:y".into(), ..place };
    let text = nonsense.try_open().await.unwrap_err().to_string();
    assert!(text.contains("bus.url") && !text.contains("s3cret"), "{text}");
}

macro_rules! suite {
    ($name:ident: $backend:ident, $($case:ident)*) => {
        mod $name {
            use super::{Backend};

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(place) = Backend::$backend.place() {
                        super::$case(place).await;
                    }
                }
            )*
        }
    };
}

suite! { redis: Redis,
    everything_arrives_once_everywhere
    only_what_is_wanted_arrives
    ten_thousand_arrive_in_order
    many_rooms_are_subscribed_together
    what_is_lost_is_counted_and_told_of
    garbage_is_dropped
    what_is_too_large_is_told_of
    a_lost_connection_is_made_again
    a_server_may_be_away_at_the_start
    a_wrong_password_ends_the_start
}

// Its clients are told by the servers where each is, so that no network can be put between.
suite! { redis_cluster: RedisCluster,
    everything_arrives_once_everywhere
    only_what_is_wanted_arrives
    ten_thousand_arrive_in_order
    many_rooms_are_subscribed_together
    what_is_lost_is_counted_and_told_of
    garbage_is_dropped
    what_is_too_large_is_told_of
    a_wrong_password_ends_the_start
}

suite! { nats: Nats,
    everything_arrives_once_everywhere
    only_what_is_wanted_arrives
    ten_thousand_arrive_in_order
    many_rooms_are_subscribed_together
    what_is_lost_is_counted_and_told_of
    garbage_is_dropped
    what_is_too_large_is_told_of
    a_lost_connection_is_made_again
    a_server_may_be_away_at_the_start
    a_wrong_password_ends_the_start
}
