//! What a join costs in a room that nobody has in memory, by the length of its log.
//!
//! `cargo bench --bench cold_join`. The rooms lie side by side in one file and were written by the server's own
//! rooms, so that their snapshots are where a server leaves them; those of the long rooms are as old as they can get.
//! Each join has a store that was just opened and rooms that were never loaded, and ends with the bytes of the
//! `room_state` at hand; the file is in the memory of the operating system. The user is a member who has read nothing.
#![allow(
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a bench ends when something is wrong, and tells what it has built"
)]

use std::{
    path::Path,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use salon::{
    bus::local::LocalBus,
    clock::SystemClock,
    config::Config,
    domain::{
        command::{Actor, Command, JoinProfile, MessageInput},
        event::NewRoom,
        limits::Limits,
        room::{Profile, Visibility},
    },
    ids::{ConnectionId, RoomId, UserId},
    nodes::Identity,
    registry::{
        HandlerRegistry, RegistryLimits,
        outbound::{Outbound, QueueLimits},
    },
    rooms::{Rooms, RoomsLimits, task::Charge},
    store::{
        self, Store,
        config::{Durability, StoreConfig, StoreKind},
    },
    wire::join::{ChunkWish, Join},
};
use tokio::runtime::Runtime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const LENGTHS: [u64; 3] = [100, 10_000, 1_000_000];
/// Commands on their way while a room is written; a room lets 1024 wait.
const WRITERS: usize = 1000;

/// Everything below the sessions, as a process has it that has just started.
struct Process {
    store: Arc<dyn Store>,
    rooms: Rooms,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Process {
    fn start(directory: &Path) -> Self {
        let config = StoreConfig {
            kind: StoreKind::Sqlite,
            path: directory.join("salon.db"),
            durability: Durability::Os,
            ..StoreConfig::default()
        };
        // A file is opened without waiting for anything.
        let (store, bus) =
            (store::open::open(&config).now_or_never().unwrap().unwrap(), Arc::new(LocalBus::default()));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let limits = RegistryLimits {
            participants_shown: 200,
            sessions_per_user: 16,
            head_check: Duration::from_secs(2),
            chunk_interval: Duration::from_millis(40),
            linger: Duration::ZERO,
            gathered_events: 64,
        };
        let registry = HandlerRegistry::start(
            Arc::clone(&store),
            bus,
            Arc::new(SystemClock),
            limits,
            tasks.clone(),
            stop.clone(),
        );
        let limits = RoomsLimits {
            domain: Limits::default(),
            queue: 1024,
            snapshot_every: snapshot_every(),
            idle_unload: Duration::from_secs(60),
            participants_shown: 200,
            heartbeat: Duration::from_secs(30),
            chained: false,
        };
        let clock = Arc::new(SystemClock);
        let rooms = Rooms::new(
            Arc::clone(&store),
            registry,
            clock,
            Identity::new(),
            limits,
            tasks.clone(),
            stop.clone(),
        );
        Self { store, rooms, tasks, stop }
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await.unwrap();
    }
}

/// As in the shipped configuration.
fn snapshot_every() -> u64 {
    Config::default().rooms.snapshot_every
}

fn room(length: u64) -> RoomId {
    RoomId::parse(&format!("room-{length}")).unwrap()
}

fn ann() -> UserId {
    UserId::parse("ann").unwrap()
}

fn profile() -> JoinProfile {
    JoinProfile { name: "Ann".into(), ..JoinProfile::default() }
}

async fn say(rooms: &Rooms, room: &RoomId, n: u64) {
    let input = MessageInput {
        content: format!("message {n:0190}"),
        content_type: String::new(),
        reply_to: None,
        mentions: Vec::new(),
    };
    let actor = Actor::User(UserId::parse("bob").unwrap());
    rooms.submit(room, actor, Command::SendMessage(input)).await.unwrap();
}

async fn tail(process: &Process, room: &RoomId) -> u64 {
    let snapshot = process.store.snapshot(room).await.unwrap().map_or(0, |snapshot| snapshot.seq.0);
    process.store.head(room).await.unwrap().unwrap().seq.0 - snapshot
}

/// Writes a room of about this length, whose newest snapshot, if it has one, is as old as it can be.
async fn build(process: &Process, length: u64) {
    let (rooms, id) = (&process.rooms, room(length));
    let profile_of_room = Profile {
        name: "Room".into(),
        description: String::new(),
        visibility: Visibility::Public,
        settings: Default::default(),
    };
    let new = NewRoom { id: id.clone(), profile: profile_of_room, created_by: None, llms: Vec::new() };
    rooms.create(new).await.unwrap();
    for user in ["ann", "bob"] {
        let actor = Actor::User(UserId::parse(user).unwrap());
        rooms.submit(&id, actor, Command::Join(profile())).await.unwrap();
    }
    let begun = process.store.head(&id).await.unwrap().unwrap().seq.0;
    let begin = Instant::now();
    let saying = stream::iter(begun..length).map(|n| say(rooms, &id, n));
    saying.buffer_unordered(WRITERS).for_each(|()| std::future::ready(())).await;
    if length > snapshot_every() {
        // A snapshot that is being written counts when it is there.
        while tail(process, &id).await != snapshot_every() - 1 {
            say(rooms, &id, 0).await;
        }
    }
    let head = process.store.head(&id).await.unwrap().unwrap().seq;
    let behind = tail(process, &id).await;
    eprintln!("{id}: {head} events, {behind} behind the snapshot, in {:.1?}", begin.elapsed());
}

/// One join in a process that has just started.
async fn join(directory: &Path, length: u64) -> Duration {
    let process = Process::start(directory);
    let limits = QueueLimits { events: 256, bytes: 1 << 20, replies: 1024 };
    let outbound = Arc::new(Outbound::new(limits));
    let join = Join {
        room_id: room(length),
        user_id: ann(),
        profile: profile(),
        after: None,
        chunks: ChunkWish::default(),
    };
    let begin = Instant::now();
    let joined = process
        .rooms
        .join(join, None, ConnectionId::next(), Arc::clone(&outbound), Charge::new(|_| Ok(())))
        .await
        .unwrap();
    let first = outbound.poll_next(&mut Context::from_waker(Waker::noop()));
    let took = begin.elapsed();
    assert!(matches!(first, Poll::Ready(Some(Ok(state))) if state.len() > 10_000));
    drop(joined);
    process.end().await;
    took
}

fn cold_join(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let process = Process::start(directory.path());
        for length in LENGTHS {
            build(&process, length).await;
        }
        process.end().await;
    });
    let mut group = criterion.benchmark_group("cold_join");
    group.sample_size(20);
    for length in LENGTHS {
        group.bench_function(BenchmarkId::new("events", length), |bencher| {
            bencher.iter_custom(|joins| {
                runtime.block_on(async {
                    let mut took = Duration::ZERO;
                    for _ in 0..joins {
                        took += join(directory.path(), length).await;
                    }
                    took
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cold_join);
criterion_main!(benches);
