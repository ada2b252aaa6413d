//! What whoever asks is told on the way: that the question is stored, waits, and has been taken up.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use salon::llm::{Finish, scripted::ScriptedProvider};

use super::*;
use crate::harness::{gate::GatedStore, raw, session::message};

type Seen = (String, pb::ReceiptState, u32);

/// The next receipt that was not taken yet.
async fn receipt(session: &mut Session) -> (String, pb::ReceiptState, u32) {
    let receipt = session.pick(|p| if let Payload::LlmReceipt(r) = p { Some(r.clone()) } else { None }).await;
    (receipt.question_id.clone(), receipt.state(), receipt.waiting)
}

fn receipts(events: Vec<pb::ServerEvent>) -> usize {
    events.into_iter().filter(|event| matches!(event.payload, Some(Payload::LlmReceipt(_)))).count()
}

#[tokio::test]
async fn the_asker_sees_a_question_stored_waiting_and_taken_up() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).config(|c| c.llm.runs_per_room = 1).start().await;
    let room = server.room(&["ada", "bob"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut other = server.join(&room, "bob").await;
    let first = ann.talk("@ada one").await.event_id;
    let mut one = script.next_call().await.unwrap();
    let second = ann.talk("@bob two").await.event_id;
    let logged = |q: &String| -> Seen { (q.clone(), pb::ReceiptState::Logged, 0) };
    let delivered = |q: &String, waiting| -> Seen { (q.clone(), pb::ReceiptState::Delivered, waiting) };
    let taken_up = |q: &String| -> Seen { (q.clone(), pb::ReceiptState::TakenUp, 0) };
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(receipt(&mut ann).await);
    }
    assert_eq!(seen, [logged(&first), delivered(&first, 0), logged(&second), delivered(&second, 1)]);
    assert_eq!(receipts(ann.settle().await), 0, "the model has said nothing");
    assert!(one.text("yes").await);
    assert_eq!(receipt(&mut ann).await, taken_up(&first));
    assert!(one.done(Finish::Stop).await);
    let mut two = script.next_call().await.unwrap();
    assert!(two.text("yes").await && two.done(Finish::Stop).await);
    assert_eq!(receipt(&mut ann).await, taken_up(&second));
    quiet(&server).await;
    assert_eq!(receipts(other.settle().await), 0, "nobody else is told");
    server.shutdown().await;
}

#[tokio::test]
async fn a_vote_has_no_receipts_and_a_refusal_is_an_error() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let few = |config: &mut salon::config::Config| {
        config.llm.runs_per_room = 1;
        config.llm.queue_per_room = 0;
    };
    let server = Setup::default().provider(provider).config(few).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let options = ["red", "green"].map(|t| pb::PollOptionInput { text: t.into(), ..Default::default() });
    let poll = pb::CreatePoll { question: "Which?".into(), options: options.into(), ..Default::default() };
    ann.command(Say::CreatePoll(poll)).await.unwrap();
    let mut vote = script.next_call().await.unwrap();
    vote.accept();
    assert_eq!(receipts(ann.settle().await), 0);
    let question = ann.talk("@ada hello").await.event_id;
    assert_eq!(receipt(&mut ann).await, (question, pb::ReceiptState::Logged, 0));
    assert_eq!(refusal(&mut ann).await.code, "resource_exhausted");
    assert_eq!(receipts(ann.settle().await), 0);
    server.shutdown().await;
}

/// The first error that a stream of the original contract gets behind its join and its question.
async fn original_refusal(server: &TestServer, room: &str) -> pb::Error {
    use http_body_util::BodyExt as _;
    let (sender, response) = raw::call(server.channel().await, "/api.room.Room/RoomSession", &[]).await;
    let mut body = response.into_body();
    for say in
        [Say::Join(crate::harness::session::join(room, "ann")), crate::harness::session::message("@ada hi")]
    {
        sender.send(raw::frame(0, &raw::encode("", say))).await.unwrap();
    }
    let mut bytes = Vec::new();
    loop {
        let frame =
            tokio::time::timeout(crate::harness::DEADLINE, body.frame()).await.expect("no error came");
        bytes.extend(frame.expect("the stream ended").unwrap().into_data().unwrap_or_else(|_| Bytes::new()));
        while bytes.len() >= 5 {
            let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
            if bytes.len() < 5 + len {
                break;
            }
            let event = pb::ServerEvent::decode(&bytes[5..5 + len]).unwrap();
            bytes.drain(..5 + len);
            if let Some(Payload::Error(error)) = event.payload {
                return error;
            }
        }
    }
}

