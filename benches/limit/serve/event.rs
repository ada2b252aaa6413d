//! What the servers to compare with say: the messages of the contract, with the same fields filled in as Salon fills in.
//!
//! So a delivery has the same bytes on every wire, and only what brings it there differs. Nothing here is checked or kept.

use bytes::{BufMut, BytesMut};
use prost::Message as _;
use salon::{
    clock::{Clock, SystemClock},
    wire::pb::room::v1::{self as pb, server_event::Payload},
};
use uuid::Uuid;

/// Bytes before every message: one of flags, four of length.
pub(crate) const PREFIX: usize = 5;
/// The largest message that is read, in bytes, as in Salon.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;

/// Who is on a stream.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// The user's id.
    pub id: String,
    /// The user's name.
    pub name: String,
}

impl Who {
    /// The user of a `join`.
    pub(crate) fn of(join: &pb::JoinRoom) -> Self {
        let name = if join.display_name.is_empty() { &join.user_id } else { &join.display_name };
        Self { id: join.user_id.clone(), name: name.clone() }
    }
}

/// The answer to a `join`.
pub(crate) fn room_state(join: &pb::JoinRoom, who: &Who, seq: u64, request_id: String) -> pb::ServerEvent {
    let room = pb::RoomInfo { room_id: join.room_id.clone(), ..Default::default() };
    let you = pb::Participant { id: who.id.clone(), name: who.name.clone(), ..Default::default() };
    let state = pb::RoomState { room: Some(room), you: Some(you), ..Default::default() };
    pb::ServerEvent { payload: Some(Payload::RoomState(state)), request_id, seq, ..Default::default() }
}

/// What everybody in the room is sent.
pub(crate) fn received(who: &Who, said: pb::SendMessage, seq: u64) -> pb::ServerEvent {
    let (id, at) = (Uuid::now_v7().to_string(), now());
    let message = pb::Message {
        message_id: id.clone(),
        sender_id: who.id.clone(),
        sender_name: who.name.clone(),
        sender_type: pb::ParticipantType::Human.into(),
        content: said.content,
        content_type: if said.content_type.is_empty() { "text/plain".into() } else { said.content_type },
        timestamp: at,
        ..Default::default()
    };
    pb::ServerEvent {
        payload: Some(Payload::MessageReceived(pb::MessageReceived { message: Some(message) })),
        event_id: id,
        seq,
        at,
        ..Default::default()
    }
}

/// The answer to who said `event`.
pub(crate) fn ack(event: &pb::ServerEvent, request_id: String) -> pb::ServerEvent {
    let ack =
        pb::Ack { seq: event.seq, last_seq: event.seq, event_id: event.event_id.clone(), duplicate: false };
    pb::ServerEvent { payload: Some(Payload::Ack(ack)), request_id, ..Default::default() }
}

/// Appends a message with its prefix.
pub(crate) fn put(out: &mut BytesMut, event: &pb::ServerEvent) {
    let len = event.encoded_len();
    out.reserve(PREFIX + len);
    out.put_u8(0);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    // A `BytesMut` grows: encoding into it cannot fail.
    let _ = event.encode(out);
}

fn now() -> Option<prost_types::Timestamp> {
    let millis = SystemClock.now().0;
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or_default();
    Some(prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos })
}
