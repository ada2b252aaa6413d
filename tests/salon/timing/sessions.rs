//! Times of a session: the join, signs of life, typing, and the end of the server.

use tokio::time::sleep;

use super::*;
use crate::harness::session::message;

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_join_is_closed_after_ten_seconds() {
    let server = start().await;
    let mut session = Session::open(server.client().await).await;
    session.patience = PATIENCE;
    let began = Instant::now();
    // Talking is no joining.
    for _ in 0..9 {
        sleep(secs(1)).await;
        assert_eq!(session.settle().await, []);
    }
    let (closing, status) = session.end().await;
    assert_after(began, secs(10));
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::JoinTimeout);
    assert_eq!(status.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_join_at_the_last_moment_is_a_join() {
    let server = start().await;
    let room = server.room(&[]).await;
    let mut session = Session::open(server.client().await).await;
    sleep(secs(10) - GRAIN).await;
    session.say(Say::Join(crate::harness::session::join(&room, "ann"))).await;
    session.take_state().await;
    sleep(secs(20)).await;
    assert_eq!(session.settle().await, [], "nothing is left of the deadline");
    server.shutdown().await;
}

async fn heartbeat(session: &mut Session) -> u64 {
    match session.next().await.payload {
        Some(Payload::Heartbeat(heartbeat)) => heartbeat.head_seq,
        other => panic!("not a heartbeat: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_gets_a_sign_of_life_every_thirty_seconds() {
    let server = start().await;
    let room = server.room(&[]).await;
    let mut ann = join(&server, &room, "ann").await;
    assert_eq!(ann.state.heartbeat_interval_ms, 30_000);
    let mut quiet_since = Instant::now();
    for _ in 0..3 {
        assert_eq!(heartbeat(&mut ann).await, ann.seq);
        assert_after(quiet_since, secs(30));
        quiet_since = Instant::now();
    }
    sleep(secs(17)).await;
    let ack = ann.talk("hello").await;
    ann.pick(|p| matches!(p, Payload::MessageReceived(_)).then_some(())).await;
    quiet_since = Instant::now();
    assert_eq!(heartbeat(&mut ann).await, ack.last_seq);
    assert_after(quiet_since, secs(30));
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_on_which_something_happens_gets_no_sign_of_life() {
    let server = start().await;
    let room = server.room(&[]).await;
    let mut ann = join(&server, &room, "ann").await;
    for _ in 0..10 {
        sleep(secs(30) - GRAIN).await;
        assert_eq!(ann.settle().await, []);
    }
    server.shutdown().await;
}

async fn typing(session: &mut Session) -> bool {
    session
        .pick(|payload| match payload {
            Payload::UserTyping(typing) => Some(typing.is_typing),
            _ => None,
        })
        .await
}

fn types() -> Say {
    Say::Typing(pb::TypingIndicator { is_typing: true })
}

#[tokio::test(start_paused = true)]
async fn typing_ends_six_seconds_after_it_was_said_the_last_time() {
    let server = start().await;
    let room = server.room(&[]).await;
    let mut ann = join(&server, &room, "ann").await;
    let mut bob = join(&server, &room, "bob").await;
    let mut began = Instant::now();
    for _ in 0..3 {
        began = Instant::now();
        ann.command(types()).await.unwrap();
        assert!(typing(&mut bob).await);
        sleep(secs(4)).await;
    }
    assert!(!typing(&mut bob).await);
    assert_after(began, secs(6));
    sleep(secs(20)).await;
    assert_eq!(bob.settle().await, [], "it ends once");
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn typing_ends_with_the_message_and_with_the_stream() {
    let server = start().await;
    let room = server.room(&[]).await;
    let mut ann = join(&server, &room, "ann").await;
    let mut bob = join(&server, &room, "bob").await;
    bob.settle().await;
    ann.command(types()).await.unwrap();
    ann.command(message("done")).await.unwrap();
    assert!(typing(&mut bob).await && !typing(&mut bob).await);
    let heard = bob.next().await;
    assert!(matches!(heard.payload, Some(Payload::MessageReceived(_))), "{heard:?}");
    sleep(secs(10)).await;
    assert_eq!(bob.settle().await, [], "nothing expires any more");

    ann.command(types()).await.unwrap();
    assert!(typing(&mut bob).await);
    let began = Instant::now();
    drop(ann);
    assert!(!typing(&mut bob).await);
    let left = bob.next().await;
    assert!(matches!(left.payload, Some(Payload::UserLeft(_))), "{left:?}");
    assert_after(began, secs(0));
    server.shutdown().await;
}

/// On real sockets: what is not read must fill the windows of a real connection.
#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_up_the_end() {
    let server = Setup::default().config(|c| c.limits.drain = secs(2)).start().await;
    let room = server.room(&[]).await;
    let stalled = server.join(&room, "stalled").await;
    let mut ann = server.join(&room, "ann").await;
    // More than the 2 MiB that the client's side of the connection takes unread.
    for _ in 0..200 {
        ann.talk(&"x".repeat(16 << 10)).await;
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(server.shutdown());
    let (closing, _) = ann.end().await;
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::Draining);
    assert!(began.elapsed() < secs(1), "who reads is not kept waiting: {:?}", began.elapsed());
    tasks.join_next().await.unwrap().unwrap();
    let elapsed = began.elapsed();
    assert!(elapsed >= secs(2) && elapsed < secs(3), "{elapsed:?}");
    drop(stalled);
}

#[tokio::test(start_paused = true)]
async fn who_has_said_all_in_a_room_that_gathers_hears_it_before_the_end() {
    let server = start().await;
    let room = server.room(&[]).await;
    let mut all = Vec::new();
    // So many that telling them takes a timer's grain.
    for n in 0..200 {
        all.push(join(&server, &room, &format!("u{n}")).await);
    }
    let (mut ann, ben) = (all.pop().unwrap(), all.last_mut().unwrap());
    ann.settle().await;
    ben.settle().await;
    sleep(secs(1)).await;
    // Whoever stays hears the second of two a timer's grain behind the first.
    let began = Instant::now();
    ben.talk("at once").await;
    ben.talk("later").await;
    for _ in 0..2 {
        ben.pick(|payload| matches!(payload, Payload::MessageReceived(_)).then_some(())).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(1), "nothing was gathered");
    ann.settle().await;
    sleep(secs(1)).await;
    let began = Instant::now();
    // Behind the answer, so that it is not told with the first.
    ann.talk("told at once").await;
    ann.say(message("gathered")).await;
    ann.finish();
    let mut heard = Vec::new();
    while let Some(event) = ann.try_next().await.unwrap() {
        if let Some(Payload::MessageReceived(told)) = event.payload {
            heard.push(told.message.unwrap().content);
        }
    }
    assert_eq!(heard, ["told at once", "gathered"]);
    assert!(began.elapsed() < Duration::from_millis(1), "nobody waited for others");
    server.shutdown().await;
}
