//! What SQLite's errors mean to a caller of the store, in words an operator can act on.

use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::store::{Error, ErrorKind};

/// The backend's name.
pub(super) const NAME: &str = "sqlite";

/// An error of this store that no error of SQLite has led to.
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

/// What an error means that SQLite has answered to `doing`.
pub(super) fn failed(doing: &str, source: rusqlite::Error) -> Error {
    let (kind, why) = match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (
            ErrorKind::Unavailable,
            "there is no room left: free space on the disk, or raise store.max_bytes if it is set",
        ),
        Some(ErrorCode::SystemIoFailure) => (ErrorKind::Unavailable, "the disk did not do as it was asked"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Unavailable, "another program keeps the file locked")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            (ErrorKind::Unusable, "the file may not be written: give its owner the right to")
        }
        Some(ErrorCode::NotADatabase) => (ErrorKind::Unusable, "the file is no SQLite database"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
            (ErrorKind::Corrupt, "the file is damaged: restore it from a backup")
        }
        Some(_) => (ErrorKind::Unavailable, "SQLite refused"),
        // Without a code it is a value that was read and is none that was ever written.
        None => (ErrorKind::Corrupt, "the file holds what was never written to it: restore it from a backup"),
    };
    caused(kind, format!("could not {doing}: {why}"), source)
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn each_kind_of_failure_is_told_from_the_others() {
        let kind = |code| {
            let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            failed("append", source).kind
        };
        assert_eq!(kind(ffi::SQLITE_FULL), ErrorKind::Unavailable);
        assert_eq!(kind(ffi::SQLITE_IOERR_WRITE), ErrorKind::Unavailable);
        assert_eq!(kind(ffi::SQLITE_BUSY), ErrorKind::Unavailable);
        assert_eq!(kind(ffi::SQLITE_READONLY), ErrorKind::Unusable);
        assert_eq!(kind(ffi::SQLITE_NOTADB), ErrorKind::Unusable);
        assert_eq!(kind(ffi::SQLITE_CORRUPT), ErrorKind::Corrupt);
        assert_eq!(failed("read", rusqlite::Error::InvalidQuery).kind, ErrorKind::Corrupt);
    }
}
