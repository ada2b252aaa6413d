//! A Chat Service that answers what it is told to, and misbehaves as it is told to.
//!
//! ```ignore
//! let server = FakeChatService::start(Script::text("Hello.")).await;      // the same to every request
//! let server = FakeChatService::start(|request: &ChatRequest| …).await;
//! // server.address(); server.requests(); server.disconnected(1).await;
//! ```
//!
//! The frames are written by hand, below tonic, so that a stream can stall, be cut or make no sense. Every answer
//! knows when its stream is gone, as the connection's task sees it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use salon::wire::pb::{
    api::{ChatRequest, ChatResponse, Usage},
    shared::{Delta, ToolCall},
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tonic::Code;

/// What is written next.
#[derive(Debug, Clone)]
pub enum Write {
    /// These bytes, in a frame of their own.
    Bytes(Vec<u8>),
    /// Nothing, until the client goes away.
    Stall,
    /// The connection ends.
    Cut,
    /// The trailers.
    Trailers(HeaderMap),
}

/// An answer: what is written, in order. Without trailers at its end it ends without a status.
#[derive(Debug, Clone, Default)]
pub struct Script {
    writes: Vec<Write>,
    /// Whether not even the headers come.
    is_silent: bool,
}

impl Script {
    /// An answer that says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A service that takes the request and never says anything.
    pub fn silent() -> Self {
        Self { writes: vec![Write::Stall], is_silent: true }
    }

    /// A whole answer, word by word, as the original gives it.
    pub fn text(text: &str) -> Self {
        text.split_inclusive(' ').fold(Self::new(), Self::content).ok()
    }

    /// Then more text.
    pub fn content(self, content: &str) -> Self {
        self.delta(Delta { content: content.to_owned(), ..Delta::default() })
    }

    /// Then a call, or a piece of one.
    pub fn tool(self, id: &str, name: &str, arguments: &str) -> Self {
        let call = ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() };
        self.delta(Delta { tool_calls: vec![call], ..Delta::default() })
    }

    /// Then one part with this.
    pub fn delta(self, delta: Delta) -> Self {
        self.response(&ChatResponse { model: "fake".into(), delta: Some(delta), ..ChatResponse::default() })
    }

    /// Then the tokens.
    pub fn usage(self, prompt_tokens: u32, completion_tokens: u32) -> Self {
        let usage = Some(Usage { prompt_tokens, completion_tokens });
        self.response(&ChatResponse { model: "fake".into(), usage, ..ChatResponse::default() })
    }

    /// Then the model's reason to stop.
    pub fn finish(self, reason: &str) -> Self {
        let finish_reason = reason.to_owned();
        self.response(&ChatResponse { model: "fake".into(), finish_reason, ..ChatResponse::default() })
    }

    /// Then this message.
    pub fn response(self, response: &ChatResponse) -> Self {
        self.message(&response.encode_to_vec())
    }

    /// Then a message of these bytes.
    pub fn message(self, message: &[u8]) -> Self {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).unwrap());
        frame.put_slice(message);
        self.bytes(&frame)
    }

    /// Then these bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.writes.push(Write::Bytes(bytes.to_vec()));
        self
    }

    /// Then the end, and all is well.
    pub fn ok(self) -> Self {
        self.trailers(Code::Ok, "", &[])
    }

    /// Then the end with this status.
    pub fn trailers(mut self, code: Code, message: &str, further: &[(&'static str, &str)]) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(code as i32));
        trailers.insert("grpc-message", HeaderValue::from_str(message).unwrap());
        for (name, value) in further {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        self.writes.push(Write::Trailers(trailers));
        self
    }

    /// Then nothing, until the client goes away.
    pub fn stall(mut self) -> Self {
        self.writes.push(Write::Stall);
        self
    }

    /// Then the connection is cut.
    pub fn cut(mut self) -> Self {
        self.writes.push(Write::Cut);
        self
    }

    /// The same bytes, but in frames of `size`, wherever they fall.
    pub fn in_pieces_of(mut self, size: usize) -> Self {
        let end = self.writes.iter().position(|write| !matches!(write, Write::Bytes(_))).unwrap();
        let bytes: Vec<u8> = self.writes[..end]
            .iter()
            .flat_map(|write| if let Write::Bytes(bytes) = write { bytes.clone() } else { Vec::new() })
            .collect();
        self.writes.splice(..end, bytes.chunks(size).map(|piece| Write::Bytes(piece.to_vec())));
        self
    }
}

/// Says what a request gets: a [`Script`] for all, or a function of the request.
pub trait Behaviour: Send + Sync + 'static {
    /// The answer.
    fn reply(&self, request: &ChatRequest) -> Script;
}

impl Behaviour for Script {
    fn reply(&self, _: &ChatRequest) -> Script {
        self.clone()
    }
}

impl<F: Fn(&ChatRequest) -> Script + Send + Sync + 'static> Behaviour for F {
    fn reply(&self, request: &ChatRequest) -> Script {
        self(request)
    }
}

