//! What is done, as small numbers that become ids and texts only when the room is known: what shrinks well is a
//! number, and an id of a message exists only after it was posted.

use std::time::Duration;

use salon::{
    clock::Timestamp,
    domain::{
        command::{Actor, Command, JoinProfile, MessageInput, OptionInput, PollInput, RunOutcome},
        event::NewRoom,
        llm::{ChatStyle, LlmConfig, LlmPatch, Run, RunEnd, RunReport, ToolUse},
        room::{Profile, Role, Visibility},
    },
    ids::{LlmId, MessageId, OptionId, PollId, RoomId, UserId},
};

use super::{conduct::Conduct, rights::Rights, world::World};

/// How a room begins.
#[derive(Debug, Clone)]
pub struct Opening {
    pub creator: Option<u8>,
    pub llms: u8,
}

impl Opening {
    pub fn room(&self) -> NewRoom {
        NewRoom {
            id: RoomId::parse("room").unwrap(),
            profile: Profile {
                name: "Room".into(),
                description: String::new(),
                visibility: Visibility::Public,
                settings: Default::default(),
            },
            created_by: self.creator.map(user),
            llms: (0..self.llms).map(|n| config(n, n)).collect(),
        }
    }
}

/// Below it a number means something that exists.
pub const KNOWN: u8 = 90;

/// One command of one actor.
#[derive(Debug, Clone)]
pub struct Step {
    pub actor: u8,
    pub op: Op,
}

/// Numbers named `target`, `poll` and `run` become ids by [`pick`].
#[derive(Debug, Clone)]
pub enum Op {
    Create,
    Join {
        role: Option<Role>,
        name: u8,
    },
    Leave,
    Send {
        text: u8,
        reply_to: Option<u8>,
        mention: Option<u8>,
    },
    Edit {
        target: u8,
        text: u8,
    },
    Delete {
        target: u8,
    },
    React {
        target: u8,
        emoji: u8,
        add: bool,
    },
    AddLlm {
        llm: u8,
        name: u8,
    },
    UpdateLlm {
        llm: u8,
        name: Option<u8>,
        model: Option<u8>,
    },
    RemoveLlm {
        llm: u8,
    },
    CreatePoll {
        options: usize,
        flags: u8,
        closes: bool,
    },
    Vote {
        poll: u8,
        options: Vec<u8>,
        reason: bool,
    },
    Retract {
        poll: u8,
    },
    ClosePoll {
        poll: u8,
    },
    UpdateRoom {
        name: Option<u8>,
        description: Option<u8>,
        private: Option<bool>,
    },
    UpdateMember {
        user: u8,
        role: Role,
    },
    RemoveMember {
        user: u8,
        ban: bool,
    },
    EndRoom,
    StartRun {
        llm: u8,
        target: u8,
        depth: u32,
        again: bool,
    },
    FinishRun {
        run: u8,
        text: u8,
        end: RunEnd,
        mention: Option<u8>,
    },
    Conduct(Conduct),
    Rights(Rights),
    /// A poll's deadline passes.
    Wait {
        seconds: u8,
    },
}

/// The first three who come; the third can only read.
pub fn arrivals() -> Vec<Step> {
    let join = |actor, role| Step { actor, op: Op::Join { role, name: actor } };
    vec![join(0, None), join(1, None), join(2, Some(Role::Viewer))]
}

impl Step {
    /// The command, for the room as it is now.
    pub fn command(&self, world: &World) -> (Actor, Command) {
        let actor = match self.actor {
            n @ 0..6 => Actor::User(user(n)),
            n @ 6..10 => Actor::Llm(llm(n - 6)),
            n @ 13..17 => Actor::Tool { llm: llm(n % 3), asked_by: user(n - 13) },
            _ => Actor::Server,
        };
        (actor, self.op.command(world))
    }
}

