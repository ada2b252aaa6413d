//! Events that are not stored: encoded and framed once, sent to whoever is there.
//!
//! They come in streams and are small, so that they are filled up (see [`filled`]). Chunks of the compact form are not:
//! who asks for few bytes is given few bytes.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use crate::{
    clock::Timestamp,
    domain::{
        llm::LiveAnswer,
        room::{Member, Presence},
    },
    ids::{EventId, LlmId, MessageId, Seq, UserId},
    wire::{
        basic::time,
        frame::{PREFIX, filled, frame, len_at},
        model::{member_to_pb, presence_to_pb},
        pb::room::v1::{self as pb, server_event::Payload},
    },
};

/// When and under which id something happened.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Unique.
    pub event_id: EventId,
    /// When.
    pub at: Timestamp,
}

/// How far a question has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is stored.
    Logged,
    /// It waits for the LLM.
    Delivered {
        /// Answers of the room that come before it.
        waiting: usize,
    },
    /// The model has been given it.
    TakenUp,
}

fn told(stamp: Stamp, payload: Payload) -> Bytes {
    filled(&pb::ServerEvent {
        payload: Some(payload),
        event_id: stamp.event_id.to_string(),
        at: time(stamp.at),
        ..Default::default()
    })
}

fn bare(payload: Payload) -> Bytes {
    filled(&pb::ServerEvent { payload: Some(payload), ..Default::default() })
}

/// The first connection of a user.
pub fn user_joined(stamp: Stamp, member: &Member, presence: Presence) -> Bytes {
    told(stamp, Payload::UserJoined(pb::UserJoined { user: Some(member_to_pb(member, presence)) }))
}

/// The last connection of a user has gone.
pub fn user_left(stamp: Stamp, user: &UserId) -> Bytes {
    told(stamp, Payload::UserLeft(pb::UserLeft { user_id: user.to_string() }))
}

/// Somebody types or has stopped.
pub fn typing(stamp: Stamp, user: &UserId, name: &str, is_typing: bool) -> Bytes {
    let typing = pb::UserTyping { user_id: user.to_string(), user_name: name.to_owned(), is_typing };
    told(stamp, Payload::UserTyping(typing))
}

/// Somebody is away, or back.
pub fn presence(stamp: Stamp, user: &UserId, presence: Presence) -> Bytes {
    let changed = pb::PresenceChanged { user_id: user.to_string(), status: presence_to_pb(presence) };
    told(stamp, Payload::PresenceChanged(changed))
}

/// Somebody has read up to a position.
pub fn receipt(stamp: Stamp, user: &UserId, seq: Seq, message: Option<MessageId>) -> Bytes {
    let message_id = message.map(|id| id.to_string()).unwrap_or_default();
    told(stamp, Payload::ReadReceipt(pb::ReadReceipt { user_id: user.to_string(), seq: seq.0, message_id }))
}

