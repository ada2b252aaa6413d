//! Connections and streams that break off, say nothing, or speak something else.

use std::time::{Duration, Instant};

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tonic::Code;

use super::Scene;
use crate::harness::{
    DEADLINE, Session, Setup, TestServer,
    raw::{RawSession, call, encode, frame},
    session::{join, message},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SESSION_PATH: &str = "/room.v1.RoomService/RoomSession";

async fn tcp(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.server.address().unwrap()).await.unwrap()
}

/// Reads until the server closes the connection.
async fn closed(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the connection stays open");
    rest
}

async fn gone(bystander: &mut Session, user: &str) {
    let left = |payload: &Payload| match payload {
        Payload::UserLeft(left) if left.user_id == user => Some(()),
        _ => None,
    };
    bystander.pick(left).await;
}

#[tokio::test]
async fn a_half_close_ends_the_session_politely() {
    let mut scene = Scene::new().await;
    let mut done = scene.join("done").await;
    done.say(message("my last words")).await;
    done.finish();
    let (closing, status) = done.end().await;
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::Left);
    status.unwrap();
    gone(&mut scene.bystander, "done").await;
    // The membership stays: only the stream has ended.
    assert!(scene.join("looker").await.state.participants.iter().any(|p| p.id == "done" && !p.is_online));
    // Without a join it is the same.
    let mut silent = Session::open(scene.server.client().await).await;
    silent.finish();
    assert_eq!(silent.end().await.0.unwrap().reason(), pb::ClosingReason::Left);
    scene.unharmed().await;
}

#[tokio::test]
async fn a_reset_ends_the_session_at_once() {
    let mut scene = Scene::new().await;
    for n in 0..20 {
        let user = format!("user-{n}");
        let mut session = scene.join(&user).await;
        session.say(message("and off")).await;
        drop(session);
        gone(&mut scene.bystander, &user).await;
    }
    // In the middle of a message.
    let mut half = RawSession::join(scene.server.channel().await, &scene.room, "half").await;
    half.bytes(frame(0, &encode("x", message("never whole"))).slice(..9)).await;
    drop(half);
    gone(&mut scene.bystander, "half").await;
    assert_eq!(scene.server.server.graph().rooms.registry().session_count(), 1);
    scene.unharmed().await;
}

#[tokio::test]
async fn a_stream_that_never_joins_is_closed() {
    let setup = Setup::default().config(|config| config.limits.join_timeout = Duration::from_millis(200));
    let scene = Scene::with(setup, &[]).await;
    let mut silent = Session::open(scene.server.client().await).await;
    let mut busy = Session::open(scene.server.client().await).await;
    busy.say(Say::Ping(pb::Ping {})).await;
    for session in [&mut silent, &mut busy] {
        let (closing, status) = session.end().await;
        assert_eq!(closing.unwrap().reason(), pb::ClosingReason::JoinTimeout);
        assert_eq!(status.unwrap_err().code(), Code::DeadlineExceeded);
    }
    scene.unharmed().await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_the_stream_with_the_reason() {
    let scene = Scene::new().await;
    let limit = scene.server.config.limits.grpc_message;
    let mut large = RawSession::join(scene.server.channel().await, &scene.room, "large").await;
    // Padded with an unknown field up to the limit exactly: that is fine.
    let mut bytes = encode("largest", message("hello"));
    let padding = limit - bytes.len() - 5;
    bytes.extend([0x9a, 0x06]);
    prost::encoding::encode_varint(padding as u64, &mut bytes);
    bytes.resize(limit, 0);
    large.bytes(frame(0, &bytes)).await;
    assert!(matches!(large.answer("largest").await, Payload::Ack(_)));
    // One more is not, nor is a length that no message can have. It is refused before it is there.
    for beyond in [u32::try_from(limit).unwrap() + 1, u32::MAX] {
        let mut large = RawSession::join(scene.server.channel().await, &scene.room, "large").await;
        let mut start = vec![0];
        start.extend(beyond.to_be_bytes());
        large.bytes(start.into()).await;
        let (errors, closing, status) = large.end().await;
        assert_eq!(errors[0].code, "resource_exhausted");
        assert!(errors[0].message.contains(&limit.to_string()), "{errors:?}");
        assert_eq!(closing.unwrap().reason(), pb::ClosingReason::ProtocolError);
        assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
    }
    let name = "x".repeat(limit);
    let request = pb::CreateRoomRequest { name, ..Default::default() };
    let status = scene.server.client().await.create_room(request).await.unwrap_err();
    assert!([Code::ResourceExhausted, Code::OutOfRange].contains(&status.code()), "{status:?}");
    scene.unharmed().await;
}

#[tokio::test]
async fn compressed_messages_are_refused_and_said_to_be() {
    let scene = Scene::new().await;
    // Announced: the call is refused.
    let encoding = [("grpc-encoding", "gzip")];
    for path in [SESSION_PATH, "/room.v1.RoomService/GetRoom"] {
        let (sender, response) = call(scene.server.channel().await, path, &encoding).await;
        let _ = sender.send(frame(1, &[0x1f, 0x8b, 0x08])).await;
        let status = response.headers().get("grpc-status").expect("refused before a body").to_str().unwrap();
        assert_eq!(status, "12", "{path}: UNIMPLEMENTED");
    }
    // Unannounced: the stream cannot be read any further.
    let mut sly = RawSession::join(scene.server.channel().await, &scene.room, "sly").await;
    sly.bytes(frame(1, &encode("x", message("hello")))).await;
    let (_, closing, status) = sly.end().await;
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::ProtocolError);
    assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
    // No encoding is one as well.
    let (sender, response) =
        call(scene.server.channel().await, SESSION_PATH, &[("grpc-encoding", "identity")]).await;
    assert!(response.headers().get("grpc-status").is_none());
    drop(sender);
    scene.unharmed().await;
}

