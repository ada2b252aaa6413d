//! What is done about the conduct of LLMs: other answers, approvals, summaries, autopilots.

use proptest::prelude::*;
use salon::{
    domain::{
        approval::Approval,
        autopilot::{AutopilotInput, Control, Mode, OnHuman, OnRestart, Step},
        command::Command,
        llm::Run,
        settings::{ResponsePolicy, SettingsPatch, TurnPolicy},
        summary::Summary,
    },
    ids::{ApprovalId, AutopilotId, MessageId, PollId, Seq},
};
use uuid::Uuid;

use super::{
    steps::{llm, user},
    world::World,
};

/// Numbers become what there is in the room when the step is made.
#[derive(Debug, Clone)]
pub enum Conduct {
    Settings { turns: u8, tools: Option<bool> },
    Regenerate { target: u8 },
    Replace { target: u8, llm: u8 },
    Turn { llm: u8, ahead: u32 },
    Request { run: u8 },
    Decide { approval: u8, approve: bool },
    Expire { approval: u8 },
    Abstain { poll: u8, llm: u8 },
    Summarise { back: u8 },
    Start { mode: u8, llms: u8, moderator: Option<u8>, on_human: bool, turns: u32 },
    Control { control: u8 },
    Step { step: u8, llm: u8 },
}

pub fn by_people() -> BoxedStrategy<Conduct> {
    prop_oneof![
        1 => (0..4_u8, prop::option::of(any::<bool>()))
            .prop_map(|(turns, tools)| Conduct::Settings { turns, tools }),
        4 => any::<u8>().prop_map(|target| Conduct::Regenerate { target }),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(approval, approve)| Conduct::Decide { approval, approve }),
        4 => (0..5_u8, 0..4_u8, prop::option::weighted(0.3, 0..3_u8), any::<bool>(), 0..210_u32).prop_map(
            |(mode, llms, moderator, on_human, turns)| Conduct::Start { mode, llms, moderator, on_human, turns }
        ),
        2 => (0..3_u8).prop_map(|control| Conduct::Control { control }),
    ]
    .boxed()
}

pub fn by_the_server() -> BoxedStrategy<Conduct> {
    prop_oneof![
        4 => (any::<u8>(), 0..3_u8).prop_map(|(target, llm)| Conduct::Replace { target, llm }),
        3 => (0..3_u8, 0..3_u32).prop_map(|(llm, ahead)| Conduct::Turn { llm, ahead }),
        3 => any::<u8>().prop_map(|run| Conduct::Request { run }),
        1 => any::<u8>().prop_map(|approval| Conduct::Expire { approval }),
        2 => (any::<u8>(), 0..3_u8).prop_map(|(poll, llm)| Conduct::Abstain { poll, llm }),
        2 => (0..20_u8).prop_map(|back| Conduct::Summarise { back }),
        2 => (0..5_u8, 0..3_u8).prop_map(|(step, llm)| Conduct::Step { step, llm }),
    ]
    .boxed()
}

fn nth<T>(items: impl Iterator<Item = T>, n: u8) -> Option<T> {
    let items: Vec<T> = items.collect();
    let index = usize::from(n) % items.len().max(1);
    items.into_iter().nth(index)
}

fn approval(world: &World, n: u8) -> ApprovalId {
    nth(world.room().approvals.keys().copied(), n).unwrap_or(ApprovalId(Uuid::nil()))
}

/// The autopilot there is.
fn autopilot(world: &World) -> AutopilotId {
    world.room().autopilot.as_ref().map_or(AutopilotId(Uuid::nil()), |autopilot| autopilot.id)
}

fn answer(world: &World, n: u8) -> MessageId {
    let answers = world.model.messages.iter().filter(|m| m.from_run).map(|m| m.id);
    nth(answers, n).unwrap_or(MessageId(Uuid::nil()))
}