/// Something of the application's own.
pub fn signal(stamp: Stamp, user: &UserId, kind: String, data: Bytes) -> Bytes {
    told(stamp, Payload::Signal(pb::Signal { user_id: user.to_string(), r#type: kind, data }))
}

/// How many are online, in a room where they are not told one by one.
pub fn occupancy(online: usize) -> Bytes {
    let online_count = u32::try_from(online).unwrap_or(u32::MAX);
    bare(Payload::Occupancy(pb::Occupancy { online_count }))
}

/// More text of an answer.
pub fn chunk(answer: &LiveAnswer, offset: usize, text: &str) -> Bytes {
    bare(Payload::LlmChunk(pb::LlmChunk {
        message_id: answer.message_id.to_string(),
        llm_id: answer.llm_id.to_string(),
        content: text.to_owned(),
        reply_to: answer.reply_to.to_string(),
        offset: u64::try_from(offset).unwrap_or(u64::MAX),
        ..Default::default()
    }))
}

/// An LLM calls a tool; `ended`: the tool has answered, and whether the call failed.
pub fn tool_call(answer: MessageId, llm: &LlmId, tool: &str, ended: Option<bool>) -> Bytes {
    bare(Payload::LlmToolCall(pb::LlmToolCall {
        message_id: answer.to_string(),
        llm_id: llm.to_string(),
        tool: tool.to_owned(),
        ended: ended.is_some(),
        failed: ended.unwrap_or(false),
    }))
}

/// How far a question has come: `answer` is the id its answer will have.
pub fn llm_receipt(question: MessageId, llm: &LlmId, answer: MessageId, receipt: Receipt) -> Bytes {
    let (state, waiting) = match receipt {
        Receipt::Logged => (pb::ReceiptState::Logged, 0),
        Receipt::Delivered { waiting } => (pb::ReceiptState::Delivered, waiting),
        Receipt::TakenUp => (pb::ReceiptState::TakenUp, 0),
    };
    bare(Payload::LlmReceipt(pb::LlmReceipt {
        question_id: question.to_string(),
        llm_id: llm.to_string(),
        message_id: answer.to_string(),
        state: state.into(),
        waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
    }))
}

/// More text of the answer whose beginning stands at `seq`, in the form for those who asked for few bytes.
pub fn compact_chunk(seq: Seq, offset: usize, text: &str) -> Bytes {
    let chunk = pb::LlmChunk {
        content: text.to_owned(),
        offset: u64::try_from(offset).unwrap_or(u64::MAX),
        thinking_seq: seq.0,
        ..Default::default()
    };
    frame(&pb::ServerEvent { payload: Some(Payload::LlmChunk(chunk)), ..Default::default() })
}

/// Frames of lasting events without the text of these answers, which was told by chunks to the last byte; `None`: there
/// is nothing to leave out.
pub fn without_streamed(frames: &[u8], told: &[&LiveAnswer]) -> Option<Bytes> {
    let (mut out, mut at, mut left_out) = (BytesMut::with_capacity(frames.len()), 0, false);
    while let Some(len) = len_at(frames, at) {
        let whole = frames.get(at..at + len)?;
        let mut event = pb::ServerEvent::decode(whole.get(PREFIX..)?).ok()?;
        if leave_out(&mut event, told) {
            left_out = true;
            out.extend_from_slice(&frame(&event));
        } else {
            out.extend_from_slice(whole);
        }
        at += len;
    }
    (left_out && at == frames.len()).then(|| out.freeze())
}

fn leave_out(event: &mut pb::ServerEvent, told: &[&LiveAnswer]) -> bool {
    let Some(Payload::MessageReceived(pb::MessageReceived { message: Some(message) })) = &mut event.payload
    else {
        return false;
    };
    // The very text: what was told and differs is told again.
    let same = |answer: &&&LiveAnswer| {
        answer.text == message.content && answer.message_id.to_string() == message.message_id
    };
    if message.content.is_empty() || told.iter().find(same).is_none() {
        return false;
    }
    message.content.clear();
    message.streamed = true;
    true
}

/// A sign of life.
pub fn heartbeat(head: Seq) -> Bytes {
    bare(Payload::Heartbeat(pb::Heartbeat { head_seq: head.0 }))
}

/// The credential of a stream is about to end.
pub fn credential_expiring(at: Timestamp) -> Bytes {
    bare(Payload::CredentialExpiring(pb::CredentialExpiring { expires_at: time(at) }))
}

/// Membership events that stand behind one another, told as one: the event at `last` with those from `first` on.
pub fn members_merged(first: Seq, last: Seq, joined: u32, left: u32, updated: u32) -> Bytes {
    frame(&pb::ServerEvent {
        payload: Some(Payload::MembersMerged(pb::MembersMerged {
            first_seq: first.0,
            joined,
            left,
            updated,
        })),
        seq: last.0,
        ..Default::default()
    })
}
