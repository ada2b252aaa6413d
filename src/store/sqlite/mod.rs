//! The default store: one SQLite file with a write-ahead log, used by one server.
//!
//! Writes go through one thread that commits whatever waits in one transaction (`writer.rs`); reads go through a few
//! connections of their own (`reader.rs`). An acknowledged event is on disk, or with `durability: os` in the hands of
//! the operating system. When the disk is full or fails, calls fail with [`ErrorKind::Unavailable`], nothing is
//! acknowledged, and later calls work again as soon as the disk does. The file may be read, but not written, by other
//! programs beside the running server.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::mpsc, task};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{Namespace, RequestId, ReservationId, RoomId, Seq, UserId},
    store::{
        Append, Direction, Error, ErrorKind, Head, Lease, Listed, NamespaceUsage, OpenRun, Outcome, Page,
        Receipt, Record, RoomFilter, Snapshot, Store,
        config::StoreConfig,
        documents::{self as kept, Document, Expect, Folder},
        inventory::{Inventory, Item},
        ledger::{self, Account, Balance, OpenReservation, Reservation, Reserve},
        rules,
        sqlite::{
            documents::Put,
            failure::{NAME, closed, error},
            job::{Job, Waiting},
            reader::Readers,
        },
    },
};

mod accounts;
mod documents;
mod failure;
mod file;
mod group;
mod inventory;
mod job;
mod known;
mod leases;
mod queries;
mod reader;
mod rows;
mod schema;
mod writer;

/// How many idempotency keys or accounts one transaction forgets, so that appends need not wait long behind it.
const FORGOTTEN_AT_ONCE: u32 = 1000;

/// A store in one file. To be closed with [`Store::close`]; a store that is only dropped finishes its writing and lets
/// go of the file a little later.
#[derive(Debug)]
pub struct SqliteStore {
    jobs: mpsc::Sender<Job>,
    readers: Readers,
    closed: AtomicBool,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the file of `config`, or creates it with its directory. Blocks.
    ///
    /// Every refusal is [`ErrorKind::Unusable`] or [`ErrorKind::Corrupt`] and says what an operator can do: a file
    /// that is another server's, no database, another program's, of a newer build, read-only or damaged. Only a full
    /// or failing disk is [`ErrorKind::Unavailable`].
    pub fn open(config: &StoreConfig) -> Result<Self, Error> {
        let file::Opened { path, connection, lock } = file::open(config)?;
        let readers = Readers::open(path)?;
        let (jobs, thread) = writer::start(connection, lock)?;
        Ok(Self { jobs, readers, closed: AtomicBool::new(false), writer: Mutex::new(Some(thread)) })
    }

    /// Opens the file of `config` to be read, beside a server that writes to it or without one. Blocks. Every answer is
    /// from the moment of the opening; the write-ahead log cannot be folded into the file meanwhile, and grows.
    pub fn open_to_read(config: &StoreConfig) -> Result<Self, Error> {
        let connection = file::open_snapshot(config)?;
        // Nobody takes jobs, so whatever writes fails.
        let (jobs, _) = mpsc::channel(1);
        let readers = Readers::of_one(config.path.clone(), connection);
        Ok(Self { jobs, readers, closed: AtomicBool::new(false), writer: Mutex::new(None) })
    }