impl Op {
    fn command(&self, world: &World) -> Command {
        match self.clone() {
            Self::Create => Command::CreateRoom(Opening { creator: None, llms: 0 }.room()),
            Self::Join { role, name } => Command::Join(JoinProfile {
                name: if name == 0 { String::new() } else { format!("Name {name}") },
                role,
                title: format!("Title {name}"),
                avatar: "🦊".repeat(name.into()),
                ..JoinProfile::default()
            }),
            Self::Rights(rights) => rights.command(world),
            Self::Leave => Command::Leave,
            Self::Send { text, reply_to, mention } => send(world, text, reply_to, mention),
            Self::Edit { target, text: content } => Command::EditMessage {
                message_id: message(world, target),
                content: text(content),
                regenerate: content % 2 == 1,
            },
            Self::Delete { target } => Command::DeleteMessage { message_id: message(world, target) },
            Self::React { target, emoji, add } => Command::React {
                message_id: message(world, target),
                emoji: ["👍", "🎉", "👩‍💻", ""][usize::from(emoji)].into(),
                add,
            },
            Self::AddLlm { llm, name } => Command::AddLlm(config(llm, name)),
            Self::UpdateLlm { llm: id, name, model } => Command::UpdateLlm {
                llm_id: llm(id),
                patch: LlmPatch {
                    display_name: name.map(|n| format!("Bot {n}")),
                    model: model.map(|n| format!("model-{n}")),
                    ..LlmPatch::default()
                },
            },
            Self::RemoveLlm { llm: id } => Command::RemoveLlm(llm(id)),
            Self::CreatePoll { options, flags, closes } => Command::CreatePoll(input(options, flags, closes)),
            Self::Vote { poll: id, options, reason } => Command::CastVote {
                poll_id: poll(world, id),
                options: options.into_iter().map(|n| OptionId::at(usize::from(n))).collect(),
                reason: if reason { "because".into() } else { String::new() },
            },
            Self::Retract { poll: id } => Command::RetractVote(poll(world, id)),
            Self::ClosePoll { poll: id } => Command::ClosePoll(poll(world, id)),
            Self::UpdateRoom { name, description, private } => Command::UpdateRoom {
                name: name.map(|n| "R".repeat(usize::from(n))),
                description: description.map(|n| format!("About {n}")),
                visibility: private.map(|p| if p { Visibility::Private } else { Visibility::Public }),
                settings: Default::default(),
            },
            Self::UpdateMember { user: id, role } => Command::UpdateMember { user_id: user(id), role },
            Self::RemoveMember { user: id, ban } => {
                Command::RemoveMember { user_id: user(id), ban, reason: "spam".into() }
            }
            Self::EndRoom => Command::EndRoom { reason: "done".into() },
            Self::StartRun { llm: id, target, depth, again } => start(world, id, target, depth, again),
            Self::Conduct(conduct) => conduct.command(world),
            Self::FinishRun { run: id, text, end, mention } => finish(run(world, id), text, end, mention),
            // Nothing to do but to let time pass: the server closes the poll whose time has come, if any.
            Self::Wait { seconds } => {
                world.wait(Duration::from_secs(seconds.into()));
                Command::ClosePoll(poll(world, 0))
            }
        }
    }
}

fn start(world: &World, id: u8, target: u8, depth: u32, again: bool) -> Command {
    let message_id = if again { run(world, 0) } else { MessageId(world.fresh_id()) };
    Command::StartRun(Run {
        message_id,
        llm_id: llm(id),
        llm_name: String::new(),
        reply_to: message(world, target),
        poll_id: (depth % 2 == 1).then(|| poll(world, target)),
        chain_depth: depth,
        asked_by: (!depth.is_multiple_of(3)).then(|| user(id)),
        started_at: Default::default(),
        replaces: None,
        turn: None,
        model: String::new(),
    })
}

fn send(world: &World, content: u8, reply_to: Option<u8>, mention: Option<u8>) -> Command {
    Command::SendMessage(MessageInput {
        content: text(content),
        content_type: if content == 7 { "application/json".into() } else { String::new() },
        reply_to: reply_to.map(|target| message(world, target)),
        mentions: mention.map(|n| format!("Bot {n}")).into_iter().collect(),
    })
}

