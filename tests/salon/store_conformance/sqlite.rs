//! What only a store in a file can do or suffer.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use salon::{
    clock::Timestamp,
    domain::{event::DirectoryChange, room::Visibility},
    ids::{MessageId, Namespace, NodeId, RequestId, Seq},
    store::{
        self, Append, Direction, Error, ErrorKind, OpenRun, Outcome, RoomFilter, Snapshot, Store,
        config::StoreConfig,
        ledger::{Account, Balance, Line, Reserve},
    },
};

use super::support::{
    appended, assert_no_holes, created, creation, fact, keyed, log, message, next_id, outcome, plain, room,
    sqlite_config, user,
};

fn refusal(config: &StoreConfig) -> Error {
    // A file is opened without waiting for anything.
    let opened = store::open::open(config).now_or_never().unwrap();
    let refused = opened.map(|_| ()).unwrap_err();
    assert!(!refused.retryable(), "{refused}");
    refused
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let config = sqlite_config(directory.path());
    let run = MessageId(next_id());
    let (here, ann) = (room("r"), user("ann"));

    let store = store::open::open(&config).await.unwrap();
    appended(&store, &here, creation(Visibility::Private, Some("bob"))).await;
    let said = message("ann", "a");
    let subject = said.subject.unwrap();
    let append = Append {
        directory: vec![DirectoryChange::Joined(ann.clone()), DirectoryChange::RunStarted(run)],
        ..keyed(plain(vec![said, fact("b"), message("ann", "c")]), "ann", "x", u64::MAX)
    };
    let receipt = appended(&store, &here, append.clone()).await;
    let snapshot = Snapshot { seq: Seq(4), version: 1, state: Bytes::from_static(b"state") };
    store.save_snapshot(&here, snapshot.clone()).await.unwrap();
    store.advance_cursor(&here, &ann, Seq(3)).await.unwrap();
    let before = (log(&store, &here).await, store.head(&here).await.unwrap());
    store.close().await.unwrap();

    let store = store::open::open(&config).await.unwrap();
    assert_eq!((log(&store, &here).await, store.head(&here).await.unwrap()), before);
    assert_eq!(outcome(&store, &here, append).await, Outcome::Duplicate(receipt));
    assert_eq!(store.snapshot(&here).await.unwrap(), Some(snapshot));
    assert_eq!(store.cursor(&here, &ann).await.unwrap(), Seq(3));
    assert_eq!(store.open_runs().await.unwrap(), [OpenRun { room: here.clone(), run, node: NodeId::NOBODY }]);
    assert_eq!(store.about(&here, &[subject]).await.unwrap().len(), 1);
    assert_eq!(store.messages(&here, Direction::After(Seq::ZERO), 9).await.unwrap().len(), 2);
    for name in ["ann", "bob"] {
        let listed =
            store.list_rooms(RoomFilter::Of(Namespace::default(), user(name)), u64::MAX, 9).await.unwrap();
        assert_eq!(listed.len(), 1, "{name}");
    }
    let next = appended(&store, &here, plain(vec![fact("d")])).await;
    assert_eq!(next.first, Seq(5));
    store.close().await.unwrap();
}

#[tokio::test]
async fn closing_leaves_one_file_and_finishes_what_was_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { path: directory.path().join("new/deep/salon.db"), ..StoreConfig::default() };
    let store = store::open::open(&config).await.unwrap();
    let room = created(&store, "r").await;
    let mut appends = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let (store, room) = (Arc::clone(&store), room.clone());
        appends.spawn(async move { store.append(&room, vec![plain(vec![fact("x")])]).await });
    }
    tokio::task::yield_now().await;
    store.close().await.unwrap();
    let answers = appends.join_all().await;
    let acknowledged = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(answers.iter().filter_map(|answer| answer.as_ref().err()).all(|e| e.kind == ErrorKind::Closed));

    assert!(acknowledged > 0);
    assert!(!config.path.with_extension("db-wal").exists(), "the log was folded into the file");
    let store = store::open::open(&config).await.unwrap();
    let records = log(&store, &room).await;
    assert_no_holes(&records, 1 + u64::try_from(acknowledged).unwrap());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_second_server_is_refused_until_the_first_has_closed() {
    let directory = tempfile::tempdir().unwrap();
    let config = sqlite_config(directory.path());
    let first = store::open::open(&config).await.unwrap();
    let refused = refusal(&config);
    assert_eq!(refused.kind, ErrorKind::Unusable);
    assert!(refused.what.contains("in use by another server"), "{refused}");
    #[cfg(unix)]
    {
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&config.path, &link).unwrap();
        let refused = refusal(&StoreConfig { path: link, ..config.clone() });
        assert!(refused.what.contains("in use by another server"), "{refused}");
    }
    created(&first, "r").await;
    first.close().await.unwrap();
    store::open::open(&config).await.unwrap().close().await.unwrap();
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let config = sqlite_config(directory.path());
    let text = "dear diary, ".repeat(1_000);
    fs::write(&config.path, &text).unwrap();
    let refused = refusal(&config);
    assert_eq!(refused.kind, ErrorKind::Unusable);
    assert!(refused.what.contains("no SQLite database"), "{refused}");
    assert!(refused.what.contains("salon.db"), "it names the file: {refused}");
    assert_eq!(fs::read_to_string(&config.path).unwrap(), text);
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let config = sqlite_config(directory.path());
    let theirs = rusqlite::Connection::open(&config.path).unwrap();
    theirs.execute_batch("CREATE TABLE theirs (x)").unwrap();
    let refused = refusal(&config);
    assert_eq!(refused.kind, ErrorKind::Unusable);
    assert!(refused.what.contains("another program"), "{refused}");
    let tables: i64 = theirs.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[test]
