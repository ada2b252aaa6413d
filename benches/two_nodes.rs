//! From saying something to its arrival at somebody else's, on the same node and on another, by store and bus.
//!
//! `.ci/stores -- .ci/buses -- cargo bench --bench two_nodes`. All nodes are in this process, over real sockets of this
//! machine, with the engines whose URLs are set: without one its lines are missing. Somebody says something, and says
//! the next thing when it was heard everywhere; all pairs take turns, so that only what they differ in is compared.
#![allow(
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench ends when something is wrong, and prints its table"
)]

use std::time::{Duration, Instant};

use salon::{
    config::{BusKind, Config, StoreKind},
    server::{Parts, Server},
    wire::pb::room::v1::{
        self as pb, client_message::Payload as Say, room_service_client::RoomServiceClient,
        server_event::Payload,
    },
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

const ROUNDS: usize = 8;
const MESSAGES: usize = 250;
/// Of what somebody says.
const BYTES: usize = 200;

/// A stream that has joined.
struct Session {
    say: mpsc::Sender<pb::ClientMessage>,
    hear: Streaming<pb::ServerEvent>,
}

impl Session {
    async fn join(server: &Server, room: &str, user: &str) -> Self {
        let (say, said) = mpsc::channel(8);
        let hear = client(server).await.room_session(ReceiverStream::new(said)).await.unwrap().into_inner();
        let join = pb::JoinRoom { room_id: room.into(), user_id: user.into(), ..Default::default() };
        let mut session = Self { say, hear };
        session.say(Say::Join(join), "").await;
        session.until(|event| matches!(event.payload, Some(Payload::RoomState(_)))).await;
        session
    }

    async fn say(&self, payload: Say, request_id: &str) {
        let message = pb::ClientMessage { payload: Some(payload), request_id: request_id.to_owned() };
        self.say.send(message).await.unwrap();
    }

    async fn until(&mut self, is_it: impl Fn(&pb::ServerEvent) -> bool) {
        while !is_it(&self.hear.message().await.unwrap().unwrap()) {}
    }
}

/// A room that somebody talks in, and who listens, on the same node or on another.
struct Pair {
    name: String,
    servers: Vec<Server>,
    speaker: Session,
    here: Session,
    there: Option<Session>,
    acked: Vec<Duration>,
    heard_here: Vec<Duration>,
    heard_there: Vec<Duration>,
}

async fn client(server: &Server) -> RoomServiceClient<Channel> {
    RoomServiceClient::connect(format!("http://{}", server.address().unwrap())).await.unwrap()
}

impl Pair {
    async fn new(name: String, configs: &[Config]) -> Self {
        let mut servers = Vec::new();
        for config in configs {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            servers.push(Server::start(config, Parts::open(config).await.unwrap(), listener).await.unwrap());
        }
        let create = pb::CreateRoomRequest { name: "Bench".into(), ..Default::default() };
        let room = client(&servers[0]).await.create_room(create).await.unwrap().into_inner().room_id;
        let speaker = Session::join(&servers[0], &room, "speaker").await;
        let here = Session::join(&servers[0], &room, "here").await;
        let there = match servers.get(1) {
            Some(server) => Some(Session::join(server, &room, "there").await),
            None => None,
        };
        let (acked, heard_here, heard_there) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, servers, speaker, here, there, acked, heard_here, heard_there }
    }

    async fn talk(&mut self, round: usize) {
        for n in 0..MESSAGES {
            let id = format!("{round}-{n}");
            let content = format!("{id:x<BYTES$}");
            let is_it = |event: &pb::ServerEvent| match &event.payload {
                Some(Payload::MessageReceived(received)) => {
                    received.message.as_ref().is_some_and(|message| message.content == content)
                }
                _ => false,
            };
            let said = Say::Message(pb::SendMessage { content: content.clone(), ..Default::default() });
            let begin = Instant::now();
            self.speaker.say(said, &id).await;
            let acked = async {
                self.speaker.until(|event| event.request_id == id).await;
                begin.elapsed()
            };
            let here = async {
                self.here.until(is_it).await;
                begin.elapsed()
            };
            let there = async {
                match &mut self.there {
                    Some(there) => there.until(is_it).await,
                    None => return None,
                }
                Some(begin.elapsed())
            };
            let (acked, here, there) = tokio::join!(acked, here, there);
            // The first are slower everywhere.
            if round > 0 {
                self.acked.push(acked);
                self.heard_here.push(here);
                self.heard_there.extend(there);
            }
        }
    }

    async fn finish(mut self) {
        let [acked, here] = [spread(&mut self.acked), spread(&mut self.heard_here)];
        let there = if self.heard_there.is_empty() { "-".into() } else { spread(&mut self.heard_there) };
        println!("| {} | {acked} | {here} | {there} |", self.name);
        drop((self.speaker, self.here, self.there));
        for server in self.servers {
            server.shutdown(Duration::from_secs(1)).await;
        }
    }
}

/// The median and the 99th of a hundred, in milliseconds.
fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    format!("{:.2} / {:.2} ms", at(50), at(99))
}

fn url(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|url| !url.is_empty())
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let mut base = Config::default();
    (base.limits.messages_per_second, base.limits.messages_burst) = (1_000_000, 1_000_000);
    let mut pairs = Vec::new();
    let mut sqlite = base.clone();
    (sqlite.store.kind, sqlite.store.path) = (StoreKind::Sqlite, directory.path().join("salon.db"));
    let mut memory = base.clone();
    memory.store.kind = StoreKind::Memory;
    pairs.push(Pair::new("memory, local".into(), &[memory]).await);
    pairs.push(Pair::new("sqlite (fsync), local".into(), &[sqlite]).await);
    if let Some(store) = url("SALON_TEST_POSTGRES_URL") {
        let mut postgres = base.clone();
        postgres.store.kind = StoreKind::Postgres;
        postgres.store.url = Some(serde_json::from_value(store.into()).unwrap());
        postgres.store.schema = format!("bench_{}", std::process::id());
        pairs.push(Pair::new("postgres, local".into(), &[postgres.clone()]).await);
        for (name, kind, variable) in [
            ("redis", BusKind::Redis, "SALON_TEST_REDIS_URL"),
            ("nats", BusKind::Nats, "SALON_TEST_NATS_URL"),
        ] {
            if let Some(bus) = url(variable) {
                let mut config = postgres.clone();
                config.bus.kind = kind;
                config.bus.url = Some(serde_json::from_value(bus.into()).unwrap());
                pairs.push(Pair::new(format!("postgres, {name}"), &[config.clone(), config]).await);
            }
        }
    }
    for round in 0..=ROUNDS {
        for pair in &mut pairs {
            pair.talk(round).await;
        }
    }
    println!("| store, bus | acknowledged | heard on the same node | heard on another |\n|---|---|---|---|");
    for pair in pairs {
        pair.finish().await;
    }
}
