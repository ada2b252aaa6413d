//! Reservations and what they leave in their accounts.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::join_all};
use salon::{
    clock::Timestamp,
    ids::{MessageId, NodeId, ReservationId},
    store::{
        ErrorKind, Store,
        ledger::{AMOUNT_MAX, Account, Balance, LINES_MAX, Line, OpenReservation, Reservation, Reserve},
    },
};

use super::support::next_id;

/// The account of a key in the first window.
fn account(key: &str) -> Account {
    Account { key: key.to_owned(), begins: Timestamp(0) }
}

fn line(key: &str, amount: u64, limit: u64) -> Line {
    Line { account: account(key), amount, limit: Some(limit), keep_until: Timestamp(1_000) }
}

/// A reservation of these lines, with an id of its own.
pub fn reservation(lines: Vec<Line>) -> Reservation {
    let (id, run) = (ReservationId(next_id()), MessageId(next_id()));
    Reservation { id, run, at: Timestamp(500), lines, node: NodeId::NOBODY }
}

async fn reserved(store: &Arc<dyn Store>, lines: Vec<Line>) -> ReservationId {
    let reservation = reservation(lines);
    let id = reservation.id;
    assert_eq!(store.reserve(reservation).await.unwrap(), Reserve::Reserved);
    id
}

/// What these accounts hold, as (spent, reserved).
async fn held<const N: usize>(store: &Arc<dyn Store>, keys: [&str; N]) -> [(u64, u64); N] {
    let balances = store.balances(&keys.map(account)).await.unwrap();
    let pairs: Vec<(u64, u64)> = balances.iter().map(|b| (b.spent, b.reserved)).collect();
    pairs.try_into().unwrap()
}

pub async fn a_reservation_is_whole_or_absent(store: Arc<dyn Store>) {
    assert_eq!(held(&store, ["a", "b"]).await, [(0, 0), (0, 0)]);
    reserved(&store, vec![line("a", 3, 10), line("b", 6, 10)]).await;
    assert_eq!(held(&store, ["a", "b"]).await, [(0, 3), (0, 6)]);
    let refused = store.reserve(reservation(vec![line("a", 3, 10), line("b", 5, 10)])).await.unwrap();
    assert_eq!(refused, Reserve::Refused { line: 1, balance: Balance { spent: 0, reserved: 6 } });
    let refused = store.reserve(reservation(vec![line("b", 5, 10), line("a", 9, 10)])).await.unwrap();
    assert_eq!(refused, Reserve::Refused { line: 0, balance: Balance { spent: 0, reserved: 6 } });
    assert_eq!(held(&store, ["a", "b"]).await, [(0, 3), (0, 6)]);
    assert_eq!(store.open_reservations().await.unwrap().len(), 1);
}

pub async fn a_limit_can_be_reached_and_not_passed(store: Arc<dyn Store>) {
    reserved(&store, vec![line("a", 9, 10)]).await;
    reserved(&store, vec![line("a", 1, 10)]).await;
    let full = Reserve::Refused { line: 0, balance: Balance { spent: 0, reserved: 10 } };
    assert_eq!(store.reserve(reservation(vec![line("a", 1, 10)])).await.unwrap(), full);
    // A limit belongs to the reservation: one that is given more room gets it.
    reserved(&store, vec![line("a", 1, 11)]).await;
    reserved(&store, vec![Line { limit: None, ..line("a", 1_000_000, 0) }]).await;
    assert_eq!(held(&store, ["a"]).await, [(0, 1_000_011)]);
    let beyond = Line { limit: None, ..line("a", AMOUNT_MAX, 0) };
    let refused = store.reserve(reservation(vec![beyond])).await.unwrap();
    assert!(matches!(refused, Reserve::Refused { line: 0, .. }), "no backend can count that far");
}

pub async fn of_64_reservations_for_one_place_one_gets_it(store: Arc<dyn Store>) {
    let ask = |n: usize| {
        let store = Arc::clone(&store);
        // Each has a place of its own beside the one that all want, before it or behind it.
        let own = line(&format!("own {n}"), 1, 1);
        let lines =
            if n.is_multiple_of(2) { vec![own, line("a", 6, 10)] } else { vec![line("a", 6, 10), own] };
        tokio::spawn(async move { store.reserve(reservation(lines)).await.unwrap() })
    };
    let answers = join_all((0..64).map(ask)).await;
    let winners = answers.iter().filter(|answer| matches!(answer, Ok(Reserve::Reserved))).count();
    assert_eq!(winners, 1);
    assert_eq!(held(&store, ["a"]).await, [(0, 6)]);
    let own: Vec<Account> = (0..64).map(|n| account(&format!("own {n}"))).collect();
    let taken: u64 = store.balances(&own).await.unwrap().iter().map(|balance| balance.reserved).sum();
    assert_eq!(taken, 1, "who was refused holds nothing elsewhere");
}

