//! Decisions as appends, and appends as what is published.

use bytes::{Bytes, BytesMut};

use crate::{
    bus::{LogBatch, Note},
    clock::Timestamp,
    domain::{
        apply,
        autopilot::Status,
        command::{Actor, Command},
        decide::{Aside, Decision, NewEvent},
        event::{DirectoryChange, Event, Kind, MemberChange, Recorded},
        message::Author,
        rejection::Rejection,
        room::Room,
    },
    ids::{MessageId, NodeId, Seq, UserId},
    rooms::{
        NO_ROOM,
        task::{JoinTask, Reply},
    },
    store::{Append, NewRecord},
    wire::{encode, frame, reply},
};

/// A decided command that waits for its append.
pub(super) struct Entry {
    pub(super) actor: Actor,
    pub(super) command: Command,
    pub(super) recorded: Vec<Recorded>,
    pub(super) append: Append,
    pub(super) asides: Vec<Aside>,
    pub(super) then: Then,
}

impl Entry {
    /// Whether the store may answer that this was appended before, and others may have been decided on its effects.
    pub(super) fn may_be_a_repeat_that_matters(&self) -> bool {
        self.append.idempotency.is_some() && self.append.records.iter().any(|record| record.moves_fence)
    }
}

/// What happens once a command is committed.
pub(super) enum Then {
    Reply(Reply),
    Join(Box<JoinTask>),
}

/// The append that creates a room.
pub(super) fn first_append(decision: Decision, at: Timestamp, node: NodeId) -> Result<Append, Rejection> {
    let mut events = decision.events.into_iter();
    let created = events.next().ok_or_else(reply::unavailable)?;
    let recorded = Recorded { seq: NO_ROOM.next(), event_id: created.event_id, at, event: created.event };
    let room = apply::create(&recorded).ok_or_else(reply::unavailable)?;
    Ok(Append {
        records: vec![record(&room, &recorded)],
        fence: Some(NO_ROOM),
        idempotency: None,
        directory: directory(&recorded.event),
        node,
    })
}

/// Applies new events to a room and encodes them.
pub(super) fn apply_and_encode(
    room: &mut Room,
    events: Vec<NewEvent>,
    at: Timestamp,
) -> (Vec<Recorded>, Vec<NewRecord>, Vec<DirectoryChange>) {
    let (mut done, mut records, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for NewEvent { event_id, event } in events {
        let recorded = Recorded { seq: room.seq.next(), event_id, at, event };
        changes.extend(directory_change(room, &recorded.event));
        apply::apply(room, &recorded);
        records.push(record(room, &recorded));
        done.push(recorded);
    }
    (done, records, changes)
}

fn record(after: &Room, recorded: &Recorded) -> NewRecord {
    let encode::Encoded { public, private } = encode::event(after, recorded);
    indexed(recorded, public, private)
}

/// An event with what the store must know of it, given its bytes.
pub(super) fn indexed(recorded: &Recorded, public: Bytes, private: Bytes) -> NewRecord {
    NewRecord {
        event_id: recorded.event_id,
        at: recorded.at,
        kind: recorded.event.kind(),
        sender: sender(&recorded.event),
        subject: recorded.event.subject(),
        moves_fence: recorded.event.moves_fence(),
        public,
        private,
    }
}

/// The user who wrote a message: for whom it is never unread.
fn sender(event: &Event) -> Option<UserId> {
    match (event.kind(), event) {
        (Kind::Message, Event::MessagePosted(message)) => match &message.author {
            Author::User(id) => Some(id.clone()),
            Author::Llm(_) => None,
        },
        _ => None,
    }
}

pub(super) fn directory(created: &Event) -> Vec<DirectoryChange> {
    match created {
        Event::RoomCreated(new) => vec![DirectoryChange::Room {
            visibility: new.profile.visibility,
            created_by: new.created_by.clone(),
        }],
        _ => Vec::new(),
    }
}

/// What lists of rooms must know of an event that comes next in the room `before`. Stores count members by it: each change
/// of a membership is told once, and nothing of somebody who is banned without ever having been here.
pub(super) fn directory_change(before: &Room, event: &Event) -> Option<DirectoryChange> {
    match event {
        Event::RoomUpdated(profile) => Some(DirectoryChange::Room {
            visibility: profile.visibility,
            created_by: before.created_by.clone(),
        }),
        Event::MemberChanged { member, change, .. } => {
            let (user, is_member) = (&member.id, before.members.contains_key(&member.id));
            match change {
                MemberChange::Joined => (!is_member).then(|| DirectoryChange::Joined(user.clone())),
                MemberChange::Left | MemberChange::Removed | MemberChange::Banned => {
                    is_member.then(|| DirectoryChange::Left(user.clone()))
                }
                MemberChange::Updated | MemberChange::Unbanned => None,
            }
        }
        Event::RunStarted(run) => Some(DirectoryChange::RunStarted(run.message_id)),
        Event::RunEnded { run, .. } => Some(DirectoryChange::RunEnded(run.message_id)),
        // Whoever starts the server again must find it, like an answer that is being written.
        Event::AutopilotChanged(autopilot) => Some(match autopilot.status {
            Status::Running | Status::Paused => DirectoryChange::RunStarted(MessageId(autopilot.id.0)),
            Status::Ended => DirectoryChange::RunEnded(MessageId(autopilot.id.0)),
        }),
        Event::RoomCreated(_)
        | Event::RoomActivated
        | Event::MessageSuperseded { .. }
        | Event::RegenerateRequested { .. }
        | Event::VoteAbstained { .. }
        | Event::ApprovalRequested(_)
        | Event::ApprovalDecided { .. }
        | Event::ContextSummarised(_)
        | Event::RoomEnded { .. }
        | Event::InvitationCreated(_)
        | Event::InvitationClosed { .. }
        | Event::MessagePosted(_)
        | Event::MessageEdited { .. }
        | Event::MessageDeleted { .. }
        | Event::ReactionChanged { .. }
        | Event::LlmAdded(_)
        | Event::LlmUpdated(_)
        | Event::LlmRemoved(_)
        | Event::PollCreated(_)
        | Event::PollVoted(_)
        | Event::VoteRetracted { .. }
        | Event::PollClosed { .. } => None,
    }
}

/// Committed events as batches for the bus. Membership events stand in batches of their own, so that large rooms can
/// merge them.
#[derive(Debug, Default)]
pub(super) struct Batches {
    done: Vec<LogBatch>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    first: Seq,
    last: Seq,
    membership: bool,
    frames: BytesMut,
    notes: Vec<Note>,
}

impl Batches {
    /// Adds the next event.
    pub(super) fn push(&mut self, seq: Seq, record: &NewRecord, recorded: &Recorded) {
        let membership = record.kind == Kind::Membership;
        if self.open.as_ref().is_some_and(|open| open.membership != membership || open.last.next() != seq) {
            self.close();
        }
        let open = self.open.get_or_insert_with(|| Open {
            first: seq,
            last: seq,
            membership,
            frames: BytesMut::new(),
            notes: Vec::new(),
        });
        open.last = seq;
        open.notes.extend(Note::of(seq, recorded));
        frame::put_stored(&mut open.frames, &record.public, seq);
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let Open { first, last, frames, notes, .. } = open;
            self.done.push(LogBatch { first, last, frames: frames.freeze(), notes: notes.into() });
        }
    }

    /// The batches, in order.
    pub(super) fn finish(mut self) -> Vec<LogBatch> {
        self.close();
        self.done
    }
}
