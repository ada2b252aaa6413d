//! How nodes hint to one another: the trait, what it promises, and the backends behind it.
//!
//! The store decides, the bus hints: whatever a bus loses, the registry reads from the store.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use thiserror::Error;

pub use crate::wire::hint::{Audience, BusMessage, Interrupt, LogBatch, Note, Transient, TransientContent};

use crate::{
    bus::{
        config::{BusConfig, BusKind},
        local::LocalBus,
    },
    ids::RoomId,
};

pub mod config;
pub mod local;
pub mod lossy;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "nats", feature = "redis"))]
mod remote;

/// Why a bus cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{bus}: {what}")]
pub struct Error {
    /// Which, as in `bus.kind`.
    pub bus: &'static str,
    /// What is wrong, without a secret.
    pub what: String,
}

/// Opens the bus that the configuration asks for: the only place that names the backends.
///
/// A server that does not answer is no error: the bus goes on trying. One that refuses us is.
pub async fn open(config: &BusConfig) -> Result<Arc<dyn Bus>, Error> {
    match config.kind {
        BusKind::Local => Ok(Arc::new(LocalBus::default())),
        BusKind::Redis => open_redis(config).await,
        BusKind::Nats => open_nats(config).await,
    }
}

#[cfg(feature = "redis")]
async fn open_redis(config: &BusConfig) -> Result<Arc<dyn Bus>, Error> {
    remote::RemoteBus::open(self::redis::NAME, self::redis::Redis::new(config)?).await
}

#[cfg(not(feature = "redis"))]
async fn open_redis(_: &BusConfig) -> Result<Arc<dyn Bus>, Error> {
    std::future::ready(Err(not_built("redis"))).await
}

#[cfg(feature = "nats")]
async fn open_nats(config: &BusConfig) -> Result<Arc<dyn Bus>, Error> {
    remote::RemoteBus::open(nats::NAME, nats::Nats::new(config)?).await
}

#[cfg(not(feature = "nats"))]
async fn open_nats(_: &BusConfig) -> Result<Arc<dyn Bus>, Error> {
    std::future::ready(Err(not_built("nats"))).await
}

#[cfg(not(all(feature = "nats", feature = "redis")))]
fn not_built(bus: &'static str) -> Error {
    let what = format!("is not in this build: build it with the feature `{bus}`, or set bus.kind to another");
    Error { bus, what }
}

/// What has happened on a bus since the start; all nothing for one within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages that were not sent: the server was away, or slower than this node.
    pub unsent: u64,
    /// Messages that were larger than the server takes.
    pub too_large: u64,
    /// What arrived and was not understood.
    pub refused: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Those of them that were lost.
    pub connections_lost: u64,
}

/// Takes what arrives. Called on the bus's own task; must not block.
pub trait Subscriber: Send + Sync + fmt::Debug {
    /// Something arrived for a room.
    fn deliver(&self, room: &RoomId, message: BusMessage);

    /// What is published for a room from now on arrives, as far as the contract goes: what was published since its
    /// log was last looked at may have been missed.
    fn subscribed(&self, room: &RoomId);

    /// Anything may have been missed, in any room.
    fn interrupted(&self);
}

/// Carries messages to every node, this one included.
///
/// # Contract
///
/// * In no particular order, perhaps never, perhaps twice: a receiver fills holes from the store and knows what it has
///   delivered.
/// * `publish` never waits and never fails visibly; what could not be sent is lost.
/// * A message published on a node is also delivered to that node's subscriber, before `publish` returns where the bus
///   is shared; once, whatever the server sends back.
/// * Other nodes' messages arrive for rooms that were subscribed to, and for no others. [`Subscriber::subscribed`] says
///   when that has come into force; after every loss of the connection [`Subscriber::interrupted`] says when it is in
///   force again. A bus within one process delivers for every room, and need not say so.
/// * [`Bus::is_reliable`] promises more: each message exactly once, in the order of `publish`, before `publish`
///   returns.
#[async_trait]
pub trait Bus: Send + Sync + fmt::Debug + 'static {
    /// The backend's name, as in `bus.kind`.
    fn name(&self) -> &'static str;

    /// Whether nothing is lost, repeated or reordered. If not, or if the store is shared with other processes, receivers
    /// look at the store's head from time to time.
    fn is_reliable(&self) -> bool;

    /// Whether other processes receive.
    fn is_shared(&self) -> bool;

    /// Sets who receives on this node; once, before anything is published.
    fn attach(&self, subscriber: Arc<dyn Subscriber>);

    /// Wants what other nodes publish for a room. Never waits, and never calls the subscriber before it returns.
    fn subscribe(&self, _room: &RoomId) {}

    /// Wants no more of it.
    fn unsubscribe(&self, _room: &RoomId) {}

    /// Sends to every node.
    fn publish(&self, room: &RoomId, message: BusMessage);

    /// What has happened.
    fn counts(&self) -> Counts {
        Counts::default()
    }

    /// Sends what still waits, as far as that takes no long time, and ends: the last call.
    async fn close(&self) {}
}
