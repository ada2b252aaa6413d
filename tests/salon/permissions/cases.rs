//! One command for each thing that can be allowed, and the actions it takes.

use std::time::Duration;

use salon::{
    domain::{
        autopilot::Control,
        command::{Actor, Command},
        permissions::Action::{self, *},
        room::Role,
        settings::SettingsPatch,
    },
    ids::{LlmId, MessageId, PollId},
};

use super::{
    tables,
    world::{World, poll, say, user},
};

/// A command and all that it takes.
#[derive(Debug)]
pub struct Case {
    pub what: &'static str,
    pub actor: Actor,
    pub command: Command,
    pub actions: Vec<Action>,
}

fn edit(message_id: MessageId, regenerate: bool) -> Command {
    Command::EditMessage { message_id, content: "bye".into(), regenerate }
}

fn remove(who: &str, ban: bool) -> Command {
    Command::RemoveMember { user_id: user(who), ban, reason: String::new() }
}

fn update(name: Option<&str>, description: Option<&str>) -> Command {
    Command::UpdateRoom {
        name: name.map(Into::into),
        description: description.map(Into::into),
        visibility: None,
        settings: SettingsPatch::default(),
    }
}

fn vote(world: &World, poll_id: PollId) -> Command {
    let options = vec![world.room.polls[&poll_id].options[1].id.clone()];
    Command::CastVote { poll_id, options, reason: String::new() }
}

pub fn cases(world: &World) -> Vec<Case> {
    let who = Actor::User(user("who"));
    let tool = Actor::Tool { llm: LlmId::parse("ada").unwrap(), asked_by: user("who") };
    let case = |what, command, actions: &[Action]| Case {
        what,
        actor: who.clone(),
        command,
        actions: actions.to_vec(),
    };
    let (own, other) = (world.own, world.other);
    let ada = || LlmId::parse("ada").unwrap();
    let eve = || user("eve");
    let mute =
        Command::MuteMember { user_id: eve(), duration: Duration::from_secs(1), reason: String::new() };
    let react = Command::React { message_id: other.0, emoji: "+".into(), add: true };
    let decide = Command::DecideApproval { id: tables::approval_id(), approve: true, reason: String::new() };
    let control = Command::ControlAutopilot { control: Control::Stop, reason: String::new() };
    let demote = Command::UpdateMember { user_id: eve(), role: Role::Viewer };
    vec![
        case("post", say("hello"), &[Post]),
        case("call an LLM", say("@ada hello"), &[Post, MentionLlms]),
        case("react", react, &[React]),
        case("edit one's own", edit(own.0, false), &[ChangeOwn]),
        case("ask anew by an edit", edit(own.0, true), &[ChangeOwn, DirectLlms]),
        case("edit another's", edit(other.0, false), &[EditOthers]),
        case("delete another's", Command::DeleteMessage { message_id: other.0 }, &[ModerateMessages]),
        case(
            "regenerate",
            Command::Regenerate { message_id: world.answer, model: String::new() },
            &[DirectLlms],
        ),
        case("decide a call", decide, &[DirectLlms]),
        case("start an autopilot", tables::start(), &[DirectLlms]),
        case("stop an autopilot", control, &[DirectLlms]),
        case("add an LLM", Command::AddLlm(tables::llm("bot")), &[ManageLlms]),
        case("change an LLM", Command::UpdateLlm { llm_id: ada(), patch: Default::default() }, &[ManageLlms]),
        case("remove an LLM", Command::RemoveLlm(ada()), &[ManageLlms]),
        case("ask a poll", poll(), &[CreatePolls]),
        Case { what: "a poll by a tool", actor: tool, command: poll(), actions: vec![RunTools, CreatePolls] },
        case("vote", vote(world, other.1), &[Vote]),
        case("take a vote back", Command::RetractVote(other.1), &[Vote]),
        case("close another's poll", Command::ClosePoll(other.1), &[ClosePolls]),
        case("describe", update(None, Some("About")), &[Describe]),
        case("rename", update(Some("New"), None), &[ChangeRoom]),
        case("change a role", demote, &[ChangeRoles]),
        case("remove", remove("eve", false), &[Kick]),
        case("mute", mute, &[Kick]),
        case("ban", remove("eve", true), &[Ban]),
        case("let in again", remove("bad", false), &[Ban]),
        case("invite", tables::invite(), &[Invite]),
        case("revoke another's", Command::RevokeInvitation(world.other_invitation.clone()), &[Kick]),
        case("end", Command::EndRoom { reason: String::new() }, &[EndRoom]),
        case("read", Command::Leave, &[Read]),
    ]
}
