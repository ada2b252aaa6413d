//! What travels between nodes as bytes: a header that names version and sender, and a protobuf message behind it.
//!
//! Reading checks everything that delivery relies on, because whoever reaches the bus can write to it: a batch holds
//! the events it says, whole and in order. What is not understood is refused, never guessed at; receivers read the
//! store instead.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use uuid::Uuid;

pub use super::error::HintError;
use super::error::{HintError::Malformed, id};
use super::{Audience, BusMessage, Interrupt, LogBatch, Note, Transient, TransientContent, presence};
use crate::{
    clock::Timestamp,
    domain::llm::{ActiveAnswer, LiveAnswer},
    ids::{MessageId, NodeId, RoomId, Seq},
    wire::{
        decode::member_change_from_pb,
        encode::member_change,
        frame,
        model::{role_from_pb, role_to_pb},
        pb::{
            room::v1 as room,
            salon::bus::v1::{self as pb, envelope::Content, note::Kind},
        },
        rights::{overrides_from_pb, overrides_to_pb},
    },
};

/// What every message begins with: no text and no JSON does.
const MAGIC: [u8; 2] = [b'S', 1];
/// Bytes before the protobuf message.
const HEADER: usize = 2 + 16;
/// The largest message that is read.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Who sent these bytes, without reading them.
pub fn sender(bytes: &[u8]) -> Result<NodeId, HintError> {
    let Some((magic, rest)) = bytes.split_first_chunk::<2>() else {
        return Err(HintError::Foreign);
    };
    match *magic {
        MAGIC => {}
        [first, version] if first == MAGIC[0] => return Err(HintError::Version(version)),
        [_, _] => return Err(HintError::Foreign),
    }
    let (node, _) = rest.split_first_chunk::<16>().ok_or(HintError::Foreign)?;
    Ok(NodeId(Uuid::from_bytes(*node)))
}

/// A message as bytes.
pub fn encode(node: NodeId, room: &RoomId, message: &BusMessage) -> Bytes {
    let content = match message {
        BusMessage::Log(batch) => Content::Log(batch_to_pb(batch)),
        BusMessage::Reaches(seq) => Content::Reaches(seq.0),
        BusMessage::Transient(transient) => Content::Transient(transient_to_pb(transient)),
        BusMessage::Interrupt(interrupt) => Content::Interrupt(interrupt_to_pb(interrupt)),
        BusMessage::Presence(hint) => Content::Presence(presence::to_pb(hint)),
    };
    let envelope = pb::Envelope { room_id: room.to_string(), content: Some(content) };
    let mut out = BytesMut::with_capacity(HEADER + envelope.encoded_len());
    out.put_slice(&MAGIC);
    out.put_slice(node.0.as_bytes());
    // A `BytesMut` grows: encoding into it cannot fail.
    let _ = envelope.encode(&mut out);
    out.freeze()
}

/// Reads what [`encode`] made, and refuses everything else.
pub fn decode(bytes: &Bytes) -> Result<(RoomId, BusMessage), HintError> {
    if bytes.len() > MAX_BYTES {
        return Err(HintError::TooLarge(bytes.len()));
    }
    sender(bytes)?;
    let envelope = pb::Envelope::decode(bytes.slice(HEADER..)).map_err(|_| Malformed("no protobuf"))?;
    let room = RoomId::parse_key(&envelope.room_id).map_err(|_| Malformed("its room"))?;
    let message = match envelope.content.ok_or(Malformed("it is empty"))? {
        Content::Log(batch) => BusMessage::Log(batch_from_pb(batch)?),
        Content::Reaches(0) => return Err(Malformed("its position")),
        Content::Reaches(seq) => BusMessage::Reaches(Seq(seq)),
        Content::Transient(transient) => BusMessage::Transient(transient_from_pb(transient)?),
        Content::Interrupt(interrupt) => BusMessage::Interrupt(interrupt_from_pb(&interrupt)?),
        Content::Presence(hint) => BusMessage::Presence(presence::from_pb(hint)?),
    };
    Ok((room, message))
}

