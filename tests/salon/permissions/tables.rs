//! The tables of `docs/permissions.md`, printed from the code; and a sample of each command.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use salon::{
    clock::Timestamp,
    domain::{
        approval::Approval,
        autopilot::{AutopilotInput, Control, Mode, OnHuman, OnRestart, Step},
        command::{Command, JoinProfile, RunOutcome},
        event::NewRoom,
        llm::{ChatStyle, LlmConfig, Run, RunEnd, RunReport},
        permissions::{
            Action, Least,
            commands::{By, Needs, row},
        },
        room::{Profile, Role, Visibility},
        settings::SettingsPatch,
        summary::Summary,
    },
    ids::{ApprovalId, AutopilotId, InvitationId, LlmId, MessageId, PollId, RoomId, Seq},
};
use uuid::Uuid;

use super::world::{poll, say, user};

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The lines of a table of the document, with its heading.
fn lines(mark: &str) -> Vec<String> {
    let text = read("docs/permissions.md");
    let (_, behind) = text.split_once(&format!("<!-- {mark} -->")).unwrap_or_else(|| panic!("no {mark}"));
    behind.trim_start().lines().take_while(|line| line.starts_with('|')).map(Into::into).collect()
}

/// Its rows, each as its cells.
pub fn rows(mark: &str) -> Vec<Vec<String>> {
    let cells =
        |line: &String| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines(mark).iter().skip(2).map(cells).collect()
}

fn name(least: Least) -> &'static str {
    match least {
        Least::Role(Role::Viewer) => "VIEWER",
        Least::Role(Role::Member) => "MEMBER",
        Least::Role(Role::Admin) => "ADMIN",
        Least::Nobody => "nobody",
    }
}

#[test]
fn the_table_of_actions_is_printed_from_the_code() {
    let mut expected = vec![
        "| action | public room | private room | a room may set |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    for action in Action::ALL {
        let all =
            [Role::Viewer, Role::Member, Role::Admin].map(Least::Role).into_iter().chain([Least::Nobody]);
        let may: Vec<&str> = all.filter(|least| action.check_least(*least).is_ok()).map(name).collect();
        let may = if may.is_empty() { "–".to_owned() } else { may.join(", ") };
        let [public, private] = [Visibility::Public, Visibility::Private].map(|v| name(action.least(v)));
        expected.push(format!("| {action:?} | {public} | {private} | {may} |"));
    }
    assert_eq!(lines("actions"), expected, "\n{}\n", expected.join("\n"));
}

#[test]
fn the_table_of_commands_is_printed_from_the_code() {
    let mut expected = vec!["| command | takes | also by |".to_owned(), "|---|---|---|".to_owned()];
    for command in samples() {
        let row = row(&command);
        let takes = match row.needs {
            Needs::Itself => "–".to_owned(),
            Needs::Server => "the server only".to_owned(),
            Needs::AnyOf(actions) => {
                actions.iter().map(|action| format!("{action:?}")).collect::<Vec<_>>().join(" or ")
            }
        };
        let by = match row.by {
            By::Alone => "–",
            By::Voters => "LLMs, tools",
        };
        expected.push(format!("| {} | {takes} | {by} |", row.name));
    }
    assert_eq!(lines("commands"), expected, "\n{}\n", expected.join("\n"));
}

/// The commands there are, read from the source: what the compiler cannot list.
pub fn variants() -> BTreeSet<String> {
    let source = read("src/domain/command.rs");
    let (_, behind) = source.split_once("pub enum Command {").unwrap();
    let (inside, _) = behind.split_once("\n}\n").unwrap();
    let is_variant =
        |line: &&str| line.starts_with("    ") && line.as_bytes().get(4).is_some_and(u8::is_ascii_uppercase);
    let name = |line: &str| line.trim().split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
    inside.lines().filter(is_variant).map(name).collect()
}

pub fn llm(id: &str) -> LlmConfig {
    LlmConfig {
        id: LlmId::parse(id).unwrap(),
        model: String::new(),
        persona: String::new(),
        display_name: id.into(),
        title: String::new(),
        chat_style: ChatStyle::Unspecified,
        avatar: String::new(),
        allowed_tools: Vec::new(),
        fallback_models: Vec::new(),
    }
}

