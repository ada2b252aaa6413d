//! Leases, and to whom belongs what is open.

use std::sync::Arc;

use futures_util::future::join_all;
use salon::{
    clock::Timestamp,
    domain::event::DirectoryChange,
    ids::{MessageId, NodeId, RoomId},
    store::{
        Append, Lease, OpenRun, Store,
        ledger::{Account, Line, Reservation},
    },
};

use super::{
    ledger::reservation,
    support::{appended, created, fact, next_id, outcome, plain},
};

fn node() -> NodeId {
    NodeId(next_id())
}

fn lease(node: NodeId, beat: u64) -> Lease {
    Lease { node, beat }
}

/// The leases, in order.
async fn leases(store: &Arc<dyn Store>) -> Vec<Lease> {
    let mut leases = store.leases().await.unwrap();
    leases.sort_unstable();
    leases
}

pub async fn a_lease_begins_with_the_first_beat_and_is_renewed_by_the_next(store: Arc<dyn Store>) {
    assert_eq!(leases(&store).await, []);
    let (one, other) = (node(), node());
    assert!(!store.beat(lease(one, 2)).await.unwrap(), "renewed what has not begun");
    assert_eq!(leases(&store).await, []);
    assert!(store.beat(lease(one, 1)).await.unwrap());
    assert!(store.beat(lease(other, 1)).await.unwrap());
    for beat in 2..=4 {
        assert!(store.beat(lease(one, beat)).await.unwrap());
        // As after an answer that was lost.
        assert!(store.beat(lease(one, beat)).await.unwrap());
    }
    let mut both = [lease(one, 4), lease(other, 1)];
    both.sort_unstable();
    assert_eq!(leases(&store).await, both);
    for beat in [0, 1, 3, 6, u64::MAX] {
        assert!(!store.beat(lease(one, beat)).await.unwrap(), "{beat} renewed 4");
    }
    assert_eq!(leases(&store).await, both);
}

pub async fn a_lease_is_taken_away_by_who_knows_its_beat(store: Arc<dyn Store>) {
    let (one, other) = (node(), node());
    for beat in 1..=3 {
        assert!(store.beat(lease(one, beat)).await.unwrap());
    }
    assert!(store.beat(lease(other, 1)).await.unwrap());
    for beat in [0, 1, 2, 4] {
        assert!(!store.retire(lease(one, beat)).await.unwrap(), "{beat} was not its beat");
    }
    assert!(!store.retire(lease(node(), 3)).await.unwrap(), "nobody had that lease");
    assert!(store.retire(lease(one, 3)).await.unwrap());
    assert!(!store.retire(lease(one, 3)).await.unwrap(), "taken away twice");
    assert_eq!(leases(&store).await, [lease(other, 1)]);
}

pub async fn a_retired_node_never_comes_back(store: Arc<dyn Store>) {
    let retired = node();
    for beat in 1..=3 {
        assert!(store.beat(lease(retired, beat)).await.unwrap());
    }
    assert!(store.retire(lease(retired, 3)).await.unwrap());
    for beat in [2, 3, 4, 5] {
        assert!(!store.beat(lease(retired, beat)).await.unwrap(), "came back with {beat}");
    }
    assert_eq!(leases(&store).await, []);
    // Its very first beat, which was under way all the time: it begins a lease that the node cannot renew.
    store.beat(lease(retired, 1)).await.unwrap();
    assert!(!store.beat(lease(retired, 4)).await.unwrap());
    assert!(leases(&store).await.into_iter().all(|lease| lease.beat == 1));
}

pub async fn of_a_beat_and_many_retirements_at_once_one_succeeds(store: Arc<dyn Store>) {
    for _ in 0..32 {
        let it = node();
        assert!(store.beat(lease(it, 1)).await.unwrap());
        let retire = || store.retire(lease(it, 1));
        let done = join_all([retire(), retire(), store.beat(lease(it, 2)), retire()]).await;
        let done: Vec<bool> = done.into_iter().map(Result::unwrap).collect();
        assert_eq!(done.iter().filter(|done| **done).count(), 1, "{done:?}");
        let left = if done[2] { vec![lease(it, 2)] } else { Vec::new() };
        assert_eq!(leases(&store).await, left);
        let _ = store.retire(lease(it, 2)).await.unwrap();
    }
}

fn beginning(run: MessageId, node: NodeId) -> Append {
    Append { directory: vec![DirectoryChange::RunStarted(run)], node, ..plain(vec![fact("begins")]) }
}

async fn open(store: &Arc<dyn Store>) -> Vec<(RoomId, MessageId, NodeId)> {
    let mut open: Vec<_> = store.open_runs().await.unwrap();
    open.sort_unstable();
    open.into_iter().map(|OpenRun { room, run, node }| (room, run, node)).collect()
}

pub async fn what_is_open_belongs_to_who_said_so_last(store: Arc<dyn Store>) {
    let here = created(&store, "r").await;
    let (one, other) = (node(), node());
    let (run, autopilot) = (MessageId(next_id()), MessageId(next_id()));
    // Neither of them has a lease, which the log does not ask for.
    appended(&store, &here, beginning(run, one)).await;
    appended(&store, &here, beginning(autopilot, one)).await;
    assert_eq!(open(&store).await, [(here.clone(), run, one), (here.clone(), autopilot, one)]);
    appended(&store, &here, beginning(autopilot, other)).await;
    assert_eq!(open(&store).await, [(here.clone(), run, one), (here.clone(), autopilot, other)]);
    // What is refused moves nothing.
    outcome(&store, &here, Append { fence: Some(salon::ids::Seq(99)), ..beginning(run, other) }).await;
    assert_eq!(open(&store).await[0], (here.clone(), run, one));
    // Whoever ends it: it is over.
    let over = vec![DirectoryChange::RunEnded(run), DirectoryChange::RunEnded(autopilot)];
    appended(&store, &here, Append { directory: over, node: other, ..plain(vec![fact("ends")]) }).await;
    assert_eq!(open(&store).await, []);
}

pub async fn appends_of_one_call_name_their_own_nodes(store: Arc<dyn Store>) {
    let here = created(&store, "r").await;
    let runs: Vec<_> = (0..3).map(|_| (MessageId(next_id()), node())).collect();
    let appends = runs.iter().map(|(run, node)| beginning(*run, *node)).collect();
    store.append(&here, appends).await.unwrap();
    let expected: Vec<_> = runs.iter().map(|(run, node)| (here.clone(), *run, *node)).collect();
    assert_eq!(open(&store).await, expected);
}

pub async fn a_reservation_says_who_holds_it(store: Arc<dyn Store>) {
    let account = Account { key: "a".into(), begins: Timestamp(0) };
    let line = Line { account, amount: 1, limit: Some(9), keep_until: Timestamp(0) };
    let (one, other) = (node(), node());
    let held = Reservation { node: one, ..reservation(vec![line]) };
    store.reserve(held.clone()).await.unwrap();
    // A repeat changes nothing.
    store.reserve(Reservation { node: other, ..held.clone() }).await.unwrap();
    let open = store.open_reservations().await.unwrap();
    assert_eq!(open.iter().map(|open| (open.id, open.node)).collect::<Vec<_>>(), [(held.id, one)]);
}
