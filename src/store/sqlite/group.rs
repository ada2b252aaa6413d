//! One transaction that carries the work of everybody who was waiting: what each [`Job`] writes.
//!
//! The checks of an append come before its first insert, so one that is refused has written nothing and the
//! transaction needs no savepoints. An error of SQLite undoes the whole transaction, and nobody in it is told that
//! their events are safe.
//!
//! [`Job`]: crate::store::sqlite::job::Job

use std::collections::{BTreeMap, HashMap};

use rusqlite::{OptionalExtension, Transaction, params};

use crate::{
    clock::Timestamp,
    domain::event::DirectoryChange,
    ids::{Namespace, NodeId, ReservationId, RoomId, Seq, UserId},
    store::{
        Append, Idempotency, Lease, NewRecord, Outcome, Receipt, Snapshot,
        ledger::{Reservation, Reserve},
        rules::{self, Placement, Taken},
        sqlite::{
            accounts,
            documents::{self, Put},
            known::{Known, KnownRooms},
            leases, rows,
        },
    },
};

/// More than SQLite keeps in hand anyway, so that the probe needs room in the file.
const PROBE_BYTES: i32 = 64 * 1024;

/// What a transaction has done so far.
#[derive(Debug)]
pub(super) struct Group<'a> {
    transaction: &'a Transaction<'a>,
    /// As committed before this transaction.
    known: &'a KnownRooms,
    /// As this transaction leaves them.
    touched: HashMap<RoomId, Known>,
    /// Whether the last transaction failed, so that a check must try for itself.
    failing: bool,
    /// What it adds to what namespaces have taken.
    taken: BTreeMap<Namespace, Taken>,
    /// Whether this transaction has put anything into the file.
    wrote: bool,
}

impl<'a> Group<'a> {
    /// Nothing done yet.
    pub(super) fn new(transaction: &'a Transaction<'a>, known: &'a KnownRooms, failing: bool) -> Self {
        Self { transaction, known, touched: HashMap::new(), failing, taken: BTreeMap::new(), wrote: false }
    }

    /// Writes where the logs end now, once per room however many appends it has had, and what namespaces have taken. Returns those rooms, and
    /// whether anything was put into the file.
    pub(super) fn finish(self) -> rusqlite::Result<(HashMap<RoomId, Known>, bool)> {
        let mut update =
            self.transaction.prepare_cached("UPDATE rooms SET head = ?2, fence = ?3 WHERE rid = ?1")?;
        for known in self.touched.values() {
            let head = known.head;
            update.execute(params![known.rid, rows::seq_column(head.seq), rows::seq_column(head.fence)])?;
        }
        let mut count = self.transaction.prepare_cached(
            "INSERT INTO usage (namespace, rooms, bytes, members) VALUES (?1, ?2, ?3, max(?4, 0))
             ON CONFLICT (namespace) DO UPDATE SET rooms = rooms + ?2, bytes = bytes + ?3, members = max(members + ?4, 0)",
        )?;
        for (namespace, taken) in &self.taken {
            let (rooms, bytes) = (rows::integer(taken.rooms), rows::integer(taken.bytes));
            count.execute(params![rows::namespace_column(namespace), rooms, bytes, taken.members])?;
        }
        Ok((self.touched, self.wrote))
    }

    /// One append: refused, or written whole.
    pub(super) fn append(&mut self, room: &RoomId, append: &Append) -> rusqlite::Result<Outcome> {
        let known = self.room(room)?;
        if let (Some(known), Some(key)) = (known, &append.idempotency)
            && let Some(outcome) = self.repeat(known.rid, key)?
        {
            return Ok(outcome);
        }
        let placement = match rules::place(known.map(|known| known.head), append.fence, &append.records) {
            Ok(placement) => placement,
            Err(outcome) => return Ok(outcome),
        };
        self.wrote = true;
        let rid = match known {
            Some(known) => known.rid,
            None => self.create(room, placement)?,
        };
        self.insert(rid, placement.first, &append.records)?;
        let mut members = 0;
        for change in &append.directory {
            // What was so before changes nothing, and is not counted.
            if self.list((room, rid), change, append.node)? > 0 {
                members += rules::members_of(change);
            }
        }
        let taken = self.taken.entry(room.namespace()).or_default();
        let rooms = u64::from(known.is_none());
        *taken = taken.and(Taken { rooms, bytes: rules::bytes_of(append), members });
        let event_id = rules::first_id(&append.records);
        let receipt = Receipt { first: placement.first, last: placement.head.seq, event_id };
        if let Some(key) = &append.idempotency {
            let at = append.records.first().map_or(Timestamp::default(), |record| record.at);
            self.remember(rid, key, receipt, at)?;
        }
        self.touched.insert(room.clone(), Known { rid, head: placement.head });
        Ok(Outcome::Appended(receipt))
    }

