//! What can only be seen from within: defects of the writer, and which index answers which question.

use rusqlite::{Connection, params_from_iter, types::Value};
use tempfile::TempDir;

use super::*;
use crate::{
    domain::event::Kind,
    ids::{EventId, NodeId},
    store::{NewRecord, Receipt, config::Durability},
};

fn config(directory: &TempDir) -> StoreConfig {
    StoreConfig { path: directory.path().join("salon.db"), ..StoreConfig::default() }
}

fn creation() -> Append {
    let record = NewRecord {
        event_id: EventId(Uuid::from_u128(1)),
        at: Timestamp(1),
        kind: Kind::Other,
        sender: None,
        subject: None,
        moves_fence: true,
        public: b"created".as_slice().into(),
        private: bytes::Bytes::new(),
    };
    Append {
        records: vec![record],
        fence: Some(Seq::ZERO),
        idempotency: None,
        directory: Vec::new(),
        node: NodeId::NOBODY,
    }
}

/// Fills the queue before the writer can run, so that all of it is one transaction.
#[tokio::test]
async fn a_defect_of_the_writer_fails_everybody_in_its_group_and_nobody_after() {
    let directory = tempfile::tempdir().unwrap();
    let file::Opened { connection, lock, path } = file::open(&config(&directory)).unwrap();
    let blocker = Connection::open(&path).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (jobs, thread) = writer::start(connection, lock).unwrap();
    let room = RoomId::parse("r").unwrap();

    // The writer is kept waiting by the lock with the first job in hand; the next three then form one group.
    let (waiting, first) = Waiting::new();
    jobs.send(Job::Check { waiting }).await.unwrap();
    while jobs.capacity() != jobs.max_capacity() {
        tokio::task::yield_now().await;
    }
    let (waiting, before) = Waiting::new();
    jobs.send(Job::Append { room: room.clone(), appends: vec![creation()], waiting }).await.unwrap();
    let (waiting, defect) = Waiting::new();
    jobs.send(Job::Panic { waiting }).await.unwrap();
    let (waiting, behind) = Waiting::new();
    jobs.send(Job::Check { waiting }).await.unwrap();
    blocker.execute_batch("ROLLBACK").unwrap();

    first.await.unwrap().unwrap();
    assert_eq!(before.await.unwrap().unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(defect.await.unwrap().unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(behind.await.unwrap().unwrap_err().kind, ErrorKind::Unavailable);

    // Nothing of the failed group is left, neither in the file nor in what the writer remembers.
    let (waiting, after) = Waiting::new();
    jobs.send(Job::Append { room, appends: vec![creation()], waiting }).await.unwrap();
    let receipt = Receipt { first: Seq(1), last: Seq(1), event_id: EventId(Uuid::from_u128(1)) };
    assert_eq!(after.await.unwrap().unwrap(), [Outcome::Appended(receipt)]);
    drop(jobs);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_writer_that_is_gone_is_an_error_and_not_a_wait() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&config(&directory)).unwrap();
    // As if its thread had died: nobody takes jobs any more, though nobody has closed the store.
    store.hand_over(|waiting| Job::Close { waiting }).await.unwrap();
    let refused = store.append(&RoomId::parse("r").unwrap(), vec![creation()]).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert_eq!(store.check().await.unwrap_err().kind, ErrorKind::Unavailable);
    store.close().await.unwrap();
}

#[test]
fn durability_is_what_the_file_is_opened_with() {
    for (durability, synchronous) in [(Durability::Fsync, 2), (Durability::Os, 1)] {
        let directory = tempfile::tempdir().unwrap();
        let opened = file::open(&StoreConfig { durability, ..config(&directory) }).unwrap();
        let pragma = |name| opened.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        assert_eq!(pragma("synchronous").unwrap(), synchronous, "{durability:?}");
        assert_eq!(pragma("wal_autocheckpoint").unwrap(), 16_384);
    }
}

#[test]
fn no_question_reads_a_whole_table_or_sorts_a_room() {
    let directory = tempfile::tempdir().unwrap();
    let opened = file::open(&config(&directory)).unwrap();
    let plan = |sql: &str| {
        let mut explain = opened.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let nothing = vec![Value::Null; explain.parameter_count()];
        let steps = explain.query_map(params_from_iter(nothing), |row| row.get::<_, String>(3)).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    };
    assert!(plan(accounts::BALANCE).contains("SEARCH accounts USING PRIMARY KEY (key=? AND begins=?)"));
    assert!(
        plan(accounts::FORGET).contains("INDEX accounts_kept (keep_until<?)"),
        "{}",
        plan(accounts::FORGET)
    );
    for (sql, index) in [
        (queries::READ, "events_place (room=? AND seq>?)"),
        (queries::MESSAGES_AFTER, "events_messages (room=? AND seq>?)"),
        (queries::MESSAGES_BEFORE, "events_messages (room=? AND seq<?)"),
        (queries::UNREAD, "COVERING INDEX events_messages (room=? AND seq>?)"),
        (queries::ABOUT, "events_subject (subject=?)"),
        (queries::PUBLIC_ROOMS, "rooms_listed (namespace=? AND visibility=? AND rowid<?)"),
        (queries::ROOMS_OF, "rooms_created (created_by=? AND rowid<?)"),
        (documents::ONE, "(folder=? AND name=?)"),
        (documents::PAGE, "(folder=? AND name>?)"),
        (documents::ALL, "((folder,name)>(?,?))"),
    ] {
        let plan = plan(sql);
        assert!(plan.contains(index), "{sql}\n{plan}");
        assert!(!plan.contains("SCAN events") && !plan.contains("SCAN rooms"), "{sql}\n{plan}");
        assert!(!plan.contains("USE TEMP B-TREE FOR ORDER BY"), "{sql}\n{plan}");
    }
}
