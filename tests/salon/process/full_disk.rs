//! A disk that is full: nothing is acknowledged, reading goes on, and with more room everything goes on.

use std::time::{Duration, Instant};

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};
use serde_json::json;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Place, Salon};
use crate::{
    fake_openai::{FakeOpenAi, Reply},
    harness::{DEADLINE, Session, session::message},
};

/// Waits until the server says that it is not ready.
async fn not_ready(server: &Salon) {
    let channel = Endpoint::from_shared(server.url.clone()).unwrap().connect().await.unwrap();
    let mut watch =
        HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let found = async {
        while let Some(told) = watch.message().await.unwrap() {
            if told.status() == ServingStatus::NotServing {
                return;
            }
        }
        panic!("the server ended");
    };
    timeout(DEADLINE, found).await.expect("the server stays ready");
}

/// Talks until the disk is full; returns the acks, and the refusal of the message that comes next.
async fn fill(ann: &mut Session) -> (Vec<pb::Ack>, pb::Error) {
    let mut acks = Vec::new();
    loop {
        match ann.command_as(&format!("fill-{}", acks.len()), filler(acks.len())).await {
            Ok(ack) => acks.push(ack),
            Err(error) => return (acks, error),
        }
        assert!(acks.len() < 1000, "the disk is never full");
    }
}

fn filler(n: usize) -> Say {
    message(&format!("{n:05}").repeat(1600))
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_keeps_what_was_acknowledged() {
    let place = Place::new().env("SALON__STORE__MAX_BYTES", "1MiB");
    let server = place.start().await;
    server.room("r", &[]).await;
    let mut bob = server.join("r", "bob").await;
    let mut ann = server.join("r", "ann").await;
    let (acks, refusal) = fill(&mut ann).await;
    assert!(acks.len() > 20, "{} messages", acks.len());
    assert_eq!((refusal.code.as_str(), refusal.retryable), ("unavailable", true), "{refusal:?}");
    not_ready(&server).await;
    let health = place.run(&["health", "--server", &server.url]).await;
    assert_eq!((health.status.code(), health.stdout.as_slice()), (Some(1), &b"not serving\n"[..]));
    assert!(place.log().contains("store.max_bytes"), "{}", place.log());

    // Reading goes on: the log, history, and joining as somebody who is a member.
    let last = acks.last().unwrap().last_seq;
    let log = server.log_of("r").await;
    assert_eq!(log.len() as u64, last);
    bob.lasting_until(last).await;
    let again = server.join("r", "bob").await;
    assert_eq!((again.seq, again.state.messages.len()), (last, 50.min(acks.len())));
    let refusal = ann.command_as(&format!("fill-{}", acks.len()), filler(acks.len())).await.unwrap_err();
    assert_eq!(refusal.code, "unavailable");
    server.stop().await;

    // More room: the refused message is said, once, and what was acknowledged is not said again.
    let place = place.env("SALON__STORE__MAX_BYTES", "64MiB");
    let server = place.start().await;
    assert_eq!(server.log_of("r").await, log);
    let mut ann = Session::resume(server.client().await, "r", "ann", last).await;
    for (n, ack) in acks.iter().enumerate() {
        let repeated = ann.command_as(&format!("fill-{n}"), filler(n)).await.unwrap();
        assert_eq!(repeated, pb::Ack { duplicate: true, ..ack.clone() });
    }
    let retried = ann.command_as(&format!("fill-{}", acks.len()), filler(acks.len())).await.unwrap();
    assert_eq!((retried.seq, retried.duplicate), (last + 1, false));
    assert_eq!(server.log_of("r").await.len() as u64, last + 1);
    server.stop().await;
}

#[tokio::test]
async fn a_full_disk_does_not_hold_up_a_drain() {
    let stalling = Reply::stream().delta(&json!({"content": "Well"})).stall();
    let model = FakeOpenAi::start(stalling).await;
    let place = Place::new()
        .env("SALON__STORE__MAX_BYTES", "1MiB")
        .env("SALON__LIMITS__DRAIN", "4s")
        .env("OPENAI_BASE_URL", &model.base_url());
    let server = place.start().await;
    server.room("r", &["ada"]).await;
    let mut ann = server.join("r", "ann").await;
    ann.talk("@ada hello").await;
    ann.find(|event| matches!(event.payload, Some(Payload::LlmChunk(_)))).await;
    // The end of the answer is an event as well, and there is no room left for a small one either.
    fill(&mut ann).await;
    let mut n = 0;
    while ann.command_as(&format!("small-{n}"), message("x")).await.is_ok() {
        n += 1;
    }
    let last = server.log_of("r").await.len() as u64;
    let begin = Instant::now();
    server.terminate().await;
    let closing = ann.end().await.0.expect("everybody is told");
    assert_eq!((closing.reason(), closing.resume_seq), (pb::ClosingReason::Draining, last));
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());

    let place = place.env("SALON__STORE__MAX_BYTES", "64MiB");
    let server = place.start().await;
    let ends = server.log_of("r").await;
    let ends = ends.iter().filter_map(|event| match &event.payload {
        Some(Payload::LlmDone(done)) => Some(done.reason()),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [pb::LlmDoneReason::Interrupted]);
    server.stop().await;
}
