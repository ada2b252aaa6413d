//! How many bytes a client's connection takes for one answer of 4000 tokens, for each byte of its text: by the rate and
//! the form that the client chooses and by how fast the model is, beside a server that is naive.
//!
//! `cargo bench --bench answer_wire`. The whole server and a tonic client, over a connection in memory whose bytes from
//! the server are counted, HTTP/2 and all; from the question to `llm_done`. Time is the runtime's and stands still while
//! there is work, so every figure is the same in every run. Tokens have four bytes.
#![allow(
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends when something is wrong, and prints its table"
)]

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use prost::Message as _;
use salon::{
    bus::local::LocalBus,
    clock::{SystemClock, Timestamp},
    config::Config,
    domain::llm::LiveAnswer,
    ids::{LlmId, MessageId},
    llm::{
        Finish, Provider,
        route::{Router, RouterSettings},
        scripted::{ScriptedProvider, Step},
    },
    server::{Parts, Server},
    store::memory::MemoryStore,
    wire::{
        frame::PREFIX,
        pb::room::v1::{
            self as pb, client_message::Payload as Say, room_service_client::RoomServiceClient,
            server_event::Payload,
        },
        transient,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

const TOKENS: usize = 4000;
const TOKEN: &str = "four";
/// What HTTP/2 puts before the bytes of an event that is sent alone.
const HTTP2_FRAME: usize = 9;
/// Tokens a second; none: all at once.
const RATES: [Option<u32>; 4] = [Some(50), Some(100), Some(1000), None];
const INTERVALS: [u32; 5] = [0, 40, 100, 250, 500];

/// Counts what comes from the server.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        self.1.fetch_add(buffer.filled().len() - before, Ordering::SeqCst);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

async fn start(rate: Option<u32>) -> Server {
    let pause = rate.map(|rate| Step::Pause(Duration::from_secs(1) / rate));
    let parts = (0..TOKENS).flat_map(|_| [Some(Step::text(TOKEN)), pause.clone()]).flatten();
    let steps: Vec<Step> = parts.chain([Step::Done(Finish::Stop)]).collect();
    let provider: Arc<dyn Provider> = Arc::new(ScriptedProvider::with("scripted", move |_| steps.clone()));
    let router =
        Router::new([("scripted".to_owned(), provider)].into(), "scripted", RouterSettings::default())
            .unwrap();
    let parts = Parts {
        store: Arc::new(MemoryStore::new()),
        bus: Arc::new(LocalBus::default()),
        router: Arc::new(router),
        clock: Arc::new(SystemClock),
    };
    Server::start(&Config::default(), parts, None).await.unwrap()
}

async fn connect(server: &Server) -> (RoomServiceClient<tonic::transport::Channel>, Arc<AtomicUsize>) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    server.serve_connection(theirs);
    let count = Arc::new(AtomicUsize::new(0));
    let mut ours = Some(TokioIo::new(Counted(ours, Arc::clone(&count))));
    let connector = tower::service_fn(move |_: http::Uri| {
        let io = ours.take().ok_or_else(|| std::io::Error::other("connected once"));
        async move { io }
    });
    let channel = Endpoint::from_static("http://duplex").connect_with_connector(connector).await.unwrap();
    (RoomServiceClient::new(channel), count)
}

async fn next(events: &mut Streaming<pb::ServerEvent>) -> Payload {
    events.message().await.unwrap().unwrap().payload.unwrap()
}

/// Bytes for each byte of the text, and how many chunks there were.
async fn measure(rate: Option<u32>, interval: u32, compact: bool) -> (f64, usize) {
    let server = start(rate).await;
    let (mut client, count) = connect(&server).await;
    let llm = pb::LlmConfig { id: "ada".into(), display_name: "Ada".into(), ..Default::default() };
    let create = pb::CreateRoomRequest { name: "Bench".into(), llms: vec![llm], ..Default::default() };
    let room_id = client.create_room(create).await.unwrap().into_inner().room_id;
    let (say, said) = mpsc::channel(8);
    let mut events = client.room_session(ReceiverStream::new(said)).await.unwrap().into_inner();
    let join = pb::JoinRoom {
        room_id,
        user_id: "ann".into(),
        chunk_interval_ms: Some(interval),
        compact_answers: compact,
        ..Default::default()
    };
    let message = |payload| pb::ClientMessage { payload: Some(payload), request_id: String::new() };
    say.send(message(Say::Join(join))).await.unwrap();
    say.send(message(Say::Ping(pb::Ping {}))).await.unwrap();
    while !matches!(next(&mut events).await, Payload::Pong(_)) {}
    let before = count.load(Ordering::SeqCst);
    let question = pb::SendMessage { content: "@ada".into(), ..Default::default() };
    say.send(message(Say::Message(question))).await.unwrap();
    let (mut text, mut chunks, mut last) = (String::new(), 0, None);
    loop {
        match next(&mut events).await {
            Payload::LlmChunk(chunk) => {
                assert_eq!(chunk.offset, text.len() as u64);
                text.push_str(&chunk.content);
                chunks += 1;
            }
            // A reader who was too slow is told what there is, and goes on from there.
            Payload::Resumed(resumed) => {
                for active in resumed.active_answers {
                    text = active.content;
                }
            }
            Payload::MessageReceived(received) => last = received.message,
            Payload::LlmDone(_) => break,
            _ => {}
        }
    }
    let last = last.unwrap();
    let whole = if last.streamed { text } else { last.content };
    assert_eq!(whole, TOKEN.repeat(TOKENS));
    let bytes = count.load(Ordering::SeqCst) - before;
    server.shutdown(Duration::from_secs(1)).await;
    (bytes as f64 / (TOKENS * TOKEN.len()) as f64, chunks)
}

/// An event for each token; and one that has the whole text so far for each token.
fn naive() -> (f64, f64) {
    let answer = LiveAnswer {
        message_id: MessageId(uuid::Uuid::now_v7()),
        llm_id: LlmId::parse("ada").unwrap(),
        reply_to: MessageId(uuid::Uuid::now_v7()),
        text: String::new(),
        started_at: Timestamp::default(),
    };
    // Without what is filled up: somebody naive does not know why.
    let event = |text: &str| {
        let chunk = transient::chunk(&answer, 0, text);
        let event = pb::ServerEvent::decode(chunk.get(PREFIX..).unwrap()).unwrap();
        HTTP2_FRAME + PREFIX + pb::ServerEvent { filler: Vec::new(), ..event }.encoded_len()
    };
    let whole = (TOKENS * TOKEN.len()) as f64;
    let tokens = TOKENS * event(TOKEN);
    let texts: usize = (1..=TOKENS).map(|n| event(&TOKEN.repeat(n))).sum();
    (tokens as f64 / whole, texts as f64 / whole)
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    println!("bytes on the wire for each byte of the text (chunks)");
    println!("| form | interval | 50 tokens/s | 100 tokens/s | 1000 tokens/s | all at once |");
    println!("|---|---|---|---|---|---|");
    for (form, compact) in [("usual", false), ("compact", true)] {
        for interval in INTERVALS {
            let cells: Vec<String> = RATES
                .into_iter()
                .map(|rate| {
                    let (ratio, chunks) = runtime.block_on(measure(rate, interval, compact));
                    format!("{ratio:.2} ({chunks})")
                })
                .collect();
            println!("| {form} | {interval} ms | {} |", cells.join(" | "));
        }
    }
    let (tokens, texts) = naive();
    println!("naive, an event for each token, at any rate: {tokens:.1}");
    println!("naive, the whole text so far with each token, at any rate: {texts:.0}");
}
