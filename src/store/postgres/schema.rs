//! The schema that the tables are in, and how one of an earlier version becomes one of this version.
//!
//! `salon_versions` has a row for each step that was taken, each in a transaction of its own and under a lock of the
//! server, so that any number of processes may start at once. A step is never changed once it was released: a new one
//! is added. A step that does not get a table within two seconds is given up and taken again by the caller, so that
//! nobody queues behind it for long. A function that a running server of an earlier version may call is never replaced by one of another
//! meaning; it gets another name. A schema with more steps than this build knows is refused and left as it is.

use deadpool_postgres::{Object, Transaction};

use crate::store::{
    Error, ErrorKind,
    postgres::{
        connections::quoted,
        failure::{error, failed},
    },
};

/// The steps, oldest first.
const STEPS: [&str; 4] = [
    include_str!("steps/1.sql"),
    include_str!("steps/2.sql"),
    include_str!("steps/3.sql"),
    include_str!("steps/4.sql"),
];

/// What must be there behind the last step.
const TABLES: [&str; 13] = [
    "rooms",
    "events",
    "requests",
    "members",
    "runs",
    "cursors",
    "snapshots",
    "probe",
    "accounts",
    "reservations",
    "reserved",
    "leases",
    "documents",
];

/// The lock of whoever takes a step is a number of this and one of the schema's name: "SALO".
const LOCK: i32 = 0x5341_4C4F;

/// The oldest server that has all that the steps need.
const OLDEST_SERVER: i32 = 130_000;

/// Brings the schema to this build's version, or refuses it.
pub(super) async fn prepare(client: &mut Object, schema: &str) -> Result<(), Error> {
    inspect_server(client).await?;
    while take_step(client, schema).await? {}
    find_tables(client, schema).await
}

/// Refuses a schema that was not brought to this build's version yet. Nothing is written.
pub(super) async fn is_newest(client: &Object, schema: &str) -> Result<(), Error> {
    inspect_server(client).await?;
    let had = version(client, schema).await?;
    let what = match (had, next_step(had, schema)?) {
        (Some(_), None) => return find_tables(client, schema).await,
        (Some(version), Some(_)) => format!(
            "found the schema {schema} in version {version}, and this build writes version {}: use the build that \
             wrote it, or start this build's server once, which brings the schema to its version",
            STEPS.len()
        ),
        (None, _) => format!("finds no schema {schema}: correct store.schema or store.url"),
    };
    Err(error(ErrorKind::Unusable, what))
}

async fn inspect_server(client: &Object) -> Result<(), Error> {
    let sql = "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding')";
    let read = |source| failed("look at its server", source);
    let row = client.query_one(sql, &[]).await.map_err(read)?;
    let (version, encoding): (i32, String) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
    if version < OLDEST_SERVER {
        let what = format!(
            "needs PostgreSQL {} or later, and the server of store.url is version {}",
            OLDEST_SERVER / 10_000,
            version / 10_000
        );
        return Err(error(ErrorKind::Unusable, what));
    }
    if encoding != "UTF8" {
        let what = format!(
            "needs a database with the encoding UTF8, and that of store.url has {encoding}: create another"
        );
        return Err(error(ErrorKind::Unusable, what));
    }
    Ok(())
}

/// Takes the next step, if there is one; whether there was.
async fn take_step(client: &mut Object, schema: &str) -> Result<bool, Error> {
    let doing = |source| failed("bring its schema to this build's version", source);
    if next_step(version(client, schema).await?, schema)?.is_none() {
        return Ok(false);
    }
    let transaction = client.transaction().await.map_err(doing)?;
    // A step may rewrite a large table, and another process may be at one.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(doing)?;
    let lock = "SELECT pg_advisory_xact_lock($1, hashtext($2))";
    transaction.execute(lock, &[&LOCK, &schema]).await.map_err(doing)?;
    // Looked at again: whoever had the lock may have taken the step.
    let (version, step) = match next_step(version(&transaction, schema).await?, schema)? {
        Some(step) => step,
        None => return Ok(true),
    };
    if version == 1 {
        let create = format!(
            "CREATE SCHEMA IF NOT EXISTS {}; CREATE TABLE salon_versions (version integer PRIMARY KEY, taken_at \
             timestamptz NOT NULL DEFAULT now())",
            quoted(schema)
        );
        create_schema(&transaction, &create, schema).await?;
    }
    // Whoever waits for a table is waited for by all who come behind: servers of the earlier version, at work.
    transaction.batch_execute("SET LOCAL lock_timeout = '2s'").await.map_err(doing)?;
    transaction.batch_execute(step).await.map_err(doing)?;
    let note = "INSERT INTO salon_versions (version) VALUES ($1)";
    transaction.execute(note, &[&version]).await.map_err(doing)?;
    transaction.commit().await.map_err(doing)?;
    tracing::info!(version, schema, "a step of the store's schema was taken");
    Ok(true)
}

