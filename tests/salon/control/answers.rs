//! Answers that one server writes, and what is done on the other that ends them.

use std::sync::atomic::{AtomicUsize, Ordering};

use salon::{
    domain::command::{Actor, Command},
    ids::{MessageId, RoomId},
    llm::Request,
    rooms::task::orphaned,
    store::Store as _,
};

use serde_json::json;

use super::*;
use crate::harness::until;

#[tokio::test(start_paused = true)]
async fn an_answer_whose_end_others_have_recorded_costs_nothing_any_more() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let a = Setup::default().provider(provider);
    let a = a.config(|config| config.llm.budgets.server.tokens_per_day = Some(1_000_000));
    let pair = Pair::of(a, Setup::default().provider(nobody())).await;
    let room = pair.room(&["ada"]).await;
    let mut ann = pair.a.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let begun = thinking(&mut ann).await;
    let call = begins(&mut script, "On and on").await;
    chunk(&mut ann, "On and on").await;
    assert_eq!(pair.store.open_reservations().await.unwrap().len(), 1);
    // As a server does that takes the other one for dead.
    let id = MessageId(begun.message_id.parse().unwrap());
    let end = Command::FinishRun(orphaned(id));
    let there = &pair.b.server.graph().rooms;
    there.submit(&RoomId::parse(&room).unwrap(), Actor::Server, end).await.unwrap();
    call.cancelled().await;
    until("the answer is not given up", || pair.a.run_count() == 0).await;
    assert!(pair.store.open_reservations().await.unwrap().is_empty(), "its budget is settled");
    // It ended once, as was recorded, and the room goes on.
    let log = pair.a.log(&room).await;
    let ends = log.iter().filter(|event| matches!(event.payload, Some(Payload::LlmDone(_)))).count();
    assert_eq!((ends, done(&mut ann).await.reason()), (1, pb::LlmDoneReason::Interrupted));
    ann.talk("@ada again").await;
    begins(&mut script, "Hello").await.done(Finish::Stop).await;
    assert_eq!(done(&mut ann).await.reason(), pb::LlmDoneReason::Completed);
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_room_and_the_removal_of_the_llm_end_it_as_well() {
    for end in [Say::EndRoom(pb::EndRoom::default()), Say::RemoveLlm(pb::RemoveLlm { llm_id: "ada".into() })]
    {
        let (provider, mut script) = ScriptedProvider::new("scripted");
        let pair = Pair::start(provider, nobody()).await;
        let room = pair.room(&["ada"]).await;
        let (mut ann, mut admin) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "admin").await);
        ann.talk("@ada hello").await;
        let call = begins(&mut script, "On and on").await;
        chunk(&mut admin, "On and on").await;
        admin.command(end).await.unwrap();
        call.cancelled().await;
        let end = done(&mut ann).await;
        assert_eq!(end.reason(), pb::LlmDoneReason::Interrupted);
        until("the answer is not given up", || pair.a.run_count() == 0).await;
        let log = pair.a.log(&room).await;
        assert_eq!(messages(&log).last().unwrap().content, "On and on", "what it has said is kept");
        pair.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_on_one_server_ends_the_answer_of_the_other_and_is_answered_once() {
    let (first, mut here) = ScriptedProvider::new("scripted");
    let (second, mut there) = ScriptedProvider::new("scripted");
    let pair = Pair::start(first, second).await;
    let room = pair.room(&["ada", "bot"]).await;
    let (mut ann, mut other) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "ann").await);
    let question = ann.talk("@ada what is it?").await.event_id;
    let call = begins(&mut here, "It is").await;
    chunk(&mut other, "It is").await;
    let edit = pb::EditMessage {
        message_id: question.clone(),
        content: "@ada and @bot, what was it?".into(),
        regenerate: true,
    };
    other.command(Say::EditMessage(edit)).await.unwrap();
    call.cancelled().await;
    // Each is asked once, by the server on which the question was edited.
    for _ in 0..2 {
        let call = there.next_call().await.unwrap();
        assert!(told(&call).contains("what was it?"), "{}", told(&call));
        let mut call = call;
        let name = call.request.display_name.clone();
        call.text(format!("It was, says {name}.")).await;
        call.done(Finish::Stop).await;
    }
    for _ in 0..3 {
        done(&mut ann).await;
    }
    until("an answer was left over", || pair.a.run_count() + pair.b.run_count() == 0).await;
    let log = pair.b.log(&room).await;
    let (mut partial, mut whole) = (Vec::new(), Vec::new());
    for message in messages(&log).into_iter().filter(|message| message.sender_id != "ann") {
        if message.partial { &mut partial } else { &mut whole }.push(message);
    }
    let [partial] = &partial[..] else { panic!("{partial:?}") };
    assert_eq!(partial.content, "It is");
    whole.sort_by(|a, b| a.sender_id.cmp(&b.sender_id));
    let said: Vec<&str> = whole.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(said, ["It was, says ada.", "It was, says bot."]);
    // The new answer stands in the place of the fragment.
    let superseded = log.iter().find_map(|event| match &event.payload {
        Some(Payload::MessageSuperseded(s)) => Some((s.message_id.clone(), s.by_message_id.clone())),
        _ => None,
    });
    assert_eq!(superseded, Some((partial.message_id.clone(), whole[0].message_id.clone())));
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_question_on_one_server_ends_the_older_answers_of_the_other() {
    let (first, mut here) = ScriptedProvider::new("scripted");
    let (second, mut there) = ScriptedProvider::new("scripted");
    let pair = Pair::start(first, second).await;
    let room = pair
        .a
        .create(pb::CreateRoomRequest {
            name: "Test".into(),
            created_by: "admin".into(),
            llms: vec![crate::harness::llm("ada")],
            settings: Some(pb::RoomSettings {
                turn_policy: pb::TurnPolicy::LatestWins.into(),
                ..Default::default()
            }),
            ..Default::default()
        })
        .await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    ann.talk("@ada old?").await;
    let old = begins(&mut here, "Old").await;
    chunk(&mut bob, "Old").await;
    bob.talk("@ada new?").await;
    old.cancelled().await;
    begins(&mut there, "New").await.done(Finish::Stop).await;
    let ends = [done(&mut ann).await, done(&mut ann).await];
    let reason = |reason| ends.iter().filter(|done| done.reason() == reason).count();
    assert_eq!((reason(pb::LlmDoneReason::Interrupted), reason(pb::LlmDoneReason::Completed)), (1, 1));
    pair.end().await;
}

