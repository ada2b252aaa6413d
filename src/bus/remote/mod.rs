//! A bus that is a server: what all such buses have in common.
//!
//! On this node a message is delivered at once, whatever the server does. To the others it goes through a bounded
//! queue that one task empties ([`driver`]); behind it is a [`Link`], which each backend makes of its client. A
//! connection that is lost is made again for ever; whatever was missed meanwhile is in the store.

#![cfg_attr(
    not(all(feature = "nats", feature = "redis")),
    allow(dead_code, reason = "what only one of the backends uses")
)]

mod driver;
mod inbox;
mod learned;
mod outbox;
mod race;
mod tally;
mod wanted;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(super) use self::{inbox::Inbox, learned::Learned, race::first_that_answers};
use self::{inbox::Receiver, outbox::Outbox, wanted::Wanted};
use crate::{
    bus::{Bus, BusMessage, Counts, Error, Subscriber},
    ids::{NodeId, RoomId},
};

/// How long the first connection may take before the start goes on without it.
const FIRST_CONNECTION: Duration = Duration::from_secs(5);

/// Why a server cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// Trying again is of no use: it wants another user or password, or is too old.
    #[error("{0}")]
    Refused(String),
    /// It may be there later.
    #[error("{0}")]
    Away(String),
}

/// Makes connections to a server.
#[async_trait]
pub(super) trait Server: Send + Sync + 'static {
    /// Connects once; what arrives goes into `inbox`, and that the connection is lost as well.
    async fn connect(&self, inbox: Inbox) -> Result<Box<dyn Link>, LinkError>;
}

/// One connection to a server, or one to each server of a cluster. After an error it is dropped.
#[async_trait]
pub(super) trait Link: Send {
    /// The largest message it takes, in bytes.
    fn largest(&self) -> usize;

    /// Subscribes; when this returns, it is in force.
    async fn subscribe(&mut self, rooms: &[RoomId]) -> Result<(), LinkError>;

    /// Ends subscriptions.
    async fn unsubscribe(&mut self, rooms: &[RoomId]) -> Result<(), LinkError>;

    /// Sends messages in this order, without waiting between them.
    async fn publish(&mut self, messages: Vec<(RoomId, Bytes)>) -> Result<(), LinkError>;

    /// Whether the server still answers.
    async fn check(&mut self) -> Result<(), LinkError>;
}

/// A bus on other servers.
#[derive(Debug)]
pub(super) struct RemoteBus {
    name: &'static str,
    inner: Arc<Inner>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    node: NodeId,
    subscriber: OnceLock<Arc<dyn Subscriber>>,
    outbox: Outbox,
    wanted: Wanted,
    received: Receiver,
    connections: AtomicU64,
    lost: tally::Tally,
}

impl RemoteBus {
    /// Connects; if nobody answers, the bus goes on trying. A server that refuses us is an error.
    pub(super) async fn open(name: &'static str, server: impl Server) -> Result<Arc<dyn Bus>, Error> {
        let (outbox, queue) = Outbox::new();
        let inner = Arc::new(Inner {
            name,
            node: NodeId::random(),
            subscriber: OnceLock::new(),
            outbox,
            wanted: Wanted::default(),
            received: Receiver::default(),
            connections: AtomicU64::new(0),
            lost: tally::Tally::default(),
        });
        let inbox = Inbox::new(Arc::clone(&inner));
        let link = match tokio::time::timeout(FIRST_CONNECTION, server.connect(inbox.clone())).await {
            Ok(Ok(link)) => Some((link, inbox)),
            Ok(Err(LinkError::Refused(what))) => return Err(Error { bus: name, what }),
            Ok(Err(LinkError::Away(what))) => {
                warn_of_absence(name, &what);
                None
            }
            Err(_) => {
                warn_of_absence(name, "no answer");
                None
            }
        };
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let driver = driver::Driver { server: Box::new(server), inner: Arc::clone(&inner), queue };
        tasks.spawn(driver.run(link, closing.clone()));
        Ok(Arc::new(Self { name, inner, tasks, closing }))
    }

    fn deliver_here(&self, room: &RoomId, message: BusMessage) {
        if let Some(subscriber) = self.inner.subscriber.get() {
            subscriber.deliver(room, message);
        }
    }
}

fn warn_of_absence(bus: &str, error: &str) {
    tracing::warn!(
        bus,
        error,
        "the bus cannot be reached: other nodes' events come late, from the store, until it can (bus.head_check)"
    );
}

#[async_trait]
impl Bus for RemoteBus {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn attach(&self, subscriber: Arc<dyn Subscriber>) {
        // A second subscriber would be a fault in the composition root; the first one stays.
        let _ = self.inner.subscriber.set(subscriber);
    }

    fn subscribe(&self, room: &RoomId) {
        self.inner.wanted.add(room);
    }

    fn unsubscribe(&self, room: &RoomId) {
        self.inner.wanted.remove(room);
    }

    fn publish(&self, room: &RoomId, message: BusMessage) {
        self.inner.outbox.push(room, &message);
        self.deliver_here(room, message);
    }

    fn counts(&self) -> Counts {
        Counts {
            unsent: self.inner.outbox.unsent.total(),
            too_large: self.inner.outbox.too_large.total(),
            refused: self.inner.received.refused.total(),
            connections: self.inner.connections.load(Ordering::Relaxed),
            connections_lost: self.inner.lost.total(),
        }
    }

    async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests;
