//! The rules of whose turn it is, by example and by random talks.

use proptest::prelude::*;

use super::*;
use crate::{
    clock::Timestamp,
    domain::{
        apply,
        event::{Event, MemberChange, NewRoom, Recorded},
        llm::{ChatStyle, LlmConfig, RunEnd},
        room::{Member, Profile, Role, Room, Visibility},
        settings::Settings,
    },
    ids::{EventId, RoomId, Seq},
};

fn llm(id: &str) -> LlmId {
    LlmId::parse(id).unwrap()
}

fn room(llms: &[&str]) -> Room {
    let config = |id: &&str| LlmConfig {
        id: llm(id),
        model: String::new(),
        persona: String::new(),
        display_name: (*id).to_owned(),
        title: String::new(),
        chat_style: ChatStyle::Unspecified,
        avatar: String::new(),
        allowed_tools: Vec::new(),
        fallback_models: Vec::new(),
    };
    let ann = Member {
        id: UserId::parse("ann").unwrap(),
        name: "Ann".into(),
        title: String::new(),
        avatar: String::new(),
        role: Role::Member,
        joined_at: Timestamp(0),
        muted_until: None,
    };
    let profile = Profile {
        name: "Test".into(),
        description: String::new(),
        visibility: Visibility::Public,
        settings: Settings::default(),
    };
    let id = RoomId::parse("r").unwrap();
    let new = NewRoom { id, profile, created_by: None, llms: llms.iter().map(config).collect() };
    let events = [
        Event::RoomCreated(new),
        Event::MemberChanged { member: ann, change: MemberChange::Joined, by: None, reason: String::new() },
    ];
    let recorded = events.into_iter().zip(1..).map(|(event, n)| Recorded {
        seq: Seq(n),
        event_id: EventId(uuid::Uuid::from_u128(n.into())),
        at: Timestamp(0),
        event,
    });
    apply::fold(&recorded.collect::<Vec<_>>()).unwrap()
}

fn pilot(mode: Mode, llms: &[&str], max_turns: u32) -> Autopilot {
    Autopilot {
        id: AutopilotId(uuid::Uuid::nil()),
        mode,
        status: Status::Running,
        topic: "tea".into(),
        llms: llms.iter().map(|id| llm(id)).collect(),
        moderator: (mode == Mode::Moderator).then(|| llm("mod")),
        max_turns,
        turns: 0,
        on_human: OnHuman::Steer,
        on_restart: OnRestart::Stop,
        started_by: UserId::parse("ann").unwrap(),
        reason: String::new(),
        chosen: None,
        instruction: String::new(),
        outside: Vec::new(),
        agreed: Vec::new(),
        last: None,
        failures: 0,
        message_id: MessageId(uuid::Uuid::nil()),
    }
}

fn taken(autopilot: &Autopilot, llm: &LlmId, end: RunEnd) -> Autopilot {
    let has_spoken = end == RunEnd::Completed;
    autopilot.after(&Taken {
        llm,
        name: llm.as_str(),
        turn: autopilot.turns + 1,
        end,
        has_spoken,
        why: "why",
    })
}

/// Every turn taken well: who, what, and why it was over.
fn play(mut autopilot: Autopilot, room: &Room) -> (Vec<(String, Kind)>, String) {
    let mut turns = Vec::new();
    loop {
        match autopilot.next(room) {
            Next::Turn(turn) => {
                turns.push((turn.llm.to_string(), turn.kind));
                autopilot = taken(&autopilot, &turn.llm, RunEnd::Completed);
            }
            Next::Over(reason) => return (turns, reason),
            Next::Wait => return (turns, format!("waits: {}", autopilot.reason)),
        }
    }
}

