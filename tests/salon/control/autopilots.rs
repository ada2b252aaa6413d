//! An autopilot that one server drives, and people on the other.

use std::sync::atomic::{AtomicUsize, Ordering};

use salon::{
    domain::{
        command::{Actor, Command},
        llm::Run,
        rejection::Code,
    },
    ids::{AutopilotId, LlmId, MessageId, RoomId},
};
use uuid::Uuid;

use super::*;
use crate::harness::until;

fn start(max_turns: u32) -> Say {
    Say::StartAutopilot(pb::StartAutopilot {
        mode: pb::AutopilotMode::RoundRobin.into(),
        topic: "Tea or coffee?".into(),
        llm_ids: vec!["ada".into(), "bot".into()],
        max_turns,
        ..Default::default()
    })
}

async fn control(session: &mut Session, action: pb::AutopilotAction) {
    let control = pb::ControlAutopilot { action: action.into(), reason: String::new() };
    session.command(Say::ControlAutopilot(control)).await.unwrap();
}

/// Which turns have begun, in order.
fn turns(log: &[pb::ServerEvent]) -> Vec<u32> {
    let turn = |event: &pb::ServerEvent| match &event.payload {
        Some(Payload::LlmThinking(thinking)) => Some(thinking.autopilot_turn),
        _ => None,
    };
    log.iter().filter_map(turn).filter(|turn| *turn > 0).collect()
}

async fn ended(session: &mut Session) -> pb::Autopilot {
    let over = |payload: &Payload| match payload {
        Payload::AutopilotChanged(changed) => {
            changed.autopilot.clone().filter(|autopilot| autopilot.status() == pb::AutopilotStatus::Ended)
        }
        _ => None,
    };
    session.pick(over).await
}

