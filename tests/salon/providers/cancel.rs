//! How soon the other side sees that nobody wants the answer any more.
//!
//! What is measured is the time from the drop of an answer until the server behind it knows: for `openai` the end of
//! the TCP connection, read by hand; for `chat_service` the reset of its stream, as the server's HTTP/2 tells it. A
//! machine that is busy slows down everything, so the bound is a multiple of what a whole question took in the same
//! run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use salon::llm::{Delta, Provider};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::{PATIENCE, conformance::chat_service, openai_at, text_request};
use crate::fake_chat_service::{FakeChatService, Script};

/// How often an answer is dropped.
const ROUNDS: usize = 200;
/// The 99th percentile may be this many times that of a question and its first token, which is more work: a request is
/// written and read, and an answer begun. The rest is for two samples of a tail that differ.
const TIMES_A_QUESTION: u32 = 20;

struct Measured {
    questions: Vec<Duration>,
    drops: Vec<Duration>,
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Asks, waits for the first token, drops the answer, and waits until `seen` says when the other side saw it.
async fn measure(provider: Arc<dyn Provider>, mut seen: mpsc::Receiver<Instant>) -> Measured {
    let mut measured = Measured { questions: Vec::new(), drops: Vec::new() };
    for _ in 0..ROUNDS {
        let asked = Instant::now();
        let mut deltas = provider.answer(text_request()).await.unwrap();
        assert_eq!(deltas.next().await.unwrap().unwrap(), Delta::Text("Hi".into()));
        measured.questions.push(asked.elapsed());
        let dropped = Instant::now();
        drop(deltas);
        let at = timeout(PATIENCE, seen.recv()).await.expect("the other side must see it").unwrap();
        measured.drops.push(at.saturating_duration_since(dropped));
    }
    measured
}

fn judge(name: &str, mut measured: Measured) {
    let (drops, questions) = (p99(&mut measured.drops), p99(&mut measured.questions));
    let median = measured.drops[ROUNDS / 2];
    println!(
        "{name}: {ROUNDS} answers dropped; seen upstream after p50 {median:?}, p99 {drops:?}; a question p99 {questions:?}"
    );
    assert!(drops < questions * TIMES_A_QUESTION, "{name}: {drops:?} against {questions:?} for a question");
}

/// Answers with one token, then reads until the client closes the connection.
async fn one_token(mut stream: TcpStream) -> Instant {
    stream.set_nodelay(true).unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0);
    }
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = format!("{head}{:x}\r\n{event}\r\n", event.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
    // An end and a reset are both the client's going away.
    while matches!(stream.read(&mut [0; 64]).await, Ok(read) if read > 0) {}
    Instant::now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_closes_the_connection_of_a_dropped_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = openai_at(&format!("http://{}/v1", listener.local_addr().unwrap()), "sk-test");
    let (tell, seen) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tell.send(one_token(stream).await).await.unwrap();
        }
    });
    judge("openai", measure(provider, seen).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_service_resets_the_stream_of_a_dropped_answer() {
    let server = FakeChatService::start(Script::new().content("Hi").stall()).await;
    let provider = chat_service(&server.address());
    let (tell, seen) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    let mut disconnects = server.watch_disconnects();
    tasks.spawn(async move {
        while disconnects.changed().await.is_ok() {
            disconnects.borrow_and_update();
            tell.send(Instant::now()).await.unwrap();
        }
    });
    judge("chat_service", measure(provider, seen).await);
    assert_eq!(server.connections(), 1, "the connection is kept");
}
