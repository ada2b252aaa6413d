//! What is read and counted beside the events of a room: keys, lists, runs, cursors.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{
    KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure as Return,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    ids::{EventId, MessageId, NodeId, RequestId, RoomId, Seq, UserId},
    store::{
        Error, ErrorKind, Listed, OpenRun, Receipt, RoomFilter,
        dynamodb::{
            DynamoStore,
            client::{Failure, Pauses, Table},
            failure::{error, incomplete, strange},
            items::{self, Item, Key, get_number, get_seq, get_text, get_uuid, number, padded, text},
            plan::Facts,
            query::{Query, query, query_all},
        },
    },
};

/// Requests of one call that are on their way at the same time.
pub(super) const AT_ONCE: usize = 16;
/// Items that one request asks for by their keys.
const KEYS: usize = 100;

/// The item of this key.
pub(super) async fn get(table: &Table, doing: &str, key: &Key) -> Result<Option<Item>, Error> {
    let sent = table.send(doing, || {
        table
            .client()
            .get_item()
            .table_name(table.name())
            .set_key(Some(key.item()))
            .consistent_read(true)
            .send()
    });
    Ok(sent.await.map_err(Failure::into_error)?.item)
}

/// The items of these keys that there are, in any order.
pub(super) async fn get_all(table: &Table, doing: &str, keys: &[Key]) -> Result<Vec<Item>, Error> {
    let mut found = Vec::new();
    for keys in keys.chunks(KEYS) {
        let mut wanted: Vec<Item> = keys.iter().map(Key::item).collect();
        let (mut pauses, mut deadline) = (Pauses::default(), Instant::now() + table.patience());
        // A request of which too much was asked for is answered in part, that of a throttled table with nothing.
        while !wanted.is_empty() {
            let keys = KeysAndAttributes::builder().set_keys(Some(wanted)).consistent_read(true);
            let request = HashMap::from([(table.name().to_owned(), keys.build().map_err(incomplete)?)]);
            let client = table.client();
            let sent =
                table.send(doing, || client.batch_get_item().set_request_items(Some(request.clone())).send());
            let answer = sent.await.map_err(Failure::into_error)?;
            let left = answer.unprocessed_keys.into_iter().flat_map(HashMap::into_values);
            let before = keys_of(&request);
            wanted = left.flat_map(|left| left.keys).collect();
            found.extend(answer.responses.into_iter().flat_map(HashMap::into_values).flatten());
            if wanted.len() < before {
                (pauses, deadline) = (Pauses::default(), Instant::now() + table.patience());
                continue;
            }
            let pause = pauses.next();
            if Instant::now() + pause >= deadline {
                let what = format!("could not {doing}: the service throttles the table");
                return Err(error(ErrorKind::Unavailable, what));
            }
            sleep(pause).await;
        }
    }
    Ok(found)
}

fn keys_of(request: &HashMap<String, KeysAndAttributes>) -> usize {
    request.values().map(|keys| keys.keys().len()).sum()
}

/// What was appended with a key.
pub(super) async fn request(
    table: &Table,
    room: &RoomId,
    sender: &UserId,
    request_id: &RequestId,
) -> Result<Option<(Receipt, u64)>, Error> {
    let key = items::request(room, sender, request_id);
    get(table, "look up a request id", &key).await?.as_ref().map(request_of).transpose()
}

/// What the item of a key says.
pub(super) fn request_of(item: &Item) -> Result<(Receipt, u64), Error> {
    let receipt = Receipt {
        first: get_seq(item, "f")?,
        last: get_seq(item, "l")?,
        event_id: EventId(get_uuid(item, "e")?),
    };
    Ok((receipt, get_number(item, "h")?))
}

/// What lists say of a room that exists.
pub(super) async fn facts(table: &Table, room: &RoomId) -> Result<Facts, Error> {
    let found = get(table, "read a room", &items::meta(room)).await?;
    let found = found.ok_or_else(|| strange("events of a room that was never begun"))?;
    Ok(Facts { number: get_number(&found, "n")?, created_by: creator(&found)? })
}

/// Who created the room of which this is the beginning.
pub(super) fn creator(meta: &Item) -> Result<Option<UserId>, Error> {
    if !meta.contains_key("c") {
        return Ok(None);
    }
    UserId::parse(get_text(meta, "c")?).map(Some).map_err(|_| strange("a user without a name"))
}

/// A number that no room has, larger than all that were given out before.
pub(super) async fn next_number(table: &Table) -> Result<u64, Error> {
    let sent = table.send("number a room", || {
        table
            .client()
            .update_item()
            .table_name(table.name())
            .set_key(Some(Key::new("salon", "rooms").item()))
            .update_expression("ADD n :one")
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::UpdatedNew)
            .send()
    });
    let answer = sent.await.map_err(Failure::into_error)?;
    get_number(&answer.attributes.unwrap_or_default(), "n")
}

