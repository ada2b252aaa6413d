//! The server's half of a session stream: bytes that are ready, as an HTTP body.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use crate::{grpc::status, registry::outbound::Outbound};

/// Sends what waits in a session's queue, then the status. When it is dropped the session learns that nobody reads
/// any more.
#[derive(Debug)]
pub struct SessionBody {
    outbound: Arc<Outbound>,
    /// A drain waits until the last bytes were read, not only until the session has ended.
    _open: TaskTrackerToken,
}

impl SessionBody {
    /// The body of the session behind this queue.
    pub fn new(outbound: Arc<Outbound>, open: TaskTrackerToken) -> Self {
        Self { outbound, _open: open }
    }
}

impl Drop for SessionBody {
    fn drop(&mut self) {
        self.outbound.close();
    }
}

impl Body for SessionBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.outbound.poll_next(context).map(|next| {
            next.map(|item| {
                Ok(match item {
                    Ok(bytes) => Frame::data(bytes),
                    Err(reason) => Frame::trailers(trailers(&status::of_closing(reason))),
                })
            })
        })
    }
}

pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    if status.add_header(&mut headers).is_err() {
        // Our own messages are plain text; a client without a status treats the stream as broken, which it then is.
        headers.clear();
    }
    headers
}

#[cfg(test)]
mod tests;
