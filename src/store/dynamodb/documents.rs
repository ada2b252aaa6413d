//! Documents: an item for each, a partition for each folder. Revisions are compared by the service as it writes.

use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure as Return;
use uuid::Uuid;

use crate::store::{
    Error, ErrorKind,
    documents::{Document, Expect, Folder, NAME_BYTES, is_name},
    dynamodb::{
        client::{Failure, Table},
        failure::error,
        items::{self, Item, Key, binary, get_bytes, get_number, get_text, item, number},
        lookups::get,
        query::{Query, query},
    },
};

fn key(folder: &Folder, name: &str) -> Key {
    Key::new(items::folder(folder), name)
}

/// What an item says.
pub(super) fn document(found: &Item) -> Result<Document, Error> {
    Ok(Document {
        name: get_text(found, "sk")?.to_owned(),
        revision: get_number(found, "v")?,
        body: get_bytes(found, "b")?,
    })
}

/// [`crate::store::Store::document`].
pub(super) async fn one(table: &Table, folder: &Folder, name: &str) -> Result<Option<Document>, Error> {
    // The service takes no request for a place that cannot be.
    if !is_name(name) {
        return table.check_open().map(|()| None);
    }
    get(table, "read a document", &key(folder, name)).await?.as_ref().map(document).transpose()
}

/// [`crate::store::Store::documents`].
pub(super) async fn page(
    table: &Table,
    folder: &Folder,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Document>, Error> {
    if limit == 0 {
        return table.check_open().map(|()| Vec::new());
    }
    // The service compares no longer places; what is cut off decides nothing, since no name is as long.
    let after: String = after.unwrap_or_default().chars().take(NAME_BYTES).collect();
    let all = Query::all(items::folder(folder));
    let asked = if after.is_empty() { all } else { all.after(after) }.at_most(limit);
    let mut behind = None;
    loop {
        let found = query(table, "list documents", asked.clone().behind(behind)).await?;
        behind = found.last;
        if !found.items.is_empty() || behind.is_none() {
            return found.items.iter().map(document).collect();
        }
    }
}

/// [`crate::store::Store::put_document`].
pub(super) async fn put(
    table: &Table,
    folder: &Folder,
    name: &str,
    expect: Expect,
    body: &[u8],
) -> Result<bool, Error> {
    let key = key(folder, name);
    if body.is_empty() {
        return remove(table, &key, expect).await;
    }
    // By it whoever has written the item knows it again.
    let ours = Uuid::new_v4().as_bytes().to_vec();
    let mut values = item([(":b", binary(body)), (":w", binary(ours.clone())), (":one", number(1))]);
    let condition = match expect {
        // Not twice, when an answer is lost.
        Expect::Anything => "attribute_not_exists(w) OR w <> :w",
        Expect::Nothing => "attribute_not_exists(pk)",
        Expect::Revision(revision) => {
            values.extend(item([(":v", number(revision))]));
            "v = :v"
        }
    };
    let sent = table.send("write a document", || {
        table
            .client()
            .update_item()
            .table_name(table.name())
            .set_key(Some(key.item()))
            .update_expression("SET b = :b, w = :w ADD v :one")
            .condition_expression(condition)
            .set_expression_attribute_values(Some(values.clone()))
            .return_values_on_condition_check_failure(Return::AllOld)
            .send()
    });
    match sent.await {
        Ok(_) => Ok(true),
        Err(Failure::Condition { found, doubted }) => {
            let is_ours = |found: &Item| get_bytes(found, "w").is_ok_and(|w| *w == *ours);
            if !doubted || found.as_ref().is_some_and(is_ours) {
                return Ok(doubted);
            }
            // Whoever was faster is told by the revision, unless there has been another since.
            let was_next = match expect {
                Expect::Revision(revision) => revision.checked_add(1),
                Expect::Nothing => Some(1),
                Expect::Anything => None,
            };
            match found.as_ref().map(|found| get_number::<u64>(found, "v")).transpose()? {
                Some(now) if Some(now) <= was_next => Ok(false),
                _ => Err(unknown()),
            }
        }
        Err(failure) => Err(failure.into_error()),
    }
}

async fn remove(table: &Table, key: &Key, expect: Expect) -> Result<bool, Error> {
    let (condition, values) = match expect {
        Expect::Anything => (None, None),
        Expect::Nothing => (Some("attribute_not_exists(pk)"), None),
        Expect::Revision(revision) => (Some("v = :v"), Some(item([(":v", number(revision))]))),
    };
    let sent = table.send("remove a document", || {
        table
            .client()
            .delete_item()
            .table_name(table.name())
            .set_key(Some(key.item()))
            .set_condition_expression(condition.map(str::to_owned))
            .set_expression_attribute_values(values.clone())
            .return_values_on_condition_check_failure(Return::AllOld)
            .send()
    });
    match sent.await {
        Ok(_) => Ok(true),
        Err(Failure::Condition { found: None, doubted: true }) => Err(unknown()),
        Err(Failure::Condition { .. }) => Ok(false),
        Err(failure) => Err(failure.into_error()),
    }
}

fn unknown() -> Error {
    let what = "does not know whether a document was written here or elsewhere: an answer was lost";
    error(ErrorKind::Unavailable, what)
}
