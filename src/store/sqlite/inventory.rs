//! [`crate::store::Store::inventory`] as SQL: each page is a range of an index that is there anyway.

use rusqlite::{Connection, Row, params, types::Type};

use crate::{
    clock::Timestamp,
    domain::room::Visibility,
    ids::{IdError, RequestId, UserId},
    store::{
        inventory::{Inventory, Item, KeptAccount, KeptRequest, ListedRoom},
        ledger::{Account, Balance},
        sqlite::{documents, rows},
    },
};

const ROOMS: &str = "SELECT rid, id, visibility, created_by FROM rooms WHERE rid > ?1 ORDER BY rid LIMIT ?2";
const REQUESTS: &str = "
    SELECT first, last, event_id, body_hash, sender, request_id FROM requests
    WHERE room = (SELECT rid FROM rooms WHERE id = ?1) AND (sender, request_id) > (?2, ?3)
    ORDER BY sender, request_id LIMIT ?4";
const CURSORS: &str = "
    SELECT user, seq FROM cursors
    WHERE room = (SELECT rid FROM rooms WHERE id = ?1) AND user > ?2 ORDER BY user LIMIT ?3";
const MEMBERS: &str = "
    SELECT user, id FROM members JOIN rooms ON rid = room
    WHERE (user, room) > (?1, coalesce((SELECT rid FROM rooms WHERE id = ?2), 0)) ORDER BY user, room LIMIT ?3";
const ACCOUNTS: &str = "
    SELECT key, begins, spent, reserved, keep_until FROM accounts
    WHERE (key, begins) > (?1, ?2) ORDER BY key, begins LIMIT ?3";
/// The log is walked from room to room, not event by event: there are many of those.
const STRAYS: &str = "
    WITH RECURSIVE logs (room) AS (
        SELECT min(room) FROM events WHERE room > ?1
        UNION ALL SELECT (SELECT min(room) FROM events WHERE events.room > logs.room) FROM logs WHERE logs.room IS NOT NULL
    ), kept (room) AS (
        SELECT room FROM logs WHERE room IS NOT NULL
        UNION SELECT room FROM requests WHERE room > ?1 UNION SELECT room FROM members WHERE room > ?1
        UNION SELECT room FROM cursors WHERE room > ?1 UNION SELECT room FROM snapshots WHERE room > ?1
        UNION SELECT room FROM runs WHERE room > ?1
    )
    SELECT room FROM kept WHERE NOT EXISTS (SELECT 1 FROM rooms WHERE rid = room) ORDER BY room LIMIT ?2";

/// Up to `limit` of what is behind `after`. Nothing that is kept has an empty name, so that one stands for the beginning.
pub(super) fn list(
    connection: &Connection,
    of: &Inventory,
    after: Option<&Item>,
    limit: usize,
) -> rusqlite::Result<Vec<Item>> {
    let limit = rows::count(limit);
    match of {
        Inventory::Rooms => {
            let behind = match after {
                Some(Item::Room(room)) => rows::integer(room.position),
                _ => 0,
            };
            connection.prepare_cached(ROOMS)?.query_map(params![behind, limit], room)?.collect()
        }
        Inventory::Requests(of) => {
            let (sender, id) = match after {
                Some(Item::Request(kept)) => (kept.sender.as_str(), kept.request_id.as_str()),
                _ => ("", ""),
            };
            let columns = params![of.as_str(), sender, id, limit];
            connection.prepare_cached(REQUESTS)?.query_map(columns, request)?.collect()
        }
        Inventory::Cursors(of) => {
            let behind = match after {
                Some(Item::Cursor { user, .. }) => user.as_str(),
                _ => "",
            };
            connection
                .prepare_cached(CURSORS)?
                .query_map(params![of.as_str(), behind, limit], cursor)?
                .collect()
        }
        Inventory::Members => {
            let (user, room) = match after {
                Some(Item::Member { user, room }) => (user.key_in(&room.namespace()), room.as_str()),
                _ => ("".into(), ""),
            };
            connection.prepare_cached(MEMBERS)?.query_map(params![user, room, limit], member)?.collect()
        }
        Inventory::Accounts => {
            let (key, begins) = match after {
                Some(Item::Account(kept)) => (kept.account.key.as_str(), kept.account.begins.0),
                _ => ("", i64::MIN),
            };
            connection.prepare_cached(ACCOUNTS)?.query_map(params![key, begins, limit], account)?.collect()
        }
        Inventory::Documents => {
            let behind = match after {
                Some(Item::Document { folder, document }) => (folder.as_str(), document.name.as_str()),
                _ => ("", ""),
            };
            documents::all(connection, behind, limit)
        }
        Inventory::Strays => {
            let behind = match after {
                Some(Item::Stray { number }) => rows::integer(*number),
                _ => 0,
            };
            connection.prepare_cached(STRAYS)?.query_map(params![behind, limit], stray)?.collect()
        }
    }
}

fn room(row: &Row<'_>) -> rusqlite::Result<Item> {
    let visibility = match row.get(2)? {
        0 => Visibility::Public,
        1 => Visibility::Private,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(2, other)),
    };
    let (position, room) = (rows::number(row, 0)?, rows::room(row, 1)?);
    let created_by = match row.get_ref(3)?.as_str_or_null()? {
        Some(key) => Some(parsed(3, UserId::parse_key(key, &room.namespace()))?),
        None => None,
    };
    Ok(Item::Room(ListedRoom { room, position, visibility, created_by }))
}

fn request(row: &Row<'_>) -> rusqlite::Result<Item> {
    let (receipt, body_hash) = rows::request(row)?;
    let sender = user(row, 4)?;
    let request_id = parsed(5, RequestId::parse(row.get_ref(5)?.as_str()?))?;
    Ok(Item::Request(KeptRequest { sender, request_id, receipt, body_hash }))
}

fn cursor(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item::Cursor { user: user(row, 0)?, seq: rows::seq(row, 1)? })
}

fn member(row: &Row<'_>) -> rusqlite::Result<Item> {
    let room = rows::room(row, 1)?;
    let user = parsed(0, UserId::parse_key(row.get_ref(0)?.as_str()?, &room.namespace()))?;
    Ok(Item::Member { user, room })
}

fn account(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item::Account(KeptAccount {
        account: Account { key: row.get(0)?, begins: Timestamp(row.get(1)?) },
        balance: Balance { spent: rows::number(row, 2)?, reserved: rows::number(row, 3)? },
        keep_until: Timestamp(row.get(4)?),
    }))
}

fn stray(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item::Stray { number: rows::number(row, 0)? })
}

fn user(row: &Row<'_>, column: usize) -> rusqlite::Result<UserId> {
    parsed(column, UserId::parse(row.get_ref(column)?.as_str()?))
}

fn parsed<T>(column: usize, id: Result<T, IdError>) -> rusqlite::Result<T> {
    id.map_err(|source| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(source)))
}
