//! What a bus promises, for every backend; and that nothing rests on more: over one that drops, repeats and reorders
//! every session still sees every lasting event once, in order.

#[cfg(all(feature = "nats", feature = "redis"))]
mod nodes;
#[cfg(all(feature = "nats", feature = "redis"))]
pub mod servers;
#[cfg(all(feature = "nats", feature = "redis"))]
mod shared;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use salon::{
    bus::{
        Audience, Bus, BusMessage, LogBatch, Subscriber, Transient, TransientContent,
        local::LocalBus,
        lossy::{Faults, LossyBus},
    },
    ids::{RoomId, Seq},
    wire::pb::room::v1::{self as pb, server_event::Payload},
};
use tokio::task::JoinSet;

use crate::harness::{Session, Setup, TestServer, session::is_lasting};

const NO_FAULTS: Faults = Faults { drop: 0, repeat: 0, delay: 0 };
const MANY_FAULTS: Faults = Faults { drop: 50, repeat: 50, delay: 100 };
const ALL_LOST: Faults = Faults { drop: 255, repeat: 255, delay: 255 };

/// Keeps what arrives.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<(RoomId, Bytes)>>);

impl Subscriber for Recorder {
    fn deliver(&self, room: &RoomId, message: BusMessage) {
        let bytes = match message {
            BusMessage::Log(batch) => batch.frames,
            BusMessage::Transient(transient) => transient.frame,
            BusMessage::Reaches(seq) => format!("reaches {seq}").into(),
            BusMessage::Interrupt(interrupt) => format!("{interrupt:?}").into(),
        };
        self.0.lock().unwrap().push((room.clone(), bytes));
    }

    fn subscribed(&self, _: &RoomId) {}

    fn interrupted(&self) {}
}

impl Recorder {
    fn attached(bus: &dyn Bus) -> Arc<Self> {
        let recorder = Arc::new(Self::default());
        bus.attach(Arc::clone(&recorder) as Arc<dyn Subscriber>);
        recorder
    }

    fn taken(&self) -> Vec<(RoomId, Bytes)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn room(n: usize) -> RoomId {
    RoomId::parse(&format!("room-{n}")).unwrap()
}

/// The `n`th message: of both kinds, in three rooms.
fn message(n: usize) -> (RoomId, BusMessage) {
    let frame = Bytes::from(format!("message {n}"));
    let message = if n.is_multiple_of(2) {
        let seq = Seq(1 + n as u64);
        BusMessage::Log(LogBatch { first: seq, last: seq, frames: frame, notes: [].into() })
    } else {
        let content = TransientContent::Other;
        BusMessage::Transient(Transient { frame, audience: Audience::Room, content })
    };
    (room(n % 3), message)
}

fn published(count: usize) -> Vec<(RoomId, Bytes)> {
    (0..count).map(|n| (room(n % 3), Bytes::from(format!("message {n}")))).collect()
}

fn publish(bus: &dyn Bus, count: usize) {
    for n in 0..count {
        let (room, message) = message(n);
        bus.publish(&room, message);
    }
}

/// The contract, by everything that a caller can see of it.
fn conforms(make: &dyn Fn() -> Box<dyn Bus>) {
    const COUNT: usize = 500;
    // Nobody listens: nothing is waited for.
    publish(make().as_ref(), COUNT);

    let bus = make();
    assert!(!bus.name().is_empty() && !bus.is_shared());
    let recorder = Recorder::attached(bus.as_ref());
    publish(bus.as_ref(), COUNT);
    let (sent, arrived) = (published(COUNT), recorder.taken());
    // Whatever arrives was sent, to that room and in those bytes.
    assert!(arrived.iter().all(|message| sent.contains(message)));
    if bus.is_reliable() {
        assert_eq!(arrived, sent, "each once, in order, before publish returned");
    }

    let bus = make();
    let recorder = Recorder::attached(bus.as_ref());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| publish(bus.as_ref(), COUNT));
        }
    });
    let arrived = recorder.taken();
    assert!(arrived.iter().all(|message| sent.contains(message)));
    if bus.is_reliable() {
        for message in &sent {
            assert_eq!(arrived.iter().filter(|other| *other == message).count(), 4);
        }
    }
    publishes_within_a_delivery(&make().into());
}

/// A subscriber that publishes while it is delivered to, as a room that reacts would.
fn publishes_within_a_delivery(bus: &Arc<dyn Bus>) {
    #[derive(Debug)]
    struct Echo(Arc<dyn Bus>, Recorder);
    impl Subscriber for Echo {
        fn deliver(&self, room: &RoomId, message: BusMessage) {
            let first = self.1.0.lock().unwrap().is_empty();
            self.1.deliver(room, message.clone());
            if first {
                self.0.publish(room, message);
            }
        }

        fn subscribed(&self, _: &RoomId) {}

        fn interrupted(&self) {}
    }
    let echo = Arc::new(Echo(Arc::clone(bus), Recorder::default()));
    bus.attach(Arc::clone(&echo) as Arc<dyn Subscriber>);
    publish(bus.as_ref(), 1);
    if bus.is_reliable() {
        assert_eq!(echo.1.taken().len(), 2);
    }
}

