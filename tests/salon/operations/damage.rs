//! Damages that are done to a file on purpose: each is found, and said where.

use rusqlite::Connection;
use salon::{
    ids::Seq,
    rooms::replay::Replay,
    store::{Page, Snapshot, memory::MemoryStore},
    wire::snapshot,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;

/// A store with three rooms, of which nobody has anything open.
async fn sound(place: &Path) -> StoreConfig {
    let config = sqlite(&place.join("salon.db"));
    let (server, _) = serving(&config).await;
    live(&server).await;
    server.shutdown().await;
    config
}

/// What is found behind this SQL.
async fn found(config: &StoreConfig, sql: &str) -> Vec<String> {
    let file = Connection::open(&config.path).unwrap();
    let changed: usize = sql
        .split(';')
        .filter(|one| !one.trim().is_empty())
        .map(|one| file.execute(one, []).unwrap_or_else(|error| panic!("{one}: {error}")))
        .sum();
    assert!(changed > 0, "nothing was damaged: {sql}");
    drop(file);
    let store = store::open::open_to_read(config).await.unwrap();
    let (report, findings) = verify(store.as_ref()).await;
    assert_eq!(report.rooms, 3);
    store.close().await.unwrap();
    findings
}

/// What is done to `room-1`, and what is said of it. RID is its number; SAID the position of ann's last message.
const DAMAGES: [(&str, &str); 25] = [
    ("UPDATE rooms SET head = head + 1 WHERE id = 'room-1'", "the log ends here, and its head says"),
    ("UPDATE rooms SET head = head - 1 WHERE id = 'room-1'", "the log goes on behind it"),
    ("UPDATE rooms SET fence = fence + 1 WHERE id = 'room-1'", "this is its fence, and the store says"),
    ("UPDATE rooms SET visibility = 0 WHERE id = 'room-1'", "it is Private, and lists say Public"),
    ("UPDATE rooms SET created_by = 'eve' WHERE id = 'room-1'", "has created it, and lists say"),
    ("DELETE FROM events WHERE room = RID AND seq = 9", "event 9: it is missing: the next one is 10"),
    ("UPDATE events SET public = x'FFFF' WHERE room = RID AND seq = 9", "event 9: it cannot be read"),
    ("UPDATE events SET private = x'FF' WHERE room = RID AND seq = 9", "event 9: it cannot be read"),
    (
        "UPDATE events SET event_id = randomblob(16) WHERE room = RID AND seq = 9",
        "event 9: its id, time or kind",
    ),
    ("UPDATE events SET kind = 0 WHERE room = RID AND seq = SAID", "the index of messages does not have it"),
    (
        "UPDATE events SET kind = 1 WHERE room = RID AND seq = 1",
        "event 1: its id, time or kind in the store is not that of its content",
    ),
    (
        "UPDATE events SET subject = NULL WHERE room = RID AND seq = SAID",
        "the index of subjects does not have it",
    ),
    (
        "UPDATE events SET subject = (SELECT subject FROM events WHERE room = RID AND seq = SAID)
             WHERE room = RID AND seq = 1",
        "event 1: the index of subjects has it where it does not belong",
    ),
    ("UPDATE events SET sender = 'eve' WHERE room = RID AND seq = SAID", "the index of messages counts"),
    (
        "UPDATE requests SET event_id = randomblob(16) WHERE room = RID",
        "points at it, and names another event",
    ),
    ("UPDATE requests SET last = 999999 WHERE room = RID", "there are none"),
    ("UPDATE cursors SET seq = 999999 WHERE room = RID", "has read up to it, and the log ends at"),
    ("DELETE FROM members WHERE room = RID AND user = 'ann'", "ann is a member, and is not listed it"),
    ("INSERT INTO members (user, room) VALUES ('eve', RID)", "eve is listed as a member, and is none"),
    (
        "UPDATE members SET user = 'acme' || char(31) || user WHERE room = RID AND user = 'ann'",
        "the list of all Members cannot be read to its end",
    ),
    (
        // An index that was made of something else than it says now.
        "DROP INDEX rooms_listed;
         CREATE INDEX rooms_listed ON rooms (namespace, (CASE WHEN id = 'room-1' THEN 0 ELSE visibility END));
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX rooms_listed ON rooms (namespace, visibility)'
             WHERE name = 'rooms_listed'",
        "it is listed as public, and is not",
    ),
    (
        "INSERT INTO runs (room, message) VALUES (RID, zeroblob(16))",
        "the list of open answers has 00000000-0000-0000-0000-000000000000",
    ),
    (
        "INSERT OR REPLACE INTO snapshots (room, seq, version, state) VALUES (RID, 9, 4, x'FF')",
        "event 9: its snapshot cannot be read",
    ),
    (
        "INSERT OR REPLACE INTO snapshots (room, seq, version, state) VALUES (RID, 999999, 4, x'FF')",
        "a snapshot speaks for it, and the log ends before",
    ),
    ("UPDATE accounts SET reserved = reserved + 5", "for answers, and none is open"),
];

#[tokio::test]
async fn each_damage_is_found_where_it_is() {
    let place = tempfile::tempdir().unwrap();
    let config = sound(place.path()).await;
    let rid = "(SELECT rid FROM rooms WHERE id = 'room-1')";
    for (sql, said) in DAMAGES {
        let copy = place.path().join("damaged.db");
        std::fs::copy(&config.path, &copy).unwrap();
        let said_at = "(SELECT max(seq) FROM events WHERE room = RID AND sender = 'ann')";
        let sql = sql.replace("SAID", said_at).replace("RID", rid);
        let findings = found(&sqlite(&copy), &sql).await;
        assert!(findings.iter().any(|one| one.contains(said)), "{sql}\n{said}\n{findings:#?}");
        let elsewhere = |one: &&String| one.starts_with("room ") && !one.starts_with("room room-1");
        assert_eq!(findings.iter().find(elsewhere), None, "{sql}");
        for leftover in ["damaged.db", "damaged.db-wal", "damaged.db-shm"] {
            let _ = std::fs::remove_file(place.path().join(leftover));
        }
    }
    let store = store::open::open_to_read(&config).await.unwrap();
    assert_eq!(verify(store.as_ref()).await.1, Vec::<String>::new(), "what was not damaged is sound");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_is_not_what_the_log_comes_to_is_found() {
    let place = tempfile::tempdir().unwrap();
    let config = sound(place.path()).await;
    let store = store::open::open(&config).await.unwrap();
    let (room, mut replay) = (salon::ids::RoomId::parse("room-1").unwrap(), Replay::default());
    for record in store.read(&room, Seq::ZERO, Page { events: 9, bytes: usize::MAX }).await.unwrap() {
        replay.next(record.seq, &record.public, &record.private).unwrap();
    }
    let mut folded = replay.room().unwrap().clone();
    for (name, findings) in [(folded.profile.name.clone(), 0), ("Another".to_owned(), 1)] {
        folded.profile.name = name;
        let state = snapshot::encode(&folded);
        store
            .save_snapshot(&room, Snapshot { seq: folded.seq, version: snapshot::VERSION, state })
            .await
            .unwrap();
        let (_, found) = verify(store.as_ref()).await;
        assert_eq!(found.len(), findings, "{found:?}");
        let said = "room room-1, event 9: the snapshot of this position is not what the log comes to";
        assert!(found.iter().all(|one| one == said), "{found:?}");
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_busy_server_nothing_is_found_that_is_not_wrong() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let server = Setup::default().store(Arc::clone(&store)).start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let stop = stop.clone();
        async move {
            let mut said = 0;
            while !stop.is_cancelled() {
                ann.talk(&format!("line {said}")).await;
                said += 1;
            }
        }
    });
    let (mut first, mut last) = (0, 0);
    while first == 0 || last < first + 200 {
        let (report, findings) = verify(store.as_ref()).await;
        assert_eq!(findings, Vec::<String>::new());
        last = report.events;
        first = if first == 0 { last } else { first };
    }
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
    server.shutdown().await;
}

#[tokio::test]
async fn a_log_with_a_hole_is_not_backed_up_as_if_it_were_whole() {
    let place = tempfile::tempdir().unwrap();
    let config = sound(place.path()).await;
    let file = Connection::open(&config.path).unwrap();
    file.execute("DELETE FROM events WHERE seq = 7", []).unwrap();
    drop(file);
    let store = store::open::open_to_read(&config).await.unwrap();
    let to = place.path().join("b");
    let refused = ops::backup::run(store.as_ref(), &to, Timestamp(1)).await.unwrap_err().to_string();
    assert!(refused.contains("event 7: it is missing") && refused.contains("salon verify"), "{refused}");
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().starts_with("salon.db")), "{left:?}");
}

