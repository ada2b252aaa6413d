//! The parts of a backup as bytes, and back.
//!
//! What a part means is written at its message in the `.proto`. Where parts stand in a file, and whether they are whole,
//! is another's business.

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{EventId, RequestId, RoomId, Seq, UserId},
    wire::{
        basic::{Corrupt, id},
        pb::salon::backup::v1::{self as pb, part::Part as Which},
    },
};

/// The version that is written.
pub const VERSION: u32 = 2;
/// The oldest version that is read: it has nothing that this one reads in another way.
pub const OLDEST: u32 = 1;

/// A part of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The first.
    Header(Header),
    /// A room begins.
    Room(RoomHead),
    /// An idempotency key of the room.
    Request(Request),
    /// An event of the room.
    Event(Event),
    /// A read cursor of the room.
    Cursor {
        /// Whose.
        user: UserId,
        /// How far this user has read.
        seq: Seq,
    },
    /// The room is whole.
    RoomEnd(RoomEnd),
    /// An account of the ledger.
    Account(Account),
    /// A document.
    Document(Document),
    /// The last.
    End(End),
}

/// Where a backup comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Of the format.
    pub version: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// When it was begun.
    pub created_at: Timestamp,
    /// The kind of the store it was read from.
    pub store: String,
}

/// Which room, and where its log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomHead {
    /// Which room.
    pub room: RoomId,
    /// Its last position.
    pub head: Seq,
    /// The last position that can change a decision.
    pub fence: Seq,
}

/// An idempotency key, and what its first append came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who sent the command.
    pub sender: UserId,
    /// What the client called it.
    pub request_id: RequestId,
    /// Position of the first event.
    pub first: Seq,
    /// Position of the last event.
    pub last: Seq,
    /// Id of the first event.
    pub event_id: EventId,
    /// A digest of the command.
    pub body_hash: u64,
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Position.
    pub seq: Seq,
    /// Unique.
    pub event_id: EventId,
    /// When it was accepted.
    pub at: Timestamp,
    /// The encoded `ServerEvent` without its `seq`.
    pub public: Bytes,
    /// What stays on the server; may be empty.
    pub private: Bytes,
}

/// How much the room had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomEnd {
    /// Idempotency keys.
    pub requests: u64,
    /// Events.
    pub events: u64,
    /// Read cursors.
    pub cursors: u64,
}

/// An account of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose it is and what it counts.
    pub key: String,
    /// When its window begins.
    pub begins: Timestamp,
    /// Used.
    pub spent: u64,
    /// Held for what had not ended.
    pub reserved: u64,
    /// From then on it may be forgotten.
    pub keep_until: Timestamp,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The path of its folder.
    pub folder: String,
    /// Unique there.
    pub name: String,
    /// What it says.
    pub body: Bytes,
}

/// How much there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// Rooms.
    pub rooms: u64,
    /// Events of all rooms.
    pub events: u64,
    /// Accounts.
    pub accounts: u64,
    /// Documents.
    pub documents: u64,
}

/// A part as bytes.
pub fn encode(part: Part) -> Vec<u8> {
    let which = match part {
        Part::Header(Header { version, program, created_at, store }) => {
            Which::Header(pb::Header { version, program, created_at_ms: created_at.0, store })
        }
        Part::Room(RoomHead { room, head, fence }) => {
            Which::Room(pb::Room { room_id: room.to_string(), head: head.0, fence: fence.0 })
        }
        Part::Request(Request { sender, request_id, first, last, event_id, body_hash }) => {
            Which::Request(pb::Request {
                sender: sender.to_string(),
                request_id: request_id.to_string(),
                first: first.0,
                last: last.0,
                event_id: id_bytes(event_id),
                body_hash,
            })
        }
        Part::Event(Event { seq, event_id, at, public, private }) => {
            Which::Event(pb::Event { seq: seq.0, event_id: id_bytes(event_id), at_ms: at.0, public, private })
        }
        Part::Cursor { user, seq } => Which::Cursor(pb::Cursor { user_id: user.to_string(), seq: seq.0 }),
        Part::RoomEnd(RoomEnd { requests, events, cursors }) => {
            Which::RoomEnd(pb::RoomEnd { requests, events, cursors })
        }
        Part::Account(Account { key, begins, spent, reserved, keep_until }) => {
            let (begins_ms, keep_until_ms) = (begins.0, keep_until.0);
            Which::Account(pb::Account { key, begins_ms, spent, reserved, keep_until_ms })
        }
        Part::Document(Document { folder, name, body }) => {
            Which::Document(pb::Document { folder, name, body })
        }
        Part::End(End { rooms, events, accounts, documents }) => {
            Which::End(pb::End { rooms, events, accounts, documents })
        }
    };
    pb::Part { part: Some(which) }.encode_to_vec()
}

/// The part that these bytes are.
pub fn decode(bytes: Bytes) -> Result<Part, Corrupt> {
    let part = pb::Part::decode(bytes).map_err(|error| Corrupt::new("part", error))?.part;
    Ok(match part.ok_or_else(|| Corrupt::new("part", "it is of no known kind"))? {
        Which::Header(pb::Header { version, program, created_at_ms, store }) => {
            Part::Header(Header { version, program, created_at: Timestamp(created_at_ms), store })
        }
        Which::Room(room) => Part::Room(RoomHead {
            room: id("room id", &room.room_id)?,
            head: Seq(room.head),
            fence: Seq(room.fence),
        }),
        Which::Request(request) => Part::Request(Request {
            sender: id("user id", &request.sender)?,
            request_id: id("request id", &request.request_id)?,
            first: Seq(request.first),
            last: Seq(request.last),
            event_id: event_id(&request.event_id)?,
            body_hash: request.body_hash,
        }),
        Which::Event(pb::Event { seq, event_id: id, at_ms, public, private }) => Part::Event(Event {
            seq: Seq(seq),
            event_id: event_id(&id)?,
            at: Timestamp(at_ms),
            public,
            private,
        }),
        Which::Cursor(cursor) => Part::Cursor { user: id("user id", &cursor.user_id)?, seq: Seq(cursor.seq) },
        Which::RoomEnd(pb::RoomEnd { requests, events, cursors }) => {
            Part::RoomEnd(RoomEnd { requests, events, cursors })
        }
        Which::Account(pb::Account { key, begins_ms, spent, reserved, keep_until_ms }) => {
            let (begins, keep_until) = (Timestamp(begins_ms), Timestamp(keep_until_ms));
            Part::Account(Account { key, begins, spent, reserved, keep_until })
        }
        Which::Document(pb::Document { folder, name, body }) => {
            Part::Document(Document { folder, name, body })
        }
        Which::End(pb::End { rooms, events, accounts, documents }) => {
            Part::End(End { rooms, events, accounts, documents })
        }
    })
}

fn id_bytes(id: EventId) -> Bytes {
    Bytes::copy_from_slice(id.0.as_bytes())
}

fn event_id(bytes: &[u8]) -> Result<EventId, Corrupt> {
    Uuid::from_slice(bytes).map(EventId).map_err(|error| Corrupt::new("event id", error))
}