fn batch_to_pb(batch: &LogBatch) -> pb::LogBatch {
    pb::LogBatch {
        first: batch.first.0,
        last: batch.last.0,
        frames: batch.frames.clone(),
        notes: batch.notes.iter().map(note_to_pb).collect(),
    }
}

fn batch_from_pb(batch: pb::LogBatch) -> Result<LogBatch, HintError> {
    let pb::LogBatch { first, last, frames, notes } = batch;
    if first == 0 || last < first {
        return Err(Malformed("its positions"));
    }
    check_frames(&frames, first, last)?;
    let notes =
        notes.into_iter().map(|note| note_from_pb(note, first, last)).collect::<Result<Vec<_>, _>>()?;
    if u64::try_from(notes.len()).map_or(true, |count| count > last - first + 1) {
        return Err(Malformed("more notes than events"));
    }
    Ok(LogBatch { first: Seq(first), last: Seq(last), frames, notes: notes.into() })
}

/// Whether these are exactly the events `first..=last`: each frame whole, with its own position at its end.
fn check_frames(frames: &[u8], first: u64, last: u64) -> Result<(), HintError> {
    let mut at = 0;
    let mut seq = first;
    while at < frames.len() {
        let len = frame::len_at(frames, at).ok_or(Malformed("a frame is cut"))?;
        let one = frames.get(at..at + len).ok_or(Malformed("a frame is cut"))?;
        if seq > last || !frame::ends_with_seq(one, Seq(seq)) {
            return Err(Malformed("a frame has another position"));
        }
        (at, seq) = (at + len, seq.checked_add(1).ok_or(Malformed("its positions"))?);
    }
    if seq.checked_sub(1) == Some(last) { Ok(()) } else { Err(Malformed("frames are missing")) }
}

fn note_to_pb(note: &Note) -> pb::Note {
    let kind = match note {
        Note::RunStarted(ActiveAnswer { answer, seq }) => Kind::RunStarted(pb::RunStarted {
            seq: seq.0,
            message_id: message_id_to_pb(answer.message_id),
            llm_id: answer.llm_id.to_string(),
            reply_to: message_id_to_pb(answer.reply_to),
            started_at_ms: answer.started_at.0,
        }),
        Note::RunEnded(message_id) => Kind::RunEnded(message_id_to_pb(*message_id)),
        Note::RoomEnded => Kind::RoomEnded(true),
        Note::Permissions(overrides) => {
            Kind::Permissions(pb::Permissions { permissions: overrides_to_pb(overrides) })
        }
        Note::Membership { user, change, role, muted_until } => Kind::Membership(pb::Membership {
            muted_until_ms: muted_until.map_or(0, |until| until.0),
            user_id: user.to_string(),
            change: member_change(*change).into(),
            role: role_to_pb(*role),
        }),
    };
    pb::Note { kind: Some(kind) }
}

fn note_from_pb(note: pb::Note, first: u64, last: u64) -> Result<Note, HintError> {
    Ok(match note.kind.ok_or(Malformed("a note is empty"))? {
        Kind::RunStarted(run) if (first..=last).contains(&run.seq) => Note::RunStarted(ActiveAnswer {
            answer: LiveAnswer {
                message_id: message_id_from_pb(&run.message_id)?,
                llm_id: id(&run.llm_id)?,
                reply_to: message_id_from_pb(&run.reply_to)?,
                text: String::new(),
                started_at: Timestamp(run.started_at_ms),
            },
            seq: Seq(run.seq),
        }),
        Kind::RunStarted(_) => return Err(Malformed("the position of an answer")),
        Kind::RunEnded(message_id) => Note::RunEnded(message_id_from_pb(&message_id)?),
        Kind::RoomEnded(_) => Note::RoomEnded,
        Kind::Membership(membership) => Note::Membership {
            user: id(&membership.user_id)?,
            change: room::MemberChange::try_from(membership.change)
                .ok()
                .and_then(member_change_from_pb)
                .ok_or(Malformed("a change of a membership"))?,
            role: role_from_pb(membership.role).ok_or(Malformed("a role"))?,
            muted_until: (membership.muted_until_ms != 0).then_some(Timestamp(membership.muted_until_ms)),
        },
        Kind::Permissions(changed) => Note::Permissions(overrides_from_pb(&changed.permissions)),
    })
}

