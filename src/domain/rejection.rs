//! Why a command was refused, in words a client may read.

use std::{fmt, time::Duration};

use thiserror::Error;

use crate::ids::{IdError, RoomId};

/// The closed list of error codes; `proto/room/v1/room.proto` documents each for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A field is malformed or beyond its limit.
    InvalidArgument,
    /// A poll that cannot be created as asked.
    InvalidPoll,
    /// There is no such room.
    RoomNotFound,
    /// What the command names does not exist in this room.
    NotFound,
    /// The stream has not joined a room.
    NotJoined,
    /// The stream has joined a room already.
    AlreadyJoined,
    /// An id or a name is taken.
    AlreadyExists,
    /// Who calls has not shown who they are.
    Unauthenticated,
    /// The actor's role does not allow it.
    PermissionDenied,
    /// The room is over.
    RoomEnded,
    /// The poll is over.
    PollClosed,
    /// The request id was used for another command.
    RequestIdReused,
    /// Too many commands in too short a time.
    RateLimited,
    /// A limit on how many things there may be.
    ResourceExhausted,
    /// The server does not know this command.
    Unsupported,
    /// The store did not answer; nothing was acknowledged.
    Unavailable,
    /// A fault of the server.
    Internal,
}

impl Code {
    /// Every code, for documentation and tests.
    pub const ALL: [Self; 17] = [
        Self::InvalidArgument,
        Self::InvalidPoll,
        Self::RoomNotFound,
        Self::NotFound,
        Self::NotJoined,
        Self::AlreadyJoined,
        Self::AlreadyExists,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::RoomEnded,
        Self::PollClosed,
        Self::RequestIdReused,
        Self::RateLimited,
        Self::ResourceExhausted,
        Self::Unsupported,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::InvalidPoll => "invalid_poll",
            Self::RoomNotFound => "room_not_found",
            Self::NotFound => "not_found",
            Self::NotJoined => "not_joined",
            Self::AlreadyJoined => "already_joined",
            Self::AlreadyExists => "already_exists",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::RoomEnded => "room_ended",
            Self::PollClosed => "poll_closed",
            Self::RequestIdReused => "request_id_reused",
            Self::RateLimited => "rate_limited",
            Self::ResourceExhausted => "resource_exhausted",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Whether the same command may succeed later without anybody changing anything.
    pub fn retryable(self) -> bool {
        match self {
            Self::RateLimited | Self::Unavailable | Self::Internal => true,
            Self::InvalidArgument
            | Self::InvalidPoll
            | Self::RoomNotFound
            | Self::NotFound
            | Self::NotJoined
            | Self::AlreadyJoined
            | Self::AlreadyExists
            | Self::Unauthenticated
            | Self::PermissionDenied
            | Self::RoomEnded
            | Self::PollClosed
            | Self::RequestIdReused
            | Self::ResourceExhausted
            | Self::Unsupported => false,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused command: nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Rejection {
    /// For programs.
    pub code: Code,
    /// For people; names what was wrong and, where there is one, the limit.
    pub message: String,
    /// The field that was wrong, as a path in the client's message.
    pub field: Option<&'static str>,
    /// Not before this time has passed.
    pub retry_after: Option<Duration>,
}

impl Rejection {
    /// A refusal without a field.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, retry_after: None }
    }

    /// What is said of a room that is not there, and of one that is not to be seen.
    pub fn no_room(room: &RoomId) -> Self {
        Self::new(Code::RoomNotFound, format!("there is no room {:?}", room.name()))
    }

    /// A field that is malformed or beyond its limit.
    pub fn field(field: &'static str, problem: impl fmt::Display) -> Self {
        Self {
            code: Code::InvalidArgument,
            message: format!("{field} {problem}"),
            field: Some(field),
            retry_after: None,
        }
    }

    /// An id that cannot be one.
    pub fn id(field: &'static str, error: &IdError) -> Self {
        Self::field(field, error)
    }

    /// Something the command names that is not in the room.
    pub fn not_found(what: &'static str, id: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {id} in this room"))
    }

    /// The room is over.
    pub fn room_ended() -> Self {
        Self::new(Code::RoomEnded, "the room has ended: it can be read, and nothing can be written or joined")
    }

    /// Something the role of the actor does not allow.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// Too fast; try again after `wait`.
    pub fn rate_limited(what: &str, wait: Duration) -> Self {
        Self {
            code: Code::RateLimited,
            message: format!("too many {what}; try again in {} ms", wait.as_millis()),
            field: None,
            retry_after: Some(wait),
        }
    }
}