impl Conduct {
    pub fn command(&self, world: &World) -> Command {
        match self.clone() {
            Self::Settings { turns, tools } => settings(turns, tools),
            Self::Regenerate { target } => {
                Command::Regenerate { message_id: answer(world, target), model: "other".into() }
            }
            Self::Replace { target, llm } => {
                let replaces = Some(answer(world, target));
                Command::StartRun(Run { replaces, ..run(world, llm) })
            }
            Self::Turn { llm, ahead } => {
                let turns = world.room().autopilot.as_ref().map_or(0, |autopilot| autopilot.turns);
                Command::StartTurn(autopilot(world), Run { turn: Some(turns + ahead), ..run(world, llm) })
            }
            Self::Request { run } => Command::RequestApproval(Approval {
                id: ApprovalId(world.fresh_id()),
                message_id: nth(world.room().runs.keys().copied(), run).unwrap_or(MessageId(Uuid::nil())),
                llm_id: llm(run % 3),
                tool: "files__read".into(),
                arguments: "{}".into(),
                asked_by: Some(user(run % 4)),
                expires_at: world.now().plus(std::time::Duration::from_millis(500)),
            }),
            Self::Decide { approval: n, approve } => {
                Command::DecideApproval { id: approval(world, n), approve, reason: "because".into() }
            }
            Self::Expire { approval: n } => Command::ExpireApproval(approval(world, n)),
            Self::Summarise { back } => {
                let up_to = Seq(world.room().seq.0.saturating_sub(back.into()));
                let summary = Summary {
                    text: if back == 0 { String::new() } else { format!("It was about {back}.") },
                    up_to,
                    model: "small".into(),
                    outside: vec!["files__read".into()],
                };
                Command::RecordSummary { summary, read_at: up_to }
            }
            Self::Abstain { poll, llm: id } => Command::Abstain {
                poll_id: nth(world.room().polls.keys().copied(), poll).unwrap_or(PollId(Uuid::nil())),
                llm_id: llm(id),
                reason: "nobody could ask it".into(),
            },
            Self::Start { mode, llms, moderator, on_human, turns } => {
                start(mode, llms, moderator, on_human, turns)
            }
            Self::Control { control } => Command::ControlAutopilot {
                control: [Control::Stop, Control::Pause, Control::Resume][usize::from(control)],
                reason: String::new(),
            },
            Self::Step { step, llm: id } => Command::StepAutopilot(
                autopilot(world),
                match step {
                    0 => Step::Choose {
                        llm: llm(id),
                        instruction: "sum up".into(),
                        outside: vec!["web__find".into()],
                    },
                    1 => Step::Agree(llm(id)),
                    2 => Step::Pause { reason: "a pause".into() },
                    3 => Step::End { reason: "an end".into() },
                    _ => Step::Restarted,
                },
            ),
        }
    }
}

fn settings(turns: u8, tools: Option<bool>) -> Command {
    let settings = SettingsPatch {
        turns: [None, Some(TurnPolicy::Parallel), Some(TurnPolicy::Sequential), Some(TurnPolicy::LatestWins)]
            [usize::from(turns)],
        responses: tools.map(|_| ResponsePolicy::AddressedOnly),
        allowed_tools: tools.map(|good| vec![if good { "files__*" } else { "no tool" }.into()]),
        ..SettingsPatch::default()
    };
    Command::UpdateRoom { name: None, description: None, visibility: None, settings }
}

fn start(mode: u8, llms: u8, moderator: Option<u8>, on_human: bool, max_turns: u32) -> Command {
    Command::StartAutopilot(AutopilotInput {
        mode: [Mode::RoundRobin, Mode::Moderator, Mode::Debate, Mode::Relay, Mode::Consensus]
            [usize::from(mode)],
        topic: "Tea or coffee?".into(),
        llms: (0..llms).map(llm).collect(),
        moderator: moderator.map(llm),
        max_turns,
        on_human: if on_human { OnHuman::Pause } else { OnHuman::Steer },
        on_restart: if on_human { OnRestart::Continue } else { OnRestart::Stop },
    })
}

fn run(world: &World, llm_number: u8) -> Run {
    Run {
        message_id: MessageId(world.fresh_id()),
        llm_id: llm(llm_number),
        llm_name: String::new(),
        reply_to: MessageId(Uuid::nil()),
        poll_id: None,
        chain_depth: 0,
        asked_by: Some(user(0)),
        started_at: Default::default(),
        replaces: None,
        turn: None,
        model: "other".into(),
    }
}
