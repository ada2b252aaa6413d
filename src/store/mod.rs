//! Where logs are kept: the trait, what it promises, and the backends behind it.
//!
//! The store alone assigns `seq`. It keeps the bytes of events without reading them; what it must know of an event
//! for its indexes is in [`NewRecord`].

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    domain::event::{DirectoryChange, Kind},
    ids::{EventId, MessageId, NodeId, RequestId, ReservationId, RoomId, Seq, UserId},
    store::{
        config::{StoreConfig, StoreKind},
        inventory::{Inventory, Item},
        ledger::{Account, Balance, OpenReservation, Reservation, Reserve},
        memory::MemoryStore,
        sqlite::SqliteStore,
    },
};

pub mod config;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod inventory;
pub mod ledger;
pub mod memory;
#[cfg(any(feature = "dynamodb", feature = "postgres"))]
mod pending;
#[cfg(feature = "postgres")]
pub mod postgres;
mod rules;
pub mod sqlite;

/// Opens the store that the configuration asks for: the only place that names the backends.
///
/// It may block on files, so it is for the start of a process and not for a task.
pub async fn open(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(match config.kind {
        StoreKind::Memory => Arc::new(MemoryStore::new()),
        StoreKind::Sqlite => Arc::new(SqliteStore::open(config)?),
        StoreKind::Postgres => open_postgres(config).await?,
        StoreKind::Dynamodb => open_dynamodb(config).await?,
    })
}

/// Makes what the store needs before a server can use it; returns what was done, for people. What is there already is
/// left as it is.
pub async fn set_up(config: &StoreConfig) -> Result<Vec<String>, Error> {
    match config.kind {
        StoreKind::Memory => {
            Ok(vec!["the store `memory` needs nothing: it is gone when the server ends".to_owned()])
        }
        StoreKind::Sqlite => {
            let what = "the store `sqlite` needs nothing: its file is created at the first start";
            Ok(vec![what.to_owned()])
        }
        StoreKind::Postgres => {
            // A start does as much: it takes the steps that are missing.
            open_postgres(config).await?.close().await?;
            Ok(vec![format!("the schema {} is at this build's version", config.schema)])
        }
        StoreKind::Dynamodb => set_up_dynamodb(config).await,
    }
}

#[cfg(feature = "dynamodb")]
async fn open_dynamodb(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(dynamodb::DynamoStore::open(config).await?))
}

#[cfg(feature = "dynamodb")]
async fn set_up_dynamodb(config: &StoreConfig) -> Result<Vec<String>, Error> {
    dynamodb::DynamoStore::set_up(config).await
}

#[cfg(not(feature = "dynamodb"))]
async fn open_dynamodb(_: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    std::future::ready(Err(not_built("dynamodb"))).await
}

#[cfg(not(feature = "dynamodb"))]
async fn set_up_dynamodb(_: &StoreConfig) -> Result<Vec<String>, Error> {
    std::future::ready(Err(not_built("dynamodb"))).await
}

/// Opens a store that is there, to be read only: what writes fails. Nothing is brought to another version or
/// created, besides the `-shm` and `-wal` that SQLite keeps beside its file, and a server that uses it is not disturbed.
///
/// With `sqlite` every answer is from the moment of the opening; with `postgres` and `dynamodb` each is from the moment it is
/// given.
pub async fn open_to_read(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(match config.kind {
        StoreKind::Memory => {
            return Err(Error {
                kind: ErrorKind::Unusable,
                store: "memory",
                what: "is inside of its server and cannot be read from elsewhere: set store.kind to the kind that \
                       the server uses"
                    .to_owned(),
                source: None,
            });
        }
        StoreKind::Sqlite => Arc::new(SqliteStore::open_to_read(config)?),
        StoreKind::Postgres => open_postgres_to_read(config).await?,
        StoreKind::Dynamodb => open_dynamodb_to_read(config).await?,
    })
}

#[cfg(feature = "dynamodb")]
async fn open_dynamodb_to_read(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(dynamodb::DynamoStore::open_to_read(config).await?))
}

#[cfg(not(feature = "dynamodb"))]
async fn open_dynamodb_to_read(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    open_dynamodb(config).await
}

#[cfg(feature = "postgres")]
async fn open_postgres_to_read(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(postgres::PostgresStore::open_to_read(config).await?))
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres_to_read(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    open_postgres(config).await
}

