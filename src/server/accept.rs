//! The accept loop: what tonic's own server does not let one set.
//!
//! No delay on small writes, a cap on streams per connection (tonic's builder takes hyper's away), a small send
//! buffer per stream (a stalled reader must not hold 400 KiB here besides its queue), a deadline for the first bytes,
//! and an end of connections that does not wait for silent clients.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{body::Body, service::Routes};
use tower::ServiceExt as _;

use crate::grpc::peer::Peer;

/// How connections behave.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// At the same time; more wait in the kernel's backlog.
    pub connections: usize,
    /// Streams on one connection.
    pub streams: u32,
    /// Bytes waiting in HTTP/2 for one stream.
    pub send_buffer: usize,
    /// Until the first bytes of HTTP/2 must have come.
    pub handshake: Duration,
    /// Between pings that find dead peers.
    pub keepalive_interval: Duration,
    /// Until a ping must be answered.
    pub keepalive_timeout: Duration,
    /// How old a stream may become; its connection takes no new ones before that.
    pub max_age: Option<Duration>,
}

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// After an error of accept (too many open files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// When a connection takes no new streams, in hundredths of the age of streams: from here on, and within so many.
const RETIRED_AT: u32 = 70;
const RETIRED_WITHIN: u32 = 15;
/// Between looks at a preface that comes in pieces: the first pause, which doubles up to the longest.
const PREFACE_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Serves connections of `listener` until `stop`; then no more are accepted, and those that are open are asked to
/// finish. They end by force with `abort`.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    limits: ConnectionLimits,
    connections: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
) {
    let routes = routes.prepare();
    let slots = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = stop.run_until_cancelled(accept(&listener, &slots)).await;
        let Some((stream, address, permit)) = accepted else {
            return;
        };
        let (routes, stop, abort) = (routes.clone(), stop.clone(), abort.clone());
        connections.spawn(async move {
            abort.run_until_cancelled(connection(stream, address, routes, limits, stop)).await;
            drop(permit);
        });
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(slots).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address, permit),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    routes: Routes,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    // A socket that says nothing must not hold up a drain either.
    let greeted = stop.run_until_cancelled(tokio::time::timeout(limits.handshake, preface(&stream))).await;
    match greeted {
        Some(Ok(true)) => {}
        Some(Ok(false) | Err(_)) | None => {
            tracing::debug!("a connection did not begin with HTTP/2");
            return;
        }
    }
    let peer = Peer { address: Some(address.ip().to_canonical()), certificate: None };
    serve_io(stream, peer, routes, limits, stop).await;
}

/// Serves one connection until it ends; with `stop` it is asked to. From some age on it takes no new streams (GOAWAY),
/// so that who is moved by its session, a little later, opens another: perhaps to another server. Streams that are open
/// are not touched: HTTP/2 has no way to say where to resume.
pub async fn serve_io(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    routes: Routes,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let service = routes.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.map(Body::new)
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_send_buf_size(limits.send_buffer)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = retired(&limits, &stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// Waits until a connection shall take no new streams: when it is old, or the server goes.
async fn retired(limits: &ConnectionLimits, stop: &CancellationToken) {
    match limits.max_age {
        None => stop.cancelled().await,
        Some(age) => {
            let (_, random) = uuid::Uuid::new_v4().as_u64_pair();
            // Before any session on it is moved, which is not before nine tenths.
            let part = RETIRED_AT + u32::try_from(random % u64::from(RETIRED_WITHIN)).unwrap_or_default();
            stop.run_until_cancelled(tokio::time::sleep(age * part / 100)).await;
        }
    }
}

/// Waits for the preface without taking it; false: something else came, or nothing.
async fn preface(stream: &TcpStream) -> bool {
    let mut seen = [0; PREFACE.len()];
    let (mut pause, longest) = PREFACE_PAUSE;
    loop {
        match stream.peek(&mut seen).await {
            Ok(0) | Err(_) => return false,
            Ok(len) if seen.get(..len) != PREFACE.get(..len) => return false,
            Ok(len) if len == PREFACE.len() => return true,
            Ok(_) => {
                tokio::time::sleep(pause).await;
                pause = longest.min(pause * 2);
            }
        }
    }
}
