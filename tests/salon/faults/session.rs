//! Sessions: what is refused, where one belongs, and what is told of those who are there.

use std::time::Duration;

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};
use tokio::time::Instant;

use super::{add_llm, create_poll, interrupt, messages, poll, quiet, vote};
use crate::harness::{
    Session, Setup, TestServer,
    session::{is_lasting, join, message},
};

const NOBODY: &str = "0190a0a0-0000-7000-8000-000000000000";

#[tokio::test]
async fn fault_19_every_refused_command_gets_an_error_that_names_it() {
    let server = TestServer::start().await;
    let room = server.room(&["bot"]).await;
    let mut ann = Session::open(server.client().await).await;
    for say in [
        message("too early"),
        Say::Typing(pb::TypingIndicator { is_typing: true }),
        interrupt("bot", None),
        add_llm("new"),
        vote(NOBODY, &["1"]),
        Say::Leave(pb::LeaveRoom { keep_membership: true }),
    ] {
        assert_eq!(ann.command(say).await.unwrap_err().code, "not_joined");
    }
    ann.say(Say::Join(join(&room, "ann"))).await;
    ann.take_state().await;
    let asked = create_poll(&mut ann, poll("Lunch?", &["pizza", "sushi"])).await;
    let known = asked.poll_id.as_str();
    quiet(&server, &room).await;
    let before = server.log(&room).await.len();
    let reply = pb::SendMessage { content: "x".into(), reply_to: Some(NOBODY.into()), ..Default::default() };
    let long = "x".repeat(server.config.limits.message_bytes + 1);
    for (say, code, field) in [
        (message(" \n"), "invalid_argument", "message.content"),
        (message(&long), "invalid_argument", "message.content"),
        (Say::Message(reply), "not_found", ""),
        (add_llm("bot"), "already_exists", "llm.id"),
        (add_llm(""), "invalid_argument", "llm.id"),
        (Say::RemoveLlm(pb::RemoveLlm { llm_id: "nobody".into() }), "not_found", ""),
        (vote(NOBODY, &["1"]), "not_found", ""),
        (vote("nonsense", &["1"]), "not_found", ""),
        (vote(known, &["9"]), "not_found", ""),
        (vote(known, &[]), "invalid_argument", "cast_vote.option_ids"),
        (vote(known, &["1", "2"]), "invalid_argument", "cast_vote.option_ids"),
        (vote(known, &["1", "1"]), "invalid_argument", "cast_vote.option_ids"),
        (Say::CreatePoll(poll("Alone?", &["yes"])), "invalid_poll", "create_poll.options"),
        (Say::CreatePoll(poll("Same?", &["yes", "Yes"])), "invalid_poll", "create_poll.options.text"),
        (Say::ClosePoll(pb::ClosePoll { poll_id: NOBODY.into() }), "not_found", ""),
        (interrupt("nobody", None), "not_found", ""),
        (Say::Join(join(&room, "ann")), "already_joined", ""),
        (
            Say::MarkRead(pb::MarkRead { seq: 1 << 40, ..Default::default() }),
            "invalid_argument",
            "mark_read.seq",
        ),
    ] {
        let error = ann.command(say.clone()).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.field.as_str()), (code, field), "{say:?}: {error:?}");
        assert!(!error.message.is_empty() && !error.retryable, "{error:?}");
    }
    // What is no command at all is answered, too, and the stream lives.
    ann.send(pb::ClientMessage { payload: None, request_id: "empty".into() }).await;
    let event = ann.find(|event| event.request_id == "empty").await;
    assert!(
        matches!(&event.payload, Some(Payload::Error(error)) if error.code == "unsupported"),
        "{event:?}"
    );
    assert_eq!(server.log(&room).await.len(), before, "nothing of it happened");
    server.shutdown().await;
}

#[tokio::test]
async fn fault_20_who_could_not_join_has_no_room() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut watcher = server.join(&room, "watcher").await;
    let mut ann = Session::open(server.client().await).await;
    for nowhere in ["later", "not a room"] {
        let error = ann.command(Say::Join(join(nowhere, "ann"))).await.unwrap_err();
        assert_eq!(error.code, "room_not_found");
        assert_eq!(ann.command(message("into the void")).await.unwrap_err().code, "not_joined");
    }
    // The room that comes into being later knows nothing of it.
    let request =
        pb::CreateRoomRequest { name: "Later".into(), room_id: Some("later".into()), ..Default::default() };
    server.create(request).await;
    assert_eq!(server.log("later").await.len(), 1, "its creation");

    // The same stream may join where it can, and then belongs there alone.
    ann.say(Say::Join(join(&room, "ann"))).await;
    ann.take_state().await;
    ann.user = "ann".into();
    ann.talk("here").await;
    ann.finish();
    assert!(ann.end().await.0.is_some());
    let mut told = Vec::new();
    let mut note = |event: &pb::ServerEvent| match &event.payload {
        Some(Payload::UserJoined(_)) => told.push("joined"),
        Some(Payload::UserLeft(_)) => told.push("left"),
        Some(Payload::MessageReceived(_)) => told.push("message"),
        _ => {}
    };
    loop {
        let event = watcher.next().await;
        note(&event);
        if matches!(event.payload, Some(Payload::UserLeft(_))) {
            break;
        }
    }
    watcher.settle().await.iter().for_each(&mut note);
    assert_eq!(told, ["joined", "message", "left"]);
    assert_eq!(server.log("later").await.len(), 1);
    server.shutdown().await;
}

async fn online(server: &TestServer, room: &str) -> Vec<String> {
    let request = pb::GetRoomRequest { room_id: room.into() };
    let response = server.client().await.get_room(request).await.unwrap().into_inner();
    response.participants.into_iter().map(|participant| participant.id).collect()
}

