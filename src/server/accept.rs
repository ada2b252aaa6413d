//! The accept loop: what tonic's own server does not let one set.
//!
//! No delay on small writes, a cap on connections in all and of each peer, a cap on streams per connection (tonic's
//! builder takes hyper's away), a small send buffer per stream (a stalled reader must not hold 400 KiB here besides its
//! queue), a deadline for TLS and the first bytes, and an end of connections that does not wait for silent clients.
//! Whoever has not said yet that it speaks HTTP/2 costs a socket and, with TLS, one handshake.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use crate::{
    grpc::peer::{ClientCertificate, Peer},
    server::{
        greeting::{Greeted, begins_tls, greeted},
        http2::serve_io,
        peers::{Peers, Place},
        tls::{self, Tls},
    },
    unless::unless,
};

/// How connections behave.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// At the same time; more wait in the kernel's backlog.
    pub connections: usize,
    /// Of one peer at the same time; more are closed. 0: as many as it likes.
    pub connections_per_peer: usize,
    /// Streams on one connection.
    pub streams: u32,
    /// Bytes waiting in HTTP/2 for one stream.
    pub send_buffer: usize,
    /// Until TLS must be agreed on, and the first bytes of HTTP/2 must have come.
    pub handshake: Duration,
    /// How long a connection may be open without a call.
    pub idle: Duration,
    /// Between pings that find dead peers.
    pub keepalive_interval: Duration,
    /// Until a ping must be answered.
    pub keepalive_timeout: Duration,
    /// How old a stream may become; its connection takes no new ones before that.
    pub max_age: Option<Duration>,
}

/// An encrypted stream that has begun with HTTP/2, and the certificate of whoever is at its other end.
type Encrypted = (Greeted<tls::Stream>, Option<Arc<ClientCertificate>>);

/// What connections are served with.
#[derive(Debug, Clone)]
pub(super) struct Serving {
    /// Where calls go.
    pub(super) routes: Routes,
    /// How connections behave.
    pub(super) limits: ConnectionLimits,
    /// None: nothing is encrypted.
    pub(super) tls: Option<Tls>,
}

/// After an error of accept (too many open files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are accepted before others have their turn, which may be all that a full server has to do.
const ACCEPTED_TOGETHER: u32 = 32;

/// Serves connections of `listener` until `stop`; then no more are accepted, and those that are open are asked to
/// finish. They end by force with `abort`.
pub(super) async fn serve(
    listener: TcpListener,
    serving: Serving,
    connections: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
) {
    let serving = Serving { routes: serving.routes.prepare(), ..serving };
    let slots = Arc::new(Semaphore::new(serving.limits.connections));
    let peers = Peers::new(serving.limits.connections_per_peer);
    let mut together = 0_u32;
    loop {
        together = together.wrapping_add(1);
        if together.is_multiple_of(ACCEPTED_TOGETHER) {
            tokio::task::yield_now().await;
        }
        let accepted = stop.run_until_cancelled(accept(&listener, &slots, &peers)).await;
        let Some(Accepted { stream, address, permit, place }) = accepted else {
            return;
        };
        let beginning = Box::pin(begin(stream, address, serving.clone(), stop.clone()));
        let abort = abort.clone();
        connections.spawn(async move {
            let connection = async {
                if let Some(connection) = beginning.await {
                    connection.await;
                }
            };
            unless(connection, abort.cancelled()).await;
            drop((permit, place));
        });
    }
}

/// A connection that has its place.
struct Accepted {
    stream: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
    place: Place,
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>, peers: &Peers) -> Accepted {
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(slots).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, address)) => {
                if let Some(place) = peers.enter(address.ip()) {
                    return Accepted { stream, address, permit, place };
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The beginning of a connection, and what serves it from then on; none: it has not become one. Each part of its life is on
/// the heap for as long as it takes: what the beginning needs would stay with the connection else, some kilobytes for each.
async fn begin(
    stream: TcpStream,
    address: SocketAddr,
    serving: Serving,
    stop: CancellationToken,
) -> Option<BoxFuture<'static, ()>> {
    stream.set_nodelay(true).ok()?;
    let Serving { routes, limits, tls } = serving;
    let address = address.ip().to_canonical();
    let peer = Peer { address: Some(address), certificate: None };
    // A socket that says nothing must not hold up a drain either.
    let Some(tls) = tls else {
        let greeting = Box::pin(timeout(limits.handshake, greeted(stream)));
        let Some(Ok(Some(io))) = stop.run_until_cancelled(greeting).await else {
            tracing::debug!("a connection did not begin with HTTP/2");
            return None;
        };
        return Some(serve_io(io, peer, routes, limits, stop).boxed());
    };
    let greeting = Box::pin(timeout(limits.handshake, encrypted(stream, address, tls)));
    let (io, certificate) = stop.run_until_cancelled(greeting).await?.ok()??;
    Some(serve_io(io, Peer { certificate, ..peer }, routes, limits, stop).boxed())
}

/// The encrypted stream behind a connection, and who is at its other end.
async fn encrypted(mut stream: TcpStream, address: IpAddr, tls: Tls) -> Option<Encrypted> {
    if !begins_tls(&mut stream).await {
        tracing::debug!(%address, "a connection did not begin with TLS");
        return None;
    }
    match tls.handshake(stream).await {
        Ok((stream, certificate)) => Some((greeted(stream).await?, certificate)),
        Err(error) => {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::debug!(%address, error, "a connection was refused");
            None
        }
    }
}

#[cfg(test)]
mod tests;