#[cfg(feature = "postgres")]
async fn open_postgres(config: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(postgres::PostgresStore::open(config).await?))
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres(_: &StoreConfig) -> Result<Arc<dyn Store>, Error> {
    std::future::ready(Err(not_built("postgres"))).await
}

#[cfg(not(all(feature = "dynamodb", feature = "postgres")))]
fn not_built(store: &'static str) -> Error {
    let what =
        format!("is not in this build: build it with the feature `{store}`, or set store.kind to another");
    Error { kind: ErrorKind::Unusable, store, what, source: None }
}

/// An event that is to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Unique.
    pub event_id: EventId,
    /// When it was accepted.
    pub at: Timestamp,
    /// For the index of messages.
    pub kind: Kind,
    /// For counting unread messages: the user who wrote it. `None` for everything that no user wrote.
    pub sender: Option<UserId>,
    /// The message or poll it is about, for [`Store::about`].
    pub subject: Option<Uuid>,
    /// It moves the room's fence.
    pub moves_fence: bool,
    /// The encoded `ServerEvent` without its `seq`.
    pub public: Bytes,
    /// What stays on the server; may be empty.
    pub private: Bytes,
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position.
    pub seq: Seq,
    /// Unique.
    pub event_id: EventId,
    /// When it was accepted.
    pub at: Timestamp,
    /// What kind it is.
    pub kind: Kind,
    /// The encoded `ServerEvent` without its `seq`.
    pub public: Bytes,
    /// What stays on the server; may be empty.
    pub private: Bytes,
}

/// What makes a repeat of an append safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Who sent the command.
    pub sender: UserId,
    /// What the client called it.
    pub request_id: RequestId,
    /// A digest of the command, to tell a repeat from a reuse.
    pub body_hash: u64,
}

/// One command's events: all are appended, one behind the other, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Never empty.
    pub records: Vec<NewRecord>,
    /// Refuse if the room's fence is not this one. `Seq::ZERO`: the room must not exist yet.
    pub fence: Option<Seq>,
    /// Return the first result if this was appended before.
    pub idempotency: Option<Idempotency>,
    /// What lists of rooms must know afterwards.
    pub directory: Vec<DirectoryChange>,
    /// To whom belongs what `directory` says has begun.
    pub node: NodeId,
}

/// What an append that was carried out came to, now or the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Position of the first event.
    pub first: Seq,
    /// Position of the last event.
    pub last: Seq,
    /// Id of the first event.
    pub event_id: EventId,
}

/// The answer to one [`Append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The events are in the log, as durable as the store is set to be.
    Appended(Receipt),
    /// Nothing was appended: it had been before.
    Duplicate(Receipt),
    /// Nothing was appended: the request id was used for something else.
    Reused,
    /// Nothing was appended: the fence has moved, to this position. (`Seq::ZERO`: there is no such room.)
    FenceMoved(Seq),
}

/// Where a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last position.
    pub seq: Seq,
    /// The last position that can change a decision.
    pub fence: Seq,
}

/// How much to read at once, so that no room makes a reader hold more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most so many events.
    pub events: usize,
    /// Stop when the public bytes of the page exceed this; one event is returned whatever its size.
    pub bytes: usize,
}

/// A folded state of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The position it speaks for.
    pub seq: Seq,
    /// The form of `state`; one that a server does not know is ignored.
    pub version: u32,
    /// The encoded state.
    pub state: Bytes,
}

/// Which messages to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The newest before this position, returned in ascending order. `Seq(u64::MAX)`: the newest of all.
    Before(Seq),
    /// The oldest behind this position.
    After(Seq),
}

/// Which rooms to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomFilter {
    /// Every public room.
    Public,
    /// Rooms that this user is a member of or has created.
    Of(UserId),
}

/// A room in a list, with what continues the list behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which room.
    pub room: RoomId,
    /// Its place in the list; larger is newer. Opaque but for its order.
    pub position: u64,
}

/// An answer or an autopilot that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpenRun {
    /// Where.
    pub room: RoomId,
    /// Which.
    pub run: MessageId,
    /// The node that was the last to say so.
    pub node: NodeId,
}

/// That a node lives: whoever sees `beat` change knows it, without a clock that others have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// Who.
    pub node: NodeId,
    /// How often it has said so: 1, 2, 3 …
    pub beat: u64,
}

