//! Which requests a call comes to: what it costs, and what of it may be on its way when its caller has gone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use salon::{
    clock::Timestamp,
    domain::event::DirectoryChange,
    ids::{MessageId, NodeId, Seq},
    store::{
        self, Append, ErrorKind, Lease, Snapshot,
        inventory::Inventory,
        ledger::{Account, Line, Reserve},
    },
};

use super::{Table, front::Deed, refusals::World};
use crate::store_conformance::{
    ledger::reservation,
    support::{appended, created, fact, log, next_id, plain, user},
};

fn line(key: &str) -> Line {
    let account = Account { key: key.to_owned(), begins: Timestamp(0) };
    Line { account, amount: 5, limit: Some(1_000_000), keep_until: Timestamp(9) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_does_not_overtake_a_reservation_on_its_way() {
    let Some(world) = World::new(Duration::from_secs(60)).await else { return };
    let World { front, store, .. } = &world;
    let given_up = reservation(vec![line("a")]);
    let id = given_up.id;
    front.seen();
    front.next([Deed::Late]);
    {
        let mut reserving = store.reserve(given_up);
        while !front.is_done() {
            assert!(reserving.as_mut().now_or_never().is_none(), "it is not answered yet");
            tokio::task::yield_now().await;
        }
    }
    let settling = Arc::clone(store);
    let settling = tokio::spawn(async move { settling.settle(id, vec![2]).await });
    // Another one goes its way meanwhile, and is settled.
    let other = reservation(vec![line("b")]);
    let other_id = other.id;
    assert_eq!(store.reserve(other).await.unwrap(), Reserve::Reserved);
    assert!(store.settle(other_id, vec![1]).await.unwrap());
    let seen = front.seen();
    assert_eq!(seen, ["TransactWriteItems", "TransactWriteItems", "GetItem", "TransactWriteItems"]);
    assert!(!settling.is_finished());
    front.go_on();
    assert!(settling.await.unwrap().unwrap(), "it was open");
    assert_eq!(store.open_reservations().await.unwrap(), []);
    world.end().await;
}

/// How often each was asked for.
fn counted(seen: Vec<String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for asked in seen {
        *counts.entry(asked).or_insert(0) += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_what_is_open_asks_for_as_little_with_a_thousand_runs_as_with_none() {
    let Some(world) = World::new(Duration::from_secs(60)).await else { return };
    let World { front, store, .. } = &world;
    let look = async || {
        front.seen();
        let open = store.open_runs().await.unwrap().len();
        let reserved = store.open_reservations().await.unwrap().len();
        store.leases().await.unwrap();
        (open, reserved, counted(front.seen()))
    };
    let queries = BTreeMap::from([("Query".to_owned(), 17)]);
    assert_eq!(look().await, (0, 0, queries.clone()));
    for name in 0..40 {
        let here = created(store, &format!("r{name}")).await;
        let begun = (0..25).map(|_| DirectoryChange::RunStarted(MessageId(next_id()))).collect();
        appended(store, &here, Append { directory: begun, ..plain(vec![fact("begun")]) }).await;
    }
    let reserved = (0..50).map(|_| store.reserve(reservation(vec![line("a"), line("b")])));
    assert!(join_all(reserved).await.into_iter().all(|answer| answer.unwrap() == Reserve::Reserved));
    assert_eq!(look().await, (1000, 50, queries));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_opened_to_be_read_takes_no_write_and_is_not_made() {
    let Some(absent) = Table::absent() else { return };
    let refused = store::open::open_to_read(&absent.config()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unusable, "{refused}");
    let described = absent.client().describe_table().table_name(&absent.name).send().await;
    assert!(described.is_err(), "nothing was made");

    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let here = created(&world.store, "r").await;
    let open = reservation(vec![line("a")]);
    assert_eq!(world.store.reserve(open.clone()).await.unwrap(), Reserve::Reserved);
    let config = store::config::StoreConfig {
        url: Some(store::config::StoreUrl::new(&world.front.url)),
        ..world.table.config()
    };
    let reading = store::open::open_to_read(&config).await.unwrap();
    world.front.seen();
    let lease = Lease { node: NodeId(next_id()), beat: 1 };
    let snapshot = Snapshot { seq: Seq(1), version: 1, state: "s".into() };
    let ever = Timestamp(i64::MAX);
    let refused = [
        reading.append(&here, vec![plain(vec![fact("x")])]).await.err(),
        reading.save_snapshot(&here, snapshot).await.err(),
        reading.advance_cursor(&here, &user("ann"), Seq(1)).await.err(),
        reading.beat(lease).await.err(),
        reading.retire(lease).await.err(),
        reading.reserve(reservation(vec![line("a")])).await.err(),
        reading.settle(open.id, Vec::new()).await.err(),
        reading.forget_requests(ever).await.err(),
        reading.forget_accounts(ever).await.err(),
    ];
    for refused in refused {
        let refused = refused.expect("it was not refused");
        assert!(refused.kind == ErrorKind::Unusable && refused.what.contains("to be read only"), "{refused}");
    }
    assert_eq!(world.front.seen(), Vec::<String>::new(), "nobody was asked");
    // What is there is read, as it is now.
    appended(&world.store, &here, plain(vec![fact("y")])).await;
    assert_eq!(log(&reading, &here).await.len(), 2);
    assert_eq!(reading.inventory(&Inventory::Rooms, None, 9).await.unwrap().len(), 1);
    assert_eq!(reading.open_reservations().await.unwrap().len(), 1);
    reading.check().await.unwrap();
    reading.close().await.unwrap();
    world.end().await;
}
