//! Messages of clients, from their bytes to the room they leave behind.
//!
//! An input is a list of steps: one byte that says who and when, then a `ClientMessage`. Whatever is in it, the room
//! keeps its rules, its log reads back as it was, and no refusal carries what could disturb a log or a terminal.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use salon::{
    domain::{
        apply,
        command::{Actor, Command},
        decide::{self, Facts, Lookup},
        event::Recorded,
        message::Message,
        poll::Poll,
        rejection::Rejection,
        room::Room,
    },
    ids::{MessageId, PollId, is_disturbing},
    wire::{
        command::{self, Request},
        decode, encode, snapshot,
    },
};

use super::opening::{Table, USERS, user};

/// More steps find nothing that fewer do not.
const STEPS: usize = 64;

/// What has left the state is read from the store: here, from what the state once was.
#[derive(Default)]
struct Known {
    messages: BTreeMap<MessageId, Message>,
    polls: BTreeMap<PollId, Poll>,
}

/// Feeds a room.
pub fn commands(data: &[u8]) {
    let table = play(data);
    assert_eq!(apply::fold(&table.log).as_ref(), Some(&table.room), "the fold of the log");
    assert_eq!(
        snapshot::decode(&snapshot::encode(&table.room)).unwrap(),
        table.room,
        "a snapshot is the state"
    );
}

/// The room and its log behind all steps.
pub fn play(data: &[u8]) -> Table {
    let mut table = Table::laid();
    let mut known = Known::default();
    known.learn(&table);
    for piece in super::pieces(data).into_iter().take(STEPS) {
        let Some((who, message)) = piece.split_first() else { continue };
        let name = USERS[usize::from(*who) % USERS.len()];
        table.now = table.now.plus(Duration::from_secs(u64::from(*who) / 6));
        match command::read(&Bytes::copy_from_slice(message)) {
            Err(unreadable) => check_rejection(&unreadable.rejection),
            Ok(inbound) => match inbound.request {
                Request::Join(join) => {
                    let who = join.user_id.map_or_else(|| user(name), Actor::User);
                    step(&mut table, &mut known, &who, Command::Join(join.profile));
                }
                Request::Command(command) => step(&mut table, &mut known, &user(name), command),
                Request::Leave { keep_membership: false } => {
                    step(&mut table, &mut known, &user(name), Command::Leave);
                }
                // What is not stored changes no room.
                _ => {}
            },
        }
    }
    table
}

fn step(table: &mut Table, known: &mut Known, actor: &Actor, command: Command) {
    let mut facts = Facts::default();
    match decide::lookup(&table.room, &command) {
        Some(Lookup::Message(id)) => facts.message = known.messages.get(&id).cloned(),
        Some(Lookup::Poll(id)) => facts.poll = known.polls.get(&id).cloned(),
        None => {}
    }
    match table.decide(actor, command, &facts) {
        Err(rejection) => check_rejection(&rejection),
        Ok(decision) => {
            table.append(decision, check_event);
            known.learn(table);
        }
    }
    assert_eq!(table.room.broken_invariant(), None);
    assert!(table.room.llms.len() <= table.limits.llms_per_room);
    assert!(table.room.members.len() <= table.limits.members_per_room);
}

/// What is stored of an event is all of it.
fn check_event(after: &Room, recorded: &Recorded) {
    let encoded = encode::event(after, recorded);
    let read = decode::event(recorded.seq, &encoded.public, &encoded.private).unwrap();
    assert_eq!(&read, recorded, "an event reads back as it was");
}

/// A refusal goes to the client, to its terminal, and to the log.
fn check_rejection(rejection: &Rejection) {
    assert!(!rejection.message.is_empty());
    let disturbing = rejection.message.chars().find(|c| is_disturbing(*c));
    assert_eq!(disturbing, None, "{:?}", rejection.message);
}

impl Known {
    fn learn(&mut self, table: &Table) {
        self.messages.extend(table.room.recent.iter().map(|message| (message.id, message.clone())));
        self.polls.extend(table.room.polls.iter().map(|(id, poll)| (*id, poll.clone())));
    }
}
