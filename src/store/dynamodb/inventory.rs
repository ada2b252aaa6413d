//! [`crate::store::Store::inventory`] of the table: a page at a time, in the order of places where one partition has
//! all of a kind, and in the service's own order where it has not.
//!
//! Rooms are listed by a list of their own, keys and cursors by their room. Members, accounts and folders are in a
//! partition each, so that the table is read through for them, and what else is met is paid for and passed over.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::{
    clock::Timestamp,
    domain::room::Visibility,
    ids::{IdError, RequestId, RoomId, UserId},
    store::{
        Error,
        documents::Folder,
        dynamodb::{
            accounts,
            client::{Failure, Table},
            documents,
            failure::strange,
            items::{self, Item as Stored, Key, get_number, get_seq, get_text, item, padded, text},
            lookups::{self, get_all},
            query::{Query, query},
        },
        inventory::{Inventory, Item, KeptAccount, KeptRequest, ListedRoom},
        ledger::Account,
    },
};

const DOING: &str = "list what it keeps";
/// How many items one request looks at that reads the table through, whatever it finds.
const LOOKED_AT: i32 = 1000;
/// What the partitions of members' lists and of accounts begin with.
const LISTS: &str = "L#user\n";
const ACCOUNTS: &str = "A#";

/// Up to `limit` of what is behind `after`.
pub(super) async fn list(
    table: &Table,
    of: &Inventory,
    after: Option<&Item>,
    limit: usize,
) -> Result<Vec<Item>, Error> {
    match of {
        Inventory::Rooms => rooms(table, after, limit).await,
        Inventory::Requests(room) => requests(table, room, after, limit).await,
        Inventory::Cursors(room) => cursors(table, room, after, limit).await,
        Inventory::Members => members(table, after, limit).await,
        Inventory::Accounts => kept_accounts(table, after, limit).await,
        Inventory::Documents => all_documents(table, after, limit).await,
        // A room's items stand under its name: nothing can refer to one that is not there by a number.
        Inventory::Strays => Ok(Vec::new()),
    }
}

/// The page of a partition that begins behind `after`. It may be shorter than asked for, but is empty only at the end.
async fn page(
    table: &Table,
    asked: Query,
    after: Option<String>,
    limit: usize,
) -> Result<Vec<Stored>, Error> {
    let mut behind = after;
    loop {
        let found = query(table, DOING, asked.clone().at_most(limit).behind(behind)).await?;
        behind = found.last;
        if !found.items.is_empty() || behind.is_none() {
            return Ok(found.items);
        }
    }
}

async fn rooms(table: &Table, after: Option<&Item>, limit: usize) -> Result<Vec<Item>, Error> {
    let after = match after {
        Some(Item::Room(room)) => Some(padded(room.position)),
        _ => None,
    };
    let found = page(table, Query::all(items::EVERY), after, limit).await?;
    let rooms = found.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let is_public =
        |room: &RoomId, position: u64| Key::new(items::public_of(&room.namespace()), padded(position));
    let keys: Vec<Key> =
        rooms.iter().flat_map(|(position, room)| [items::meta(room), is_public(room, *position)]).collect();
    let mut beside = HashMap::new();
    for stored in get_all(table, DOING, &keys).await? {
        beside.insert(Key::new(get_text(&stored, "pk")?, get_text(&stored, "sk")?), stored);
    }
    let listed = |(position, room): (u64, RoomId)| {
        let meta = beside.get(&items::meta(&room)).ok_or_else(|| strange("a room without its beginning"))?;
        let created_by = lookups::creator(meta)?;
        let visibility = match beside.contains_key(&is_public(&room, position)) {
            true => Visibility::Public,
            false => Visibility::Private,
        };
        Ok(Item::Room(ListedRoom { room, position, visibility, created_by }))
    };
    rooms.into_iter().map(listed).collect()
}

/// Which room a list names, and its number.
fn place(stored: &Stored) -> Result<(u64, RoomId), Error> {
    let position = get_text(stored, "sk")?.parse().map_err(|_| strange("a room without a number"))?;
    Ok((position, parsed(RoomId::parse_key(get_text(stored, "room")?))?))
}

async fn requests(
    table: &Table,
    room: &RoomId,
    after: Option<&Item>,
    limit: usize,
) -> Result<Vec<Item>, Error> {
    let after = match after {
        Some(Item::Request(kept)) => Some(items::request(room, &kept.sender, &kept.request_id).sk),
        _ => None,
    };
    let request = |stored: &Stored| {
        let (sender, request_id) = items::of_request(get_text(stored, "sk")?)
            .ok_or_else(|| strange("an idempotency key without a sender"))?;
        let (receipt, body_hash) = lookups::request_of(stored)?;
        let (sender, request_id) = (parsed(UserId::parse(sender))?, parsed(RequestId::parse(request_id))?);
        Ok(Item::Request(KeptRequest { sender, request_id, receipt, body_hash }))
    };
    page(table, Query::all(items::requests(room)), after, limit).await?.iter().map(request).collect()
}

