//! The bus over Redis: channels `<prefix>.room.<room>`, one subscription for each room that is wanted.
//!
//! One connection carries both ways (RESP3, so Redis 6 or later, or what speaks as it does). Where the server is a
//! cluster of version 7 or later, sharded channels are used: a message then goes to one shard, and not to every server.
//! A connection that is lost is made anew with all its subscriptions, and so are those to a cluster of which one is
//! lost: which server has which channel may have changed. When a slot moves, its server ends the subscriptions in it,
//! which are made again where the slot is now; the connections are replaced then, because the client takes what it did
//! not ask for as the answer to what it did.
//!
//! A server that is no cluster must be a master: what is published on a replica is heard on that replica alone.

mod facts;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, ProtocolVersion,
    PushInfo, PushKind, RedisError, Value, aio::MultiplexedConnection, cluster::ClusterClient,
    cluster_async::ClusterConnection,
};

use crate::{
    bus::{
        Error,
        config::BusConfig,
        redis::facts::Facts,
        remote::{Inbox, Learned, Link, LinkError, Server, first_that_answers},
    },
    ids::RoomId,
    wire::hint::codec::HintError,
};

/// The name of this bus.
pub(super) const NAME: &str = "redis";
/// Beyond it a message is sent as a hint: a server keeps it once for every connection that it goes to.
const LARGEST: usize = 1024 * 1024;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take: short, since a cluster can only be used when all its servers were tried.
const CONNECTION: Duration = Duration::from_secs(2);

/// Where the servers are.
pub(super) struct Redis {
    servers: Vec<ConnectionInfo>,
    learned: Learned<ConnectionInfo>,
    channels: Channels,
}

/// How channels are called.
#[derive(Clone)]
struct Channels(Arc<str>);

impl Channels {
    fn of(&self, room: &RoomId) -> String {
        format!("{}.room.{room}", self.0)
    }

    fn room(&self, channel: &[u8]) -> Option<RoomId> {
        let channel = std::str::from_utf8(channel).ok()?;
        let room = channel.strip_prefix(&*self.0)?.strip_prefix(".room.")?;
        RoomId::parse_key(room).ok()
    }
}

impl Redis {
    pub(super) fn new(config: &BusConfig) -> Result<Self, Error> {
        let error = |what: &str| Error { bus: NAME, what: what.to_owned() };
        let url = config.url.as_ref().ok_or_else(|| error("bus.url is not set"))?;
        let servers = url
            .servers()
            .map(|server| {
                // The problem may quote the URL.
                let info = server
                    .into_connection_info()
                    .map_err(|_| error("does not understand bus.url: write redis://host:6379"))?;
                let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
                Ok(info.set_redis_settings(settings))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        // The client takes the process's implementation of cryptography.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let channels = Channels(config.prefix.as_str().into());
        Ok(Self { servers, learned: Learned::default(), channels })
    }

    async fn connect_to(&self, answering: Answering, inbox: &Inbox) -> Result<Connection, LinkError> {
        let Answering { server, mut connection, facts } = answering;
        let sender = Pushes { inbox: inbox.clone(), channels: self.channels.clone() };
        let send = move |push: PushInfo| -> Result<(), redis::aio::SendError> {
            sender.take(push);
            Ok(())
        };
        let link = if facts.is_sharded() {
            self.learned.learn(facts::servers_of_cluster(&mut connection, &server).await);
            // It names all others.
            let client = ClusterClient::builder([server])
                .use_protocol(ProtocolVersion::RESP3)
                .connection_timeout(CONNECTION)
                .response_timeout(TIMEOUT)
                .push_sender(send)
                .build()
                .map_err(|error| away(&error))?;
            Connected::Cluster(client.get_async_connection().await.map_err(|error| away(&error))?)
        } else {
            let client = Client::open(server).map_err(|error| away(&error))?;
            let config = timeouts().set_push_sender(send);
            Connected::Single(
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await
                    .map_err(|error| away(&error))?,
            )
        };
        Ok(Connection { link, channels: self.channels.clone() })
    }
}

fn timeouts() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECTION)).set_response_timeout(Some(TIMEOUT))
}

/// A server that has answered.
struct Answering {
    server: ConnectionInfo,
    connection: MultiplexedConnection,
    facts: Facts,
}

/// Asks a server what it is; one that is no master is as good as away.
async fn ask(server: ConnectionInfo) -> Result<Answering, LinkError> {
    let client = Client::open(server.clone()).map_err(|error| away(&error))?;
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&timeouts())
        .await
        .map_err(|error| away(&error))?;
    let facts = Facts::of(&mut connection).await.map_err(|error| away(&error))?;
    facts.is_usable().map_err(|what| LinkError::Away(what.to_owned()))?;
    Ok(Answering { server, connection, facts })
}

#[async_trait]
impl Server for Redis {
    async fn connect(&self, inbox: Inbox) -> Result<Box<dyn Link>, LinkError> {
        let servers = self.learned.behind(&self.servers, |one, other| one.addr() == other.addr());
        let answering = first_that_answers(servers, ask).await?;
        Ok(Box::new(self.connect_to(answering, &inbox).await?))
    }
}

/// What the server sends without being asked.
struct Pushes {
    inbox: Inbox,
    channels: Channels,
}