#[tokio::test]
async fn what_is_no_grpc_is_hung_up_on() {
    let scene = Scene::new().await;
    let hello: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for garbage in
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", hello, &noise, b"\0", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"]
    {
        let mut stream = tcp(&scene.server).await;
        stream.write_all(garbage).await.unwrap();
        assert_eq!(closed(stream).await, b"", "{garbage:?}");
    }
    // A preface and then noise: HTTP/2 says goodbye in its own words.
    let mut stream = tcp(&scene.server).await;
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&noise).await.unwrap();
    closed(stream).await;
    // And some that go at once.
    for _ in 0..20 {
        drop(tcp(&scene.server).await);
    }
    scene.unharmed().await;
}

#[tokio::test]
async fn half_a_preface_and_then_silence_is_closed_in_time() {
    let handshake = Duration::from_millis(300);
    let setup = Setup::default().config(|config| config.grpc.handshake_timeout = handshake);
    let scene = Scene::with(setup, &[]).await;
    for start in [&[][..], &PREFACE[..1], &PREFACE[..PREFACE.len() - 1]] {
        let mut stream = tcp(&scene.server).await;
        let begun = Instant::now();
        stream.write_all(start).await.unwrap();
        closed(stream).await;
        assert!(begun.elapsed() >= handshake, "{:?}", begun.elapsed());
    }
    // Whoever is slow but in time is served.
    let mut stream = tcp(&scene.server).await;
    for byte in PREFACE {
        stream.write_all(&[*byte]).await.unwrap();
    }
    let mut settings = [0; 9];
    timeout(DEADLINE, stream.read_exact(&mut settings)).await.unwrap().unwrap();
    assert_eq!(settings[3], SETTINGS);
    scene.unharmed().await;
}

#[tokio::test]
async fn one_connection_has_200_streams_and_the_others_wait() {
    const WANTED: usize = 300;
    let setup = Setup::default().config(|config| config.limits.join_timeout = Duration::from_secs(300));
    let mut scene = Scene::with(setup, &[]).await;
    let cap = usize::try_from(scene.server.config.grpc.max_streams_per_connection).unwrap();
    let shared = scene.server.client().await;
    let mut opening = JoinSet::new();
    for _ in 0..WANTED {
        let client = shared.clone();
        opening.spawn(async move {
            let mut session = Session::open(client).await;
            session.settle().await;
            session
        });
    }
    let mut open = Vec::new();
    while open.len() < cap {
        open.push(opening.join_next().await.unwrap().unwrap());
    }
    // Another connection is not held up by this one, on which nothing more happens meanwhile.
    scene.join("elsewhere").await.talk("hello").await;
    scene.bystander.talk("meanwhile").await;
    assert!(opening.try_join_next().is_none());
    // One out, one in.
    while !opening.is_empty() {
        drop(open.pop());
        open.push(opening.join_next().await.unwrap().unwrap());
    }
    assert_eq!(open.len(), cap);
    drop((open, shared));
    scene.unharmed().await;
}

const SETTINGS: u8 = 4;
const RST_STREAM: u8 = 3;
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a session stream in HPACK, all literal (RFC 7541, 6.2.2).
fn session_headers() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (index, value) in [(4, SESSION_PATH), (1, "localhost")] {
        block.extend([index, u8::try_from(value.len()).unwrap()]);
        block.extend(value.bytes());
    }
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    }
    block
}

#[tokio::test]
async fn a_client_that_ignores_the_cap_has_its_streams_refused() {
    const STREAMS: u32 = 300;
    let scene = Scene::new().await;
    let cap = scene.server.config.grpc.max_streams_per_connection;
    let mut stream = tcp(&scene.server).await;
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&h2_frame(SETTINGS, 0, 0, &[])).await.unwrap();
    for n in 0..STREAMS {
        stream.write_all(&h2_frame(1, 4, 2 * n + 1, &session_headers())).await.unwrap();
    }
    let mut refused = 0;
    while refused < STREAMS - cap {
        let mut head = [0; 9];
        timeout(DEADLINE, stream.read_exact(&mut head)).await.expect("too few were refused").unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == RST_STREAM {
            assert_eq!(payload, REFUSED_STREAM);
            refused += 1;
        }
    }
    drop(stream);
    let mut late = Session::open(scene.server.client().await).await;
    late.say(Say::Join(join(&scene.room, "late"))).await;
    late.take_state().await;
    drop(late);
    scene.unharmed().await;
}
