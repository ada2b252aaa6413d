//! Times of a room: the deadlines of polls and of answers, and leaving memory when nobody is there.

use std::sync::Arc;

use salon::llm::{
    Finish,
    scripted::{Call, Script, ScriptedProvider},
};
use tokio::time::sleep;

use super::*;

fn poll(closes_in: Duration) -> Say {
    let options =
        ["red", "green"].map(|text| pb::PollOptionInput { text: text.into(), ..Default::default() });
    Say::CreatePoll(pb::CreatePoll {
        question: "Which?".into(),
        options: options.into(),
        closes_in_ms: u64::try_from(closes_in.as_millis()).unwrap(),
        ..Default::default()
    })
}

fn closed(payload: &Payload) -> Option<pb::PollClosed> {
    if let Payload::PollClosed(closed) = payload { Some(closed.clone()) } else { None }
}

#[tokio::test(start_paused = true)]
async fn a_poll_closes_by_itself_at_its_deadline() {
    let server = start().await;
    let room = server.room(&[]).await;
    let mut ann = join(&server, &room, "ann").await;
    let began = Instant::now();
    ann.command(poll(secs(90))).await.unwrap();
    ann.command(poll(secs(40))).await.unwrap();
    for deadline in [40, 90] {
        let closed = ann.pick(closed).await;
        assert_after(began, secs(deadline));
        assert_eq!((closed.closed_by_id.as_str(), closed.closed_by_name.as_str()), ("", ""));
        let poll = closed.poll.unwrap();
        assert_eq!(poll.status(), pb::PollStatus::PollClosed);
        let vote = pb::CastVote { poll_id: poll.poll_id, option_ids: vec!["1".into()], ..Default::default() };
        assert_eq!(ann.command(Say::CastVote(vote)).await.unwrap_err().code, "poll_closed");
    }
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_poll_closes_although_nobody_is_there() {
    let server = start().await;
    let room = server.room(&[]).await;
    let mut ann = join(&server, &room, "ann").await;
    ann.command(poll(secs(600))).await.unwrap();
    drop(ann);
    sleep(secs(590)).await;
    let find = |log: Vec<pb::ServerEvent>| {
        log.into_iter().find(|event| event.payload.as_ref().and_then(closed).is_some())
    };
    assert_eq!(find(server.log(&room).await), None);
    sleep(secs(11)).await;
    let event = find(server.log(&room).await).expect("closed");
    let poll = event.payload.as_ref().and_then(closed).unwrap().poll.unwrap();
    assert_eq!(event.at.unwrap().seconds - poll.created_at.unwrap().seconds, 600);
    server.shutdown().await;
}

/// Rooms in memory: each has one task, beside those that are there without any room.
fn loaded(server: &TestServer, without: usize) -> usize {
    server.server.graph().tasks.len() - without
}

#[tokio::test(start_paused = true)]
async fn a_room_without_sessions_leaves_memory_and_comes_back_as_it_was() {
    let server = start().await;
    let without = server.server.graph().tasks.len();
    let room = server.room(&["ada"]).await;
    let mut ann = join(&server, &room, "ann").await;
    let ack = ann.talk("hello").await;
    ann.command(poll(secs(30))).await.unwrap();
    let react = pb::React { message_id: ack.event_id.clone(), emoji: "🎉".into(), remove: false };
    ann.command(Say::React(react)).await.unwrap();
    let edit =
        pb::EditMessage { message_id: ack.event_id, content: "hello all".into(), ..Default::default() };
    ann.command(Say::EditMessage(edit)).await.unwrap();
    ann.pick(closed).await;
    let before = join(&server, &room, "bob").await;
    // As long as somebody listens, it stays.
    sleep(secs(300)).await;
    assert_eq!(loaded(&server, without), 1);
    drop((ann, join(&server, &room, "bob").await));
    let known = before.state.clone();
    let seq = before.seq;
    drop(before);
    sleep(secs(59)).await;
    assert_eq!(loaded(&server, without), 1);
    sleep(secs(62)).await;
    assert_eq!(loaded(&server, without), 0, "at most twice the time after the last session");
    let after = join(&server, &room, "bob").await;
    assert_eq!(loaded(&server, without), 1);
    assert_eq!(after.seq, seq);
    let shown = |state: &pb::RoomState| {
        let human = |p: &&pb::Participant| p.id != "ann";
        let others: Vec<_> = state.participants.iter().filter(human).cloned().collect();
        (state.room.clone(), state.messages.clone(), state.polls.clone(), others, state.you.clone())
    };
    assert_eq!(shown(&after.state), shown(&known));
    assert_eq!(after.state.messages[0].content, "hello all");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_comes_while_a_room_is_unloaded_is_served() {
    // In real time, and with no time to stay: the room comes and goes all the while.
    let server = Setup::default().config(|c| c.rooms.idle_unload = Duration::ZERO).start().await;
    let rooms = server.server.graph().rooms.clone();
    let known = server.room(&[]).await;
    let mut callers = tokio::task::JoinSet::new();
    for (n, id) in [known.as_str(), "unknown"].into_iter().cycle().take(8).enumerate() {
        let (rooms, id) = (rooms.clone(), salon::ids::RoomId::parse(id).unwrap());
        callers.spawn(async move {
            for _ in 0..2000 {
                let code = rooms.read(&id, |room, _| room.seq).await.err().map(|rejection| rejection.code);
                let expected = (n % 2 == 1).then_some(salon::domain::rejection::Code::RoomNotFound);
                assert_eq!(code, expected);
            }
        });
    }
    while let Some(result) = callers.join_next().await {
        result.unwrap();
    }
    server.shutdown().await;
}

/// A server whose model the test plays, with the shipped limits: 30 s, 20 s and 300 s.
async fn asked() -> (TestServer, Session, Script, Call, Instant) {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server =
        Setup { provider: Arc::new(provider), ..Setup::default() }.virtual_time().start_without_port().await;
    let room = server.room(&["ada"]).await;
    let mut ann = join(&server, &room, "ann").await;
    ann.talk("@ada hello").await;
    let call = script.next_call().await.unwrap();
    (server, ann, script, call, Instant::now())
}

/// The end of the answer, and its text.
async fn end(ann: &mut Session) -> (pb::LlmDone, String) {
    let done = ann.pick(|p| if let Payload::LlmDone(done) = p { Some(done.clone()) } else { None }).await;
    let of_answer = |payload: &Payload| match payload {
        Payload::MessageReceived(r) => {
            r.message.as_ref().filter(|m| m.message_id == done.message_id).map(|m| m.content.clone())
        }
        Payload::Pong(_) => Some(String::new()),
        _ => None,
    };
    ann.say(Say::Ping(pb::Ping {})).await;
    (done.clone(), ann.pick(of_answer).await)
}

#[track_caller]
fn assert_timed_out(done: &pb::LlmDone, after: Duration) {
    assert_eq!((done.reason(), done.error_code.as_str()), (pb::LlmDoneReason::TimedOut, "timeout"));
    let elapsed = Duration::from_millis(done.duration_ms.into());
    assert!(elapsed >= after && elapsed < after + GRAIN, "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn a_model_has_thirty_seconds_for_its_first_word() {
    for accepts in [false, true] {
        let (server, mut ann, _script, mut call, began) = asked().await;
        if accepts {
            sleep(secs(10)).await;
            call.accept();
        }
        call.cancelled().await;
        assert_after(began, secs(30));
        let (done, text) = end(&mut ann).await;
        assert_timed_out(&done, secs(30));
        assert_eq!((done.first_token_ms, text.as_str()), (0, ""));
        server.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_has_twenty_seconds_for_each_further_word() {
    let (server, mut ann, _script, mut call, began) = asked().await;
    sleep(secs(29)).await;
    assert!(call.text("one").await);
    sleep(secs(19)).await;
    assert!(call.text(" two").await);
    call.cancelled().await;
    assert_after(began, secs(29 + 19 + 20));
    let (done, text) = end(&mut ann).await;
    assert_timed_out(&done, secs(68));
    assert_eq!(text, "one two");
    assert_eq!(done.first_token_ms / 1000, 29);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_ends_is_stopped_after_five_minutes() {
    let (server, mut ann, _script, mut call, began) = asked().await;
    let mut said = 0;
    while call.text("x").await && !call.is_cancelled() {
        said += 1;
        tokio::select! {
            () = sleep(secs(7)) => {}
            () = call.cancelled() => {}
        }
    }
    assert_after(began, secs(300));
    let (done, text) = end(&mut ann).await;
    assert_timed_out(&done, secs(300));
    assert_eq!(text, "x".repeat(said));
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_model_within_its_limits_completes() {
    let (server, mut ann, _script, mut call, _) = asked().await;
    for _ in 0..10 {
        sleep(secs(19)).await;
        assert!(call.text("x").await);
    }
    assert!(call.done(Finish::Stop).await);
    let (done, text) = end(&mut ann).await;
    assert_eq!((done.reason(), text.as_str()), (pb::LlmDoneReason::Completed, "xxxxxxxxxx"));
    server.shutdown().await;
}
