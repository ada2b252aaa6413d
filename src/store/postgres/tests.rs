//! What can only be seen from within: which index answers which question. Runs where `SALON_TEST_POSTGRES_URL` names a
//! server.

use std::{io::Write as _, time::Instant};

use tokio_postgres::NoTls;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    domain::{
        event::{DirectoryChange, Kind},
        room::Visibility,
    },
    ids::EventId,
    store::{
        Idempotency, NewRecord,
        config::{StoreKind, StoreUrl},
        ledger::Line,
    },
};

/// A schema of this test alone; `None`: there is no server to test with, which is said.
async fn schema(name: &str) -> Option<(StoreConfig, tokio_postgres::Client)> {
    let Some(url) = std::env::var("SALON_TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty()) else {
        assert!(std::env::var_os("SALON_TEST_POSTGRES_REQUIRED").is_none());
        let _ = writeln!(std::io::stderr(), "left out: {name}: SALON_TEST_POSTGRES_URL is not set");
        return None;
    };
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    // It ends with the client.
    TaskTracker::new().spawn(connection);
    let schema = format!("within_{}_{name}", std::process::id());
    client.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await.unwrap();
    let url = Some(StoreUrl::new(url));
    Some((StoreConfig { kind: StoreKind::Postgres, url, schema, ..StoreConfig::default() }, client))
}

