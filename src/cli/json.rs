//! Messages of the contract as canonical protobuf JSON: 64-bit numbers are strings, enums are their names. What could
//! drive a terminal or reorder what it shows is escaped.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::{cli::client::Error, ids::harmless_json, wire::pb};

/// Writes messages of one type as single lines of JSON.
#[derive(Debug)]
pub struct Printer {
    descriptor: MessageDescriptor,
}

impl Printer {
    /// For the message with this full name, for example `room.v1.ServerEvent`.
    pub fn new(message: &str) -> Result<Self, Error> {
        let unreadable = |error: String| Error::Answer(format!("{message}: {error}"));
        let pool = DescriptorPool::decode(pb::DESCRIPTORS).map_err(|error| unreadable(error.to_string()))?;
        let descriptor =
            pool.get_message_by_name(message).ok_or_else(|| unreadable("is not in the contract".into()))?;
        Ok(Self { descriptor })
    }

    /// One message on one line, without the line's end.
    pub fn line(&self, message: &impl Message) -> Result<String, Error> {
        let bytes = message.encode_to_vec();
        let dynamic = DynamicMessage::decode(self.descriptor.clone(), bytes.as_slice())
            .map_err(|error| Error::Answer(error.to_string()))?;
        let line = serde_json::to_string(&dynamic).map_err(|error| Error::Answer(error.to_string()))?;
        Ok(harmless_json(&line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::room::v1::{MemberChange, MemberChanged, ServerEvent, server_event::Payload};

    #[test]
    fn an_event_is_canonical_json_on_one_line() {
        let event = ServerEvent {
            seq: 9_007_199_254_740_993,
            payload: Some(Payload::MemberChanged(MemberChanged {
                change: MemberChange::Banned.into(),
                reason: "two\nlines\u{1b}[31m\u{9b}31m\u{202e}\u{7f}".into(),
                ..Default::default()
            })),
            at: Some(prost_types::Timestamp { seconds: 1, nanos: 5_000_000 }),
            ..Default::default()
        };
        let line = Printer::new("room.v1.ServerEvent").unwrap().line(&event).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "seq": "9007199254740993",
            "at": "1970-01-01T00:00:01.005Z",
            "memberChanged": { "change": "MEMBER_CHANGE_BANNED", "reason": "two\nlines\u{1b}[31m\u{9b}31m\u{202e}\u{7f}" },
        });
        assert_eq!(value, expected);
        assert!(!line.chars().any(crate::ids::is_disturbing), "{line}");
    }

    #[test]
    fn a_message_outside_the_contract_is_an_error() {
        assert!(Printer::new("room.v1.Nothing").is_err());
    }
}
