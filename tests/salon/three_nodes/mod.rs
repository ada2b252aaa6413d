//! Three real processes with one store and one bus between them, under load, while nodes, links and engines die.
//!
//! Runs where `.ci/stores` and `.ci/buses` say where the programs of PostgreSQL, Redis and NATS are; a test starts
//! engines of its own, to kill them. Without them it says that it was left out.

mod check;
mod client;
mod engines;
mod faults;
mod rolling;

use std::time::Duration;

use salon::wire::pb::room::v1 as pb;
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use self::{
    check::{compare, open_runs},
    client::{Client, News},
    engines::{BusEngine, BusServer},
};
use crate::{
    fake_openai::{FakeOpenAi, Received, Reply},
    harness::network::Network,
    process::{Place, Salon},
    store_conformance::postgres::engine::Cluster,
};

const NODES: usize = 3;
const ROOMS: [&str; 3] = ["red", "green", "blue"];
/// Who writes in each room, spread over the nodes.
const WRITERS: usize = 3;
/// What must come comes within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an LLM is told to stay silent for ever behind its first words.
const FOREVER: &str = "forever";

/// One node: its process, and its links to the engines.
struct Node {
    place: Place,
    salon: Option<Salon>,
    to_store: Network,
    to_bus: Network,
}

/// Everything.
struct Rig {
    postgres: Cluster,
    bus: BusEngine,
    nodes: Vec<Node>,
    /// Where the nodes that serve are.
    urls: watch::Sender<Vec<Option<String>>>,
    _model: FakeOpenAi,
}

/// Load that goes on until it is told to end.
struct Load {
    clients: JoinSet<Client>,
    end: watch::Sender<bool>,
    news: watch::Sender<News>,
}

impl Rig {
    /// Three nodes that serve; `None`: there are no engines, which was said.
    async fn start(kind: BusServer) -> Option<Self> {
        let (postgres, bus) = (Cluster::start().await?, BusEngine::start(kind).await?);
        let model = FakeOpenAi::start(answer).await;
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let to_store = Network::to(&postgres.host()).await;
            let to_bus = Network::to(&bus.host()).await;
            let place = Place::new()
                .env("OPENAI_BASE_URL", &model.base_url())
                .env("SALON__STORE__KIND", "postgres")
                .env("STORE_URL", &format!("postgres://salon@{}/postgres?sslmode=disable", to_store.address))
                .env("SALON__STORE__TIMEOUT", "3s")
                .env("SALON__BUS__KIND", bus.kind())
                .env("BUS_URL", &bus.url(&to_bus.address))
                .env("SALON__LIMITS__DRAIN", "10s")
                .env("SALON__LIMITS__HEARTBEAT_INTERVAL", "1s");
            nodes.push(Node { place, salon: None, to_store, to_bus });
        }
        let urls = watch::Sender::new(vec![None; NODES]);
        let mut rig = Self { postgres, bus, nodes, urls, _model: model };
        for n in 0..NODES {
            rig.restart(n).await;
        }
        for room in ROOMS {
            rig.salon(0).room(room, &["ada", "bob"]).await;
        }
        Some(rig)
    }

    fn salon(&self, n: usize) -> &Salon {
        self.nodes[n].salon.as_ref().expect("the node does not run")
    }

    fn tell(&self, n: usize) {
        let url = self.nodes[n].salon.as_ref().map(|salon| salon.url.clone());
        self.urls.send_modify(|urls| urls[n] = url);
    }

    /// Starts a node that does not run.
    async fn restart(&mut self, n: usize) {
        self.nodes[n].salon = Some(self.nodes[n].place.start().await);
        self.tell(n);
    }

    /// SIGKILL.
    async fn kill(&mut self, n: usize) {
        self.nodes[n].salon.take().expect("the node does not run").kill().await;
        self.tell(n);
    }

    /// SIGTERM; waits until it has drained.
    async fn drain(&mut self, n: usize) {
        let salon = self.nodes[n].salon.take().expect("the node does not run");
        salon.terminate().await;
        // Whoever balances sees that it is not ready.
        self.tell(n);
        let status = salon.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.nodes[n].place.log());
    }

    /// Clients who write until they are told to end.
    fn load(&self) -> Load {
        let (end, news) = (watch::Sender::new(false), watch::Sender::new(News::default()));
        let mut clients = JoinSet::new();
        for (room, name) in
            ROOMS.iter().zip(0..).flat_map(|(room, r)| (0..WRITERS).map(move |w| (*room, (r, w))))
        {
            let client = Client::new(room, &format!("writer-{}-{}", name.0, name.1), name.0 + name.1);
            clients.spawn(client.write(self.urls.subscribe(), end.subscribe(), news.clone()));
        }
        Load { clients, end, news }
    }

    /// The log of a room when no answer is being written.
    async fn quiet_log_of(&self, room: &str) -> Vec<pb::ServerEvent> {
        loop {
            let log = self.salon(0).log_of(room).await;
            if open_runs(&log).is_empty() {
                return log;
            }
            // Whoever ends one is another process: there is nothing else to wait for.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the load, lets every client see everything, and compares it with the logs, on every node.
    async fn finish(mut self, load: Load) -> News {
        let Load { mut clients, end, news } = load;
        end.send_replace(true);
        let mut finished = Vec::new();
        while let Some(client) = clients.join_next().await {
            finished.push(client.unwrap());
        }
        for room in ROOMS {
            let log = timeout(PATIENCE, self.quiet_log_of(room)).await.expect("an answer never ends");
            for n in 1..NODES {
                assert!(self.salon(n).log_of(room).await.starts_with(&log), "two logs of {room}");
            }
            let here: Vec<&Client> = finished.iter().filter(|client| client.room == room).collect();
            compare(&log, &here);
        }
        for n in 0..NODES {
            self.drain(n).await;
        }
        self.postgres.stop().await;
        news.borrow().clone()
    }
}

impl Load {
    /// Lets it go on for this long, and until everybody was acknowledged something.
    async fn go_on(&self, time: Duration) {
        // The time is the load, not a wait for something.
        tokio::time::sleep(time).await;
        self.recovered().await;
    }

    /// How long it takes from now until every client has been acknowledged something new.
    async fn recovered(&self) -> Duration {
        let begun = Instant::now();
        let mut news = self.news.subscribe();
        let recovered = news.wait_for(|news| news.all_since(begun, ROOMS.len() * WRITERS));
        if timeout(PATIENCE, recovered).await.is_err() {
            let news = self.news.borrow();
            panic!("{:?} do not recover; streams that ended: {:?}", news.silent_since(begun), news.ends);
        }
        begun.elapsed()
    }
}

/// An LLM that takes its time, so that something is always being written.
fn answer(request: &Received) -> Reply {
    let asked = request.body["messages"].as_array().and_then(|messages| messages.last());
    let forever = asked.is_some_and(|asked| asked.to_string().contains(FOREVER));
    let mut reply = Reply::stream();
    for word in 0..20 {
        reply = reply.delta(&json!({"content": format!("word {word} ")})).pause(Duration::from_millis(20));
        if forever {
            return reply.stall();
        }
    }
    reply.end("stop")
}

/// Whether an answer was ended because whoever wrote it is gone.
fn is_interrupted(event: &pb::ServerEvent, message_id: &str) -> bool {
    matches!(&event.payload, Some(pb::server_event::Payload::LlmDone(done))
        if done.message_id == message_id && done.reason() == pb::LlmDoneReason::Interrupted)
}
