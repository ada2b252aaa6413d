//! Idempotency.

use std::sync::Arc;

use salon::{
    clock::Timestamp,
    ids::{RequestId, Seq},
    store::{Append, Outcome, Store},
};
use tokio::task::JoinSet;

use super::support::{appended, created, fact, keyed, log, message, outcome, plain, user};

fn said(request_id: &str, body_hash: u64) -> Append {
    keyed(plain(vec![message("ann", "a"), message("ann", "b")]), "ann", request_id, body_hash)
}

pub async fn a_repeat_gets_the_first_receipt(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let first = appended(&store, &room, said("x", 1)).await;
    appended(&store, &room, plain(vec![fact("between")])).await;
    assert_eq!(outcome(&store, &room, said("x", 1)).await, Outcome::Duplicate(first));
    assert_eq!(outcome(&store, &room, said("x", 1)).await, Outcome::Duplicate(first));
    assert_eq!(log(&store, &room).await.len(), 4);
}

pub async fn a_repeat_is_known_before_the_fence_is_looked_at(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let vote = || keyed(Append { fence: Some(Seq(1)), ..plain(vec![fact("vote")]) }, "ann", "x", u64::MAX);
    let first = appended(&store, &room, vote()).await;
    assert_eq!(outcome(&store, &room, vote()).await, Outcome::Duplicate(first));
    let known = store.request(&room, &user("ann"), &RequestId::parse("x").unwrap()).await.unwrap();
    assert_eq!(known, Some((first, u64::MAX)));
}

pub async fn a_hundred_repeats_at_once_append_once(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (store, room) = (Arc::clone(&store), room.clone());
        calls.spawn(async move { outcome(&store, &room, said("x", 1)).await });
    }
    let outcomes = calls.join_all().await;
    let receipts: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Appended(receipt) => Some(*receipt),
            _ => None,
        })
        .collect();
    assert_eq!(receipts.len(), 1);
    let repeats = outcomes.iter().filter(|outcome| **outcome == Outcome::Duplicate(receipts[0])).count();
    assert_eq!(repeats, 99);
    assert_eq!(log(&store, &room).await.len(), 3);
}

pub async fn a_repeat_within_one_call_appends_once(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let outcomes = store.append(&room, vec![said("x", 1), said("x", 1), said("x", 2)]).await.unwrap();
    let Outcome::Appended(receipt) = outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[1..], [Outcome::Duplicate(receipt), Outcome::Reused]);
    assert_eq!(log(&store, &room).await.len(), 3);
}

pub async fn a_request_id_for_another_body_is_reused(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let first = appended(&store, &room, said("x", 1)).await;
    assert_eq!(outcome(&store, &room, said("x", 2)).await, Outcome::Reused);
    assert_eq!(outcome(&store, &room, said("x", 1)).await, Outcome::Duplicate(first));
    assert_eq!(log(&store, &room).await.len(), 3);
}

pub async fn a_request_id_belongs_to_one_sender_in_one_room(store: Arc<dyn Store>) {
    let (here, there) = (created(&store, "here").await, created(&store, "there").await);
    appended(&store, &here, said("x", 1)).await;
    appended(&store, &there, said("x", 1)).await;
    appended(&store, &here, keyed(plain(vec![message("bob", "b")]), "bob", "x", 1)).await;
    appended(&store, &here, said("y", 1)).await;
    let unknown = RequestId::parse("z").unwrap();
    assert_eq!(store.request(&here, &user("ann"), &unknown).await.unwrap(), None);
}

pub async fn a_refused_append_does_not_use_up_its_request_id(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let vote = |fence| keyed(Append { fence: Some(Seq(fence)), ..plain(vec![fact("v")]) }, "ann", "x", 1);
    assert_eq!(outcome(&store, &room, vote(5)).await, Outcome::FenceMoved(Seq(1)));
    appended(&store, &room, vote(1)).await;
}

pub async fn old_requests_are_forgotten_and_young_ones_kept(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let at = |at, request_id| {
        let mut append = said(request_id, 1);
        append.records[0].at = Timestamp(at);
        append
    };
    for (time, request_id) in [(10, "old"), (20, "border"), (30, "young")] {
        appended(&store, &room, at(time, request_id)).await;
    }
    assert_eq!(store.forget_requests(Timestamp(20)).await.unwrap(), 1);
    assert_eq!(store.forget_requests(Timestamp(20)).await.unwrap(), 0);
    assert!(matches!(outcome(&store, &room, at(20, "border")).await, Outcome::Duplicate(_)));
    assert!(matches!(outcome(&store, &room, at(30, "young")).await, Outcome::Duplicate(_)));
    assert!(matches!(outcome(&store, &room, at(40, "old")).await, Outcome::Appended(_)));
    assert_eq!(log(&store, &room).await.len(), 9, "what is forgotten is the key and not the events");
}

pub async fn many_requests_are_forgotten_at_once(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    // More than a backend forgets in one portion, and not a multiple of it.
    let appends = (0..2_345).map(|n| keyed(plain(vec![message("ann", "a")]), "ann", &n.to_string(), 1));
    store.append(&room, appends.collect()).await.unwrap();
    assert_eq!(store.forget_requests(Timestamp(i64::MAX)).await.unwrap(), 2_345);
    assert_eq!(store.forget_requests(Timestamp(i64::MAX)).await.unwrap(), 0);
}