impl Pushes {
    fn take(&self, push: PushInfo) {
        let PushInfo { kind, data } = push;
        match kind {
            PushKind::Message | PushKind::SMessage => self.message(data),
            PushKind::Disconnection => self.inbox.lost(),
            // What this node has asked for, or a channel that moves to another shard: then the client has taken this
            // for the answer to something else, and an answer that says no may get lost.
            PushKind::SUnsubscribe => {
                if let Some(Value::BulkString(channel)) = data.first()
                    && let Some(room) = self.channels.room(channel)
                    && self.inbox.ended(&room)
                {
                    self.inbox.replace();
                }
            }
            _ => {}
        }
    }

    fn message(&self, data: Vec<Value>) {
        let mut data = data.into_iter();
        match (data.next(), data.next()) {
            (Some(Value::BulkString(channel)), Some(Value::BulkString(bytes))) => {
                match self.channels.room(&channel) {
                    Some(room) => self.inbox.arrived(&room, &Bytes::from(bytes)),
                    None => self.inbox.refused(&HintError::Foreign),
                }
            }
            (_, _) => self.inbox.refused(&HintError::Foreign),
        }
    }
}

/// One connection, or one to each server of a cluster.
struct Connection {
    link: Connected,
    channels: Channels,
}

enum Connected {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

#[async_trait]
impl Link for Connection {
    fn largest(&self) -> usize {
        LARGEST
    }

    async fn subscribe(&mut self, rooms: &[RoomId]) -> Result<(), LinkError> {
        let channels = rooms.iter().map(|room| self.channels.of(room));
        match &mut self.link {
            Connected::Single(link) => {
                link.subscribe(channels.collect::<Vec<_>>()).await.map_err(|error| away(&error))
            }
            // Each channel may belong to another shard.
            Connected::Cluster(link) => {
                let all = channels.map(|channel| {
                    let mut link = link.clone();
                    async move { link.ssubscribe(channel).await }
                });
                try_join_all(all).await.map(drop).map_err(|error| away(&error))
            }
        }
    }

    async fn unsubscribe(&mut self, rooms: &[RoomId]) -> Result<(), LinkError> {
        let channels = rooms.iter().map(|room| self.channels.of(room));
        match &mut self.link {
            Connected::Single(link) => {
                link.unsubscribe(channels.collect::<Vec<_>>()).await.map_err(|error| away(&error))
            }
            Connected::Cluster(link) => {
                let all = channels.map(|channel| {
                    let mut link = link.clone();
                    async move { link.sunsubscribe(channel).await }
                });
                try_join_all(all).await.map(drop).map_err(|error| away(&error))
            }
        }
    }

    async fn publish(&mut self, messages: Vec<(RoomId, Bytes)>) -> Result<(), LinkError> {
        match &mut self.link {
            Connected::Single(link) => {
                let mut pipeline = redis::Pipeline::with_capacity(messages.len());
                for (room, bytes) in &messages {
                    pipeline.cmd("PUBLISH").arg(self.channels.of(room)).arg(&bytes[..]).ignore();
                }
                pipeline.query_async::<()>(link).await.map_err(|error| away(&error))
            }
            Connected::Cluster(link) => {
                // A pipeline goes to one shard: there is one for each room, in which the order is kept.
                let mut by_room: HashMap<RoomId, redis::Pipeline> = HashMap::new();
                for (room, bytes) in messages {
                    let channel = self.channels.of(&room);
                    by_room.entry(room).or_default().cmd("SPUBLISH").arg(channel).arg(&bytes[..]).ignore();
                }
                let all = by_room.into_values().map(|pipeline| {
                    let mut link = link.clone();
                    async move { pipeline.query_async::<()>(&mut link).await }
                });
                try_join_all(all).await.map(drop).map_err(|error| away(&error))
            }
        }
    }

    async fn check(&mut self) -> Result<(), LinkError> {
        match &mut self.link {
            // A master may have become a replica without ending its connections.
            Connected::Single(link) => {
                let facts = Facts::of(link).await.map_err(|error| away(&error))?;
                facts.is_usable().map_err(|what| LinkError::Away(what.to_owned()))
            }
            Connected::Cluster(link) => {
                let ping = redis::cmd("PING");
                ping.query_async::<Value>(link).await.map(drop).map_err(|error| away(&error))
            }
        }
    }
}

/// What the server or its client says; never the URL.
fn away(error: &RedisError) -> LinkError {
    let code = error.code().unwrap_or_default().to_owned();
    match error.kind() {
        ErrorKind::AuthenticationFailed => refused(error),
        _ if ["NOAUTH", "WRONGPASS", "NOPERM"].contains(&code.as_str()) => refused(error),
        ErrorKind::RESP3NotSupported => {
            LinkError::Refused("the server is too old: Redis 6 or later is needed".to_owned())
        }
        _ => LinkError::Away(error.to_string()),
    }
}

fn refused(error: &RedisError) -> LinkError {
    LinkError::Refused(format!("the server refuses the user or the password of bus.url: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_names_its_room() {
        let channels = Channels("a.b".into());
        let room = RoomId::parse("x-1").unwrap();
        assert_eq!(channels.room(channels.of(&room).as_bytes()), Some(room));
        for other in ["x.room.x-1", "a.b.node.x-1", "a.b.room.", "a.b.room.x/1/2", "a.b"] {
            assert_eq!(channels.room(other.as_bytes()), None, "{other}");
        }
    }
}