pub fn approval_id() -> ApprovalId {
    ApprovalId(Uuid::from_u128(2))
}

pub fn approval(message_id: MessageId, at: Timestamp) -> Command {
    Command::RequestApproval(Approval {
        id: approval_id(),
        message_id,
        llm_id: LlmId::parse("ada").unwrap(),
        tool: "files__read".into(),
        arguments: "{}".into(),
        asked_by: Some(user("who")),
        expires_at: at.plus(Duration::from_secs(60)),
    })
}

pub fn invite() -> Command {
    Command::CreateInvitation { expires_in: None, role: Role::Viewer, for_user: None }
}

pub fn start() -> Command {
    Command::StartAutopilot(AutopilotInput {
        mode: Mode::RoundRobin,
        topic: "Tea?".into(),
        llms: Vec::new(),
        moderator: None,
        max_turns: 1,
        on_human: OnHuman::Steer,
        on_restart: OnRestart::Stop,
    })
}

fn run() -> Run {
    Run {
        message_id: MessageId(Uuid::nil()),
        llm_id: LlmId::parse("ada").unwrap(),
        llm_name: String::new(),
        reply_to: MessageId(Uuid::nil()),
        poll_id: None,
        chain_depth: 0,
        asked_by: None,
        started_at: Timestamp::default(),
        replaces: None,
        turn: None,
        model: String::new(),
    }
}

/// Each command, in the order of the document; those that take something else when they say something else, twice.
pub fn samples() -> Vec<Command> {
    let (message_id, poll_id) = (MessageId(Uuid::nil()), PollId(Uuid::nil()));
    let (reason, model, content) = (String::new, String::new(), String::new());
    let autopilot = AutopilotId(Uuid::nil());
    let ada = || LlmId::parse("ada").unwrap();
    let update = |name: Option<&str>| Command::UpdateRoom {
        name: name.map(Into::into),
        description: Some("About".into()),
        visibility: None,
        settings: SettingsPatch::default(),
    };
    let remove = |ban| Command::RemoveMember { user_id: user("eve"), ban, reason: reason() };
    let profile = Profile {
        name: "Room".into(),
        description: String::new(),
        visibility: Visibility::Public,
        settings: Default::default(),
    };
    let room = NewRoom { id: RoomId::parse("room").unwrap(), profile, created_by: None, llms: Vec::new() };
    let outcome = RunOutcome {
        message_id,
        end: RunEnd::Completed,
        text: String::new(),
        mentions: Vec::new(),
        outside: Vec::new(),
        report: RunReport::default(),
    };
    let summary = Summary { text: String::new(), up_to: Seq(1), model: String::new(), outside: Vec::new() };
    vec![
        Command::CreateRoom(room),
        Command::Join(JoinProfile::default()),
        Command::Leave,
        say("hello"),
        Command::EditMessage { message_id, content, regenerate: false },
        Command::DeleteMessage { message_id },
        Command::React { message_id, emoji: String::new(), add: true },
        Command::Regenerate { message_id, model },
        Command::DecideApproval { id: approval_id(), approve: true, reason: reason() },
        start(),
        Command::ControlAutopilot { control: Control::Stop, reason: reason() },
        Command::AddLlm(llm("ada")),
        Command::UpdateLlm { llm_id: ada(), patch: Default::default() },
        Command::RemoveLlm(ada()),
        poll(),
        Command::CastVote { poll_id, options: Vec::new(), reason: reason() },
        Command::RetractVote(poll_id),
        Command::ClosePoll(poll_id),
        update(None),
        update(Some("New")),
        Command::UpdateMember { user_id: user("eve"), role: Role::Viewer },
        remove(false),
        remove(true),
        Command::MuteMember { user_id: user("eve"), duration: Duration::ZERO, reason: reason() },
        invite(),
        Command::RevokeInvitation(InvitationId::parse("0").unwrap()),
        Command::EndRoom { reason: reason() },
        Command::StartRun(run()),
        Command::StartTurn(autopilot, run()),
        Command::FinishRun(outcome),
        Command::Abstain { poll_id, llm_id: ada(), reason: reason() },
        approval(message_id, Timestamp::default()),
        Command::ExpireApproval(approval_id()),
        Command::RecordSummary { summary, read_at: Seq(1) },
        Command::StepAutopilot(autopilot, Step::Restarted),
    ]
}
