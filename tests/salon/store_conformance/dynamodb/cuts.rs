//! Answers that are lost and connections that are cut: what became of a request is found out, and it is carried out
//! once.

use std::{sync::Arc, time::Duration};

use salon::{
    clock::Timestamp,
    ids::NodeId,
    store::{
        self, Append, ErrorKind, Lease, Outcome, Store,
        config::{StoreConfig, StoreUrl},
        documents::{Expect, Folder},
        ledger::{Account, Line, Reserve},
    },
};

use super::{Table, front::Deed, refusals::World};
use crate::store_conformance::{
    ledger::reservation,
    proxy::{Proxy, Way},
    support::{appended, assert_no_holes, created, fact, keyed, log, message, next_id, outcome, plain},
};

/// How far apart the cuts are that are tried.
const STRIDE: usize = 151;

/// A transaction, and a plain write: of one size each, whatever `n` is.
fn both(n: usize) -> [Append; 2] {
    let text = format!("{n:06}");
    let records = (0..3).map(|_| message("ann", &text)).collect();
    [keyed(plain(records), "ann", &text, 1), plain(vec![fact(&text)])]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_connection_is_cut_at_any_byte_is_carried_out_once() {
    let Some(table) = Table::new().await else { return };
    let proxy = Proxy::start(table.url.strip_prefix("http://").unwrap().parse().unwrap()).await;
    let url = Some(StoreUrl::new(format!("http://{}", proxy.address)));
    let through = store::open::open(&StoreConfig { url, ..table.config() }).await.unwrap();
    let beside = store::open::open(&table.config()).await.unwrap();
    let room = created(&through, "r").await;
    let (mut n, mut last) = (0, 1);
    for kind in [0, 1] {
        let before = proxy.bytes();
        n += 1;
        let [append] = &both(n)[kind..=kind] else { panic!() };
        last = appended(&through, &room, append.clone()).await.last.0.max(last);
        let after = proxy.bytes();
        let sizes = [(Way::ToServer, after.0 - before.0), (Way::ToStore, after.1 - before.1)];
        for (way, size) in sizes {
            assert!(size > 100, "{way:?} {size}");
            for at in (0..size).step_by(STRIDE).chain([size - 1]) {
                n += 1;
                let append = both(n)[kind].clone();
                let records = u64::try_from(append.records.len()).unwrap();
                proxy.cut_after(way, at);
                let receipt = appended(&through, &room, append.clone()).await;
                assert!(!proxy.take_back(), "{way:?} {at}: it was cut");
                assert_eq!((receipt.first.0, receipt.last.0), (last + 1, last + records), "{way:?} {at}");
                last = receipt.last.0;
                if append.idempotency.is_some() {
                    assert_eq!(outcome(&through, &room, append).await, Outcome::Duplicate(receipt));
                }
            }
        }
    }
    assert_no_holes(&log(&beside, &room).await, last);
    through.close().await.unwrap();
    beside.close().await.unwrap();
    table.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answers_are_lost_again_and_again_is_carried_out_once() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let World { front, store, table } = &world;
    let other = store::open::open(&table.config()).await.unwrap();
    let room = created(store, "r").await;
    let error = Deed::Refuse("InternalServerError");
    let mut last = 1;
    for (n, deeds) in [
        vec![Deed::Lose],
        vec![error, Deed::Lose],
        vec![Deed::Lose, error, Deed::Refuse("ThrottlingException")],
        vec![Deed::Lose, Deed::Lose, Deed::Lose],
    ]
    .into_iter()
    .enumerate()
    {
        for append in both(n) {
            front.next(deeds.clone());
            let receipt = appended(store, &room, append.clone()).await;
            assert_eq!(receipt.first.0, last + 1, "{deeds:?}");
            last = receipt.last.0;
            assert!(front.is_done(), "{deeds:?}");
            // What another has written meanwhile is not taken for ours.
            appended(&other, &room, plain(vec![fact("between")])).await;
            front.next(deeds.clone());
            let behind = appended(store, &room, plain(vec![fact("behind")])).await;
            assert_eq!(behind.first.0, last + 2, "{deeds:?}");
            last = behind.last.0;
        }
    }
    assert_no_holes(&log(&other, &room).await, last);
    other.close().await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_whose_creation_was_not_answered_is_created_once() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    for (n, deeds) in
        [vec![Deed::Pass, Deed::Lose], vec![Deed::Lose, Deed::Pass], vec![Deed::Lose, Deed::Lose]]
            .into_iter()
            .enumerate()
    {
        world.front.next(deeds);
        let room = created(&world.store, &n.to_string()).await;
        assert_eq!(log(&world.store, &room).await.len(), 1);
        assert!(world.front.is_done());
    }
    let listed = world
        .store
        .list_rooms(store::RoomFilter::Public(salon::ids::Namespace::default()), u64::MAX, 9)
        .await
        .unwrap();
    let names: Vec<String> = listed.into_iter().map(|listed| listed.room.to_string()).collect();
    assert_eq!(names, ["2", "1", "0"]);
    world.end().await;
}

/// What an account holds.
async fn held(store: &Arc<dyn Store>) -> (u64, u64) {
    let account = Account { key: "a".into(), begins: Timestamp(0) };
    let balance = store.balances(&[account]).await.unwrap()[0];
    (balance.spent, balance.reserved)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_and_its_end_whose_answers_are_lost_are_counted_once() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let World { front, store, .. } = &world;
    let account = Account { key: "a".into(), begins: Timestamp(0) };
    let line = Line { account, amount: 6, limit: Some(10), keep_until: Timestamp(9) };
    let reserve = reservation(vec![line]);
    let id = reserve.id;
    front.next([Deed::Lose, Deed::Lose]);
    // Whoever took the second for another one would refuse it: there is no room for two.
    assert_eq!(store.reserve(reserve).await.unwrap(), Reserve::Reserved);
    assert_eq!(held(store).await, (0, 6));
    // The reservation is read first. Here nobody knows the repeat by its token.
    front.next([Deed::Pass, Deed::Lose]);
    store.settle(id, vec![4]).await.unwrap();
    assert!(front.is_done());
    assert_eq!(held(store).await, (4, 0));
    assert!(!store.settle(id, vec![4]).await.unwrap());
    assert_eq!(held(store).await, (4, 0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beat_whose_answer_is_lost_was_one_and_a_retirement_is_not_guessed() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let World { front, store, .. } = &world;
    let node = NodeId(next_id());
    for beat in 1..4 {
        front.next([Deed::Lose, Deed::Lose]);
        assert!(store.beat(Lease { node, beat }).await.unwrap());
    }
    front.next([Deed::Refuse("InternalServerError")]);
    assert!(!store.retire(Lease { node, beat: 2 }).await.unwrap());
    front.next([Deed::Lose]);
    let error = store.retire(Lease { node, beat: 3 }).await.unwrap_err();
    assert_eq!(error.kind, store::ErrorKind::Unavailable, "{error}");
    assert_eq!(store.leases().await.unwrap(), []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_whose_answers_are_lost_is_written_once() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let World { front, store, .. } = &world;
    let folder = Folder::new(&["f"]);
    let put = async |expect, body: &'static [u8]| {
        front.next([Deed::Lose, Deed::Refuse("InternalServerError"), Deed::Lose]);
        let put = store.put_document(&folder, "a", expect, body.into()).await;
        assert!(front.is_done());
        put
    };
    let writes = [Expect::Nothing, Expect::Anything, Expect::Revision(2)];
    for (revision, expect) in (1..).zip(writes) {
        assert!(put(expect, b"x").await.unwrap(), "{expect:?}");
        assert_eq!(store.document(&folder, "a").await.unwrap().unwrap().revision, revision);
    }
    // What another has written is not taken for ours, and neither is what is expected in vain.
    front.next([Deed::Lose]);
    assert!(!store.put_document(&folder, "a", Expect::Revision(2), "y".into()).await.unwrap());
    // Whether the first attempt has made it, and two others have come since, nobody can know.
    front.next([Deed::Lose]);
    let unknown = store.put_document(&folder, "a", Expect::Nothing, "y".into()).await.unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::Unavailable);
    assert_eq!(store.document(&folder, "a").await.unwrap().unwrap().revision, 3);
    // Of a removal nothing is left by which one could know whose it was.
    assert_eq!(put(Expect::Revision(3), b"").await.unwrap_err().kind, ErrorKind::Unavailable);
    assert!(put(Expect::Anything, b"").await.unwrap());
    assert_eq!(store.document(&folder, "a").await.unwrap(), None);
    world.end().await;
}

/// The count waits for a service that answers; the append does not fail for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_counted_is_counted_later() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let World { front, store, table } = &world;
    front.next([Deed::Pass, Deed::Pass, Deed::Refuse("AccessDeniedException")]);
    let room = created(store, "r").await;
    assert!(front.is_done());
    let counted = async |store: &Arc<dyn Store>| {
        let usage = store.namespace_usage(&salon::ids::Namespace::default()).await.unwrap();
        (usage.rooms, usage.bytes)
    };
    let before = counted(store).await;
    assert_eq!(before.0, 1, "here it is known");
    let other = store::open::open(&table.config()).await.unwrap();
    assert_eq!(counted(&other).await, (0, 0));
    appended(store, &room, plain(vec![fact("x")])).await;
    let now = counted(store).await;
    assert!(now.0 == 1 && now.1 > before.1, "{now:?}");
    assert_eq!(counted(&other).await, now, "what was owed went with it");
    other.close().await.unwrap();
    world.end().await;
}