    /// A state of a room, unless one of a later position is there.
    pub(super) fn save_snapshot(&mut self, room: &RoomId, snapshot: &Snapshot) -> rusqlite::Result<()> {
        let Some(known) = self.room(room)? else { return Ok(()) };
        let mut upsert = self.transaction.prepare_cached(
            "INSERT INTO snapshots (room, seq, version, state) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (room) DO UPDATE SET seq = excluded.seq, version = excluded.version,
             state = excluded.state WHERE excluded.seq >= snapshots.seq",
        )?;
        upsert.execute(params![
            known.rid,
            rows::seq_column(snapshot.seq),
            snapshot.version,
            &*snapshot.state
        ])?;
        Ok(())
    }

    /// Moves a cursor, if that is forward; says where it is.
    pub(super) fn advance_cursor(&mut self, room: &RoomId, user: &UserId, to: Seq) -> rusqlite::Result<Seq> {
        let Some(known) = self.room(room)? else { return Ok(Seq::ZERO) };
        let mut select =
            self.transaction.prepare_cached("SELECT seq FROM cursors WHERE room = ?1 AND user = ?2")?;
        let was = select.query_row(params![known.rid, user.as_str()], |row| rows::seq(row, 0)).optional()?;
        let was = was.unwrap_or_default();
        if to <= was {
            return Ok(was);
        }
        let mut upsert = self.transaction.prepare_cached(
            "INSERT INTO cursors (room, user, seq) VALUES (?1, ?2, ?3)
             ON CONFLICT (room, user) DO UPDATE SET seq = excluded.seq",
        )?;
        upsert.execute(params![known.rid, user.as_str(), rows::seq_column(to)])?;
        Ok(to)
    }

    /// Forgets up to `limit` idempotency keys from before `before`.
    pub(super) fn forget_requests(&mut self, before: Timestamp, limit: u32) -> rusqlite::Result<u64> {
        let mut delete = self.transaction.prepare_cached(
            "DELETE FROM requests WHERE (room, sender, request_id) IN
             (SELECT room, sender, request_id FROM requests WHERE at < ?1 ORDER BY at LIMIT ?2)",
        )?;
        let forgotten = delete.execute(params![before.0, limit])?;
        Ok(u64::try_from(forgotten).unwrap_or(u64::MAX))
    }

    /// A reservation: refused, or written whole.
    pub(super) fn reserve(&mut self, reservation: &Reservation) -> rusqlite::Result<Reserve> {
        let (answer, wrote) = accounts::reserve(self.transaction, reservation)?;
        self.wrote |= wrote;
        Ok(answer)
    }

    /// Ends a reservation; says whether it was open.
    pub(super) fn settle(&mut self, id: ReservationId, actual: &[u64]) -> rusqlite::Result<bool> {
        let settled = accounts::settle(self.transaction, id, actual)?;
        self.wrote |= settled;
        Ok(settled)
    }

    /// Begins or renews a lease; whether it could.
    pub(super) fn beat(&mut self, lease: Lease) -> rusqlite::Result<bool> {
        let renewed = leases::beat(self.transaction, lease)?;
        self.wrote |= renewed;
        Ok(renewed)
    }

    /// Takes a lease away; whether it was this one.
    pub(super) fn retire(&mut self, lease: Lease) -> rusqlite::Result<bool> {
        let retired = leases::retire(self.transaction, lease)?;
        self.wrote |= retired;
        Ok(retired)
    }

    /// Writes or removes a document; whether it was as expected.
    pub(super) fn put_document(&mut self, put: &Put) -> rusqlite::Result<bool> {
        let was = documents::put(self.transaction, put)?;
        self.wrote |= was;
        Ok(was)
    }

    /// Forgets up to `limit` accounts that need not be kept until `before`.
    pub(super) fn forget_accounts(&mut self, before: Timestamp, limit: u32) -> rusqlite::Result<u64> {
        accounts::forget(self.transaction, before, limit)
    }

    /// That this is reached shows that the writer lives and that the file can be locked. If the last transaction
    /// failed it also takes room in the file and gives it back, which is what an append would need.
    pub(super) fn check(&mut self) -> rusqlite::Result<()> {
        if self.failing {
            self.wrote = true;
            let insert = "INSERT INTO probe (filler) VALUES (zeroblob(?1))";
            self.transaction.prepare_cached(insert)?.execute([PROBE_BYTES])?;
            self.transaction.prepare_cached("DELETE FROM probe")?.execute([])?;
        }
        Ok(())
    }

