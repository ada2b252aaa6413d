//! The lasting facts of a room.

use crate::{
    clock::Timestamp,
    domain::{
        approval::{Approval, Decided},
        autopilot::Autopilot,
        invitation::Invitation,
        llm::{LlmConfig, Run, RunEnd, RunReport},
        message::{Author, Message},
        poll::{Abstention, Ballot, Poll},
        room::{Member, Profile, Visibility},
        summary::Summary,
    },
    ids::{ApprovalId, EventId, InvitationId, LlmId, MessageId, OptionId, PollId, RoomId, Seq, UserId},
};

/// What a room is created with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoom {
    /// Its name for programs.
    pub id: RoomId,
    /// Name, description, visibility.
    pub profile: Profile,
    /// Who becomes ADMIN on joining.
    pub created_by: Option<UserId>,
    /// The LLMs it begins with.
    pub llms: Vec<LlmConfig>,
}

/// How a membership changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberChange {
    /// A new member.
    Joined,
    /// Name, title, avatar, role, or until when they are muted.
    Updated,
    /// By oneself.
    Left,
    /// By an ADMIN.
    Removed,
    /// By an ADMIN, for good.
    Banned,
    /// May join again.
    Unbanned,
}

/// A vote as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// In which poll.
    pub poll_id: PollId,
    /// Whose.
    pub voter: Author,
    /// Everything the voter has chosen now.
    pub ballot: Ballot,
    /// The newly chosen option this event is about.
    pub option: OptionId,
    /// What the voter has taken back.
    pub retracted: Vec<OptionId>,
}

/// One lasting fact. Its position and its id are the log's: see [`Recorded`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Always the first.
    RoomCreated(NewRoom),
    /// Somebody joined for the first time.
    RoomActivated,
    /// Name, description or visibility.
    RoomUpdated(Profile),
    /// Always the last.
    RoomEnded {
        /// Who ended it.
        by: Author,
        /// Why.
        reason: String,
    },
    /// A member joined, changed or went.
    MemberChanged {
        /// After the change.
        member: Member,
        /// What changed.
        change: MemberChange,
        /// Who did it, if not the member.
        by: Option<UserId>,
        /// Why.
        reason: String,
    },
    /// A message; `seq` and `at` inside it are those of the log.
    MessagePosted(Message),
    /// The text of a message was replaced.
    MessageEdited {
        /// Which.
        message_id: MessageId,
        /// Where it was said; zero in logs of servers that did not write it down.
        of: Seq,
        /// The new text.
        content: String,
        /// The LLMs it mentions now.
        mentions: Vec<LlmId>,
        /// Its answers are made anew.
        regenerate: bool,
        /// Who did it, if not the author.
        by: Option<UserId>,
    },
    /// The text of a message is gone.
    MessageDeleted {
        /// Which.
        message_id: MessageId,
        /// Where it was said; zero like that of an edit.
        of: Seq,
        /// Who did it.
        by: UserId,
    },
    /// An answer has another in its place: the new one, posted just before; or of a new one that is only a fragment, the
    /// whole one whose place it was to take.
    MessageSuperseded {
        /// Which.
        message_id: MessageId,
        /// Where it was said; zero like that of an edit.
        of: Seq,
        /// By which.
        by: MessageId,
    },
    /// Somebody wants another answer in the place of this one.
    RegenerateRequested {
        /// Which.
        message_id: MessageId,
        /// Who.
        by: UserId,
        /// The model it is asked of; empty: the LLM's own.
        model: String,
    },
    /// A reaction was given or taken back.
    ReactionChanged {
        /// To which message.
        message_id: MessageId,
        /// By whom.
        user: UserId,
        /// Which emoji.
        emoji: String,
        /// false: taken back.
        added: bool,
    },
    /// An invitation was made.
    InvitationCreated(Invitation),
    /// An invitation was used or revoked.
    InvitationClosed {
        /// Which.
        id: InvitationId,
        /// Who became a member by it.
        used_by: Option<UserId>,
        /// Who revoked it.
        revoked_by: Option<UserId>,
    },
    /// An LLM joined.
    LlmAdded(LlmConfig),
    /// An LLM changed; this is what it is now.
    LlmUpdated(LlmConfig),
    /// An LLM went.
    LlmRemoved(LlmId),
    /// A poll was opened.
    PollCreated(Poll),
    /// A voter chose an option.
    PollVoted(Vote),
    /// A voter took back the whole ballot.
    VoteRetracted {
        /// In which poll.
        poll_id: PollId,
        /// Who.
        voter: Author,
        /// What had been chosen.
        options: Vec<OptionId>,
    },
    /// A poll was closed; it is carried with its results.
    PollClosed {
        /// As it is now.
        poll: Poll,
        /// Who closed it; `None`: its deadline.
        by: Option<Author>,
        /// The name of who closed it.
        by_name: String,
    },
    /// An LLM that had to vote did not.
    VoteAbstained {
        /// In which poll.
        poll_id: PollId,
        /// Who, and why.
        abstention: Abstention,
    },
    /// A call of a tool waits for a decision.
    ApprovalRequested(Approval),
    /// It was decided.
    ApprovalDecided {
        /// Which.
        id: ApprovalId,
        /// What became of it.
        decided: Decided,
        /// Who approved or denied.
        by: Option<UserId>,
        /// Why.
        reason: String,
    },
    /// Messages that are too old for an LLM were summarised.
    ContextSummarised(Summary),
    /// An autopilot began, changed or ended; this is how it stands.
    AutopilotChanged(Autopilot),
    /// An LLM was asked.
    RunStarted(Run),
    /// An answer ended.
    RunEnded {
        /// Which.
        run: Run,
        /// How.
        end: RunEnd,
        /// Cost and timing.
        report: Box<RunReport>,
    },
}

