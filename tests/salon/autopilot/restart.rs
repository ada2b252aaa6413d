//! Autopilots behind the end of a server: they end or go on, by their rule.

use std::path::Path;

use salon::{
    llm::scripted::{ScriptedProvider, Step},
    store::{
        self,
        config::{Durability, StoreConfig, StoreKind},
    },
};
use serde_json::json;

use super::*;
use crate::{
    fake_openai::{FakeOpenAi, Received, Reply},
    harness::Setup,
    process::Place,
};

fn continued() -> pb::StartAutopilot {
    let on_restart = pb::AutopilotOnRestart::Continue.into();
    pb::StartAutopilot { on_restart, ..start(Mode::RoundRobin, &[], 4) }
}

async fn open(directory: &Path, steps: Vec<Step>) -> TestServer {
    let provider = ScriptedProvider::with("scripted", move |_| steps.clone());
    let path = directory.join("salon.db");
    let config =
        StoreConfig { kind: StoreKind::Sqlite, path, durability: Durability::Os, ..StoreConfig::default() };
    let setup = Setup::default().store(store::open::open(&config).await.unwrap()).provider(provider);
    setup.config(|config| config.limits.drain = std::time::Duration::from_millis(200)).start().await
}

#[tokio::test]
async fn a_restart_ends_or_continues_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = open(directory.path(), vec![Step::text("Once"), Step::Stall]).await;
    let mut rooms = Vec::new();
    for start in [continued(), start(Mode::RoundRobin, &[], 4)] {
        let room = server.room(&["a", "b"]).await;
        let mut ann = server.join(&room, "ann").await;
        ann.command(Say::StartAutopilot(start)).await.unwrap();
        ann.find(|event| matches!(event.payload, Some(Payload::LlmThinking(_)))).await;
        rooms.push(room);
    }
    server.shutdown().await;
    let server = open(directory.path(), Step::answer("and again")).await;
    let [goes_on, ends] = [&rooms[0], &rooms[1]];
    let ann = server.join(ends, "ann").await;
    let autopilot = ann.state.autopilot.clone().unwrap();
    assert_eq!(autopilot.status(), Status::Ended);
    assert_eq!(autopilot.reason, "the server was restarted");
    let mut ann = server.join(goes_on, "ann").await;
    let autopilot = ann.state.autopilot.clone().unwrap();
    if autopilot.status() != Status::Ended {
        status(&mut ann, Status::Ended).await;
    }
    assert_eq!(turns(&server.log(goes_on).await), "a b a b");
    assert_eq!(turns(&server.log(ends).await), "a");
    server.shutdown().await;
}

#[tokio::test]
async fn a_paused_one_stays_paused_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = open(directory.path(), vec![Step::text("Once"), Step::Stall]).await;
    let room = server.room(&["a", "b"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.command(Say::StartAutopilot(continued())).await.unwrap();
    control(&mut ann, Action::Pause).await.unwrap();
    server.shutdown().await;
    let server = open(directory.path(), Step::answer("and again")).await;
    let mut ann = server.join(&room, "ann").await;
    assert_eq!(ann.state.autopilot.as_ref().unwrap().status(), Status::Paused);
    control(&mut ann, Action::Resume).await.unwrap();
    assert_eq!(status(&mut ann, Status::Ended).await.turns, 4);
    server.shutdown().await;
}

#[tokio::test]
async fn one_that_is_killed_between_two_turns_ends_or_takes_the_next() {
    for on_restart in [pb::AutopilotOnRestart::Continue, pb::AutopilotOnRestart::Stop] {
        // Who is asked besides stalls, and holds the only place: a turn waits for it.
        let model = FakeOpenAi::start(|request: &Received| match request.number {
            0 | 2 => Reply::stream().delta(&json!({"content": "Let me think"})).stall(),
            _ => Reply::text("Tea."),
        })
        .await;
        let one = Place::new().env("OPENAI_BASE_URL", &model.base_url());
        let place = one.env("SALON__LLM__RUNS_PER_ROOM", "1");
        let server = place.start().await;
        server.room("r", &["a", "b", "c", "d"]).await;
        let mut ann = server.join("r", "ann").await;
        ann.talk("@c what is it?").await;
        let says = |event: &pb::ServerEvent| matches!(event.payload, Some(Payload::LlmChunk(_)));
        ann.find(says).await;
        let turns_of_two =
            pb::StartAutopilot { on_restart: on_restart.into(), ..start(Mode::RoundRobin, &["a", "b"], 4) };
        ann.command(Say::StartAutopilot(turns_of_two)).await.unwrap();
        ann.talk("@d and what else?").await;
        let interrupt = pb::InterruptLlm { llm_id: "c".into(), message_id: None };
        ann.command(Say::Interrupt(interrupt)).await.unwrap();
        ann.find(|event| matches!(&event.payload, Some(Payload::LlmDone(done)) if done.autopilot_turn == 1))
            .await;
        ann.find(|event| matches!(&event.payload, Some(Payload::LlmChunk(chunk)) if chunk.llm_id == "d"))
            .await;
        assert_eq!(turns(&server.log_of("r").await), "a", "the second turn waits");
        server.kill().await;

        let server = place.start().await;
        let mut ann = server.join("r", "ann").await;
        let autopilot = ann.state.autopilot.clone().unwrap();
        let end = if autopilot.status() == Status::Ended {
            autopilot
        } else {
            status(&mut ann, Status::Ended).await
        };
        let taken = turns(&server.log_of("r").await);
        let how = (taken.as_str(), end.turns, end.reason.as_str());
        match on_restart {
            pb::AutopilotOnRestart::Continue => assert_eq!(how, ("a b a b", 4, "all 4 turns were taken")),
            _ => assert_eq!(how, ("a", 1, "the server was restarted")),
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn one_that_is_killed_in_a_turn_goes_on_behind_it() {
    let model = FakeOpenAi::start(|request: &Received| match request.number {
        0 => Reply::text("Tea."),
        1 => Reply::stream().delta(&json!({"content": "I was about to"})).stall(),
        _ => Reply::text("Coffee."),
    })
    .await;
    let place = Place::new().env("OPENAI_BASE_URL", &model.base_url());
    let server = place.start().await;
    server.room("r", &["a", "b"]).await;
    let mut ann = server.join("r", "ann").await;
    ann.command(Say::StartAutopilot(continued())).await.unwrap();
    let chunk = |payload: &Payload| match payload {
        Payload::LlmChunk(chunk) => (chunk.llm_id == "b").then_some(()),
        _ => None,
    };
    ann.pick(chunk).await;
    server.kill().await;

    let server = place.start().await;
    let mut ann = server.join("r", "ann").await;
    if ann.state.autopilot.as_ref().unwrap().status() != Status::Ended {
        status(&mut ann, Status::Ended).await;
    }
    let log = server.log_of("r").await;
    assert_eq!(turns(&log), "a b a b");
    let ends: Vec<_> = log
        .iter()
        .filter_map(|event| match &event.payload {
            Some(Payload::LlmDone(done)) => Some((done.autopilot_turn, done.reason())),
            _ => None,
        })
        .collect();
    let (well, cut) = (pb::LlmDoneReason::Completed, pb::LlmDoneReason::Interrupted);
    assert_eq!(ends, [(1, well), (2, cut), (3, well), (4, well)]);
    server.stop().await;
}
