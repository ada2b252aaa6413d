//! What a delivery takes from the allocator, all the way from the bus to the bytes that a connection takes out: something
//! for each event, and nothing for each who gets it.
//!
//! Every test of this crate runs on the counting allocator, which counts by thread and leaves the rest to the system's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    bus::{Audience, Bus, BusMessage, LogBatch, Note, Transient, TransientContent, local::LocalBus},
    clock::{SystemClock, Timestamp},
    domain::{
        llm::{ActiveAnswer, LiveAnswer},
        room::{Member, Role},
    },
    ids::{ConnectionId, LlmId, MessageId, RoomId, Seq, UserId},
    registry::{HandlerRegistry, RegistryLimits, outbound::QueueLimits},
    store::memory::MemoryStore,
    wire::{join::ChunkWish, transient},
};

const FEW: usize = 10;
const MANY: usize = 1000;
/// Events that wait for a slow connection.
const WAITING: u64 = 8;
const ANSWER: MessageId = MessageId(uuid::Uuid::from_u128(7));

/// A room in which so many listen, and wait to be woken.
struct House {
    room: RoomId,
    bus: Arc<LocalBus>,
    bodies: Vec<SessionBody>,
    woken: Arc<Woken>,
    waker: Waker,
    at: Seq,
    _registry: Arc<HandlerRegistry>,
}

/// Counts how often a connection was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl House {
    fn new(listeners: usize) -> Self {
        let limits = RegistryLimits {
            participants_shown: MANY,
            sessions_per_user: 16,
            head_check: Duration::from_secs(2),
            chunk_interval: Duration::ZERO,
            linger: Duration::ZERO,
            gathered_events: 64,
        };
        let (room, bus, tasks) =
            (RoomId::parse("house").unwrap(), Arc::new(LocalBus::default()), TaskTracker::new());
        let shared: Arc<dyn Bus> = Arc::clone(&bus) as Arc<dyn Bus>;
        let (store, stop) = (Arc::new(MemoryStore::new()), CancellationToken::new());
        let registry =
            HandlerRegistry::start(store, shared, Arc::new(SystemClock), limits, tasks.clone(), stop);
        let feed = registry.open(&room, Seq(1));
        let enter = |listener| {
            let queue = QueueLimits { events: 1000, bytes: 1 << 20, replies: 4 };
            let outbound = Arc::new(Outbound::new(queue));
            let member = member(&format!("user-{listener}"));
            let wish = ChunkWish::default();
            feed.enter(ConnectionId::next(), &member, &outbound, wish, |_, delivered| {
                outbound.start(Bytes::from_static(b"state"), delivered, delivered);
            });
            SessionBody::new(outbound, tasks.token())
        };
        let bodies = (0..listeners).map(enter).collect();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut house = Self { room, bus, bodies, woken, waker, at: Seq(1), _registry: registry };
        house.take_all();
        house
    }

    fn publish(&self, message: BusMessage) {
        self.bus.publish(&self.room, message);
    }

    fn log(&mut self, notes: &[Note]) {
        self.at = self.at.next();
        let frames = Bytes::from_static(&[b'x'; 300]);
        self.publish(BusMessage::Log(LogBatch {
            first: self.at,
            last: self.at,
            frames,
            notes: notes.into(),
        }));
    }

    /// Every connection takes out what waits; how many bytes that were.
    fn take_all(&mut self) -> usize {
        let mut bytes = 0;
        for body in &mut self.bodies {
            let mut context = Context::from_waker(&self.waker);
            while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(&mut context) {
                bytes += frame.data_ref().map_or(0, Bytes::len);
            }
        }
        bytes
    }
}

fn member(name: &str) -> Member {
    Member {
        id: UserId::parse(name).unwrap(),
        name: String::new(),
        role: Role::Member,
        title: String::new(),
        avatar: String::new(),
        joined_at: Timestamp::default(),
        muted_until: None,
    }
}

fn answer() -> LiveAnswer {
    LiveAnswer {
        message_id: ANSWER,
        llm_id: LlmId::parse("ada").unwrap(),
        reply_to: ANSWER,
        text: String::new(),
        started_at: Timestamp::default(),
    }
}

/// Brings something to everybody, in a round that counts from 1.
type Deliver = fn(&mut House, usize);

/// One event is stored.
fn event(house: &mut House, _: usize) {
    house.log(&[]);
}

/// Several are, before any connection comes to send.
fn events(house: &mut House, _: usize) {
    for _ in 0..WAITING {
        house.log(&[]);
    }
}

/// An answer goes on.
fn chunk(house: &mut House, round: usize) {
    const TEXT: &str = "a few words more ";
    let offset = (round - 1) * TEXT.len();
    let frame = transient::chunk(&answer(), offset, TEXT);
    let content = TransientContent::Chunk { message_id: ANSWER, offset, text: TEXT.to_owned() };
    house.publish(BusMessage::Transient(Transient { frame, audience: Audience::Room, content }));
}

/// Something is told that nobody stores.
fn other(house: &mut House, _: usize) {
    let audience = Audience::Others(UserId::parse("somebody-else").unwrap());
    let frame = Bytes::from_static(b"typing");
    house.publish(BusMessage::Transient(Transient { frame, audience, content: TransientContent::Other }));
}

/// How often the allocator was asked in each round, the first of which are to warm up.
fn asked(listeners: usize, deliver: Deliver) -> Vec<u64> {
    let mut house = House::new(listeners);
    house.log(&[Note::RunStarted(ActiveAnswer { answer: answer(), seq: house.at })]);
    house.take_all();
    let round = |round| {
        let before = house.woken.0.swap(0, Ordering::Relaxed);
        assert_eq!(before, if round == 1 { listeners } else { 0 });
        let mut bytes = 0;
        let info = allocation_counter::measure(|| {
            deliver(&mut house, round);
            bytes = house.take_all();
        });
        assert_eq!(house.woken.0.swap(0, Ordering::Relaxed), listeners, "each is woken once");
        assert!(bytes >= listeners && bytes % listeners == 0, "each was given the same");
        info.count_total
    };
    (1..=20).map(round).skip(10).collect()
}

#[tokio::test]
async fn nothing_is_allocated_for_each_who_gets_an_event() {
    let ways: [(&str, Deliver); 4] =
        [("event", event), ("events that waited", events), ("chunk", chunk), ("other", other)];
    for (name, deliver) in ways {
        let (few, many) = (asked(FEW, deliver), asked(MANY, deliver));
        assert_eq!(few, many, "{name}: what {FEW} and {MANY} listeners cost");
    }
}