pub async fn reservations_and_settlements_at_once_stay_within_the_limit(store: Arc<dyn Store>) {
    let work = |n: u64| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut spent = 0;
            for round in 0..20 {
                let reservation = reservation(vec![line("a", 7, 100), line("b", 1, 1_000_000)]);
                let id = reservation.id;
                if store.reserve(reservation).await.unwrap() == Reserve::Reserved {
                    let now = store.balances(&[account("a")]).await.unwrap()[0];
                    assert!(now.used() <= 100 && now.used() >= 7, "{now:?}");
                    let actual = (n + round) % 2;
                    assert!(store.settle(id, vec![actual, 1]).await.unwrap());
                    spent += actual;
                }
            }
            spent
        })
    };
    let spent: u64 = join_all((0..16).map(work)).await.into_iter().map(Result::unwrap).sum();
    assert!(spent > 0);
    assert_eq!(held(&store, ["a"]).await, [(spent, 0)]);
    assert_eq!(store.open_reservations().await.unwrap(), []);
}

pub async fn a_repeat_of_an_open_reservation_changes_nothing(store: Arc<dyn Store>) {
    let reservation = reservation(vec![line("a", 6, 10)]);
    for _ in 0..3 {
        assert_eq!(store.reserve(reservation.clone()).await.unwrap(), Reserve::Reserved);
    }
    assert_eq!(held(&store, ["a"]).await, [(0, 6)]);
    let OpenReservation { id, run, at, .. } = store.open_reservations().await.unwrap()[0];
    assert_eq!((id, run, at), (reservation.id, reservation.run, reservation.at));
    let answers = join_all((0..64).map(|_| store.settle(id, vec![2]))).await;
    assert_eq!(answers.into_iter().filter(|settled| *settled.as_ref().unwrap()).count(), 1);
    assert_eq!(held(&store, ["a"]).await, [(2, 0)]);
}

pub async fn settling_moves_what_was_used_and_frees_the_rest(store: Arc<dyn Store>) {
    let first = reserved(&store, vec![line("a", 6, 10), line("b", 60, 100)]).await;
    let second = reserved(&store, vec![line("a", 4, 10), line("b", 40, 100)]).await;
    assert!(store.settle(first, vec![1, 20]).await.unwrap());
    assert_eq!(held(&store, ["a", "b"]).await, [(1, 4), (20, 40)]);
    let third = reserved(&store, vec![line("a", 5, 10)]).await;
    // Without an amount it was used up.
    assert!(store.settle(second, vec![0]).await.unwrap());
    assert_eq!(held(&store, ["a", "b"]).await, [(1, 5), (60, 0)]);
    assert!(store.settle(third, Vec::new()).await.unwrap());
    assert_eq!(held(&store, ["a", "b"]).await, [(6, 0), (60, 0)]);
}

pub async fn settling_twice_or_the_unknown_changes_nothing(store: Arc<dyn Store>) {
    let id = reserved(&store, vec![line("a", 6, 10)]).await;
    assert!(store.settle(id, vec![2]).await.unwrap());
    assert!(!store.settle(id, vec![2]).await.unwrap());
    assert!(!store.settle(id, Vec::new()).await.unwrap());
    assert!(!store.settle(ReservationId(next_id()), vec![5]).await.unwrap());
    assert_eq!(held(&store, ["a"]).await, [(2, 0)]);
}

pub async fn more_than_was_reserved_is_recorded_and_stops_what_follows(store: Arc<dyn Store>) {
    let (first, second) =
        (reserved(&store, vec![line("a", 6, 10)]).await, reserved(&store, vec![line("a", 4, 10)]).await);
    assert!(store.settle(first, vec![25]).await.unwrap());
    assert_eq!(held(&store, ["a"]).await, [(25, 4)]);
    let over = Reserve::Refused { line: 0, balance: Balance { spent: 25, reserved: 4 } };
    assert_eq!(store.reserve(reservation(vec![line("a", 0, 10)])).await.unwrap(), over);
    assert!(store.settle(second, vec![u64::MAX]).await.unwrap());
    assert_eq!(held(&store, ["a"]).await, [(AMOUNT_MAX, 0)]);
}

