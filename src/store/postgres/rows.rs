//! Values as columns, and columns as values. What cannot have been written is an error, never a guess.

use bytes::Bytes;
use tokio_postgres::{Row, types::FromSql};

use crate::{
    clock::Timestamp,
    domain::event::Kind,
    ids::{EventId, Namespace, RoomId, Seq},
    store::{
        Error, ErrorKind, Head, Receipt, Record, Snapshot,
        postgres::failure::{error, failed},
    },
};

/// A number as a column, the largest one standing for all that are larger: PostgreSQL's integers are signed.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// As [`integer`], for a count.
pub(super) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The number of an element in an array of one call.
pub(super) fn place(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A kind as a column; `append` names that of [`Kind::Message`].
pub(super) fn kind_column(kind: Kind) -> i16 {
    match kind {
        Kind::Other => 0,
        Kind::Message => 1,
        Kind::Membership => 2,
    }
}

/// A namespace as the indexes of rooms have it: what stands before the `/` of an id, so nothing for the default one.
pub(super) fn namespace_column(namespace: &Namespace) -> &str {
    if namespace.is_default() { "" } else { namespace.as_str() }
}

/// The value in this column.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Error> {
    row.try_get(column).map_err(|source| failed("read", source))
}

/// The number in this column.
pub(super) fn number(row: &Row, column: usize) -> Result<u64, Error> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| strange("a negative number"))
}

/// The position in this column.
pub(super) fn seq(row: &Row, column: usize) -> Result<Seq, Error> {
    number(row, column).map(Seq)
}

/// The name of a room in this column.
pub(super) fn room(row: &Row, column: usize) -> Result<RoomId, Error> {
    RoomId::parse_key(get(row, column)?).map_err(|_| strange("a room without a name"))
}

/// A row of `seq, event_id, at, kind, public, private`.
pub(super) fn record(row: &Row) -> Result<Record, Error> {
    let kind = match get::<i16>(row, 3)? {
        0 => Kind::Other,
        1 => Kind::Message,
        2 => Kind::Membership,
        _ => return Err(strange("an event of no kind")),
    };
    Ok(Record {
        seq: seq(row, 0)?,
        event_id: EventId(get(row, 1)?),
        at: Timestamp(get(row, 2)?),
        kind,
        public: bytes(row, 4)?,
        private: bytes(row, 5)?,
    })
}

/// A row of `head, fence`.
pub(super) fn head(row: &Row) -> Result<Head, Error> {
    Ok(Head { seq: seq(row, 0)?, fence: seq(row, 1)? })
}

/// A row of `first, last, event_id`, from this column on.
pub(super) fn receipt(row: &Row, column: usize) -> Result<Receipt, Error> {
    let event_id = EventId(get(row, column + 2)?);
    Ok(Receipt { first: seq(row, column)?, last: seq(row, column + 1)?, event_id })
}

/// A row of `seq, version, state`.
pub(super) fn snapshot(row: &Row) -> Result<Snapshot, Error> {
    let version = u32::try_from(number(row, 1)?).map_err(|_| strange("a snapshot of no version"))?;
    Ok(Snapshot { seq: seq(row, 0)?, version, state: bytes(row, 2)? })
}

/// What an error says of a value that was never written.
pub(super) fn strange(what: &str) -> Error {
    error(
        ErrorKind::Corrupt,
        format!("holds {what}, which was never written to it: restore it from a backup"),
    )
}

/// The bytes in this column.
pub(super) fn bytes(row: &Row, column: usize) -> Result<Bytes, Error> {
    get::<&[u8]>(row, column).map(Bytes::copy_from_slice)
}
