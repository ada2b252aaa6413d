//! What the server adds between a token from the model and whoever listens, beside a bare proxy of the same stream.
//!
//! `cargo bench --bench answer_latency`. A model that speaks OpenAI's API sends a token every 10 ms, each of which says
//! when it was sent. It is heard through Salon, over gRPC with `chunk_interval_ms` 0 and 40, and through a proxy that
//! passes on the bytes of the events and looks at nothing. Everything is in this process, over real sockets of this
//! machine; the three take turns.
#![allow(
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench ends when something is wrong, and prints its table"
)]

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router as Http, body::Body, http::header::CONTENT_TYPE, response::IntoResponse, routing::post,
    serve::ListenerExt as _,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use salon::{
    bus::local::LocalBus,
    clock::SystemClock,
    config::Config,
    llm::{
        open::{ProviderConfig, ProviderKind, open},
        route::{Router, RouterSettings},
    },
    server::{Parts, Server},
    store::memory::MemoryStore,
    wire::pb::room::v1::{
        self as pb, client_message::Payload as Say, room_service_client::RoomServiceClient,
        server_event::Payload,
    },
};
use secrecy::SecretString;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;

const TOKENS: usize = 300;
const ROUNDS: usize = 4;
const BETWEEN: Duration = Duration::from_millis(10);

/// Everybody's clock.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// Serves on a free port; returns where.
async fn serve(app: Http) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Without Nagle, or it would be his algorithm that is measured.
    let listener = listener.tap_io(|io| io.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/v1")
}

/// The model: each token is the time at which it is sent.
fn model(clock: Clock) -> Http {
    let event = |delta: &str, finish: &str| {
        let head = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":"#;
        Bytes::from(format!(
            "data: {head}[{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":{finish}}}]}}\n\n"
        ))
    };
    let answer = move || async move {
        let mut tick = interval(BETWEEN);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let tokens = stream::unfold((tick, 0), move |(mut tick, n)| async move {
            tick.tick().await;
            let token = format!("\"content\":\"{} \"", clock.micros());
            (n < TOKENS).then(|| (event(&token, "null"), (tick, n + 1)))
        });
        let done = [event("", "\"stop\""), Bytes::from_static(b"data: [DONE]\n\n")];
        let events = tokens.chain(stream::iter(done)).map(Ok::<_, Infallible>);
        ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
    };
    Http::new().route("/v1/chat/completions", post(answer))
}

/// Passes on what comes.
fn proxy(upstream: String) -> Http {
    let client = reqwest::Client::new();
    let pass = move |body: Bytes| {
        let call = client.post(format!("{upstream}/chat/completions")).body(body);
        async move {
            let answer = call.send().await.unwrap();
            ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(answer.bytes_stream())).into_response()
        }
    };
    Http::new().route("/v1/chat/completions", post(pass))
}

/// Puts tokens together and notes how old each is when its last byte is there.
struct Listener {
    clock: Clock,
    text: String,
    ages: Vec<u64>,
}

impl Listener {
    fn new(clock: Clock) -> Self {
        Self { clock, text: String::new(), ages: Vec::new() }
    }

    fn hear(&mut self, text: &str) {
        let now = self.clock.micros();
        self.text.push_str(text);
        while let Some((token, rest)) = self.text.split_once(' ') {
            self.ages.push(now - token.parse::<u64>().unwrap());
            self.text = rest.to_owned();
        }
    }

    fn done(self) -> Vec<u64> {
        assert_eq!((self.ages.len(), self.text.as_str()), (TOKENS, ""));
        self.ages
    }
}

async fn through_proxy(clock: Clock, client: &reqwest::Client, url: &str) -> Vec<u64> {
    let answer = client.post(format!("{url}/chat/completions")).body("{}").send().await.unwrap();
    let (mut listener, mut bytes, mut buffer) = (Listener::new(clock), answer.bytes_stream(), String::new());
    while let Some(part) = bytes.next().await {
        buffer.push_str(std::str::from_utf8(&part.unwrap()).unwrap());
        while let Some((event, rest)) = buffer.split_once("\n\n") {
            let data = event.strip_prefix("data: ").unwrap();
            if data != "[DONE]" {
                let value: serde_json::Value = serde_json::from_str(data).unwrap();
                if let Some(text) = value.pointer("/choices/0/delta/content").and_then(|text| text.as_str()) {
                    listener.hear(text);
                }
            }
            buffer = rest.to_owned();
        }
    }
    listener.done()
}