#[tokio::test]
async fn fault_21_a_stream_is_in_one_room_only() {
    let server = TestServer::start().await;
    let (first, second) = (server.room(&[]).await, server.room(&[]).await);
    let mut ann = server.join(&first, "ann").await;
    let mut bob = server.join(&second, "bob").await;
    for user in ["ann", "another"] {
        let error = ann.command(Say::Join(join(&second, user))).await.unwrap_err();
        assert_eq!(error.code, "already_joined");
        assert!(error.message.contains(&first), "it says where: {error:?}");
    }
    assert_eq!(online(&server, &second).await, ["bob"]);
    bob.talk("in the second room").await;
    let ack = ann.talk("in the first room").await;
    let log = server.log(&first).await;
    assert_eq!(log.last().unwrap().seq, ack.seq);
    let heard = messages(&ann.settle().await);
    assert_eq!(heard.iter().map(|m| m.content.as_str()).collect::<Vec<_>>(), ["in the first room"]);
    assert_eq!(messages(&server.log(&second).await).len(), 1);
    ann.finish();
    assert!(ann.end().await.0.is_some());
    assert!(online(&server, &first).await.is_empty());
    server.shutdown().await;
}

#[tokio::test]
async fn fault_22_a_second_tab_is_one_more_and_evicts_nobody() {
    let server = Setup::default().config(|config| config.limits.sessions_per_user = 3).start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut first = server.join(&room, "bob").await;
    let mut second = server.join(&room, "bob").await;
    let seq = ann.talk("to both").await.seq;
    for tab in [&mut first, &mut second] {
        assert!(is_lasting(&tab.find(|event| event.seq == seq).await));
    }
    // What one tab says, the other hears.
    let seq = first.talk("from the first").await.seq;
    second.find(|event| event.seq == seq).await;

    second.finish();
    assert!(second.end().await.0.is_some());
    let seq = ann.talk("to the other").await.seq;
    first.find(|event| event.seq == seq).await;
    assert_eq!(online(&server, &room).await, ["ann", "bob"]);
    let gone = ann.settle().await.iter().any(|event| matches!(event.payload, Some(Payload::UserLeft(_))));
    assert!(!gone, "bob is still there");

    // There is an end to it, and the one that must go is told why.
    let mut more = Vec::new();
    for _ in 0..3 {
        more.push(server.join(&room, "bob").await);
    }
    let (closing, status) = first.end().await;
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::TooManySessions);
    assert_eq!(status.unwrap_err().code(), tonic::Code::ResourceExhausted);
    for tab in &mut more {
        tab.talk("still here").await;
    }
    server.shutdown().await;
}

async fn typing(session: &mut Session) -> bool {
    let pick = |payload: &Payload| match payload {
        Payload::UserTyping(typing) => Some(typing.is_typing),
        _ => None,
    };
    session.pick(pick).await
}

#[tokio::test(start_paused = true)]
async fn fault_25_typing_ends_by_itself_on_sending_and_on_leaving() {
    let server = Setup::default().start_without_port().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let is_typing = || Say::Typing(pb::TypingIndicator { is_typing: true });
    let expiry = server.config.limits.typing_expiry;
    let slack = Duration::from_millis(100);

    // By itself; said again, it lasts from then.
    ann.command(is_typing()).await.unwrap();
    assert!(typing(&mut bob).await);
    tokio::time::sleep(expiry / 2).await;
    ann.command(is_typing()).await.unwrap();
    assert!(typing(&mut bob).await);
    let since = Instant::now();
    assert!(!typing(&mut bob).await);
    let lasted = since.elapsed();
    assert!(lasted + slack > expiry && lasted < expiry + slack, "{lasted:?}");

    // On sending and on leaving: at once.
    ann.command(is_typing()).await.unwrap();
    assert!(typing(&mut bob).await);
    let since = Instant::now();
    ann.talk("there it is").await;
    assert!(!typing(&mut bob).await);
    ann.command(is_typing()).await.unwrap();
    assert!(typing(&mut bob).await);
    drop(ann);
    assert!(!typing(&mut bob).await);
    assert!(since.elapsed() < expiry / 2, "{:?}", since.elapsed());
    let more =
        bob.settle().await.into_iter().any(|event| matches!(event.payload, Some(Payload::UserTyping(_))));
    assert!(!more, "each end is told once");
    server.shutdown().await;
}

#[tokio::test]
async fn fault_26_a_command_is_acknowledged_and_its_repeat_is_recognised() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let ack = ann.command_as("my-1", message("once")).await.unwrap();
    assert!(ack.seq > 0 && ack.seq == ack.last_seq && !ack.duplicate);
    let heard = bob.find(|event| event.seq == ack.seq).await;
    assert_eq!((&heard.event_id, heard.request_id.as_str()), (&ack.event_id, ""));

    // A client that lost the ack with the connection says it again on the next one.
    drop(ann);
    let mut ann = server.join(&room, "ann").await;
    let again = ann.command_as("my-1", message("once")).await.unwrap();
    assert_eq!((again.seq, &again.event_id, again.duplicate), (ack.seq, &ack.event_id, true));
    let error = ann.command_as("my-1", message("twice")).await.unwrap_err();
    assert_eq!(error.code, "request_id_reused");
    // The ids of one user are not those of another.
    assert!(!bob.command_as("my-1", message("once")).await.unwrap().duplicate);
    let said = messages(&server.log(&room).await);
    assert_eq!(said.iter().map(|m| m.sender_id.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
    server.shutdown().await;
}
