//! From one store into another, and what is refused on the way.

use std::{fs, sync::Arc};

use salon::{
    ids::{RequestId, RoomId, UserId},
    ops,
    store::{self, Store, memory::MemoryStore},
};

use super::*;
use crate::harness::{
    Session,
    gate::{Fault, GatedStore},
};

#[tokio::test]
async fn a_backup_of_a_serving_store_is_restored_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let (config, file) = (sqlite(&place.path().join("salon.db")), place.path().join("b"));
    let (server, writing) = serving(&config).await;
    live(&server).await;
    // As another process does it: beside the server that holds the file.
    let reading = store::open::open_to_read(&config).await.unwrap();
    let expected = contents(reading.as_ref()).await;
    let mut late = server.join("room-0", "late").await;
    late.talk("behind the moment of the backup").await;
    let done = back_up(reading.as_ref(), &file).await;
    assert_eq!((done.rooms, verify(reading.as_ref()).await.1), (3, vec![]));
    assert_eq!(contents(reading.as_ref()).await, expected, "it is of one moment");
    assert_eq!(verify(writing.as_ref()).await.1, Vec::<String>::new());
    reading.close().await.unwrap();
    assert_eq!(ops::restore::check(&file).unwrap(), done);

    let restored = sqlite(&place.path().join("other/salon.db"));
    let store = store::open::open(&restored).await.unwrap();
    assert_eq!(ops::restore::run(store.as_ref(), &file, false).await.unwrap(), done);
    assert_eq!(contents(store.as_ref()).await, expected);
    assert_eq!(verify(store.as_ref()).await.1, Vec::<String>::new());
    store.close().await.unwrap();

    // And it serves: who had read up to somewhere goes on there.
    let (again, _store) = serving(&restored).await;
    let head = again.log("room-0").await.last().unwrap().seq;
    let mut ann = Session::resume(again.client().await, "room-0", "ann", head - 1).await;
    let resumed = ann.next().await;
    assert!(matches!(resumed.payload, Some(Payload::Resumed(_))), "{resumed:?}");
    assert_eq!(ann.talk("still here").await.seq, head + 1);
    drop((ann, late));
    again.shutdown().await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_key_is_known_behind_a_restore() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("b");
    let source: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let server = Setup::default().store(Arc::clone(&source)).start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let first = ann.command_as("once", message("said once")).await.unwrap();
    back_up(source.as_ref(), &file).await;
    let target: Arc<dyn Store> = Arc::new(MemoryStore::new());
    ops::restore::run(target.as_ref(), &file, false).await.unwrap();
    let id = RoomId::parse(&room).unwrap();
    let (user, key) = (UserId::parse("ann").unwrap(), RequestId::parse("once").unwrap());
    assert_eq!(
        target.request(&id, &user, &key).await.unwrap(),
        source.request(&id, &user, &key).await.unwrap()
    );
    let again = Setup::default().store(target).start().await;
    let repeat = again.join(&room, "ann").await.command_as("once", message("said once")).await.unwrap();
    assert_eq!((repeat.seq, repeat.duplicate), (first.seq, true));
    drop(ann);
    again.shutdown().await;
    server.shutdown().await;
}

/// From a file into the store of `config` and back into a file: nothing is lost or added on the way.
#[cfg(any(feature = "dynamodb", feature = "postgres"))]
async fn there_and_back(config: &store::config::StoreConfig) {
    let place = tempfile::tempdir().unwrap();
    let (source, file) = (sqlite(&place.path().join("salon.db")), place.path().join("b"));
    let (server, source) = serving(&source).await;
    live(&server).await;
    back_up(source.as_ref(), &file).await;
    let (expected, back) = (contents(source.as_ref()).await, place.path().join("back"));
    server.shutdown().await;

    let target = store::open::open(config).await.unwrap();
    ops::restore::run(target.as_ref(), &file, false).await.unwrap();
    assert_eq!(sorted(contents(target.as_ref()).await), sorted(expected.clone()));
    let reading = store::open::open_to_read(config).await.unwrap();
    assert_eq!(verify(reading.as_ref()).await.1, Vec::<String>::new());
    back_up(reading.as_ref(), &back).await;
    reading.close().await.unwrap();
    target.close().await.unwrap();

    let again = store::open::open(&sqlite(&place.path().join("again.db"))).await.unwrap();
    ops::restore::run(again.as_ref(), &back, false).await.unwrap();
    assert_eq!(contents(again.as_ref()).await, expected);
    again.close().await.unwrap();
}

