//! Messages that make no sense, one by one. The stream lives on.

use std::time::{Duration, Instant};

use prost::Message as _;
use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};

use super::{Scene, refused};
use crate::harness::{
    Session, Setup,
    raw::{RawSession, encode, frame},
    session::{join, message},
};

#[tokio::test]
async fn a_stream_must_begin_with_a_join() {
    let scene = Scene::new().await;
    let mut early = Session::open(scene.server.client().await).await;
    for command in [
        message("hello"),
        Say::Typing(pb::TypingIndicator { is_typing: true }),
        Say::Leave(pb::LeaveRoom::default()),
        Say::MarkRead(pb::MarkRead { seq: 1, ..Default::default() }),
        Say::EndRoom(pb::EndRoom::default()),
    ] {
        refused(early.command(command).await, "not_joined");
    }
    early.say(Say::Join(join(&scene.room, "early"))).await;
    early.take_state().await;
    early.talk("now it is right").await;
    scene.unharmed().await;
}

#[tokio::test]
async fn a_stream_joins_once() {
    let scene = Scene::new().await;
    let other = scene.server.room(&[]).await;
    let mut twice = scene.join("twice").await;
    for room in [&scene.room, &other] {
        refused(twice.command(Say::Join(join(room, "twice"))).await, "already_joined");
        refused(twice.command(Say::Join(join(room, "somebody-else"))).await, "already_joined");
    }
    twice.talk("still in the first room").await;
    assert_eq!(scene.server.log(&other).await.len(), 1, "nobody has joined the other room");
    scene.unharmed().await;
}

#[tokio::test]
async fn a_room_that_is_not_there_cannot_be_joined() {
    let scene = Scene::new().await;
    let mut lost = Session::open(scene.server.client().await).await;
    lost.user = "lost".into();
    let long = "x".repeat(10_000);
    for room in ["no-such-room", "../../etc", "a b", "\u{0}", &long] {
        let error = lost.command(Say::Join(join(room, "lost"))).await.unwrap_err();
        let code = error.code.as_str();
        assert!(["room_not_found", "invalid_argument"].contains(&code), "{room:?}: {error:?}");
        assert!(error.message.len() < 1000, "what is wrong is not repeated at length");
    }
    for user in ["", "a\u{7}b", &long] {
        let answer = lost.command(Say::Join(join(&scene.room, user))).await;
        assert_eq!(refused(answer, "invalid_argument").field, "join.user_id");
    }
    lost.say(Say::Join(join(&scene.room, "lost"))).await;
    lost.take_state().await;
    scene.unharmed().await;
}

#[tokio::test]
async fn content_is_from_one_byte_to_the_limit() {
    let scene = Scene::new().await;
    let mut writer = scene.join("writer").await;
    let limit = scene.server.config.limits.message_bytes;
    for content in ["", " ", "\n\t "] {
        let error = refused(writer.command(message(content)).await, "invalid_argument");
        assert!(error.field.contains("content"), "{error:?}");
    }
    writer.talk("x").await;
    writer.talk(&"x".repeat(limit)).await;
    // The limit counts bytes, whatever characters they make up.
    writer.talk(&"ä".repeat(limit / 2)).await;
    for long in ["x".repeat(limit + 1), "ä".repeat(limit / 2 + 1)] {
        let error = refused(writer.command(message(&long)).await, "invalid_argument");
        assert!(error.field.contains("content") && error.message.contains(&limit.to_string()), "{error:?}");
        assert!(!error.retryable);
    }
    scene.unharmed().await;
}

