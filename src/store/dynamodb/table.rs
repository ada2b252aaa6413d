//! The table itself: made by `salon setup`, and looked at by every start.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, IndexStatus, KeySchemaElement, KeyType,
        Projection, ProjectionType, ScalarAttributeType, TableDescription, TableStatus,
        TimeToLiveSpecification, TimeToLiveStatus,
    },
};
use tokio::time::{Instant, sleep};

use crate::store::{
    Error, ErrorKind,
    dynamodb::{
        client::{Failure, Table},
        failure::{error, incomplete, strange},
        items::{DUE, Key, get_number, number, text},
        lookups::get,
    },
};

/// The attribute by which the service takes away what nobody has forgotten.
const EXPIRES: &str = "x";
/// What this build reads and writes; kept in the table.
const VERSION: u64 = 1;
/// How long a table may take to be made.
const MAKING: Duration = Duration::from_secs(300);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(500);

fn schema() -> Key {
    Key::new("salon", "schema")
}

/// Refuses a table that is not there, not Salon's, or of a newer build.
pub(super) async fn check(table: &Table) -> Result<(), Error> {
    let Some(schema) = get(table, "read the table", &schema()).await? else {
        let what = format!("has the table {}, which is not Salon's: run `salon setup`", table.name());
        return Err(error(ErrorKind::Unusable, what));
    };
    let version: u64 = get_number(&schema, "v")?;
    if version > VERSION {
        let what = format!(
            "has the table {} of version {version}, made by a newer Salon than this one, which knows {VERSION}: run \
             that one, or set store.table to another",
            table.name()
        );
        return Err(error(ErrorKind::Unusable, what));
    }
    if version == 0 { Err(strange("a table of no version")) } else { Ok(()) }
}

/// Makes the table, or what is missing of it; returns what was done, for people.
pub(super) async fn set_up(table: &Table) -> Result<Vec<String>, Error> {
    let name = table.name();
    let mut done = Vec::new();
    if describe(table).await?.is_none() {
        if create(table).await? {
            done.push(format!("created the table {name}, billed by request"));
        }
    } else {
        done.push(format!("the table {name} is there"));
    }
    wait(table).await?;
    if mark(table).await? {
        done.push(format!("marked it as Salon's, version {VERSION}"));
    }
    if expire(table).await? {
        done.push(format!("set the service to take away expired items by `{EXPIRES}`"));
    }
    check(table).await?;
    done.push(
        "point-in-time recovery is left as it is: it costs by size, and is switched on at the table"
            .to_owned(),
    );
    Ok(done)
}

async fn describe(table: &Table) -> Result<Option<TableDescription>, Error> {
    let sent =
        table.send("describe the table", || table.client().describe_table().table_name(table.name()).send());
    match sent.await {
        Ok(answer) => Ok(answer.table),
        Err(Failure::NoTable(_)) => Ok(None),
        Err(failure) => Err(failure.into_error()),
    }
}

/// `false`: somebody else is just making it.
async fn create(table: &Table) -> Result<bool, Error> {
    let (attributes, keys, index) = shape().map_err(incomplete)?;
    let sent = table.send("create the table", || {
        table
            .client()
            .create_table()
            .table_name(table.name())
            .billing_mode(BillingMode::PayPerRequest)
            .set_attribute_definitions(Some(attributes.clone()))
            .set_key_schema(Some(keys.clone()))
            .global_secondary_indexes(index.clone())
            .send()
    });
    match sent.await {
        Ok(_) => Ok(true),
        Err(Failure::Condition { .. }) => Ok(false),
        Err(failure) => Err(failure.into_error()),
    }
}

type Shape = (Vec<AttributeDefinition>, Vec<KeySchemaElement>, GlobalSecondaryIndex);

fn shape() -> Result<Shape, BuildError> {
    let attribute =
        |name: &str, kind| AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build();
    let attributes = vec![
        attribute("pk", ScalarAttributeType::S)?,
        attribute("sk", ScalarAttributeType::S)?,
        attribute("d", ScalarAttributeType::S)?,
        attribute("t", ScalarAttributeType::N)?,
    ];
    let index = GlobalSecondaryIndex::builder()
        .index_name(DUE)
        .set_key_schema(Some(keys("d", "t")?))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build());
    Ok((attributes, keys("pk", "sk")?, index.build()?))
}

