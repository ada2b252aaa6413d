//! What the service answers when it does not do what it was asked, and what an operator is told then.

use std::{sync::Arc, time::Duration};

use salon::{
    clock::Timestamp,
    store::{
        self, ErrorKind, Outcome, Store,
        config::{StoreConfig, StoreUrl},
        ledger::{Account, Line},
    },
};
use tokio::time::Instant;

use super::{
    Table,
    front::{Deed, Front},
    server,
};
use crate::store_conformance::{
    ledger::reservation,
    support::{appended, assert_no_holes, created, fact, keyed, log, message, outcome, plain, texts},
};

/// A store behind a front.
pub struct World {
    pub table: Table,
    pub front: Front,
    pub store: Arc<dyn Store>,
}

impl World {
    pub async fn new(timeout: Duration) -> Option<Self> {
        let table = Table::new().await?;
        let front = Front::start(&table.url).await;
        let url = Some(StoreUrl::new(&front.url));
        let store = store::open::open(&StoreConfig { url, timeout, ..table.config() }).await.unwrap();
        Some(Self { table, front, store })
    }

    pub async fn end(self) {
        self.store.close().await.unwrap();
        self.table.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_throttled_for_a_while_is_carried_out_once() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let World { front, store, .. } = &world;
    let room = created(store, "r").await;
    let codes = [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TransactionCanceledException",
        "TransactionInProgressException",
    ];
    for (n, code) in codes.iter().enumerate() {
        front.next([Deed::Refuse(code); 4]);
        let append = keyed(plain(vec![message("ann", code)]), "ann", &n.to_string(), 1);
        appended(store, &room, append).await;
        assert!(front.is_done(), "{code}");
        // Reading is no transaction.
        if !code.starts_with("Transaction") {
            front.next([Deed::Refuse(code); 2]);
        }
        assert_eq!(texts(&log(store, &room).await).iter().filter(|text| text == code).count(), 1, "{code}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_throttled_for_too_long_fails_and_works_later() {
    let Some(world) = World::new(Duration::from_millis(400)).await else { return };
    let World { front, store, .. } = &world;
    let room = created(store, "r").await;
    front.always(Deed::Refuse("ProvisionedThroughputExceededException"));
    let error = store.append(&room, vec![plain(vec![fact("a")])]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.what.contains("throttles"), "{error}");
    assert!(front.seen().len() > 2, "it was tried once");
    // A check that only reads would not notice.
    assert_eq!(store.check().await.unwrap_err().kind, ErrorKind::Unavailable);
    assert!(front.seen().iter().all(|asked| asked == "PutItem"));
    front.next([]);
    store.check().await.unwrap();
    appended(store, &room, plain(vec![fact("a")])).await;
    assert_no_holes(&log(store, &room).await, 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_with_nothing_is_asked_for_again_and_not_for_ever() {
    let Some(world) = World::new(Duration::from_millis(400)).await else { return };
    let World { front, store, .. } = &world;
    let account = |key: &str| Account { key: key.to_owned(), begins: Timestamp(0) };
    let line = Line { account: account("a"), amount: 6, limit: None, keep_until: Timestamp(9) };
    store.reserve(reservation(vec![line])).await.unwrap();
    front.next([Deed::Nothing; 3]);
    let balances = store.balances(&[account("a"), account("b")]).await.unwrap();
    assert_eq!(balances.iter().map(|balance| balance.reserved).collect::<Vec<_>>(), [6, 0]);
    assert!(front.is_done());
    front.seen();
    front.always(Deed::Nothing);
    let error = store.balances(&[account("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    let asked = front.seen().len();
    assert!((3..40).contains(&asked), "asked {asked} times");
    front.next([]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_service_fails_the_call_in_time() {
    let Some(world) = World::new(Duration::from_millis(400)).await else { return };
    let World { front, store, .. } = &world;
    let room = created(store, "r").await;
    front.always(Deed::Hold);
    let append = || keyed(plain(vec![message("ann", "a")]), "ann", "x", 1);
    let error = store.append(&room, vec![append()]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.what.contains("event 2"), "{error}");
    front.next([]);
    let again = outcome(store, &room, append()).await;
    assert!(matches!(again, Outcome::Appended(receipt) if receipt.first.0 == 2), "{again:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_says_what_to_do() {
    let Some(world) = World::new(Duration::from_millis(400)).await else { return };
    let World { front, store, table } = &world;
    let url = Some(StoreUrl::new(&front.url));
    let config = StoreConfig { url, timeout: Duration::from_millis(400), ..table.config() };
    for (code, kind, word) in [
        ("UnrecognizedClientException", ErrorKind::Unusable, "credentials"),
        ("InvalidSignatureException", ErrorKind::Unusable, "credentials"),
        ("AccessDeniedException", ErrorKind::Unusable, "lack a right"),
        ("ResourceNotFoundException", ErrorKind::Unusable, "`salon setup`"),
        ("ExpiredTokenException", ErrorKind::Unavailable, "expired"),
    ] {
        front.always(Deed::Refuse(code));
        let error = store.head(&crate::store_conformance::support::room("r")).await.unwrap_err();
        assert_eq!(error.kind, kind, "{code}: {error}");
        assert!(error.what.contains(word), "{code}: {error}");
        if kind == ErrorKind::Unusable {
            let error = store::open::open(&config).await.unwrap_err();
            assert!(error.what.contains(word), "{code}: {error}");
        }
    }
    front.next([]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_to_a_room_of_ones_own_read_nothing_first() {
    let Some(world) = World::new(Duration::from_secs(10)).await else { return };
    let World { front, store, .. } = &world;
    front.seen();
    let room = created(store, "r").await;
    // A number, the room, and that its namespace has one more; what is appended later is counted now and then.
    assert_eq!(front.seen(), ["UpdateItem", "TransactWriteItems", "UpdateItem"]);
    appended(store, &room, plain(vec![fact("a"), fact("b")])).await;
    assert_eq!(front.seen(), ["PutItem"]);
    let keyed = |n: usize| keyed(plain(vec![message("ann", "a")]), "ann", &n.to_string(), 1);
    appended(store, &room, keyed(0)).await;
    assert_eq!(front.seen(), ["TransactWriteItems"]);
    store.append(&room, (1..=30).map(keyed).collect()).await.unwrap();
    assert_eq!(front.seen(), ["TransactWriteItems"], "one for all of them");
    outcome(store, &room, keyed(0)).await;
    assert_eq!(front.seen(), ["TransactWriteItems", "Query"], "what was there says what it came to");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_there_is_waited_for_and_then_named() {
    if server().is_none() {
        return;
    }
    // A port that somebody had, and nobody has.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let table = Table { url: format!("http://127.0.0.1:{port}"), name: "salon".into() };
    let began = Instant::now();
    let error = store::open::open(&table.config()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.what.contains("store.url") && error.what.contains("store.region"), "{error}");
    assert!((45..75).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}
