//! What an append costs, by how many callers wait at once, beside what the engine can do at best: the same rows in the
//! same tables, written by one who has all of them at hand and commits so many at a time.
//!
//! `cargo bench --bench append`; the figures are appends, each of one event of 200 bytes to one of 1000 rooms. Stores that
//! need a server are measured where their URL is set: `.ci/stores -- cargo bench --bench append` measures all, DynamoDB
//! by a stand-in that says little of the service.
#![allow(
    missing_debug_implementations,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench ends when something is wrong"
)]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rusqlite::{Connection, params};
use salon::{
    clock::Timestamp,
    domain::{
        event::{DirectoryChange, Kind},
        room::Visibility,
    },
    ids::{EventId, NodeId, RequestId, RoomId, Seq, UserId},
    store::{
        self, Append, Idempotency, NewRecord, Outcome, Store,
        config::{Durability, StoreConfig, StoreKind, StoreUrl},
    },
};
use tokio::{runtime::Runtime, task::JoinSet};
use uuid::Uuid;

/// Rooms that are written to in turn.
const ROOMS: u64 = 1000;

/// Callers at once, and rows in a transaction of the comparison.
const CALLERS: [u64; 3] = [1, 16, 256];

/// Of what a text event has.
const EVENT_BYTES: usize = 200;

fn room(n: u64) -> RoomId {
    RoomId::parse(&format!("r{}", n % ROOMS)).unwrap()
}

/// The `n`th message; `n` is never used twice within a store.
fn message(n: u64) -> NewRecord {
    // The upper half grows as that of a real id does, which is what the index of subjects sees.
    let id = Uuid::from_u64_pair(n, n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    NewRecord {
        event_id: EventId(id),
        at: Timestamp(1_700_000_000_000),
        kind: Kind::Message,
        sender: Some(UserId::parse("somebody").unwrap()),
        subject: Some(id),
        moves_fence: false,
        public: vec![b'x'; EVENT_BYTES].into(),
        private: bytes::Bytes::new(),
    }
}

fn append(n: u64, with_request_id: bool) -> Append {
    let idempotency = with_request_id.then(|| Idempotency {
        sender: UserId::parse("somebody").unwrap(),
        request_id: RequestId::parse(&Uuid::from_u64_pair(n.wrapping_mul(0x9E37_79B9), n).to_string())
            .unwrap(),
        body_hash: n,
    });
    Append {
        records: vec![message(n)],
        fence: None,
        idempotency,
        directory: Vec::new(),
        node: NodeId::NOBODY,
    }
}

/// A store with its rooms.
async fn with_rooms(config: &StoreConfig) -> Arc<dyn Store> {
    let store = store::open::open(config).await.unwrap();
    let mut creating = JoinSet::new();
    for n in 0..ROOMS {
        let store = Arc::clone(&store);
        let directory = vec![DirectoryChange::Room { visibility: Visibility::Public, created_by: None }];
        let creation = Append { fence: Some(Seq::ZERO), directory, ..append(u64::MAX - n, false) };
        creating.spawn(async move { store.append(&room(n), vec![creation]).await.unwrap() });
    }
    creating.join_all().await;
    store
}

/// How long `callers` need for `appends` appends; each waits for an answer before its next.
async fn call(
    store: &Arc<dyn Store>,
    next: &Arc<AtomicU64>,
    callers: u64,
    appends: u64,
    keyed: bool,
) -> Duration {
    let last = next.load(Ordering::Relaxed) + appends;
    let begin = Instant::now();
    let mut calling = JoinSet::new();
    for _ in 0..callers {
        let (store, next) = (Arc::clone(store), Arc::clone(next));
        calling.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= last {
                    return;
                }
                let outcomes = store.append(&room(n), vec![append(n, keyed)]).await.unwrap();
                assert!(matches!(outcomes[0], Outcome::Appended(_)));
            }
        });
    }
    calling.join_all().await;
    begin.elapsed()
}

fn config(directory: &Path, kind: StoreKind, durability: Durability) -> StoreConfig {
    StoreConfig { kind, path: directory.join("salon.db"), durability, ..StoreConfig::default() }
}

/// The server of a store; `None`: there is none, and it is left out.
fn server(kind: StoreKind) -> Option<StoreUrl> {
    let variable = match kind {
        StoreKind::Memory | StoreKind::Sqlite => return None,
        StoreKind::Postgres => "SALON_TEST_POSTGRES_URL",
        // Not that of the tests: what stands in for the service there is no measure of it, and not fit for this load.
        StoreKind::Dynamodb => "SALON_BENCH_DYNAMODB_URL",
    };
    std::env::var(variable).ok().filter(|url| !url.is_empty()).map(StoreUrl::new)
}

/// A place in a server that nobody else uses.
fn remote(kind: StoreKind, url: StoreUrl) -> StoreConfig {
    static PLACES: AtomicU64 = AtomicU64::new(0);
    let name = format!("bench_{}_{}", std::process::id(), PLACES.fetch_add(1, Ordering::Relaxed));
    StoreConfig {
        kind,
        url: Some(url),
        schema: name.clone(),
        table: name,
        region: Some("us-east-1".to_owned()),
        pool_size: 16,
        ..StoreConfig::default()
    }
}

