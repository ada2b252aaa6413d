//! Clients that say too much, too fast, or without listening.

use salon::{
    config::Limits,
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};
use tonic::Code;

use super::Scene;
use crate::harness::{
    Setup,
    raw::{RawSession, encode, frame},
    session::message,
};

const FLOOD: usize = 10_000;

/// The shipped limits, which other tests raise.
fn limited() -> Setup {
    Setup::default().config(|config| {
        let shipped = Limits::default();
        config.limits.messages_per_second = shipped.messages_per_second;
        config.limits.messages_burst = shipped.messages_burst;
        config.limits.transients_per_second = shipped.transients_per_second;
        config.limits.transients_burst = shipped.transients_burst;
    })
}

#[tokio::test]
async fn ten_thousand_commands_are_all_answered_and_few_are_carried_out() {
    let mut scene = Scene::with(limited(), &[]).await;
    let mut flooder = RawSession::join(scene.server.channel().await, &scene.room, "flooder").await;
    let (mut sent, mut acks, mut refusals) = (0, 0, 0);
    // Answers are read between two bunches, as by any client that does both.
    while acks + refusals < FLOOD {
        for _ in 0..100 {
            let command = match sent % 4 {
                0 => message("flood"),
                1 => Say::Ping(pb::Ping {}),
                2 => Say::Typing(pb::TypingIndicator { is_typing: true }),
                _ => Say::Signal(pb::SendSignal { r#type: "flood".into(), ..Default::default() }),
            };
            flooder.say(&format!("r{sent}"), command).await;
            sent += 1;
        }
        while acks + refusals < sent {
            let event = flooder.next().await.unwrap().expect("a client that reads stays connected");
            match event.payload.unwrap() {
                _ if event.request_id.is_empty() => {}
                Payload::Ack(_) | Payload::Pong(_) => acks += 1,
                Payload::Error(error) => {
                    assert_eq!((error.code.as_str(), error.retryable), ("rate_limited", true));
                    assert!((1..=1001).contains(&error.retry_after_ms), "{error:?}");
                    refusals += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        if sent % 1000 == 0 {
            // How fast one user goes takes nothing from another.
            scene.bystander.talk("meanwhile").await;
        }
    }
    assert!(refusals > FLOOD * 9 / 10, "{acks} of {FLOOD} were carried out");
    assert!(acks >= 40, "{acks}: the bursts are granted");
    scene.unharmed().await;
}

#[tokio::test]
async fn whoever_sends_without_reading_is_closed_and_holds_no_memory() {
    let mut scene = Scene::with(limited(), &[]).await;
    let mut deaf = RawSession::join(scene.server.narrow_channel(64 * 1024).await, &scene.room, "deaf").await;
    let flood = frame(0, &encode("again", Say::Ping(pb::Ping {})));
    // It goes on until nobody takes it any more: then the stream is over.
    let sending = async {
        for _ in 0..FLOOD {
            deaf.bytes(flood.clone()).await;
        }
        std::future::pending::<()>().await;
    };
    let left = scene.bystander.pick(|payload| match payload {
        Payload::UserLeft(left) => Some(left.user_id.clone()),
        _ => None,
    });
    tokio::select! {
        () = sending => unreachable!(),
        left = left => assert_eq!(left, "deaf"),
    }
    assert_eq!(scene.server.server.graph().rooms.registry().session_count(), 1);
    // The reason waits for it, behind no more answers than the budget and the network's buffers hold.
    deaf.finish();
    let (errors, closing, status) = deaf.end().await;
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::SlowConsumer);
    assert_eq!(status.unwrap_err().code(), Code::ResourceExhausted);
    assert!(errors.len() < FLOOD / 2, "{} answers had been kept", errors.len());
    scene.unharmed().await;
}

#[tokio::test]
async fn a_flood_before_the_join_is_answered_and_still_may_join() {
    let scene = Scene::with(limited(), &[]).await;
    let mut flooder = RawSession::open(scene.server.channel().await).await;
    let mut refused = 0;
    for _ in 0..5 {
        for _ in 0..100 {
            flooder.say("early", message("flood")).await;
        }
        for _ in 0..100 {
            let Some(Payload::Error(error)) = flooder.next().await.unwrap().unwrap().payload else {
                panic!("not refused")
            };
            assert!(["not_joined", "rate_limited"].contains(&error.code.as_str()), "{error:?}");
            refused += usize::from(error.code == "rate_limited");
        }
    }
    assert!(refused > 400, "{refused}");
    scene.unharmed().await;
}