fn names(turns: &[(String, Kind)]) -> String {
    turns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_round_goes_in_order_and_passes_by_who_is_gone() {
    let all = room(&["a", "b", "c"]);
    let (turns, why) = play(pilot(Mode::RoundRobin, &["c", "a", "b"], 5), &all);
    assert_eq!((names(&turns).as_str(), why.as_str()), ("c a b c a", "all 5 turns were taken"));
    let (turns, _) = play(pilot(Mode::Relay, &["a", "b", "c"], 4), &room(&["a", "c"]));
    assert_eq!(names(&turns), "a c a c");
    assert!(turns.iter().all(|(_, kind)| *kind == Kind::Improve));
    let (turns, why) = play(pilot(Mode::RoundRobin, &["a"], 4), &room(&["b"]));
    assert_eq!((turns.len(), why.as_str()), (0, "no LLM of it is left in the room"));
    let behind_b = Autopilot { last: Some(llm("b")), ..pilot(Mode::RoundRobin, &["a", "b", "c"], 9) };
    assert!(matches!(behind_b.next(&room(&["a", "c"])), Next::Turn(turn) if turn.llm == llm("c")));
}

#[test]
fn sides_of_a_debate_alternate_and_everybody_sums_up() {
    let (turns, _) = play(pilot(Mode::Debate, &["a", "b", "c"], 8), &room(&["a", "b", "c"]));
    assert_eq!(names(&turns), "a b c b a a b c");
    let sides: Vec<Kind> = turns.iter().map(|(_, kind)| *kind).collect();
    let (pro, con) = (Kind::Argue(Side::For), Kind::Argue(Side::Against));
    assert_eq!(sides[..5], [pro, con, pro, con, pro]);
    let sums = [Side::For, Side::Against, Side::For].map(Kind::SumUp);
    assert_eq!(sides[5..], sums);
    let (short, _) = play(pilot(Mode::Debate, &["a", "b"], 3), &room(&["a", "b"]));
    assert!(short.iter().all(|(_, kind)| matches!(kind, Kind::Argue(_))), "{short:?}");
    let (turns, why) = play(pilot(Mode::Debate, &["a", "b"], 8), &room(&["a"]));
    assert_eq!((names(&turns).as_str(), why.as_str()), ("a", "one side of the debate has nobody left"));
}

#[test]
fn a_moderator_chooses_or_somebody_speaks_nevertheless() {
    let here = room(&["mod", "a", "b"]);
    let chosen = Autopilot {
        chosen: Some(llm("b")),
        instruction: "explain".into(),
        outside: vec!["web__find".into()],
        last: Some(llm("mod")),
        turns: 1,
        ..pilot(Mode::Moderator, &["a", "b"], 6)
    };
    let (turns, _) = play(chosen.clone(), &here);
    assert_eq!(names(&turns), "b mod b mod a", "chosen once, then nobody was");
    assert_eq!(turns[1].1, Kind::Choose);
    let after = taken(&chosen, &llm("b"), RunEnd::Completed);
    assert_eq!((after.chosen, after.instruction.as_str(), after.outside), (None, "", Vec::new()));
    let between = taken(&chosen, &llm("a"), RunEnd::Completed);
    assert_eq!(between.outside, ["web__find"], "as long as what was chosen");
    let (turns, why) = play(pilot(Mode::Moderator, &["a"], 6), &room(&["a"]));
    assert_eq!((turns.len(), why.as_str()), (0, "the moderator was removed from the room"));
}

#[test]
fn agreement_is_to_what_was_said_last() {
    let here = room(&["a", "b", "c"]);
    let (turns, why) = play(pilot(Mode::Consensus, &["a", "b", "c"], 4), &here);
    assert_eq!((names(&turns).as_str(), why.as_str()), ("a b c a", "no agreement within 4 turns"));
    let said = taken(&pilot(Mode::Consensus, &["a", "b", "c"], 9), &llm("a"), RunEnd::Completed);
    assert_eq!(said.agreed, [llm("a")]);
    let b_agrees = Autopilot { agreed: vec![llm("a"), llm("b")], ..said };
    let b_agrees = taken(&b_agrees, &llm("b"), RunEnd::Completed);
    assert_eq!(b_agrees.agreed, [llm("a"), llm("b")], "with a text or without");
    let c_silent = taken(&b_agrees, &llm("c"), RunEnd::OptedOut);
    assert!(
        matches!(c_silent.next(&here), Next::Turn(turn) if turn.llm == llm("c")),
        "who agrees is not asked"
    );
    let c_other = taken(&b_agrees, &llm("c"), RunEnd::Completed);
    assert_eq!(c_other.agreed, [llm("c")]);
    let all = Autopilot { agreed: vec![llm("a"), llm("b"), llm("c")], turns: 9, ..b_agrees.clone() };
    assert_eq!(all.next(&here), Next::Over("all agree".into()), "also with the last turn");
    assert_eq!(b_agrees.next(&room(&["a", "b"])), Next::Over("all agree".into()), "who is gone has no say");
}

#[test]
fn failures_in_a_row_and_budgets_pause_it() {
    let here = room(&["a", "b"]);
    let one = taken(&pilot(Mode::RoundRobin, &["a", "b"], 9), &llm("a"), RunEnd::Failed);
    assert_eq!((one.status, one.turns, one.failures), (Status::Running, 1, 1));
    let well = taken(&one, &llm("b"), RunEnd::Completed);
    assert_eq!(well.failures, 0);
    let two = taken(&one, &llm("b"), RunEnd::OptedOut);
    assert_eq!(two.next(&here), Next::Wait);
    assert_eq!(two.reason, "2 turns in a row came to nothing; the last, of b: why");
    let broke = taken(&well, &llm("a"), RunEnd::OverBudget);
    assert_eq!((broke.status, broke.reason.as_str()), (Status::Paused, "a budget is used up: why"));
    let stopped = Autopilot { status: Status::Paused, reason: "by Ann".into(), ..one };
    assert_eq!(taken(&stopped, &llm("b"), RunEnd::Failed).reason, "by Ann", "it is paused already");
}

#[test]
fn it_is_over_when_nobody_answers_for_it() {
    let mut here = room(&["a", "b"]);
    here.members.clear();
    let Next::Over(why) = pilot(Mode::RoundRobin, &["a", "b"], 9).next(&here) else { panic!("it goes on") };
    assert!(why.starts_with("nobody answers for it any more: "), "{why}");
}

proptest! {
    /// Whatever its turns come to, and whoever is removed: it is over or waits within its turns, only its own LLMs
    /// that are there take them, and nobody in a debate answers their own side before the last round.
    #[test]
    fn every_autopilot_ends(
        mode in 0..5_usize,
        max_turns in 1..40_u32,
        turns in prop::collection::vec((0..6_u8, 0..4_u8, 0..12_u8), 60),
    ) {
        let mode = [Mode::RoundRobin, Mode::Moderator, Mode::Debate, Mode::Relay, Mode::Consensus][mode];
        let all = ["a", "b", "c", "d"];
        let mut here = room(&["mod", "a", "b", "c", "d"]);
        let mut autopilot = pilot(mode, &all, max_turns);
        let mut taken_turns = 0;
        let mut last_side = None;
        for (end, choice, removed) in turns {
            if let Some(id) = all.get(usize::from(removed)) {
                here.llms.retain(|config| config.id != llm(id));
            }
            let turn = match autopilot.next(&here) {
                Next::Turn(turn) => turn,
                Next::Over(_) => return Ok(()),
                Next::Wait => {
                    prop_assert!(!autopilot.reason.is_empty());
                    autopilot = Autopilot { status: Status::Running, failures: 0, ..autopilot };
                    continue;
                }
            };
            taken_turns += 1;
            prop_assert!(taken_turns <= max_turns);
            prop_assert!(here.llm(&turn.llm).is_some());
            prop_assert_eq!(turn.kind == Kind::Choose, turn.llm == llm("mod"));
            prop_assert!(turn.kind == Kind::Choose || autopilot.llms.contains(&turn.llm));
            if let Kind::Argue(side) = turn.kind {
                prop_assert_ne!(last_side, Some(side));
                last_side = Some(side);
            }
            let chosen = llm(all[usize::from(choice)]);
            match turn.kind {
                Kind::Choose if end < 3 => autopilot.chosen = Some(chosen),
                Kind::Agree if end < 2 => autopilot.agreed.push(turn.llm.clone()),
                _ => {}
            }
            let ends = [RunEnd::Completed, RunEnd::Completed, RunEnd::OptedOut, RunEnd::Failed,
                RunEnd::TimedOut, RunEnd::OverBudget];
            autopilot = taken(&autopilot, &turn.llm, ends[usize::from(end)]);
            prop_assert_eq!(autopilot.turns, taken_turns);
        }
        // Sixty steps, of which at most a half are resumptions of what had failed.
        prop_assert!(taken_turns < max_turns || max_turns > 20);
    }
}
