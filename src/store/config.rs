//! What an operator says about the store; what it means is the backends' business.

use std::{fmt, path::PathBuf, time::Duration};

use serde::Deserialize;

/// The settings under `store`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Which backend.
    pub kind: StoreKind,
    /// The file of the `sqlite` store; its directory is created.
    pub path: PathBuf,
    /// What an acknowledged event survives.
    pub durability: Durability,
    /// How large the file of the `sqlite` store may become; appends beyond are refused until there is room again.
    /// Its write-ahead log, of which 64 MiB are usual, is not counted.
    pub max_bytes: Option<u64>,
    /// The server of the `postgres` store; the endpoint of the `dynamodb` store, if it is not that of its region.
    pub url: Option<StoreUrl>,
    /// The schema that the `postgres` store has for itself.
    pub schema: String,
    /// Connections of the `postgres` store at the same time.
    pub pool_size: usize,
    /// The region of the `dynamodb` store; without it the one that the environment or the profile names.
    pub region: Option<String>,
    /// The table that the `dynamodb` store has for itself.
    pub table: String,
    /// How long one call of the `postgres` store may take, and how long it may wait for its turn; how long one request
    /// of the `dynamodb` store may take with its repeats.
    pub timeout: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::Sqlite,
            path: PathBuf::from("data/salon.db"),
            durability: Durability::Fsync,
            max_bytes: None,
            url: None,
            schema: "salon".to_owned(),
            pool_size: 16,
            region: None,
            table: "salon".to_owned(),
            timeout: Duration::from_secs(10),
        }
    }
}

/// The backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// One file, one server.
    Sqlite,
    /// Gone when the server ends.
    Memory,
    /// A PostgreSQL database, for any number of servers.
    Postgres,
    /// A table of Amazon DynamoDB, for any number of servers.
    Dynamodb,
}

/// The URL of a server, with a password perhaps: it is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// This URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL itself; not for logs and errors.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreUrl(***)")
    }
}

/// What an acknowledged event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Loss of power: the disk has confirmed it.
    Fsync,
    /// The death of the server: the operating system has it. Loss of power may take the last commits.
    Os,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_lowercase_have_defaults_and_refuse_what_they_do_not_know() {
        let read = |text: &str| serde_json::from_str::<StoreConfig>(text);
        assert_eq!(read("{}").unwrap(), StoreConfig::default());
        let config = read(r#"{"kind":"memory","durability":"os","max_bytes":4096}"#).unwrap();
        assert_eq!(config.kind, StoreKind::Memory);
        assert_eq!(config.durability, Durability::Os);
        assert_eq!(config.max_bytes, Some(4096));
        assert!(read(r#"{"kind":"Sqlite"}"#).is_err());
        assert!(read(r#"{"file":"x"}"#).is_err());
    }
}
