//! Items of one partition, in the order of their places, a page at a time: always as they are now, never as a replica
//! remembers them.

use aws_sdk_dynamodb::types::AttributeValue;

use crate::store::{
    Error,
    dynamodb::{
        client::{Failure, Table},
        items::{Item, Key, get_text, item, text},
    },
};

/// Which items of a partition to read.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pk: String,
    /// The first and the last place.
    range: Option<(String, String)>,
    /// Nothing up to this place.
    after: Option<String>,
    backwards: bool,
    limit: Option<i32>,
    /// Begin behind it.
    behind: Option<String>,
    keys_only: bool,
}

/// Some of the items.
#[derive(Debug)]
pub(super) struct Found {
    /// The items.
    pub(super) items: Vec<Item>,
    /// There may be more, behind this place.
    pub(super) last: Option<String>,
}

impl Query {
    /// Everything in this partition.
    pub(super) fn all(pk: impl Into<String>) -> Self {
        Self {
            pk: pk.into(),
            range: None,
            after: None,
            backwards: false,
            limit: None,
            behind: None,
            keys_only: false,
        }
    }

    /// From the first of these places to the last.
    pub(super) fn between(pk: impl Into<String>, first: impl Into<String>, last: impl Into<String>) -> Self {
        Self { range: Some((first.into(), last.into())), ..Self::all(pk) }
    }

    /// What begins with this, which ends with a `#`.
    pub(super) fn beginning(pk: impl Into<String>, with: &str) -> Self {
        // What comes next behind a `#`.
        Self::between(pk, with, format!("{}$", with.trim_end_matches('#')))
    }

    /// What is behind this place, whether or not anything is there.
    pub(super) fn after(self, place: String) -> Self {
        Self { after: Some(place), ..self }
    }

    /// The last one first.
    pub(super) fn backwards(self) -> Self {
        Self { backwards: true, ..self }
    }

    /// No more than so many.
    pub(super) fn at_most(self, items: usize) -> Self {
        Self { limit: Some(i32::try_from(items.clamp(1, 1000)).unwrap_or(1000)), ..self }
    }

    /// Behind this place.
    pub(super) fn behind(self, place: Option<String>) -> Self {
        Self { behind: place, ..self }
    }

    /// Only where they are.
    pub(super) fn keys(self) -> Self {
        Self { keys_only: true, ..self }
    }
}

/// One page.
pub(super) async fn query(table: &Table, doing: &str, query: Query) -> Result<Found, Error> {
    let Query { pk, range, after, backwards, limit, behind, keys_only } = query;
    let mut values: Item = item([(":pk", text(&pk))]);
    let condition = if let Some((first, last)) = range {
        if first > last {
            return Ok(Found { items: Vec::new(), last: None });
        }
        values.extend(item([(":first", text(first)), (":last", text(last))]));
        "pk = :pk AND sk BETWEEN :first AND :last"
    } else if let Some(after) = after {
        values.extend(item([(":after", text(after))]));
        "pk = :pk AND sk > :after"
    } else {
        "pk = :pk"
    };
    let start = behind.map(|sk| Key::new(&pk, sk).item());
    let sent = table.send(doing, || {
        table
            .client()
            .query()
            .table_name(table.name())
            .key_condition_expression(condition)
            .set_expression_attribute_values(Some(values.clone()))
            .set_limit(limit)
            .scan_index_forward(!backwards)
            .set_exclusive_start_key(start.clone())
            .set_projection_expression(keys_only.then(|| "pk, sk".to_owned()))
            .consistent_read(true)
            .send()
    });
    let answer = sent.await.map_err(Failure::into_error)?;
    let last = answer.last_evaluated_key.as_ref().map(|key| get_text(key, "sk").map(str::to_owned));
    Ok(Found { items: answer.items.unwrap_or_default(), last: last.transpose()? })
}

/// Every page.
pub(super) async fn query_all(table: &Table, doing: &str, asked: Query) -> Result<Vec<Item>, Error> {
    let mut found = Vec::new();
    let mut behind = None;
    loop {
        let page = query(table, doing, asked.clone().behind(behind)).await?;
        found.extend(page.items);
        behind = page.last;
        if behind.is_none() {
            return Ok(found);
        }
    }
}

/// A page of the index of what is forgotten one day: what may be forgotten before `before`, by its keys. Only here
/// something may be missing that has just been written.
pub(super) async fn due(
    table: &Table,
    doing: &str,
    shard: AttributeValue,
    before: i64,
    behind: Option<Item>,
) -> Result<(Vec<Key>, Option<Item>), Error> {
    let values = item([(":d", shard), (":t", crate::store::dynamodb::items::number(before))]);
    let sent = table.send(doing, || {
        table
            .client()
            .query()
            .table_name(table.name())
            .index_name(super::items::DUE)
            .key_condition_expression("d = :d AND t < :t")
            .set_expression_attribute_values(Some(values.clone()))
            .set_exclusive_start_key(behind.clone())
            .send()
    });
    let answer = sent.await.map_err(Failure::into_error)?;
    let key = |found: &Item| Ok(Key::new(get_text(found, "pk")?, get_text(found, "sk")?));
    let keys = answer.items.unwrap_or_default().iter().map(key).collect::<Result<_, Error>>()?;
    Ok((keys, answer.last_evaluated_key))
}
