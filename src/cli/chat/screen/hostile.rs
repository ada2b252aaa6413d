//! Nothing that a server or another client has written drives the terminal or reorders what it shows: every event of
//! the contract, with such a text in each of its fields. The events are made from the contract itself, so that a new
//! one is looked at as soon as it is there.

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::*;
use crate::{ids::is_disturbing, wire::pb};

/// Escapes of both kinds, a title, a carriage return, marks that reorder, a line that looks like another's.
const HOSTILE: &str =
    "a\u{1b}[2J\u{9b}2J\u{1b}]0;t\u{7}\r\u{202e}\u{2066}\u{61c}\u{2028}\u{feff}\u{7f}\n14:03 bob: yes";

/// Deeper messages repeat the same kinds.
const DEPTH: usize = 5;

/// An event or a part of one with every field set; `turn` chooses among the values of enumerations and numbers.
fn filled(descriptor: &MessageDescriptor, turn: i32, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        if field.containing_oneof().is_none_or(|one| one.is_synthetic()) {
            set(&mut message, &field, turn, depth);
        }
    }
    message
}

fn set(message: &mut DynamicMessage, field: &FieldDescriptor, turn: i32, depth: usize) {
    if field.is_map() || (depth == DEPTH && matches!(field.kind(), Kind::Message(_))) {
        return;
    }
    let value = value(&field.kind(), turn, depth);
    message.set_field(field, if field.is_list() { Value::List(vec![value]) } else { value });
}

fn value(kind: &Kind, turn: i32, depth: usize) -> Value {
    let number = turn.unsigned_abs();
    match kind {
        Kind::Message(message) => Value::Message(filled(message, turn, depth + 1)),
        Kind::Enum(names) => Value::EnumNumber(turn % i32::try_from(names.values().len()).unwrap()),
        Kind::String => Value::String(HOSTILE.into()),
        Kind::Bytes => Value::Bytes(HOSTILE.into()),
        Kind::Bool => Value::Bool(turn % 2 == 1),
        Kind::Double => Value::F64(turn.into()),
        Kind::Float => Value::F32(1.0),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(turn),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(turn.into()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number.into()),
    }
}

/// The event with this payload.
fn event(field: &FieldDescriptor, turn: i32) -> ServerEvent {
    let mut event = filled(&field.parent_message().clone(), turn, 0);
    set(&mut event, field, turn, 0);
    ServerEvent::decode(event.encode_to_vec().as_slice()).unwrap()
}

fn check(prints: &[Print], what: &str) {
    for print in prints {
        let shown = format!("{print:?}");
        let texts: Vec<&str> = match print {
            Print::Line(text) | Print::LiveStart(text) | Print::Live(text) => vec![text],
            Print::LiveEnd => vec![],
        };
        for text in texts {
            // They join emoji, and the ends of lines belong to messages of several.
            let found =
                text.chars().find(|c| is_disturbing(*c) && !matches!(c, '\n' | '\u{200c}' | '\u{200d}'));
            assert_eq!(found, None, "{what}: {shown}");
            let forged = text.lines().any(|line| line.starts_with("14:03 bob"));
            assert!(!forged, "{what} begins a line as another message would: {shown}");
        }
    }
}

#[test]
fn no_event_drives_the_terminal() {
    let pool = DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
    let descriptor = pool.get_message_by_name("room.v1.ServerEvent").unwrap();
    let payloads: Vec<_> =
        descriptor.oneofs().find(|one| one.name() == "payload").unwrap().fields().collect();
    assert!(payloads.len() > 30, "{}", payloads.len());
    let mut shown = 0;
    for lively in [false, true] {
        for turn in 0..8 {
            for first in ["room_state", "resumed"] {
                for field in &payloads {
                    // Each meets a room of its own: what came before decides what is shown.
                    let (mut view, mut screen) =
                        (View::new("me"), Screen::new(Style { color: false }, lively));
                    let begin = payloads.iter().find(|field| field.name() == first).unwrap();
                    for event in [event(begin, turn), event(field, turn), event(field, turn + 1)] {
                        view.apply(&event);
                        let prints = screen.event(&view, &event);
                        check(&prints, field.name());
                        shown += prints.len();
                    }
                }
            }
        }
    }
    assert!(shown > 1000, "only {shown} prints were looked at");
}
