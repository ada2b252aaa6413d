//! What a store keeps, listed whole: what backups and checks need and no client ever asks for.
//!
//! The logs themselves are read as everybody reads them.

use crate::{
    clock::Timestamp,
    domain::room::Visibility,
    ids::{RequestId, RoomId, Seq, UserId},
    store::{
        Receipt,
        documents::{Document, Folder},
        ledger::{Account, Balance},
    },
};

/// What to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inventory {
    /// Every room, in the order in which they were created.
    Rooms,
    /// The idempotency keys of a room.
    Requests(RoomId),
    /// The read cursors of a room.
    Cursors(RoomId),
    /// Who is listed which room as a member.
    Members,
    /// The accounts of the ledger.
    Accounts,
    /// The documents of all folders.
    Documents,
    /// What is left of rooms that [`Inventory::Rooms`] does not have: none in a sound store. A backend that keeps a room
    /// under its name alone cannot have any.
    Strays,
}

/// One thing that a store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A room as lists know it.
    Room(ListedRoom),
    /// An idempotency key.
    Request(KeptRequest),
    /// A read cursor.
    Cursor {
        /// Whose.
        user: UserId,
        /// How far this user has read.
        seq: Seq,
    },
    /// A membership as lists know it.
    Member {
        /// Who.
        user: UserId,
        /// Of which room.
        room: RoomId,
    },
    /// An account of the ledger.
    Account(KeptAccount),
    /// A document, and where it is.
    Document {
        /// In which folder.
        folder: Folder,
        /// All of it.
        document: Document,
    },
    /// A room that has events, members or anything else, and is not listed.
    Stray {
        /// What the store calls it: its name went with its entry.
        number: u64,
    },
}

/// A room as lists know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRoom {
    /// Which one.
    pub room: RoomId,
    /// Its place in lists.
    pub position: u64,
    /// Whether everybody is listed it.
    pub visibility: Visibility,
    /// Who is listed it always.
    pub created_by: Option<UserId>,
}

/// An idempotency key, and what its first append came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRequest {
    /// Who sent the command.
    pub sender: UserId,
    /// What the client called it.
    pub request_id: RequestId,
    /// What it came to.
    pub receipt: Receipt,
    /// A digest of the command.
    pub body_hash: u64,
}

/// An account, and until when it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAccount {
    /// Which one.
    pub account: Account,
    /// What it holds.
    pub balance: Balance,
    /// From then on it may be forgotten.
    pub keep_until: Timestamp,
}