fn keys(hash: &str, range: &str) -> Result<Vec<KeySchemaElement>, BuildError> {
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    Ok(vec![key(hash, KeyType::Hash)?, key(range, KeyType::Range)?])
}

/// Waits until the table can be used, and refuses one that has another shape.
async fn wait(table: &Table) -> Result<(), Error> {
    let deadline = Instant::now() + MAKING;
    loop {
        let described = describe(table).await?;
        if let Some(described) = &described {
            if !has_shape(described).map_err(incomplete)? {
                let what = format!(
                    "has a table {} of another shape, so of another program: set store.table to another name",
                    table.name()
                );
                return Err(error(ErrorKind::Unusable, what));
            }
            let index = described
                .global_secondary_indexes()
                .iter()
                .all(|index| index.index_status().is_none_or(|status| *status == IndexStatus::Active));
            if index && described.table_status() == Some(&TableStatus::Active) {
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            let what = format!("has not finished the table {} in five minutes: run it again", table.name());
            return Err(error(ErrorKind::Unavailable, what));
        }
        sleep(LOOK).await;
    }
}

fn has_shape(described: &TableDescription) -> Result<bool, BuildError> {
    let (attributes, keys, index) = shape()?;
    let has_index = described
        .global_secondary_indexes()
        .iter()
        .any(|found| found.index_name() == Some(DUE) && found.key_schema() == index.key_schema());
    let has_attributes =
        attributes.iter().all(|attribute| described.attribute_definitions().contains(attribute));
    Ok(described.key_schema() == keys && has_attributes && has_index)
}

/// Writes down whose the table is; `false`: that was there. A table with items of others is refused.
async fn mark(table: &Table) -> Result<bool, Error> {
    if get(table, "read the table", &schema()).await?.is_some() {
        return Ok(false);
    }
    let sent = table.send("look into the table", || {
        table.client().scan().table_name(table.name()).limit(1).consistent_read(true).send()
    });
    let found = sent.await.map_err(Failure::into_error)?.items.unwrap_or_default();
    if found.iter().any(|item| item.get("pk") != Some(&text("salon"))) {
        let what =
            format!("has a table {} that others have written to: set store.table to another", table.name());
        return Err(error(ErrorKind::Unusable, what));
    }
    let mark = schema().with([("v", number(VERSION)), ("program", text("salon"))]);
    let sent = table.send("mark the table", || {
        table
            .client()
            .put_item()
            .table_name(table.name())
            .set_item(Some(mark.clone()))
            .condition_expression("attribute_not_exists(pk)")
            .send()
    });
    match sent.await {
        Ok(_) => Ok(true),
        Err(Failure::Condition { .. }) => Ok(false),
        Err(failure) => Err(failure.into_error()),
    }
}

/// Lets the service take away expired items; `false`: it does so already.
async fn expire(table: &Table) -> Result<bool, Error> {
    if expires(table).await? {
        return Ok(false);
    }
    let how = TimeToLiveSpecification::builder().attribute_name(EXPIRES).enabled(true);
    let how = how.build().map_err(incomplete)?;
    let sent = table.send("set what expires", || {
        table
            .client()
            .update_time_to_live()
            .table_name(table.name())
            .time_to_live_specification(how.clone())
            .send()
    });
    match sent.await {
        Ok(_) => Ok(true),
        // Somebody else may have been faster.
        Err(_) if expires(table).await? => Ok(false),
        Err(failure) => Err(failure.into_error()),
    }
}

async fn expires(table: &Table) -> Result<bool, Error> {
    let sent = table
        .send("see what expires", || table.client().describe_time_to_live().table_name(table.name()).send());
    let answer = sent.await.map_err(Failure::into_error)?;
    let on = [TimeToLiveStatus::Enabled, TimeToLiveStatus::Enabling];
    let status = answer.time_to_live_description.and_then(|told| told.time_to_live_status);
    Ok(status.is_some_and(|status| on.contains(&status)))
}
