//! Cursors, snapshots, and the store's own life.

use std::sync::Arc;

use bytes::Bytes;
use salon::{
    clock::Timestamp,
    ids::{Namespace, NodeId, RequestId, ReservationId, Seq},
    store::{
        Direction, Error, ErrorKind, Lease, RoomFilter, Snapshot, Store,
        documents::{Expect, Folder},
        inventory::Inventory,
        ledger::{Account, Line},
    },
};
use tokio::task::JoinSet;

use super::support::{ALL, created, fact, next_id, plain, room, user};

pub async fn a_cursor_only_moves_forward(store: Arc<dyn Store>) {
    let (here, there) = (created(&store, "here").await, created(&store, "there").await);
    let ann = user("ann");
    assert_eq!(store.cursor(&here, &ann).await.unwrap(), Seq::ZERO);
    assert_eq!(store.advance_cursor(&here, &ann, Seq::ZERO).await.unwrap(), Seq::ZERO);
    assert_eq!(store.advance_cursor(&here, &ann, Seq(5)).await.unwrap(), Seq(5));
    assert_eq!(store.advance_cursor(&here, &ann, Seq(3)).await.unwrap(), Seq(5));
    assert_eq!(store.advance_cursor(&here, &ann, Seq(5)).await.unwrap(), Seq(5));
    assert_eq!(store.advance_cursor(&here, &ann, Seq(6)).await.unwrap(), Seq(6));
    assert_eq!(store.cursor(&here, &ann).await.unwrap(), Seq(6));
    assert_eq!(store.cursor(&here, &user("bob")).await.unwrap(), Seq::ZERO);
    assert_eq!(store.cursor(&there, &ann).await.unwrap(), Seq::ZERO);
}

pub async fn a_cursor_moved_by_many_ends_at_the_furthest(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let mut calls = JoinSet::new();
    for n in 1..=64_u64 {
        let (store, room) = (Arc::clone(&store), room.clone());
        // 37 is coprime to 65: each position once, in an order that is neither up nor down.
        let to = Seq(n * 37 % 65);
        calls.spawn(async move {
            let now = store.advance_cursor(&room, &user("ann"), to).await.unwrap();
            assert!(now >= to);
            assert!(store.cursor(&room, &user("ann")).await.unwrap() >= now);
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    assert_eq!(store.cursor(&room, &user("ann")).await.unwrap(), Seq(64));
}

fn snapshot(seq: u64, version: u32) -> Snapshot {
    Snapshot { seq: Seq(seq), version, state: Bytes::from(format!("{seq} {version}")) }
}

pub async fn a_later_snapshot_wins(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    assert_eq!(store.snapshot(&room).await.unwrap(), None);
    for (saved, kept) in [
        (snapshot(5, 1), snapshot(5, 1)),
        (snapshot(9, 1), snapshot(9, 1)),
        (snapshot(8, 2), snapshot(9, 1)),
        (snapshot(9, u32::MAX), snapshot(9, u32::MAX)),
    ] {
        store.save_snapshot(&room, saved).await.unwrap();
        assert_eq!(store.snapshot(&room).await.unwrap(), Some(kept));
    }
}

pub async fn a_large_snapshot_comes_back_as_it_was(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    // Larger and smaller again: nothing of one is found in another.
    for (seq, bytes) in [(1, 3_000_001), (2, 5), (3, 1_500_000), (3, 2_000_000), (4, 0)] {
        let state: Bytes = (0..bytes).map(|n: usize| u8::try_from(n % 251).unwrap()).collect();
        let large = Snapshot { seq: Seq(seq), version: 7, state };
        store.save_snapshot(&room, large.clone()).await.unwrap();
        assert_eq!(store.snapshot(&room).await.unwrap(), Some(large));
    }
}

pub async fn an_unknown_room_keeps_neither_cursor_nor_snapshot(store: Arc<dyn Store>) {
    let unknown = room("r");
    store.save_snapshot(&unknown, snapshot(5, 1)).await.unwrap();
    assert_eq!(store.advance_cursor(&unknown, &user("ann"), Seq(5)).await.unwrap(), Seq::ZERO);
    created(&store, "r").await;
    assert_eq!(store.snapshot(&unknown).await.unwrap(), None);
    assert_eq!(store.cursor(&unknown, &user("ann")).await.unwrap(), Seq::ZERO);
}

pub async fn a_store_that_works_says_so(store: Arc<dyn Store>) {
    store.check().await.unwrap();
    assert!(["memory", "sqlite", "postgres", "dynamodb"].contains(&store.name()));
    assert_eq!(store.is_shared(), ["postgres", "dynamodb"].contains(&store.name()));
}

fn assert_closed<T: std::fmt::Debug>(answer: Result<T, Error>) {
    let error = answer.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Closed, "{error}");
    assert!(!error.retryable());
}

pub async fn a_closed_store_answers_nothing(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let ann = user("ann");
    // Both ends at once: a server's shutdown and a test's tidying up may meet.
    let (first, second) = tokio::join!(store.close(), store.close());
    first.unwrap();
    second.unwrap();
    store.close().await.unwrap();

    assert_closed(store.append(&room, vec![plain(vec![fact("late")])]).await);
    assert_closed(store.head(&room).await);
    assert_closed(store.read(&room, Seq::ZERO, ALL).await);
    assert_closed(store.messages(&room, Direction::After(Seq::ZERO), 9).await);
    assert_closed(store.about(&room, &[]).await);
    assert_closed(store.unread(&room, &ann, Seq::ZERO, 9).await);
    assert_closed(store.request(&room, &ann, &RequestId::parse("x").unwrap()).await);
    assert_closed(store.forget_requests(Timestamp(0)).await);
    assert_closed(store.snapshot(&room).await);
    assert_closed(store.save_snapshot(&room, snapshot(1, 1)).await);
    assert_closed(store.advance_cursor(&room, &ann, Seq(1)).await);
    assert_closed(store.cursor(&room, &ann).await);
    assert_closed(store.list_rooms(RoomFilter::Public(Namespace::default()), u64::MAX, 9).await);
    assert_closed(store.open_runs().await);
    let lease = Lease { node: NodeId(next_id()), beat: 1 };
    assert_closed(store.beat(lease).await);
    assert_closed(store.leases().await);
    assert_closed(store.retire(lease).await);
    let account = Account { key: "a".into(), begins: Timestamp(0) };
    let line = Line { account: account.clone(), amount: 1, limit: None, keep_until: Timestamp(0) };
    assert_closed(store.reserve(super::ledger::reservation(vec![line])).await);
    assert_closed(store.settle(ReservationId(next_id()), Vec::new()).await);
    assert_closed(store.open_reservations().await);
    assert_closed(store.balances(&[account]).await);
    assert_closed(store.forget_accounts(Timestamp(0)).await);
    let folder = Folder::new(&["f"]);
    assert_closed(store.document(&folder, "a").await);
    assert_closed(store.document(&folder, "").await);
    assert_closed(store.documents(&folder, None, 9).await);
    assert_closed(store.put_document(&folder, "a", Expect::Nothing, "x".into()).await);
    assert_closed(store.namespace_usage(&Namespace::default()).await);
    assert_closed(store.inventory(&Inventory::Documents, None, 9).await);
    assert_closed(store.check().await);
}