/// [`crate::store::Store::list_rooms`].
pub(super) async fn list_rooms(
    table: &Table,
    filter: &RoomFilter,
    before: u64,
    limit: usize,
) -> Result<Vec<Listed>, Error> {
    let pk = match filter {
        RoomFilter::Public(namespace) => items::public_of(namespace),
        RoomFilter::Of(namespace, user) => items::list_of(namespace, user),
    };
    let Some(newest) = before.checked_sub(1) else { return Ok(Vec::new()) };
    let mut listed: Vec<Listed> = Vec::new();
    let mut behind = None;
    while listed.len() < limit {
        // A room may be there twice, as its creator's and as its member's.
        let asked = Query::between(&pk, padded(0), format!("{}m", padded(newest)))
            .backwards()
            .at_most(limit.saturating_sub(listed.len()).saturating_mul(2))
            .behind(behind);
        let page = query(table, "list rooms", asked).await?;
        for found in &page.items {
            let position = get_text(found, "sk")?.trim_end_matches(['c', 'm']).parse();
            let position = position.map_err(|_| strange("a room without a number"))?;
            if listed.last().is_some_and(|last| last.position == position) || listed.len() == limit {
                continue;
            }
            let room =
                RoomId::parse_key(get_text(found, "room")?).map_err(|_| strange("a room without a name"))?;
            listed.push(Listed { room, position });
        }
        behind = page.last;
        if behind.is_none() {
            break;
        }
    }
    Ok(listed)
}

/// Every item of partitions of which there is one for each shard.
pub(super) async fn of_all_shards(table: &Table, doing: &str, kind: &str) -> Result<Vec<Item>, Error> {
    let shards = stream::iter(0..items::SHARDS);
    let asked = shards.map(|shard| query_all(table, doing, Query::all(format!("{kind}#{shard}"))));
    let found: Vec<Vec<Item>> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// [`crate::store::Store::open_runs`].
pub(super) async fn open_runs(table: &Table) -> Result<Vec<OpenRun>, Error> {
    let run = |found: &Item| {
        let (room, run) = get_text(found, "sk").ok()?.rsplit_once('\n')?;
        let node = NodeId(get_uuid(found, "o").ok()?);
        Some(OpenRun {
            room: RoomId::parse_key(room).ok()?,
            run: MessageId(Uuid::try_parse(run).ok()?),
            node,
        })
    };
    let found = of_all_shards(table, "list open runs", "U").await?;
    found.iter().map(|found| run(found).ok_or_else(|| strange("a run without a room"))).collect()
}

/// [`crate::store::Store::cursor`].
pub(super) async fn cursor(table: &Table, room: &RoomId, user: &UserId) -> Result<Seq, Error> {
    let key = items::cursor(room, user);
    get(table, "read a cursor", &key).await?.map_or(Ok(Seq::ZERO), |found| get_seq(&found, "s"))
}

/// [`crate::store::Store::advance_cursor`].
pub(super) async fn advance_cursor(
    store: &DynamoStore,
    room: &RoomId,
    user: &UserId,
    to: Seq,
) -> Result<Seq, Error> {
    if to == Seq::ZERO || !exists(store, room).await? {
        return cursor(&store.table, room, user).await;
    }
    let key = items::cursor(room, user);
    let table = &store.table;
    let sent = table.send("move a cursor", || {
        table
            .client()
            .put_item()
            .table_name(table.name())
            .set_item(Some(key.with([("s", number(to.0))])))
            .condition_expression("attribute_not_exists(s) OR s < :to")
            .expression_attribute_values(":to", number(to.0))
            .return_values_on_condition_check_failure(Return::AllOld)
            .send()
    });
    match sent.await {
        Ok(_) => Ok(to),
        // It was there already, or further.
        Err(Failure::Condition { found: Some(found), .. }) => get_seq(&found, "s"),
        Err(Failure::Condition { found: None, .. }) => cursor(&store.table, room, user).await,
        Err(failure) => Err(failure.into_error()),
    }
}

/// Whether there is such a room.
pub(super) async fn exists(store: &DynamoStore, room: &RoomId) -> Result<bool, Error> {
    let hint = store.hints.of(room);
    if !hint.exists() && get(&store.table, "read a room", &items::meta(room)).await?.is_some() {
        hint.found();
    }
    Ok(hint.exists())
}

/// Takes an item away, whatever is in it.
pub(super) async fn delete(table: &Table, doing: &str, key: &Key) -> Result<(), Error> {
    let sent = table.send(doing, || {
        table.client().delete_item().table_name(table.name()).set_key(Some(key.item())).send()
    });
    sent.await.map(|_| ()).map_err(Failure::into_error)
}

/// Writes what a check writes.
pub(super) async fn probe(table: &Table) -> Result<(), Error> {
    let probe = Key::new("salon", "probe").with([("b", text(Uuid::new_v4().simple().to_string()))]);
    let sent = table.send("write", || {
        table.client().put_item().table_name(table.name()).set_item(Some(probe.clone())).send()
    });
    sent.await.map(|_| ()).map_err(Failure::into_error)
}
