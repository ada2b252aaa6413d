//! What is forgotten one day: idempotency keys and accounts, found by the index `due`.
//!
//! The index is a little behind the table. What it still has that is gone, or that is kept longer by now, its own
//! condition keeps from being taken away; what it does not have yet is found the next time.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    clock::Timestamp,
    store::{
        Error,
        dynamodb::{
            client::{Failure, Table},
            items::{Key, SHARDS, item, number, text},
            lookups::AT_ONCE,
            query::due,
        },
    },
};

/// Forgets what is due before `before`; returns how many.
pub(super) async fn forget(table: &Table, kind: &str, before: Timestamp) -> Result<u64, Error> {
    table.check_open()?;
    let mut forgotten = 0;
    for shard in 0..SHARDS {
        let mut behind = None;
        loop {
            let shard = text(format!("{kind}{shard}"));
            let (keys, next) = due(table, "look for what is forgotten", shard, before.0, behind).await?;
            let each = stream::iter(keys).map(|key| forget_one(table, key, before));
            let gone: Vec<bool> = each.buffer_unordered(AT_ONCE).try_collect().await?;
            forgotten += gone.iter().filter(|gone| **gone).count();
            behind = next;
            if behind.is_none() {
                break;
            }
        }
    }
    Ok(u64::try_from(forgotten).unwrap_or(u64::MAX))
}

/// Takes one away, if it is still due; whether it was there.
async fn forget_one(table: &Table, key: Key, before: Timestamp) -> Result<bool, Error> {
    // A key has nothing reserved, and no such attribute.
    let condition = "t < :before AND (attribute_not_exists(r) OR r = :nothing)";
    let sent = table.send("forget", || {
        table
            .client()
            .delete_item()
            .table_name(table.name())
            .set_key(Some(key.item()))
            .condition_expression(condition)
            .set_expression_attribute_values(Some(item([
                (":before", number(before.0)),
                (":nothing", number(0)),
            ])))
            .send()
    });
    match sent.await {
        Ok(_) => Ok(true),
        Err(Failure::Condition { .. }) => Ok(false),
        Err(failure) => Err(failure.into_error()),
    }
}
