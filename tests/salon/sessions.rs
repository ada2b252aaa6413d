//! Sessions over real connections: joining, talking, resuming, leaving.

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};

use crate::harness::{
    Session, TestServer,
    session::{is_lasting, message},
};

#[tokio::test]
async fn what_one_says_everybody_hears_in_the_same_bytes() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let ack = ann.talk("hello").await;
    let heard = bob.find(|event| event.seq == ack.seq).await;
    assert_eq!(heard, ann.find(|event| event.seq == ack.seq).await);
    let Some(Payload::MessageReceived(received)) = heard.payload else { panic!("{heard:?}") };
    let said = received.message.unwrap();
    assert_eq!((said.content.as_str(), said.sender_id.as_str()), ("hello", "ann"));
    assert_eq!((&said.message_id, &ack.event_id), (&heard.event_id, &heard.event_id));
    server.shutdown().await;
}

#[tokio::test]
async fn a_resume_from_every_position_is_the_stream_that_never_left() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut last = 0;
    for n in 0..200 {
        last = ann.talk(&format!("message {n}")).await.seq;
    }
    let whole = server.log(&room).await;
    assert!(whole.iter().map(|event| event.seq).eq(1..=last));
    for after in 0..=last {
        let mut resumed = Session::resume(server.client().await, &room, "ann", after).await;
        let first = resumed.next().await;
        let Some(Payload::Resumed(told)) = &first.payload else { panic!("{first:?}") };
        assert_eq!((told.after_seq, first.seq), (after, last));
        let missed = if after < last { resumed.lasting_until(last).await } else { Vec::new() };
        assert!(missed.iter().eq(whole.iter().filter(|event| event.seq > after)), "after {after}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_join_during_a_storm_misses_nothing_and_doubles_nothing() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    for n in 0..300 {
        ann.say(message(&format!("{n}"))).await;
        if n % 30 == 0 {
            let mut late = server.join(&room, &format!("late-{n}")).await;
            let end = late.talk("here").await.seq;
            let positions: Vec<u64> = late.lasting_until(end).await.iter().map(|event| event.seq).collect();
            assert!(positions.into_iter().eq(late.seq + 1..=end));
        }
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_user_is_online_from_the_first_connection_to_the_last() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let first = server.join(&room, "bob").await;
    let second = server.join(&room, "bob").await;
    let joined = |payload: &Payload| match payload {
        Payload::UserJoined(joined) => joined.user.clone().map(|user| user.id),
        _ => None,
    };
    assert_eq!(ann.pick(joined).await, "bob");
    drop(first);
    drop(second);
    let left = |payload: &Payload| match payload {
        Payload::UserLeft(left) => Some(left.user_id.clone()),
        _ => None,
    };
    assert_eq!(ann.pick(left).await, "bob");
    let rest = ann.settle().await;
    assert!(rest.iter().all(|event| event.payload.as_ref().and_then(joined).is_none()));
    assert!(rest.iter().all(|event| event.payload.as_ref().and_then(left).is_none()));
    server.shutdown().await;
}

#[tokio::test]
async fn leaving_ends_the_membership_and_the_stream() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    bob.say(Say::Leave(pb::LeaveRoom { keep_membership: false })).await;
    let (closing, status) = bob.end().await;
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::Left);
    assert!(status.is_ok());
    let change = ann.find(|event| matches!(&event.payload, Some(Payload::MemberChanged(c)) if c.change() == pb::MemberChange::Left)).await;
    assert!(is_lasting(&change));
    server.shutdown().await;
}

#[tokio::test]
async fn what_was_missed_is_told_to_a_client_that_has_said_all() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut last = 0;
    // More than fits into a queue at once.
    for n in 0..600 {
        last = ann.talk(&format!("message {n}")).await.seq;
    }
    let mut resumed = Session::resume(server.client().await, &room, "ann", 1).await;
    resumed.finish();
    assert!(matches!(resumed.next().await.payload, Some(Payload::Resumed(_))));
    let missed: Vec<u64> = resumed.lasting_until(last).await.iter().map(|event| event.seq).collect();
    assert!(missed.into_iter().eq(2..=last));
    let (closing, status) = resumed.end().await;
    assert_eq!((closing.unwrap().resume_seq, status.is_ok()), (last, true));
    server.shutdown().await;
}

#[tokio::test]
async fn a_drain_tells_everybody_where_to_resume() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let last = ann.talk("hello").await.seq;
    let reader = tokio::spawn(async move { ann.end().await });
    server.shutdown().await;
    let (closing, status) = reader.await.unwrap();
    let closing = closing.unwrap();
    assert_eq!(
        (closing.reason(), closing.reconnect, closing.resume_seq),
        (pb::ClosingReason::Draining, true, last)
    );
    assert_eq!(status.unwrap_err().code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn a_client_that_has_finished_speaking_still_gets_every_answer() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = Session::open(server.client().await).await;
    ann.say(Say::Join(crate::harness::session::join(&room, "ann"))).await;
    for n in 0..20 {
        ann.say(message(&format!("{n}"))).await;
    }
    let read = Say::MarkRead(pb::MarkRead { seq: 1, ..Default::default() });
    ann.send(pb::ClientMessage { payload: Some(read), request_id: "read".into() }).await;
    ann.finish();
    let (mut heard, mut acked) = (0, false);
    while let Some(event) = ann.try_next().await.unwrap() {
        heard += usize::from(matches!(event.payload, Some(Payload::MessageReceived(_))));
        acked |= event.request_id == "read" && matches!(event.payload, Some(Payload::Ack(_)));
    }
    assert_eq!((heard, acked), (20, true));
    server.shutdown().await;
}
