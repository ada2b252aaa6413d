//! SIGTERM: everybody is told where to resume, answers get half of the grace, nobody can hold it up.

use std::time::{Duration, Instant};

use salon::wire::pb::room::v1::{self as pb, room_service_client::RoomServiceClient, server_event::Payload};
use serde_json::json;
use tokio::{net::TcpStream, task::JoinSet};
use tonic::transport::Endpoint;

use super::{Place, Salon};
use crate::{
    fake_openai::{FakeOpenAi, Reply},
    harness::Session,
};

/// What a machine with other work may add to a deadline.
const SLACK: Duration = Duration::from_secs(5);

fn done(payload: &Payload) -> Option<pb::LlmDone> {
    match payload {
        Payload::LlmDone(done) => Some(done.clone()),
        _ => None,
    }
}

/// A session that has stopped reading, with more behind it than its stream may have on the way.
async fn stuck(server: &Salon) -> Session {
    let endpoint = Endpoint::from_shared(server.url.clone()).unwrap().initial_stream_window_size(64 * 1024);
    let channel = endpoint.connect().await.unwrap();
    let stuck = Session::join(RoomServiceClient::new(channel), "r", "stuck").await;
    let mut ann = server.join("r", "ann").await;
    for _ in 0..20 {
        ann.talk(&"x".repeat(16 * 1024)).await;
    }
    stuck
}

#[tokio::test]
async fn everybody_is_told_where_to_resume_and_whoever_does_not_read_is_not_waited_for() {
    let grace = Duration::from_secs(3);
    let place = Place::new().env("SALON__LIMITS__DRAIN", "3s");
    let server = place.start().await;
    server.room("r", &[]).await;
    server.room("other", &[]).await;
    let stuck = stuck(&server).await;
    let mut readers = JoinSet::new();
    for (room, user) in [("r", "bob"), ("r", "bob"), ("r", "eve"), ("other", "bob")] {
        let mut session = server.join(room, user).await;
        let last = session.talk("here").await.seq;
        readers.spawn(async move { (room, last, session.end().await) });
    }
    let head = server.log_of("r").await.len() as u64;
    let begin = Instant::now();
    server.terminate().await;
    for (room, last, (closing, status)) in readers.join_all().await {
        let closing = closing.unwrap();
        let expected = if room == "r" { head } else { last };
        assert_eq!((closing.reason(), closing.reconnect), (pb::ClosingReason::Draining, true));
        assert_eq!(closing.resume_seq, expected);
        assert_eq!(status.unwrap_err().code(), tonic::Code::Unavailable);
    }
    assert!(begin.elapsed() < grace, "a client that reads waited for one that does not");
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(begin.elapsed() < grace + SLACK, "{:?}", begin.elapsed());
    assert!(begin.elapsed() >= grace, "the client that does not read was not there");
    drop(stuck);

    // What was promised is kept.
    let server = place.start().await;
    let mut bob = Session::resume(server.client().await, "r", "bob", head).await;
    let first = bob.next().await;
    assert_eq!(first.seq, head, "{first:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_second_signal_ends_it_now() {
    let place = Place::new().env("SALON__LIMITS__DRAIN", "10m");
    let server = place.start().await;
    server.room("r", &[]).await;
    let stuck = stuck(&server).await;
    let mut bob = server.join("r", "bob").await;
    let log = server.log_of("r").await;
    server.terminate().await;
    assert_eq!(bob.end().await.0.unwrap().reason(), pb::ClosingReason::Draining);
    server.terminate().await;
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(place.log().contains("second signal"), "{}", place.log());
    drop(stuck);
    let server = place.start().await;
    assert_eq!(server.log_of("r").await, log);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_ends_in_time_is_not_cut() {
    // The offline provider: it writes word by word, for about a second.
    let place = Place::new().env("SALON__LIMITS__DRAIN", "1m");
    let server = place.start().await;
    server.room("r", &["ada"]).await;
    let mut ann = server.join("r", "ann").await;
    ann.talk("@ada tell me everything you know about rooms").await;
    ann.find(|event| matches!(event.payload, Some(Payload::LlmChunk(_)))).await;
    server.terminate().await;
    assert_eq!(ann.pick(done).await.reason(), pb::LlmDoneReason::Completed);
    assert_eq!(ann.end().await.0.unwrap().reason(), pb::ClosingReason::Draining);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_answer_that_does_not_end_gets_half_of_the_grace_and_no_other_begins() {
    let stalling = Reply::stream().delta(&json!({"content": "Well, I would say"})).stall();
    let model = FakeOpenAi::start(stalling).await;
    let place = Place::new().env("SALON__LIMITS__DRAIN", "4s").env("OPENAI_BASE_URL", &model.base_url());
    let server = place.start().await;
    server.room("r", &["ada"]).await;
    let mut ann = server.join("r", "ann").await;
    ann.talk("@ada hello").await;
    ann.find(|event| matches!(event.payload, Some(Payload::LlmChunk(_)))).await;
    let begin = Instant::now();
    server.terminate().await;
    // Talking goes on meanwhile. Once no connection is let in any more, no LLM is asked either.
    let address = server.url.strip_prefix("http://").unwrap();
    while TcpStream::connect(address).await.is_ok() {}
    ann.talk("@ada another question").await;
    let done = ann.pick(done).await;
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(done.reason(), pb::LlmDoneReason::Interrupted);
    let closing = ann.end().await.0.unwrap();
    assert_eq!(closing.reason(), pb::ClosingReason::Draining);
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(4) + SLACK, "{:?}", begin.elapsed());
    assert_eq!(model.requests().len(), 1);
    model.disconnected(1).await;

    let server = place.start().await;
    let log = server.log_of("r").await;
    let said: Vec<&pb::Message> = log
        .iter()
        .filter_map(|event| match &event.payload {
            Some(Payload::MessageReceived(received)) => received.message.as_ref(),
            _ => None,
        })
        .collect();
    let partial = said.iter().find(|message| message.message_id == done.message_id).unwrap();
    assert_eq!(partial.content, "Well, I would say");
    let count = |is: fn(&Payload) -> bool| {
        log.iter().filter_map(|event| event.payload.as_ref()).filter(|p| is(p)).count()
    };
    assert_eq!(count(|payload| matches!(payload, Payload::LlmThinking(_))), 1);
    assert_eq!(count(|payload| matches!(payload, Payload::LlmDone(_))), 1);
    assert_eq!(closing.resume_seq, log.len() as u64);
    server.stop().await;
}
