//! A server that speaks OpenAI's chat completions, and misbehaves as it is told to.
//!
//! ```ignore
//! let server = FakeOpenAi::start(Reply::text("Hello.")).await;            // the same to every request
//! let server = FakeOpenAi::start(|request: &Received| match request.number {
//!     0 => Reply::tool_call("call_1", "opt_out", &json!({})),
//!     _ => Reply::status(429, "slow down").header("retry-after", "7"),
//! }).await;
//! // base_url = server.base_url(); server.requests(); server.disconnected(1).await;
//! ```
//!
//! The events are written by hand, byte by byte if need be, so that a stream can stall, be cut or make no sense.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::post,
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// 0 for the first.
    pub number: usize,
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Value,
}

/// What is written next.
#[derive(Debug, Clone)]
pub enum Write {
    /// These bytes, in a piece of their own.
    Bytes(Vec<u8>),
    /// Nothing for this long.
    Pause(Duration),
    /// Nothing, until the client goes away.
    Stall,
    /// The connection ends without the body's end.
    Cut,
}

/// An answer: a status, headers and what is written as the body, in order.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    writes: Vec<Write>,
    /// Whether not even the headers come.
    is_silent: bool,
}

impl Reply {
    /// A server that takes the request and never says anything.
    pub fn silent() -> Self {
        Self { is_silent: true, ..Self::stream() }
    }

    /// A stream of events that says nothing yet.
    pub fn stream() -> Self {
        let headers = vec![("content-type", "text/event-stream; charset=utf-8".to_owned())];
        Self { status: 200, headers, writes: Vec::new(), is_silent: false }
    }

    /// A whole answer, word by word, with usage and end.
    pub fn text(text: &str) -> Self {
        let words = text.split_inclusive(' ');
        words.fold(Self::stream(), |reply, word| reply.delta(&json!({ "content": word }))).end("stop")
    }

    /// A whole answer that is one tool call in two pieces.
    pub fn tool_call(id: &str, name: &str, arguments: &Value) -> Self {
        let function = json!({"name": name, "arguments": ""});
        Self::stream()
            .tool(&json!({"index": 0, "id": id, "type": "function", "function": function}))
            .tool(&json!({"index": 0, "function": {"arguments": arguments.to_string()}}))
            .end("tool_calls")
    }

    /// A refusal in OpenAI's words.
    pub fn status(status: u16, message: &str) -> Self {
        Self::raw(status, "application/json", &json!({"error": {"message": message}}).to_string())
    }

    /// A body of any kind.
    pub fn raw(status: u16, content_type: &str, body: &str) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { status, headers, writes: vec![Write::Bytes(body.into())], is_silent: false }
    }

    /// With another header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Then one event of the first choice.
    pub fn delta(self, delta: &Value) -> Self {
        self.chunk(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}))
    }

    /// Then a piece of a tool call.
    pub fn tool(self, tool: &Value) -> Self {
        self.delta(&json!({ "tool_calls": [tool] }))
    }

    /// Then one event with what OpenAI puts around `fields`.
    pub fn chunk(self, fields: &Value) -> Self {
        let mut chunk =
            json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake"});
        chunk.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.event(&chunk.to_string())
    }

    /// Then one event with exactly this data.
    pub fn event(self, data: &str) -> Self {
        self.bytes(format!("data: {data}\n\n").as_bytes())
    }

    /// Then these bytes, in a piece of their own.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.writes.push(Write::Bytes(bytes.to_vec()));
        self
    }

    /// Then the reason, the usage and the end mark.
    pub fn end(self, reason: &str) -> Self {
        self.finish(reason)
            .chunk(&json!({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}))
            .event("[DONE]")
    }

    /// Then the reason only.
    pub fn finish(self, reason: &str) -> Self {
        self.chunk(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
    }

    /// Then nothing for this long.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.writes.push(Write::Pause(pause));
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

    /// The same bytes, but in pieces of `size`, wherever they fall.
    pub fn in_pieces_of(mut self, size: usize) -> Self {
        let bytes: Vec<u8> = self
            .writes
            .iter()
            .flat_map(|write| match write {
                Write::Bytes(bytes) => bytes.clone(),
                Write::Pause(_) | Write::Stall | Write::Cut => panic!("cut before stalling"),
            })
            .collect();
        self.writes = bytes.chunks(size).map(|piece| Write::Bytes(piece.to_vec())).collect();
        self
    }
}

