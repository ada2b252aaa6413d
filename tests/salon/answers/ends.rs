//! Answers whose LLM, room or server ends before they do.

use std::{sync::Arc, time::Duration};

use salon::{
    llm::{
        Finish,
        scripted::{Call, Script, ScriptedProvider},
    },
    store::{Store as _, memory::MemoryStore},
};

use tokio::{task::JoinSet, time::Instant};

use super::*;
use crate::harness::{DEADLINE, session::message};

/// A server on which ada has begun to answer the room's ADMIN; bob watches.
async fn begun() -> (TestServer, String, [Session; 2], Call) {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).start().await;
    let (room, sessions, call) = begin(&server, &mut script).await;
    (server, room, sessions, call)
}

async fn begin(server: &TestServer, script: &mut Script) -> (String, [Session; 2], Call) {
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "admin").await;
    let bob = server.join(&room, "bob").await;
    ann.talk("@ada hello").await;
    let mut call = script.next_call().await.unwrap();
    assert!(call.text("Half an").await);
    chunk(&mut ann).await;
    (room, [ann, bob], call)
}

#[tokio::test]
async fn removing_an_llm_stops_its_answer_and_keeps_what_it_said() {
    let (server, room, [mut ann, mut bob], call) = begun().await;
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
async fn the_end_of_a_room_ends_its_answers_before_it_and_keeps_what_they_said() {
    let (server, room, [mut ann, mut bob], call) = begun().await;
    ann.command(Say::EndRoom(pb::EndRoom { reason: "late".into() })).await.unwrap();
    call.cancelled().await;
    let answer = follow(&mut bob).await;
    answer.assert_ended(Reason::Interrupted, "Half an");
    assert_eq!(answer.done.detail, "the room ended");
    bob.pick(|p| matches!(p, Payload::RoomEnded(_)).then_some(())).await;
    let (closing, status) = bob.end().await;
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::RoomEnded);
    status.unwrap();
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn the_end_of_a_room_that_is_refused_ends_no_answer() {
    let (server, room, [mut ann, mut bob], mut call) = begun().await;
    let end = || Say::EndRoom(pb::EndRoom { reason: "late".into() });
    ann.command_as("once", message("hello")).await.unwrap();
    assert_eq!(ann.command_as("once", end()).await.unwrap_err().code, "request_id_reused");
    assert_eq!(bob.command(end()).await.unwrap_err().code, "permission_denied");
    assert!(call.text(" answer").await, "it goes on");
    assert!(call.done(Finish::Stop).await);
    follow(&mut bob).await.assert_ended(Reason::Completed, "Half an answer");
    assert_eq!(all_ended_once(&server, &room).await.len(), 1);
    ann.command_as("last", end()).await.unwrap();
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_answers_go_on_for_half_of_the_grace() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).virtual_time().start_without_port().await;
    let (_, [_ann, mut bob], mut call) = begin(&server, &mut script).await;
    let (began, grace) = (Instant::now(), server.config.limits.drain);
    let mut tasks = JoinSet::new();
    tasks.spawn(server.shutdown());
    assert!(call.text(" answer").await);
    call.cancelled().await;
    let went_on = began.elapsed();
    assert!(went_on.abs_diff(grace / 2) < Duration::from_millis(10), "{went_on:?}");
    let answer = follow(&mut bob).await;
    answer.assert_ended(Reason::Interrupted, "Half an answer");
    assert_eq!(answer.done.detail, "the server is going away");
    let (closing, status) = bob.end().await;
    let closing = closing.unwrap();
    assert_eq!((closing.reason(), closing.reconnect), (pb::ClosingReason::Draining, true));
    assert_eq!(status.unwrap_err().code(), tonic::Code::Unavailable);
    tasks.join_next().await.unwrap().unwrap();
    assert!(began.elapsed() < grace, "nobody held it up: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_store_that_fails_keeps_no_server_from_ending() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let store = Arc::new(MemoryStore::new());
    let setup = Setup::default().provider(provider).store(Arc::<MemoryStore>::clone(&store));
    let server = setup.config(|c| c.limits.drain = Duration::from_secs(1)).start().await;
    let (_, _sessions, call) = begin(&server, &mut script).await;
    // From now on nothing can be recorded, not even that the answer ends.
    store.close().await.unwrap();
    tokio::time::timeout(DEADLINE, server.shutdown()).await.expect("it must end");
    assert!(call.is_cancelled());
}
