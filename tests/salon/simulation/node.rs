//! One node: a whole server below its door, with its own clock, on the shared store and bus.
//!
//! A crash cuts it off from everything at one instant: no call to the store is answered any more, nothing it publishes
//! arrives, its streams are gone. What is left of its tasks waits for ever and can be seen by nobody, which is what a
//! killed process looks like from outside.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use salon::{
    clock::{Clock, Timestamp},
    config::Config,
    llm::route::{Jitter, Router, RouterSettings},
    server::{Parts, Server, graph},
    store::Store,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{bus::SimBus, model, planted::Planted, store::SimStore, world::World};

/// Between two tries to start.
const RESTART: Duration = Duration::from_millis(500);
/// How long a drain may take.
const GRACE: Duration = Duration::from_secs(4);

/// When a simulation begins, on clocks that are right.
const EPOCH: Timestamp = Timestamp(1_800_000_000_000);

/// The clock of one node: it goes as time goes, and may be wrong.
#[derive(Debug)]
pub struct SimClock {
    began: Instant,
    wrong_by_ms: AtomicI64,
}

impl SimClock {
    pub fn new(began: Instant) -> Arc<Self> {
        Arc::new(Self { began, wrong_by_ms: AtomicI64::new(0) })
    }

    /// Sets how wrong it is.
    pub fn jump(&self, wrong_by_ms: i64) {
        self.wrong_by_ms.store(wrong_by_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let right = EPOCH.plus(self.began.elapsed());
        Timestamp(right.0 + self.wrong_by_ms.load(Ordering::SeqCst))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    pub index: usize,
    /// Cancelled: it does not exist any more.
    pub crashed: CancellationToken,
    pub services: Arc<salon::session::Services>,
    server: Mutex<Option<Server>>,
}

/// The settings of every node: the shipped ones, with times that a short simulation can see the end of.
fn config() -> Config {
    let mut config = Config::default();
    // Their limiter has a clock of its own that no simulation moves.
    config.limits.messages_per_second = 1_000_000;
    config.limits.messages_burst = 1_000_000;
    config.limits.transients_per_second = 1_000_000;
    config.limits.transients_burst = 1_000_000;
    // Small, so that readers fall behind and snapshots are made.
    config.limits.queue_events = 24;
    config.rooms.snapshot_every = 20;
    config.rooms.idle_unload = Duration::from_secs(3);
    config.llm.retry.attempts = 2;
    config.llm.summary.after = 0;
    config.llm.first_token_timeout = Duration::from_secs(3);
    config.llm.idle_timeout = Duration::from_secs(2);
    config.llm.total_timeout = Duration::from_secs(8);
    config.store.lease = Duration::from_secs(5);
    // Never reached: it has answers reserve and settle.
    config.llm.budgets.room.tokens_per_day = Some(1_000_000_000);
    config
}

impl Node {
    /// Starts the node of this place, as often as it takes: whoever runs servers starts them again.
    pub async fn start(world: &Arc<World>, index: usize, life: u32, clock: Arc<SimClock>) {
        let mut config = config();
        if world.planted == Some(Planted::NoHeads) {
            config.bus.head_check = Duration::from_secs(3600);
        }
        for attempt in 0.. {
            let random = world.random.of(&format!("node {index} {life} {attempt}"));
            let crashed = CancellationToken::new();
            let store: Arc<dyn Store> =
                Arc::new(SimStore::new(index, world, random.of("store"), crashed.clone()));
            let provider = model::provider(world, random.of("model"));
            let router = RouterSettings {
                jitter: Jitter::seeded(random.of("jitter").next()),
                ..graph::router_settings(&config, [].into())
            };
            let parts = Parts {
                store,
                bus: SimBus::join(index, world, crashed.clone()),
                router: Arc::new(
                    Router::new([("scripted".to_owned(), provider)].into(), "scripted", router).unwrap(),
                ),
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
            };
            match Server::start(&config, parts, None).await {
                Ok(server) => {
                    world.trace.say(format_args!("node {index} starts"));
                    let services = Arc::clone(&server.graph().services);
                    let server = Mutex::new(Some(server));
                    world.set_node(index, Some(Arc::new(Self { index, crashed, services, server })));
                    return;
                }
                Err(error) => {
                    world.trace.say(format_args!("node {index} cannot start: {error}"));
                    crashed.cancel();
                    sleep(RESTART).await;
                }
            }
        }
    }

    /// The node is gone, at this instant.
    pub fn crash(&self, world: &World) {
        world.trace.say(format_args!("node {} crashes", self.index));
        self.crashed.cancel();
        world.set_node(self.index, None);
    }

    /// The node ends in order.
    pub async fn drain(&self, world: &World) {
        world.trace.say(format_args!("node {} drains", self.index));
        let server = self.server.lock().unwrap().take();
        world.set_node(self.index, None);
        if let Some(server) = server {
            // What does not end in time is killed.
            let _ = tokio::time::timeout(GRACE * 2, server.shutdown(GRACE)).await;
        }
        world.trace.say(format_args!("node {} has ended", self.index));
        self.crashed.cancel();
    }
}
