//! What can be asked of a room, and by whom.

use std::time::Duration;

use crate::{
    domain::{
        approval::Approval,
        autopilot::{AutopilotInput, Control, Step},
        event::NewRoom,
        invitation::SecretHash,
        llm::{LlmConfig, LlmPatch, Run, RunEnd, RunReport},
        message::Author,
        room::{Role, Visibility},
        settings::SettingsPatch,
        summary::Summary,
    },
    ids::{ApprovalId, AutopilotId, InvitationId, LlmId, MessageId, OptionId, PollId, Seq, UserId},
};

/// On whose authority a command is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person, with the rights of their role.
    User(UserId),
    /// An LLM of the room, with its own few rights.
    Llm(LlmId),
    /// An LLM of the room that does by a tool what only people may: with the rights of the person it acts for.
    Tool {
        /// Who acts.
        llm: LlmId,
        /// On whose behalf.
        asked_by: UserId,
    },
    /// The server: starting and ending answers, deadlines.
    Server,
}

impl Actor {
    /// The member who acts, if it is one.
    pub fn author(&self) -> Option<Author> {
        match self {
            Self::User(id) => Some(Author::User(id.clone())),
            Self::Llm(id) | Self::Tool { llm: id, .. } => Some(Author::Llm(id.clone())),
            Self::Server => None,
        }
    }
}

/// What a user says of themselves on joining, and what lets them in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinProfile {
    /// Empty: the user id.
    pub name: String,
    /// Only VIEWER is taken from a client; see [`crate::domain::decide`].
    pub role: Option<Role>,
    /// A few words under the name.
    pub title: String,
    /// An emoji or a URL.
    pub avatar: String,
    /// Of the secret of the invitation they come with.
    pub invitation: Option<SecretHash>,
    /// The role that a verified credential grants them here; never from what a client says.
    pub granted: Option<Role>,
}

/// An option of a poll that is to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionInput {
    /// What it says.
    pub text: String,
    /// More about it.
    pub description: String,
}

/// A poll that is to be created.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent choices of whoever asks, each named by its field"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollInput {
    /// What is asked.
    pub question: String,
    /// 2 to 20.
    pub options: Vec<OptionInput>,
    /// A ballot may name several.
    pub allow_multiple: bool,
    /// No voter leaves the server.
    pub anonymous: bool,
    /// LLMs may not opt out.
    pub mandatory: bool,
    /// No votes are shown before the end.
    pub hide_results: bool,
    /// The server closes it after this time.
    pub closes_in: Option<Duration>,
    /// Fewer ballots are no result; 0: any number is.
    pub quorum: u32,
    /// What from outside of the room went into its words, when an LLM has written them.
    pub outside: Vec<String>,
}

/// What a message is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageInput {
    /// The text.
    pub content: String,
    /// Empty: `text/plain`.
    pub content_type: String,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// Ids or names of LLMs to call besides those in the text.
    pub mentions: Vec<String>,
}