#[derive(Clone)]
struct Shared {
    behaviour: Arc<dyn Behaviour>,
    requests: Arc<Mutex<Vec<ChatRequest>>>,
    connections: Arc<Mutex<usize>>,
    disconnects: watch::Sender<usize>,
}

/// The running server; it ends when dropped.
pub struct FakeChatService {
    address: SocketAddr,
    shared: Shared,
    _tasks: JoinSet<()>,
}

impl FakeChatService {
    /// A server on a free port of this machine.
    pub async fn start(behaviour: impl Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::listen(listener, behaviour)
    }

    /// A server behind this listener.
    pub fn listen(listener: TcpListener, behaviour: impl Behaviour) -> Self {
        let shared = Shared {
            behaviour: Arc::new(behaviour),
            requests: Arc::default(),
            connections: Arc::default(),
            disconnects: watch::Sender::new(0),
        };
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let accepting = shared.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                *accepting.connections.lock().unwrap() += 1;
                connections.spawn(connection(stream, accepting.clone()));
            }
        });
        Self { address, shared, _tasks: tasks }
    }

    /// For `chat_service.address`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What has been asked so far.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// The number of answers that were given up, as it grows.
    pub fn watch_disconnects(&self) -> watch::Receiver<usize> {
        self.shared.disconnects.subscribe()
    }

    /// Waits until `count` answers were given up.
    pub async fn disconnected(&self, count: usize) {
        let mut disconnects = self.shared.disconnects.subscribe();
        disconnects.wait_for(|seen| *seen >= count).await.unwrap();
    }
}

async fn connection(stream: tokio::net::TcpStream, shared: Shared) {
    let cut = Arc::new(tokio::sync::Notify::new());
    let cutting = Arc::clone(&cut);
    let service =
        service_fn(move |request: Request<Incoming>| chat(request, shared.clone(), Arc::clone(&cutting)));
    let serve = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serve);
    tokio::select! {
        // What the client does to the connection shows in the provider.
        _ = &mut serve => return,
        () = cut.notified() => {}
    }
    // What was said before the cut is given to the socket.
    let _ = futures_util::poll!(&mut serve);
}

async fn chat(
    request: Request<Incoming>,
    shared: Shared,
    cut: Arc<tokio::sync::Notify>,
) -> Result<Response<Answer>, Infallible> {
    assert_eq!(request.uri().path(), "/api.Chat/Chat");
    let guard = Open { written: false, disconnects: shared.disconnects.clone() };
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let request = ChatRequest::decode(&body[5..]).unwrap();
    let script = shared.behaviour.reply(&request);
    shared.requests.lock().unwrap().push(request);
    let mut answer = Answer { writes: script.writes.into_iter(), guard, cut };
    if script.is_silent {
        // The guard is dropped together with this future when the client resets the stream.
        let _answer = answer;
        std::future::pending::<()>().await;
        unreachable!();
    }
    let mut response = Response::builder().header("content-type", "application/grpc");
    // A refusal is an answer whose headers are its trailers.
    if let Some(Write::Trailers(trailers)) = answer.writes.as_slice().first() {
        response.headers_mut().unwrap().extend(trailers.clone());
        answer.writes = Vec::new().into_iter();
    }
    Ok(response.body(answer).unwrap())
}

struct Answer {
    writes: std::vec::IntoIter<Write>,
    guard: Open,
    cut: Arc<tokio::sync::Notify>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // A stall is never over: it is asked again for any reason, and dropped when the stream is gone.
        if matches!(self.writes.as_slice().first(), Some(Write::Stall)) {
            return Poll::Pending;
        }
        match self.writes.next() {
            Some(Write::Bytes(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
            Some(Write::Trailers(trailers)) => {
                self.guard.written = true;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Some(Write::Stall) => Poll::Pending,
            Some(Write::Cut) => {
                self.guard.written = true;
                self.cut.notify_one();
                Poll::Pending
            }
            None => {
                self.guard.written = true;
                Poll::Ready(None)
            }
        }
    }
}

/// Counts an answer that is dropped before it was written.
struct Open {
    written: bool,
    disconnects: watch::Sender<usize>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.written {
            self.disconnects.send_modify(|count| *count += 1);
        }
    }
}
