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
    ids::{EventId, MessageId, Namespace, NodeId, RequestId, ReservationId, RoomId, Seq, UserId},
    store::{
        documents::{Document, Expect, Folder},
        inventory::{Inventory, Item},
        ledger::{Account, Balance, OpenReservation, Reservation, Reserve},
    },
};

pub mod config;
pub mod documents;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod inventory;
pub mod ledger;
pub mod memory;
pub mod open;
#[cfg(any(feature = "dynamodb", feature = "postgres"))]
mod pending;
#[cfg(feature = "postgres")]
pub mod postgres;
mod rules;
pub mod sqlite;

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
    /// Every public room of a namespace.
    Public(Namespace),
    /// Rooms of a namespace that this user is a member of or has created.
    Of(Namespace, UserId),
}

/// A room in a list, with what continues the list behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which room.
    pub room: RoomId,
    /// Its place in the list; larger is newer. Opaque but for its order.
    pub position: u64,
}

/// What a namespace has taken of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceUsage {
    /// Its rooms.
    pub rooms: u64,
    /// The bytes of their events, public and private, as they were given: what a backend needs beside them is not counted.
    pub bytes: u64,
    /// Their memberships: a member of three rooms counts three.
    pub members: u64,
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
/// * **Documents.** Each is read and written whole. Its revision is 1 when it is written first and one more with every
///   write; writes of one document are carried out one after the other, and of many that expect the same revision one
///   succeeds. What was removed begins at 1 again. Documents have nothing to do with rooms, and are as durable as logs.
/// * **Namespaces.** A room belongs to the namespace in its id: lists are those of one namespace, and users of the same name
///   in two of them are two. What a namespace has taken ([`Store::namespace_usage`]) is exact, but for a backend that
///   would have to make its appends wait for one another: there, of what other processes append, the last 256 KiB and 100
///   members of each may be missing, for good if it dies. What was there before a store began to count may be missing as
///   well; who leaves is never counted below zero. Members are counted as the appends say: whoever appends says
///   [`DirectoryChange::Joined`] only of who was no member, and [`DirectoryChange::Left`] only of who was one, since a
///   backend need not look. A room that has ended keeps its members, and they count.
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

    /// A read cursor, and how many messages behind it were not sent by its user, counted up to `cap`: what everybody who
    /// joins is told. One question where the backend can put both in one.
    async fn read_position(&self, room: &RoomId, user: &UserId, cap: u32) -> Result<(Seq, u32), Error> {
        let read = self.cursor(room, user).await?;
        Ok((read, self.unread(room, user, read, cap).await?))
    }

    /// Rooms, newest first, of which the position is below `before` (`u64::MAX`: all).
    async fn list_rooms(&self, filter: RoomFilter, before: u64, limit: usize) -> Result<Vec<Listed>, Error>;

    /// What a namespace has taken; nothing, if it has no rooms. For quotas, which look at it every few seconds: see the
    /// contract for how exact it is.
    async fn namespace_usage(&self, namespace: &Namespace) -> Result<NamespaceUsage, Error>;

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
    async fn inventory(&self, of: &Inventory, after: Option<&Item>, limit: usize)
    -> Result<Vec<Item>, Error>;

    /// The document of this name, if there is one.
    async fn document(&self, folder: &Folder, name: &str) -> Result<Option<Document>, Error>;

    /// Up to `limit` documents of a folder behind the name `after`, in the order of their names as bytes. An empty page:
    /// there is no more.
    async fn documents(
        &self,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error>;

    /// Writes a document as a whole, or with an empty `body` removes it, if it still is as `expect` says; whether it was.
    /// A folder, a name or a body that is too long is refused ([`ErrorKind::Unusable`]).
    async fn put_document(
        &self,
        folder: &Folder,
        name: &str,
        expect: Expect,
        body: Bytes,
    ) -> Result<bool, Error>;

    /// Answers quickly when the store can be written to.
    async fn check(&self) -> Result<(), Error>;

    /// Finishes what was accepted and lets go of files and connections. Later calls fail with
    /// [`ErrorKind::Closed`], but for a repeat of this one.
    async fn close(&self) -> Result<(), Error>;
}
