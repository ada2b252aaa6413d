//! The ledger. A reservation and what it takes of each account is one transaction; so is its end.
//!
//! A condition cannot add, so that every account has the sum of what is spent and what is reserved beside both: `u` is
//! `s` and `r`. What is spent may be more than the store can say; then it says the most that it can.

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{Delete, Put, ReturnValuesOnConditionCheckFailure as Return, TransactWriteItem, Update},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{MessageId, NodeId, ReservationId},
    store::{
        Error, ErrorKind,
        dynamodb::{
            client::{Failure, Table},
            failure::{error, incomplete, strange},
            items::{self, Item, get_number, get_text, get_uuid, item, number, text},
            lookups::{get, get_all, of_all_shards},
            plan::due,
        },
        ledger::{AMOUNT_MAX, Account, Balance, Line, OpenReservation, Reservation, Reserve},
    },
};

/// What accounts are called in the index of what is forgotten one day.
pub(super) const ACCOUNTS: &str = "A";

const RESERVE: &str = "reserve";
const SETTLE: &str = "settle";

/// [`crate::store::Store::reserve`].
pub(super) async fn reserve(table: &Table, reservation: &Reservation) -> Result<Reserve, Error> {
    let lines = &reservation.lines;
    let deadline = Instant::now() + table.patience();
    // Which accounts are kept for less long than they are to be.
    let mut prolonged = vec![false; lines.len()];
    loop {
        if lines.iter().any(|line| !Balance::default().admits(line)) {
            return refused(table, reservation).await;
        }
        let mut actions = vec![begin(table, reservation).map_err(incomplete)?];
        for (line, prolong) in lines.iter().zip(&prolonged) {
            actions.push(take(table, line, *prolong).map_err(incomplete)?);
        }
        // One that is there already is this one: its id is used once.
        let reasons = match transact(table, RESERVE, &actions).await {
            Ok(()) => return Ok(Reserve::Reserved),
            Err(Failure::Cancelled { reasons, .. }) => reasons,
            Err(failure) => return Err(failure.into_error()),
        };
        if reasons.first().is_some_and(|reason| reason.code() == Some("ConditionalCheckFailed")) {
            return Ok(Reserve::Reserved);
        }
        for (index, ((reason, line), prolong)) in
            reasons.iter().skip(1).zip(lines).zip(&mut prolonged).enumerate()
        {
            let Some(found) = &reason.item else { continue };
            let balance = balance(found)?;
            if !balance.admits(line) {
                return Ok(Reserve::Refused { line: index, balance });
            }
            *prolong = get_number::<i64>(found, "t")? < line.keep_until.0;
        }
        if Instant::now() > deadline {
            return Err(error(ErrorKind::Unavailable, "could not reserve: its accounts change all the time"));
        }
    }
}

/// The answer to a reservation of more than its limits are.
async fn refused(table: &Table, reservation: &Reservation) -> Result<Reserve, Error> {
    let Reservation { id, lines, .. } = reservation;
    if get(table, RESERVE, &items::reservation(*id)).await?.is_some() {
        return Ok(Reserve::Reserved);
    }
    let accounts: Vec<Account> = lines.iter().map(|line| line.account.clone()).collect();
    let balances = balances(table, &accounts).await?;
    let fits = balances.iter().zip(lines).position(|(balance, line)| !balance.admits(line));
    let line = fits.unwrap_or_default();
    Ok(Reserve::Refused { line, balance: balances.get(line).copied().unwrap_or_default() })
}

/// Writes the reservation down.
fn begin(table: &Table, reservation: &Reservation) -> Result<TransactWriteItem, BuildError> {
    let line = |line: &Line| json!([line.account.key, line.account.begins.0, line.amount]);
    let lines = Value::from(reservation.lines.iter().map(line).collect::<Vec<_>>());
    let whole = items::reservation(reservation.id).with([
        ("r", items::binary(reservation.run.0.as_bytes().to_vec())),
        ("at", number(reservation.at.0)),
        ("o", items::binary(reservation.node.0.as_bytes().to_vec())),
        ("l", text(lines.to_string())),
    ]);
    let put = Put::builder()
        .table_name(table.name())
        .set_item(Some(whole))
        .condition_expression("attribute_not_exists(pk)");
    Ok(TransactWriteItem::builder().put(put.build()?).build())
}

/// Takes what a line asks for, if there is room for it.
fn take(table: &Table, line: &Line, prolong: bool) -> Result<TransactWriteItem, BuildError> {
    let room = line.limit.unwrap_or(AMOUNT_MAX).min(AMOUNT_MAX).saturating_sub(line.amount);
    let (expression, condition) = if prolong {
        (
            "SET d = :d, s = if_not_exists(s, :nothing), t = :until ADD r :amount, u :amount",
            "attribute_not_exists(u) OR (u <= :room AND t <= :until)",
        )
    } else {
        (
            "SET d = :d, s = if_not_exists(s, :nothing), t = if_not_exists(t, :until) ADD r :amount, u :amount",
            "attribute_not_exists(u) OR (u <= :room AND t >= :until)",
        )
    };
    let values = item([
        (":d", due(ACCOUNTS, &line.account.key)),
        (":nothing", number(0)),
        (":until", number(line.keep_until.0)),
        (":amount", number(line.amount)),
        (":room", number(room)),
    ]);
    let update = Update::builder()
        .table_name(table.name())
        .set_key(Some(items::account(&line.account).item()))
        .update_expression(expression)
        .condition_expression(condition)
        .set_expression_attribute_values(Some(values))
        .return_values_on_condition_check_failure(Return::AllOld);
    Ok(TransactWriteItem::builder().update(update.build()?).build())
}

