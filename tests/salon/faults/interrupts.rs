//! Stopping answers: who may, which one, and what is left.

use std::time::Duration;

use salon::{
    llm::Finish,
    wire::pb::room::v1::{
        self as pb, LlmDoneReason as Reason, client_message::Payload as Say, server_event::Payload,
    },
};
use tokio::time::timeout;

use super::{
    any_done, begun, chunk, done, driven, driven_with, ended, interrupt, question, quiet, received, thinking,
};
use crate::harness::DEADLINE;

#[tokio::test]
async fn fault_04_anybody_may_interrupt_one_of_two_answers_of_the_same_llm() {
    let (server, mut model) = driven().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let first = ann.talk("@bot first").await.event_id;
    let mut first_call = model.call().await;
    assert!(question(&first_call.request).contains("first"));
    let second = ann.talk("@bot second").await.event_id;
    let mut second_call = model.call().await;
    assert!(question(&second_call.request).contains("second"));
    let mut answers = [thinking(&mut bob, "bot").await, thinking(&mut bob, "bot").await];
    answers.sort_by_key(|thinking| thinking.reply_to != first);
    assert_eq!((&answers[0].reply_to, &answers[1].reply_to), (&first, &second));
    assert_ne!(answers[0].message_id, answers[1].message_id);
    first_call.accept();
    second_call.accept();

    bob.command(interrupt("", Some(&answers[0].message_id))).await.unwrap();
    let end = done(&mut ann, &answers[0].message_id).await;
    assert_eq!(end.reason(), Reason::Interrupted);
    assert!(end.detail.contains("bob"), "{end:?}");
    timeout(DEADLINE, first_call.cancelled()).await.unwrap();
    assert!(!second_call.is_cancelled(), "the other answer goes on");

    assert!(second_call.text("done").await && second_call.done(Finish::Stop).await);
    assert_eq!(done(&mut ann, &answers[1].message_id).await.reason(), Reason::Completed);
    assert_eq!(received(&mut ann, &answers[1].message_id).await.content, "done");

    quiet(&server, &room).await;
    let error = bob.command(interrupt("bot", None)).await.unwrap_err();
    assert_eq!(error.code, "not_found", "nothing is running any more");
    server.shutdown().await;
}

#[tokio::test]
async fn fault_04_an_interrupt_names_one_llm_or_stops_all() {
    let (server, mut model) = driven().await;
    let room = server.room(&["one", "two", "three"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    ann.talk("@all go").await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        let mut call = model.call().await;
        call.accept();
        calls.push(call);
    }
    bob.command(interrupt("two", None)).await.unwrap();
    assert_eq!(any_done(&mut ann).await.llm_id, "two");
    for call in &calls {
        assert_eq!(call.is_cancelled(), call.request.display_name == "two");
    }
    bob.command(interrupt("", None)).await.unwrap();
    let mut rest = [any_done(&mut ann).await.llm_id, any_done(&mut ann).await.llm_id];
    rest.sort();
    assert_eq!(rest, ["one", "three"]);
    server.shutdown().await;
}

#[tokio::test]
async fn fault_05_what_an_interrupted_answer_has_said_is_kept_and_marked() {
    let (server, mut model) = driven().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@bot a long story").await;
    let mut call = model.call().await;
    let answer = thinking(&mut ann, "bot").await.message_id;
    assert!(call.text("Once upon a time").await);
    chunk(&mut ann, &answer).await;
    ann.command(interrupt("bot", None)).await.unwrap();

    let end = ann.find(|event| matches!(event.payload, Some(Payload::LlmDone(_)))).await;
    let said = ann.find(|event| event.event_id == answer).await;
    assert!(said.seq < end.seq);
    let Some(Payload::LlmDone(end)) = end.payload else { panic!("{end:?}") };
    assert_eq!((end.message_id.as_str(), end.reason()), (answer.as_str(), Reason::Interrupted));
    let request = pb::LoadHistoryRequest { room_id: room.clone(), ..Default::default() };
    let history = server.client().await.load_history(request).await.unwrap().into_inner();
    let kept = history.messages.last().unwrap();
    assert_eq!((kept.content.as_str(), kept.partial), ("Once upon a time", true));
    assert_eq!(kept.message_id, answer);

    // The LLM knows what it has said, too.
    ann.talk("@bot go on").await;
    let call = model.call().await;
    assert!(super::conversation(&call.request).contains("Assistant: Once upon a time"));
    drop(call);
    any_done(&mut ann).await;
    server.shutdown().await;
}

#[tokio::test]
async fn fault_06_an_answer_outlives_the_stream_of_whoever_asked() {
    let (server, mut model) = driven().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    ann.talk("@bot hello?").await;
    let mut call = model.call().await;
    let answer = thinking(&mut bob, "bot").await.message_id;
    assert!(call.text("Hello, ").await);
    drop(ann);
    let left = |payload: &Payload| match payload {
        Payload::UserLeft(left) => Some(left.user_id.clone()),
        _ => None,
    };
    assert_eq!(bob.pick(left).await, "ann");
    assert!(call.text("whoever is here.").await && call.done(Finish::Stop).await);
    assert_eq!(done(&mut bob, &answer).await.reason(), Reason::Completed);
    assert_eq!(received(&mut bob, &answer).await.content, "Hello, whoever is here.");
    server.shutdown().await;
}

#[tokio::test]
async fn fault_06_an_answer_goes_on_when_nobody_is_there() {
    let (server, mut model) = driven().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    let asked = ann.talk("@bot hello?").await.seq;
    let mut call = model.call().await;
    assert!(call.text("Hello, ").await);
    ann.finish();
    let (closing, _) = ann.end().await;
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::Left);
    assert!(call.text("nobody.").await && call.done(Finish::Stop).await);
    let mut ann = server.join(&room, "ann").await;
    if ann.state.messages.iter().all(|message| message.seq <= asked) {
        any_done(&mut ann).await;
    }
    let ended = ended(&server.log(&room).await);
    assert_eq!(ended.iter().map(pb::LlmDone::reason).collect::<Vec<_>>(), [Reason::Completed]);
    server.shutdown().await;
}

