//! Budgets as a client sees them: `GetUsage`, and what a server finds of the one before it.

use std::{sync::Arc, time::Duration};

use salon::{
    budget::{Cost, Scopes},
    clock::{Clock as _, Timestamp},
    config::Money,
    ids::{MessageId, NodeId, ReservationId},
    store::{
        self, Store,
        config::StoreConfig,
        ledger::{Account, Line, Reservation, Reserve},
        memory::MemoryStore,
    },
    wire::pb::room::v1::{self as pb, BudgetScope, BudgetUnit, BudgetWindow},
};
use tonic::Code;
use uuid::Uuid;

use super::{MIDNIGHT, SetClock, run, scopes, tokens};
use crate::{
    harness::{Setup, TestServer},
    process::Place,
};

pub(super) async fn usage(server: &TestServer, user: Option<&str>, room: Option<&str>) -> Vec<pb::Budget> {
    let request = pb::GetUsageRequest { user_id: user.map(str::to_owned), room_id: room.map(str::to_owned) };
    server.client().await.get_usage(request).await.unwrap().into_inner().budgets
}

fn setup() -> Setup {
    let mut setup = Setup::default().config(|config| {
        config.llm.budgets.room.tokens_per_minute = Some(1000);
        config.llm.budgets.server.money_per_day = Some(Money { micros: 2_500_000 });
    });
    setup.clock = SetClock::new(MIDNIGHT.plus(Duration::from_secs(61)));
    setup
}

#[tokio::test]
async fn usage_is_told_per_scope_with_limits_and_when_they_reset() {
    let server = setup().start().await;
    let room = server.room(&[]).await;
    let budgets = &server.server.graph().budgets;
    let mine = scopes("ann", &room);
    let worst = Cost { tokens: 300, micros: Some(40) };
    budgets.reserve(run(), &mine, worst).await.unwrap().settle(Cost { tokens: 250, micros: Some(30) }).await;
    let hold = budgets.reserve(run(), &mine, worst).await.unwrap();

    let at = |seconds: i64| Some(prost_types::Timestamp { seconds: MIDNIGHT.0 / 1000 + seconds, nanos: 0 });
    let budget = |scope: BudgetScope, window: BudgetWindow, unit: BudgetUnit, limit, spent, reserved| {
        let resets_at = if window == BudgetWindow::Minute { at(120) } else { at(86_400) };
        let (scope, window, unit) = (scope.into(), window.into(), unit.into());
        pb::Budget { scope, window, unit, limit, spent, reserved, resets_at }
    };
    use {BudgetUnit::*, BudgetWindow::*};
    let of_room = [
        budget(BudgetScope::Room, Day, Tokens, None, 250, 300),
        budget(BudgetScope::Room, Day, Micros, None, 30, 40),
        budget(BudgetScope::Room, Minute, Tokens, Some(1000), 250, 300),
        budget(BudgetScope::Room, Minute, Micros, None, 30, 40),
    ];
    assert_eq!(usage(&server, None, Some(&room)).await, of_room);
    let of_both = usage(&server, Some("ann"), Some(&room)).await;
    assert_eq!(of_both.len(), 8);
    assert_eq!(of_both[0], budget(BudgetScope::User, Day, Tokens, None, 250, 300));
    assert_eq!(of_both[4..], of_room);
    let of_server = usage(&server, Some(""), None).await;
    assert_eq!(of_server.len(), 4);
    assert_eq!(of_server[1], budget(BudgetScope::Server, Day, Micros, Some(2_500_000), 30, 40));
    assert!(usage(&server, Some("bob"), None).await.iter().all(|b| (b.spent, b.reserved) == (0, 0)));

    hold.settle(tokens(0)).await;
    assert_eq!(usage(&server, None, Some(&room)).await[2].reserved, 0);
    server.shutdown().await;
}

#[tokio::test]
async fn usage_of_nobody_is_refused_and_a_store_that_fails_says_so() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let server = setup().store(Arc::clone(&store)).start().await;
    let ask = async |user_id: Option<&str>, room_id: Option<&str>| {
        let (user_id, room_id) = (user_id.map(str::to_owned), room_id.map(str::to_owned));
        server.client().await.get_usage(pb::GetUsageRequest { user_id, room_id }).await.unwrap_err()
    };
    let refused = ask(Some("a\nb"), None).await;
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("user_id"), "{refused}");
    assert_eq!(ask(None, Some("nowhere")).await.code(), Code::NotFound);
    assert_eq!(ask(None, Some("no/room")).await.code(), Code::NotFound);
    store.close().await.unwrap();
    let refused = ask(Some("ann"), None).await;
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(refused.message(), "the budgets cannot be read now; try again");
    server.shutdown().await;
}

/// A hold that outlives the server's tasks is settled by the next start.
#[tokio::test]
async fn a_shutdown_settles_what_was_given_up_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig { path: directory.path().join("salon.db"), ..StoreConfig::default() };
    let server = setup().store(store::open::open(&config).await.unwrap()).start().await;
    let budgets = server.server.graph().budgets.clone();
    drop(budgets.reserve(run(), &Scopes::default(), Cost { tokens: 9, micros: Some(9) }).await.unwrap());
    let left = budgets.reserve(run(), &Scopes::default(), Cost { tokens: 1, micros: Some(1) }).await.unwrap();
    server.shutdown().await;
    drop(left);
    let spent = |budgets: &[pb::Budget]| (budgets[0].spent, budgets[0].reserved);
    let store = store::open::open(&config).await.unwrap();
    assert_eq!(store.open_reservations().await.unwrap().len(), 1, "only the one that was still held");
    let server = setup().store(store).start().await;
    assert_eq!(spent(&usage(&server, None, None).await), (10, 0));
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_that_was_killed_leaves_its_reservations_as_used_up() {
    let place = Place::new().env("SALON__LLM__BUDGETS__SERVER__TOKENS_PER_DAY", "1000");
    let config = StoreConfig { path: place.database(), ..StoreConfig::default() };
    let store = store::open::open(&config).await.unwrap();
    let now = salon::clock::SystemClock.now();
    let day = Timestamp(now.0 / 86_400_000 * 86_400_000);
    let account = Account { key: "server/day/tokens/".into(), begins: day };
    for amount in [300, 40, 2] {
        let line = Line {
            account: account.clone(),
            amount,
            limit: Some(1000),
            keep_until: Timestamp(day.0 + 2 * 86_400_000),
        };
        let id = ReservationId(Uuid::new_v4());
        let reservation = Reservation {
            id,
            run: MessageId(Uuid::new_v4()),
            at: now,
            lines: vec![line],
            node: NodeId::NOBODY,
        };
        assert_eq!(store.reserve(reservation).await.unwrap(), Reserve::Reserved);
        if amount == 2 {
            store.settle(id, vec![1]).await.unwrap();
        }
    }
    store.close().await.unwrap();

    for _ in 0..2 {
        let server = place.start().await;
        let told = server.client().await.get_usage(pb::GetUsageRequest::default()).await.unwrap();
        let told = &told.into_inner().budgets[0];
        let today = told.resets_at.unwrap().seconds * 1000 == day.0 + 86_400_000;
        let expected = if today { 341 } else { 0 };
        assert_eq!((told.limit, told.spent, told.reserved), (Some(1000), expected, 0));
        server.kill().await;
    }
    assert!(place.log().contains("what a crash left reserved counts as used up"), "{}", place.log());
}
