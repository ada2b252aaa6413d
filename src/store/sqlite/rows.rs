//! Values as columns, and columns as values. What cannot have been written is an error, never a guess.

use bytes::Bytes;
use rusqlite::{Row, types::Type};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    domain::{event::Kind, room::Visibility},
    ids::{EventId, Namespace, RoomId, Seq},
    store::{Head, Receipt, Record, Snapshot},
};

/// The columns that [`record`] reads, in its order.
macro_rules! record_columns {
    () => {
        "seq, event_id, at, kind, public, private"
    };
}
pub(super) use record_columns;

/// A position as a column. SQLite's integers are signed; no log will ever reach the half of `u64` that they lack.
pub(super) fn seq_column(seq: Seq) -> i64 {
    integer(seq.0)
}

/// A number as a column, the largest one standing for all that are larger.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// As [`integer`], for a count.
pub(super) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A kind as a column; the index of messages names that of [`Kind::Message`].
pub(super) fn kind_column(kind: Kind) -> i64 {
    match kind {
        Kind::Other => 0,
        Kind::Message => 1,
        Kind::Membership => 2,
    }
}

/// A visibility as a column; the list of public rooms names that of [`Visibility::Public`].
pub(super) fn visibility_column(visibility: Visibility) -> i64 {
    match visibility {
        Visibility::Public => 0,
        Visibility::Private => 1,
    }
}

/// A namespace as a column: what stands before the `/` of its rooms' ids, so nothing for the default one.
pub(super) fn namespace_column(namespace: &Namespace) -> &str {
    if namespace.is_default() { "" } else { namespace.as_str() }
}

/// The number in this column.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let stored: i64 = row.get(column)?;
    u64::try_from(stored).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, stored))
}

/// The position in this column.
pub(super) fn seq(row: &Row<'_>, column: usize) -> rusqlite::Result<Seq> {
    number(row, column).map(Seq)
}

/// The id in this column.
pub(super) fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}

/// The name of a room in this column.
pub(super) fn room(row: &Row<'_>, column: usize) -> rusqlite::Result<RoomId> {
    RoomId::parse_key(row.get_ref(column)?.as_str()?)
        .map_err(|source| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(source)))
}

/// A row of [`record_columns`].
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let kind = match row.get(3)? {
        0 => Kind::Other,
        1 => Kind::Message,
        2 => Kind::Membership,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(3, other)),
    };
    Ok(Record {
        seq: seq(row, 0)?,
        event_id: EventId(uuid(row, 1)?),
        at: Timestamp(row.get(2)?),
        kind,
        public: bytes(row, 4)?,
        private: bytes(row, 5)?,
    })
}

/// A row of `head, fence`, from this column on.
pub(super) fn head(row: &Row<'_>, column: usize) -> rusqlite::Result<Head> {
    Ok(Head { seq: seq(row, column)?, fence: seq(row, column + 1)? })
}

/// A row of `first, last, event_id, body_hash`.
pub(super) fn request(row: &Row<'_>) -> rusqlite::Result<(Receipt, u64)> {
    let receipt = Receipt { first: seq(row, 0)?, last: seq(row, 1)?, event_id: EventId(uuid(row, 2)?) };
    let body_hash: i64 = row.get(3)?;
    Ok((receipt, body_hash.cast_unsigned()))
}

/// A row of `seq, version, state`.
pub(super) fn snapshot(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    Ok(Snapshot { seq: seq(row, 0)?, version: row.get(1)?, state: bytes(row, 2)? })
}

/// The bytes in this column.
pub(super) fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}