async fn create_schema(transaction: &Transaction<'_>, create: &str, schema: &str) -> Result<(), Error> {
    let sql = "
        SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1)";
    let doing = |source| failed("create its schema", source);
    let row = transaction.query_one(sql, &[&schema]).await.map_err(doing)?;
    if row.try_get(0).map_err(doing)? {
        let what = format!(
            "found tables of another program in the schema {schema}: set store.schema to another name"
        );
        return Err(error(ErrorKind::Unusable, what));
    }
    transaction.batch_execute(create).await.map_err(doing)
}

/// The step behind this version, with its own.
fn next_step(version: Option<i32>, schema: &str) -> Result<Option<(i32, &'static str)>, Error> {
    let version = version.unwrap_or(0);
    let newest = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
    if version > newest {
        let what = format!(
            "found the schema {schema} in version {version}, but this build knows versions up to {newest}: use the \
             newer build that wrote it, or set store.schema to another name"
        );
        return Err(error(ErrorKind::Unusable, what));
    }
    Ok((1..).zip(STEPS).find(|(step, _)| *step > version))
}

/// How many steps the schema has had; `None`: it is not there, or not ours.
async fn version(client: &impl deadpool_postgres::GenericClient, schema: &str) -> Result<Option<i32>, Error> {
    let read = |source| failed("read the version of its schema", source);
    // Not by `to_regclass`, which may answer from before the lock was waited for.
    let there = "
        SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                       WHERE nspname = $1 AND relname = 'salon_versions')";
    let row = client.query_one(there, &[&schema]).await.map_err(read)?;
    if !row.try_get::<_, bool>(0).map_err(read)? {
        return Ok(None);
    }
    let newest = format!("SELECT max(version) FROM {}.salon_versions", quoted(schema));
    let row = client.query_one(&newest, &[]).await.map_err(read)?;
    row.try_get(0).map_err(read)
}

/// That what the last step has left is there and may be used, so that this is found at the start and not by a user.
async fn find_tables(client: &Object, schema: &str) -> Result<(), Error> {
    let read = |source| failed("look for its tables", source);
    let sql = "
        SELECT name, CASE WHEN to_regclass(name) IS NOT NULL
                          THEN has_table_privilege(to_regclass(name), 'SELECT') AND
                               has_table_privilege(to_regclass(name), 'INSERT') AND
                               has_table_privilege(to_regclass(name), 'UPDATE') AND
                               has_table_privilege(to_regclass(name), 'DELETE') END
        FROM unnest($1::text[]) AS name";
    for row in client.query(sql, &[&TABLES.as_slice()]).await.map_err(read)? {
        let (name, usable): (String, Option<bool>) =
            (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
        let what = match usable {
            Some(true) => continue,
            Some(false) => {
                format!(
                    "may not use the table {name} of the schema {schema}: grant the user of store.url all on it"
                )
            }
            None => {
                format!("misses the table {name} in the schema {schema}: restore the schema from a backup")
            }
        };
        return Err(error(ErrorKind::Unusable, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_from_one_and_a_newer_schema_is_refused() {
        assert_eq!(next_step(None, "s").unwrap().unwrap().0, 1);
        assert_eq!(next_step(Some(1), "s").unwrap().unwrap().0, 2);
        assert_eq!(next_step(Some(2), "s").unwrap().unwrap().0, 3);
        assert_eq!(next_step(Some(3), "s").unwrap().unwrap().0, 4);
        assert!(next_step(Some(4), "s").unwrap().is_none());
        let refused = next_step(Some(4321), "s").unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unusable);
        assert!(refused.what.contains("version 4321") && refused.what.contains("up to 4"), "{refused}");
    }

    #[test]
    fn every_table_of_the_steps_is_looked_for() {
        let made = STEPS.concat().matches("CREATE TABLE ").count();
        assert_eq!(made, TABLES.len());
        assert!(TABLES.iter().all(|table| STEPS.concat().contains(&format!("CREATE TABLE {table} ("))));
    }
}
