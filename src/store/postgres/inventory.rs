//! [`crate::store::Store::inventory`] as SQL: each page is a range of an index that is there anyway.

use tokio_postgres::{Row, types::ToSql};

use crate::{
    clock::Timestamp,
    domain::room::Visibility,
    ids::{IdError, RequestId, UserId},
    store::{
        Error,
        inventory::{Inventory, Item, KeptAccount, KeptRequest, ListedRoom},
        ledger::{Account, Balance},
        postgres::{
            connections::{Asking, Connections, Question},
            documents, rows,
        },
    },
};

const fn read(sql: &'static str) -> Question {
    Question { sql, doing: "list what it keeps", asking: Asking::ToRead }
}

const ROOMS: Question =
    read("SELECT rid, id, listed IS NOT NULL, created_by FROM rooms WHERE rid > $1 ORDER BY rid LIMIT $2");
const REQUESTS: Question = read(
    "SELECT first, last, event_id, body_hash, sender, request_id FROM requests
     WHERE room = (SELECT rid FROM rooms WHERE id = $1) AND (sender, request_id) > ($2, $3)
     ORDER BY sender, request_id LIMIT $4",
);
const CURSORS: Question = read(
    "SELECT member, seq FROM cursors
     WHERE room = (SELECT rid FROM rooms WHERE id = $1) AND member > $2 ORDER BY member LIMIT $3",
);
const MEMBERS: Question = read(
    "SELECT member, id FROM members JOIN rooms ON rid = room
     WHERE (member, room) > ($1, coalesce((SELECT rid FROM rooms WHERE id = $2), 0)) ORDER BY member, room LIMIT $3",
);
const ACCOUNTS: Question = read(
    "SELECT key, begins, spent, reserved, keep_until FROM accounts
     WHERE (key, begins) > ($1, $2) ORDER BY key, begins LIMIT $3",
);
/// The log is walked from room to room, not event by event: there are many of those.
const STRAYS: Question = read(
    "WITH RECURSIVE logs (room) AS (
         SELECT min(room) FROM events WHERE room > $1
         UNION ALL SELECT (SELECT min(room) FROM events WHERE events.room > logs.room) FROM logs WHERE logs.room IS NOT NULL
     ), kept (room) AS (
         SELECT room FROM logs WHERE room IS NOT NULL
         UNION SELECT room FROM requests WHERE room > $1 UNION SELECT room FROM members WHERE room > $1
         UNION SELECT room FROM cursors WHERE room > $1 UNION SELECT room FROM snapshots WHERE room > $1
         UNION SELECT room FROM runs WHERE room > $1
     )
     SELECT room FROM kept WHERE NOT EXISTS (SELECT 1 FROM rooms WHERE rid = room) ORDER BY room LIMIT $2",
);

const DOCUMENTS: Question = read(
    "SELECT name, revision, body, folder FROM documents
     WHERE (folder, name) > ($1, $2) ORDER BY folder, name LIMIT $3",
);

/// A row as what it says.
type ReadItem = fn(&Row) -> Result<Item, Error>;

