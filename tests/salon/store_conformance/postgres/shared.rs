//! Two stores on one schema, as two processes have them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use salon::{
    clock::Timestamp,
    domain::{event::DirectoryChange, room::Visibility},
    ids::{Namespace, RoomId, Seq},
    store::{
        self, Append, ErrorKind, NamespaceUsage, Outcome, Store,
        config::StoreConfig,
        ledger::{Account, Line, Reserve},
    },
};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use super::Schema;
use crate::store_conformance::{
    documents::race,
    ledger::reservation,
    support::{
        appended, assert_no_holes, created, creation, fact, keyed, log, message, outcome, plain, room, texts,
        user,
    },
};

/// A schema with two stores.
struct Pair {
    schema: Schema,
    stores: [Arc<dyn Store>; 2],
}

impl Pair {
    async fn new() -> Option<Self> {
        let schema = Schema::new().await?;
        let config = schema.config();
        let (one, other) = tokio::join!(store::open::open(&config), store::open::open(&config));
        Some(Self { schema, stores: [one.unwrap(), other.unwrap()] })
    }

    async fn end(self) {
        for store in &self.stores {
            store.close().await.unwrap();
        }
        self.schema.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_both_to_one_room_have_no_holes_and_are_where_they_were_said_to_be() {
    let Some(pair) = Pair::new().await else { return };
    let here = created(&pair.stores[0], "r").await;
    let mut appenders = JoinSet::new();
    for appender in 0..16_usize {
        let (store, room) = (Arc::clone(&pair.stores[appender % 2]), here.clone());
        appenders.spawn(async move {
            let mut said = Vec::new();
            for n in 0..16 {
                let text = format!("{appender} {n}");
                let records = vec![message("ann", &text), fact(&text)];
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
        .flat_map(|(text, receipt)| {
            assert_eq!(receipt.last, receipt.first.next());
            [(receipt.first, text.clone()), (receipt.last, text)]
        })
        .collect();
    let records = log(&pair.stores[1], &here).await;
    assert_no_holes(&records, 1 + 16 * 16 * 2);
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
    let mut between = 0;
    for _ in 0..50 {
        let vote = Append { fence: Some(fence), ..plain(vec![fact("vote")]) };
        let receipt = appended(&pair.stores[1], &here, vote).await;
        between += receipt.first.0 - fence.0 - 1;
        fence = receipt.last;
    }
    talk.abort();
    assert!(between > 10, "{between} messages came between the votes");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_both_create_at_once_is_created_once() {
    let Some(pair) = Pair::new().await else { return };
    for n in 0..32 {
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
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_through_the_other_is_known() {
    let Some(pair) = Pair::new().await else { return };
    let here = created(&pair.stores[0], "r").await;
    for n in 0..32 {
        let key = n.to_string();
        let append = || keyed(plain(vec![message("ann", "a")]), "ann", &key, 7);
        let (one, other) = tokio::join!(
            outcome(&pair.stores[0], &here, append()),
            outcome(&pair.stores[1], &here, append())
        );
        match (one, other) {
            (Outcome::Appended(first), Outcome::Duplicate(again))
            | (Outcome::Duplicate(again), Outcome::Appended(first)) => assert_eq!(first, again),
            other => panic!("{other:?}"),
        }
    }
    assert_no_holes(&log(&pair.stores[0], &here).await, 33);
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
    for n in 0..16_usize {
        let store = Arc::clone(&pair.stores[n % 2]);
        // Whoever locked them as they come would wait for one another for ever.
        let mut lines = vec![line("a", 50), line("b", 1000), line("c", 1000)];
        lines.rotate_left(n % 3);
        work.spawn(async move {
            let mut done = 0;
            for _ in 0..16 {
                let reservation = reservation(lines.clone());
                let id = reservation.id;
                if store.reserve(reservation).await.unwrap() == Reserve::Reserved {
                    let held = store.balances(&[Account { key: "a".into(), begins: Timestamp(0) }]).await;
                    assert!(held.unwrap()[0].used() <= 50);
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
async fn a_room_that_is_locked_holds_up_itself_alone_and_not_for_ever() {
    let Some(schema) = Schema::new().await else { return };
    let config = StoreConfig { timeout: Duration::from_millis(500), ..schema.config() };
    let store = store::open::open(&config).await.unwrap();
    let (held, free) = (created(&store, "held").await, created(&store, "free").await);
    let say = |room: &RoomId| {
        let (store, room) = (Arc::clone(&store), room.clone());
        async move { store.append(&room, vec![plain(vec![message("ann", "a")])]).await }
    };
    let (mut client, connection) = tokio_postgres::connect(&schema.url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let transaction = client.transaction().await.unwrap();
    let lock = format!("SELECT FROM {}.rooms WHERE id = 'held' FOR UPDATE", schema.name);
    transaction.execute(&lock, &[]).await.unwrap();

    let waits = tokio::spawn(say(&held));
    for _ in 0..20 {
        say(&free).await.unwrap();
    }
    let error = waits.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.what.contains("store.timeout"), "{error}");
    transaction.rollback().await.unwrap();
    // What failed has left nothing, and holds nothing.
    say(&held).await.unwrap();
    assert_no_holes(&log(&store, &held).await, 2);
    assert_no_holes(&log(&store, &free).await, 21);
    store.check().await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    store.close().await.unwrap();
    schema.drop().await;
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
        let joined = DirectoryChange::Joined(user(&format!("user {n}")));
        let append = Append { directory: vec![joined], ..plain(vec![fact("joined")]) };
        bytes += append.records.iter().map(|r| (r.public.len() + r.private.len()) as u64).sum::<u64>();
        appended(store, &here, append).await;
    }
    let left = Append { directory: vec![DirectoryChange::Left(user("user 0"))], ..plain(vec![fact("left")]) };
    bytes += left.records.iter().map(|r| (r.public.len() + r.private.len()) as u64).sum::<u64>();
    appended(&pair.stores[1], &here, left).await;
    pair.stores[1].close().await.unwrap();
    let counted = pair.stores[0].namespace_usage(&acme).await.unwrap();
    assert_eq!(counted, NamespaceUsage { rooms: 2, bytes, members: 5 });
    pair.end().await;
}