async fn cursors(
    table: &Table,
    room: &RoomId,
    after: Option<&Item>,
    limit: usize,
) -> Result<Vec<Item>, Error> {
    let after = match after {
        Some(Item::Cursor { user, .. }) => Some(items::cursor(room, user).sk),
        _ => None,
    };
    let cursor = |stored: &Stored| {
        let user = get_text(stored, "sk")?.strip_prefix(items::CURSORS).unwrap_or_default();
        Ok(Item::Cursor { user: parsed(UserId::parse(user))?, seq: get_seq(stored, "s")? })
    };
    let asked = Query::beginning(items::room(room), items::CURSORS);
    page(table, asked, after, limit).await?.iter().map(cursor).collect()
}

async fn members(table: &Table, after: Option<&Item>, limit: usize) -> Result<Vec<Item>, Error> {
    let after = match after {
        Some(Item::Member { user, room }) => {
            let number = lookups::facts(table, room).await?.number;
            Some(Key::new(items::list_of(&room.namespace(), user), format!("{}m", padded(number))))
        }
        _ => None,
    };
    let member = |stored: &Stored| {
        // The other lists of a user are those of the rooms that this one has created.
        if !get_text(stored, "sk")?.ends_with('m') {
            return Ok(None);
        }
        let user = get_text(stored, "pk")?.strip_prefix(LISTS).unwrap_or_default();
        let room = parsed(RoomId::parse_key(get_text(stored, "room")?))?;
        Ok(Some(Item::Member { user: parsed(UserId::parse_key(user, &room.namespace()))?, room }))
    };
    read_through(table, LISTS, after, limit, member).await
}

async fn kept_accounts(table: &Table, after: Option<&Item>, limit: usize) -> Result<Vec<Item>, Error> {
    let after = match after {
        Some(Item::Account(kept)) => Some(items::account(&kept.account)),
        _ => None,
    };
    let account = |stored: &Stored| {
        let key = get_text(stored, "pk")?.strip_prefix(ACCOUNTS).unwrap_or_default().to_owned();
        let begins =
            get_text(stored, "sk")?.parse().map_err(|_| strange("an account that begins at no time"))?;
        Ok(Some(Item::Account(KeptAccount {
            account: Account { key, begins: Timestamp(begins) },
            balance: accounts::balance(stored)?,
            keep_until: Timestamp(get_number(stored, "t")?),
        })))
    };
    read_through(table, ACCOUNTS, after, limit, account).await
}

async fn all_documents(table: &Table, after: Option<&Item>, limit: usize) -> Result<Vec<Item>, Error> {
    let after = match after {
        Some(Item::Document { folder, document }) => Some(Key::new(items::folder(folder), &document.name)),
        _ => None,
    };
    let item = |stored: &Stored| {
        let path = get_text(stored, "pk")?.strip_prefix(items::DOCUMENTS).and_then(Folder::parse);
        let folder = path.ok_or_else(|| strange("a folder of no path"))?;
        Ok(Some(Item::Document { folder, document: documents::document(stored)? }))
    };
    read_through(table, items::DOCUMENTS, after, limit, item).await
}

/// What is in partitions that begin with `with`, in the order that the service has them in. Each page begins behind the
/// last that was taken, so that what was looked at behind it is looked at again: twice at most.
async fn read_through(
    table: &Table,
    with: &str,
    after: Option<Key>,
    limit: usize,
    read: impl Fn(&Stored) -> Result<Option<Item>, Error>,
) -> Result<Vec<Item>, Error> {
    let values: HashMap<String, AttributeValue> = item([(":with", text(with))]);
    let mut behind = after.map(|key| key.item());
    loop {
        let sent = table.send(DOING, || {
            table
                .client()
                .scan()
                .table_name(table.name())
                .filter_expression("begins_with(pk, :with)")
                .set_expression_attribute_values(Some(values.clone()))
                .set_exclusive_start_key(behind.clone())
                .limit(LOOKED_AT)
                .consistent_read(true)
                .send()
        });
        let answer = sent.await.map_err(Failure::into_error)?;
        let mut found = Vec::new();
        for stored in answer.items.iter().flatten() {
            found.extend(read(stored)?);
        }
        behind = answer.last_evaluated_key;
        if !found.is_empty() || behind.is_none() {
            found.truncate(limit);
            return Ok(found);
        }
    }
}

fn parsed<T>(id: Result<T, IdError>) -> Result<T, Error> {
    id.map_err(|_| strange("a name that is none"))
}