fn stores(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    for (name, kind, durability, keyed) in [
        ("memory", StoreKind::Memory, Durability::Os, false),
        ("sqlite_os", StoreKind::Sqlite, Durability::Os, false),
        ("sqlite_fsync", StoreKind::Sqlite, Durability::Fsync, false),
        ("sqlite_fsync_with_request_id", StoreKind::Sqlite, Durability::Fsync, true),
        ("postgres", StoreKind::Postgres, Durability::Fsync, false),
        ("postgres_with_request_id", StoreKind::Postgres, Durability::Fsync, true),
        ("dynamodb", StoreKind::Dynamodb, Durability::Fsync, false),
    ] {
        let server = server(kind);
        if server.is_none() && !matches!(kind, StoreKind::Memory | StoreKind::Sqlite) {
            continue;
        }
        for callers in CALLERS {
            let directory = tempfile::tempdir().unwrap();
            let config = match &server {
                Some(url) => remote(kind, url.clone()),
                None => config(directory.path(), kind, durability),
            };
            runtime.block_on(store::open::set_up(&config)).unwrap();
            let store = runtime.block_on(with_rooms(&config));
            let next = Arc::new(AtomicU64::new(0));
            group.bench_function(BenchmarkId::new(name, callers), |bencher| {
                bencher.iter_custom(|appends| runtime.block_on(call(&store, &next, callers, appends, keyed)));
            });
            runtime.block_on(store.close()).unwrap();
        }
    }
    group.finish();
}

/// Writes `rows` rows, `batch` in a transaction, and the ends of the logs as the store does.
fn insert(connection: &mut Connection, next: &mut u64, batch: u64, rows: u64) -> Duration {
    let begin = Instant::now();
    let last = *next + rows;
    while *next < last {
        let transaction = connection.transaction().unwrap();
        {
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO events (room, seq, kind, at, event_id, sender, subject, public, private)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )
                .unwrap();
            let mut update = transaction.prepare_cached("UPDATE rooms SET head = ?2 WHERE rid = ?1").unwrap();
            for n in *next..last.min(*next + batch) {
                let message = message(n);
                let (rid, seq) = ((n % ROOMS + 1).cast_signed(), (n / ROOMS + 2).cast_signed());
                let sender = message.sender.as_ref().map(UserId::as_str);
                let id = message.event_id.0.as_bytes();
                insert
                    .execute(params![rid, seq, 1, message.at.0, id, sender, id, &*message.public, &[0_u8; 0]])
                    .unwrap();
                update.execute([rid, seq]).unwrap();
            }
        }
        transaction.commit().unwrap();
        *next = last.min(*next + batch);
    }
    begin.elapsed()
}

fn raw(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("raw_insert");
    group.throughput(Throughput::Elements(1));
    for (name, durability, synchronous) in
        [("os", Durability::Os, "NORMAL"), ("fsync", Durability::Fsync, "FULL")]
    {
        for batch in CALLERS {
            let directory = tempfile::tempdir().unwrap();
            let config = config(directory.path(), StoreKind::Sqlite, durability);
            runtime.block_on(async { with_rooms(&config).await.close().await }).unwrap();
            let mut connection = Connection::open(&config.path).unwrap();
            connection.pragma_update(None, "synchronous", synchronous).unwrap();
            connection.pragma_update(None, "cache_size", -65_536).unwrap();
            connection.query_row("PRAGMA wal_autocheckpoint = 16384", [], |_| Ok(())).unwrap();
            let mut next = 0;
            group.bench_function(BenchmarkId::new(name, batch), |bencher| {
                bencher.iter_custom(|rows| insert(&mut connection, &mut next, batch, rows));
            });
        }
    }
    group.finish();
}

/// Writes `rows` rows in statements of `batch`, and the ends of the logs as the store does, each by itself committed.
async fn insert_remote(client: &tokio_postgres::Client, next: &mut i64, batch: u64, rows: u64) -> Duration {
    let (batch, rows) = (batch.cast_signed(), rows.cast_signed());
    let statement = client
        .prepare(
            "WITH ids AS (SELECT n, (n % 1000 + 1)::bigint AS rid, n / 1000 + 2 AS at FROM generate_series($1::bigint, $2) n),
                  ends AS (UPDATE rooms SET head = at FROM
                      (SELECT rid, max(at) AS at FROM ids GROUP BY rid ORDER BY rid) last WHERE rooms.rid = last.rid)
             INSERT INTO events (room, seq, message_seq, at, event_id, subject, kind, sender, public, private)
             SELECT rid, at, at, 1700000000000, id, id, 1, 'somebody', convert_to(repeat('x', 200), 'UTF8'), ''
               FROM (SELECT rid, at, (lpad(to_hex(n), 16, '0') || left(md5(n::text), 16))::uuid AS id FROM ids) all_of_them",
        )
        .await
        .unwrap();
    let begin = Instant::now();
    let last = *next + rows;
    while *next < last {
        let end = last.min(*next + batch);
        client.execute(&statement, &[&*next, &(end - 1)]).await.unwrap();
        *next = end;
    }
    begin.elapsed()
}

fn raw_remote(criterion: &mut Criterion) {
    let Some(url) = server(StoreKind::Postgres) else { return };
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("raw_insert");
    group.throughput(Throughput::Elements(1));
    for batch in CALLERS {
        let config = remote(StoreKind::Postgres, url.clone());
        runtime.block_on(async { with_rooms(&config).await.close().await }).unwrap();
        let plain = std::env::var("SALON_TEST_POSTGRES_URL").unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&plain, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(&format!("SET search_path = {}", config.schema)).await.unwrap();
            client
        });
        let mut next = 0;
        group.bench_function(BenchmarkId::new("postgres", batch), |bencher| {
            bencher.iter_custom(|rows| runtime.block_on(insert_remote(&client, &mut next, batch, rows)));
        });
    }
    group.finish();
}

criterion_group!(benches, stores, raw, raw_remote);
criterion_main!(benches);
