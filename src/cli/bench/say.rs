//! What the generator says: texts whose beginning tells who said them, the how manieth they are, and when they were due.
//!
//! A receiver needs nothing but these bytes to find loss, repetition, another order, and the time it took from when the
//! text was due, whether or not it could be sent then. A message is encoded once; for each that is sent only the digits
//! are written anew.

use prost::Message as _;

use super::protocol::prefixed;
use crate::wire::pb::room::v1::{self as pb, client_message::Payload};

/// The digits at the beginning of a text: 8 of the sender, 8 of its counter, 16 of the time in nanoseconds.
pub(super) const DIGITS: usize = 32;

/// What a text says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Who said it: a number among all senders.
    pub sender: u32,
    /// The how manieth of this sender, from 0.
    pub counter: u32,
    /// When it was due, in nanoseconds of the generator's clock.
    pub due: u64,
}

impl Header {
    /// The digits.
    pub(super) fn write(self) -> [u8; DIGITS] {
        let (sender, counter) = (u64::from(self.sender), u64::from(self.counter));
        let words = [sender << 32 | counter, self.due];
        let mut digits = [0; DIGITS];
        for (place, digit) in digits.iter_mut().enumerate() {
            let word = words.get(place / 16).copied().unwrap_or_default();
            let nibble = u8::try_from(word >> (60 - 4 * (place % 16)) & 0xf).unwrap_or_default();
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        digits
    }

    /// What the text that begins so says; none: it is not the generator's.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let digits = text.first_chunk::<DIGITS>()?;
        let (who, due) = digits.split_at_checked(16)?;
        let (who, due) = (hex(who)?, hex(due)?);
        Some(Self {
            sender: u32::try_from(who >> 32).ok()?,
            counter: u32::try_from(who & 0xffff_ffff).ok()?,
            due,
        })
    }
}

/// Sixteen digits.
fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(nibble))
    })
}

/// A message of the generator, ready but for its digits.
#[derive(Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    /// Where digits stand: in the text, and in the request's id if it has one.
    places: Vec<usize>,
}

/// Digits that nothing else in a message looks like.
const PLACEHOLDER: &str = "salon-bench-the-digits-stand-here";

impl Template {
    /// A `send_message` with a text of `payload` bytes, with its prefix. With `is_asked` it has a request's id, and
    /// these LLMs are called.
    pub(super) fn message(payload: usize, is_asked: bool, mentions: &[String]) -> Self {
        let placeholder = PLACEHOLDER.get(..DIGITS).unwrap_or_default();
        let message = pb::SendMessage {
            content: format!("{placeholder}{}", filler(payload)),
            mentions: mentions.to_vec(),
            ..Default::default()
        };
        let request_id = if is_asked { placeholder.to_owned() } else { String::new() };
        Self::of(&encode(Payload::Message(message), request_id))
    }

    /// The text alone, for a wire without messages.
    pub(super) fn text(payload: usize) -> Self {
        let placeholder = PLACEHOLDER.get(..DIGITS).unwrap_or_default();
        Self::of(format!("{placeholder}{}", filler(payload)).as_bytes())
    }

    fn of(bytes: &[u8]) -> Self {
        let placeholder = PLACEHOLDER.as_bytes().get(..DIGITS).unwrap_or_default();
        let places = bytes.windows(DIGITS).enumerate();
        let places = places.filter(|(_, window)| *window == placeholder).map(|(place, _)| place).collect();
        Self { bytes: bytes.to_vec(), places }
    }

    /// The message that says this.
    pub(super) fn with(&mut self, header: Header) -> &[u8] {
        let digits = header.write();
        for place in &self.places {
            if let Some(there) = self.bytes.get_mut(*place..*place + DIGITS) {
                there.copy_from_slice(&digits);
            }
        }
        &self.bytes
    }
}

/// What stands behind the digits.
fn filler(payload: usize) -> String {
    " the rest of the text has no meaning and only its length counts;"
        .chars()
        .cycle()
        .take(payload.saturating_sub(DIGITS))
        .collect()
}

/// The first message of a session, with its prefix.
pub(super) fn join(room: &str, user: &str, after_seq: Option<u64>) -> Vec<u8> {
    let join = pb::JoinRoom {
        room_id: room.to_owned(),
        user_id: user.to_owned(),
        display_name: user.to_owned(),
        after_seq,
        ..Default::default()
    };
    encode(Payload::Join(join), String::new())
}

fn encode(payload: Payload, request_id: String) -> Vec<u8> {
    let message = pb::ClientMessage { payload: Some(payload), request_id };
    let mut bytes = Vec::new();
    prefixed::push(&mut bytes, &message.encode_to_vec());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (sender, counter, due) in
            [(0, 0, 0), (1, 2, 3), (u32::MAX, u32::MAX, u64::MAX), (10, 255, 1 << 40)]
        {
            let header = Header { sender, counter, due };
            let text = header.write();
            assert_eq!(text, *format!("{sender:08x}{counter:08x}{due:016x}").as_bytes());
            assert_eq!(Header::read(&text), Some(header));
            assert_eq!(Header::read(&[&text, b" and more".as_slice()].concat()), Some(header));
        }
        for other in ["", "hello", "0000000000000000000000000000000", "0000000000000000000000000000000G"] {
            assert_eq!(Header::read(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_message_says_who_and_when_and_has_its_length() {
        for payload in [33, 34, 100, 16_384] {
            let mut template = Template::message(payload, true, &["guide".into()]);
            for header in [Header { sender: 1, counter: 2, due: 3 }, Header { sender: 9, counter: 8, due: 7 }]
            {
                let bytes = template.with(header).to_vec();
                let message = pb::ClientMessage::decode(&bytes[prefixed::PREFIX..]).unwrap();
                assert_eq!(Header::read(message.request_id.as_bytes()), Some(header));
                let Some(Payload::Message(said)) = message.payload else { panic!() };
                assert_eq!((said.content.len(), said.mentions), (payload, vec!["guide".to_owned()]));
                assert_eq!(Header::read(said.content.as_bytes()), Some(header));
            }
        }
        let mut original = Template::message(50, false, &[]);
        let bytes = original.with(Header { sender: 1, counter: 2, due: 3 });
        let message = pb::ClientMessage::decode(&bytes[prefixed::PREFIX..]).unwrap();
        assert_eq!(message.request_id, "");
        assert_eq!(Template::text(40).with(Header { sender: 1, counter: 2, due: 3 }).len(), 40);
    }
}
