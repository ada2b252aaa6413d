//! What PostgreSQL's errors mean to a caller of the store, in words an operator can act on. Nothing of `store.url` but
//! hosts and names is in any of them.

use std::{io, sync::Arc};

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::store::{Error, ErrorKind};

/// The backend's name.
pub(super) const NAME: &str = "postgres";

/// An error of this store that no error of PostgreSQL has led to.
pub(super) fn error(kind: ErrorKind, what: impl Into<String>) -> Error {
    Error { kind, store: NAME, what: what.into(), source: None }
}

/// An error of this store, with what led to it.
pub(super) fn caused(
    kind: ErrorKind,
    what: impl Into<String>,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error { kind, store: NAME, what: what.into(), source: Some(Arc::new(source)) }
}

/// The answer to every call after the store was closed.
pub(super) fn closed() -> Error {
    error(ErrorKind::Closed, "has been closed")
}

/// What an error means that came of `doing`.
pub(super) fn failed(doing: &str, source: tokio_postgres::Error) -> Error {
    let (kind, why) = meaning(&source);
    caused(kind, format!("could not {doing}: {why}"), source)
}

/// Why there is no connection to `doing` with.
pub(super) fn not_connected(doing: &str, source: PoolError) -> Error {
    match source {
        PoolError::Backend(source) => failed(doing, source),
        PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(source)) => failed(doing, source),
        PoolError::Closed => closed(),
        PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => {
            let why =
                "every connection was in use for too long: the database is slow, or store.pool_size is small";
            error(ErrorKind::Unavailable, format!("could not {doing}: {why}"))
        }
        PoolError::Timeout(_) => {
            let why = "its server did not answer in time: see that it runs and that store.url is right";
            error(ErrorKind::Unavailable, format!("could not {doing}: {why}"))
        }
        other => caused(ErrorKind::Unavailable, format!("could not {doing}: there was no connection"), other),
    }
}

/// Whether PostgreSQL has undone the transaction and says that the same may work when it is tried again.
pub(super) fn was_undone(source: &tokio_postgres::Error) -> bool {
    [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED]
        .iter()
        .any(|code| source.code() == Some(code))
}

/// Whether the connection was lost, and with it the answer.
pub(super) fn was_cut(source: &tokio_postgres::Error) -> bool {
    match source.code() {
        Some(code) => code.code().starts_with("57P") || code.code().starts_with("08"),
        None => source.is_closed() || io_kind(source).is_some(),
    }
}

fn meaning(source: &tokio_postgres::Error) -> (ErrorKind, &'static str) {
    match source.code() {
        Some(code) => meaning_of(code.code()),
        None => meaning_of_connection(source),
    }
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn meaning_of(code: &str) -> (ErrorKind, &'static str) {
    use ErrorKind::{Corrupt, Unavailable, Unusable};
    match code {
        "57014" => (Unavailable, "it took longer than store.timeout"),
        "25006" => (Unavailable, "the server takes no writes: it is a standby, or was set to read-only"),
        "55P03" => (Unavailable, "somebody else has held what it needs for too long"),
        "53100" => (Unavailable, "the server's disk is full"),
        "53300" => (
            Unavailable,
            "the server has no connection left: raise its max_connections, or lower store.pool_size",
        ),
        "28P01" | "28000" => (Unusable, "the server refuses the user or the password of store.url"),
        "3D000" => (Unusable, "the server has no such database: create it, or correct store.url"),
        "42501" => (
            Unusable,
            "the user of store.url lacks a right: grant it, or let that user own the schema of store.schema",
        ),
        "42P01" | "42703" | "42883" | "3F000" => {
            (Unusable, "a part of the schema of store.schema is missing: restore it from a backup")
        }
        _ => match code.get(..2).unwrap_or_default() {
            "08" | "40" | "53" | "55" | "57" | "58" => (Unavailable, "the server is not able to just now"),
            "22" | "23" | "XX" => {
                (Corrupt, "the database is damaged, or was written to by others: restore it from a backup")
            }
            _ => (Unavailable, "the server refused"),
        },
    }
}

fn meaning_of_connection(source: &tokio_postgres::Error) -> (ErrorKind, &'static str) {
    // The crate tells its kinds apart by their words alone.
    let words = source.to_string();
    let broke_off = matches!(
        io_kind(source),
        Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    );
    if source.is_closed() || broke_off {
        (ErrorKind::Unavailable, "the connection to its server was lost")
    } else if words.starts_with("error performing TLS handshake") {
        let why =
            "there is no TLS to be had: set SSL_CERT_FILE to the server's authority, or sslmode in store.url";
        (ErrorKind::Unusable, why)
    } else if words.starts_with("error connecting") || io_kind(source).is_some() {
        (ErrorKind::Unavailable, "its server cannot be reached: see that it runs and that store.url is right")
    } else if words.starts_with("invalid configuration") || words.starts_with("authentication error") {
        (ErrorKind::Unusable, "store.url does not have what the server asks for, a password perhaps")
    } else if words.starts_with("error deserializing") {
        (ErrorKind::Corrupt, "the database holds what was never written to it: restore it from a backup")
    } else {
        (ErrorKind::Unavailable, "its server does not answer as PostgreSQL does")
    }
}

fn io_kind(source: &tokio_postgres::Error) -> Option<io::ErrorKind> {
    let source = std::error::Error::source(source)?;
    source.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_is_told_from_the_others() {
        for (code, kind) in [
            ("57014", ErrorKind::Unavailable),
            ("57P01", ErrorKind::Unavailable),
            ("57P03", ErrorKind::Unavailable),
            ("53100", ErrorKind::Unavailable),
            ("40P01", ErrorKind::Unavailable),
            ("55P03", ErrorKind::Unavailable),
            ("25006", ErrorKind::Unavailable),
            ("28P01", ErrorKind::Unusable),
            ("3D000", ErrorKind::Unusable),
            ("42501", ErrorKind::Unusable),
            ("42P01", ErrorKind::Unusable),
            ("23505", ErrorKind::Corrupt),
            ("XX001", ErrorKind::Corrupt),
            ("99999", ErrorKind::Unavailable),
        ] {
            assert_eq!(meaning_of(code).0, kind, "{code}");
        }
    }
}
