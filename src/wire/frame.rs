//! The bytes of a message on a gRPC stream: one byte of flags, four of length, the message.
//!
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message". The flags are always 0, "not compressed".

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{encode_key, encode_varint, encoded_len_varint, key_len},
};

use crate::{ids::Seq, wire::pb::room::v1 as pb};

/// Bytes before every message.
pub const PREFIX: usize = 5;

/// The number of `ServerEvent.seq`.
const SEQ_TAG: u32 = 101;
/// The number of `ServerEvent.filler`.
const FILLER_TAG: u32 = 104;

/// How small an event may be that comes in a stream of its kind, with its prefix; see [`filled`].
pub const LEAST: usize = 208;
/// What `filler` costs besides its zeros where they are fewer than 128: its number and its length. From there on the length
/// takes a byte more, and the event is a byte larger than it had to be.
const AROUND_FILLER: usize = 3;

/// Frames a message that is sent to one or a few.
pub fn frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + len);
    put_prefix(&mut out, len);
    // A `BytesMut` grows: encoding into it cannot fail.
    let _ = message.encode(&mut out);
    out.freeze()
}

/// Frames an event that comes in a stream of its kind, as large as [`LEAST`] at least.
///
/// The HTTP/2 library of Rust ends a connection on which many small frames wait unread: each costs what it lacks of 256
/// bytes, out of half of the connection's window. Where frames are large enough the window is full first, and the server
/// waits. One that lacks a few bytes becomes a few larger than it had to be.
pub fn filled(event: &pb::ServerEvent) -> Bytes {
    let len = event.encoded_len();
    let Some(lacks @ 1..) = LEAST.checked_sub(PREFIX + len) else { return frame(event) };
    let zeros = lacks.saturating_sub(AROUND_FILLER);
    let len = len + key_len(FILLER_TAG) + encoded_len_varint(as_u64(zeros)) + zeros;
    let mut out = BytesMut::with_capacity(PREFIX + len);
    put_prefix(&mut out, len);
    // A `BytesMut` grows: encoding into it cannot fail.
    let _ = event.encode(&mut out);
    encode_key(FILLER_TAG, prost::encoding::WireType::LengthDelimited, &mut out);
    encode_varint(as_u64(zeros), &mut out);
    out.put_bytes(0, zeros);
    out.freeze()
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Encodes an event as the store keeps it: without `seq`, which only the store knows.
pub fn stored(event: &pb::ServerEvent) -> Bytes {
    event.encode_to_vec().into()
}

/// Appends the frame of a stored event at its position.
///
/// A field appended to an encoded message is still that message, so the event is neither decoded nor encoded again.
pub fn put_stored(out: &mut BytesMut, stored: &[u8], seq: Seq) {
    let len = stored.len() + seq_len(seq);
    out.reserve(PREFIX + len);
    put_prefix(out, len);
    out.put_slice(stored);
    put_seq(out, seq);
}

/// How many bytes [`put_stored`] appends.
pub fn stored_len(stored: &[u8], seq: Seq) -> usize {
    PREFIX + stored.len() + seq_len(seq)
}

/// How long the frame at `at` is, with its prefix; `None`: there is no whole one.
pub fn len_at(frames: &[u8], at: usize) -> Option<usize> {
    let prefix: &[u8; PREFIX] = frames.get(at..)?.first_chunk()?;
    let [_, len @ ..] = prefix;
    let len = PREFIX + usize::try_from(u32::from_be_bytes(*len)).ok()?;
    (frames.len() - at >= len).then_some(len)
}

/// Where the frame behind the first `count` begins.
pub fn skip(frames: &[u8], count: u64) -> Option<usize> {
    (0..count).try_fold(0, |at, _| Some(at + len_at(frames, at)?))
}

/// Whether a whole frame, with its prefix, ends with this position, as [`put_stored`] makes it.
pub fn ends_with_seq(one: &[u8], seq: Seq) -> bool {
    let mut end = BytesMut::with_capacity(seq_len(seq));
    put_seq(&mut end, seq);
    one.first() == Some(&0) && one.get(PREFIX..).is_some_and(|message| message.ends_with(&end))
}

fn seq_len(seq: Seq) -> usize {
    key_len(SEQ_TAG) + encoded_len_varint(seq.0)
}

fn put_seq(out: &mut BytesMut, seq: Seq) {
    encode_key(SEQ_TAG, prost::encoding::WireType::Varint, out);
    encode_varint(seq.0, out);
}

fn put_prefix(out: &mut BytesMut, len: usize) {
    out.put_u8(0);
    // Events are bounded by the limits of their fields, far below 4 GiB.
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_event_is_that_event_with_zeros_and_never_too_small() {
        for id in 0..300 {
            let event = pb::ServerEvent { event_id: "e".repeat(id), seq: 7, ..Default::default() };
            let framed = filled(&event);
            let plain = frame(&event);
            assert!(framed.len() >= LEAST, "{id}");
            assert!(framed.len() <= LEAST.max(plain.len()) + AROUND_FILLER, "{id}: no more than it lacks");
            assert_eq!(len_at(&framed, 0), Some(framed.len()));
            let decoded = pb::ServerEvent::decode(&framed[PREFIX..]).unwrap();
            assert!(decoded.filler.iter().all(|byte| *byte == 0));
            assert_eq!(plain.len() >= LEAST, framed == plain, "{id}");
            assert_eq!(pb::ServerEvent { filler: Vec::new(), ..decoded }, event);
        }
    }

    #[test]
    fn a_stored_event_with_its_position_is_that_event() {
        let event = pb::ServerEvent { event_id: "e".into(), ..Default::default() };
        for seq in [1, 127, 128, 300, u64::MAX] {
            let mut framed = BytesMut::new();
            put_stored(&mut framed, &stored(&event), Seq(seq));
            assert_eq!(framed.len(), stored_len(&stored(&event), Seq(seq)));
            assert_eq!(framed[0], 0);
            let len = u32::from_be_bytes([framed[1], framed[2], framed[3], framed[4]]);
            assert_eq!(len as usize, framed.len() - PREFIX);
            let decoded = pb::ServerEvent::decode(&framed[PREFIX..]).unwrap();
            assert_eq!(decoded, pb::ServerEvent { seq, ..event.clone() });
        }
    }
}