/// [`crate::store::Store::settle`]. Of two that settle the same, the service lets one; and a repeat of a request whose
/// answer was lost it knows by its token, so that it does not pass for somebody else's.
pub(super) async fn settle(table: &Table, id: ReservationId, actual: &[u64]) -> Result<bool, Error> {
    let key = items::reservation(id);
    let Some(open) = get(table, SETTLE, &key).await? else {
        return Ok(false);
    };
    let lines = lines(&open)?;
    let mut gone = vec![false; lines.len()];
    loop {
        let end = Delete::builder()
            .table_name(table.name())
            .set_key(Some(key.item()))
            .condition_expression("attribute_exists(pk)");
        let end = end.build().map_err(incomplete)?;
        let mut actions = vec![TransactWriteItem::builder().delete(end).build()];
        let kept: Vec<usize> = (0..lines.len()).filter(|index| gone.get(*index) == Some(&false)).collect();
        for index in &kept {
            let Some((account, amount)) = lines.get(*index) else { continue };
            let spent = actual.get(*index).copied().unwrap_or(*amount);
            actions.push(give_back(table, account, *amount, spent).map_err(incomplete)?);
        }
        let reasons = match transact(table, SETTLE, &actions).await {
            Ok(()) => return Ok(true),
            Err(Failure::Cancelled { reasons, .. }) => reasons,
            Err(failure) => return Err(failure.into_error()),
        };
        let failed = |code: Option<&str>| code == Some("ConditionalCheckFailed");
        if reasons.first().is_some_and(|reason| failed(reason.code())) {
            return Ok(false);
        }
        // An account that was forgotten gets nothing more: its window is long over. There are fewer each time.
        for (reason, index) in reasons.iter().skip(1).zip(kept) {
            if let Some(gone) = gone.get_mut(index).filter(|_| failed(reason.code())) {
                *gone = true;
            }
        }
    }
}

/// Moves what a line has reserved to what is spent.
fn give_back(
    table: &Table,
    account: &Account,
    amount: u64,
    spent: u64,
) -> Result<TransactWriteItem, BuildError> {
    let values = item([
        (":spent", number(spent)),
        (":freed", number(-i128::from(amount))),
        (":rest", number(i128::from(spent) - i128::from(amount))),
    ]);
    let update = Update::builder()
        .table_name(table.name())
        .set_key(Some(items::account(account).item()))
        .update_expression("ADD s :spent, r :freed, u :rest")
        .condition_expression("attribute_exists(pk)")
        .set_expression_attribute_values(Some(values));
    Ok(TransactWriteItem::builder().update(update.build()?).build())
}

/// What a reservation has reserved, and where.
fn lines(open: &Item) -> Result<Vec<(Account, u64)>, Error> {
    let lines: Vec<(String, i64, u64)> =
        serde_json::from_str(get_text(open, "l")?).map_err(|_| strange("a reservation without its lines"))?;
    let line = |(key, begins, amount)| (Account { key, begins: Timestamp(begins) }, amount);
    Ok(lines.into_iter().map(line).collect())
}

async fn transact(table: &Table, doing: &str, actions: &[TransactWriteItem]) -> Result<(), Failure> {
    let token = Uuid::new_v4().as_hyphenated().to_string();
    let sent = table.send(doing, || {
        table
            .client()
            .transact_write_items()
            .client_request_token(&token)
            .set_transact_items(Some(actions.to_vec()))
            .send()
    });
    sent.await.map(|_| ())
}

/// [`crate::store::Store::open_reservations`].
pub(super) async fn open(table: &Table) -> Result<Vec<OpenReservation>, Error> {
    let reservation = |found: &Item| {
        let id =
            Uuid::try_parse(get_text(found, "sk")?).map_err(|_| strange("a reservation without an id"))?;
        let (run, at) = (MessageId(get_uuid(found, "r")?), Timestamp(get_number(found, "at")?));
        Ok(OpenReservation { id: ReservationId(id), run, at, node: NodeId(get_uuid(found, "o")?) })
    };
    of_all_shards(table, "list open reservations", "V").await?.iter().map(reservation).collect()
}

/// [`crate::store::Store::balances`].
pub(super) async fn balances(table: &Table, accounts: &[Account]) -> Result<Vec<Balance>, Error> {
    table.check_open()?;
    let mut keys: Vec<_> = accounts.iter().map(items::account).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut held = std::collections::HashMap::new();
    for found in get_all(table, "read balances", &keys).await? {
        let key = items::Key::new(get_text(&found, "pk")?, get_text(&found, "sk")?);
        held.insert(key, balance(&found)?);
    }
    let of = |account| held.get(&items::account(account)).copied().unwrap_or_default();
    Ok(accounts.iter().map(of).collect())
}

/// What the item of an account says that it holds.
pub(super) fn balance(found: &Item) -> Result<Balance, Error> {
    let amount = |name| {
        let amount: i128 = get_number(found, name)?;
        Ok(u64::try_from(amount.clamp(0, i128::from(AMOUNT_MAX))).unwrap_or(AMOUNT_MAX))
    };
    Ok(Balance { spent: amount("s")?, reserved: amount("r")? })
}