#[tokio::test]
async fn what_is_left_of_a_room_that_is_listed_no_more_is_found() {
    let place = tempfile::tempdir().unwrap();
    let config = sound(place.path()).await;
    for (left, sql) in [
        ("all of it", ""),
        ("its log", "DELETE FROM members; DELETE FROM requests; DELETE FROM cursors; DELETE FROM snapshots"),
        (
            "its cursors",
            "DELETE FROM events; DELETE FROM members; DELETE FROM requests; DELETE FROM snapshots",
        ),
    ] {
        let copy = place.path().join(format!("{left}.db"));
        std::fs::copy(&config.path, &copy).unwrap();
        let file = Connection::open(&copy).unwrap();
        file.execute_batch(&format!("{sql}; DELETE FROM rooms WHERE id = 'room-1'")).unwrap();
        drop(file);
        let store = store::open::open_to_read(&sqlite(&copy)).await.unwrap();
        let (report, findings) = verify(store.as_ref()).await;
        assert_eq!(report.rooms, 2);
        assert!(
            findings.iter().any(|one| one.contains("a room that it does not list")),
            "{left}: {findings:?}"
        );
        let to = place.path().join("b");
        let refused = ops::backup::run(store.as_ref(), &to, Timestamp(1)).await.unwrap_err();
        assert!(matches!(refused, ops::Error::Stray { .. }), "{refused}");
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_page_is_found_and_the_rest_is_looked_at() {
    let place = tempfile::tempdir().unwrap();
    let config = sound(place.path()).await;
    let file = Connection::open(&config.path).unwrap();
    let page: i64 = file.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let page = usize::try_from(page).unwrap();
    drop(file);
    let mut bytes = std::fs::read(&config.path).unwrap();
    let said = b"line 300 x";
    let at = bytes.windows(said.len()).position(|window| window == said).unwrap();
    bytes[at / page * page..][..page].fill(0xA5);
    std::fs::write(&config.path, bytes).unwrap();
    let store = store::open::open_to_read(&config).await.unwrap();
    let (report, findings) = verify(store.as_ref()).await;
    assert!(findings.iter().any(|one| one.starts_with("room room-0, event ")), "{findings:?}");
    assert!(findings.iter().all(|one| !one.starts_with("room room-2")), "{findings:?}");
    assert_eq!(report.rooms, 3);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_backup_takes_the_place_of_nothing_and_is_its_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let (file, part) = (place.path().join("b"), place.path().join("b.part"));
    std::fs::write(&part, "somebody else's").unwrap();
    ops::backup::run(&store, &file, Timestamp(1)).await.unwrap();
    ops::restore::check(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&file, "another").unwrap();
    ops::backup::run(&store, &file, Timestamp(1)).await.unwrap_err();
    assert_eq!(std::fs::read(&file).unwrap(), b"another");
    assert_eq!(std::fs::read(&part).unwrap(), b"somebody else's");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn the_commands_say_how_they_ended() {
    let place = crate::process::Place::new();
    let server = place.start().await;
    server.room("r", &["ada"]).await;
    server.join("r", "ann").await.talk("hello").await;
    // Beside the server.
    let ran = |args: &'static [&'static str]| {
        let place = &place;
        async move {
            let output = place.run(args).await;
            let text = [output.stdout, output.stderr].concat();
            (output.status.code(), String::from_utf8_lossy(&text).into_owned())
        }
    };
    let (code, said) = ran(&["backup", "b"]).await;
    assert!(code == Some(0) && said.contains("b: 1 room, "), "{said}");
    let (code, said) = ran(&["backup", "b"]).await;
    assert!(code == Some(1) && said.contains("b is there already"), "{said}");
    let (code, said) = ran(&["verify"]).await;
    assert!(code == Some(0) && said.contains("nothing is wrong"), "{said}");
    let (code, said) = ran(&["restore", "b", "--check"]).await;
    assert!(code == Some(0) && said.contains("b is whole: 1 room,"), "{said}");
    let (code, said) = ran(&["restore", "b"]).await;
    assert!(code == Some(1) && said.contains("in use by another server"), "{said}");
    server.stop().await;
    let (code, said) = ran(&["restore", "b"]).await;
    assert!(code == Some(1) && said.contains("holds the room r"), "{said}");
    assert!(!said.contains("a part of the backup"), "nothing was written: {said}");
    let file = Connection::open(place.database()).unwrap();
    file.execute("DELETE FROM members", []).unwrap();
    drop(file);
    let (code, said) = ran(&["verify"]).await;
    assert!(
        code == Some(3) && said.contains("room r: ann is a member") && said.contains("1 thing is wrong"),
        "{said}"
    );
    let place = place.env("SALON__STORE__PATH", "nowhere/salon.db");
    let (code, said) = {
        let output = place.run(&["verify"]).await;
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(code == Some(1) && said.contains("finds no file"), "{said}");
}
