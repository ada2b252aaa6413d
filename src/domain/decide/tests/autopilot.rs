//! Autopilots: what belongs to one moves no other.

use super::{
    runs::{finish, run},
    *,
};
use crate::{
    domain::{
        autopilot::{AutopilotInput, Control, Mode, OnHuman, OnRestart, Status, Step},
        llm::{Run, RunEnd},
    },
    ids::AutopilotId,
};

fn begin(table: &mut Table) -> (AutopilotId, MessageId) {
    let input = AutopilotInput {
        mode: Mode::RoundRobin,
        topic: "tea".into(),
        llms: Vec::new(),
        moderator: None,
        max_turns: 9,
        on_human: OnHuman::Steer,
        on_restart: OnRestart::Stop,
    };
    table.ok("bob", Command::StartAutopilot(input));
    let autopilot = table.room.autopilot.as_ref().unwrap();
    (autopilot.id, autopilot.message_id)
}

fn turn(of: AutopilotId, topic: MessageId, n: u128) -> Command {
    Command::StartTurn(of, Run { turn: Some(1), ..run(topic, "ada", n, 0) })
}

#[test]
fn what_belongs_to_an_old_one_does_not_move_the_new_one() {
    let mut table = Table::new();
    let (old, topic) = begin(&mut table);
    table.ok("bob", Command::ControlAutopilot { control: Control::Stop, reason: String::new() });
    let (new, _) = begin(&mut table);
    table.refused("server", turn(old, topic, 1), Code::NotFound, "another one");
    let end = || Step::End { reason: "done".into() };
    for step in [end(), Step::Agree(llm_id("ada")), Step::Pause { reason: "so".into() }, Step::Restarted] {
        table.refused("server", Command::StepAutopilot(old, step), Code::NotFound, "another one");
    }
    assert_eq!(table.room.autopilot.as_ref().unwrap().status, Status::Running);
    table.ok("server", Command::StepAutopilot(new, end()));
    table.refused("server", Command::StepAutopilot(new, end()), Code::NotFound, "not over");
}

#[test]
fn nobody_agrees_to_what_was_said_meanwhile() {
    let mut table = Table::new();
    let (id, topic) = begin(&mut table);
    table.ok("server", turn(id, topic, 1));
    table.at = table.at.plus(std::time::Duration::from_millis(5));
    let agree = || Command::StepAutopilot(id, Step::Agree(llm_id("ada")));
    let agreed = |table: &Table| table.room.autopilot.as_ref().unwrap().agreed.len();
    table.say("ann", "no, not at all");
    table.nothing("server", agree());
    assert_eq!(agreed(&table), 0);
    table.ok("server", finish(1, RunEnd::Completed, "so what"));
    let again = Run { turn: Some(2), ..run(topic, "ada", 2, 0) };
    table.ok("server", Command::StartTurn(id, again));
    table.ok("server", agree());
    assert_eq!(agreed(&table), 1);
}

#[test]
fn a_turn_is_taken_once_at_a_time() {
    let mut table = Table::new();
    let (id, topic) = begin(&mut table);
    table.ok("server", turn(id, topic, 1));
    table.refused("server", turn(id, topic, 2), Code::NotFound, "taken already");
    table.refused("ann", turn(id, topic, 2), Code::PermissionDenied, "only the server");
}
