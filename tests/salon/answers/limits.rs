//! How many answers there may be: at the same time, waiting, and one after another.

use salon::{
    clock::Timestamp,
    domain::{
        command::{Actor, Command},
        limits::PENDING_APPROVALS,
        llm::Run,
    },
    ids::{LlmId, MessageId, RoomId},
    llm::{
        Finish, Speaker, Turn,
        scripted::{Call, ScriptedProvider, Step},
    },
};

use super::*;

/// The last thing the model was told: whoever asks is recognised by it.
fn asked(call: &Call) -> &str {
    match call.request.turns.last() {
        Some(Turn::Text { speaker: Speaker::User, text }) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn llms_that_ask_one_another_for_ever_are_stopped_at_depth_five() {
    let provider = ScriptedProvider::with("scripted", |request| {
        Step::answer(if request.display_name == "ada" { "@bob your turn" } else { "@ada and yours" })
    });
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada", "bob"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada begin").await;
    for depth in 0..=5 {
        let answer = follow(&mut ann).await;
        assert_eq!((answer.thinking.chain_depth, answer.done.reason()), (depth, Reason::Completed));
        assert_eq!(answer.thinking.llm_id, if depth % 2 == 0 { "ada" } else { "bob" });
    }
    // What the last one has caused is decided before the next command.
    ann.talk("enough").await;
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 6);
    ann.talk("@bob once more").await;
    assert_eq!(follow(&mut ann).await.thinking.chain_depth, 0, "a human begins a new chain");
    server.shutdown().await;
}

#[tokio::test]
async fn beyond_the_queue_whoever_asked_is_told_and_the_room_goes_on() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let few = |config: &mut salon::config::Config| {
        config.llm.runs_per_room = 1;
        config.llm.queue_per_room = 2;
    };
    let server = Setup::default().provider(provider).config(few).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    bob.talk("@ada 1").await;
    let mut call = script.next_call().await.unwrap();
    assert_eq!(asked(&call), "[\"bob\"] @ada 1");
    for n in 2..=3 {
        bob.talk(&format!("@ada {n}")).await;
    }
    ann.talk("@ada 4").await;
    let refused = ann
        .pick(|payload| match payload {
            Payload::Error(error) => Some(error.clone()),
            _ => None,
        })
        .await;
    assert_eq!(refused.code, "resource_exhausted");
    assert!(refused.message.contains("ada") && refused.message.contains('2'), "{refused:?}");
    ann.talk("as you like").await;
    let told = bob.settle().await.into_iter().find(|e| matches!(e.payload, Some(Payload::Error(_))));
    assert_eq!(told, None, "bob's questions wait");
    for n in 1..=3 {
        assert!(call.text(format!("answer {n}")).await && call.done(Finish::Stop).await);
        follow(&mut ann).await.assert_ended(Reason::Completed, &format!("answer {n}"));
        if n < 3 {
            call = script.next_call().await.unwrap();
        } else {
            break;
        }
    }
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 3);
    server.shutdown().await;
}

#[tokio::test]
async fn rooms_share_what_the_node_allows_and_none_is_lost() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).config(|c| c.llm.runs_per_node = 1).start().await;
    let (one, two) = (server.room(&["ada"]).await, server.room(&["ada"]).await);
    let mut ann = server.join(&one, "ann").await;
    let mut bob = server.join(&two, "bob").await;
    ann.talk("@ada hello").await;
    let call = script.next_call().await.unwrap();
    bob.talk("@ada hello").await;
    // The second has not begun: nothing says so before the first has ended.
    assert!(!bob.settle().await.iter().any(|e| matches!(e.payload, Some(Payload::LlmThinking(_)))));
    assert!(call.done(Finish::Stop).await);
    assert_eq!(follow(&mut ann).await.done.detail, "the answer was empty");
    let mut call = script.next_call().await.unwrap();
    assert!(call.text("hi").await && call.done(Finish::Stop).await);
    follow(&mut bob).await.assert_ended(Reason::Completed, "hi");
    server.shutdown().await;
}

#[tokio::test]
async fn an_answer_of_one_endless_part_is_cut_and_kept() {
    const MOST: usize = 256 * 1024;
    let provider = ScriptedProvider::with("scripted", |_| Step::answer("é".repeat(MOST)));
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada begin").await;
    let answer = follow(&mut ann).await;
    answer.assert_ended(Reason::Completed, &"é".repeat(MOST / 2));
    assert_eq!(answer.done.detail, "the longest answer was reached");
    server.shutdown().await;
}

#[tokio::test]
async fn whoever_asked_is_told_that_the_room_let_no_answer_begin() {
    let provider = ScriptedProvider::with("scripted", |_| Step::answer("hi"));
    let few = |config: &mut salon::config::Config| {
        config.llm.runs_per_room = 1;
        config.llm.queue_per_room = 0;
    };
    let server = Setup::default().provider(provider).config(few).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    // All that the room takes run on another node: one, and those that could wait for a person.
    let most = 1 + PENDING_APPROVALS;
    let elsewhere = || Run {
        message_id: MessageId(uuid::Uuid::now_v7()),
        llm_id: LlmId::parse("ada").unwrap(),
        llm_name: String::new(),
        reply_to: MessageId(uuid::Uuid::now_v7()),
        poll_id: None,
        chain_depth: 0,
        asked_by: None,
        started_at: Timestamp::default(),
        replaces: None,
        turn: None,
        model: String::new(),
    };
    let rooms = &server.server.graph().rooms;
    let id = RoomId::parse(&room).unwrap();
    for _ in 0..most {
        rooms.submit(&id, Actor::Server, Command::StartRun(elsewhere())).await.unwrap();
    }
    ann.talk("@ada hello").await;
    let refused = ann.pick(|p| if let Payload::Error(error) = p { Some(error.clone()) } else { None }).await;
    assert_eq!(refused.code, "resource_exhausted");
    let told = format!("the LLM ada was not asked: at most {most} ");
    assert!(refused.message.starts_with(&told), "{refused:?}");
    let told = bob.settle().await.into_iter().find(|e| matches!(e.payload, Some(Payload::Error(_))));
    assert_eq!(told, None);
    server.shutdown().await;
}
