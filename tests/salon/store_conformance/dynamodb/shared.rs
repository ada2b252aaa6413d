//! Two stores on one table, as two processes have them: each believes in a log that the other continues.

use std::{collections::BTreeMap, sync::Arc};

use salon::{
    clock::Timestamp,
    domain::{event::DirectoryChange, room::Visibility},
    ids::{Namespace, Seq},
    store::{
        self, Append, NamespaceUsage, Outcome, RoomFilter, Store,
        ledger::{Account, Line, Reserve},
    },
};
use tokio::task::JoinSet;

use super::Table;
use crate::store_conformance::{
    documents::race,
    ledger::reservation,
    support::{
        appended, assert_no_holes, created, creation, fact, keyed, log, message, outcome, plain, room, texts,
        user,
    },
};

/// A table with two stores.
struct Pair {
    table: Table,
    stores: [Arc<dyn Store>; 2],
}

impl Pair {
    async fn new() -> Option<Self> {
        let table = Table::new().await?;
        let config = table.config();
        let (one, other) = tokio::join!(store::open::open(&config), store::open::open(&config));
        Some(Self { table, stores: [one.unwrap(), other.unwrap()] })
    }

    async fn end(self) {
        for store in &self.stores {
            store.close().await.unwrap();
        }
        self.table.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_both_to_one_room_have_no_holes_and_are_where_they_were_said_to_be() {
    let Some(pair) = Pair::new().await else { return };
    let here = created(&pair.stores[0], "r").await;
    let mut appenders = JoinSet::new();
    for appender in 0..8_usize {
        let (store, room) = (Arc::clone(&pair.stores[appender % 2]), here.clone());
        appenders.spawn(async move {
            let mut said = Vec::new();
            for n in 0..8 {
                let text = format!("{appender} {n}");
                // Some are a transaction, and some a plain write.
                let records =
                    if n % 2 == 0 { vec![message("ann", &text)] } else { vec![fact(&text), fact(&text)] };
                said.push((text, appended(&store, &room, plain(records)).await));
            }
            said
        });
    }
    let said: BTreeMap<Seq, String> = appenders
        .join_all()
        .await
        .into_iter()
        .flatten()
        .flat_map(|(text, receipt)| [(receipt.first, text.clone()), (receipt.last, text)])
        .collect();
    let records = log(&pair.stores[1], &here).await;
    assert_no_holes(&records, 1 + 8 * (4 + 4 * 2));
    let found: Vec<String> = texts(&records)[1..].to_vec();
    assert_eq!(said.into_values().collect::<Vec<_>>(), found);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_the_other_has_moved_refuses_and_says_where_it_is() {
    let Some(pair) = Pair::new().await else { return };
    let [one, other] = &pair.stores;
    let here = created(one, "r").await;
    let fenced = |fence| Append { fence: Some(Seq(fence)), ..plain(vec![fact("x")]) };
    appended(other, &here, fenced(1)).await;
    assert_eq!(outcome(one, &here, fenced(1)).await, Outcome::FenceMoved(Seq(2)));
    appended(one, &here, fenced(2)).await;
    assert_eq!(outcome(other, &here, fenced(2)).await, Outcome::FenceMoved(Seq(3)));
    // A fence that only the other has moved to is the right one, whatever this one believed.
    appended(one, &here, fenced(3)).await;
    appended(other, &here, fenced(4)).await;
    // Of one call, what is refused and what is carried out are about the same log.
    appended(one, &here, plain(vec![fact("y")])).await;
    let both = other.append(&here, vec![fenced(5), fenced(6), fenced(6)]).await.unwrap();
    assert!(matches!(both[1], Outcome::Appended(_)), "{both:?}");
    assert_eq!((both[0], both[2]), (Outcome::FenceMoved(Seq(6)), Outcome::FenceMoved(Seq(7))));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_never_conflict_with_a_busy_conversation() {
    let Some(pair) = Pair::new().await else { return };
    let here = created(&pair.stores[0], "r").await;
    let (talking, room) = (Arc::clone(&pair.stores[0]), here.clone());
    let talk = tokio::spawn(async move {
        for n in 0.. {
            appended(&talking, &room, plain(vec![message("ann", &n.to_string())])).await;
        }
    });
    let mut fence = Seq(1);
    let (mut between, mut votes) = (0, 0);
    // Until enough was said between them, however slowly that goes.
    while votes < 20 || between < 5 {
        votes += 1;
        let vote = Append { fence: Some(fence), ..plain(vec![fact("vote")]) };
        let receipt = appended(&pair.stores[1], &here, vote).await;
        between += receipt.first.0 - fence.0 - 1;
        fence = receipt.last;
    }
    talk.abort();
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_both_create_at_once_is_created_once() {
    let Some(pair) = Pair::new().await else { return };
    for n in 0..16 {
        let here = room(&format!("r{n}"));
        let [one, other] = &pair.stores;
        // What comes behind the creation is carried out whoever was faster.
        let call = || {
            vec![creation(Visibility::Public, None), plain(vec![message("ann", "a")]), plain(vec![fact("b")])]
        };
        let (one, other) = tokio::join!(one.append(&here, call()), other.append(&here, call()));
        let (one, other) = (one.unwrap(), other.unwrap());
        let created = [&one[0], &other[0]].into_iter().filter(|o| matches!(o, Outcome::Appended(_))).count();
        assert_eq!(created, 1, "{one:?} {other:?}");
        let later = one[1..].iter().chain(&other[1..]);
        assert!(later.clone().all(|o| matches!(o, Outcome::Appended(_))), "{one:?} {other:?}");
        assert_no_holes(&log(&pair.stores[0], &here).await, 5);
    }
    let listed = pair.stores[1]
        .list_rooms(RoomFilter::Public(salon::ids::Namespace::default()), u64::MAX, 99)
        .await
        .unwrap();
    assert_eq!(listed.len(), 16);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_through_the_other_is_known_before_the_fence_is_looked_at() {
    let Some(pair) = Pair::new().await else { return };
    let [one, other] = &pair.stores;
    let here = created(one, "r").await;
    for n in 0..16_u64 {
        let key = n.to_string();
        let append = || keyed(Append { fence: Some(Seq(n + 1)), ..plain(vec![fact("a")]) }, "ann", &key, 7);
        let both = tokio::join!(outcome(one, &here, append()), outcome(other, &here, append()));
        match both {
            (Outcome::Appended(first), Outcome::Duplicate(again))
            | (Outcome::Duplicate(again), Outcome::Appended(first)) => assert_eq!(first, again),
            other => panic!("{other:?}"),
        }
    }
    assert_no_holes(&log(one, &here).await, 17);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_created_a_room_is_changed_by_either_and_listed_to_the_last() {
    let Some(pair) = Pair::new().await else { return };
    let here = created(&pair.stores[0], "r").await;
    let lists = async |name: &str| {
        pair.stores[0]
            .list_rooms(RoomFilter::Of(salon::ids::Namespace::default(), user(name)), u64::MAX, 9)
            .await
            .unwrap()
            .len()
    };
    let names = ["ann", "bob", "eve", "ann"];
    for (n, name) in names.iter().enumerate() {
        let change = DirectoryChange::Room { visibility: Visibility::Private, created_by: Some(user(name)) };
        let append = Append { directory: vec![change], ..plain(vec![fact("is whose")]) };
        appended(&pair.stores[n % 2], &here, append).await;
        for other in ["ann", "bob", "eve"] {
            assert_eq!(lists(other).await, usize::from(other == *name), "{other} after {name}");
        }
    }
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reservations_through_both_in_any_order_of_accounts_stay_within_the_limits() {
    let Some(pair) = Pair::new().await else { return };
    let account = |key: &str| Account { key: key.to_owned(), begins: Timestamp(0) };
    let line = |key: &str, limit| Line {
        account: account(key),
        amount: 7,
        limit: Some(limit),
        keep_until: Timestamp(9),
    };
    let mut work = JoinSet::new();
    for n in 0..8_usize {
        let store = Arc::clone(&pair.stores[n % 2]);
        let mut lines = vec![line("a", 30), line("b", 1000), line("c", 1000)];
        lines.rotate_left(n % 3);
        work.spawn(async move {
            let mut done = 0;
            for _ in 0..8 {
                let reservation = reservation(lines.clone());
                let id = reservation.id;
                if store.reserve(reservation).await.unwrap() == Reserve::Reserved {
                    let held = store.balances(&[Account { key: "a".into(), begins: Timestamp(0) }]).await;
                    assert!(held.unwrap()[0].used() <= 30);
                    assert!(store.settle(id, vec![0, 0, 0]).await.unwrap());
                    done += 1;
                }
            }
            done
        });
    }
    let done: usize = work.join_all().await.into_iter().sum();
    assert!(done > 0);
    let balances = pair.stores[0].balances(&["a", "b", "c"].map(account)).await.unwrap();
    assert!(balances.iter().all(|balance| balance.used() == 0), "{balances:?}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_writes_of_both_to_one_document_one_succeeds() {
    let Some(pair) = Pair::new().await else { return };
    race(&pair.stores).await;
    pair.end().await;
}

/// What each has appended is counted, at the latest when it is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_both_append_is_counted_together() {
    let Some(pair) = Pair::new().await else { return };
    let acme = Namespace::parse("acme").unwrap();
    let mut bytes = 0;
    for (name, store) in ["one", "other"].into_iter().zip(&pair.stores) {
        let begin = creation(Visibility::Public, None);
        bytes += begin.records.iter().map(|r| (r.public.len() + r.private.len()) as u64).sum::<u64>();
        appended(store, &room(name).within(&acme), begin).await;
    }
    // To one room through both, and from it through the other.
    let here = room("one").within(&acme);
    for (n, store) in (0..6).zip(pair.stores.iter().cycle()) {
        let append = members([DirectoryChange::Joined(user(&format!("user {n}")))]);
        bytes += append.records.iter().map(|r| (r.public.len() + r.private.len()) as u64).sum::<u64>();
        appended(store, &here, append).await;
    }
    let left = members([DirectoryChange::Left(user("user 0"))]);
    bytes += left.records.iter().map(|r| (r.public.len() + r.private.len()) as u64).sum::<u64>();
    appended(&pair.stores[1], &here, left).await;
    pair.stores[1].close().await.unwrap();
    let counted = pair.stores[0].namespace_usage(&acme).await.unwrap();
    assert_eq!(counted, NamespaceUsage { rooms: 2, bytes, members: 5 });
    pair.end().await;
}

fn members(changes: impl IntoIterator<Item = DirectoryChange>) -> Append {
    Append { directory: changes.into_iter().collect(), ..plain(vec![fact("members")]) }
}

/// A store that few joins have gone through says so before it is closed: so many as the contract names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_members_are_missing_than_the_contract_says() {
    let Some(pair) = Pair::new().await else { return };
    let [one, other] = &pair.stores;
    let here = created(one, "r").await;
    for twenty in 0..10 {
        let joined = (0..20).map(|n| DirectoryChange::Joined(user(&format!("user {twenty} {n}"))));
        appended(one, &here, members(joined)).await;
        let known = 20 * (twenty + 1);
        let counted = async |store: &Arc<dyn Store>| {
            store.namespace_usage(&Namespace::default()).await.unwrap().members
        };
        assert_eq!(counted(one).await, known, "here it is known");
        assert!(known - counted(other).await < 100, "{known}");
    }
    pair.end().await;
}

/// More leave than were counted, as members from before there was a count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_never_counted_and_leaves_takes_nobody_else_out_of_the_count() {
    let Some(pair) = Pair::new().await else { return };
    let [one, other] = &pair.stores;
    let counted = async || other.namespace_usage(&Namespace::default()).await.unwrap();
    let here = created(one, "r").await;
    let all = || (0..30).map(|n| user(&format!("user {n}")));
    appended(one, &here, members(all().take(2).map(DirectoryChange::Joined))).await;
    appended(one, &here, members(all().map(DirectoryChange::Left))).await;
    // A room is told at once, and all that is owed with it.
    let before = counted().await;
    created(one, "second").await;
    let now = counted().await;
    assert_eq!((now.rooms, now.members), (2, 0));
    assert!(now.bytes > before.bytes);
    appended(one, &here, members(all().take(3).map(DirectoryChange::Joined))).await;
    created(one, "third").await;
    assert_eq!(counted().await.members, 3, "what comes later counts");
    pair.end().await;
}