#[tokio::test(start_paused = true)]
async fn it_is_stopped_from_the_other_server_in_the_middle_of_a_turn() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let pair = Pair::start(provider, nobody()).await;
    let room = pair.room(&["ada", "bot"]).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    ann.command(start(9)).await.unwrap();
    begins(&mut script, "ada begins").await.done(Finish::Stop).await;
    let call = begins(&mut script, "bot begins").await;
    chunk(&mut bob, "bot begins").await;
    control(&mut bob, pb::AutopilotAction::Stop).await;
    call.cancelled().await;
    assert_eq!(done(&mut bob).await.reason(), pb::LlmDoneReason::Completed);
    let end = done(&mut bob).await;
    assert_eq!((end.reason(), end.detail.as_str()), (pb::LlmDoneReason::Interrupted, "stopped by bob"));
    until("a turn was left over", || pair.a.run_count() + pair.b.run_count() == 0).await;
    assert_eq!(turns(&pair.b.log(&room).await), [1, 2]);
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_paused_and_resumed_from_the_other_server_which_then_goes_on() {
    let (first, mut here) = ScriptedProvider::new("scripted");
    let (second, mut there) = ScriptedProvider::new("scripted");
    let pair = Pair::start(first, second).await;
    let room = pair.room(&["ada", "bot"]).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    ann.command(start(3)).await.unwrap();
    let call = begins(&mut here, "ada").await;
    control(&mut bob, pb::AutopilotAction::Pause).await;
    call.done(Finish::Stop).await;
    done(&mut bob).await;
    until("a turn has begun", || pair.a.run_count() + pair.b.run_count() == 0).await;
    // Whatever is said here or there, nothing begins.
    ann.talk("go on").await;
    bob.talk("do").await;
    assert_eq!(turns(&pair.a.log(&room).await), [1]);
    control(&mut bob, pb::AutopilotAction::Resume).await;
    begins(&mut there, "bot").await.done(Finish::Stop).await;
    begins(&mut there, "ada").await.done(Finish::Stop).await;
    assert_eq!(ended(&mut ann).await.turns, 3);
    assert_eq!(turns(&pair.a.log(&room).await), [1, 2, 3]);
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_person_on_the_other_server_is_heard_in_the_next_turn_and_drives_nothing() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let pair = Pair::start(provider, nobody()).await;
    let room = pair.room(&["ada", "bot"]).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    ann.command(start(2)).await.unwrap();
    let call = begins(&mut script, "Tea").await;
    chunk(&mut bob, "Tea").await;
    bob.talk("What about water?").await;
    call.done(Finish::Stop).await;
    let call = begins(&mut script, "bot").await;
    assert!(told(&call).contains("What about water?"), "{}", told(&call));
    call.done(Finish::Stop).await;
    assert_eq!(ended(&mut bob).await.turns, 2);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_speaks_where_and_when_every_turn_is_taken_once() {
    const TURNS: u32 = 40;
    let calls = Arc::new(AtomicUsize::new(0));
    let model = || {
        let calls = Arc::clone(&calls);
        ScriptedProvider::with("scripted", move |request| {
            calls.fetch_add(1, Ordering::SeqCst);
            Step::answer(format!("{} says so", request.display_name))
        })
    };
    let pair = Pair::start(model(), model()).await;
    let room = pair.room(&["ada", "bot"]).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    let mut watcher = pair.b.join(&room, "watcher").await;
    watcher.patience = Duration::from_secs(60);
    ann.command(start(TURNS)).await.unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    let talk = async |session: &mut Session| {
        while !over.load(Ordering::SeqCst) {
            session.talk("and?").await;
        }
    };
    // The one steers it besides: it is now here and now there that it is moved on.
    let steer = async {
        for _ in 0..5 {
            for action in [pb::AutopilotAction::Pause, pb::AutopilotAction::Resume] {
                let control = pb::ControlAutopilot { action: action.into(), reason: String::new() };
                // It may be over.
                let _ = watcher.command(Say::ControlAutopilot(control)).await;
            }
        }
        ended(&mut watcher).await;
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(talk(&mut ann), talk(&mut bob), steer);
    let log = pair.a.log(&room).await;
    assert!(turns(&log).into_iter().eq(1..=TURNS));
    assert_eq!(calls.load(Ordering::SeqCst), TURNS as usize, "nobody was asked in vain");
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_servers_that_take_the_same_turn_one_is_refused() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let pair = Pair::start(provider, nobody()).await;
    let name = pair.room(&["ada", "bot"]).await;
    let mut ann = pair.a.join(&name, "ann").await;
    let message = ann.talk("hello").await.event_id;
    ann.command(start(9)).await.unwrap();
    let _turn = begins(&mut script, "ada").await;
    thinking(&mut ann).await;
    control(&mut ann, pb::AutopilotAction::Pause).await;
    let autopilot = pair.b.join(&name, "bob").await.state.autopilot.unwrap();
    let room = RoomId::parse(&name).unwrap();
    // The first turn is being taken: not even the same one can begin again, on whichever server; nor one for which it
    // is too early, once it is over.
    let take = async |server: &TestServer, turn: u32| {
        let run = Run {
            message_id: MessageId(Uuid::now_v7()),
            llm_id: LlmId::parse("bot").unwrap(),
            llm_name: String::new(),
            reply_to: MessageId(message.parse().unwrap()),
            poll_id: None,
            chain_depth: 0,
            asked_by: None,
            started_at: salon::clock::Timestamp(0),
            replaces: None,
            turn: Some(turn),
            model: String::new(),
        };
        let id = AutopilotId(autopilot.autopilot_id.parse().unwrap());
        let rooms = &server.server.graph().rooms;
        rooms.submit(&room, Actor::Server, Command::StartTurn(id, run)).await.map_err(|refused| refused.code)
    };
    for server in [&pair.a, &pair.b] {
        assert_eq!(take(server, 1).await, Err(Code::NotFound));
    }
    control(&mut ann, pb::AutopilotAction::Resume).await;
    for server in [&pair.a, &pair.b] {
        assert_eq!(take(server, 1).await, Err(Code::NotFound));
    }
    pair.end().await;
}