/// Says what a request gets: a [`Reply`] for all, or a function of the request.
pub trait Behaviour: Send + Sync + 'static {
    /// The answer.
    fn reply(&self, request: &Received) -> Reply;
}

impl Behaviour for Reply {
    fn reply(&self, _: &Received) -> Reply {
        self.clone()
    }
}

impl<F: Fn(&Received) -> Reply + Send + Sync + 'static> Behaviour for F {
    fn reply(&self, request: &Received) -> Reply {
        self(request)
    }
}

#[derive(Clone)]
struct Shared {
    behaviour: Arc<dyn Behaviour>,
    requests: Arc<Mutex<Vec<Received>>>,
    disconnects: watch::Sender<usize>,
}

/// The running server; it ends when dropped.
pub struct FakeOpenAi {
    address: SocketAddr,
    shared: Shared,
    _tasks: JoinSet<()>,
}

impl FakeOpenAi {
    /// A server on a free port of this machine.
    pub async fn start(behaviour: impl Behaviour) -> Self {
        let shared = Shared {
            behaviour: Arc::new(behaviour),
            requests: Arc::default(),
            disconnects: watch::Sender::new(0),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/v1/chat/completions", post(complete)).with_state(shared.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, shared, _tasks: tasks }
    }

    /// For `base_url` and `OPENAI_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What has been asked so far.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until `count` answers were given up.
    pub async fn disconnected(&self, count: usize) {
        let mut disconnects = self.shared.disconnects.subscribe();
        disconnects.wait_for(|seen| *seen >= count).await.unwrap();
    }
}

async fn complete(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Infallible> {
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let received = {
        let mut requests = shared.requests.lock().unwrap();
        let body = serde_json::from_str(&body).unwrap();
        let number = requests.len();
        requests.push(Received { number, authorization, headers, body });
        requests.last().unwrap().clone()
    };
    let reply = shared.behaviour.reply(&received);
    let mut response = Response::builder().status(StatusCode::from_u16(reply.status).unwrap());
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let open = Open { written: false, disconnects: shared.disconnects.clone() };
    if reply.is_silent {
        // Dropped together with this future when the client closes the connection.
        let _open = open;
        std::future::pending::<()>().await;
        unreachable!();
    }
    Ok(response.body(body_of(reply.writes, open)).unwrap())
}

fn body_of(writes: Vec<Write>, open: Open) -> Body {
    let state = (writes.into_iter(), open);
    Body::from_stream(stream::unfold(state, |(mut writes, mut open)| async move {
        // A pause between two pieces lets each leave on its own.
        tokio::task::yield_now().await;
        let mut next = writes.next();
        while let Some(Write::Pause(pause)) = next {
            tokio::time::sleep(pause).await;
            next = writes.next();
        }
        let item = match next {
            Some(Write::Bytes(bytes)) => Ok(Bytes::from(bytes)),
            Some(Write::Pause(_) | Write::Stall) => std::future::pending().await,
            Some(Write::Cut) => {
                open.close();
                Err(io::Error::other("cut"))
            }
            None => {
                open.close();
                return None;
            }
        };
        Some((item, (writes, open)))
    }))
}

/// Counts an answer that is dropped before it was written.
struct Open {
    written: bool,
    disconnects: watch::Sender<usize>,
}

impl Open {
    fn close(&mut self) {
        self.written = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.written {
            self.disconnects.send_modify(|count| *count += 1);
        }
    }
}
