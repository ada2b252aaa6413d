//! The bus over NATS: plain subjects `<prefix>.room.<room>`, one subscription for each room that is wanted.
//!
//! Not `JetStream`: the log is the store's. The client could make lost connections again by itself; here each is made
//! anew instead, so that the same task knows what was missed, whatever the server is. A subscription is in force when
//! a message to oneself, sent behind it, has come back: a server works off what a connection sends in order. The other
//! servers of a cluster hear of it a moment later; what is missed in that moment is found at the next look at the store.
//! A server names the others of its cluster when it is connected to: they are asked as well when it is lost.

use std::{collections::HashMap, fs, sync::Arc, time::Duration};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use uuid::Uuid;

use crate::{
    bus::{
        Error,
        config::BusConfig,
        remote::{Inbox, Learned, Link, LinkError, Server, first_that_answers},
    },
    ids::RoomId,
};

/// The name of this bus.
pub(super) const NAME: &str = "nats";
/// Beyond it a message is sent as a hint, even if the server takes it: the store is read just as well.
const LARGEST: usize = 4 * 1024 * 1024;
/// What a server adds to a message counts as well: the subject.
const AROUND: usize = 256;
/// How long a connection may take.
const CONNECTION: Duration = Duration::from_secs(2);
/// Messages of one room that wait for this node; then they are dropped, and the store is read.
const WAITING: usize = 4096;

/// Where the servers are.
pub(super) struct Nats {
    servers: Vec<ServerAddr>,
    learned: Learned<ServerAddr>,
    login: Option<Login>,
    credentials: Option<String>,
    prefix: Arc<str>,
}

/// What a URL says before the host. The client takes it separately, and shows URLs in its logs.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
enum Login {
    User(String, String),
    Token(String),
}

impl Nats {
    pub(super) fn new(config: &BusConfig) -> Result<Self, Error> {
        let error = |what: String| Error { bus: NAME, what };
        let url = config.url.as_ref().ok_or_else(|| error("bus.url is not set".to_owned()))?;
        let (mut servers, mut login) = (Vec::new(), None);
        for server in url.servers() {
            // The problem may quote the URL.
            let unclear = || error("does not understand bus.url: write nats://host:4222".to_owned());
            let (address, found) = divided(server).ok_or_else(unclear)?;
            servers.push(address.parse::<ServerAddr>().map_err(|_| unclear())?);
            login = login.or(found);
        }
        let credentials = match &config.credentials {
            None => None,
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|io| error(format!("cannot read the file of bus.credentials: {io}")))?;
                // Whether they make sense is seen before anything is connected to.
                ConnectOptions::with_credentials(&text).map_err(|_| {
                    error("the file of bus.credentials holds no credentials of NATS".to_owned())
                })?;
                Some(text)
            }
        };
        let (learned, prefix) = (Learned::default(), config.prefix.as_str().into());
        Ok(Self { servers, learned, login, credentials, prefix })
    }

    /// Keeps the servers that one names to its clients.
    fn learn(&self, client: &Client) {
        // They are named without a scheme: what is encrypted stays so.
        let scheme = self.servers.first().map_or("nats", ServerAddr::scheme);
        let named = client.server_info().connect_urls;
        self.learned.learn(named.iter().filter_map(|url| format!("{scheme}://{url}").parse().ok()));
    }

    async fn connect_to(&self, server: ServerAddr, inbox: &Inbox) -> Result<Client, LinkError> {
        let events = inbox.clone();
        let mut options = ConnectOptions::new();
        if let Some(credentials) = &self.credentials {
            options =
                options.credentials(credentials).map_err(|error| LinkError::Refused(error.to_string()))?;
        }
        options = match self.login.clone() {
            Some(Login::User(user, password)) => options.user_and_password(user, password),
            Some(Login::Token(token)) => options.token(token),
            None => options,
        };
        options
            .name("salon")
            .subscription_capacity(WAITING)
            .connection_timeout(CONNECTION)
            .ping_interval(Duration::from_secs(5))
            // What a client does after it was lost is of no interest.
            .reconnect_delay_callback(|attempt| match attempt {
                0 | 1 => Duration::ZERO,
                _ => Duration::from_secs(5),
            })
            .event_callback(move |event| {
                match event {
                    Event::Disconnected | Event::Closed => events.lost(),
                    Event::SlowConsumer(_) => events.missed(),
                    Event::ServerError(error) => {
                        tracing::warn!(bus = NAME, %error, "the server of the bus complains");
                    }
                    // It takes no new connections, and ends the old ones soon.
                    Event::LameDuckMode => events.replace(),
                    Event::Connected | Event::Draining | Event::ClientError(_) => {}
                }
                std::future::ready(())
            })
            .connect(server)
            .await
            .map_err(|error| match error.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    LinkError::Refused(
                        "the server refuses the user, the password or the credentials of bus.url and \
                         bus.credentials"
                            .to_owned(),
                    )
                }
                ConnectErrorKind::ServerParse
                | ConnectErrorKind::Dns
                | ConnectErrorKind::TimedOut
                | ConnectErrorKind::Tls
                | ConnectErrorKind::Io
                | ConnectErrorKind::MaxReconnects => LinkError::Away(error.to_string()),
            })
    }
}