    fn room(&self, room: &RoomId) -> rusqlite::Result<Option<Known>> {
        if let Some(known) = self.touched.get(room).copied().or_else(|| self.known.get(room)) {
            return Ok(Some(known));
        }
        let mut select =
            self.transaction.prepare_cached("SELECT rid, head, fence FROM rooms WHERE id = ?1")?;
        let read = |row: &rusqlite::Row<'_>| Ok(Known { rid: row.get(0)?, head: rows::head(row, 1)? });
        select.query_row([room.as_str()], read).optional()
    }

    fn repeat(&self, rid: i64, key: &Idempotency) -> rusqlite::Result<Option<Outcome>> {
        let mut select = self.transaction.prepare_cached(
            "SELECT first, last, event_id, body_hash FROM requests
             WHERE room = ?1 AND sender = ?2 AND request_id = ?3",
        )?;
        let key_columns = params![rid, key.sender.as_str(), key.request_id.as_str()];
        let found = select.query_row(key_columns, rows::request).optional()?;
        Ok(found.map(
            |(receipt, body_hash)| {
                if body_hash == key.body_hash { Outcome::Duplicate(receipt) } else { Outcome::Reused }
            },
        ))
    }

    fn create(&self, room: &RoomId, placement: Placement) -> rusqlite::Result<i64> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO rooms (id, head, fence, visibility) VALUES (?1, ?2, ?3, 1) RETURNING rid",
        )?;
        let Placement { head, .. } = placement;
        let columns = params![room.as_str(), rows::seq_column(head.seq), rows::seq_column(head.fence)];
        insert.query_row(columns, |row| row.get(0))
    }

    fn insert(&self, rid: i64, first: Seq, records: &[NewRecord]) -> rusqlite::Result<()> {
        let mut insert = self.transaction.prepare_cached(INSERT_EVENT)?;
        let mut seq = first;
        for record in records {
            insert.execute(params![
                rid,
                rows::seq_column(seq),
                rows::kind_column(record.kind),
                record.at.0,
                record.event_id.0.as_bytes(),
                record.sender.as_ref().map(UserId::as_str),
                record.subject.as_ref().map(uuid::Uuid::as_bytes),
                &*record.public,
                &*record.private,
            ])?;
            seq = seq.next();
        }
        Ok(())
    }

    fn remember(&self, rid: i64, key: &Idempotency, receipt: Receipt, at: Timestamp) -> rusqlite::Result<()> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO requests (room, sender, request_id, first, last, event_id, body_hash, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        insert.execute(params![
            rid,
            key.sender.as_str(),
            key.request_id.as_str(),
            rows::seq_column(receipt.first),
            rows::seq_column(receipt.last),
            receipt.event_id.0.as_bytes(),
            key.body_hash.cast_signed(),
            at.0,
        ])?;
        Ok(())
    }

    /// Users are listed by their keys: those of another namespace are others. Returns how many rows it has changed.
    fn list(
        &self,
        (room, rid): (&RoomId, i64),
        change: &DirectoryChange,
        node: NodeId,
    ) -> rusqlite::Result<usize> {
        let key = |user: &UserId| user.key_in(&room.namespace()).into_owned();
        let run = |sql: &str, columns: &[&dyn rusqlite::ToSql]| {
            self.transaction.prepare_cached(sql)?.execute(columns)
        };
        match change {
            DirectoryChange::Room { visibility, created_by } => run(
                "UPDATE rooms SET visibility = ?2, created_by = coalesce(?3, created_by) WHERE rid = ?1",
                params![rid, rows::visibility_column(*visibility), created_by.as_ref().map(key)],
            ),
            DirectoryChange::Joined(user) => {
                run("INSERT OR IGNORE INTO members (user, room) VALUES (?2, ?1)", params![rid, key(user)])
            }
            DirectoryChange::Left(user) => {
                run("DELETE FROM members WHERE user = ?2 AND room = ?1", params![rid, key(user)])
            }
            DirectoryChange::RunStarted(message) => run(
                "INSERT INTO runs (room, message, node) VALUES (?1, ?2, ?3)
                 ON CONFLICT (room, message) DO UPDATE SET node = excluded.node",
                params![rid, message.0.as_bytes(), node.0.as_bytes()],
            ),
            DirectoryChange::RunEnded(message) => {
                run("DELETE FROM runs WHERE room = ?1 AND message = ?2", params![rid, message.0.as_bytes()])
            }
        }
    }
}

const INSERT_EVENT: &str = "
    INSERT INTO events (room, seq, kind, at, event_id, sender, subject, public, private)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
