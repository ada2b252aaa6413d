//! People beside an autopilot: they stop, pause, resume and steer it, and remove who takes part.

use salon::llm::{
    Finish, Turn,
    scripted::{Call, Script, ScriptedProvider, Step},
};

use super::*;
use crate::harness::{Setup, until};

/// A server whose model the test plays, with the autopilot running.
async fn running(start: pb::StartAutopilot) -> (TestServer, String, Session, Script) {
    let (provider, script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["a", "b", "c"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.command(Say::StartAutopilot(start)).await.unwrap();
    (server, room, ann, script)
}

/// The next turn: of whom, with what it has begun to say.
async fn begins(script: &mut Script, name: &str) -> Call {
    let mut call = script.next_call().await.unwrap();
    assert_eq!(call.request.display_name, name);
    call.text(format!("{name} begins")).await;
    call
}

async fn done(session: &mut Session) -> pb::LlmDone {
    let of = |payload: &Payload| match payload {
        Payload::LlmDone(done) => Some(done.clone()),
        _ => None,
    };
    session.pick(of).await
}

#[tokio::test]
async fn stop_ends_it_at_once_and_keeps_what_was_said() {
    let (server, room, mut ann, mut script) = running(start(Mode::RoundRobin, &[], 9)).await;
    begins(&mut script, "a").await.done(Finish::Stop).await;
    let call = begins(&mut script, "b").await;
    let chunk = |payload: &Payload| match payload {
        Payload::LlmChunk(chunk) => (chunk.llm_id == "b").then_some(()),
        _ => None,
    };
    ann.pick(chunk).await;
    assert_eq!(done(&mut ann).await.reason(), pb::LlmDoneReason::Completed);
    control(&mut ann, Action::Stop).await.unwrap();
    call.cancelled().await;
    let end = done(&mut ann).await;
    assert_eq!((end.reason(), end.detail.as_str()), (pb::LlmDoneReason::Interrupted, "stopped by ann"));
    until("the end of all answers", || server.run_count() == 0).await;
    let log = server.log(&room).await;
    assert_eq!(turns(&log), "a b");
    let partial = log.iter().find_map(|event| match &event.payload {
        Some(Payload::MessageReceived(received)) => received.message.clone().filter(|m| m.partial),
        _ => None,
    });
    assert_eq!(partial.unwrap().content, "b begins");
    assert_eq!(control(&mut ann, Action::Resume).await.unwrap_err().code, "not_found");
    server.shutdown().await;
}

#[tokio::test]
async fn another_autopilot_does_not_count_the_turn_of_the_one_that_was_stopped() {
    let (server, room, mut ann, mut script) = running(start(Mode::RoundRobin, &[], 9)).await;
    let _call = begins(&mut script, "a").await;
    let error = ann.command(Say::StartAutopilot(start(Mode::RoundRobin, &["c"], 1))).await.unwrap_err();
    assert_eq!(error.code, "already_exists");
    control(&mut ann, Action::Stop).await.unwrap();
    ann.command(Say::StartAutopilot(start(Mode::RoundRobin, &["c"], 1))).await.unwrap();
    begins(&mut script, "c").await.done(Finish::Stop).await;
    status(&mut ann, Status::Ended).await;
    let end = status(&mut ann, Status::Ended).await;
    assert_eq!((end.turns, end.llm_ids), (1, vec!["c".to_owned()]));
    until("the end of all answers", || server.run_count() == 0).await;
    let taken = server.log(&room).await;
    let begun = taken.iter().filter(|event| matches!(event.payload, Some(Payload::LlmThinking(_))));
    assert_eq!(begun.count(), 2);
    server.shutdown().await;
}

#[tokio::test]
async fn a_pause_waits_for_the_turn_and_resume_goes_on() {
    let (server, room, mut ann, mut script) = running(start(Mode::RoundRobin, &[], 3)).await;
    let call = begins(&mut script, "a").await;
    control(&mut ann, Action::Pause).await.unwrap();
    call.done(Finish::Stop).await;
    let end = done(&mut ann).await;
    assert_eq!((end.reason(), end.autopilot_turn), (pb::LlmDoneReason::Completed, 1));
    until("the end of all answers", || server.run_count() == 0).await;
    // Whatever else happens, no turn begins.
    ann.talk("go on!").await;
    assert_eq!(turns(&server.log(&room).await), "a");
    control(&mut ann, Action::Resume).await.unwrap();
    begins(&mut script, "b").await.done(Finish::Stop).await;
    begins(&mut script, "c").await.done(Finish::Stop).await;
    assert_eq!(status(&mut ann, Status::Ended).await.reason, "all 3 turns were taken");
    assert_eq!(turns(&server.log(&room).await), "a b c");
    server.shutdown().await;
}

#[tokio::test]
async fn a_person_steers_or_pauses_it() {
    let (server, _, mut ann, mut script) = running(start(Mode::RoundRobin, &[], 2)).await;
    let call = begins(&mut script, "a").await;
    ann.talk("What about water?").await;
    call.done(Finish::Stop).await;
    let call = script.next_call().await.unwrap();
    let told = call.request.turns.iter().any(|turn| match turn {
        Turn::Text { text, .. } => text.contains("What about water?"),
        _ => false,
    });
    assert!(told, "{:?}", call.request.turns);
    call.done(Finish::Stop).await;
    status(&mut ann, Status::Ended).await;
    let pausing = pb::StartAutopilot {
        on_human: pb::AutopilotOnHuman::Pause.into(),
        ..start(Mode::RoundRobin, &[], 2)
    };
    ann.command(Say::StartAutopilot(pausing)).await.unwrap();
    let call = begins(&mut script, "a").await;
    ann.talk("Wait").await;
    assert_eq!(status(&mut ann, Status::Paused).await.reason, "ann said something");
    call.done(Finish::Stop).await;
    until("the end of all answers", || server.run_count() == 0).await;
    control(&mut ann, Action::Resume).await.unwrap();
    begins(&mut script, "b").await.done(Finish::Stop).await;
    assert_eq!(status(&mut ann, Status::Ended).await.turns, 2);
    server.shutdown().await;
}

#[tokio::test]
async fn who_is_removed_is_passed_by_and_who_started_it_must_be_there() {
    let (server, room, mut ann, mut script) = running(start(Mode::RoundRobin, &[], 9)).await;
    let _call = begins(&mut script, "a").await;
    for gone in ["b", "a"] {
        let remove = pb::RemoveLlm { llm_id: gone.into() };
        ann.command(Say::RemoveLlm(remove)).await.unwrap();
    }
    let call = begins(&mut script, "c").await;
    let mut admin = server.join(&room, "admin").await;
    let remove = pb::RemoveMember { user_id: "ann".into(), ..Default::default() };
    admin.command(Say::RemoveMember(remove)).await.unwrap();
    call.done(Finish::Stop).await;
    let end = status(&mut admin, Status::Ended).await;
    assert_eq!(end.turns, 2);
    assert!(end.reason.starts_with("nobody answers for it any more: "), "{end:?}");
    assert_eq!(turns(&server.log(&room).await), "a c");
    server.shutdown().await;
}

#[tokio::test]
async fn nothing_is_left_of_it_when_all_llms_are_removed_or_the_room_ends() {
    let (server, room, mut ann, mut script) = running(start(Mode::RoundRobin, &[], 9)).await;
    let _call = begins(&mut script, "a").await;
    for gone in ["b", "c", "a"] {
        ann.command(Say::RemoveLlm(pb::RemoveLlm { llm_id: gone.into() })).await.unwrap();
    }
    assert_eq!(status(&mut ann, Status::Ended).await.reason, "no LLM of it is left in the room");
    let other = server.room(&["a"]).await;
    let mut admin = server.join(&other, "admin").await;
    admin.command(Say::StartAutopilot(start(Mode::RoundRobin, &[], 9))).await.unwrap();
    let call = begins(&mut script, "a").await;
    admin.command(Say::EndRoom(pb::EndRoom::default())).await.unwrap();
    call.cancelled().await;
    until("the end of all answers", || server.run_count() == 0).await;
    for id in [&room, &other] {
        assert_eq!(turns(&server.log(id).await), "a");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_budget_that_is_used_up_pauses_it() {
    let provider = ScriptedProvider::with("scripted", |_| Step::answer("word ".repeat(2000)));
    let setup = Setup::default().provider(provider).config(|config| {
        config.llm.max_tokens = 3000;
        config.llm.budgets.room.tokens_per_day = Some(8000);
    });
    let server = setup.start().await;
    let room = server.room(&["a", "b"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.command(Say::StartAutopilot(start(Mode::RoundRobin, &[], 50))).await.unwrap();
    let paused = status(&mut ann, Status::Paused).await;
    assert!(paused.reason.starts_with("a budget is used up: "), "{paused:?}");
    assert!((2..10).contains(&paused.turns), "{paused:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn a_turn_that_cannot_begin_pauses_it_with_the_reason() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let setup = Setup::default().provider(provider).config(|config| {
        config.llm.runs_per_room = 1;
        config.llm.queue_per_room = 1;
    });
    let server = setup.start().await;
    let room = server.room(&["a", "b"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@a @b hello").await;
    let call = begins(&mut script, "a").await;
    ann.command(Say::StartAutopilot(start(Mode::RoundRobin, &["a"], 1))).await.unwrap();
    let paused = status(&mut ann, Status::Paused).await;
    assert_eq!((paused.turns, paused.reason.as_str()), (0, "1 answers are waiting in this room already"));
    call.done(Finish::Stop).await;
    begins(&mut script, "b").await.done(Finish::Stop).await;
    until("the end of all answers", || server.run_count() == 0).await;
    control(&mut ann, Action::Resume).await.unwrap();
    begins(&mut script, "a").await.done(Finish::Stop).await;
    assert_eq!(status(&mut ann, Status::Ended).await.turns, 1);
    server.shutdown().await;
}

#[tokio::test]
async fn an_interrupt_before_a_turn_begins_pauses_it() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let setup = Setup::default().provider(provider).config(|config| config.llm.runs_per_room = 1);
    let server = setup.start().await;
    let room = server.room(&["a", "b"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@b hello").await;
    let call = begins(&mut script, "b").await;
    ann.command(Say::StartAutopilot(start(Mode::RoundRobin, &["a"], 1))).await.unwrap();
    until("the turn that waits", || server.run_count() == 2).await;
    let interrupt = pb::InterruptLlm { llm_id: "a".into(), message_id: None };
    ann.command(Say::Interrupt(interrupt)).await.unwrap();
    let paused = status(&mut ann, Status::Paused).await;
    assert_eq!((paused.turns, paused.reason.as_str()), (0, "interrupted by ann"));
    assert_eq!(server.run_count(), 1, "nobody waits");
    call.done(Finish::Stop).await;
    control(&mut ann, Action::Resume).await.unwrap();
    begins(&mut script, "a").await.done(Finish::Stop).await;
    assert_eq!(status(&mut ann, Status::Ended).await.turns, 1);
    server.shutdown().await;
}
