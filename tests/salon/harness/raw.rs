//! A session stream whose bytes the test writes itself: for what no generated client can say.

use std::convert::Infallible;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, StreamBody};
use prost::Message as _;
use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Code, Status, Streaming,
    body::Body,
    client::GrpcService as _,
    codec::{Codec as _, CompressionEncoding},
    transport::Channel,
};

use super::{
    DEADLINE,
    session::{join, message},
};

/// A stream of hand-made bytes; it is reset when this is dropped.
pub struct RawSession {
    sender: Option<mpsc::Sender<Bytes>>,
    receiver: Streaming<pb::ServerEvent>,
}

/// A message as gRPC frames it.
pub fn frame(flags: u8, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(flags);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

/// A client's message, encoded.
pub fn encode(request_id: &str, payload: Say) -> Vec<u8> {
    pb::ClientMessage { payload: Some(payload), request_id: request_id.into() }.encode_to_vec()
}

/// Opens `path` with these headers besides the usual ones.
pub async fn call(
    mut channel: Channel,
    path: &str,
    headers: &[(&str, &str)],
) -> (mpsc::Sender<Bytes>, http::Response<Body>) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1024);
    let frames =
        ReceiverStream::new(receiver).map(|bytes| Ok::<_, Infallible>(http_body::Frame::data(bytes)));
    let mut request =
        http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::new(StreamBody::new(frames).map_err(|never| match never {}));
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = timeout(DEADLINE, channel.call(request.body(body).unwrap())).await.unwrap().unwrap();
    (sender, response)
}

/// Calls `path` with one message, as no generated client is needed for it; the code of the status.
pub async fn unary(mut channel: Channel, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Code {
    let mut request =
        http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::new(Full::new(frame(0, message)).map_err(|never| match never {}));
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = timeout(DEADLINE, channel.call(request.body(body).unwrap())).await.unwrap().unwrap();
    let (parts, body) = response.into_parts();
    let read = timeout(DEADLINE, body.collect()).await.unwrap().unwrap();
    let status = parts.headers.get("grpc-status").or_else(|| read.trailers()?.get("grpc-status"));
    Code::from_bytes(status.unwrap().as_bytes())
}

impl RawSession {
    /// Opens a stream and says nothing.
    pub async fn open(channel: Channel) -> Self {
        let (sender, response) = call(channel, "/room.v1.RoomService/RoomSession", &[]).await;
        let decoder = tonic_prost::ProstCodec::<pb::ClientMessage, pb::ServerEvent>::default().decoder();
        let none: Option<CompressionEncoding> = None;
        let receiver =
            Streaming::new_response(decoder, response.into_body(), http::StatusCode::OK, none, None);
        Self { sender: Some(sender), receiver }
    }

    /// Opens a stream, joins, and takes the `room_state`.
    pub async fn join(channel: Channel, room: &str, user: &str) -> Self {
        let mut session = Self::open(channel).await;
        session.say("join", Say::Join(join(room, user))).await;
        assert!(matches!(session.answer("join").await, Payload::RoomState(_)));
        session
    }

    /// Sends bytes as they are. A stream that has ended takes none; why it ended is there to be read.
    pub async fn bytes(&mut self, bytes: Bytes) {
        let _ = self.sender.as_ref().expect("the stream was finished").send(bytes).await;
    }

    /// Sends a well-formed message.
    pub async fn say(&mut self, request_id: &str, payload: Say) {
        self.bytes(frame(0, &encode(request_id, payload))).await;
    }

    /// Half-closes.
    pub fn finish(&mut self) {
        self.sender = None;
    }

    /// The next event, the end, or the status.
    pub async fn next(&mut self) -> Result<Option<pb::ServerEvent>, Status> {
        timeout(DEADLINE, self.receiver.message()).await.expect("nothing came")
    }

    /// The payload of the event that answers `request_id`; what comes before it is thrown away.
    pub async fn answer(&mut self, request_id: &str) -> Payload {
        loop {
            let event = self.next().await.unwrap().expect("the stream ended");
            if event.request_id == request_id {
                return event.payload.expect("an empty answer");
            }
        }
    }

    /// The refusal of `request_id`.
    pub async fn refusal(&mut self, request_id: &str) -> pb::Error {
        match self.answer(request_id).await {
            Payload::Error(error) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Says something that must be acknowledged: the stream lives.
    pub async fn lives(&mut self) {
        self.say("lives", message("I am still here")).await;
        let answer = self.answer("lives").await;
        assert!(matches!(answer, Payload::Ack(_)), "{answer:?}");
    }

    /// Reads to the end: the last errors, the closing event and the status.
    pub async fn end(&mut self) -> (Vec<pb::Error>, Option<pb::Closing>, Result<(), Status>) {
        let (mut errors, mut closing) = (Vec::new(), None);
        loop {
            match self.next().await.map(|event| event.map(|event| event.payload)) {
                Ok(Some(Some(Payload::Error(error)))) => errors.push(error),
                Ok(Some(Some(Payload::Closing(last)))) => closing = Some(last),
                Ok(Some(_)) => {}
                Ok(None) => return (errors, closing, Ok(())),
                Err(status) => return (errors, closing, Err(status)),
            }
        }
    }
}