fn a_read_only_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = sqlite_config(directory.path());
    closed_store(&config);
    let mut permissions = fs::metadata(&config.path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&config.path, permissions).unwrap();
    let refused = refusal(&config);
    assert_eq!(refused.kind, ErrorKind::Unusable);
    assert!(refused.what.contains("read-only"), "{refused}");
}

#[test]
fn a_path_that_cannot_be_a_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &Path| StoreConfig { path: path.to_owned(), ..StoreConfig::default() };
    let refused = refusal(&at(directory.path()));
    assert_eq!(refused.kind, ErrorKind::Unusable);
    assert!(refused.what.contains("is a directory"), "{refused}");
    fs::write(directory.path().join("file"), "").unwrap();
    let refused = refusal(&at(&directory.path().join("file/salon.db")));
    assert_eq!(refused.kind, ErrorKind::Unusable);
    assert!(refused.what.contains("store.path"), "{refused}");
}

#[test]
fn a_file_of_a_newer_version_is_refused_with_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    let config = sqlite_config(directory.path());
    closed_store(&config);
    let connection = rusqlite::Connection::open(&config.path).unwrap();
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    connection.pragma_update(None, "user_version", 4321).unwrap();
    connection.close().unwrap();
    let refused = refusal(&config);
    assert_eq!(refused.kind, ErrorKind::Unusable);
    assert!(refused.what.contains("version 4321"), "{refused}");
    assert!(refused.what.contains(&format!("up to {version}")), "{refused}");
}

#[test]
fn a_damaged_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = sqlite_config(directory.path());
    closed_store(&config);
    let mut file = fs::File::options().write(true).open(&config.path).unwrap();
    let length = file.metadata().unwrap().len();
    // Everything behind the first page, which is the one that says what the file is.
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&vec![0xAB; usize::try_from(length).unwrap() - 4096]).unwrap();
    drop(file);
    let refused = refusal(&config);
    assert_eq!(refused.kind, ErrorKind::Corrupt);
    assert!(refused.what.contains("restore it from a backup"), "{refused}");
}

/// A file that a store has made.
#[tokio::main(flavor = "current_thread")]
async fn closed_store(config: &StoreConfig) {
    let store = store::open::open(config).await.unwrap();
    created(&store, "r").await;
    store.close().await.unwrap();
}

/// Appends until there is no room; returns how many events were acknowledged.
async fn fill(store: &Arc<dyn Store>, room: &salon::ids::RoomId) -> u64 {
    let long = "s".repeat(100);
    let mut acknowledged = store.head(room).await.unwrap().unwrap().seq.0;
    for call in 0.. {
        let append = |n| keyed(plain(vec![message("ann", "a")]), &long, &format!("{call} {n} {long}"), 1);
        match store.append(room, (0..8).map(append).collect()).await {
            Ok(outcomes) => acknowledged += u64::try_from(outcomes.len()).unwrap(),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
                assert!(error.what.contains("no room left"), "{error}");
                return acknowledged;
            }
        }
    }
    unreachable!("the file has a limit")
}

