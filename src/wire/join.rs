//! Joins: what a client asks for, and what is asked of a room when it is known who asks.

use std::time::Duration;

use crate::{
    domain::{
        command::JoinProfile,
        rejection::{Code, Rejection},
    },
    ids::{RoomId, Seq, UserId},
    wire::{
        command::{parse, shorten},
        model::role_from_pb,
        pb::room::v1 as pb,
        rights,
    },
};

/// A join as a client asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinWish {
    /// The name of the room.
    pub room_id: RoomId,
    /// Who; none: whom the credential speaks for.
    pub user_id: Option<UserId>,
    /// What they say of themselves.
    pub profile: JoinProfile,
    /// Continue behind this position.
    pub after: Option<Seq>,
    /// How to be told of answers.
    pub chunks: ChunkWish,
}

impl JoinWish {
    /// The join of this user to this room.
    pub fn of(self, room_id: RoomId, user_id: UserId) -> Join {
        let Self { profile, after, chunks, room_id: _, user_id: _ } = self;
        Join { room_id, user_id, profile, after, chunks }
    }
}

/// A join of a known user to a known room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Which room.
    pub room_id: RoomId,
    /// Who.
    pub user_id: UserId,
    /// What they say of themselves.
    pub profile: JoinProfile,
    /// Continue behind this position.
    pub after: Option<Seq>,
    /// How to be told of answers.
    pub chunks: ChunkWish,
}

/// How a client wishes to be told the text of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkWish {
    /// Between two chunks of an answer; `None`: as the server likes.
    pub interval: Option<Duration>,
    /// Chunks name their answer by its position, and a text that was told is not told again.
    pub compact: bool,
}

/// The longest time between two chunks that may be asked for.
pub const CHUNK_INTERVAL_MAX: Duration = Duration::from_millis(500);

pub(super) fn read(join: pb::JoinRoom) -> Result<JoinWish, Rejection> {
    let role = role_from_pb(join.role);
    Ok(JoinWish {
        // What cannot be a room's id is no room.
        room_id: RoomId::parse(&join.room_id).map_err(|error| {
            let message = format!("there is no room {:?}: join.room_id {error}", shorten(&join.room_id));
            Rejection { field: Some("join.room_id"), ..Rejection::new(Code::RoomNotFound, message) }
        })?,
        user_id: match join.user_id.as_str() {
            "" => None,
            text => Some(parse("join.user_id", text)?),
        },
        profile: JoinProfile {
            name: join.display_name.trim().to_owned(),
            role,
            title: join.title,
            avatar: join.avatar,
            invitation: rights::read_secret(&join.invitation)?,
            // What a client says of itself grants nothing.
            granted: None,
        },
        after: join.after_seq.map(Seq),
        chunks: ChunkWish {
            interval: join.chunk_interval_ms.map(read_chunk_interval).transpose()?,
            compact: join.compact_answers,
        },
    })
}

fn read_chunk_interval(ms: u32) -> Result<Duration, Rejection> {
    let interval = Duration::from_millis(ms.into());
    if interval > CHUNK_INTERVAL_MAX {
        let most = CHUNK_INTERVAL_MAX.as_millis();
        return Err(Rejection::field(
            "join.chunk_interval_ms",
            format_args!("must be at most {most}, is {ms}"),
        ));
    }
    Ok(interval)
}
