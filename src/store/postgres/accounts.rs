//! The ledger: reservations and settlements as calls of the functions that carry them out.

use tokio_postgres::{Row, types::ToSql};

use crate::{
    clock::Timestamp,
    ids::{MessageId, NodeId, ReservationId},
    store::{
        Error,
        ledger::{AMOUNT_MAX, Account, Balance, OpenReservation, Reservation, Reserve},
        postgres::{
            connections::{Asking, Connections, Question},
            rows,
        },
    },
};

const fn write(sql: &'static str) -> Question {
    Question { sql, doing: "write to the ledger", asking: Asking::ToWrite }
}

const fn read(sql: &'static str) -> Question {
    Question { sql, doing: "read the ledger", asking: Asking::ToRead }
}

const RESERVE: Question =
    write("SELECT refused_line, was_spent, was_reserved FROM reserve($1, $2, $3, $4, $5, $6, $7, $8, $9)");
const SETTLE: Question = write("SELECT settle($1, $2)");
const OPEN: Question = read("SELECT id, run, at, node FROM reservations");
/// Each account by its key: the limit keeps the planner from reading them all to join them.
pub(super) const BALANCES: Question = read(
    "SELECT coalesce(spent, 0), coalesce(reserved, 0)
     FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS asked (key, begins, place)
     LEFT JOIN LATERAL (SELECT spent, reserved FROM accounts
                        WHERE accounts.key = asked.key AND accounts.begins = asked.begins LIMIT 1) AS found ON true
     ORDER BY place",
);
/// Those of past windows. Passes over those that somebody is just using.
pub(super) const FORGET: Question = write(
    "WITH old AS MATERIALIZED (SELECT ctid FROM accounts WHERE keep_until < $1 AND reserved = 0
                  ORDER BY keep_until LIMIT $2 FOR UPDATE SKIP LOCKED),
     gone AS (DELETE FROM accounts WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) AND reserved = 0 RETURNING 1)
     SELECT count(*) FROM gone",
);

/// [`crate::store::Store::reserve`].
pub(super) async fn reserve(connections: &Connections, reservation: &Reservation) -> Result<Reserve, Error> {
    let Reservation { id, run, at, lines, node } = reservation;
    let keys: Vec<&str> = lines.iter().map(|line| line.account.key.as_str()).collect();
    let begins: Vec<i64> = lines.iter().map(|line| line.account.begins.0).collect();
    let amounts: Vec<i64> = lines.iter().map(|line| rows::integer(line.amount)).collect();
    let limits: Vec<i64> = lines
        .iter()
        // More than can be counted fits nowhere.
        .map(
            |line| {
                if line.amount > AMOUNT_MAX { -1 } else { rows::integer(line.limit.unwrap_or(AMOUNT_MAX)) }
            },
        )
        .collect();
    let keeps: Vec<i64> = lines.iter().map(|line| line.keep_until.0).collect();
    let parameters: [&(dyn ToSql + Sync); 9] =
        [&id.0, &run.0, &at.0, &node.0, &keys, &begins, &amounts, &limits, &keeps];
    let answer = connections.ask(RESERVE, &parameters).await?;
    let Some(refused) = answer.first() else { return Ok(Reserve::Reserved) };
    let line = usize::try_from(rows::number(refused, 0)?).unwrap_or(usize::MAX).saturating_sub(1);
    Ok(Reserve::Refused { line, balance: balance(refused, 1)? })
}

/// [`crate::store::Store::settle`].
pub(super) async fn settle(
    connections: &Connections,
    id: ReservationId,
    actual: &[u64],
) -> Result<bool, Error> {
    let actual: Vec<i64> = actual.iter().copied().map(rows::integer).collect();
    let answer = connections.ask(SETTLE, &[&id.0, &actual]).await?;
    answer.first().map_or(Ok(false), |row| rows::get(row, 0))
}

/// [`crate::store::Store::open_reservations`].
pub(super) async fn open(connections: &Connections) -> Result<Vec<OpenReservation>, Error> {
    let open = |row: &Row| {
        Ok(OpenReservation {
            id: ReservationId(rows::get(row, 0)?),
            run: MessageId(rows::get(row, 1)?),
            at: Timestamp(rows::get(row, 2)?),
            node: NodeId(rows::get(row, 3)?),
        })
    };
    connections.ask(OPEN, &[]).await?.iter().map(open).collect()
}

/// [`crate::store::Store::balances`].
pub(super) async fn balances(connections: &Connections, accounts: &[Account]) -> Result<Vec<Balance>, Error> {
    let keys: Vec<&str> = accounts.iter().map(|account| account.key.as_str()).collect();
    let begins: Vec<i64> = accounts.iter().map(|account| account.begins.0).collect();
    connections.ask(BALANCES, &[&keys, &begins]).await?.iter().map(|row| balance(row, 0)).collect()
}

fn balance(row: &Row, column: usize) -> Result<Balance, Error> {
    Ok(Balance { spent: rows::number(row, column)?, reserved: rows::number(row, column + 1)? })
}