#[tokio::test]
async fn a_full_file_acknowledges_nothing_and_works_again_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { max_bytes: Some(512 * 1024), ..sqlite_config(directory.path()) };
    let store = store::open::open(&config).await.unwrap();
    let room = created(&store, "r").await;
    let acknowledged = fill(&store, &room).await;
    assert!(acknowledged > 100, "{acknowledged}");
    assert!(fs::metadata(&config.path).unwrap().len() <= 512 * 1024);

    let not_ready = store.check().await.unwrap_err();
    assert_eq!(not_ready.kind, ErrorKind::Unavailable);
    assert_no_holes(&log(&store, &room).await, acknowledged);
    let large = plain(vec![message("ann", &"x".repeat(100_000))]);
    assert_eq!(store.append(&room, vec![large.clone()]).await.unwrap_err().kind, ErrorKind::Unavailable);
    let unknown = super::support::room("unknown");
    assert_eq!(store.head(&unknown).await.unwrap(), None);

    // Room within the file: the keys are gone, and with them most of what filled it.
    assert_eq!(store.forget_requests(Timestamp(i64::MAX)).await.unwrap(), acknowledged - 1);
    store.check().await.unwrap();
    let receipt = appended(&store, &room, large).await;
    assert_eq!(receipt.first, Seq(acknowledged + 1), "the positions that failed were given to nobody");

    // Room beside the file: an operator raises the limit.
    let acknowledged = fill(&store, &room).await;
    store.close().await.unwrap();
    let store = store::open::open(&StoreConfig { max_bytes: None, ..config.clone() }).await.unwrap();
    assert_no_holes(&log(&store, &room).await, acknowledged);
    let receipt = appended(&store, &room, plain(vec![message("ann", &"x".repeat(1_000_000))])).await;
    assert_eq!(receipt.last, Seq(acknowledged + 1));
    store.close().await.unwrap();
    let file = rusqlite::Connection::open(&config.path).unwrap();
    let sound: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn reservations_outlive_the_store_and_can_be_settled_behind_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let config = sqlite_config(directory.path());
    let account = |n: usize| Account { key: format!("{n} {}", "k".repeat(200)), begins: Timestamp(0) };
    let line = |n| Line { account: account(n), amount: 6, limit: Some(10), keep_until: Timestamp(0) };
    let store = store::open::open(&config).await.unwrap();
    let first = super::ledger::reservation(vec![line(0)]);
    assert_eq!(store.reserve(first.clone()).await.unwrap(), Reserve::Reserved);
    store.close().await.unwrap();

    let store = store::open::open(&StoreConfig { max_bytes: Some(512 * 1024), ..config }).await.unwrap();
    let held = store.balances(&[account(0)]).await.unwrap();
    assert_eq!(held, [Balance { spent: 0, reserved: 6 }]);
    assert_eq!(store.open_reservations().await.unwrap()[0].id, first.id);
    let full = Reserve::Refused { line: 0, balance: held[0] };
    assert_eq!(store.reserve(super::ledger::reservation(vec![line(0)])).await.unwrap(), full);

    let mut open = Vec::new();
    let refused = loop {
        let reservation = super::ledger::reservation(vec![line(open.len() + 1)]);
        match store.reserve(reservation.clone()).await {
            Ok(reserved) => assert_eq!(reserved, Reserve::Reserved),
            Err(error) => break error,
        }
        open.push(reservation.id);
    };
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
    assert!(open.len() > 100, "{}", open.len());
    assert_eq!(store.open_reservations().await.unwrap().len(), 1 + open.len());
    assert_eq!(store.balances(&[account(open.len() + 1)]).await.unwrap(), [Balance::default()]);
    // Settling needs no room: it writes less than it takes away.
    for id in open {
        assert!(store.settle(id, vec![2]).await.unwrap());
    }
    assert_eq!(store.balances(&[account(1)]).await.unwrap(), [Balance { spent: 2, reserved: 0 }]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn others_may_look_into_the_file_while_it_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let config = sqlite_config(directory.path());
    let store = store::open::open(&config).await.unwrap();
    let room = created(&store, "r").await;
    let shell = rusqlite::Connection::open(&config.path).unwrap();
    let looking = shell.unchecked_transaction().unwrap();
    let count = || looking.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 1);
    appended(&store, &room, plain(vec![fact("a")])).await;
    assert_eq!(count(), 1, "who looks sees one moment, and holds nobody up");
    drop(looking);
    let request = RequestId::parse("x").unwrap();
    assert_eq!(store.request(&room, &user("ann"), &request).await.unwrap(), None);
    store.close().await.unwrap();
}