/// Why a store could not do what it was asked. No backend's type is in it.
#[derive(Debug, Clone, Error)]
#[error("the {store} store {what}")]
pub struct Error {
    /// What a caller can act on.
    pub kind: ErrorKind,
    /// Which backend.
    pub store: &'static str,
    /// What failed, for the log.
    pub what: String,
    /// What the backend said.
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// What a caller can do about an [`struct@Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// It may work later, and nothing was acknowledged: full disk, locked file, lost connection.
    Unavailable,
    /// It will not work until an operator mends it: not a database, read-only, a newer schema.
    Unusable,
    /// Stored bytes are not what was written.
    Corrupt,
    /// The store has been closed.
    Closed,
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self.kind {
            ErrorKind::Unavailable => true,
            ErrorKind::Unusable | ErrorKind::Corrupt | ErrorKind::Closed => false,
        }
    }
}

/// Keeps the logs of rooms, and the ledger of what answers use up.
///
/// # Contract
///
/// * **Atomicity.** The records of one [`Append`] are in the log together or not at all, with their idempotency key,
///   fence and directory changes. The appends of one call are carried out one after the other, each for itself.
/// * **Order.** `seq` of a room is 1, 2, 3 … without holes. What a call returned is seen by every later read.
///   Appends of concurrent calls to one room are in some one order; a caller that needs its own order waits.
/// * **Durability.** [`Outcome::Appended`] is returned only when the events survive what the store is set to
///   survive; with an error nothing was acknowledged, and whether it was appended must be found out by reading.
/// * **Idempotency.** The first append with a key (room, sender, request id) wins; later ones get
///   [`Outcome::Duplicate`] or [`Outcome::Reused`], also within one call. Keys older than the store was told to keep
///   ([`Store::forget_requests`]) may be forgotten.
/// * **Fence.** The fence of a room is the `seq` of its last record with `moves_fence`. An append with a fence is
///   refused unless it is the one given; one without is never refused for it. Idempotency is looked at first.
/// * **Rooms.** A room begins with an append whose fence is `Seq::ZERO`, and whose directory says
///   [`DirectoryChange::Room`]; its first record moves the fence whatever it says, so that a fence of `Seq::ZERO`
///   is never that of a room. An append with another fence or without one to a room that does not exist is
///   [`Outcome::FenceMoved`] to `Seq::ZERO`. Reading a room that does not exist gives nothing, not an error;
///   neither a snapshot nor a cursor of it is kept.
/// * **Ledger.** An account holds what is spent and what is reserved, and begins at nothing. A reservation is carried
///   out whole or not at all: at the instant it is, `spent + reserved` of each of its accounts, its own amounts
///   included, is within that line's limit. Concurrent reservations are carried out one after the other: of many that
///   have room for one, one gets it. Settling ends a reservation exactly once: it moves what was reserved to what was
///   spent, in the accounts (and so in the windows) of the reservation, however much later that is. Amounts are
///   recorded as given, also those above what was reserved: then an account can be beyond its limit, and admits
///   nothing more. An account may be forgotten when its time has come and nothing is reserved in it; settling finds
///   it gone and passes over it. The ledger is as durable as the log, is not part of any room, and no call looks at
///   more accounts than it names.
/// * **Nodes.** What an append begins ([`DirectoryChange::RunStarted`]) belongs to its [`Append::node`], also when it
///   was open already; a reservation belongs to the node that it names. Neither asks whether that node has a lease.
/// * **Leases.** A node has one from its first beat until somebody retires it. Beats and retirements of a node are
///   carried out one after the other, and what one returned is seen by every later call through any handle: of a beat
///   and a retirement that know the same beat, one succeeds. A lease that was taken away is not given back: a beat
///   behind the first finds nothing to renew. The store knows no time and ends no lease by itself.
/// * **Cancel safety.** A dropped call may or may not have been carried out; it never leaves half of it. It may be
///   carried out a little later than it was dropped, with one exception: a settlement never overtakes the reservation
///   that it ends. [`Store::settle`] waits for a call of [`Store::reserve`] that was begun before through the same
///   handle, whether or not anybody still waits for its answer; so that what was given up and then settled does not
///   become open behind it. (A reservation that failed because nobody answered may still be carried out, as any call.)
/// * **Clone.** Backends are shared by `Arc`; no call needs `&mut`.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// The backend's name, as in `store.kind`.
    fn name(&self) -> &'static str;

    /// Whether other processes may write to the same logs.
    fn is_shared(&self) -> bool;

    /// Appends to one room; the answers are in the order of `appends`.
    async fn append(&self, room: &RoomId, appends: Vec<Append>) -> Result<Vec<Outcome>, Error>;

    /// Where the log ends; `None`: there is no such room.
    async fn head(&self, room: &RoomId) -> Result<Option<Head>, Error>;

    /// The events behind `after`, in order. An empty page: the log ends there.
    async fn read(&self, room: &RoomId, after: Seq, page: Page) -> Result<Vec<Record>, Error>;

    /// Up to `limit` records of kind [`Kind::Message`], in ascending order.
    async fn messages(&self, room: &RoomId, direction: Direction, limit: usize)
    -> Result<Vec<Record>, Error>;

    /// Every event of this room about one of these messages and polls, in order.
    async fn about(&self, room: &RoomId, subjects: &[Uuid]) -> Result<Vec<Record>, Error>;

    /// How many messages behind `after` were not sent by `reader`, counted up to `cap`.
    async fn unread(&self, room: &RoomId, reader: &UserId, after: Seq, cap: u32) -> Result<u32, Error>;

    /// What the first append with this key came to, with the digest of its body.
    async fn request(
        &self,
        room: &RoomId,
        sender: &UserId,
        request_id: &RequestId,
    ) -> Result<Option<(Receipt, u64)>, Error>;

    /// Forgets idempotency keys from before `before`; returns how many.
    async fn forget_requests(&self, before: Timestamp) -> Result<u64, Error>;

    /// The newest saved state of a room.
    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, Error>;

    /// Saves a state, unless one of a later position is saved already.
    async fn save_snapshot(&self, room: &RoomId, snapshot: Snapshot) -> Result<(), Error>;

    /// Moves a read cursor forward; returns where it is now. It never moves back.
    async fn advance_cursor(&self, room: &RoomId, user: &UserId, to: Seq) -> Result<Seq, Error>;

    /// A read cursor; `Seq::ZERO` if it was never moved.
    async fn cursor(&self, room: &RoomId, user: &UserId) -> Result<Seq, Error>;

    /// Rooms, newest first, of which the position is below `before` (`u64::MAX`: all).
    async fn list_rooms(&self, filter: RoomFilter, before: u64, limit: usize) -> Result<Vec<Listed>, Error>;

    /// Everything that has begun and not ended, over all rooms.
    async fn open_runs(&self) -> Result<Vec<OpenRun>, Error>;

    /// Begins a lease with the first beat, which is 1, and renews it with the next one. One that is there already
    /// changes nothing, so that a call whose outcome is not known can be repeated. `false`: it was taken away, or its
    /// beat is neither this one nor the one before.
    async fn beat(&self, lease: Lease) -> Result<bool, Error>;

    /// Every node that has a lease.
    async fn leases(&self) -> Result<Vec<Lease>, Error>;

    /// Takes a lease away, if its beat is still this one; whether it was.
    async fn retire(&self, lease: Lease) -> Result<bool, Error>;

    /// Reserves all lines, or none. One that is open already is [`Reserve::Reserved`] and changes nothing, so that
    /// a call whose outcome is not known can be repeated.
    async fn reserve(&self, reservation: Reservation) -> Result<Reserve, Error>;

    /// Ends a reservation; `actual` is what was used, in the order of its lines. A line without an amount was used
    /// up as reserved: an empty `actual` is what a crash settles with. Whether it was open; if not, nothing changes.
    async fn settle(&self, id: ReservationId, actual: Vec<u64>) -> Result<bool, Error>;

    /// Every reservation that was not settled.
    async fn open_reservations(&self) -> Result<Vec<OpenReservation>, Error>;

    /// What these accounts hold, in their order; nothing in one that does not exist.
    async fn balances(&self, accounts: &[Account]) -> Result<Vec<Balance>, Error>;

    /// Forgets accounts that need not be kept until `before`; returns how many.
    async fn forget_accounts(&self, before: Timestamp) -> Result<u64, Error>;

    /// Up to `limit` of what the store keeps, behind `after`, which is what the page before has ended with. An empty
    /// page: there is no more. [`Inventory::Rooms`] are in the order of their creation, all else in some order that
    /// never changes; what is added or goes meanwhile may be in the list or not, all else is in it once. A room that
    /// does not exist has nothing.
    async fn inventory(
        &self,
        of: &Inventory,
        after: Option<&Item>,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        let _ = (of, after, limit);
        Err(inventory::unsupported(self.name()))
    }

    /// Answers quickly when the store can be written to.
    async fn check(&self) -> Result<(), Error>;

    /// Finishes what was accepted and lets go of files and connections. Later calls fail with
    /// [`ErrorKind::Closed`], but for a repeat of this one.
    async fn close(&self) -> Result<(), Error>;
}