#[async_trait]
impl Server for Nats {
    async fn connect(&self, inbox: Inbox) -> Result<Box<dyn Link>, LinkError> {
        let mut servers = self.learned.behind(&self.servers, ServerAddr::eq);
        // Each node begins with another one.
        let [random, ..] = Uuid::new_v4().into_bytes();
        let first = usize::from(random) % servers.len().max(1);
        servers.rotate_left(first);
        let client = first_that_answers(servers, |server| self.connect_to(server, &inbox)).await?;
        self.learn(&client);
        let connection = Connection::new(client, inbox, Arc::clone(&self.prefix)).await?;
        Ok(Box::new(connection))
    }
}

/// A URL without its user, and the user.
fn divided(url: &str) -> Option<(String, Option<Login>)> {
    let (scheme, rest) = url.split_once("://")?;
    let Some((login, place)) = rest.rsplit_once('@') else {
        return Some((url.to_owned(), None));
    };
    let login = match login.split_once(':') {
        Some((user, password)) => Login::User(decoded(user)?, decoded(password)?),
        None => Login::Token(decoded(login)?),
    };
    Some((format!("{scheme}://{place}"), Some(login)))
}

/// A part of a URL with every `%XX` as the byte it stands for.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>()?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

/// One connection, and the tasks that read its subscriptions.
struct Connection {
    client: Client,
    inbox: Inbox,
    prefix: Arc<str>,
    rooms: HashMap<RoomId, AbortHandle>,
    readers: JoinSet<()>,
    /// Where messages to oneself go, the number of the last one, and of the last that came back.
    echo: String,
    asked: u64,
    answered: watch::Receiver<u64>,
}

impl Connection {
    async fn new(client: Client, inbox: Inbox, prefix: Arc<str>) -> Result<Self, LinkError> {
        let echo = format!("{prefix}.node.{}", Uuid::new_v4().as_simple());
        let mut echoes = client.subscribe(echo.clone()).await.map_err(away)?;
        let (answers, answered) = watch::channel(0);
        let mut readers = JoinSet::new();
        readers.spawn(async move {
            while let Some(message) = echoes.next().await {
                if let Ok(number) = message.payload.as_ref().try_into() {
                    answers.send_replace(u64::from_be_bytes(number));
                }
            }
        });
        Ok(Self { client, inbox, prefix, rooms: HashMap::new(), readers, echo, asked: 0, answered })
    }

    fn subject(&self, room: &RoomId) -> String {
        // Ids of rooms have no dots, no blanks and no wildcards.
        format!("{}.room.{room}", self.prefix)
    }

    /// Waits until the server has done all that it was told before.
    async fn round_trip(&mut self) -> Result<(), LinkError> {
        self.asked += 1;
        let number = Bytes::copy_from_slice(&self.asked.to_be_bytes());
        self.client.publish(self.echo.clone(), number).await.map_err(away)?;
        let asked = self.asked;
        self.answered.wait_for(|answered| *answered >= asked).await.map_err(away)?;
        Ok(())
    }
}

#[async_trait]
impl Link for Connection {
    fn largest(&self) -> usize {
        self.client.max_payload().saturating_sub(AROUND).min(LARGEST)
    }

    async fn subscribe(&mut self, rooms: &[RoomId]) -> Result<(), LinkError> {
        for room in rooms {
            let mut messages = self.client.subscribe(self.subject(room)).await.map_err(away)?;
            let (inbox, name) = (self.inbox.clone(), room.clone());
            let reader = self.readers.spawn(async move {
                while let Some(message) = messages.next().await {
                    inbox.arrived(&name, &message.payload);
                }
            });
            if let Some(before) = self.rooms.insert(room.clone(), reader) {
                before.abort();
            }
        }
        self.round_trip().await
    }

    async fn unsubscribe(&mut self, rooms: &[RoomId]) -> Result<(), LinkError> {
        for room in rooms {
            // A reader that ends takes its subscription with it.
            if let Some(reader) = self.rooms.remove(room) {
                reader.abort();
            }
        }
        while self.readers.try_join_next().is_some() {}
        Ok(())
    }

    async fn publish(&mut self, messages: Vec<(RoomId, Bytes)>) -> Result<(), LinkError> {
        for (room, bytes) in messages {
            self.client.publish(self.subject(&room), bytes).await.map_err(away)?;
        }
        self.client.flush().await.map_err(away)
    }

    async fn check(&mut self) -> Result<(), LinkError> {
        self.round_trip().await
    }
}

fn away(error: impl std::fmt::Display) -> LinkError {
    LinkError::Away(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_divided_from_its_user() {
        let user = |user: &str, password: &str| Some(Login::User(user.into(), password.into()));
        for (url, address, login) in [
            ("nats://h:4222", "nats://h:4222", None),
            ("tls://me:p%40ss%3A@h", "tls://h", user("me", "p@ss:")),
            ("nats://me:p@ss@h", "nats://h", user("me", "p@ss")),
            ("nats://t0ken@h", "nats://h", Some(Login::Token("t0ken".into()))),
        ] {
            assert_eq!(divided(url), Some((address.to_owned(), login)), "{url}");
        }
        for unclear in ["h:4222", "nats://me:%4@h", "nats://me:%zz@h", "nats://%ff@h"] {
            assert_eq!(divided(unclear), None, "{unclear}");
        }
    }
}
