//! Every question as SQL. A room that does not exist has no number, and so no rows.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::{
    ids::{MessageId, Namespace, NodeId, RequestId, RoomId, Seq, UserId},
    store::{
        Direction, Head, Listed, NamespaceUsage, OpenRun, Page, Receipt, Record, RoomFilter, Snapshot,
        rules::PageFill,
        sqlite::rows::{self, record_columns},
    },
};

/// The number of room `?1`.
macro_rules! rid {
    () => {
        "(SELECT rid FROM rooms WHERE id = ?1)"
    };
}

pub(super) const READ: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM events WHERE room = ",
    rid!(),
    " AND seq > ?2 ORDER BY seq LIMIT ?3"
);
// The index is named because it must never be another one: that would read every event of the room.
pub(super) const MESSAGES_AFTER: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM events INDEXED BY events_messages WHERE kind = 1 AND room = ",
    rid!(),
    " AND seq > ?2 ORDER BY seq LIMIT ?3"
);
pub(super) const MESSAGES_BEFORE: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM events INDEXED BY events_messages WHERE kind = 1 AND room = ",
    rid!(),
    " AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
);
pub(super) const ABOUT: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM events INDEXED BY events_subject WHERE subject = ?2 AND room = ",
    rid!()
);
pub(super) const UNREAD: &str = concat!(
    "SELECT count(*) FROM (SELECT 1 FROM events INDEXED BY events_messages WHERE kind = 1 AND room = ",
    rid!(),
    " AND seq > ?2 AND sender IS NOT ?3 LIMIT ?4)"
);
pub(super) const PUBLIC_ROOMS: &str = "
    SELECT rid, id FROM rooms INDEXED BY rooms_listed
    WHERE namespace = ?3 AND visibility = 0 AND rid < ?1 ORDER BY rid DESC LIMIT ?2";
pub(super) const ROOMS_OF: &str = "
    SELECT rid, id FROM rooms WHERE rid IN (
        SELECT room FROM members WHERE user = ?3 AND room < ?1
        UNION SELECT rid FROM rooms INDEXED BY rooms_created WHERE created_by = ?3 AND rid < ?1
        ORDER BY 1 DESC LIMIT ?2
    ) ORDER BY rid DESC";

/// [`crate::store::Store::head`].
pub(super) fn head(connection: &Connection, room: &RoomId) -> rusqlite::Result<Option<Head>> {
    let mut select = connection.prepare_cached("SELECT head, fence FROM rooms WHERE id = ?1")?;
    select.query_row([room.as_str()], |row| rows::head(row, 0)).optional()
}

/// [`crate::store::Store::read`].
pub(super) fn read(
    connection: &Connection,
    room: &RoomId,
    after: Seq,
    page: Page,
) -> rusqlite::Result<Vec<Record>> {
    let mut select = connection.prepare_cached(READ)?;
    let limit = rows::count(page.events.max(1));
    let mut found = select.query(params![room.as_str(), rows::seq_column(after), limit])?;
    let mut fill = PageFill::new(page);
    let mut records = Vec::new();
    while let Some(row) = found.next()? {
        let record = rows::record(row)?;
        if !fill.takes(record.public.len()) {
            break;
        }
        records.push(record);
    }
    Ok(records)
}

/// [`crate::store::Store::messages`].
pub(super) fn messages(
    connection: &Connection,
    room: &RoomId,
    direction: Direction,
    limit: usize,
) -> rusqlite::Result<Vec<Record>> {
    let (sql, from) = match direction {
        Direction::After(after) => (MESSAGES_AFTER, after),
        Direction::Before(before) => (MESSAGES_BEFORE, before),
    };
    let mut select = connection.prepare_cached(sql)?;
    let columns = params![room.as_str(), rows::seq_column(from), rows::count(limit)];
    let mut records = select.query_map(columns, rows::record)?.collect::<rusqlite::Result<Vec<_>>>()?;
    if matches!(direction, Direction::Before(_)) {
        records.reverse();
    }
    Ok(records)
}

/// [`crate::store::Store::about`], from one state of the file: no event is missing before one that is returned.
pub(super) fn about(
    connection: &mut Connection,
    room: &RoomId,
    subjects: Vec<Uuid>,
) -> rusqlite::Result<Vec<Record>> {
    // A savepoint: the connection may be in a transaction of its own already.
    let transaction = connection.savepoint()?;
    let mut records = Vec::new();
    {
        let mut select = transaction.prepare_cached(ABOUT)?;
        for subject in BTreeSet::from_iter(subjects) {
            let found = select.query_map(params![room.as_str(), subject.as_bytes()], rows::record)?;
            for record in found {
                records.push(record?);
            }
        }
    }
    transaction.commit()?;
    records.sort_unstable_by_key(|record| record.seq);
    Ok(records)
}

