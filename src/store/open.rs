//! Opening a store: the only place that names the backends.

use std::sync::Arc;

#[cfg(feature = "dynamodb")]
use crate::store::dynamodb;
#[cfg(feature = "postgres")]
use crate::store::postgres;
use crate::store::{
    Error, ErrorKind, Store,
    config::{StoreConfig, StoreKind},
    memory::MemoryStore,
    sqlite::SqliteStore,
};

/// Opens the store that the configuration asks for.
///
/// It may block on files, so it is for the start of a process and not for a task.
pub async fn open(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(match config.kind {
        StoreKind::Memory => Arc::new(MemoryStore::new()),
        StoreKind::Sqlite => Arc::new(SqliteStore::open(config)?),
        StoreKind::Postgres => open_postgres(config).await?,
        StoreKind::Dynamodb => open_dynamodb(config).await?,
    })
}

/// Makes what the store needs before a server can use it; returns what was done, for people. What is there already is
/// left as it is.
pub async fn set_up(config: &StoreConfig) -> Result<Vec<String>, Error> {
    match config.kind {
        StoreKind::Memory => {
            Ok(vec!["the store `memory` needs nothing: it is gone when the server ends".to_owned()])
        }
        StoreKind::Sqlite => {
            let what = "the store `sqlite` needs nothing: its file is created at the first start";
            Ok(vec![what.to_owned()])
        }
        StoreKind::Postgres => {
            // A start does as much: it takes the steps that are missing.
            open_postgres(config).await?.close().await?;
            Ok(vec![format!("the schema {} is at this build's version", config.schema)])
        }
        StoreKind::Dynamodb => set_up_dynamodb(config).await,
    }
}

#[cfg(feature = "dynamodb")]
async fn open_dynamodb(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(dynamodb::DynamoStore::open(config).await?))
}

#[cfg(feature = "dynamodb")]
async fn set_up_dynamodb(config: &StoreConfig) -> Result<Vec<String>, Error> {
    dynamodb::DynamoStore::set_up(config).await
}

#[cfg(not(feature = "dynamodb"))]
async fn open_dynamodb(_: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    std::future::ready(Err(not_built("dynamodb"))).await
}

#[cfg(not(feature = "dynamodb"))]
async fn set_up_dynamodb(_: &StoreConfig) -> Result<Vec<String>, Error> {
    std::future::ready(Err(not_built("dynamodb"))).await
}

/// Opens a store that is there, to be read only: what writes fails. Nothing is brought to another version or
/// created, besides the `-shm` and `-wal` that SQLite keeps beside its file, and a server that uses it is not disturbed.
///
/// With `sqlite` every answer is from the moment of the opening; with `postgres` and `dynamodb` each is from the moment it is
/// given.
pub async fn open_to_read(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(match config.kind {
        StoreKind::Memory => {
            return Err(Error {
                kind: ErrorKind::Unusable,
                store: "memory",
                what: "is inside of its server and cannot be read from elsewhere: set store.kind to the kind that \
                       the server uses"
                    .to_owned(),
                source: None,
            });
        }
        StoreKind::Sqlite => Arc::new(SqliteStore::open_to_read(config)?),
        StoreKind::Postgres => open_postgres_to_read(config).await?,
        StoreKind::Dynamodb => open_dynamodb_to_read(config).await?,
    })
}

#[cfg(feature = "dynamodb")]
async fn open_dynamodb_to_read(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(dynamodb::DynamoStore::open_to_read(config).await?))
}

#[cfg(not(feature = "dynamodb"))]
async fn open_dynamodb_to_read(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    open_dynamodb(config).await
}

#[cfg(feature = "postgres")]
async fn open_postgres_to_read(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(postgres::PostgresStore::open_to_read(config).await?))
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres_to_read(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    open_postgres(config).await
}

#[cfg(feature = "postgres")]
async fn open_postgres(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(postgres::PostgresStore::open(config).await?))
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres(_: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    std::future::ready(Err(not_built("postgres"))).await
}

#[cfg(not(all(feature = "dynamodb", feature = "postgres")))]
fn not_built(store: &'static str) -> Error {
    let what =
        format!("is not in this build: build it with the feature `{store}`, or set store.kind to another");
    Error { kind: ErrorKind::Unusable, store, what, source: None }
}
