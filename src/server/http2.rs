//! One connection of HTTP/2, from its preface to its end.
//!
//! Owns what bounds a connection that means harm: how much of what costs the server more than the client it may do
//! before it is told to go (GOAWAY with `ENHANCE_YOUR_CALM`), how long it may be open without a call, and how long it may
//! hold a thread. Never decides what a call may do. A connection that fails ends alone.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::FutureExt as _;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::Routes};
use tower::ServiceExt as _;

use crate::{grpc::peer::Peer, server::accept::ConnectionLimits, unless::unless};

/// Streams that a client has opened and reset before they were looked at (rapid reset, CVE-2023-44487): as many as one
/// read may bring of honest cancellations.
const RESETS_UNSEEN: usize = 20;
/// Streams that the server had to reset because of the client's errors ("made you reset", CVE-2025-8671). An honest client
/// makes none.
const RESETS_FOR_ERRORS: usize = 100;
/// What the headers of a call may be, unpacked: a large token fits in a third of it. It also bounds how many
/// CONTINUATION frames they may come in (CVE-2024-27316).
const HEADER_BYTES: u32 = 16 * 1024;
/// How long a connection that was asked to go may stay without a call: an honest client leaves at once.
const LINGER: Duration = Duration::from_secs(10);
/// When a connection takes no new streams, in hundredths of the age of streams: from here on, and within so many.
const RETIRED_AT: u32 = 70;
const RETIRED_WITHIN: u32 = 15;

/// Serves one connection until it ends; with `stop` it is asked to. From some age on it takes no new streams (GOAWAY),
/// so that who is moved by its session, a little later, opens another: perhaps to another server. Streams that are open
/// are not touched: HTTP/2 has no way to say where to resume.
// No `async fn`: one would keep what it is given twice, for as long as the connection lives.
pub(super) fn serve_io(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    routes: Routes,
    limits: ConnectionLimits,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let calls = Calls::default();
    let quiet = calls.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let (response, open) = (routes.clone().oneshot(request.map(Body::new)), calls.open());
        // On the heap for as long as it takes: what a call begins with would stay with its stream else.
        async move { response.await.map(|response| counted(response, open)) }.boxed()
    });
    let mut connection = Box::pin(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_send_buf_size(limits.send_buffer)
            .max_pending_accept_reset_streams(RESETS_UNSEEN)
            .max_local_error_reset_streams(RESETS_FOR_ERRORS)
            .max_header_list_size(HEADER_BYTES)
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout)
            .serve_connection(TokioIo::new(io), service),
    );
    let (idle_after, max_age) = (limits.idle, limits.max_age);
    async move {
        let ended = {
            let leave = pin!(async {
                tokio::select! {
                    () = retired(max_age, &stop) => {}
                    () = idle(&quiet, idle_after) => {}
                }
            });
            unless(connection.as_mut(), leave).await
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    // It was asked to go, and has nothing to stay for.
                    () = idle(&quiet, LINGER) => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended with an error");
        }
    }
}

/// Waits until a connection shall take no new streams: when it is old, or the server goes.
async fn retired(max_age: Option<Duration>, stop: &CancellationToken) {
    match max_age {
        None => stop.cancelled().await,
        Some(age) => {
            let (_, random) = uuid::Uuid::new_v4().as_u64_pair();
            // Before any session on it is moved, which is not before nine tenths.
            let part = RETIRED_AT + u32::try_from(random % u64::from(RETIRED_WITHIN)).unwrap_or_default();
            stop.run_until_cancelled(tokio::time::sleep(age * part / 100)).await;
        }
    }
}

/// Waits until no call was open for so long. A call that comes and goes within one look is seen as well: every change
/// begins the time anew.
async fn idle(calls: &Calls, limit: Duration) {
    loop {
        let changed = calls.0.changed.notified();
        if calls.0.open.load(Ordering::Acquire) > 0 {
            changed.await;
        } else if timeout(limit, changed).await.is_err() {
            return;
        }
    }
}

/// How many calls of a connection are open; for one who waits at a time.
#[derive(Debug, Clone, Default)]
struct Calls(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    /// Keeps the news for who is not waiting just now.
    changed: Notify,
}

/// A call that is open until this is dropped.
#[derive(Debug)]
struct Open(Calls);

impl Calls {
    fn open(&self) -> Open {
        self.0.open.fetch_add(1, Ordering::AcqRel);
        self.0.changed.notify_one();
        Open(self.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Calls(counts) = &self.0;
        counts.open.fetch_sub(1, Ordering::AcqRel);
        counts.changed.notify_one();
    }
}

/// A response whose call is open until its last byte was taken.
fn counted(response: Response<Body>, open: Open) -> Response<Counted> {
    response.map(|body| Counted { body, _open: open })
}

/// The body of an open call.
#[derive(Debug)]
struct Counted {
    body: Body,
    _open: Open,
}

impl HttpBody for Counted {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
