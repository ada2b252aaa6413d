//! One call after the other, and many at once.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use salon::{
    budget::{Budget, Cost, Limits, Refused, Scope, ScopeLimits, Scopes, Unit, Usage, Window},
    clock::Clock as _,
    ids::Namespace,
    store::{
        self, Store,
        config::{StoreConfig, StoreKind},
        memory::MemoryStore,
    },
};

use super::{MIDNIGHT, Process, SetClock, room_tokens_per_minute, run, scopes, tokens, until_open};
use crate::harness::gate::{Fault, GatedStore};

/// What is (spent, reserved) of the room's tokens in this minute.
async fn in_room(process: &Process, room: &str) -> (u64, u64) {
    let budget = Budget { scope: Scope::Room, window: Window::Minute, unit: Unit::Tokens };
    let usage = process.budgets.usage(&Scopes { user: None, ..scopes("x", room) }).await.unwrap();
    let usage: Usage = usage.into_iter().find(|usage| usage.budget == budget).unwrap();
    (usage.spent, usage.reserved)
}

async fn one_of_64_passes(store: Arc<dyn Store>) {
    let clock = SetClock::new(MIDNIGHT);
    let process = Process::start(&store, &clock, room_tokens_per_minute(100));
    let ask = |n: usize| tokio::spawn(process.ask(&format!("user {}", n % 7), "r", tokens(100)));
    let answers: Vec<_> = join_all((0..64).map(ask)).await.into_iter().map(Result::unwrap).collect();
    let (passed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((passed.len(), refused.len()), (1, 63));
    for refused in refused {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, Refused::UsedUp { limit: 100, left: 0, asked: 100, .. }), "{refused:?}");
    }
    assert_eq!(in_room(&process, "r").await, (0, 100));
    for hold in passed {
        hold.unwrap().settle(tokens(40)).await;
    }
    assert_eq!(in_room(&process, "r").await, (40, 0));
    // Nobody is held up by what was refused: what is left can be had.
    process.ask("ann", "r", tokens(60)).await.unwrap().settle(tokens(60)).await;
    assert_eq!(in_room(&process, "r").await, (100, 0));
    process.end().await;
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_requests_for_one_place_exactly_one_passes() {
    one_of_64_passes(Arc::new(MemoryStore::new())).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("salon.db");
    one_of_64_passes(
        store::open::open(&StoreConfig { kind: StoreKind::Sqlite, path, ..StoreConfig::default() })
            .await
            .unwrap(),
    )
    .await;
}

#[tokio::test]
async fn a_refusal_names_the_budget_that_lasts_longest_and_when_it_refills() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let clock = SetClock::new(MIDNIGHT.plus(Duration::from_secs(90)));
    let day = ScopeLimits { tokens_per_day: Some(1000), tokens_per_minute: Some(500), ..Default::default() };
    let process = Process::start(&store, &clock, Limits { user: day, ..Limits::default() });
    let ask = |cost| process.ask("ann", "r", tokens(cost)).map(Result::unwrap_err);

    process.ask("ann", "r", tokens(400)).await.unwrap().settle(tokens(400)).await;
    let refused = ask(101).await;
    let budget = Budget { scope: Scope::User, window: Window::Minute, unit: Unit::Tokens };
    assert_eq!(refused.budget(), Some(budget));
    assert_eq!(refused.retry_at(), Some(MIDNIGHT.plus(Duration::from_secs(120))));

    clock.set(MIDNIGHT.plus(Duration::from_secs(120)));
    process.ask("ann", "r", tokens(450)).await.unwrap().settle(tokens(450)).await;
    let refused = ask(200).await;
    assert_eq!(refused.budget(), Some(Budget { window: Window::Day, ..budget }), "both are used up");
    assert_eq!(refused.retry_at(), Some(MIDNIGHT.plus(Duration::from_secs(86_400))));
    assert!(refused.to_string().contains("1000 tokens per day of the user has 150 left"), "{refused}");

    let refused = ask(501).await;
    let too_large = Refused::TooLarge { budget, limit: 500, asked: 501 };
    assert_eq!((refused.retry_at(), &refused), (None, &too_large));
    // Other users have budgets of their own.
    let bob = process.ask("bob", "r", tokens(500)).await.unwrap();
    bob.settle(tokens(1)).await;
    process.end().await;
}