/// What a room is asked to do. Every variant that succeeds ends in zero or more lasting events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin the log.
    CreateRoom(NewRoom),
    /// Become a member, or come back.
    Join(JoinProfile),
    /// End one's membership.
    Leave,
    /// Say something.
    SendMessage(MessageInput),
    /// Replace the text of one's own message.
    EditMessage {
        /// Which.
        message_id: MessageId,
        /// The new text.
        content: String,
        /// Make its answers anew.
        regenerate: bool,
    },
    /// Make another answer in the place of this one.
    Regenerate {
        /// Which.
        message_id: MessageId,
        /// The model it is asked of; empty: the LLM's own.
        model: String,
    },
    /// Remove the text of a message.
    DeleteMessage {
        /// Which.
        message_id: MessageId,
    },
    /// Give or take back a reaction.
    React {
        /// To which message.
        message_id: MessageId,
        /// Which emoji.
        emoji: String,
        /// false: take it back.
        add: bool,
    },
    /// Add an LLM.
    AddLlm(LlmConfig),
    /// Change an LLM.
    UpdateLlm {
        /// Which.
        llm_id: LlmId,
        /// What.
        patch: LlmPatch,
    },
    /// Remove an LLM.
    RemoveLlm(LlmId),
    /// Ask everybody.
    CreatePoll(PollInput),
    /// Set one's ballot.
    CastVote {
        /// In which poll.
        poll_id: PollId,
        /// The whole ballot.
        options: Vec<OptionId>,
        /// Why.
        reason: String,
    },
    /// Take back one's ballot.
    RetractVote(PollId),
    /// End a poll.
    ClosePoll(PollId),
    /// Change name, description or visibility.
    UpdateRoom {
        /// See [`crate::domain::room::Profile::name`].
        name: Option<String>,
        /// See [`crate::domain::room::Profile::description`].
        description: Option<String>,
        /// See [`crate::domain::room::Profile::visibility`].
        visibility: Option<Visibility>,
        /// See [`crate::domain::room::Profile::settings`].
        settings: SettingsPatch,
    },
    /// Approve or deny a call of a tool.
    DecideApproval {
        /// Which.
        id: ApprovalId,
        /// It may be called.
        approve: bool,
        /// Why.
        reason: String,
    },
    /// Let LLMs talk among themselves.
    StartAutopilot(AutopilotInput),
    /// Stop, pause or resume that.
    ControlAutopilot {
        /// What.
        control: Control,
        /// Why.
        reason: String,
    },
    /// Change a member's role.
    UpdateMember {
        /// Whose.
        user_id: UserId,
        /// To what.
        role: Role,
    },
    /// Remove, ban or unban a member.
    RemoveMember {
        /// Whom.
        user_id: UserId,
        /// For good.
        ban: bool,
        /// Why.
        reason: String,
    },
    /// For some time a member may only read.
    MuteMember {
        /// Whom.
        user_id: UserId,
        /// From now; zero: they may write again.
        duration: Duration,
        /// Why.
        reason: String,
    },
    /// Make what lets somebody in.
    CreateInvitation {
        /// For how long; `None`: the usual time.
        expires_in: Option<Duration>,
        /// What it makes of who comes with it.
        role: Role,
        /// Only this user; `None`: anybody.
        for_user: Option<UserId>,
    },
    /// Make an invitation let nobody in any more.
    RevokeInvitation(InvitationId),
    /// End the room.
    EndRoom {
        /// Why.
        reason: String,
    },
    /// Begin an answer.
    StartRun(Run),
    /// Begin an answer that is a turn of this autopilot.
    StartTurn(AutopilotId, Run),
    /// End an answer.
    FinishRun(RunOutcome),
    /// An LLM that was asked to vote will not be heard.
    Abstain {
        /// In which poll.
        poll_id: PollId,
        /// Who.
        llm_id: LlmId,
        /// Why, for everybody to see.
        reason: String,
    },
    /// Ask the room whether a tool may be called.
    RequestApproval(Approval),
    /// Nobody has decided in time.
    ExpireApproval(ApprovalId),
    /// Keep a summary.
    RecordSummary {
        /// What a model has written.
        summary: Summary,
        /// The position of the room before its messages were read for it.
        read_at: Seq,
    },
    /// Move this autopilot on; one that is not there any more moves no other.
    StepAutopilot(AutopilotId, Step),
}

/// How an answer ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutcome {
    /// Which answer.
    pub message_id: MessageId,
    /// How it ended.
    pub end: RunEnd,
    /// The authoritative text; empty: nothing is said.
    pub text: String,
    /// Other LLMs it called by a tool.
    pub mentions: Vec<LlmId>,
    /// What from outside of the room went into it.
    pub outside: Vec<String>,
    /// Cost and timing.
    pub report: RunReport,
}
