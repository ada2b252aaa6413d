//! What a server says, found in the bytes by the numbers of its fields.
//!
//! No message is built: of an event that came to ten thousand sessions each copy is looked at, and only for its kind and
//! the digits in its text. What cannot be read is told as such; fields that are not known are passed by.

use std::time::Duration;

use crate::wire::pb::room::v1 as pb;

/// What an event is, by its field in `ServerEvent`.
pub(super) mod kind {
    /// `room_state`: a join is done.
    pub(in crate::cli::bench) const ROOM_STATE: u32 = 1;
    /// `message_received`.
    pub(in crate::cli::bench) const MESSAGE: u32 = 2;
    /// `llm_chunk`.
    pub(in crate::cli::bench) const CHUNK: u32 = 6;
    /// `llm_done`.
    pub(in crate::cli::bench) const DONE: u32 = 7;
    /// `error`.
    pub(in crate::cli::bench) const ERROR: u32 = 9;
    /// `ack`.
    pub(in crate::cli::bench) const ACK: u32 = 20;
    /// `resumed`: a join that continues is done.
    pub(in crate::cli::bench) const RESUMED: u32 = 32;
    /// `closing`.
    pub(in crate::cli::bench) const CLOSING: u32 = 34;
}

/// The envelope's own fields begin here.
const ENVELOPE: u32 = 100;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Event<'a> {
    /// Which: the number of its field; 0: none.
    pub kind: u32,
    /// What is in it.
    pub body: &'a [u8],
    /// The request that it answers.
    pub request_id: &'a [u8],
    /// Its position in the log.
    pub seq: u64,
}

impl<'a> Event<'a> {
    /// Reads `message`; none: it is no message of protobuf.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let mut event = Self::default();
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (100, Value::Bytes(id)) => event.request_id = id,
                (101, Value::Number(seq)) => event.seq = seq,
                (field, Value::Bytes(body)) if field < ENVELOPE => (event.kind, event.body) = (field, body),
                _ => {}
            }
        }
        Some(event)
    }

    /// The text of a `message_received`.
    pub(super) fn text(&self) -> Option<&'a [u8]> {
        bytes(bytes(self.body, 1)?, 5)
    }

    /// The code and the words of an `error`.
    pub(super) fn error(&self) -> (String, String) {
        let text = |field| {
            let text = bytes(self.body, field).unwrap_or_default();
            crate::cli::text::line(&String::from_utf8_lossy(text))
        };
        (text(1), text(2))
    }

    /// How long an `error` asks to wait.
    pub(super) fn retry_after(&self) -> Duration {
        Duration::from_millis(number(self.body, 21))
    }

    /// The reason of a `closing`, in words.
    pub(super) fn closing(&self) -> String {
        let number = number(self.body, 1);
        let reason = i32::try_from(number).ok().and_then(|number| pb::ClosingReason::try_from(number).ok());
        let reason = reason.map_or_else(|| number.to_string(), |reason| reason.as_str_name().to_owned());
        let words = String::from_utf8_lossy(bytes(self.body, 2).unwrap_or_default()).into_owned();
        let words = crate::cli::text::line(&words);
        format!("closed by the server: {reason}{}{words}", if words.is_empty() { "" } else { ", " })
    }
}

/// The first field of this number that holds bytes.
pub(super) fn bytes(message: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match value {
            Value::Bytes(bytes) if field == wanted => return Some(bytes),
            _ => {}
        }
    }
    None
}