#[tokio::test]
async fn money_needs_a_price_where_it_is_limited() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let clock = SetClock::new(MIDNIGHT);
    let server = ScopeLimits { money_per_day: Some(1_000_000), ..Default::default() };
    let process = Process::start(&store, &clock, Limits { server, ..Limits::default() });
    let ask = |micros| process.ask("ann", "r", Cost { tokens: 10, micros });
    let refused = ask(None).await.unwrap_err();
    assert!(matches!(refused, Refused::Unpriced { limit: 1_000_000, .. }), "{refused:?}");
    ask(Some(0)).await.unwrap().settle(tokens(10)).await;
    let hold = ask(Some(700_000)).await.unwrap();
    let refused = ask(Some(400_000)).await.unwrap_err();
    assert!(refused.to_string().contains("1 money per day of the server has 0.3 left"), "{refused}");
    hold.settle(Cost { tokens: 10, micros: Some(600_000) }).await;
    // What it cost is not known in the end: it stays what was reserved.
    ask(Some(400_000)).await.unwrap().settle(Cost { tokens: 10, micros: None }).await;
    let usage = process.budgets.usage(&Scopes::default()).await.unwrap();
    let money = usage.iter().find(|u| u.budget.unit == Unit::Money && u.budget.window == Window::Day);
    let money = money.unwrap();
    assert_eq!((money.limit, money.spent, money.reserved), (Some(1_000_000), 1_000_000, 0));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_counts_as_used_up_and_one_never_made_as_nothing() {
    let gated = Arc::new(GatedStore::new());
    let store: Arc<dyn Store> = Arc::<GatedStore>::clone(&gated);
    let process = Process::start(&store, &SetClock::new(MIDNIGHT), room_tokens_per_minute(100));
    drop(process.ask("ann", "r", tokens(30)).await.unwrap());
    until_open(&store, 0).await;
    assert_eq!(in_room(&process, "r").await, (30, 0));

    // Given up while the store is asked: before it has done anything, and behind that.
    gated.ledger_pauses(true);
    for polls in 1..=2 {
        let mut asking = Box::pin(process.ask("ann", "r", tokens(30)));
        for _ in 0..polls {
            assert!((&mut asking).now_or_never().is_none());
        }
        let open = usize::from(polls == 2);
        assert_eq!(gated.open_reservations().await.unwrap().len(), open);
        drop(asking);
        until_open(&store, 0).await;
        assert_eq!(in_room(&process, "r").await, (30, 0));
    }

    // Given up while it is settled.
    let hold = process.ask("ann", "r", tokens(30)).await.unwrap();
    assert!(hold.settle(tokens(5)).now_or_never().is_none());
    until_open(&store, 0).await;
    assert_eq!(in_room(&process, "r").await, (35, 0));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_call_loses_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let process = Process::start(&store, &SetClock::new(MIDNIGHT), room_tokens_per_minute(100));
    let hold = process.ask("ann", "r", tokens(30)).await.unwrap();
    let call = tokio::spawn(async move {
        let _hold = hold;
        panic!("a provider's defect");
    });
    assert!(call.await.unwrap_err().is_panic());
    until_open(&store, 0).await;
    assert_eq!(in_room(&process, "r").await, (30, 0));
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_admits_nothing_and_is_told_later() {
    let gated = Arc::new(GatedStore::new());
    let store: Arc<dyn Store> = Arc::<GatedStore>::clone(&gated);
    let process = Process::start(&store, &SetClock::new(MIDNIGHT), room_tokens_per_minute(100));
    let ask = || process.ask("ann", "r", tokens(60));
    for (fault, spent) in [(Fault::Before, 0), (Fault::After, 5)] {
        gated.ledger_fails(Some(fault), 1);
        let refused = ask().await.unwrap_err();
        assert_eq!((refused.retry_at(), &refused), (None, &Refused::Unavailable));
        // It may have been carried out all the same: that is put right.
        until_open(&store, 0).await;
        assert_eq!(in_room(&process, "r").await, (spent, 0));

        let hold = ask().await.unwrap();
        gated.ledger_fails(Some(fault), 3);
        hold.settle(tokens(5)).await;
        until_open(&store, 0).await;
    }
    assert_eq!(in_room(&process, "r").await, (10, 0), "each once");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_paid_before_the_end_is_paid_by_the_next_start() {
    let gated = Arc::new(GatedStore::new());
    let store: Arc<dyn Store> = Arc::<GatedStore>::clone(&gated);
    let clock = SetClock::new(MIDNIGHT);
    let limits = room_tokens_per_minute(100);
    let process = Process::start(&store, &clock, limits);
    let hold = process.ask("ann", "r", tokens(60)).await.unwrap();
    let left = process.ask("ann", "r", tokens(10)).await.unwrap();
    gated.ledger_fails(Some(Fault::Before), u32::MAX);
    hold.settle(tokens(5)).await;
    process.end().await;
    drop(left);
    gated.ledger_fails(None, 0);
    assert_eq!(store.open_reservations().await.unwrap().len(), 2);

    let process = Process::start(&store, &clock, limits);
    assert_eq!(in_room(&process, "r").await, (0, 70));
    // One of them is not taken at once, and when it is looked for again.
    gated.ledger_fails(Some(Fault::Before), 1);
    assert_eq!(process.recover().await, 2);
    assert_eq!(store.open_reservations().await.unwrap(), []);
    assert_eq!(in_room(&process, "r").await, (70, 0));
    assert_eq!(process.recover().await, 0);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_limits_a_call_is_not_held_up_and_its_usage_is_counted() {
    let gated = Arc::new(GatedStore::new());
    let store: Arc<dyn Store> = Arc::<GatedStore>::clone(&gated);
    let process = Process::start(&store, &SetClock::new(MIDNIGHT), Limits::default());
    gated.ledger_fails(Some(Fault::Before), u32::MAX);
    let asking = process.ask("ann", "r", Cost { tokens: 30, micros: Some(9) });
    let hold = asking.now_or_never().expect("it asks the store").unwrap();
    gated.ledger_fails(Some(Fault::After), 3);
    hold.settle(Cost { tokens: 20, micros: Some(7) }).await;
    let used = || async {
        let usage = process.budgets.usage(&scopes("ann", "r")).await.unwrap();
        assert_eq!(usage.len(), 8, "of the user and of the room");
        assert!(usage.iter().all(|usage| usage.limit.is_none()));
        usage.iter().map(|usage| usage.spent + 1_000 * usage.reserved).collect::<Vec<_>>()
    };
    let counted = async {
        while used().await != [20, 7, 20, 7, 20, 7, 20, 7] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, counted).await.expect("it is never counted");
    // As under a limit, what is given up counts as used up.
    drop(process.ask("ann", "r", tokens(30)).await.unwrap());
    let counted = async {
        while used().await != [50, 7, 50, 7, 50, 7, 50, 7] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, counted).await.expect("it is never counted");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn windows_that_are_over_leave_nothing_behind() {
    let gated = Arc::new(GatedStore::new());
    let store: Arc<dyn Store> = Arc::<GatedStore>::clone(&gated);
    let clock = SetClock::new(MIDNIGHT);
    let process = Process::start(&store, &clock, room_tokens_per_minute(100));
    for minute in 0..180 {
        clock.set(MIDNIGHT.plus(Duration::from_secs(60 * minute)));
        let hold = process.ask("ann", "r", tokens(100)).await.unwrap();
        hold.settle(tokens(100)).await;
    }
    // A day behind, everything but the day itself has been forgotten by the task.
    clock.set(MIDNIGHT.plus(Duration::from_secs(86_400)));
    tokio::time::sleep(Duration::from_secs(11 * 60)).await;
    assert_eq!(store.forget_accounts(clock.now()).await.unwrap(), 0);
    assert_eq!(store.forget_accounts(MIDNIGHT.plus(Duration::from_secs(10 * 86_400))).await.unwrap(), 3);
    process.end().await;
}

#[tokio::test]
async fn namespaces_share_no_budgets_but_the_servers() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let day = |limit| ScopeLimits { tokens_per_day: Some(limit), ..Default::default() };
    let limits = Limits { user: day(60), namespace: day(100), server: day(250), ..Limits::default() };
    let process = Process::start(&store, &SetClock::new(MIDNIGHT), limits);
    let within = |namespace: &str, user: &str| {
        let namespace = Namespace::parse(namespace).unwrap();
        let room = scopes(user, "r").room.map(|room| room.within(&namespace));
        Scopes { namespace, room, ..scopes(user, "r") }
    };
    let ask = async |namespace: &str, user: &str, cost| {
        let asked = process.budgets.reserve(run(), &within(namespace, user), tokens(cost)).await;
        match asked {
            Ok(hold) => {
                hold.settle(tokens(cost)).await;
                None
            }
            Err(refused) => Some(refused.budget().unwrap().scope),
        }
    };
    assert_eq!(ask("default", "ann", 60).await, None);
    assert_eq!(ask("default", "ann", 1).await, Some(Scope::User));
    // Somebody else of that name, in a room of that name.
    assert_eq!(ask("acme", "ann", 60).await, None);
    assert_eq!(ask("acme", "bob", 41).await, Some(Scope::Namespace));
    assert_eq!(ask("acme", "bob", 40).await, None);
    assert_eq!(ask("default", "bob", 41).await, Some(Scope::Namespace), "the default one is one as well");
    assert_eq!(ask("default", "bob", 40).await, None);
    assert_eq!(ask("third", "ann", 51).await, Some(Scope::Server));
    assert_eq!(ask("third", "ann", 50).await, None);

    let told = async |scopes: Scopes| {
        let usage = process.budgets.usage(&scopes).await.unwrap().into_iter();
        let day = usage.filter(|u| u.budget.window == Window::Day && u.budget.unit == Unit::Tokens);
        day.map(|usage| (usage.budget.scope, usage.spent)).collect::<Vec<_>>()
    };
    let of_all = |namespace: &str| Scopes { user: None, room: None, ..within(namespace, "x") };
    assert_eq!(told(of_all("default")).await, [(Scope::Namespace, 100), (Scope::Server, 250)]);
    assert_eq!(told(of_all("acme")).await, [(Scope::Namespace, 100)], "what others spend is not told");
    assert_eq!(told(within("acme", "ann")).await, [(Scope::User, 60), (Scope::Room, 100)]);
    assert_eq!(told(within("default", "ann")).await, [(Scope::User, 60), (Scope::Room, 100)]);
    process.end().await;
}