/// Each store lists in an order of its own.
#[cfg(any(feature = "dynamodb", feature = "postgres"))]
fn sorted(mut contents: Vec<String>) -> Vec<String> {
    contents.sort();
    contents
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_was_in_a_file_is_restored_into_postgres_and_back() {
    let Some(schema) = crate::store_conformance::postgres::Schema::new().await else { return };
    there_and_back(&schema.config()).await;
    schema.drop().await;
}

#[cfg(feature = "dynamodb")]
#[tokio::test]
async fn what_was_in_a_file_is_restored_into_dynamodb_and_back() {
    let Some(table) = crate::store_conformance::dynamodb::Table::new().await else { return };
    there_and_back(&table.config()).await;
    table.drop().await;
}

#[tokio::test]
async fn a_restore_wants_an_empty_store_and_can_be_gone_on_with() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("b");
    let source: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let server = Setup::default().store(Arc::clone(&source)).start().await;
    live(&server).await;
    back_up(source.as_ref(), &file).await;
    let refused = ops::backup::run(source.as_ref(), &file, Timestamp(1)).await.unwrap_err();
    assert!(refused.to_string().contains("is there already"), "{refused}");

    // Stopped behind any number of calls, of which the last was carried out.
    let expected = contents(source.as_ref()).await;
    for calls in 1..=5 {
        let stopped = GatedStore::new();
        stopped.lose_nth(calls);
        let error = ops::restore::run(&stopped, &file, false).await.unwrap_err();
        let ops::Error::Partly { why } = error else { panic!("{error}") };
        assert!(matches!(*why, ops::Error::Store(_)), "{why}");
        let refused = ops::restore::run(&stopped, &file, false).await.unwrap_err().to_string();
        assert!(refused.contains("the room room-0") && refused.contains("--resume"), "{refused}");
        ops::restore::run(&stopped, &file, true).await.unwrap();
        assert_eq!(contents(&stopped).await, expected, "stopped behind {calls} calls");
    }
    // And in the ledger, before and behind what was asked.
    for fault in [Fault::Before, Fault::After] {
        let stopped = GatedStore::new();
        stopped.ledger_fails(Some(fault), 1);
        ops::restore::run(&stopped, &file, false).await.unwrap_err();
        ops::restore::run(&stopped, &file, true).await.unwrap();
        assert_eq!(contents(&stopped).await, expected, "{fault:?}");
    }

    // Another store's rooms are not gone on with.
    let other: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let another = Setup::default().store(Arc::clone(&other)).start().await;
    let room = another.room(&[]).await;
    for resume in [false, true] {
        let refused = ops::restore::run(other.as_ref(), &file, resume).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("the room {room}")), "{refused}");
    }
    another.shutdown().await;
    let other: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let another = Setup::default().store(Arc::clone(&other)).start().await;
    let same =
        pb::CreateRoomRequest { room_id: Some("room-0".into()), name: "x".into(), ..Default::default() };
    another.create(same).await;
    let refused = ops::restore::run(other.as_ref(), &file, true).await.unwrap_err();
    let refused = std::error::Error::source(&refused).unwrap().to_string();
    assert!(refused.contains("room room-0, event 1: the store holds another event there"), "{refused}");
    another.shutdown().await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_damaged_file_changes_nothing_and_says_where() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("b");
    let source: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let server = Setup::default().store(Arc::clone(&source)).start().await;
    live(&server).await;
    back_up(source.as_ref(), &file).await;
    let whole = fs::read(&file).unwrap();
    let target: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut flipped = whole.clone();
    let at = whole.len() - 200;
    flipped[at] ^= 1;
    for (bytes, said) in [
        (&flipped[..], "is damaged"),
        (&whole[..whole.len() - 1], "it was cut"),
        (b"hello there", "does not begin"),
    ] {
        let damaged = place.path().join("damaged");
        fs::write(&damaged, bytes).unwrap();
        let refused = ops::restore::run(target.as_ref(), &damaged, false).await.unwrap_err().to_string();
        assert!(refused.contains(said) && refused.contains("damaged is no whole backup"), "{refused}");
        assert_eq!(contents(target.as_ref()).await, Vec::<String>::new());
    }
    server.shutdown().await;
}