/// Up to `limit` of what is behind `after`. Nothing that is kept has an empty name, so that one stands for the beginning.
pub(super) async fn list(
    connections: &Connections,
    of: &Inventory,
    after: Option<&Item>,
    limit: usize,
) -> Result<Vec<Item>, Error> {
    let limit = rows::count(limit);
    let (question, item): (Question, ReadItem) = match of {
        Inventory::Rooms => (ROOMS, room),
        Inventory::Requests(_) => (REQUESTS, request),
        Inventory::Cursors(_) => (CURSORS, cursor),
        Inventory::Members => (MEMBERS, member),
        Inventory::Accounts => (ACCOUNTS, account),
        Inventory::Documents => (DOCUMENTS, documents::item),
        Inventory::Strays => (STRAYS, stray),
    };
    let key = match after {
        Some(Item::Member { user, room }) => user.key_in(&room.namespace()),
        _ => "".into(),
    };
    let (mut number, mut names) = (0, ("", ""));
    match after {
        Some(Item::Room(room)) => number = rows::integer(room.position),
        Some(Item::Request(kept)) => names = (kept.sender.as_str(), kept.request_id.as_str()),
        Some(Item::Cursor { user, .. }) => names = (user.as_str(), ""),
        Some(Item::Member { room, .. }) => names = (&*key, room.as_str()),
        Some(Item::Document { folder, document }) => names = (folder.as_str(), document.name.as_str()),
        Some(Item::Account(kept)) => {
            (number, names) = (kept.account.begins.0, (kept.account.key.as_str(), ""));
        }
        Some(Item::Stray { number: of }) => number = rows::integer(*of),
        None => {}
    }
    let begins = if after.is_some() { number } else { i64::MIN };
    let name = names.1.as_bytes();
    let all: Vec<&(dyn ToSql + Sync)> = match of {
        Inventory::Rooms | Inventory::Strays => vec![&number, &limit],
        Inventory::Requests(_) => vec![&names.0, &names.1, &limit],
        Inventory::Cursors(_) => vec![&names.0, &limit],
        Inventory::Members => vec![&names.0, &names.1, &limit],
        Inventory::Accounts => vec![&names.0, &begins, &limit],
        Inventory::Documents => vec![&names.0, &name, &limit],
    };
    let of_room = match of {
        Inventory::Requests(room) | Inventory::Cursors(room) => room.as_str(),
        Inventory::Rooms
        | Inventory::Members
        | Inventory::Accounts
        | Inventory::Documents
        | Inventory::Strays => "",
    };
    let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(all.len() + 1);
    if !of_room.is_empty() {
        parameters.push(&of_room);
    }
    parameters.extend(all);
    connections.ask(question, &parameters).await?.iter().map(item).collect()
}

fn room(row: &Row) -> Result<Item, Error> {
    let visibility = if rows::get(row, 2)? { Visibility::Public } else { Visibility::Private };
    let (position, room) = (rows::number(row, 0)?, rows::room(row, 1)?);
    let creator = |key| parsed(UserId::parse_key(key, &room.namespace()));
    let created_by = rows::get::<Option<&str>>(row, 3)?.map(creator).transpose()?;
    Ok(Item::Room(ListedRoom { room, position, visibility, created_by }))
}

fn request(row: &Row) -> Result<Item, Error> {
    Ok(Item::Request(KeptRequest {
        receipt: rows::receipt(row, 0)?,
        body_hash: rows::get::<i64>(row, 3)?.cast_unsigned(),
        sender: user(row, 4)?,
        request_id: parsed(RequestId::parse(rows::get(row, 5)?))?,
    }))
}

fn cursor(row: &Row) -> Result<Item, Error> {
    Ok(Item::Cursor { user: user(row, 0)?, seq: rows::seq(row, 1)? })
}

fn member(row: &Row) -> Result<Item, Error> {
    let room = rows::room(row, 1)?;
    let user = parsed(UserId::parse_key(rows::get(row, 0)?, &room.namespace()))?;
    Ok(Item::Member { user, room })
}

fn account(row: &Row) -> Result<Item, Error> {
    Ok(Item::Account(KeptAccount {
        account: Account { key: rows::get(row, 0)?, begins: Timestamp(rows::get(row, 1)?) },
        balance: Balance { spent: rows::number(row, 2)?, reserved: rows::number(row, 3)? },
        keep_until: Timestamp(rows::get(row, 4)?),
    }))
}

fn stray(row: &Row) -> Result<Item, Error> {
    Ok(Item::Stray { number: rows::number(row, 0)? })
}

fn user(row: &Row, column: usize) -> Result<UserId, Error> {
    parsed(UserId::parse(rows::get(row, column)?))
}

fn parsed<T>(id: Result<T, IdError>) -> Result<T, Error> {
    id.map_err(|_| rows::strange("a name that is none"))
}
