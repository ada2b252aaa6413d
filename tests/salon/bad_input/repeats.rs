//! The same `request_id` again: once is once, however often and on however many streams.

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};
use tokio::task::JoinSet;

use super::{Scene, refused};
use crate::harness::session::message;

#[tokio::test]
async fn a_repeat_has_the_first_result_and_another_body_is_refused() {
    let scene = Scene::new().await;
    let mut writer = scene.join("writer").await;
    let first = writer.command_as("once", message("hello")).await.unwrap();
    assert!(!first.duplicate);
    for _ in 0..3 {
        let again = writer.command_as("once", message("hello")).await.unwrap();
        assert_eq!(again, pb::Ack { duplicate: true, ..first.clone() });
    }
    let error = refused(writer.command_as("once", message("hello!")).await, "request_id_reused");
    assert_eq!((error.field.as_str(), error.retryable), ("request_id", false));
    refused(writer.command_as("once", Say::EndRoom(pb::EndRoom::default())).await, "request_id_reused");
    // Another stream of the same user is the same sender; another user is not, and another room is another matter.
    let mut again = scene.join("writer").await;
    assert_eq!(again.command_as("once", message("hello")).await.unwrap().event_id, first.event_id);
    let mut other = scene.join("other").await;
    assert!(!other.command_as("once", message("hello")).await.unwrap().duplicate);
    let elsewhere = scene.server.room(&[]).await;
    let mut there = scene.server.join(&elsewhere, "writer").await;
    assert!(!there.command_as("once", message("hello")).await.unwrap().duplicate);
    scene.unharmed().await;
}

#[tokio::test]
async fn a_request_id_has_at_most_128_characters() {
    let scene = Scene::new().await;
    let mut writer = scene.join("writer").await;
    let longest = "x".repeat(128);
    writer.command_as(&longest, message("hello")).await.unwrap();
    let too_long = pb::ClientMessage { payload: Some(message("hello")), request_id: longest + "x" };
    writer.send(too_long).await;
    let refusal = writer.find(|event| matches!(event.payload, Some(Payload::Error(_)))).await;
    let Some(Payload::Error(error)) = refusal.payload else { unreachable!() };
    assert_eq!((error.code.as_str(), error.field.as_str()), ("invalid_argument", "request_id"));
    assert_eq!(refusal.request_id, "", "what cannot be an id is not called by it");
    scene.unharmed().await;
}

#[tokio::test]
async fn a_refused_command_may_be_mended_under_the_same_request_id() {
    let scene = Scene::new().await;
    let mut writer = scene.join("writer").await;
    refused(writer.command_as("mend", message("")).await, "invalid_argument");
    assert!(!writer.command_as("mend", message("mended")).await.unwrap().duplicate);
    scene.unharmed().await;
}

#[tokio::test]
async fn a_hundred_repeats_at_once_are_one_event() {
    const STREAMS: usize = 5;
    const REPEATS: usize = 20;
    let scene = Scene::new().await;
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let mut writer = scene.join("writer").await;
        streams.spawn(async move {
            for _ in 0..REPEATS {
                writer
                    .send(pb::ClientMessage { payload: Some(message("once")), request_id: "the-same".into() })
                    .await;
            }
            let mut acks = Vec::new();
            for _ in 0..REPEATS {
                let answer = writer.find(|event| event.request_id == "the-same").await;
                let Some(Payload::Ack(ack)) = answer.payload else { panic!("{answer:?}") };
                acks.push(ack);
            }
            acks
        });
    }
    let acks: Vec<pb::Ack> = streams.join_all().await.into_iter().flatten().collect();
    assert_eq!(acks.len(), STREAMS * REPEATS);
    assert_eq!(acks.iter().filter(|ack| !ack.duplicate).count(), 1);
    assert!(acks.iter().all(|ack| (ack.seq, &ack.event_id) == (acks[0].seq, &acks[0].event_id)));
    let log = scene.server.log(&scene.room).await;
    let said = log.iter().filter(|event| matches!(event.payload, Some(Payload::MessageReceived(_)))).count();
    assert_eq!(said, 1);
    scene.unharmed().await;
}