#[tokio::test]
async fn content_that_is_no_utf8_is_refused_in_band() {
    let scene = Scene::new().await;
    let mut writer = RawSession::join(scene.server.channel().await, &scene.room, "writer").await;
    let mut bytes = encode("broken", message("abc"));
    let at = bytes.windows(3).position(|three| three == b"abc").unwrap();
    bytes[at] = 0xff;
    writer.bytes(frame(0, &bytes)).await;
    let error = writer.refusal("broken").await;
    assert_eq!(error.code, "invalid_argument");
    assert!(error.message.contains("content"), "{error:?}");
    writer.lives().await;
    scene.unharmed().await;
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_in_band() {
    let scene = Scene::new().await;
    let mut writer = RawSession::join(scene.server.channel().await, &scene.room, "writer").await;
    // Ends within a field; a wire type that is not there; a length beyond the end; a varint without an end.
    for broken in [&[0x12, 0x05, 0x0a][..], &[0x17], &[0x12, 0xff, 0xff, 0x03], &[0x80; 11]] {
        writer.bytes(frame(0, broken)).await;
        let event = writer.next().await.unwrap().unwrap();
        let Some(Payload::Error(error)) = event.payload else { panic!("{event:?}") };
        assert_eq!((error.code.as_str(), event.request_id.as_str()), ("invalid_argument", ""));
    }
    // One that comes in pieces is none the worse for it.
    let whole = frame(0, &encode("pieces", message("in pieces")));
    for byte in whole {
        writer.bytes(vec![byte].into()).await;
    }
    assert!(matches!(writer.answer("pieces").await, Payload::Ack(_)));
    writer.lives().await;
    scene.unharmed().await;
}

#[tokio::test]
async fn a_command_of_the_future_is_unsupported() {
    let scene = Scene::new().await;
    let mut future = RawSession::join(scene.server.channel().await, &scene.room, "future").await;
    // Field 99, length-delimited, then the request id.
    let mut bytes = vec![0x9a, 0x06, 0x03, b'n', b'e', b'w'];
    pb::ClientMessage { payload: None, request_id: "new".into() }.encode(&mut bytes).unwrap();
    future.bytes(frame(0, &bytes)).await;
    let error = future.refusal("new").await;
    assert_eq!((error.code.as_str(), error.retryable), ("unsupported", false));
    // A message without anything is the same to this server.
    future.bytes(frame(0, &[])).await;
    let event = future.next().await.unwrap().unwrap();
    assert!(matches!(event.payload, Some(Payload::Error(error)) if error.code == "unsupported"));
    // A new field within a known command is no fault.
    let mut bytes = encode("newer", message("hello"));
    bytes.extend([0x9a, 0x06, 0x00]);
    future.bytes(frame(0, &bytes)).await;
    assert!(matches!(future.answer("newer").await, Payload::Ack(_)));
    scene.unharmed().await;
}

#[tokio::test]
async fn a_reply_must_be_to_a_message_of_this_room() {
    let mut scene = Scene::new().await;
    let other = scene.server.room(&[]).await;
    let elsewhere = scene.server.join(&other, "writer").await.talk("elsewhere").await.event_id;
    let here = scene.bystander.talk("here").await.event_id;
    let joined = scene.server.log(&scene.room).await[1].event_id.clone();
    let mut writer = scene.join("writer").await;
    let reply = |to: &str| {
        Say::Message(pb::SendMessage {
            content: "yes".into(),
            reply_to: Some(to.into()),
            ..Default::default()
        })
    };
    let unknown = uuid::Uuid::from_u128(7).to_string();
    for to in ["", "not an id", &unknown, &elsewhere, &joined] {
        refused(writer.command(reply(to)).await, "not_found");
    }
    writer.command(reply(&here)).await.unwrap();
    scene.unharmed().await;
}

#[tokio::test]
async fn positions_that_are_not_there_do_no_harm() {
    let scene = Scene::new().await;
    let mut reader = scene.join("reader").await;
    for seq in [reader.seq + 1000, u64::MAX] {
        let mark = Say::MarkRead(pb::MarkRead { seq, ..Default::default() });
        assert_eq!(refused(reader.command(mark).await, "invalid_argument").field, "mark_read.seq");
    }
    let mut ahead = Session::resume(scene.server.client().await, &scene.room, "ahead", u64::MAX).await;
    ahead.take_state().await;
    ahead.talk("a fresh state it is").await;
    scene.unharmed().await;
}

#[tokio::test]
async fn sixty_four_kib_of_at_signs_are_a_message_like_any_other() {
    let at_signs = "@".repeat(64 * 1024);
    let scene = Scene::new().await;
    let mut writer = scene.join("writer").await;
    refused(writer.command(message(&at_signs)).await, "invalid_argument");
    scene.unharmed().await;

    let setup = Setup::default().config(|config| config.limits.message_bytes = 64 * 1024);
    let mut scene = Scene::with(setup, &["alpha", "beta"]).await;
    let mut writer = scene.join("writer").await;
    let begun = Instant::now();
    let seq = writer.talk(&at_signs).await.seq;
    // Going through the text once for every @ would take minutes.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let heard = scene.bystander.lasting_until(seq).await;
    let Some(Payload::MessageReceived(received)) = &heard.last().unwrap().payload else {
        panic!("{heard:?}")
    };
    let said = received.message.as_ref().unwrap();
    assert_eq!((said.content.as_str(), said.mentions.len()), (at_signs.as_str(), 0));
    scene.bystander.seq = seq;
    scene.unharmed().await;
}