/// The plan of a question as it is when its parameters are not known.
async fn plan(client: &tokio_postgres::Client, question: Question) -> String {
    let parameters = (1..=20).filter(|n| question.sql.contains(&format!("${n}"))).count();
    let nulls = vec!["NULL"; parameters].join(", ");
    client.batch_execute(&format!("PREPARE asked AS {}", question.sql)).await.unwrap();
    let execute = if nulls.is_empty() { "asked".to_owned() } else { format!("asked ({nulls})") };
    let rows = client.query(&format!("EXPLAIN EXECUTE {execute}"), &[]).await.unwrap();
    client.batch_execute("DEALLOCATE asked").await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn no_question_reads_a_whole_table_or_sorts_a_room() {
    let Some((config, beside)) = schema("plans").await else { return };
    let store = PostgresStore::open(&config).await.unwrap();
    let client = store.connections.take().await.unwrap();
    client.batch_execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
    let fill = "
        INSERT INTO rooms (id, head, fence, listed, created, created_by)
            SELECT CASE WHEN n % 3 > 0 THEN 'ns' || n % 50 || '/' ELSE '' END || 'r' || n, 1, 1, CASE WHEN n % 2 = 0 THEN n END, n, 'u' || n % 2 FROM generate_series(1, 2000) AS n;
        INSERT INTO members SELECT 'u' || n % 2, n FROM generate_series(1, 2000) AS n;
        INSERT INTO events (room, seq, message_seq, at, event_id, subject, kind, sender, public, private)
            SELECT n % 5, n, CASE WHEN n % 3 > 0 THEN n END, n, gen_random_uuid(), gen_random_uuid(),
                   (n % 3 > 0)::integer, 'u' || n % 50, 'x', '' FROM generate_series(1, 20000) AS n;
        INSERT INTO requests SELECT n % 5, n, n, n, n, gen_random_uuid(), 'u', n::text FROM generate_series(1, 5000) AS n;
        INSERT INTO documents SELECT 1, 'f' || n % 5, n::text::bytea, 'x' FROM generate_series(1, 5000) AS n;
        INSERT INTO accounts SELECT n, 1, 0, n, 'k' || n FROM generate_series(1, 5000) AS n;
        ANALYZE";
    // Of tables without statistics first, and then of tables that are large.
    for fill in ["", fill] {
        client.batch_execute(fill).await.unwrap();
        for (question, index) in [
            (queries::HEAD, "rooms_id_key"),
            (queries::READ, "events_pkey"),
            (queries::MESSAGES_AFTER, "events_messages"),
            (queries::MESSAGES_BEFORE, "Index Scan Backward using events_messages"),
            (queries::UNREAD, "Index Only Scan using events_messages"),
            (queries::ABOUT, "events_subject"),
            (queries::REQUEST, "requests_pkey"),
            (queries::SNAPSHOT, "snapshots_pkey"),
            (queries::CURSOR, "cursors_pkey"),
            (queries::PUBLIC_ROOMS, "rooms_listed"),
            (queries::USAGE, "rooms_namespace"),
            (documents::ONE, "documents_pkey"),
            (documents::PAGE, "documents_pkey"),
            (queries::ROOMS_OF, "rooms_created"),
            (queries::ROOMS_OF, "members_pkey"),
            (queries::FORGET_REQUESTS, "requests_at"),
            (accounts::FORGET, "accounts_kept"),
            (accounts::BALANCES, "accounts_pkey"),
        ] {
            let plan = plan(&client, question).await;
            assert!(plan.contains(index), "{index}: {}\n{plan}", question.sql);
            assert!(!plan.contains("Seq Scan"), "{}\n{plan}", question.sql);
            // These sort what they have found: no more than a page, or what is about one message.
            let few =
                [queries::ROOMS_OF.sql, queries::ABOUT.sql, accounts::BALANCES.sql].contains(&question.sql);
            assert!(few || !plan.contains("Sort"), "{}\n{plan}", question.sql);
        }
    }
    drop(client);
    store.close().await.unwrap();
    beside.batch_execute(&format!("DROP SCHEMA {} CASCADE", config.schema)).await.unwrap();
}

fn append(n: u128) -> Append {
    let event_id = EventId(Uuid::from_u128(n));
    let user = UserId::parse("ann").unwrap();
    let record = NewRecord {
        event_id,
        at: Timestamp(1),
        kind: Kind::Message,
        sender: Some(user.clone()),
        subject: Some(event_id.0),
        moves_fence: true,
        public: b"said".as_slice().into(),
        private: bytes::Bytes::new(),
    };
    let request_id = RequestId::parse(&n.to_string()).unwrap();
    let idempotency = Some(Idempotency { sender: user.clone(), request_id, body_hash: 1 });
    let run = MessageId(event_id.0);
    let directory = vec![
        DirectoryChange::Room { visibility: Visibility::Public, created_by: Some(user.clone()) },
        DirectoryChange::Joined(user.clone()),
        DirectoryChange::RunStarted(run),
        DirectoryChange::RunEnded(run),
        DirectoryChange::Left(user),
    ];
    Append {
        records: vec![record],
        fence: (n == 1).then_some(Seq::ZERO),
        idempotency,
        directory,
        node: NodeId::random(),
    }
}

/// The functions of the schema cannot be explained; the server counts what they have done.
#[tokio::test]
async fn no_write_reads_a_whole_table() {
    let Some((config, beside)) = schema("writes").await else { return };
    let store = PostgresStore::open(&config).await.unwrap();
    let (room, user) = (RoomId::parse("r").unwrap(), UserId::parse("ann").unwrap());
    for n in 1..=50 {
        store.append(&room, vec![append(n), append(n)]).await.unwrap();
        let account = Account { key: format!("k{}", n % 7), begins: Timestamp(0) };
        let line = Line { account, amount: 1, limit: Some(5), keep_until: Timestamp(0) };
        let (id, run) = (ReservationId(Uuid::from_u128(n)), MessageId(Uuid::from_u128(n)));
        store
            .reserve(Reservation { id, run, at: Timestamp(0), lines: vec![line], node: NodeId::NOBODY })
            .await
            .unwrap();
        store.settle(id, vec![1]).await.unwrap();
        store.advance_cursor(&room, &user, Seq(1)).await.unwrap();
        let snapshot = Snapshot { seq: Seq(1), version: 1, state: bytes::Bytes::from_static(b"s") };
        store.save_snapshot(&room, snapshot).await.unwrap();
    }
    store.forget_requests(Timestamp(9)).await.unwrap();
    store.forget_accounts(Timestamp(9)).await.unwrap();
    store.close().await.unwrap();
    // What a connection has done is counted when it has ended.
    // Making an index has read its table once.
    let counted = "
        SELECT relname::text, seq_scan - (SELECT count(*) FROM pg_index WHERE indrelid = relid), n_tup_ins
        FROM pg_stat_user_tables WHERE schemaname = $1";
    let began = Instant::now();
    let tables = loop {
        let rows = beside.query(counted, &[&config.schema]).await.unwrap();
        let table = |row: &Row| (row.get::<_, String>(0), row.get::<_, i64>(1), row.get::<_, i64>(2));
        let tables: Vec<_> = rows.iter().map(table).collect();
        if tables.iter().any(|(name, _, inserted)| name == "events" && *inserted == 50) {
            break tables;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{tables:?}");
        sleep(Duration::from_millis(20)).await;
    };
    for (name, scans, _) in tables.iter().filter(|(name, ..)| name != "salon_versions") {
        let most = match name.as_str() {
            // One of its indexes was made twice, and is there once; and members were counted once.
            "rooms" => 2,
            "members" => 1,
            _ => 0,
        };
        assert!(*scans <= most, "{name}: {tables:?}");
    }
    beside.batch_execute(&format!("DROP SCHEMA {} CASCADE", config.schema)).await.unwrap();
}

/// A schema that a build of the first version has left, with something open.
async fn first_version(config: &StoreConfig, client: &tokio_postgres::Client) {
    let first = format!(
        "CREATE SCHEMA {0}; SET search_path = {0};
         CREATE TABLE salon_versions (version integer PRIMARY KEY, taken_at timestamptz NOT NULL DEFAULT now());
         INSERT INTO salon_versions (version) VALUES (1);",
        config.schema
    );
    client.batch_execute(&(first + include_str!("steps/1.sql"))).await.unwrap();
    let open = "
        INSERT INTO rooms (id, head, fence) VALUES ('r', 1, 1);
        INSERT INTO members (member, room) SELECT name, rid FROM rooms, unnest('{ann,bob}'::text[]) AS name;
        INSERT INTO runs (room, message) SELECT rid, gen_random_uuid() FROM rooms;";
    client.batch_execute(open).await.unwrap();
}

#[tokio::test]
async fn a_schema_of_the_first_version_keeps_what_is_open_for_nobody() {
    let Some((config, beside)) = schema("first").await else { return };
    first_version(&config, &beside).await;
    let reserve =
        "SELECT * FROM reserve(gen_random_uuid(), gen_random_uuid(), 0, '{a}', '{0}', '{1}', '{9}', '{0}')";
    beside.batch_execute(reserve).await.unwrap();
    let store = PostgresStore::open(&config).await.unwrap();
    assert_eq!(store.open_runs().await.unwrap()[0].node, NodeId::NOBODY);
    assert_eq!(store.open_reservations().await.unwrap()[0].node, NodeId::NOBODY);
    // A server of that version may still be running: what it begins is nobody's.
    beside.batch_execute(reserve).await.unwrap();
    let open = store.open_reservations().await.unwrap();
    assert!(open.len() == 2 && open.iter().all(|open| open.node == NodeId::NOBODY), "{open:?}");
    // Who was a member is counted, and leaves.
    let members = async || store.namespace_usage(&Namespace::default()).await.unwrap().members;
    assert_eq!(members().await, 2);
    let left = Append { directory: vec![DirectoryChange::Left(UserId::parse("bob").unwrap())], ..append(2) };
    let outcomes = store.append(&RoomId::parse("r").unwrap(), vec![left]).await.unwrap();
    assert!(matches!(outcomes[..], [Outcome::Appended(_)]), "{outcomes:?}");
    assert_eq!(members().await, 1);
    store.close().await.unwrap();
    beside.batch_execute(&format!("DROP SCHEMA {} CASCADE", config.schema)).await.unwrap();
}

/// Somebody reads the table that the step changes, for as long as they like: servers of the version before go on.
#[tokio::test]
async fn a_step_that_waits_for_a_table_stops_nobody_else() {
    let (Some((config, beside)), Some((_, reader))) = (schema("queue").await, schema("queue").await) else {
        return;
    };
    first_version(&config, &beside).await;
    let hold = format!("BEGIN; LOCK TABLE {}.runs IN ACCESS SHARE MODE", config.schema);
    reader.batch_execute(&hold).await.unwrap();
    let opening = TaskTracker::new().spawn({
        let config = config.clone();
        async move { PostgresStore::open(&config).await }
    });
    let waiting = "
        SELECT 1 FROM pg_locks WHERE relation = 'runs'::regclass AND NOT granted AND mode = 'AccessExclusiveLock'";
    while beside.query(waiting, &[]).await.unwrap().is_empty() {
        assert!(!opening.is_finished());
        sleep(Duration::from_millis(10)).await;
    }
    beside.batch_execute("SET lock_timeout = '20s'; DELETE FROM runs").await.unwrap();
    assert!(!opening.is_finished(), "it tries again");
    reader.batch_execute("COMMIT").await.unwrap();
    let store = opening.await.unwrap().unwrap();
    assert_eq!(store.open_runs().await.unwrap(), []);
    store.close().await.unwrap();
    beside.batch_execute(&format!("DROP SCHEMA {} CASCADE", config.schema)).await.unwrap();
}

#[tokio::test]
async fn a_lease_waits_behind_no_request() {
    let Some((config, beside)) = schema("beats").await else { return };
    let store = PostgresStore::open(&StoreConfig { pool_size: 1, ..config.clone() }).await.unwrap();
    let all = store.connections.take().await.unwrap();
    let node = NodeId::random();
    let lease = |beat| Lease { node, beat };
    let beats = async {
        assert!(store.beat(lease(1)).await.unwrap());
        assert!(store.beat(lease(2)).await.unwrap());
        assert_eq!(store.leases().await.unwrap(), [lease(2)]);
        // Somebody holds the row: it costs a beat, and not as much as a request may take.
        let hold = format!("BEGIN; SELECT FROM {}.leases FOR UPDATE", config.schema);
        beside.batch_execute(&hold).await.unwrap();
        assert_eq!(store.beat(lease(3)).await.unwrap_err().kind, ErrorKind::Unavailable);
        beside.batch_execute("COMMIT").await.unwrap();
        assert!(store.beat(lease(3)).await.unwrap());
        assert!(store.retire(lease(3)).await.unwrap());
    };
    // No connection for a request comes free meanwhile, however long it would be waited for.
    let request = async { store.head(&RoomId::parse("r").unwrap()).await.unwrap_err() };
    tokio::select! {
        biased;
        () = beats => {}
        error = request => panic!("a request has failed before: {error}"),
    }
    drop(all);
    store.close().await.unwrap();
    beside.batch_execute(&format!("DROP SCHEMA {} CASCADE", config.schema)).await.unwrap();
}

/// What is changed in its place works on a full disk, and must not hide that nothing can be added.
#[tokio::test]
async fn only_what_takes_room_tells_that_there_is_some() {
    let Some((config, beside)) = schema("full").await else { return };
    let store = PostgresStore::open(&config).await.unwrap();
    let (room, user) = (RoomId::parse("r").unwrap(), UserId::parse("ann").unwrap());
    store.append(&room, vec![append(1)]).await.unwrap();
    let full = |full: &str| format!("ALTER TABLE {}.{full}", config.schema);
    for table in ["events", "probe"] {
        beside
            .batch_execute(&full(&format!("{table} ADD CONSTRAINT full_disk CHECK (false) NOT VALID")))
            .await
            .unwrap();
    }
    store.append(&room, vec![append(2)]).await.unwrap_err();
    store.advance_cursor(&room, &user, Seq(1)).await.unwrap();
    assert!(store.connections.is_failing());
    store.check().await.unwrap_err();
    beside.batch_execute(&full("probe DROP CONSTRAINT full_disk")).await.unwrap();
    store.check().await.unwrap();
    assert!(!store.connections.is_failing(), "the probe has found room");
    store.close().await.unwrap();
    beside.batch_execute(&format!("DROP SCHEMA {} CASCADE", config.schema)).await.unwrap();
}
