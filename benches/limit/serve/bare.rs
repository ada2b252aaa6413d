//! tonic as bare as it comes: bytes that are ready, sent by a body of its own, and of rooms only who is in them.
//!
//! A message is encoded once, with its prefix; a member is handed the same bytes and sends what waits in one piece. The
//! body of the answer reads the client's messages too, so that a stream needs no second task.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use futures_util::{
    Stream,
    future::{BoxFuture, FutureExt, ready},
};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame};
use salon::wire::pb::room::v1::{
    self as pb, client_message::Payload as Say, room_service_server::RoomServiceServer,
};
use tokio::net::TcpListener;
use tonic::{
    Streaming,
    body::Body,
    codec::Codec,
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::Service;

use super::{
    BACKLOG,
    event::{self, MAX_MESSAGE, Who},
    naive::Naive,
};

/// Frames that wait are joined up to this size.
const JOIN: usize = 16 * 1024;

/// Serves until accepting fails.
pub(super) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let service = Bare { rooms: Rooms::default(), others: RoomServiceServer::new(Naive::default()) };
    Server::builder().add_service(service).serve_with_incoming(incoming).await?;
    Ok(())
}

type Rooms = Arc<Mutex<HashMap<String, Arc<Mutex<Room>>>>>;

/// A panic ends the process of a bench: what was locked then is read by nobody.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Room {
    seq: u64,
    members: Vec<Arc<Member>>,
}

impl Room {
    fn say(&mut self, who: &Who, said: pb::SendMessage) -> pb::ServerEvent {
        self.seq += 1;
        let event = event::received(who, said, self.seq);
        let frame = frame(&event);
        for member in &self.members {
            member.push(frame.clone());
        }
        event
    }
}

fn frame(event: &pb::ServerEvent) -> Bytes {
    let mut out = BytesMut::new();
    event::put(&mut out, event);
    out.freeze()
}

/// What waits for one stream.
#[derive(Default)]
struct Member(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
    waker: Option<Waker>,
    is_dropped: bool,
}

impl Member {
    fn push(&self, frame: Bytes) {
        let mut waiting = lock(&self.0);
        if waiting.bytes > BACKLOG {
            waiting.is_dropped = true;
            waiting.frames.clear();
        } else {
            waiting.bytes += frame.len();
            waiting.frames.push_back(frame);
        }
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What waits, in one piece; nothing: it was too slow.
    fn poll(&self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut waiting = lock(&self.0);
        if let Some(bytes) = waiting.pop() {
            return Poll::Ready(Some(bytes));
        }
        if waiting.is_dropped {
            return Poll::Ready(None);
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<Bytes> {
        let first = self.frames.pop_front()?;
        let fits = |next: Option<&Bytes>, have: usize| next.is_some_and(|next| have + next.len() <= JOIN);
        let have = first.len();
        if fits(self.frames.front(), have) {
            let mut joined = BytesMut::with_capacity(self.bytes.min(JOIN));
            joined.extend_from_slice(&first);
            while fits(self.frames.front(), joined.len()) {
                if let Some(next) = self.frames.pop_front() {
                    joined.extend_from_slice(&next);
                }
            }
            self.bytes -= joined.len();
            return Some(joined.freeze());
        }
        self.bytes -= have;
        Some(first)
    }
}

/// One stream: what comes and what goes.
struct Session {
    rooms: Rooms,
    said: Streaming<pb::ClientMessage>,
    member: Arc<Member>,
    seat: Option<(Arc<Mutex<Room>>, Who)>,
    is_over: bool,
}

impl Session {
    fn handle(&mut self, message: pb::ClientMessage) {
        match (message.payload, &self.seat) {
            (Some(Say::Join(join)), None) => {
                let room = Arc::clone(lock(&self.rooms).entry(join.room_id.clone()).or_default());
                let who = Who::of(&join);
                let mut entered = lock(&room);
                self.member.push(frame(&event::room_state(&join, &who, entered.seq, message.request_id)));
                entered.members.push(Arc::clone(&self.member));
                drop(entered);
                self.seat = Some((room, who));
            }
            (Some(Say::Message(said)), Some((room, who))) => {
                let event = lock(room).say(who, said);
                self.member.push(frame(&event::ack(&event, message.request_id)));
            }
            _ => {}
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some((room, _)) = &self.seat {
            lock(room).members.retain(|member| !Arc::ptr_eq(member, &self.member));
        }
    }
}

impl HttpBody for Session {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let is_open = loop {
            match Pin::new(&mut self.said).poll_next(context) {
                Poll::Ready(Some(Ok(message))) => self.handle(message),
                Poll::Ready(Some(Err(_)) | None) => break false,
                Poll::Pending => break true,
            }
        };
        let next = if is_open { self.member.poll(context) } else { Poll::Ready(None) };
        next.map(|next| {
            Some(Ok(next.map_or_else(
                || {
                    self.is_over = true;
                    let status = ("grpc-status".parse().ok(), HeaderValue::from_static("0"));
                    let trailers = status.0.map(|name| (name, status.1));
                    Frame::trailers(HeaderMap::from_iter(trailers))
                },
                Frame::data,
            )))
        })
    }
}

/// The service: the session here, the rest as it was generated.
#[derive(Clone)]
struct Bare {
    rooms: Rooms,
    others: RoomServiceServer<Naive>,
}

impl NamedService for Bare {
    const NAME: &'static str = "room.v1.RoomService";
}

impl Service<Request<Body>> for Bare {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != "/room.v1.RoomService/RoomSession" {
            return self.others.call(request);
        }
        let decoder = ProstCodec::<pb::ServerEvent, pb::ClientMessage>::default().decoder();
        let said = Streaming::new_request(decoder, request.into_body(), None, Some(MAX_MESSAGE));
        let (rooms, member) = (Arc::clone(&self.rooms), Arc::default());
        let body = Body::new(Session { rooms, said, member, seat: None, is_over: false });
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        ready(Ok(response)).boxed()
    }
}
