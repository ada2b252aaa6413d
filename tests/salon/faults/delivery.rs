//! Delivery: everybody hears everything, once and in the same order, whoever is slow or comes late.

use std::time::Duration;

use salon::{
    config::Config,
    wire::pb::room::v1::{
        self as pb, client_message::Payload as Say, room_service_client::RoomServiceClient,
        server_event::Payload,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::messages;
use crate::harness::{
    DEADLINE, Session, Setup, TestServer,
    session::{is_lasting, join, message},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_23_the_snapshot_and_what_follows_are_the_log_without_a_seam() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let writing = async {
        for n in 0..400 {
            ann.talk(&format!("{n}")).await;
        }
    };
    let joining = async {
        let mut joined = Vec::new();
        for n in 0..20 {
            joined.push(server.join(&room, &format!("late-{n}")).await);
        }
        joined
    };
    let ((), mut joined) = tokio::join!(writing, joining);
    let log = server.log(&room).await;
    let head = log.last().unwrap().seq;
    let said = messages(&log);
    for late in &mut joined {
        // The snapshot is the log up to its position: the last 50 messages of it, and nothing from behind.
        let until = log.iter().filter(|event| event.seq <= late.seq).count();
        let known: Vec<String> = messages(&log[..until]).into_iter().map(|m| m.message_id).collect();
        let shown: Vec<String> = late.state.messages.iter().map(|m| m.message_id.clone()).collect();
        assert_eq!(shown, known[known.len().saturating_sub(50)..], "{}", late.user);
        assert!(late.state.participants.iter().any(|p| p.id == late.user), "oneself included");
        let rest = if late.seq < head { late.lasting_until(head).await } else { Vec::new() };
        assert_eq!(rest, log[until..], "{}", late.user);
    }
    assert_eq!(said.len(), 400);
    server.shutdown().await;
}

/// A client that lets the server send 64 KiB, and reads only when it is asked to.
async fn slow_client(server: &TestServer) -> RoomServiceClient<tonic::transport::Channel> {
    let window = 65_535;
    let endpoint = Endpoint::from_shared(server.url.clone()).unwrap();
    let endpoint = endpoint.initial_stream_window_size(window).initial_connection_window_size(window);
    RoomServiceClient::new(endpoint.connect().await.unwrap())
}

#[tokio::test]
async fn fault_24_a_slow_reader_has_a_bounded_queue_and_misses_nothing() {
    let limits = |config: &mut Config| {
        config.limits.queue_events = 16;
        config.limits.commands_in_flight = 1000;
    };
    let server = Setup::default().config(limits).start().await;
    let room = server.room(&[]).await;
    let mut slow = Session::join(slow_client(&server).await, &room, "slow").await;
    let mut ann = server.join(&room, "ann").await;
    let text = "x".repeat(4096);

    // What lasts comes once each and in order, though it was too much for the queue: `resumed` tells that the rest
    // was not kept for this reader but read from the log.
    let mut head = 0;
    for _ in 0..300 {
        head = ann.talk(&text).await.seq;
    }
    let (mut positions, mut resumed) = (Vec::new(), 0);
    while resumed == 0 || positions.last() != Some(&head) {
        let event = slow.next().await;
        match &event.payload {
            Some(Payload::Resumed(_)) => resumed += 1,
            _ if is_lasting(&event) => positions.push(event.seq),
            _ => {}
        }
    }
    assert!(positions.iter().copied().eq(slow.seq + 1..=head), "{positions:?}");

    // What does not last is left out.
    for _ in 0..150 {
        ann.say(Say::Typing(pb::TypingIndicator { is_typing: true })).await;
        ann.say(message(&text)).await;
    }
    head = ann.talk("the last").await.seq;
    let (mut rest, mut typing) = (Vec::new(), 0);
    while rest.last() != Some(&head) {
        let event = slow.next().await;
        match &event.payload {
            Some(Payload::UserTyping(_)) => typing += 1,
            _ if is_lasting(&event) => rest.push(event.seq),
            _ => {}
        }
    }
    assert!(rest.iter().copied().eq(positions.last().unwrap() + 1..=head), "{rest:?}");
    assert!(typing < 300, "all typing was kept for a reader who did not read");

    // From here on it is as live as any other.
    let seq = ann.talk("are you there?").await.seq;
    assert_eq!(slow.lasting_until(seq).await.len(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn fault_24_who_sends_without_reading_the_answers_is_ended_and_told_so() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let (sender, receiver) = mpsc::channel(16);
    let mut client = slow_client(&server).await;
    let mut stream = client.room_session(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let join = pb::ClientMessage { payload: Some(Say::Join(join(&room, "flood"))), ..Default::default() };
    sender.send(join).await.unwrap();
    let mut ann = server.join(&room, "ann").await;
    for n in 0..10_000 {
        let request_id = format!("{n:0>120}");
        let ping = pb::ClientMessage { payload: Some(Say::Ping(pb::Ping {})), request_id };
        if !matches!(timeout(Duration::from_secs(1), sender.send(ping)).await, Ok(Ok(()))) {
            break;
        }
    }
    ann.talk("nobody else is held up").await;
    let mut closing = None;
    let status = loop {
        match timeout(DEADLINE, stream.message()).await.unwrap() {
            Ok(Some(event)) => {
                if let Some(Payload::Closing(last)) = event.payload {
                    closing = Some(last);
                }
            }
            Ok(None) => panic!("the stream ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::SlowConsumer);
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_31_everybody_hears_everything_in_the_same_order() {
    const EACH: usize = 150;
    // Everything is said at once, without waiting for acks.
    let server = Setup::default().config(|config| config.limits.commands_in_flight = EACH).start().await;
    let room = server.room(&[]).await;
    let mut sessions = Vec::new();
    for user in ["ann", "bob", "carl", "listener"] {
        sessions.push(server.join(&room, user).await);
    }
    let mut speaking = tokio::task::JoinSet::new();
    for mut session in sessions {
        speaking.spawn(async move {
            let speaks = session.user != "listener";
            for n in (0..EACH).filter(|_| speaks) {
                session.say(message(&format!("{n}"))).await;
            }
            let mut heard = Vec::new();
            while heard.len() < 3 * EACH {
                let event = session.next().await;
                match &event.payload {
                    Some(Payload::MessageReceived(_)) => heard.push(event),
                    Some(Payload::Error(error)) if error.retryable => panic!("{error:?}"),
                    _ => {}
                }
            }
            (session, heard)
        });
    }
    let heard = speaking.join_all().await;
    let log: Vec<pb::ServerEvent> = server.log(&room).await;
    let said: Vec<&pb::ServerEvent> =
        log.iter().filter(|event| matches!(event.payload, Some(Payload::MessageReceived(_)))).collect();
    assert_eq!(said.len(), 3 * EACH);
    for (session, heard) in &heard {
        assert!(heard.iter().eq(said.iter().copied()), "{}", session.user);
    }
    // And what one of them says keeps its own order.
    for user in ["ann", "bob", "carl"] {
        let own = messages(&log).into_iter().filter(|m| m.sender_id == user).map(|m| m.content);
        assert!(own.eq((0..EACH).map(|n| n.to_string())), "{user}");
    }
    server.shutdown().await;
}
