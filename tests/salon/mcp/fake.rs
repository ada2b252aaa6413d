//! A server of tools over streamable HTTP that does what the name of the called tool says, and keeps what it was sent.
//!
//! Written by hand, without the SDK that is tested. Tools are given in pages of two. Every tool takes any object,
//! except `strict`, whose schema wants `{"city": "<text>"}`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
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
use futures_util::{StreamExt as _, stream};
use salon::mcp::config::{Endpoint, Pace, Policy, Rule, ServerConfig};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_stream::wrappers::WatchStream;

/// How it behaves, and what it has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every message, in the order of arrival.
    pub messages: Vec<Value>,
    /// The headers of the last request.
    pub headers: HeaderMap,
    /// The tools it lists.
    pub tools: Vec<Value>,
    /// The method that it does not answer as long as this is set.
    pub silent_to: Option<&'static str>,
    /// Answers everything with a redirect to itself.
    pub redirects: bool,
    /// Answers `tools/list` always with one more page.
    pub is_endless: bool,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct FakeMcp {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    changes: watch::Sender<u32>,
    _serving: JoinSet<()>,
}

type Shared = (Arc<Mutex<Seen>>, watch::Receiver<u32>);

impl FakeMcp {
    /// Listens on a free port, with these tools.
    pub async fn start(tools: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), tools).await
    }

    /// Listens on this address.
    pub async fn start_at(address: SocketAddr, tools: &[&str]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen { tools: tools.iter().map(|name| tool(name)).collect(), ..Seen::default() };
        let (seen, (changes, changed)) = (Arc::new(Mutex::new(seen)), watch::channel(0));
        let app = Router::new()
            .route("/mcp", post(receive).get(listen).delete(async || StatusCode::OK))
            .with_state((Arc::clone(&seen), changed));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, seen, changes, _serving: serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// How many messages of this method have come.
    pub fn count(&self, method: &str) -> usize {
        self.seen().messages.iter().filter(|message| message["method"] == method).count()
    }

    /// Other tools, and the word that they have changed.
    pub fn change(&self, tools: &[&str]) {
        self.seen().tools = tools.iter().map(|name| tool(name)).collect();
        self.changes.send_modify(|change| *change += 1);
    }

    /// The settings of a client that offers all of its tools without approval, and wastes no time.
    pub fn config(&self, name: &str) -> ServerConfig {
        config(name, Endpoint::Http { url: self.url().into(), is_url_secret: false, headers: [].into() })
    }
}

/// Offers all tools without approval, and wastes no time.
pub fn config(name: &str, endpoint: Endpoint) -> ServerConfig {
    let policy = Policy { approval: false, trusted_only: false };
    ServerConfig {
        name: name.into(),
        endpoint,
        connect_timeout: Duration::from_secs(10),
        call_timeout: Duration::from_secs(10),
        max_result: 64 << 10,
        rules: [("*".to_owned(), Rule::Offered(policy))].into(),
        pace: Pace {
            first_retry: Duration::from_millis(5),
            last_retry: Duration::from_millis(20),
            check: Duration::from_millis(50),
            relist: Duration::from_millis(5),
        },
    }
}

/// A tool as it is listed.
pub fn tool(name: &str) -> Value {
    let schema = match name {
        "strict" => json!({
            "type": "object",
            "properties": { "city": { "type": "string" } },
            "required": ["city"],
            "additionalProperties": false,
        }),
        "broken" => json!({ "type": "object", "properties": { "a": { "type": "strnig" } } }),
        "no_object" => json!({ "type": "string" }),
        _ => json!({ "type": "object" }),
    };
    json!({ "name": name, "description": format!("Does {name}.\n\u{1b}[2J\u{202e}"), "inputSchema": schema })
}

