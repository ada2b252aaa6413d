//! Connections that are cut: what became of an append is found out, never guessed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use salon::{
    ids::{RequestId, RoomId},
    store::{
        self, Append, ErrorKind, Outcome, Store,
        config::{StoreConfig, StoreUrl},
    },
};

use tokio::time::Instant;
use tokio_postgres::NoTls;

use super::{Parts, Schema};
use crate::{
    harness::DEADLINE,
    store_conformance::proxy::{Proxy, Way},
    store_conformance::support::{
        appended, assert_no_holes, created, keyed, log, message, outcome, plain, texts, user,
    },
};

/// How far apart the cuts are that are tried.
const STRIDE: usize = 13;

/// A schema, a store behind a network of its own, and one beside it.
struct World {
    schema: Schema,
    proxy: Proxy,
    through: Arc<dyn Store>,
    beside: Arc<dyn Store>,
    room: RoomId,
}

impl World {
    async fn new(timeout: Duration) -> Option<Self> {
        let schema = Schema::new().await?;
        let parts = Parts::of(&schema.url);
        let address =
            tokio::net::lookup_host((parts.host.as_str(), parts.port)).await.unwrap().next().unwrap();
        let proxy = Proxy::start(address).await;
        let beside = store::open::open(&schema.config()).await.unwrap();
        let config = StoreConfig {
            url: Some(StoreUrl::new(parts.at(proxy.address).url())),
            pool_size: 1,
            timeout,
            ..schema.config()
        };
        let through = store::open::open(&config).await.unwrap();
        let room = created(&through, "r").await;
        Some(Self { schema, proxy, through, beside, room })
    }

    async fn end(self) {
        self.through.close().await.unwrap();
        self.beside.close().await.unwrap();
        self.schema.drop().await;
    }

    /// How often this text is in the log.
    async fn count(&self, text: &str) -> usize {
        texts(&log(&self.beside, &self.room).await).iter().filter(|found| *found == text).count()
    }
}

/// Three events of one size, whatever `n` is.
fn three(n: usize) -> (String, Append) {
    let text = format!("{n:06}");
    let records = (0..3).map(|_| message("ann", &text)).collect();
    let append = keyed(plain(records), "ann", &text, 1);
    (text, append)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_connection_is_cut_at_any_byte_is_whole_or_absent_and_is_repeated_once() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let World { proxy, through, room, .. } = &world;
    let mut n = 0;
    appended(through, room, three(n).1).await;
    let before = proxy.bytes();
    n += 1;
    appended(through, room, three(n).1).await;
    let after = proxy.bytes();
    let sizes = [(Way::ToServer, after.0 - before.0), (Way::ToStore, after.1 - before.1)];
    let (mut whole, mut absent) = (0, 0);
    for (way, size) in sizes {
        assert!(size > 60, "{way:?} {size}");
        for at in (0..size).step_by(STRIDE).chain([size - 1]) {
            n += 1;
            let (text, append) = three(n);
            // So that the cut is in the append and not in connecting for it.
            through.head(room).await.unwrap();
            proxy.cut_after(way, at);
            let error = through.append(room, vec![append.clone()]).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable, "{way:?} {at}: {error}");
            assert!(!proxy.take_back(), "{way:?} {at}: it was cut");

            let found = world.count(&text).await;
            let request = RequestId::parse(&text).unwrap();
            let known = through.request(room, &user("ann"), &request).await.unwrap();
            match (found, known) {
                (3, Some(_)) => whole += 1,
                // The server may have been at it while it was looked for.
                (0, _) => absent += 1,
                other => panic!("{way:?} {at}: {other:?}"),
            }
            let again = outcome(through, room, append).await;
            assert!(matches!(again, Outcome::Appended(_) | Outcome::Duplicate(_)), "{again:?}");
            assert!(found == 0 || matches!(again, Outcome::Duplicate(_)), "{way:?} {at}: {again:?}");
            assert_eq!(world.count(&text).await, 3, "{way:?} {at}");
        }
    }
    assert!(whole > 5 && absent > 5, "{whole} whole, {absent} absent");
    let records = log(&world.beside, room).await;
    assert_no_holes(&records, 1 + 3 * (u64::try_from(n).unwrap() + 1));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_many_appends_is_one_round_trip() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let World { proxy, through, room, .. } = &world;
    appended(through, room, three(0).1).await;
    for appends in [1, 2, 200] {
        let before = proxy.round_trips();
        let call = (0..appends).map(|n| three(1000 * appends + n).1).collect();
        let outcomes = through.append(room, call).await.unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Appended(_))));
        assert_eq!(proxy.round_trips() - before, 1, "{appends} appends");
    }
    world.end().await;
}

/// Waits until so many backends wait for a lock.
async fn lock_waiters(world: &World, count: usize) {
    // Those of other tests wait in schemas of their own, which their locks name.
    let waiters = format!(
        "SELECT count(DISTINCT waiting.pid) FROM pg_locks waiting JOIN pg_locks held USING (pid)
         WHERE NOT waiting.granted AND held.relation = '{}.rooms'::regclass",
        world.schema.name
    );
    let deadline = Instant::now() + DEADLINE;
    while super::value(&world.schema.url, &waiters).await.unwrap().parse::<usize>().unwrap() < count {
        assert!(Instant::now() < deadline, "nobody waits");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_the_server_is_still_at_is_waited_for_before_it_fails() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    appended(&world.through, &world.room, three(0).1).await;
    let (mut client, connection) = tokio_postgres::connect(&world.schema.url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let holds = client.transaction().await.unwrap();
    holds.execute(&format!("SELECT FROM {}.rooms FOR UPDATE", world.schema.name), &[]).await.unwrap();
    let (text, append) = three(1);
    let (through, room) = (Arc::clone(&world.through), world.room.clone());
    let appending = tokio::spawn(async move { through.append(&room, vec![append]).await });
    lock_waiters(&world, 1).await;
    world.proxy.cut_all();
    // The first one goes on, and who waits for it comes behind.
    lock_waiters(&world, 2).await;
    assert!(!appending.is_finished(), "it has failed before the server was done");
    holds.commit().await.unwrap();
    let error = appending.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert_eq!(world.count(&text).await, 3, "who reads then finds it");
    drop(client);
    connection.await.unwrap().unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_whose_connection_is_cut_is_asked_again() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let before = world.through.head(&world.room).await.unwrap();
    for at in [0, 1, 20] {
        world.proxy.cut_after(Way::ToStore, at);
        assert_eq!(world.through.head(&world.room).await.unwrap(), before);
        assert!(!world.proxy.take_back());
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_fails_the_call_and_its_connection_is_not_used_again() {
    let Some(world) = World::new(Duration::from_millis(300)).await else { return };
    let (text, append) = three(1);
    appended(&world.through, &world.room, three(0).1).await;
    world.proxy.silent(true);
    let error = world.through.append(&world.room, vec![append.clone()]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.what.contains("silent"), "{error}");
    world.proxy.silent(false);
    let again = outcome(&world.through, &world.room, append).await;
    assert!(matches!(again, Outcome::Appended(_) | Outcome::Duplicate(_)), "{again:?}");
    assert_eq!(world.count(&text).await, 3);
    world.end().await;
}

impl Parts {
    /// The same by way of another address.
    fn at(self, address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port(), ..self }
    }
}