pub async fn a_window_is_an_account_of_its_own(store: Arc<dyn Store>) {
    let next = Account { key: "a".into(), begins: Timestamp(60_000) };
    let in_next = |amount| Line { account: next.clone(), ..line("a", amount, 10) };
    let late = reserved(&store, vec![line("a", 10, 10)]).await;
    let early = reserved(&store, vec![in_next(7)]).await;
    // What was reserved in one window is settled there, also after the next has begun.
    assert!(store.settle(late, vec![9]).await.unwrap());
    assert!(store.settle(early, vec![5]).await.unwrap());
    let balances = store.balances(&[next.clone(), account("a")]).await.unwrap();
    assert_eq!(balances.iter().map(|b| (b.spent, b.reserved)).collect::<Vec<_>>(), [(5, 0), (9, 0)]);
    let negative = Account { key: "a".into(), begins: Timestamp(-60_000) };
    reserved(&store, vec![Line { account: negative.clone(), ..line("a", 3, 10) }]).await;
    assert_eq!(store.balances(&[negative]).await.unwrap()[0].reserved, 3);
}

pub async fn accounts_are_forgotten_when_they_are_over_and_nothing_is_reserved(store: Arc<dyn Store>) {
    let open = reserved(&store, vec![line("a", 6, 10), line("b", 0, 10)]).await;
    let ended = reserved(&store, vec![line("b", 6, 10), line("c", 6, 10)]).await;
    store.settle(ended, Vec::new()).await.unwrap();
    reserved(&store, vec![Line { keep_until: Timestamp(2_000), ..line("c", 0, 10) }]).await;
    assert_eq!(store.forget_accounts(Timestamp(1_000)).await.unwrap(), 0, "until then they are kept");
    assert_eq!(store.forget_accounts(Timestamp(1_001)).await.unwrap(), 1);
    assert_eq!(held(&store, ["a", "b", "c"]).await, [(0, 6), (0, 0), (6, 0)]);
    // One of its accounts is gone.
    assert!(store.settle(open, vec![1, 9]).await.unwrap());
    assert_eq!(held(&store, ["a", "b", "c"]).await, [(1, 0), (0, 0), (6, 0)]);
    assert_eq!(store.forget_accounts(Timestamp(i64::MAX)).await.unwrap(), 2);
}

pub async fn many_accounts_are_forgotten_at_once(store: Arc<dyn Store>) {
    for portion in 0..50 {
        let lines = (0..50).map(|n| line(&format!("{portion} {n}"), 1, 1)).collect();
        let id = reserved(&store, lines).await;
        store.settle(id, Vec::new()).await.unwrap();
    }
    assert_eq!(store.forget_accounts(Timestamp(1_001)).await.unwrap(), 2500);
    assert_eq!(store.forget_accounts(Timestamp(1_001)).await.unwrap(), 0);
}

pub async fn a_reservation_without_sense_is_refused(store: Arc<dyn Store>) {
    let too_many = (0..=LINES_MAX).map(|n| line(&n.to_string(), 1, 10)).collect();
    for lines in [Vec::new(), too_many, vec![line("a", 1, 10), line("b", 1, 10), line("a", 1, 10)]] {
        let refused = store.reserve(reservation(lines)).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unusable, "{refused}");
    }
    assert_eq!(held(&store, ["a", "b"]).await, [(0, 0), (0, 0)]);
}

pub async fn a_settlement_waits_for_a_reservation_that_was_given_up(store: Arc<dyn Store>) {
    let mut spent = 0;
    // Given up behind any number of steps: before it is on its way, on it, and when it has been answered.
    for steps in 0..48 {
        let reservation = reservation(vec![line("a", 5, 1_000_000)]);
        let id = reservation.id;
        let mut reserving = store.reserve(reservation);
        for _ in 0..steps {
            if reserving.as_mut().now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(reserving);
        spent += u64::from(store.settle(id, vec![2]).await.unwrap()) * 2;
    }
    // One that would still come is behind this one.
    let last = reserved(&store, vec![line("a", 5, 1_000_000)]).await;
    assert!(store.settle(last, vec![2]).await.unwrap());
    assert_eq!(store.open_reservations().await.unwrap(), []);
    assert_eq!(held(&store, ["a"]).await, [(spent + 2, 0)]);
}

pub async fn a_dropped_reservation_is_whole_or_absent(store: Arc<dyn Store>) {
    let mut ids = Vec::new();
    for _ in 0..100 {
        let reservation = reservation(vec![line("a", 2, 1_000), line("b", 3, 1_000)]);
        ids.push(reservation.id);
        // Polled once, which hands the work over, and dropped before the answer can be looked at.
        let _ = store.reserve(reservation).now_or_never();
    }
    let open = store.open_reservations().await.unwrap();
    let settled = join_all(ids.into_iter().map(|id| store.settle(id, vec![1, 1]))).await;
    let count = settled.iter().filter(|settled| *settled.as_ref().unwrap()).count();
    // Settled behind them, all are known.
    assert!(open.len() <= count, "{} and then {count}", open.len());
    let count = u64::try_from(count).unwrap();
    assert_eq!(held(&store, ["a", "b"]).await, [(count, 0), (count, 0)]);
}
