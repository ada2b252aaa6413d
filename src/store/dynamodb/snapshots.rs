//! Snapshots, in as many items as they need. What is lost of them is read from the log again.

use aws_sdk_dynamodb::types::ReturnValue;
use bytes::BytesMut;
use uuid::Uuid;

use crate::{
    ids::{RoomId, Seq},
    store::{
        Error, Snapshot,
        dynamodb::{
            DynamoStore,
            client::{Failure, Table},
            items::{
                self, Item, Key, binary, get_bytes, get_number, get_seq, get_text, get_uuid, number, padded,
            },
            lookups::{delete, exists, get, get_all},
            query::{Query, query_all},
        },
    },
};

/// The bytes of a snapshot in one item, which takes 400 KiB.
const PART_BYTES: usize = 384 * 1024;
/// How often a snapshot is read that another one replaces meanwhile.
const TRIES: usize = 3;

fn head_of(room: &RoomId) -> Key {
    Key::new(items::room(room), "N")
}

/// Where the parts of a snapshot of that position are.
fn parts_of(seq: Seq) -> String {
    format!("O#{}#", padded(seq.0))
}

/// The key of a part of that snapshot.
fn part_of(room: &RoomId, snapshot: &Item, part: usize) -> Result<Key, Error> {
    let writer = get_uuid(snapshot, "w")?;
    let seq = get_seq(snapshot, "s")?;
    Ok(Key::new(items::room(room), format!("{}{}#{part:04}", parts_of(seq), writer.simple())))
}

/// [`crate::store::Store::snapshot`].
pub(super) async fn read(table: &Table, room: &RoomId) -> Result<Option<Snapshot>, Error> {
    for _ in 0..TRIES {
        let Some(found) = get(table, "read a snapshot", &head_of(room)).await? else {
            return Ok(None);
        };
        let parts: usize = get_number(&found, "k")?;
        let keys = (1..parts).map(|part| part_of(room, &found, part)).collect::<Result<Vec<_>, _>>()?;
        let mut rest = Vec::new();
        for part in get_all(table, "read a snapshot", &keys).await? {
            rest.push((get_text(&part, "sk")?.to_owned(), get_bytes(&part, "b")?));
        }
        // Fewer than there were: a later one has taken its place.
        if rest.len() == keys.len() {
            rest.sort_unstable();
            let mut state = BytesMut::from(&get_bytes(&found, "b")?[..]);
            rest.iter().for_each(|(_, bytes)| state.extend_from_slice(bytes));
            let (seq, version) = (get_seq(&found, "s")?, get_number(&found, "v")?);
            return Ok(Some(Snapshot { seq, version, state: state.freeze() }));
        }
    }
    Ok(None)
}

/// [`crate::store::Store::save_snapshot`]. Its parts are there before it is, and those of earlier ones are taken away
/// behind it; what a process leaves behind that dies between is taken away by the next.
pub(super) async fn save(store: &DynamoStore, room: &RoomId, snapshot: &Snapshot) -> Result<(), Error> {
    if !exists(store, room).await? {
        return Ok(());
    }
    let table = &*store.table;
    let mut parts = snapshot.state.chunks(PART_BYTES);
    let count = parts.len().max(1);
    let head = head_of(room).with([
        ("s", number(snapshot.seq.0)),
        ("v", number(snapshot.version)),
        ("k", number(count)),
        ("b", binary(parts.next().unwrap_or_default())),
        ("w", binary(Uuid::new_v4().as_bytes().to_vec())),
    ]);
    for (index, part) in parts.enumerate() {
        let part = part_of(room, &head, index + 1)?.with([("b", binary(part))]);
        let put = table.send("save a snapshot", || {
            table.client().put_item().table_name(table.name()).set_item(Some(part.clone())).send()
        });
        put.await.map_err(Failure::into_error)?;
    }
    let sent = table.send("save a snapshot", || {
        table
            .client()
            .put_item()
            .table_name(table.name())
            .set_item(Some(head.clone()))
            .condition_expression("attribute_not_exists(s) OR s <= :s")
            .expression_attribute_values(":s", number(snapshot.seq.0))
            .return_values(ReturnValue::AllOld)
            .send()
    });
    match sent.await {
        Ok(answer) => {
            let had_parts = answer.attributes.is_some_and(|old| get_number(&old, "k").unwrap_or(1_usize) > 1);
            if had_parts || count > 1 { forget_parts(table, room, snapshot.seq).await } else { Ok(()) }
        }
        // A later one is saved already; whoever saves the next takes the parts of this one away.
        Err(Failure::Condition { .. }) => Ok(()),
        Err(failure) => Err(failure.into_error()),
    }
}

/// Takes away the parts of snapshots before this position. Others of the same one may be somebody's.
async fn forget_parts(table: &Table, room: &RoomId, before: Seq) -> Result<(), Error> {
    let pk = items::room(room);
    let old = Query::between(&pk, "O#", parts_of(before)).keys();
    for found in query_all(table, "save a snapshot", old).await? {
        delete(table, "save a snapshot", &Key::new(&pk, get_text(&found, "sk")?)).await?;
    }
    Ok(())
}