/// What ends an answer while the model still speaks.
#[derive(Debug, Clone, Copy)]
enum Stopper {
    Interrupt,
    Removal,
    EndOfRoom,
    Silence,
    Length,
}

#[tokio::test]
async fn fault_08_whatever_ends_an_answer_ends_the_call_upstream() {
    for stopper in
        [Stopper::Interrupt, Stopper::Removal, Stopper::EndOfRoom, Stopper::Silence, Stopper::Length]
    {
        let silence = if matches!(stopper, Stopper::Silence) { 100 } else { 20_000 };
        let (server, mut model) =
            driven_with(|config| config.llm.idle_timeout = Duration::from_millis(silence)).await;
        let room = server.room(&["bot"]).await;
        let mut admin = server.join(&room, "admin").await;
        admin.talk("@bot hello?").await;
        let mut call = model.call().await;
        assert!(call.text("Well, ").await);
        match stopper {
            Stopper::Interrupt => drop(admin.command(interrupt("bot", None)).await.unwrap()),
            Stopper::Removal => {
                let remove = Say::RemoveLlm(pb::RemoveLlm { llm_id: "bot".into() });
                admin.command(remove).await.unwrap();
            }
            Stopper::EndOfRoom => admin.say(Say::EndRoom(pb::EndRoom { reason: String::new() })).await,
            Stopper::Silence => {}
            Stopper::Length => {
                // Nobody wants more than this, whatever the model was told.
                while call.text("x".repeat(64 * 1024)).await {}
            }
        }
        timeout(DEADLINE, call.cancelled()).await.unwrap_or_else(|_| panic!("{stopper:?}"));
        assert!(!call.text("nobody listens").await);
        match stopper {
            Stopper::EndOfRoom => {
                assert_eq!(admin.end().await.0.unwrap().reason(), pb::ClosingReason::RoomEnded);
            }
            _ => drop(any_done(&mut admin).await),
        }
        let log = server.log(&room).await;
        let (begun, ended) = (begun(&log), ended(&log));
        let ids = (begun.iter().map(|b| &b.message_id), ended.iter().map(|e| &e.message_id));
        assert!(begun.len() == 1 && ids.0.eq(ids.1), "{stopper:?}: {ended:?}");
        server.shutdown().await;
    }
}