#[test]
fn the_local_bus_conforms() {
    conforms(&|| Box::new(LocalBus::default()));
    assert!(LocalBus::default().is_reliable());
}

#[test]
fn the_lossy_bus_conforms_however_lossy_it_is() {
    for seed in 0..5 {
        for faults in [NO_FAULTS, MANY_FAULTS, ALL_LOST] {
            conforms(&|| Box::new(LossyBus::new(seed, faults)));
        }
    }
    assert!(!LossyBus::new(1, NO_FAULTS).is_reliable());
}

#[test]
fn the_lossy_bus_drops_repeats_and_reorders_as_its_seed_says() {
    let arrived = |seed, faults| {
        let bus = LossyBus::new(seed, faults);
        let recorder = Recorder::attached(&bus);
        publish(&bus, 300);
        recorder.taken()
    };
    let sent = published(300);
    assert_eq!(arrived(1, NO_FAULTS), sent);
    for seed in 1..6 {
        let seen = arrived(seed, MANY_FAULTS);
        assert_eq!(seen, arrived(seed, MANY_FAULTS));
        let position = |message| sent.iter().position(|other| other == message).unwrap();
        let times = |message| seen.iter().filter(|other| *other == message).count();
        assert!(sent.iter().any(|message| times(message) == 0), "seed {seed} drops nothing");
        assert!(sent.iter().any(|message| times(message) == 2), "seed {seed} repeats nothing");
        assert!(sent.iter().all(|message| times(message) <= 2));
        let in_order = seen.windows(2).all(|two| position(&two[0]) <= position(&two[1]));
        assert!(!in_order, "seed {seed} reorders nothing");
    }
    assert_ne!(arrived(1, MANY_FAULTS), arrived(4, MANY_FAULTS));
    assert!(arrived(1, ALL_LOST).len() < 30);
}

/// A session that must have seen everything behind its start, exactly as it is in the log.
async fn has_seen_everything(server: &TestServer, room: &str, mut session: Session, last: u64) {
    let seen = session.lasting_until(last).await;
    let log = server.log(room).await;
    let wanted: Vec<_> = log.iter().filter(|event| event.seq > session.seq && event.seq <= last).collect();
    let positions = |events: &[&pb::ServerEvent]| events.iter().map(|event| event.seq).collect::<Vec<_>>();
    let seen: Vec<_> = seen.iter().collect();
    assert_eq!(positions(&seen), positions(&wanted), "{}", session.user);
    assert_eq!(seen, wanted, "{}", session.user);
}

/// A room full of talk, with an LLM in it and people who come and go, over `bus`.
async fn a_room_is_whole_over(bus: LossyBus) {
    const WRITERS: usize = 3;
    const MESSAGES: usize = 60;
    let setup = Setup::default().bus(bus).config(|config| config.bus.head_check = Duration::from_millis(100));
    let server = Arc::new(setup.start().await);
    let room = server.room(&["bot"]).await;
    let reader = server.join(&room, "reader").await;
    let mut watcher = server.join(&room, "watcher").await;
    let mut writers = JoinSet::new();
    for w in 0..WRITERS {
        let (server, room) = (Arc::clone(&server), room.clone());
        writers.spawn(async move {
            let mut writer = server.join(&room, &format!("writer-{w}")).await;
            for n in 0..MESSAGES {
                writer.talk(&format!("{w} {n}")).await;
            }
            writer
        });
    }
    let mut late = Vec::new();
    for n in 0..5 {
        late.push(server.join(&room, &format!("late-{n}")).await);
        drop(server.join(&room, &format!("short-{n}")).await);
    }
    let mut everybody = writers.join_all().await;
    let asked = watcher.talk("@bot what do you think?").await;
    watcher
        .find(
            |event| matches!(&event.payload, Some(Payload::LlmDone(done)) if done.reply_to == asked.event_id),
        )
        .await;
    let last = watcher.talk("the end").await.seq;
    everybody.extend(late);
    everybody.push(reader);
    for session in everybody {
        has_seen_everything(&server, &room, session, last).await;
    }
    let after = last / 2;
    let mut resumed = Session::resume(server.client().await, &room, "reader", after).await;
    assert!(!is_lasting(&resumed.next().await));
    resumed.seq = after;
    has_seen_everything(&server, &room, resumed, last).await;
    Arc::into_inner(server).unwrap().shutdown().await;
}

#[tokio::test]
async fn every_session_sees_everything_once_and_in_order_over_a_lossy_bus() {
    for seed in 1..=6 {
        a_room_is_whole_over(LossyBus::new(seed, MANY_FAULTS)).await;
    }
}

#[tokio::test]
async fn when_the_bus_loses_nearly_everything_the_store_still_tells() {
    a_room_is_whole_over(LossyBus::new(7, ALL_LOST)).await;
    a_room_is_whole_over(LossyBus::new(8, Faults { drop: 0, repeat: 255, delay: 255 })).await;
}
