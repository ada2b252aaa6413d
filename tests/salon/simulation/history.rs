//! What one client has sent and seen, in its own order: all that the checker knows of it.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Something that a client has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It opened a stream and asked to go on behind this position.
    Opened { after: Option<u64> },
    /// `room_state`, which speaks for this position.
    State { seq: u64 },
    /// `resumed`: what follows begins behind this position.
    Resumed { after: u64 },
    /// A lasting event, as the bytes that came.
    Event { seq: u64, bytes: Bytes },
    /// A command was carried out; 0: it made no event.
    Ack { request_id: String, seq: u64, event_id: String },
    /// A command was refused for good.
    Refused { request_id: String, code: String },
}

/// What a client has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// A message with this text, which no other has.
    Message(String),
    /// Something else.
    Other(&'static str),
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    pub client: String,
    pub room: String,
    pub seen: Vec<Seen>,
    /// By request id.
    pub sent: BTreeMap<String, Sent>,
    /// Commands that wait for their answer.
    pub pending: usize,
    /// The last position it knows, while it is joined.
    pub at: Option<u64>,
}

impl History {
    pub fn new(client: &str, room: &str) -> Self {
        Self { client: client.to_owned(), room: room.to_owned(), ..Self::default() }
    }
}