    /// Hands a job to the writer and waits until it is committed. Waits to be let in while the queue is full: the
    /// caller is a room, and its members are the ones to slow down.
    async fn write<T>(&self, job: impl FnOnce(Waiting<T>) -> Job) -> Result<T, Error> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        self.hand_over(job).await
    }

    async fn hand_over<T>(&self, job: impl FnOnce(Waiting<T>) -> Job) -> Result<T, Error> {
        let (waiting, answered) = Waiting::new();
        self.jobs.send(job(waiting)).await.map_err(|_| self.gone())?;
        answered.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Why there is no writer any more.
    fn gone(&self) -> Error {
        if self.closed.load(Ordering::SeqCst) {
            closed()
        } else {
            error(
                ErrorKind::Unavailable,
                "has no writer: it was lost, or the store was opened to be read only",
            )
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn append(&self, room: &RoomId, appends: Vec<Append>) -> Result<Vec<Outcome>, Error> {
        rules::check(NAME, &appends)?;
        let room = room.clone();
        self.write(|waiting| Job::Append { room, appends, waiting }).await
    }

    async fn head(&self, room: &RoomId) -> Result<Option<Head>, Error> {
        let room = room.clone();
        self.readers.ask(move |connection| queries::head(connection, &room)).await
    }

    async fn read(&self, room: &RoomId, after: Seq, page: Page) -> Result<Vec<Record>, Error> {
        let room = room.clone();
        self.readers.ask(move |connection| queries::read(connection, &room, after, page)).await
    }

    async fn messages(
        &self,
        room: &RoomId,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        let room = room.clone();
        self.readers.ask(move |connection| queries::messages(connection, &room, direction, limit)).await
    }

    async fn about(&self, room: &RoomId, subjects: &[Uuid]) -> Result<Vec<Record>, Error> {
        let (room, subjects) = (room.clone(), subjects.to_vec());
        self.readers.ask(move |connection| queries::about(connection, &room, subjects)).await
    }

    async fn unread(&self, room: &RoomId, reader: &UserId, after: Seq, cap: u32) -> Result<u32, Error> {
        let (room, reader) = (room.clone(), reader.clone());
        self.readers.ask(move |connection| queries::unread(connection, &room, &reader, after, cap)).await
    }

    async fn request(
        &self,
        room: &RoomId,
        sender: &UserId,
        request_id: &RequestId,
    ) -> Result<Option<(Receipt, u64)>, Error> {
        let (room, sender, request_id) = (room.clone(), sender.clone(), request_id.clone());
        self.readers.ask(move |connection| queries::request(connection, &room, &sender, &request_id)).await
    }

    async fn forget_requests(&self, before: Timestamp) -> Result<u64, Error> {
        let limit = FORGOTTEN_AT_ONCE;
        let mut forgotten = 0;
        loop {
            let portion = self.write(|waiting| Job::Forget { before, limit, waiting }).await?;
            forgotten += portion;
            if portion < u64::from(limit) {
                return Ok(forgotten);
            }
        }
    }

    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, Error> {
        let room = room.clone();
        self.readers.ask(move |connection| queries::snapshot(connection, &room)).await
    }

    async fn save_snapshot(&self, room: &RoomId, snapshot: Snapshot) -> Result<(), Error> {
        let room = room.clone();
        self.write(|waiting| Job::Snapshot { room, snapshot, waiting }).await
    }

    async fn advance_cursor(&self, room: &RoomId, user: &UserId, to: Seq) -> Result<Seq, Error> {
        let (room, user) = (room.clone(), user.clone());
        self.write(|waiting| Job::Cursor { room, user, to, waiting }).await
    }

    async fn cursor(&self, room: &RoomId, user: &UserId) -> Result<Seq, Error> {
        let (room, user) = (room.clone(), user.clone());
        self.readers.ask(move |connection| queries::cursor(connection, &room, &user)).await
    }

    async fn read_position(&self, room: &RoomId, user: &UserId, cap: u32) -> Result<(Seq, u32), Error> {
        let (room, user) = (room.clone(), user.clone());
        let question = move |connection: &mut rusqlite::Connection| {
            let read = queries::cursor(connection, &room, &user)?;
            Ok((read, queries::unread(connection, &room, &user, read, cap)?))
        };
        self.readers.ask(question).await
    }

    async fn list_rooms(&self, filter: RoomFilter, before: u64, limit: usize) -> Result<Vec<Listed>, Error> {
        self.readers.ask(move |connection| queries::list_rooms(connection, &filter, before, limit)).await
    }

    async fn namespace_usage(&self, namespace: &Namespace) -> Result<NamespaceUsage, Error> {
        let namespace = namespace.clone();
        self.readers.ask(move |connection| queries::usage(connection, &namespace)).await
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, Error> {
        self.readers.ask(|connection| queries::open_runs(connection)).await
    }

    async fn beat(&self, lease: Lease) -> Result<bool, Error> {
        self.write(|waiting| Job::Beat { lease, waiting }).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, Error> {
        self.readers.ask(|connection| leases::all(connection)).await
    }

    async fn retire(&self, lease: Lease) -> Result<bool, Error> {
        self.write(|waiting| Job::Retire { lease, waiting }).await
    }

    async fn reserve(&self, reservation: Reservation) -> Result<Reserve, Error> {
        ledger::check(NAME, &reservation)?;
        self.write(|waiting| Job::Reserve { reservation, waiting }).await
    }

    async fn settle(&self, id: ReservationId, actual: Vec<u64>) -> Result<bool, Error> {
        self.write(|waiting| Job::Settle { id, actual, waiting }).await
    }

    async fn open_reservations(&self) -> Result<Vec<OpenReservation>, Error> {
        self.readers.ask(|connection| accounts::open(connection)).await
    }

    async fn balances(&self, accounts: &[Account]) -> Result<Vec<Balance>, Error> {
        let accounts = accounts.to_vec();
        self.readers.ask(move |connection| accounts::balances(connection, &accounts)).await
    }

    async fn forget_accounts(&self, before: Timestamp) -> Result<u64, Error> {
        let limit = FORGOTTEN_AT_ONCE;
        let mut forgotten = 0;
        loop {
            let portion = self.write(|waiting| Job::ForgetAccounts { before, limit, waiting }).await?;
            forgotten += portion;
            if portion < u64::from(limit) {
                return Ok(forgotten);
            }
        }
    }

    async fn inventory(
        &self,
        of: &Inventory,
        after: Option<&Item>,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        let (of, after) = (of.clone(), after.cloned());
        self.readers.ask(move |connection| inventory::list(connection, &of, after.as_ref(), limit)).await
    }

    async fn document(&self, folder: &Folder, name: &str) -> Result<Option<Document>, Error> {
        let (folder, name) = (folder.clone(), name.to_owned());
        self.readers.ask(move |connection| documents::one(connection, &folder, &name)).await
    }

    async fn documents(
        &self,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error> {
        let (folder, after) = (folder.clone(), after.unwrap_or_default().to_owned());
        self.readers.ask(move |connection| documents::page(connection, &folder, &after, limit)).await
    }

    async fn put_document(
        &self,
        folder: &Folder,
        name: &str,
        expect: Expect,
        body: Bytes,
    ) -> Result<bool, Error> {
        kept::check(NAME, folder, name, &body)?;
        let put = Put { folder: folder.clone(), name: name.to_owned(), expect, body };
        self.write(|waiting| Job::Put { put, waiting }).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.write(|waiting| Job::Check { waiting }).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.closed.store(true, Ordering::SeqCst);
        self.readers.close().await;
        // Refused if it is closed already; then only the thread's end is waited for.
        let _ = self.hand_over(|waiting| Job::Close { waiting }).await;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that panicked outside of a transaction has told everybody by going away.
            let _ = task::spawn_blocking(move || writer.join()).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
