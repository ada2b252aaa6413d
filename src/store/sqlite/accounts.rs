//! The ledger in the file. Checks come before the first write, as with appends, so that a refused reservation has
//! written nothing.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::{
    clock::Timestamp,
    ids::{MessageId, NodeId, ReservationId},
    store::{
        ledger::{Account, Balance, OpenReservation, Reservation, Reserve},
        sqlite::rows,
    },
};

/// One account.
pub(super) const BALANCE: &str = "SELECT spent, reserved FROM accounts WHERE key = ?1 AND begins = ?2";

/// Those of past windows.
pub(super) const FORGET: &str = "
    DELETE FROM accounts WHERE (key, begins) IN
    (SELECT key, begins FROM accounts WHERE keep_until < ?1 AND reserved = 0 ORDER BY keep_until LIMIT ?2)";

/// What a reservation holds in one account.
#[derive(Debug)]
struct Held {
    account: Account,
    amount: u64,
}

/// [`crate::store::Store::reserve`]; also says whether anything was written.
pub(super) fn reserve(
    transaction: &Transaction<'_>,
    reservation: &Reservation,
) -> rusqlite::Result<(Reserve, bool)> {
    let mut find = transaction.prepare_cached("SELECT 1 FROM reservations WHERE id = ?1")?;
    if find.exists([reservation.id.0.as_bytes()])? {
        return Ok((Reserve::Reserved, false));
    }
    let mut balances = Vec::with_capacity(reservation.lines.len());
    for (index, line) in reservation.lines.iter().enumerate() {
        let balance = balance(transaction, &line.account)?.unwrap_or_default();
        if !balance.admits(line) {
            return Ok((Reserve::Refused { line: index, balance }, false));
        }
        balances.push(balance.reserve(line.amount));
    }
    let mut open =
        transaction.prepare_cached("INSERT INTO reservations (id, run, at, node) VALUES (?1, ?2, ?3, ?4)")?;
    let Reservation { id, run, at, node, .. } = reservation;
    open.execute(params![id.0.as_bytes(), run.0.as_bytes(), at.0, node.0.as_bytes()])?;
    let mut hold = transaction.prepare_cached(
        "INSERT INTO reserved (reservation, line, key, begins, amount) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut update = transaction.prepare_cached(
        "INSERT INTO accounts (key, begins, spent, reserved, keep_until) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (key, begins) DO UPDATE SET reserved = excluded.reserved,
         keep_until = max(keep_until, excluded.keep_until)",
    )?;
    for ((index, line), balance) in reservation.lines.iter().enumerate().zip(balances) {
        let Account { key, begins } = &line.account;
        let (spent, reserved) = (rows::integer(balance.spent), rows::integer(balance.reserved));
        update.execute(params![key, begins.0, spent, reserved, line.keep_until.0])?;
        let amount = rows::integer(line.amount);
        hold.execute(params![reservation.id.0.as_bytes(), rows::count(index), key, begins.0, amount])?;
    }
    Ok((Reserve::Reserved, true))
}

/// [`crate::store::Store::settle`].
pub(super) fn settle(
    transaction: &Transaction<'_>,
    id: ReservationId,
    actual: &[u64],
) -> rusqlite::Result<bool> {
    let id = id.0.as_bytes();
    if transaction.prepare_cached("DELETE FROM reservations WHERE id = ?1")?.execute([id])? == 0 {
        return Ok(false);
    }
    let mut lines = transaction
        .prepare_cached("SELECT key, begins, amount FROM reserved WHERE reservation = ?1 ORDER BY line")?;
    let held: Vec<Held> = lines.query_map([id], held)?.collect::<rusqlite::Result<_>>()?;
    let mut update = transaction
        .prepare_cached("UPDATE accounts SET spent = ?3, reserved = ?4 WHERE key = ?1 AND begins = ?2")?;
    for (index, Held { account, amount }) in held.iter().enumerate() {
        // An account that was forgotten gets nothing more: its window is long over.
        if let Some(balance) = balance(transaction, account)? {
            let balance = balance.settle(*amount, actual.get(index).copied().unwrap_or(*amount));
            let (spent, reserved) = (rows::integer(balance.spent), rows::integer(balance.reserved));
            update.execute(params![account.key, account.begins.0, spent, reserved])?;
        }
    }
    transaction.prepare_cached("DELETE FROM reserved WHERE reservation = ?1")?.execute([id])?;
    Ok(true)
}

/// Forgets up to `limit` accounts that need not be kept any longer.
pub(super) fn forget(transaction: &Transaction<'_>, before: Timestamp, limit: u32) -> rusqlite::Result<u64> {
    let mut delete = transaction.prepare_cached(FORGET)?;
    let forgotten = delete.execute(params![before.0, limit])?;
    Ok(u64::try_from(forgotten).unwrap_or(u64::MAX))
}

/// [`crate::store::Store::balances`], from one state of the file.
pub(super) fn balances(connection: &mut Connection, accounts: &[Account]) -> rusqlite::Result<Vec<Balance>> {
    // A savepoint: the connection may be in a transaction of its own already.
    let transaction = connection.savepoint()?;
    let found = accounts.iter().map(|account| Ok(balance(&transaction, account)?.unwrap_or_default()));
    let balances = found.collect::<rusqlite::Result<_>>()?;
    transaction.commit()?;
    Ok(balances)
}

/// [`crate::store::Store::open_reservations`].
pub(super) fn open(connection: &Connection) -> rusqlite::Result<Vec<OpenReservation>> {
    let mut select = connection.prepare_cached("SELECT id, run, at, node FROM reservations")?;
    let open = |row: &Row<'_>| {
        Ok(OpenReservation {
            id: ReservationId(rows::uuid(row, 0)?),
            run: MessageId(rows::uuid(row, 1)?),
            at: Timestamp(row.get(2)?),
            node: NodeId(rows::uuid(row, 3)?),
        })
    };
    select.query_map([], open)?.collect()
}

fn balance(connection: &Connection, account: &Account) -> rusqlite::Result<Option<Balance>> {
    let read = |row: &Row<'_>| Ok(Balance { spent: rows::number(row, 0)?, reserved: rows::number(row, 1)? });
    let mut select = connection.prepare_cached(BALANCE)?;
    select.query_row(params![account.key, account.begins.0], read).optional()
}

fn held(row: &Row<'_>) -> rusqlite::Result<Held> {
    let account = Account { key: row.get(0)?, begins: Timestamp(row.get(1)?) };
    Ok(Held { account, amount: rows::number(row, 2)? })
}
