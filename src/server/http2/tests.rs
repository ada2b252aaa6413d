//! How long a connection stays that has nothing to do, in virtual time, and how often it writes.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
    time::Duration,
};

use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    client::GrpcService as _,
    transport::{Channel, Endpoint},
};

use super::*;
use crate::server::greeting::greeted;

const IDLE: Duration = Duration::from_secs(300);

fn limits() -> ConnectionLimits {
    ConnectionLimits {
        connections: 1,
        connections_per_peer: 0,
        streams: 10,
        send_buffer: 64 * 1024,
        handshake: Duration::from_secs(10),
        idle: IDLE,
        keepalive_interval: Duration::from_secs(30),
        keepalive_timeout: Duration::from_secs(20),
        max_age: None,
    }
}

/// `/short` answers at once; `/long` ends when the sender is dropped that it has put into the channel.
fn routes(long: mpsc::Sender<mpsc::Sender<bytes::Bytes>>) -> Routes {
    let endless = move || {
        let long = long.clone();
        async move {
            let (sender, frames) = mpsc::channel(1);
            long.send(sender).await.unwrap();
            let frames = ReceiverStream::new(frames).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
            axum::body::Body::new(StreamBody::new(frames))
        }
    };
    axum::Router::new()
        .route("/short", axum::routing::any(|| async { "done" }))
        .route("/long", axum::routing::any(endless))
        .into()
}

/// A connection through memory, served by a task that ends with it.
fn connection(
    limits: ConnectionLimits,
) -> (DuplexStream, JoinSet<()>, mpsc::Receiver<mpsc::Sender<bytes::Bytes>>) {
    let (client, server) = duplex(64 * 1024);
    let (long, begun) = mpsc::channel(1);
    let mut serving = JoinSet::new();
    let routes = routes(long).prepare();
    serving.spawn(serve_io(server, Peer::default(), routes, limits, CancellationToken::new()));
    (client, serving, begun)
}

async fn channel(client: DuplexStream) -> Channel {
    let mut io = Some(TokioIo::new(client));
    let connector = tower::service_fn(move |_: http::Uri| {
        let io = io.take().ok_or_else(|| std::io::Error::other("connected once"));
        async move { io }
    });
    Endpoint::from_static("http://duplex").connect_with_connector(connector).await.unwrap()
}

async fn call(channel: &mut Channel, path: &str) -> Response<Body> {
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    channel.call(Request::post(path).body(Body::empty()).unwrap()).await.unwrap()
}

fn about(time: Duration, expected: Duration) {
    assert!((expected..expected + LINGER).contains(&time), "{time:?}, not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_makes_a_call_is_ended() {
    let (client, mut serving, _begun) = connection(limits());
    let begun = Instant::now();
    let _channel = channel(client).await;
    serving.join_next().await.unwrap().unwrap();
    about(begun.elapsed(), IDLE);
}

#[tokio::test(start_paused = true)]
async fn an_open_call_keeps_its_connection_and_each_call_begins_the_time_anew() {
    let (client, mut serving, mut begun) = connection(limits());
    let mut channel = channel(client).await;
    let response = call(&mut channel, "/long").await;
    let sender = begun.recv().await.unwrap();
    tokio::time::sleep(10 * IDLE).await;
    assert!(serving.try_join_next().is_none(), "a call is open");
    drop((sender, response));
    // Calls that come and go.
    for _ in 0..5 {
        tokio::time::sleep(IDLE * 9 / 10).await;
        drop(call(&mut channel, "/short").await);
    }
    let quiet = Instant::now();
    serving.join_next().await.unwrap().unwrap();
    about(quiet.elapsed(), IDLE);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_go_when_asked_is_ended_as_well() {
    // Nothing but this ends it.
    let long = Duration::from_secs(24 * 60 * 60);
    let (mut client, mut serving, _begun) =
        connection(ConnectionLimits { keepalive_interval: long, ..limits() });
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let begun = Instant::now();
    // It reads, and answers nothing.
    let mut heard = Vec::new();
    let _ = client.read_to_end(&mut heard).await;
    serving.join_next().await.unwrap().unwrap();
    assert!(begun.elapsed() >= IDLE + LINGER, "{:?}", begun.elapsed());
    assert!(begun.elapsed() < IDLE + 2 * LINGER, "{:?}", begun.elapsed());
}

/// What polls a connection, beside what hyper keeps of it on the heap.
#[test]
fn what_a_connection_keeps_is_not_what_it_began_with() {
    fn size_of_future<F: Future>(
        _: impl FnOnce(DuplexStream, Peer, Routes, ConnectionLimits, CancellationToken) -> F,
    ) -> usize {
        size_of::<F>()
    }
    let size = size_of_future(serve_io);
    assert!(size <= 1100, "{size} bytes");
}

/// Counts what is written at one go.
struct Tallied(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Tallied {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Tallied {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test(start_paused = true)]
async fn what_many_streams_have_to_say_is_one_write() {
    let (client, server) = duplex(1 << 20);
    let (long, mut begun) = mpsc::channel(1);
    let (routes, writes) = (routes(long).prepare(), Arc::new(AtomicUsize::new(0)));
    let io = Tallied(server, Arc::clone(&writes));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let io = greeted(io).await.unwrap();
        serve_io(io, Peer::default(), routes, limits(), CancellationToken::new()).await;
    });
    let mut channel = channel(client).await;
    let mut calls = Vec::new();
    for _ in 0..8 {
        let response = call(&mut channel, "/long").await;
        calls.push((response.into_body(), begun.recv().await.unwrap()));
    }
    // The usual size of a message, and one whose rest is written with its head.
    for (bytes, most) in [(300, 3), (1000, 3), (4000, 8 + 3)] {
        // What is still to be acknowledged of what was before.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = writes.load(Ordering::Relaxed);
        for (_, sender) in &calls {
            sender.try_send(vec![7; bytes].into()).unwrap();
        }
        for (body, _) in &mut calls {
            let mut heard = 0;
            while heard < bytes {
                heard += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
            }
        }
        let written = writes.load(Ordering::Relaxed) - before;
        assert!((1..=most).contains(&written), "{written} writes for 8 messages of {bytes} bytes");
    }
}