/// The first field of this number that holds a number; 0: there is none.
pub(super) fn number(message: &[u8], wanted: u32) -> u64 {
    let mut fields = Fields(message);
    while let Some(Some((field, value))) = fields.next() {
        match value {
            Value::Number(number) if field == wanted => return number,
            _ => {}
        }
    }
    0
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field: `Some(None)` at the end, `None` where it cannot be read.
    #[expect(clippy::option_option, reason = "`?` ends on what cannot be read, and a loop on the end")]
    fn next(&mut self) -> Option<Option<(u32, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => self.skip(4)?,
            _ => return None,
        };
        Some(Some((field, value)))
    }

    fn skip(&mut self, length: usize) -> Option<Value<'a>> {
        self.0 = self.0.get(length..)?;
        Some(Value::Fixed)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::pb::room::v1::server_event::Payload;

    fn event(payload: Payload, request_id: &str, seq: u64) -> Vec<u8> {
        let at = Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 });
        let event_id = "01890000-0000-7000-8000-000000000000".to_owned();
        let request_id = request_id.into();
        pb::ServerEvent { payload: Some(payload), request_id, seq, event_id, at, ..Default::default() }
            .encode_to_vec()
    }

    #[test]
    fn events_are_found_with_what_counts_of_them() {
        let message = pb::Message {
            message_id: "m".into(),
            sender_id: "ada".into(),
            sender_type: 1,
            content: "said".into(),
            seq: 3,
            ..Default::default()
        };
        let bytes = event(Payload::MessageReceived(pb::MessageReceived { message: Some(message) }), "", 300);
        let found = Event::read(&bytes).unwrap();
        assert_eq!((found.kind, found.seq, found.text()), (kind::MESSAGE, 300, Some(b"said".as_slice())));

        let bytes = event(Payload::Ack(pb::Ack { seq: 1, ..Default::default() }), "r1", 0);
        let found = Event::read(&bytes).unwrap();
        assert_eq!((found.kind, found.request_id), (kind::ACK, b"r1".as_slice()));

        let error = pb::Error {
            code: "rate_limited".into(),
            message: "too\u{1b}[2J fast".into(),
            retry_after_ms: 700,
            ..Default::default()
        };
        let bytes = event(Payload::Error(error), "r2", 0);
        let found = Event::read(&bytes).unwrap();
        assert_eq!((found.kind, found.request_id), (kind::ERROR, b"r2".as_slice()));
        assert_eq!(found.error(), ("rate_limited".to_owned(), "too fast".to_owned()));
        assert_eq!(found.retry_after(), Duration::from_millis(700));

        let closing = pb::Closing { reason: 5, message: "too\u{1b}[2J slow".into(), ..Default::default() };
        let bytes = event(Payload::Closing(closing), "", 0);
        let found = Event::read(&bytes).unwrap();
        let name = pb::ClosingReason::try_from(5).unwrap().as_str_name();
        assert_eq!(found.kind, kind::CLOSING);
        assert_eq!(found.closing(), format!("closed by the server: {name}, too slow"));
        let unknown = pb::Closing { reason: 4711, ..Default::default() };
        let bytes = event(Payload::Closing(unknown), "", 0);
        assert_eq!(Event::read(&bytes).unwrap().closing(), "closed by the server: 4711");
        for (payload, wanted) in [
            (Payload::RoomState(pb::RoomState::default()), kind::ROOM_STATE),
            (Payload::LlmChunk(pb::LlmChunk::default()), kind::CHUNK),
            (Payload::LlmDone(pb::LlmDone::default()), kind::DONE),
            (Payload::Resumed(pb::Resumed::default()), kind::RESUMED),
        ] {
            assert_eq!(Event::read(&event(payload, "", 1)).unwrap().kind, wanted);
        }
    }

    #[test]
    fn what_is_cut_or_no_message_is_not_read() {
        let payload = Some(Payload::Ack(pb::Ack { seq: 1, ..Default::default() }));
        let event = pb::ServerEvent { payload, request_id: "r1".into(), seq: 9, ..Default::default() };
        let bytes = event.encode_to_vec();
        let whole = Event::read(&bytes).unwrap();
        for end in 0..bytes.len() {
            assert_ne!(Event::read(&bytes[..end]), Some(whole), "{end}");
        }
        assert_eq!(Event::read(&[0xff; 20]), None);
        assert_eq!(Event::read(&[0x12, 0x7f, 0x00]), None);
        assert_eq!(Event::read(b""), Some(Event::default()));
    }
}
