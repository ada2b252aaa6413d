//! What an operator says about the bus; what it means is the backends' business.

use std::{fmt, path::PathBuf};

/// Which bus, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusConfig {
    /// Which backend.
    pub kind: BusKind,
    /// The servers of `redis` and `nats`, with commas between them.
    pub url: Option<BusUrl>,
    /// What the names of all channels begin with.
    pub prefix: String,
    /// The file with the credentials of `nats`.
    pub credentials: Option<PathBuf>,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self { kind: BusKind::Local, url: None, prefix: "salon".to_owned(), credentials: None }
    }
}

/// Which backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusKind {
    /// Within this process.
    Local,
    /// Redis, or what speaks as it does.
    Redis,
    /// NATS.
    Nats,
}

/// The URL of a server, with a password perhaps: it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct BusUrl(String);

impl BusUrl {
    /// This URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL itself; not for logs and errors.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The URLs of the single servers.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').map(str::trim).filter(|url| !url.is_empty())
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusUrl(***)")
    }
}
