//! What each command needs. A new command does not compile before it has its row here.
//!
//! Says what is needed to come with a command at all. Where several actions stand in a row one of them is enough, and
//! the rule of the command finds out which it must be: whether the message is one's own, for example.

use crate::domain::{
    command::Command,
    permissions::Action::{self, *},
    settings::SettingsPatch,
};

/// What it takes to come with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A rule of its own: it is for people who are perhaps no members yet.
    Itself,
    /// Membership, and one of these.
    AnyOf(&'static [Action]),
    /// It is the server's own.
    Server,
}

/// Who else than people may come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Nobody, or with [`Needs::Server`] the server only.
    Alone,
    /// LLMs of the room, for themselves or by a tool on behalf of a person; the server closes polls.
    Voters,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Of the command.
    pub name: &'static str,
    /// What it takes.
    pub needs: Needs,
    /// Who else may come with it.
    pub by: By,
}

/// The row of a command.
pub fn row(command: &Command) -> Row {
    use Needs::{AnyOf, Itself, Server};
    let (name, needs) = match command {
        Command::CreateRoom(_) => ("CreateRoom", Itself),
        Command::Join(_) => ("Join", Itself),
        Command::Leave => ("Leave", AnyOf(&[Read])),
        Command::SendMessage(_) => ("SendMessage", AnyOf(&[Post])),
        Command::EditMessage { .. } => ("EditMessage", AnyOf(&[ChangeOwn, EditOthers])),
        Command::DeleteMessage { .. } => ("DeleteMessage", AnyOf(&[ChangeOwn, ModerateMessages])),
        Command::React { .. } => ("React", AnyOf(&[Action::React])),
        Command::Regenerate { .. } => ("Regenerate", AnyOf(&[DirectLlms])),
        Command::DecideApproval { .. } => ("DecideApproval", AnyOf(&[DirectLlms])),
        Command::StartAutopilot(_) => ("StartAutopilot", AnyOf(&[DirectLlms])),
        Command::ControlAutopilot { .. } => ("ControlAutopilot", AnyOf(&[DirectLlms])),
        Command::AddLlm(_) => ("AddLlm", AnyOf(&[ManageLlms])),
        Command::UpdateLlm { .. } => ("UpdateLlm", AnyOf(&[ManageLlms])),
        Command::RemoveLlm(_) => ("RemoveLlm", AnyOf(&[ManageLlms])),
        Command::CreatePoll(_) => ("CreatePoll", AnyOf(&[CreatePolls])),
        Command::CastVote { .. } => ("CastVote", AnyOf(&[Vote])),
        Command::RetractVote(_) => ("RetractVote", AnyOf(&[Vote])),
        Command::ClosePoll(_) => ("ClosePoll", AnyOf(&[CreatePolls, ClosePolls])),
        Command::UpdateRoom { name, visibility, settings, .. } => {
            let describes = name.is_none() && visibility.is_none() && *settings == SettingsPatch::default();
            ("UpdateRoom", AnyOf(if describes { &[Describe] } else { &[ChangeRoom] }))
        }
        Command::UpdateMember { .. } => ("UpdateMember", AnyOf(&[ChangeRoles])),
        // Without `ban` it is also what lets somebody in again who was banned.
        Command::RemoveMember { ban, .. } => {
            ("RemoveMember", AnyOf(if *ban { &[Ban] } else { &[Kick, Ban] }))
        }
        Command::MuteMember { .. } => ("MuteMember", AnyOf(&[Kick])),
        Command::CreateInvitation { .. } => ("CreateInvitation", AnyOf(&[Invite])),
        Command::RevokeInvitation(_) => ("RevokeInvitation", AnyOf(&[Invite, Kick])),
        Command::EndRoom { .. } => ("EndRoom", AnyOf(&[Action::EndRoom])),
        Command::StartRun(_) => ("StartRun", Server),
        Command::StartTurn(..) => ("StartTurn", Server),
        Command::FinishRun(_) => ("FinishRun", Server),
        Command::Abstain { .. } => ("Abstain", Server),
        Command::RequestApproval(_) => ("RequestApproval", Server),
        Command::ExpireApproval(_) => ("ExpireApproval", Server),
        Command::RecordSummary { .. } => ("RecordSummary", Server),
        Command::StepAutopilot(..) => ("StepAutopilot", Server),
    };
    let by = match command {
        Command::CreatePoll(_)
        | Command::CastVote { .. }
        | Command::RetractVote(_)
        | Command::ClosePoll(_) => By::Voters,
        _ => By::Alone,
    };
    Row { name, needs, by }
}
