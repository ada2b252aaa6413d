//! From a client's bytes to an event's bytes: done once, however many listen.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use salon::{
    clock::Timestamp,
    domain::{
        apply,
        command::{Actor, Command, JoinProfile, MessageInput},
        decide::{self, Context, Facts, NewEvent},
        event::{Event, NewRoom, Recorded},
        limits::Limits,
        room::{Profile, Room, Visibility},
    },
    ids::{EventId, RoomId, Seq, UserId},
    wire::{command, encode, frame, pb::room::v1 as pb},
};
use uuid::Uuid;

use crate::Repeat;

const AT: Timestamp = Timestamp(1_700_000_000_000);
const MEMBERS: usize = 100;
/// More than a room keeps in memory, so that each message pushes one out.
const SAID_BEFORE: usize = 100;
const SENDER: &str = "user-50";

/// A message is read from the bytes of a stream.
pub(crate) fn read_command() -> Repeat {
    let send = pb::SendMessage { content: text(), ..Default::default() };
    let message = pb::ClientMessage {
        payload: Some(pb::client_message::Payload::Message(send)),
        request_id: "01978c4e-5f4b-7000-8000-00000000beef".into(),
    };
    let bytes: Bytes = message.encode_to_vec().into();
    Box::new(move |_| {
        black_box(command::read(black_box(&bytes)).unwrap());
    })
}

/// It is decided that a message is said.
pub(crate) fn decide_message() -> Repeat {
    let mut table = Table::new();
    Box::new(move |_| {
        black_box(table.decide(SENDER, send()));
    })
}

/// An event becomes bytes, with its position.
pub(crate) fn encode_event() -> Repeat {
    let mut table = Table::new();
    let new = table.decide(SENDER, send()).remove(0);
    let recorded = table.apply(new);
    Box::new(move |_| {
        black_box(framed(black_box(&table.room), black_box(&recorded)));
    })
}

/// All of it, as a room does for each message.
pub(crate) fn decide_apply_encode() -> Repeat {
    let mut table = Table::new();
    Box::new(move |_| {
        let new = table.decide(SENDER, send()).remove(0);
        let recorded = table.apply(new);
        black_box(framed(&table.room, &recorded));
    })
}

fn send() -> Command {
    Command::SendMessage(MessageInput {
        content: text(),
        content_type: String::new(),
        reply_to: None,
        mentions: Vec::new(),
    })
}

fn text() -> String {
    "x".repeat(200)
}

fn framed(room: &Room, recorded: &Recorded) -> Bytes {
    let stored = encode::event(room, recorded).public;
    let mut frames = BytesMut::with_capacity(frame::stored_len(&stored, recorded.seq));
    frame::put_stored(&mut frames, &stored, recorded.seq);
    frames.freeze()
}

/// A room with its members, in which much was said.
struct Table {
    room: Room,
    limits: Limits,
    ids: u128,
}

impl Table {
    fn new() -> Self {
        let profile = Profile {
            name: "Guards".into(),
            description: String::new(),
            visibility: Visibility::Public,
            settings: Default::default(),
        };
        let id = RoomId::parse("guards").unwrap();
        let event = Event::RoomCreated(NewRoom { id, profile, created_by: None, llms: Vec::new() });
        let room =
            apply::create(&Recorded { seq: Seq(1), event_id: EventId(Uuid::from_u128(1)), at: AT, event });
        let mut table = Self { room: room.unwrap(), limits: Limits::default(), ids: 1 };
        for member in 0..MEMBERS {
            table.carry_out(&format!("user-{member}"), Command::Join(JoinProfile::default()));
        }
        for message in 0..SAID_BEFORE {
            table.carry_out(&format!("user-{}", message % MEMBERS), send());
        }
        table
    }

    fn decide(&mut self, who: &str, command: Command) -> Vec<NewEvent> {
        let ids = &mut self.ids;
        let mut context = Context {
            at: AT,
            limits: &self.limits,
            facts: &Facts::default(),
            new_id: &mut || {
                *ids += 1;
                Uuid::from_u128(*ids)
            },
            secret: None,
        };
        let actor = Actor::User(UserId::parse(who).unwrap());
        decide::decide(&self.room, &actor, command, &mut context).unwrap().events
    }

    fn apply(&mut self, NewEvent { event_id, event }: NewEvent) -> Recorded {
        let recorded = Recorded { seq: self.room.seq.next(), event_id, at: AT, event };
        apply::apply(&mut self.room, &recorded);
        recorded
    }

    fn carry_out(&mut self, who: &str, command: Command) {
        for new in self.decide(who, command) {
            self.apply(new);
        }
    }
}
