//! A store that many servers share: a schema of a PostgreSQL database.
//!
//! Every call is one statement, and every write one function of the schema (in `steps/`): one round trip and one
//! transaction, however many appends it carries. Appends to one room wait for one another at the room's row, those of
//! different rooms run side by side on the pool's connections. There is no `NOTIFY`: it would hold one lock over all
//! commits of the database, and telling others is the bus's work.
//!
//! An acknowledged event is on the server's disk, and on that of a synchronous standby if the server has one
//! (`synchronous_commit`, at least `on`). With `durability: os` it survives the death of this process, but the last
//! moments before a crash of the database server may be lost. What a failover to an asynchronous standby loses is not
//! for a client to say.
//!
//! When the server is away, slow, read-only or full, calls fail with [`ErrorKind::Unavailable`], nothing is
//! acknowledged, and later calls work again without a restart. A connection that is lost in the middle of a write
//! leaves it whole or absent; which of them is found out by reading, or by the repeat with the same idempotency key. For
//! that the call fails only when the server is done with it, as far as it can be reached: whoever holds the room's row is
//! waited for.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{MessageId, Namespace, NodeId, RequestId, ReservationId, RoomId, Seq, UserId},
    store::{
        Append, Direction, Error, ErrorKind, Head, Lease, Listed, NamespaceUsage, OpenRun, Outcome, Page,
        Receipt, Record, RoomFilter, Snapshot, Store,
        config::StoreConfig,
        documents::{self as kept, Document, Expect, Folder},
        inventory::{Inventory, Item},
        ledger::{self, Account, Balance, OpenReservation, Reservation, Reserve},
        pending::Pending,
        postgres::{
            append::{APPEND, Columns},
            connections::{Connections, Question},
            failure::{NAME, error},
        },
        rules,
    },
};

mod accounts;
mod append;
mod connections;
mod documents;
mod failure;
mod inventory;
mod leases;
mod queries;
mod rows;
mod schema;

/// How long a start waits for a server that cannot be reached: both may be starting after the same loss of power.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to reach it.
const RETRY: Duration = Duration::from_secs(1);
/// Between two times that the log is told of it.
const TELL: Duration = Duration::from_secs(15);
/// How many idempotency keys or accounts one transaction forgets, so that none is long.
const FORGOTTEN_AT_ONCE: i64 = 1000;
/// What a check takes on the disk and gives back.
const PROBE_BYTES: usize = 64 * 1024;

/// A store in a schema of a PostgreSQL database. To be closed with [`Store::close`].
#[derive(Debug)]
pub struct PostgresStore {
    connections: Arc<Connections>,
    /// What says that this node lives waits behind no request.
    leases: Connections,
    pending: Pending,
}

