//! What nodes tell one another over a bus; as bytes in [`codec`].
//!
//! It is made of frames, which are encoded once and told as they are, and of what delivery must know of them without
//! reading them.

pub mod codec;
mod error;
pub mod presence;

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    domain::{
        event::{Event, MemberChange, Recorded},
        llm::{ActiveAnswer, LiveAnswer},
        permissions::Overrides,
        room::Role,
    },
    ids::{ConnectionId, LlmId, MessageId, Seq, UserId},
    wire::{hint::presence::PresenceHint, reply::Dialect},
};

/// Events of a log, ready to be sent: each framed, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// Position of the first.
    pub first: Seq,
    /// Position of the last.
    pub last: Seq,
    /// The frames of `first..=last`.
    pub frames: Bytes,
    /// What the events are, as far as delivery must know; in order, shared by all sessions.
    pub notes: Arc<[Note]>,
}

impl LogBatch {
    /// Whether every event is a change of a membership: these are merged in large rooms.
    pub fn is_membership(&self) -> bool {
        let members = self.notes.iter().filter(|note| matches!(note, Note::Membership { .. })).count();
        u64::try_from(members).is_ok_and(|members| self.last == self.first.plus(members).before())
    }
}

/// What delivery must know of a lasting event without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// An answer began.
    RunStarted(ActiveAnswer),
    /// An answer ended: late chunks of it are dropped.
    RunEnded(MessageId),
    /// Every stream must end.
    RoomEnded,
    /// A membership changed: in large rooms these are merged, and whoever is no member any more must go.
    Membership {
        /// Whose.
        user: UserId,
        /// How.
        change: MemberChange,
        /// The role now.
        role: Role,
        /// Until when the member can only read.
        muted_until: Option<Timestamp>,
    },
    /// Who may do what changed.
    Permissions(Overrides),
}

impl Note {
    /// What delivery must know of this event at this position, if anything.
    pub fn of(seq: Seq, recorded: &Recorded) -> Option<Self> {
        match &recorded.event {
            Event::RunStarted(run) => {
                let answer = LiveAnswer {
                    message_id: run.message_id,
                    llm_id: run.llm_id.clone(),
                    reply_to: run.reply_to,
                    text: String::new(),
                    started_at: run.started_at,
                };
                Some(Self::RunStarted(ActiveAnswer { answer, seq }))
            }
            Event::RunEnded { run, .. } => Some(Self::RunEnded(run.message_id)),
            Event::RoomEnded { .. } => Some(Self::RoomEnded),
            Event::MemberChanged { member, change, .. } => {
                let (role, muted_until) = (member.role, member.muted_until);
                Some(Self::Membership { user: member.id.clone(), change: *change, role, muted_until })
            }
            Event::RoomUpdated(profile) => Some(Self::Permissions(profile.settings.permissions.clone())),
            Event::RoomCreated(_)
            | Event::RoomActivated
            | Event::MessageSuperseded { .. }
            | Event::RegenerateRequested { .. }
            | Event::VoteAbstained { .. }
            | Event::ApprovalRequested(_)
            | Event::ApprovalDecided { .. }
            | Event::ContextSummarised(_)
            | Event::AutopilotChanged(_)
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
}

/// Something that is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transient {
    /// The framed event.
    pub frame: Bytes,
    /// Who gets it.
    pub audience: Audience,
    /// What it is, as far as delivery must know.
    pub content: TransientContent,
}

impl Transient {
    /// The framed event as a stream that speaks `dialect` is told it.
    pub fn frame_for(&self, dialect: Dialect) -> &Bytes {
        match (&self.content, dialect) {
            (TransientContent::Error { original }, Dialect::Original) => original,
            (_, Dialect::Original | Dialect::V1) => &self.frame,
        }
    }
}

/// Who gets a transient event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Everybody in the room.
    Room,
    /// Everybody but this user.
    Others(UserId),
    /// Everybody but this connection.
    OtherConnections(ConnectionId),
    /// These users.
    Users(Arc<[UserId]>),
}

/// What a transient event is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransientContent {
    /// More text of an answer.
    Chunk {
        /// Which answer.
        message_id: MessageId,
        /// Where `text` begins, in bytes.
        offset: usize,
        /// What follows.
        text: String,
    },
    /// An error: for sessions of the original contract it is spelled like this.
    Error {
        /// The framed event.
        original: Bytes,
    },
    /// Anything else.
    Other,
}

/// What travels on a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusMessage {
    /// Lasting.
    Log(LogBatch),
    /// The log of the room reaches at least this position: in place of events that were too large or are lost.
    Reaches(Seq),
    /// Not stored.
    Transient(Transient),
    /// For the nodes that write answers in the room.
    Interrupt(Interrupt),
    /// Who is in the room on one node.
    Presence(PresenceHint),
}

/// Somebody wants answers to end, whichever node writes them. Told again it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupt {
    /// Of this LLM; `None`: of all.
    pub llm: Option<LlmId>,
    /// This one; `None`: all.
    pub message: Option<MessageId>,
    /// Who wants it.
    pub by: UserId,
    /// What was asked for behind this position is not meant.
    pub up_to: Seq,
}

impl Interrupt {
    /// Whether an answer of this LLM is meant.
    pub fn names(&self, llm: &LlmId, message: MessageId) -> bool {
        self.llm.as_ref().is_none_or(|id| id == llm) && self.message.is_none_or(|id| id == message)
    }
}