async fn salon(upstream: String) -> (Server, RoomServiceClient<tonic::transport::Channel>, String) {
    let config = ProviderConfig {
        kind: ProviderKind::Openai,
        base_url: Some(upstream),
        api_key: Some(SecretString::from("sk-bench")),
        default_model: Some("m".into()),
        ..ProviderConfig::default()
    };
    let provider = open("openai", &config).unwrap();
    let router =
        Router::new([("openai".to_owned(), provider)].into(), "openai", RouterSettings::default()).unwrap();
    let parts = Parts {
        store: Arc::new(MemoryStore::new()),
        bus: Arc::new(LocalBus::default()),
        router: Arc::new(router),
        clock: Arc::new(SystemClock),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::start(&Config::default(), parts, listener).await.unwrap();
    let url = format!("http://{}", server.address().unwrap());
    let mut client = RoomServiceClient::connect(url).await.unwrap();
    let llm = pb::LlmConfig { id: "ada".into(), display_name: "Ada".into(), ..Default::default() };
    let create = pb::CreateRoomRequest { name: "Bench".into(), llms: vec![llm], ..Default::default() };
    let room = client.create_room(create).await.unwrap().into_inner().room_id;
    (server, client, room)
}

async fn through_salon(
    clock: Clock,
    mut client: RoomServiceClient<tonic::transport::Channel>,
    room: &str,
    interval: u32,
) -> Vec<u64> {
    let (say, said) = mpsc::channel(8);
    let mut events = client.room_session(ReceiverStream::new(said)).await.unwrap().into_inner();
    let join = pb::JoinRoom {
        room_id: room.to_owned(),
        user_id: "ann".into(),
        chunk_interval_ms: Some(interval),
        ..Default::default()
    };
    let question = pb::SendMessage { content: "@ada".into(), ..Default::default() };
    for payload in [Say::Join(join), Say::Message(question)] {
        say.send(pb::ClientMessage { payload: Some(payload), request_id: String::new() }).await.unwrap();
    }
    let mut listener = Listener::new(clock);
    loop {
        match events.message().await.unwrap().unwrap().payload.unwrap() {
            Payload::LlmChunk(chunk) => listener.hear(&chunk.content),
            Payload::LlmDone(done) => {
                assert_eq!(done.reason(), pb::LlmDoneReason::Completed, "{done:?}");
                return listener.done();
            }
            _ => {}
        }
    }
}

fn report(name: &str, mut ages: Vec<u64>) {
    ages.sort_unstable();
    let at =
        |share: usize| *ages.get((ages.len() * share / 100).min(ages.len() - 1)).unwrap() as f64 / 1000.0;
    println!("| {name} | {} | {:.2} ms | {:.2} ms |", ages.len(), at(50), at(99));
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let clock = Clock(Instant::now());
    let upstream = serve(model(clock)).await;
    let proxy = serve(proxy(upstream.clone())).await;
    let (server, client, room) = salon(upstream).await;
    let http = reqwest::Client::new();
    let (mut bare, mut at_once, mut merged) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.extend(through_proxy(clock, &http, &proxy).await);
        at_once.extend(through_salon(clock, client.clone(), &room, 0).await);
        merged.extend(through_salon(clock, client.clone(), &room, 40).await);
    }
    println!("from the model's write to the listener, a token every {BETWEEN:?}");
    println!("| way | tokens | p50 | p99 |\n|---|---|---|---|");
    report("bare SSE proxy", bare);
    report("Salon, chunk_interval_ms 0", at_once);
    report("Salon, chunk_interval_ms 40", merged);
    server.shutdown(Duration::from_secs(1)).await;
}
