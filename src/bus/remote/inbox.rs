//! What arrives from a server: read, checked, and handed on.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Inner, tally::Tally};
use crate::{
    ids::RoomId,
    wire::hint::codec::{self, HintError},
};

/// What is remembered of all connections.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    pub(super) refused: Tally,
    behind: Tally,
}

/// Where one connection puts what arrives. Nothing here waits.
#[derive(Debug, Clone)]
pub(in crate::bus) struct Inbox {
    inner: Arc<Inner>,
    lost: CancellationToken,
    doubtful: CancellationToken,
}

impl Inbox {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, lost: CancellationToken::new(), doubtful: CancellationToken::new() }
    }

    /// Something was published on the channel of `room`.
    pub(in crate::bus) fn arrived(&self, room: &RoomId, bytes: &Bytes) {
        match self.read(room, bytes) {
            Ok(Some(message)) => {
                if let Some(subscriber) = self.inner.subscriber.get() {
                    subscriber.deliver(room, message);
                }
            }
            Ok(None) => {}
            Err(error) => self.refused(&error),
        }
    }

    fn read(&self, room: &RoomId, bytes: &Bytes) -> Result<Option<super::BusMessage>, HintError> {
        // What this node has published was delivered at once.
        if codec::sender(bytes)? == self.inner.node || !self.inner.wanted.contains(room) {
            return Ok(None);
        }
        let (named, message) = codec::decode(bytes)?;
        if &named != room {
            return Err(HintError::Malformed("it is for another room"));
        }
        Ok(Some(message))
    }

    /// What arrived makes no sense.
    pub(in crate::bus) fn refused(&self, error: &HintError) {
        if let Some(count) = self.inner.received.refused.add() {
            tracing::warn!(bus = self.inner.name, %error, count, "what came over the bus was dropped");
        }
    }

    /// The server, or its client, has dropped messages for this node.
    pub(in crate::bus) fn missed(&self) {
        if let Some(count) = self.inner.received.behind.add() {
            tracing::warn!(bus = self.inner.name, count, "this node reads the bus too slowly");
        }
        if let Some(subscriber) = self.inner.subscriber.get() {
            subscriber.interrupted();
        }
    }

    /// The server has ended the subscription of a room; whether the room was still wanted.
    pub(in crate::bus) fn ended(&self, room: &RoomId) -> bool {
        self.inner.wanted.ended(room)
    }

    /// The connection still serves, but another one should take its place before it is lost or goes wrong.
    pub(in crate::bus) fn replace(&self) {
        self.doubtful.cancel();
    }

    /// Waits until the connection should be replaced.
    pub(super) async fn until_doubtful(&self) {
        self.doubtful.cancelled().await;
    }

    /// The connection is lost.
    pub(in crate::bus) fn lost(&self) {
        self.lost.cancel();
    }

    /// Waits until the connection is lost.
    pub(in crate::bus) async fn until_lost(&self) {
        self.lost.cancelled().await;
    }
}