/// What kind of event it is, for indexes and for merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message: what history pages through.
    Message,
    /// A membership: what large rooms merge.
    Membership,
    /// Anything else.
    Other,
}

impl Event {
    /// Whether a later command's decision may depend on this event.
    ///
    /// Messages, edits and reactions do not: a busy conversation never makes a vote or a removal conflict. The start
    /// of an answer does: ending the room closes every open answer, and must not miss one begun on another node.
    pub fn moves_fence(&self) -> bool {
        match self {
            Self::MessagePosted(_)
            | Self::MessageEdited { .. }
            | Self::MessageDeleted { .. }
            | Self::MessageSuperseded { .. }
            | Self::RegenerateRequested { .. }
            | Self::ContextSummarised(_)
            | Self::ReactionChanged { .. } => false,
            Self::RoomCreated(_)
            | Self::RoomActivated
            | Self::RoomUpdated(_)
            | Self::RoomEnded { .. }
            | Self::MemberChanged { .. }
            | Self::InvitationCreated(_)
            | Self::InvitationClosed { .. }
            | Self::LlmAdded(_)
            | Self::LlmUpdated(_)
            | Self::LlmRemoved(_)
            | Self::PollCreated(_)
            | Self::PollVoted(_)
            | Self::VoteRetracted { .. }
            | Self::PollClosed { .. }
            | Self::VoteAbstained { .. }
            | Self::ApprovalRequested(_)
            | Self::ApprovalDecided { .. }
            | Self::AutopilotChanged(_)
            | Self::RunStarted(_)
            | Self::RunEnded { .. } => true,
        }
    }

    /// What kind of event it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::MessagePosted(_) => Kind::Message,
            Self::MemberChanged { .. } => Kind::Membership,
            Self::RoomCreated(_)
            | Self::RoomActivated
            | Self::RoomUpdated(_)
            | Self::RoomEnded { .. }
            | Self::MessageEdited { .. }
            | Self::MessageDeleted { .. }
            | Self::ReactionChanged { .. }
            | Self::InvitationCreated(_)
            | Self::InvitationClosed { .. }
            | Self::LlmAdded(_)
            | Self::LlmUpdated(_)
            | Self::LlmRemoved(_)
            | Self::PollCreated(_)
            | Self::PollVoted(_)
            | Self::VoteRetracted { .. }
            | Self::PollClosed { .. }
            | Self::MessageSuperseded { .. }
            | Self::RegenerateRequested { .. }
            | Self::VoteAbstained { .. }
            | Self::ApprovalRequested(_)
            | Self::ApprovalDecided { .. }
            | Self::ContextSummarised(_)
            | Self::AutopilotChanged(_)
            | Self::RunStarted(_)
            | Self::RunEnded { .. } => Kind::Other,
        }
    }

    /// The message or poll this event is about, if it is about one: reading all events about an id gives that
    /// message or poll as it is now.
    pub fn subject(&self) -> Option<uuid::Uuid> {
        match self {
            Self::MessagePosted(message) => Some(message.id.0),
            Self::MessageEdited { message_id, .. }
            | Self::MessageDeleted { message_id, .. }
            | Self::MessageSuperseded { message_id, .. }
            | Self::ReactionChanged { message_id, .. } => Some(message_id.0),
            Self::PollCreated(poll) | Self::PollClosed { poll, .. } => Some(poll.id.0),
            // Ballots are in the poll's closing event; until then the poll is in the room's state.
            Self::PollVoted(_) | Self::VoteRetracted { .. } => None,
            Self::RoomCreated(_)
            | Self::RoomActivated
            | Self::RoomUpdated(_)
            | Self::RoomEnded { .. }
            | Self::MemberChanged { .. }
            | Self::InvitationCreated(_)
            | Self::InvitationClosed { .. }
            | Self::LlmAdded(_)
            | Self::LlmUpdated(_)
            | Self::LlmRemoved(_)
            | Self::RegenerateRequested { .. }
            | Self::VoteAbstained { .. }
            | Self::ApprovalRequested(_)
            | Self::ApprovalDecided { .. }
            | Self::ContextSummarised(_)
            | Self::AutopilotChanged(_)
            | Self::RunStarted(_)
            | Self::RunEnded { .. } => None,
        }
    }
}

/// What lists of rooms need to know, kept beside the log by the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryChange {
    /// The room was created or changed.
    Room {
        /// To whom it is listed.
        visibility: Visibility,
        /// Who is listed it even before joining.
        created_by: Option<UserId>,
    },
    /// A user became a member.
    Joined(UserId),
    /// A user is no member any more.
    Left(UserId),
    /// An answer began.
    RunStarted(MessageId),
    /// An answer ended.
    RunEnded(MessageId),
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Position.
    pub seq: Seq,
    /// Unique; for a message its id.
    pub event_id: EventId,
    /// When it was accepted.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}