impl PostgresStore {
    /// Connects, and brings the schema to this build's version or creates it; any number of processes may do so at
    /// once. A server that cannot be reached or is not ready is waited for, up to a minute.
    ///
    /// Every other refusal is [`ErrorKind::Unusable`] and says what an operator can do: a URL that is none, a user or
    /// a password that is refused, no such database, a lack of rights, another program's schema, one of a newer build
    /// or one of which a part is missing.
    pub async fn open(config: &StoreConfig) -> Result<Self, Error> {
        let (connections, leases) = (Connections::new(config)?, Connections::for_leases(config)?);
        let begun = Instant::now();
        let mut tells = begun;
        loop {
            let opened = async { schema::prepare(&mut connections.take().await?, &config.schema).await };
            match opened.await {
                Ok(()) => {
                    let connections = Arc::new(connections);
                    return Ok(Self { connections, leases, pending: Pending::default() });
                }
                Err(error) if error.retryable() && begun.elapsed() + RETRY < PATIENCE => {
                    if tells <= Instant::now() {
                        tells = Instant::now() + TELL;
                        let error = &error as &(dyn std::error::Error + 'static);
                        tracing::warn!(error, "the store's server is waited for, up to a minute");
                    }
                    sleep(RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Connects to a schema that is in this build's version already. Nothing is changed or waited for.
    ///
    /// The store writes if it is told to: who opens it like this does not.
    pub async fn open_to_read(config: &StoreConfig) -> Result<Self, Error> {
        let (connections, leases) = (Connections::new(config)?, Connections::for_leases(config)?);
        schema::is_newest(&connections.take().await?, &config.schema).await?;
        Ok(Self { connections: Arc::new(connections), leases, pending: Pending::default() })
    }

    async fn forget(&self, question: Question, before: Timestamp) -> Result<u64, Error> {
        let mut forgotten = 0;
        loop {
            let answer = self.connections.ask(question, &[&before.0, &FORGOTTEN_AT_ONCE]).await?;
            let portion = answer.first().map_or(Ok(0), |row| rows::number(row, 0))?;
            forgotten += portion;
            if portion < FORGOTTEN_AT_ONCE.unsigned_abs() {
                return Ok(forgotten);
            }
        }
    }
}

/// What the only row says, if there is one.
fn first<T>(answer: &[Row], read: impl FnOnce(&Row) -> Result<T, Error>) -> Result<Option<T>, Error> {
    answer.first().map(read).transpose()
}

#[async_trait]
impl Store for PostgresStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn append(&self, room: &RoomId, appends: Vec<Append>) -> Result<Vec<Outcome>, Error> {
        rules::check(NAME, &appends)?;
        let columns = Columns::of(room, &appends);
        match self.connections.try_ask(APPEND, &columns.parameters(&room.as_str())).await {
            Ok(answer) => answer.iter().map(append::outcome).collect(),
            Err(failed) => {
                if failed.in_doubt {
                    // The server may still be at it. It is let finish, so that whoever reads then finds what came of it.
                    let _ = self.connections.ask(queries::AWAIT_APPENDS, &[&room.as_str()]).await;
                }
                Err(failed.error)
            }
        }
    }

    async fn head(&self, room: &RoomId) -> Result<Option<Head>, Error> {
        first(&self.connections.ask(queries::HEAD, &[&room.as_str()]).await?, rows::head)
    }

    async fn read(&self, room: &RoomId, after: Seq, page: Page) -> Result<Vec<Record>, Error> {
        let (events, bytes) = (rows::count(page.events.max(1)), rows::count(page.bytes));
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&room.as_str(), &rows::integer(after.0), &events, &bytes];
        self.connections.ask(queries::READ, &parameters).await?.iter().map(rows::record).collect()
    }

    async fn messages(
        &self,
        room: &RoomId,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        let (question, from) = match direction {
            Direction::After(after) => (queries::MESSAGES_AFTER, after),
            Direction::Before(before) => (queries::MESSAGES_BEFORE, before),
        };
        let (from, limit) = (rows::integer(from.0), rows::count(limit));
        let answer = self.connections.ask(question, &[&room.as_str(), &from, &limit]).await?;
        let mut records = answer.iter().map(rows::record).collect::<Result<Vec<_>, _>>()?;
        if matches!(direction, Direction::Before(_)) {
            records.reverse();
        }
        Ok(records)
    }

    async fn about(&self, room: &RoomId, subjects: &[Uuid]) -> Result<Vec<Record>, Error> {
        let answer = self.connections.ask(queries::ABOUT, &[&room.as_str(), &subjects]).await?;
        answer.iter().map(rows::record).collect()
    }

    async fn unread(&self, room: &RoomId, reader: &UserId, after: Seq, cap: u32) -> Result<u32, Error> {
        let (after, cap) = (rows::integer(after.0), i64::from(cap));
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&room.as_str(), &after, &reader.as_str(), &cap];
        let answer = self.connections.ask(queries::UNREAD, &parameters).await?;
        let counted = first(&answer, |row| rows::number(row, 0))?.unwrap_or_default();
        Ok(u32::try_from(counted).unwrap_or(u32::MAX))
    }

    async fn request(
        &self,
        room: &RoomId,
        sender: &UserId,
        request_id: &RequestId,
    ) -> Result<Option<(Receipt, u64)>, Error> {
        let (sender, request_id) = (sender.as_str(), request_id.as_str());
        let answer = self.connections.ask(queries::REQUEST, &[&room.as_str(), &sender, &request_id]).await?;
        first(&answer, |row| Ok((rows::receipt(row, 0)?, rows::get::<i64>(row, 3)?.cast_unsigned())))
    }

    async fn forget_requests(&self, before: Timestamp) -> Result<u64, Error> {
        self.forget(queries::FORGET_REQUESTS, before).await
    }

    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, Error> {
        first(&self.connections.ask(queries::SNAPSHOT, &[&room.as_str()]).await?, rows::snapshot)
    }

    async fn save_snapshot(&self, room: &RoomId, snapshot: Snapshot) -> Result<(), Error> {
        let (seq, version) = (rows::integer(snapshot.seq.0), i64::from(snapshot.version));
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&room.as_str(), &seq, &version, &&*snapshot.state];
        self.connections.ask(queries::SAVE_SNAPSHOT, &parameters).await.map(|_| ())
    }

    async fn advance_cursor(&self, room: &RoomId, user: &UserId, to: Seq) -> Result<Seq, Error> {
        if to > Seq::ZERO {
            let (name, seq) = (user.as_str(), rows::integer(to.0));
            let answer =
                self.connections.ask(queries::ADVANCE_CURSOR, &[&room.as_str(), &name, &seq]).await?;
            if let Some(moved) = first(&answer, |row| rows::seq(row, 0))? {
                return Ok(moved);
            }
        }
        // It was there already, or further.
        self.cursor(room, user).await
    }

    async fn cursor(&self, room: &RoomId, user: &UserId) -> Result<Seq, Error> {
        let answer = self.connections.ask(queries::CURSOR, &[&room.as_str(), &user.as_str()]).await?;
        Ok(first(&answer, |row| rows::seq(row, 0))?.unwrap_or_default())
    }

    async fn read_position(&self, room: &RoomId, user: &UserId, cap: u32) -> Result<(Seq, u32), Error> {
        let cap = i64::from(cap);
        let answer =
            self.connections.ask(queries::READ_POSITION, &[&room.as_str(), &user.as_str(), &cap]).await?;
        let position = |row: &Row| Ok((rows::seq(row, 0)?, rows::number(row, 1)?));
        let (read, unread) = first(&answer, position)?.unwrap_or_default();
        Ok((read, u32::try_from(unread).unwrap_or(u32::MAX)))
    }

    async fn list_rooms(&self, filter: RoomFilter, before: u64, limit: usize) -> Result<Vec<Listed>, Error> {
        let (before, limit) = (rows::integer(before), rows::count(limit));
        let answer = match &filter {
            RoomFilter::Public(namespace) => {
                let namespace = rows::namespace_column(namespace);
                self.connections.ask(queries::PUBLIC_ROOMS, &[&before, &limit, &namespace]).await?
            }
            RoomFilter::Of(namespace, user) => {
                let key = user.key_in(namespace);
                self.connections.ask(queries::ROOMS_OF, &[&before, &limit, &&*key]).await?
            }
        };
        let listed = |row: &Row| Ok(Listed { position: rows::number(row, 0)?, room: rows::room(row, 1)? });
        answer.iter().map(listed).collect()
    }

    async fn namespace_usage(&self, namespace: &Namespace) -> Result<NamespaceUsage, Error> {
        let answer = self.connections.ask(queries::USAGE, &[&rows::namespace_column(namespace)]).await?;
        let usage = |row: &Row| {
            let (rooms, bytes) = (rows::number(row, 0)?, rows::number(row, 1)?);
            Ok(NamespaceUsage { rooms, bytes, members: rows::number(row, 2)? })
        };
        Ok(first(&answer, usage)?.unwrap_or_default())
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, Error> {
        let answer = self.connections.ask(queries::OPEN_RUNS, &[]).await?;
        let open = |row: &Row| {
            let (run, node) = (MessageId(rows::get(row, 1)?), NodeId(rows::get(row, 2)?));
            Ok(OpenRun { room: rows::room(row, 0)?, run, node })
        };
        answer.iter().map(open).collect()
    }

    async fn beat(&self, lease: Lease) -> Result<bool, Error> {
        leases::beat(&self.leases, lease).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, Error> {
        leases::all(&self.leases).await
    }

    async fn retire(&self, lease: Lease) -> Result<bool, Error> {
        leases::retire(&self.leases, lease).await
    }

    async fn reserve(&self, reservation: Reservation) -> Result<Reserve, Error> {
        ledger::check(NAME, &reservation)?;
        let connections = Arc::clone(&self.connections);
        let id = reservation.id;
        let reserve = async move { accounts::reserve(&connections, &reservation).await };
        self.pending.carry_out(NAME, id, reserve).await
    }

    async fn settle(&self, id: ReservationId, actual: Vec<u64>) -> Result<bool, Error> {
        self.pending.arrived(id).await;
        accounts::settle(&self.connections, id, &actual).await
    }

    async fn open_reservations(&self) -> Result<Vec<OpenReservation>, Error> {
        accounts::open(&self.connections).await
    }

    async fn balances(&self, accounts: &[Account]) -> Result<Vec<Balance>, Error> {
        accounts::balances(&self.connections, accounts).await
    }

    async fn forget_accounts(&self, before: Timestamp) -> Result<u64, Error> {
        self.forget(accounts::FORGET, before).await
    }

    async fn inventory(
        &self,
        of: &Inventory,
        after: Option<&Item>,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        inventory::list(&self.connections, of, after, limit).await
    }

    async fn document(&self, folder: &Folder, name: &str) -> Result<Option<Document>, Error> {
        documents::one(&self.connections, folder, name).await
    }

    async fn documents(
        &self,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error> {
        documents::page(&self.connections, folder, after.unwrap_or_default(), limit).await
    }

    async fn put_document(
        &self,
        folder: &Folder,
        name: &str,
        expect: Expect,
        body: Bytes,
    ) -> Result<bool, Error> {
        kept::check(NAME, folder, name, &body)?;
        documents::put(&self.connections, folder, name, expect, &body).await
    }

    async fn check(&self) -> Result<(), Error> {
        let answer = self.connections.ask(queries::IS_WRITABLE, &[]).await?;
        if first(&answer, |row| rows::get(row, 0))? != Some(true) {
            let what = "takes no writes: its server is a standby, or was set to read-only";
            return Err(error(ErrorKind::Unavailable, what));
        }
        if self.connections.is_failing() {
            self.connections.ask(queries::PROBE, &[&vec![0_u8; PROBE_BYTES]]).await?;
            self.connections.ask(queries::UNPROBE, &[]).await?;
        }
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        self.pending.close().await;
        self.connections.close().await;
        self.leases.close().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