async fn receive(State((shared, _)): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let result = {
        let mut seen = shared.lock().unwrap();
        seen.messages.push(message.clone());
        seen.headers = headers;
        if seen.redirects {
            return Response::builder().status(307).header("location", "/mcp").body(Body::empty()).unwrap();
        }
        if message.get("id").is_none() || message.get("method").is_none() {
            return Response::builder().status(202).body(Body::empty()).unwrap();
        }
        answer(&seen, &message)
    };
    let envelope = match result {
        Answer::Result(result) => json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }),
        Answer::Error(error) => json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }),
        Answer::Garbage => return reply("{\"jsonrpc\": \"2.0\", not json", "application/json"),
        Answer::Cut => {
            let cut = stream::iter([Ok(Bytes::from("data: {\"json")), Err(std::io::Error::other("cut"))]);
            return Response::builder()
                .header("content-type", "application/json")
                .header("content-length", "1000")
                .body(Body::from_stream(cut))
                .unwrap();
        }
        Answer::Late(method) => {
            while shared.lock().unwrap().silent_to == Some(method) {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            json!({ "jsonrpc": "2.0", "id": message["id"], "result": {} })
        }
        Answer::Nothing => std::future::pending().await,
    };
    // One kind of answer for each kind of id: both are in the protocol.
    if message["id"].as_u64().is_some_and(|id| id % 2 == 0) {
        reply(&envelope.to_string(), "application/json")
    } else {
        reply(&format!("event: message\ndata: {envelope}\n\n"), "text/event-stream")
    }
}

fn reply(body: &str, content_type: &str) -> Response {
    Response::builder()
        .header("content-type", content_type)
        .header("mcp-session-id", "session-1")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

/// The stream of what the server says by itself.
async fn listen(State((_, changed)): State<Shared>) -> Response {
    let change = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
    let events = WatchStream::from_changes(changed)
        .map(move |_| Ok::<_, Infallible>(Bytes::from(format!("data: {change}\n\n"))));
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(events)).unwrap()
}

enum Answer {
    Result(Value),
    Error(Value),
    Garbage,
    Cut,
    Nothing,
    Late(&'static str),
}

fn answer(seen: &Seen, message: &Value) -> Answer {
    let params = &message["params"];
    match message["method"].as_str().unwrap() {
        "ping" if seen.silent_to == Some("ping") => Answer::Late("ping"),
        method if seen.silent_to == Some(method) => Answer::Nothing,
        "initialize" => Answer::Result(json!({
            "protocolVersion": params["protocolVersion"],
            "capabilities": { "tools": { "listChanged": true } },
            "serverInfo": { "name": "fake", "version": "1" },
        })),
        "ping" => Answer::Result(json!({})),
        "tools/list" => {
            let from: usize = params["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
            let page: Vec<_> = seen.tools.iter().skip(from).take(2).collect();
            let is_last = from + 2 >= seen.tools.len() && !seen.is_endless;
            let next = if is_last { Value::Null } else { json!((from + 2).to_string()) };
            let mut result = json!({ "tools": page });
            if !next.is_null() {
                result["nextCursor"] = next;
            }
            Answer::Result(result)
        }
        "tools/call" => call(seen, params),
        other => Answer::Error(json!({ "code": -32601, "message": format!("no {other}") })),
    }
}

fn call(seen: &Seen, params: &Value) -> Answer {
    let text = |text: &str| json!({ "content": [{ "type": "text", "text": text }] });
    match params["name"].as_str().unwrap() {
        "fail" => Answer::Result(
            json!({ "content": [{ "type": "text", "text": "did not work" }], "isError": true }),
        ),
        "refuse" => Answer::Error(json!({ "code": -32602, "message": "not\nlike this\u{1b}[2J" })),
        "stall" => Answer::Nothing,
        "garbage" => Answer::Garbage,
        "cut" => Answer::Cut,
        "odd" => Answer::Result(json!({ "tools": [] })),
        "huge" => Answer::Result(text(&"ä".repeat(500_000))),
        "structured" => Answer::Result(json!({ "content": [], "structuredContent": { "degrees": 21 } })),
        "both" => Answer::Result(json!({
            "content": [{ "type": "text", "text": "21 degrees" }],
            "structuredContent": { "degrees": 21 },
        })),
        "picture" => Answer::Result(json!({ "content": [
            { "type": "image", "data": "QUJDRA==", "mimeType": "image/png" },
            { "type": "audio", "data": "QUJD", "mimeType": "audio/wav" },
            { "type": "resource", "resource": { "uri": "file:///a", "blob": "QUI=" } },
            { "type": "resource", "resource": { "uri": "file:///b", "text": "words" } },
            { "type": "resource_link", "uri": "file:///c", "name": "c" },
        ] })),
        "secret" => {
            let header = seen.headers.get("authorization").unwrap().to_str().unwrap();
            Answer::Result(text(&format!("you sent {header}")))
        }
        _ => Answer::Result(text(&params["arguments"].to_string())),
    }
}
