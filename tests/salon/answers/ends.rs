//! Answers whose LLM, room or server ends before they do.

use std::time::Duration;

use salon::llm::scripted::{Call, ScriptedProvider};

use super::*;

/// A server on which ada has begun to answer ann: bob watches.
async fn begun(drain: Duration) -> (TestServer, String, [Session; 2], Call) {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).config(|c| c.limits.drain = drain).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "admin").await;
    let bob = server.join(&room, "bob").await;
    ann.talk("@ada hello").await;
    let mut call = script.next_call().await.unwrap();
    assert!(call.text("Half an").await);
    chunk(&mut ann).await;
    (server, room, [ann, bob], call)
}

#[tokio::test]
async fn removing_an_llm_stops_its_answer_and_keeps_what_it_said() {
    let (server, room, [mut ann, mut bob], call) = begun(Duration::from_secs(5)).await;
    ann.command(Say::RemoveLlm(pb::RemoveLlm { llm_id: "ada".into() })).await.unwrap();
    call.cancelled().await;
    let answer = follow(&mut bob).await;
    answer.assert_ended(Reason::Interrupted, "Half an");
    assert_eq!(answer.done.detail, "the LLM was removed from the room");
    assert_eq!(answer.message.unwrap().sender_name, "ada");
    assert_eq!(all_ended_once(&server, &room).await.len(), 1);
    ann.talk("@ada are you there?").await;
    assert_eq!(server.run_count(), 0, "nobody is called ada any more");
    server.shutdown().await;
}

#[tokio::test]
async fn the_end_of_a_room_ends_its_answers_before_it() {
    let (server, room, [mut ann, mut bob], call) = begun(Duration::from_secs(5)).await;
    ann.command(Say::EndRoom(pb::EndRoom { reason: "late".into() })).await.unwrap();
    call.cancelled().await;
    let answer = follow(&mut bob).await;
    assert_eq!((answer.done.reason(), answer.done.detail.as_str()), (Reason::Interrupted, "the room ended"));
    bob.pick(|p| matches!(p, Payload::RoomEnded(_)).then_some(())).await;
    let (closing, status) = bob.end().await;
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::RoomEnded);
    status.unwrap();
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn a_drain_lets_answers_go_on_for_half_of_the_grace() {
    let drain = Duration::from_secs(2);
    let (server, _, [_ann, mut bob], mut call) = begun(drain).await;
    let began = tokio::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(server.shutdown());
    assert!(call.text(" answer").await);
    call.cancelled().await;
    let half = began.elapsed();
    assert!(half >= drain / 2 && half < drain, "{half:?}");
    let answer = follow(&mut bob).await;
    answer.assert_ended(Reason::Interrupted, "Half an answer");
    assert_eq!(answer.done.detail, "the server is going away");
    let (closing, status) = bob.end().await;
    let closing = closing.unwrap();
    assert_eq!((closing.reason(), closing.reconnect), (pb::ClosingReason::Draining, true));
    assert_eq!(status.unwrap_err().code(), tonic::Code::Unavailable);
    tasks.join_next().await.unwrap().unwrap();
    assert!(began.elapsed() < drain, "nobody held it up: {:?}", began.elapsed());
}