/// Votes for the first option.
fn vote(request: &Request) -> serde_json::Value {
    let tool = request.tools.iter().find(|tool| tool.name == "vote_on_poll").unwrap();
    let poll = &tool.parameters["properties"]["poll_id"]["enum"][0];
    json!({"poll_id": poll, "option_ids": ["1"], "reason": "why not"})
}

#[tokio::test(start_paused = true)]
async fn a_vote_that_both_servers_find_owed_is_asked_for_once() {
    let (first, mut here) = ScriptedProvider::new("scripted");
    let there = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&there);
    let second = ScriptedProvider::with("scripted", move |request| {
        asked.fetch_add(1, Ordering::SeqCst);
        vec![Step::tool("1", "vote_on_poll", &vote(request)), Step::Done(Finish::ToolCalls)]
    });
    let a = Setup::default().provider(first).config(|config| config.llm.runs_per_room = 1);
    let pair = Pair::of(a, Setup::default().provider(second)).await;
    let room = pair.room(&["ada", "bot"]).await;
    let mut ann = pair.a.join(&room, "ann").await;
    let options = ["red", "green"].map(|t| pb::PollOptionInput { text: t.into(), ..Default::default() });
    let poll = pb::CreatePoll {
        question: "Which?".into(),
        options: options.into(),
        mandatory: true,
        ..Default::default()
    };
    ann.command(Say::CreatePoll(poll)).await.unwrap();
    // One is asked, and the other one waits for that: nobody else can know that it does.
    let mut call = here.next_call().await.unwrap();
    let mut bob = pair.b.join(&room, "bob").await;
    assert_eq!(done(&mut bob).await.llm_id, "bot");
    let vote = vote(&call.request);
    call.tool("1", "vote_on_poll", &vote).await;
    call.done(Finish::ToolCalls).await;
    assert_eq!(done(&mut bob).await.llm_id, "ada");
    until("a vote was left over", || pair.a.run_count() + pair.b.run_count() == 0).await;
    let log = pair.a.log(&room).await;
    let count =
        |is: fn(&Payload) -> bool| log.iter().filter(|event| event.payload.as_ref().is_some_and(is)).count();
    assert_eq!(count(|payload| matches!(payload, Payload::LlmThinking(_))), 2);
    assert_eq!(count(|payload| matches!(payload, Payload::PollVoted(_))), 2);
    assert_eq!(count(|payload| matches!(payload, Payload::VoteAbstained(_))), 0);
    assert_eq!(there.load(Ordering::SeqCst), 1);
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_begins_behind_its_failure_is_ended() {
    let pair = Pair::start(nobody(), nobody()).await;
    let room = pair.room(&["ada"]).await;
    let mut ann = pair.a.join(&room, "ann").await;
    ann.settle().await;
    // The question is stored; its answer cannot begin.
    pair.store.delay_nth(2);
    ann.talk("@ada hello").await;
    ann.pick(|p| if let Payload::Error(error) = p { Some(error.clone()) } else { None }).await;
    until("the answer is not given up", || pair.a.run_count() == 0).await;
    assert!(pair.store.arrive().await);
    let request = pb::GetRoomRequest { room_id: room.clone() };
    pair.a.client().await.get_room(request).await.unwrap();
    let end = done(&mut ann).await;
    assert_eq!((end.llm_id.as_str(), end.reason()), ("ada", pb::LlmDoneReason::Failed));
    assert!(pair.store.open_runs().await.unwrap().is_empty());
    pair.end().await;
}
