//! What it costs to bring one event to everybody in a room: through a feed and its queues until the bytes are taken
//! out for the connection, beside a server that sends each recipient a clone through a channel and encodes it there.
//!
//! `cargo bench --bench fan_out`; one thread, a message of 200 bytes. The network is in neither.
#![allow(missing_debug_implementations, clippy::unwrap_used, reason = "a bench ends when something is wrong")]

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use salon::{
    bus::{LogBatch, local::LocalBus},
    clock::{SystemClock, Timestamp},
    domain::room::{Member, Role},
    ids::{ConnectionId, RoomId, Seq, UserId},
    registry::{
        HandlerRegistry, RegistryLimits,
        feed::Feed,
        outbound::{Outbound, QueueLimits},
    },
    store::memory::MemoryStore,
    wire::{frame, join::ChunkWish, pb::room::v1 as pb},
};
use tokio::{runtime::Runtime, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const HANDLERS: [u64; 3] = [10, 100, 1000];
/// As many events as a session's queue holds by default.
const QUEUE: usize = 256;

/// A message as it is sent.
fn event(seq: u64) -> pb::ServerEvent {
    let message = pb::Message {
        message_id: "01978c4e-5f4b-7000-8000-00000000beef".into(),
        sender_id: "somebody".into(),
        sender_name: "Somebody".into(),
        content: "x".repeat(200),
        ..Default::default()
    };
    let received = pb::MessageReceived { message: Some(message) };
    pb::ServerEvent {
        payload: Some(pb::server_event::Payload::MessageReceived(received)),
        event_id: "01978c4e-5f4b-7000-8000-00000000beef".into(),
        seq,
        ..Default::default()
    }
}

/// A room in which so many listen.
fn feed(registry: &HandlerRegistry, handlers: u64) -> (Arc<Feed>, Vec<Arc<Outbound>>) {
    let feed = registry.open(&RoomId::parse(&format!("r{handlers}")).unwrap(), Seq(1));
    let enter = |n| {
        let limits = QueueLimits { events: QUEUE, bytes: 1 << 20, replies: 1024 };
        let outbound = Arc::new(Outbound::new(limits));
        let member = Member {
            id: UserId::parse(&format!("user-{n}")).unwrap(),
            name: String::new(),
            role: Role::Member,
            title: String::new(),
            avatar: String::new(),
            joined_at: Timestamp::default(),
            muted_until: None,
        };
        feed.enter(ConnectionId::next(), &member, &outbound, ChunkWish::default(), |_, delivered| {
            outbound.start(bytes::Bytes::from_static(b"state"), delivered, delivered);
        });
        assert!(take(&outbound) > 0);
        outbound
    };
    let outbounds = (0..handlers).map(enter).collect();
    (feed, outbounds)
}

/// Takes out what waits, as a connection does; how many bytes that were.
fn take(outbound: &Outbound) -> usize {
    match outbound.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(bytes))) => bytes.len(),
        _ => 0,
    }
}

fn through_feed(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let limits = RegistryLimits {
        participants_shown: 200,
        sessions_per_user: 16,
        head_check: Duration::from_secs(2),
        chunk_interval: Duration::from_millis(40),
        linger: Duration::ZERO,
        gathered_events: 64,
    };
    let stop = CancellationToken::new();
    let (store, bus) = (Arc::new(MemoryStore::new()), Arc::new(LocalBus::default()));
    let registry =
        HandlerRegistry::start(store, bus, Arc::new(SystemClock), limits, TaskTracker::new(), stop.clone());
    let mut group = criterion.benchmark_group("fan_out");
    for handlers in HANDLERS {
        let (feed, outbounds) = feed(&registry, handlers);
        let stored = frame::stored(&event(0));
        let mut seq = Seq(1);
        group.throughput(Throughput::Elements(handlers));
        group.bench_function(BenchmarkId::new("feed", handlers), |bencher| {
            bencher.iter(|| {
                seq = seq.next();
                let mut frames = BytesMut::with_capacity(frame::stored_len(&stored, seq));
                frame::put_stored(&mut frames, &stored, seq);
                let notes = Arc::new([]);
                feed.deliver(LogBatch { first: seq, last: seq, frames: frames.freeze(), notes });
                for outbound in &outbounds {
                    assert!(take(outbound) > 0);
                }
            });
        });
    }
    group.finish();
    stop.cancel();
}

fn naive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for handlers in HANDLERS {
        let mut channels: Vec<_> = (0..handlers).map(|_| mpsc::channel::<pb::ServerEvent>(QUEUE)).collect();
        let event = event(2);
        group.throughput(Throughput::Elements(handlers));
        group.bench_function(BenchmarkId::new("naive_clone_and_encode", handlers), |bencher| {
            bencher.iter(|| {
                for (sender, _) in &channels {
                    sender.try_send(event.clone()).unwrap();
                }
                for (_, receiver) in &mut channels {
                    assert!(!frame::frame(&receiver.try_recv().unwrap()).is_empty());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, through_feed, naive);
criterion_main!(benches);