fn transient_to_pb(transient: &Transient) -> pb::Transient {
    let mut out = pb::Transient { frame: transient.frame.clone(), ..pb::Transient::default() };
    match &transient.audience {
        // The one connection that is left out is on the node that sends.
        Audience::Room | Audience::OtherConnections(_) => {}
        Audience::Others(user) => out.except_user_id = user.to_string(),
        Audience::Users(users) => {
            out.only_users = true;
            out.only_user_ids = users.iter().map(ToString::to_string).collect();
        }
    }
    match &transient.content {
        TransientContent::Chunk { message_id, offset, text } => {
            out.chunk = Some(pb::Chunk {
                message_id: message_id_to_pb(*message_id),
                offset: u64::try_from(*offset).unwrap_or(u64::MAX),
                text: text.clone(),
            });
        }
        TransientContent::Error { original } => out.original_error = original.clone(),
        TransientContent::Other => {}
    }
    out
}

fn transient_from_pb(transient: pb::Transient) -> Result<Transient, HintError> {
    is_one_frame(&transient.frame)?;
    let audience = if transient.only_users || !transient.only_user_ids.is_empty() {
        let users = transient.only_user_ids.iter().map(|user| id(user)).collect::<Result<Vec<_>, _>>()?;
        Audience::Users(users.into())
    } else if transient.except_user_id.is_empty() {
        Audience::Room
    } else {
        Audience::Others(id(&transient.except_user_id)?)
    };
    let content = match transient.chunk {
        Some(chunk) => TransientContent::Chunk {
            message_id: message_id_from_pb(&chunk.message_id)?,
            offset: usize::try_from(chunk.offset).map_err(|_| Malformed("an offset"))?,
            text: chunk.text,
        },
        None if transient.original_error.is_empty() => TransientContent::Other,
        None => {
            is_one_frame(&transient.original_error)?;
            TransientContent::Error { original: transient.original_error }
        }
    };
    Ok(Transient { frame: transient.frame, audience, content })
}

fn interrupt_to_pb(interrupt: &Interrupt) -> pb::Interrupt {
    pb::Interrupt {
        llm_id: interrupt.llm.as_ref().map(ToString::to_string).unwrap_or_default(),
        message_id: interrupt.message.map(message_id_to_pb).unwrap_or_default(),
        by_user_id: interrupt.by.to_string(),
        up_to: interrupt.up_to.0,
    }
}

fn interrupt_from_pb(interrupt: &pb::Interrupt) -> Result<Interrupt, HintError> {
    let pb::Interrupt { llm_id, message_id, by_user_id, up_to } = interrupt;
    if *up_to == 0 {
        return Err(Malformed("its position"));
    }
    Ok(Interrupt {
        llm: if llm_id.is_empty() { None } else { Some(id(llm_id)?) },
        message: if message_id.is_empty() { None } else { Some(message_id_from_pb(message_id)?) },
        by: id(by_user_id)?,
        up_to: Seq(*up_to),
    })
}

fn is_one_frame(frame: &[u8]) -> Result<(), HintError> {
    match (frame.first(), frame::len_at(frame, 0)) {
        (Some(0), Some(len)) if len == frame.len() => Ok(()),
        (_, _) => Err(Malformed("its frame")),
    }
}

fn message_id_to_pb(id: MessageId) -> Bytes {
    Bytes::copy_from_slice(id.0.as_bytes())
}

fn message_id_from_pb(bytes: &[u8]) -> Result<MessageId, HintError> {
    Uuid::from_slice(bytes).map(MessageId).map_err(|_| Malformed("the id of a message"))
}

#[cfg(test)]
mod tests;