/// [`crate::store::Store::unread`].
pub(super) fn unread(
    connection: &Connection,
    room: &RoomId,
    reader: &UserId,
    after: Seq,
    cap: u32,
) -> rusqlite::Result<u32> {
    let mut select = connection.prepare_cached(UNREAD)?;
    let columns = params![room.as_str(), rows::seq_column(after), reader.as_str(), cap];
    select.query_row(columns, |row| row.get(0))
}

/// [`crate::store::Store::request`].
pub(super) fn request(
    connection: &Connection,
    room: &RoomId,
    sender: &UserId,
    request_id: &RequestId,
) -> rusqlite::Result<Option<(Receipt, u64)>> {
    let mut select = connection.prepare_cached(concat!(
        "SELECT first, last, event_id, body_hash FROM requests WHERE room = ",
        rid!(),
        " AND sender = ?2 AND request_id = ?3"
    ))?;
    let columns = params![room.as_str(), sender.as_str(), request_id.as_str()];
    select.query_row(columns, rows::request).optional()
}

/// [`crate::store::Store::snapshot`].
pub(super) fn snapshot(connection: &Connection, room: &RoomId) -> rusqlite::Result<Option<Snapshot>> {
    let sql = concat!("SELECT seq, version, state FROM snapshots WHERE room = ", rid!());
    connection.prepare_cached(sql)?.query_row([room.as_str()], rows::snapshot).optional()
}

/// [`crate::store::Store::cursor`].
pub(super) fn cursor(connection: &Connection, room: &RoomId, user: &UserId) -> rusqlite::Result<Seq> {
    let sql = concat!("SELECT seq FROM cursors WHERE room = ", rid!(), " AND user = ?2");
    let mut select = connection.prepare_cached(sql)?;
    let found = select.query_row([room.as_str(), user.as_str()], |row| rows::seq(row, 0)).optional()?;
    Ok(found.unwrap_or_default())
}

/// [`crate::store::Store::list_rooms`].
pub(super) fn list_rooms(
    connection: &Connection,
    filter: &RoomFilter,
    before: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Listed>> {
    let (before, limit) = (rows::integer(before), rows::count(limit));
    let listed = |row: &Row<'_>| Ok(Listed { position: rows::number(row, 0)?, room: rows::room(row, 1)? });
    match filter {
        RoomFilter::Public(namespace) => {
            let mut select = connection.prepare_cached(PUBLIC_ROOMS)?;
            let columns = params![before, limit, rows::namespace_column(namespace)];
            select.query_map(columns, listed)?.collect()
        }
        RoomFilter::Of(namespace, user) => {
            let mut select = connection.prepare_cached(ROOMS_OF)?;
            select.query_map(params![before, limit, user.key_in(namespace)], listed)?.collect()
        }
    }
}

/// [`crate::store::Store::namespace_usage`].
pub(super) fn usage(connection: &Connection, namespace: &Namespace) -> rusqlite::Result<NamespaceUsage> {
    let mut select =
        connection.prepare_cached("SELECT rooms, bytes, members FROM usage WHERE namespace = ?1")?;
    let read = |row: &Row<'_>| {
        let (rooms, bytes) = (rows::number(row, 0)?, rows::number(row, 1)?);
        Ok(NamespaceUsage { rooms, bytes, members: rows::number(row, 2)? })
    };
    Ok(select.query_row([rows::namespace_column(namespace)], read).optional()?.unwrap_or_default())
}

/// [`crate::store::Store::open_runs`].
pub(super) fn open_runs(connection: &Connection) -> rusqlite::Result<Vec<OpenRun>> {
    let sql = "SELECT id, message, node FROM runs JOIN rooms ON rid = room";
    let mut select = connection.prepare_cached(sql)?;
    let open = |row: &Row<'_>| {
        let (run, node) = (MessageId(rows::uuid(row, 1)?), NodeId(rows::uuid(row, 2)?));
        Ok(OpenRun { room: rows::room(row, 0)?, run, node })
    };
    select.query_map([], open)?.collect()
}