fn input(options: usize, flags: u8, closes: bool) -> PollInput {
    let option = |n| OptionInput { text: format!("Option {n}"), description: format!("As {n} says") };
    PollInput {
        question: "Where to?".into(),
        options: (0..options).map(option).collect(),
        allow_multiple: flags & 1 != 0,
        anonymous: flags & 2 != 0,
        mandatory: flags & 4 != 0,
        hide_results: flags & 8 != 0,
        closes_in: closes.then_some(Duration::from_secs(20)),
        quorum: u32::from(flags),
        outside: Vec::new(),
    }
}

fn finish(message_id: MessageId, content: u8, end: RunEnd, mention: Option<u8>) -> Command {
    Command::FinishRun(RunOutcome {
        message_id,
        end,
        text: text(content),
        mentions: mention.map(llm).into_iter().collect(),
        outside: vec!["files__read".into()],
        report: report(u32::from(content) + 1),
    })
}

/// Every field differs from every other.
fn report(n: u32) -> RunReport {
    RunReport {
        prompt_tokens: n * 10,
        completion_tokens: n * 10 + 1,
        cost_micros: u64::from(n * 10 + 4),
        first_token_ms: n * 10 + 2,
        duration_ms: n * 10 + 3,
        model: format!("model {n}"),
        provider: format!("provider {n}"),
        error_code: format!("code {n}"),
        error_message: format!("message {n}"),
        detail: format!("detail {n}"),
        tools: vec![ToolUse { tool: format!("tool {n}"), calls: n * 10 + 4, failures: n * 10 + 5 }],
        retry_at: n.is_multiple_of(2).then_some(Timestamp(i64::from(n))),
    }
}

pub fn user(n: u8) -> UserId {
    UserId::parse(&format!("user{n}")).unwrap()
}

pub fn llm(n: u8) -> LlmId {
    LlmId::parse(&format!("llm{n}")).unwrap()
}

fn config(id: u8, name: u8) -> LlmConfig {
    LlmConfig {
        allowed_tools: vec!["files__*".into()],
        fallback_models: vec!["local:small".into()],
        id: llm(id),
        model: format!("model {id}"),
        persona: format!("You are {name}.\nSpeak."),
        display_name: format!("Bot {name}"),
        title: format!("Title {name}"),
        chat_style: [
            ChatStyle::Unspecified,
            ChatStyle::Conversational,
            ChatStyle::Detailed,
            ChatStyle::Bullet,
        ][usize::from(id) % 4],
        avatar: "🦉".repeat(name.into()),
    }
}

fn text(n: u8) -> String {
    ["", "hello", "@llm0 hi", "@Bot 1, what of @llm0?", "@all", "`@all`", "@everyone @Bot_2", "@llm1 {}"]
        [usize::from(n)]
    .into()
}

fn message(world: &World, target: u8) -> MessageId {
    let posted: Vec<_> = world.model.messages.iter().map(|m| m.id).collect();
    MessageId(pick(&posted, target).map_or_else(|| world.fresh_id(), |id| id.0))
}

fn poll(world: &World, target: u8) -> PollId {
    let created: Vec<_> = world.model.polls.iter().map(|p| p.id).collect();
    PollId(pick(&created, target).map_or_else(|| world.fresh_id(), |id| id.0))
}

fn run(world: &World, target: u8) -> MessageId {
    let open: Vec<_> = world.model.runs.iter().filter(|run| run.ended == 0).map(|run| run.id).collect();
    MessageId(pick(&open, target).map_or_else(|| world.fresh_id(), |id| id.0))
}

/// One of what there is, counted backwards from the newest; for few numbers none.
fn pick<T: Copy>(ids: &[T], target: u8) -> Option<T> {
    if target >= KNOWN {
        return None;
    }
    ids.iter().rev().nth(usize::from(target).checked_rem(ids.len())?).copied()
}