#[tokio::test]
async fn each_contract_is_told_of_a_refusal_in_its_own_spelling() {
    let (provider, _script) = ScriptedProvider::new("scripted");
    let few = |config: &mut salon::config::Config| {
        config.llm.runs_per_room = 1;
        config.llm.queue_per_room = 0;
    };
    let server = Setup::default().provider(provider).config(few).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada one").await;
    // The same user asks by both contracts: both streams are told, each in its words.
    let original = original_refusal(&server, &room).await;
    let ours = refusal(&mut ann).await;
    assert_eq!((original.code.as_str(), ours.code.as_str()), ("RESOURCE_EXHAUSTED", "resource_exhausted"));
    assert_eq!(original.message, ours.message);
    server.shutdown().await;
}

#[tokio::test]
async fn whoever_asked_is_told_of_every_question_that_is_not_asked_any_more() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).config(|c| c.llm.runs_per_room = 1).start().await;
    let room = server.room(&["ada", "bob", "cem"]).await;
    let mut admin = server.join(&room, "admin").await;
    let mut ann = server.join(&room, "ann").await;
    let ended = [
        (interrupt("bob", None), "resource_exhausted", "interrupted by admin"),
        (
            Say::RemoveLlm(pb::RemoveLlm { llm_id: "cem".into() }),
            "not_found",
            "the LLM was removed from the room",
        ),
        (Say::EndRoom(pb::EndRoom::default()), "room_ended", "the room ended"),
    ];
    ann.talk("@ada @bob @cem hello").await;
    let _ada = script.next_call().await.unwrap();
    ann.talk("@ada again").await;
    for (end, code, why) in ended {
        admin.command(end).await.unwrap();
        let refused = refusal(&mut ann).await;
        assert_eq!(refused.code, code);
        assert!(refused.message.ends_with(&format!("was not asked: {why}")), "{refused:?}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn whoever_asked_is_told_why_an_answer_that_was_about_to_begin_did_not() {
    let (provider, _script) = ScriptedProvider::new("scripted");
    let store = Arc::new(GatedStore::new());
    let server = Setup::default().provider(provider).store(Arc::<GatedStore>::clone(&store)).start().await;
    let room = server.room(&["ada"]).await;
    let mut admin = server.join(&room, "admin").await;
    let gate = store.shut().await;
    admin.say(message("this one waits at the gate")).await;
    store.somebody_waits().await;
    // Both wait in the room's queue and come into one group: the answer has its place and has not begun.
    admin.say(message("@ada hi")).await;
    admin.say(Say::RemoveLlm(pb::RemoveLlm { llm_id: "ada".into() })).await;
    admin.settle().await;
    drop(gate);
    let refused = refusal(&mut admin).await;
    assert_eq!(refused.code, "not_found", "{refused:?}");
    assert!(refused.message.ends_with("was not asked: the LLM was removed from the room"), "{refused:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn whoever_waits_for_an_answer_when_the_server_goes_away_is_told() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let narrow = |config: &mut salon::config::Config| {
        config.llm.runs_per_room = 1;
        config.limits.drain = std::time::Duration::from_millis(200);
    };
    let server = Setup::default().provider(provider).config(narrow).start().await;
    let room = server.room(&["ada", "bob"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada @bob hello").await;
    let _ada = script.next_call().await.unwrap();
    let drained = tokio::spawn(async move { server.shutdown().await });
    let refused = refusal(&mut ann).await;
    assert_eq!((refused.code.as_str(), refused.retryable), ("unavailable", true));
    assert_eq!(refused.message, "the LLM bob was not asked: the server is going away");
    drained.await.unwrap();
}
