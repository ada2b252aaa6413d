//! One simulation: a world is made from a seed, breaks, is mended, and must then come to rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use salon::{
    domain::room::Room,
    ids::{RoomId, Seq},
    rooms::Rooms,
    store::{Page, Store},
    wire::{command, pb::room::v1 as pb},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    checker::{self, Evidence, Stored},
    client::Client,
    history::History,
    model::LLMS,
    node::{Node, SimClock},
    plan::{Fault, Plan},
    planted::Planted,
    random::Random,
    weather::Weather,
    world::World,
};

/// Within so much time after everything is mended the world must have come to rest.
const REST: Duration = Duration::from_secs(60);
/// And must stay so for this long.
const STILL: Duration = Duration::from_secs(3);
/// All of a log at once.
const ALL: Page = Page { events: usize::MAX, bytes: usize::MAX };

/// What came of a seed.
#[derive(Debug)]
pub struct Report {
    /// What was promised and not kept.
    pub wrong: Vec<String>,
    pub trace: Vec<String>,
    /// Events in all logs.
    pub events: usize,
    /// How long it took to come to rest.
    pub rest: Duration,
}

/// Runs a seed, perhaps with a planted bug.
pub fn simulate(seed: u64, planted: Option<Planted>) -> Report {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let plan = Plan::of(&Random::new(seed));
    // Inside of it: outside another time goes on.
    runtime.block_on(async move { Run::new(seed, plan, planted).run().await })
}

struct Run {
    plan: Plan,
    world: Arc<World>,
    clocks: Vec<Arc<SimClock>>,
    /// How often the node of each place was started.
    lives: Vec<u32>,
    /// Places to which no node comes back.
    killed: BTreeSet<usize>,
    rooms: Vec<RoomId>,
    clients: Vec<Arc<std::sync::Mutex<History>>>,
}

impl Run {
    fn new(seed: u64, plan: Plan, planted: Option<Planted>) -> Self {
        let began = Instant::now();
        Self {
            world: World::new(seed, plan.nodes, planted),
            clocks: (0..plan.nodes).map(|_| SimClock::new(began)).collect(),
            lives: vec![0; plan.nodes],
            killed: BTreeSet::new(),
            rooms: (1..=plan.rooms).map(|n| RoomId::parse(&format!("room-{n}")).unwrap()).collect(),
            clients: Vec::new(),
            plan,
        }
    }

    async fn run(mut self) -> Report {
        self.world.trace.say(format_args!("{:?}", self.plan));
        let world = Arc::clone(&self.world);
        tokio::spawn(async move { world.hub.run(&world).await });
        for index in 0..self.plan.nodes {
            self.start(index, Duration::ZERO);
        }
        while self.world.running().len() < self.plan.nodes {
            sleep(Duration::from_millis(10)).await;
        }
        self.create_rooms().await;
        *self.world.weather() = steady(&self.plan);
        for index in 0..self.plan.clients {
            let room = &self.rooms[index % self.rooms.len()];
            let client = Client::new(&self.world, &self.plan, index, room.as_str());
            self.clients.push(client.history());
            tokio::spawn(client.run());
        }
        let began = Instant::now();
        for (at, fault) in std::mem::take(&mut self.plan.faults) {
            sleep_until(began + at).await;
            self.breaks(fault);
        }
        sleep_until(began + self.plan.length).await;
        self.mend();
        let (rest, mut wrong) = self.come_to_rest().await;
        self.world.over.cancel();
        let evidence = self.evidence().await;
        wrong.extend(checker::check(&evidence));
        let events = evidence.logs.values().map(Vec::len).sum();
        Report { wrong, trace: self.world.trace.lines(), events, rest }
    }

    async fn create_rooms(&self) {
        let node = self.world.running().remove(0);
        for id in &self.rooms {
            let llm = |id: &&str| pb::LlmConfig {
                id: (*id).to_owned(),
                display_name: (*id).to_owned(),
                ..Default::default()
            };
            let request = pb::CreateRoomRequest {
                name: "Simulated".into(),
                created_by: "user-0".into(),
                room_id: Some(id.to_string()),
                llms: LLMS.iter().map(llm).collect(),
                ..Default::default()
            };
            node.services.rooms.create(command::new_room(request).unwrap()).await.unwrap();
        }
    }

    fn start(&mut self, index: usize, after: Duration) {
        if self.killed.contains(&index) {
            return;
        }
        self.lives[index] += 1;
        let (world, life, clock) =
            (Arc::clone(&self.world), self.lives[index], Arc::clone(&self.clocks[index]));
        tokio::spawn(async move {
            sleep(after).await;
            Node::start(&world, index, life, clock).await;
        });
    }

    /// Breaks something, and sees to it that it is mended.
    fn breaks(&mut self, fault: Fault) {
        self.world.trace.say(format_args!("{fault:?}"));
        let (world, plan) = (Arc::clone(&self.world), steady(&self.plan));
        match fault {
            Fault::Crash(node, lasts) => {
                if let Some(node) = world.node(node) {
                    node.crash(&world);
                    self.start(node.index, lasts);
                }
            }
            Fault::Kill(node) => {
                // One has to be left.
                if self.killed.len() + 1 < self.plan.nodes && self.killed.insert(node) {
                    world.node(node).iter().for_each(|node| node.crash(&world));
                }
            }
            Fault::Drain(node, lasts) => {
                if let Some(node) = world.node(node) {
                    self.lives[node.index] += 1;
                    let (life, clock) = (self.lives[node.index], Arc::clone(&self.clocks[node.index]));
                    tokio::spawn(async move {
                        node.drain(&world).await;
                        sleep(lasts).await;
                        Node::start(&world, node.index, life, clock).await;
                    });
                }
            }
            Fault::Part(a, b, lasts) => {
                let pair = (a.min(b), a.max(b));
                world.weather().parted.insert(pair);
                self.later(lasts, move || {
                    world.weather().parted.remove(&pair);
                });
            }
            Fault::WithoutBus(node, lasts) => {
                world.weather().without_bus.insert(node);
                self.later(lasts, move || {
                    world.weather().without_bus.remove(&node);
                    world.hub.tell_interrupted(node, &world);
                });
            }
            Fault::WithoutStore(node, lasts) => {
                world.weather().without_store.insert(node);
                self.later(lasts, move || {
                    world.weather().without_store.remove(&node);
                });
            }
            Fault::SlowStore(delay, lasts) => {
                let most = u64::try_from(delay.as_millis()).unwrap();
                world.weather().store_delay = most / 2..=most;
                self.later(lasts, move || world.weather().store_delay = plan.store_delay.clone());
            }
            Fault::FailingStore(lasts) => {
                {
                    let mut weather = world.weather();
                    (weather.fail_before, weather.fail_after) = (50, 30);
                }
                self.later(lasts, move || {
                    let mut weather = world.weather();
                    (weather.fail_before, weather.fail_after) = (plan.fail_before, plan.fail_after);
                });
            }
            Fault::Clock(node, wrong_by) => self.clocks[node].jump(wrong_by),
        }
    }

    /// Mends something, unless all is mended by then.
    fn later(&self, after: Duration, then: impl FnOnce() + Send + 'static) {
        let world = Arc::clone(&self.world);
        tokio::spawn(async move {
            sleep(after).await;
            if !world.is_quiet() {
                then();
            }
        });
    }

    /// Nothing breaks any more, but for a bus that never worked. Nodes that are down come up by themselves.
    fn mend(&self) {
        self.world.trace.say(format_args!("everything is mended"));
        // Nothing rests on the bus: one that loses everything goes on with that.
        let bus_lost = if self.plan.steady.bus_lost == 100 { 100 } else { 0 };
        let mended = Weather { bus_lost, ..Weather::calm() };
        let before = std::mem::replace(&mut *self.world.weather(), mended);
        for node in before.without_bus {
            self.world.hub.tell_interrupted(node, &self.world);
        }
        self.world.be_quiet();
    }

    /// Waits until nothing is open and everybody knows everything.
    async fn come_to_rest(&self) -> (Duration, Vec<String>) {
        let began = Instant::now();
        let mut since: Option<Instant> = None;
        let mut heads = self.heads().await;
        loop {
            let restless = self.restless().await;
            let now = self.heads().await;
            if std::mem::replace(&mut heads, now) != heads {
                since = None;
            }
            match (&restless[..], since) {
                ([], Some(still)) if still.elapsed() >= STILL => {
                    let differ = self.states_differ().await;
                    // Who looks at a room has it loaded, and what was due there is done now.
                    sleep(STILL / 3).await;
                    if heads == self.heads().await {
                        return (began.elapsed().saturating_sub(STILL), differ);
                    }
                    since = None;
                }
                ([], Some(_)) => {}
                ([], None) => since = Some(Instant::now()),
                _ => since = None,
            }
            if began.elapsed() > REST {
                return (REST, restless.iter().map(|what| format!("no rest: {what}")).collect());
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    async fn restless(&self) -> Vec<String> {
        let mut restless = Vec::new();
        if self.world.running().len() < self.plan.nodes - self.killed.len() {
            restless.push("a node does not run".to_owned());
        }
        for client in &self.clients {
            let (name, pending, at, room) = {
                let history = client.lock().unwrap();
                (history.client.clone(), history.pending, history.at, history.room.clone())
            };
            let head = self.head(&RoomId::parse(&room).unwrap()).await;
            if pending > 0 {
                restless.push(format!("{name} waits for {pending} answers"));
            }
            if at != Some(head.0) {
                restless.push(format!("{name} is at {at:?}, the log at {head}"));
            }
        }
        for open in self.world.store.open_runs().await.unwrap() {
            restless.push(format!("an answer is open in {}", open.room));
        }
        let reserved = self.world.store.open_reservations().await.unwrap().len();
        if reserved > 0 {
            restless.push(format!("{reserved} reservations are open"));
        }
        restless
    }

    async fn heads(&self) -> Vec<Seq> {
        let mut heads = Vec::new();
        for room in &self.rooms {
            heads.push(self.head(room).await);
        }
        heads
    }

    async fn head(&self, room: &RoomId) -> Seq {
        self.world.store.head(room).await.unwrap().map_or(Seq::ZERO, |head| head.seq)
    }

    /// Every node must hold the same state of a room.
    async fn states_differ(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for id in &self.rooms {
            let mut states: Vec<(usize, Room)> = Vec::new();
            for node in self.world.running() {
                let rooms: &Rooms = &node.services.rooms;
                match rooms.read(id, |room, _| room.clone()).await {
                    Ok(room) => states.push((node.index, room)),
                    Err(rejection) => {
                        wrong.push(format!("node {} cannot read {id}: {rejection}", node.index));
                    }
                }
            }
            for pair in states.windows(2) {
                let [(one, first), (other, second)] = pair else { continue };
                if first != second {
                    let (first, second) = difference(&format!("{first:?}"), &format!("{second:?}"));
                    wrong.push(format!(
                        "{id} is not the same on node {one}: {first}\n  and on node {other}: {second}"
                    ));
                }
            }
        }
        wrong
    }

    async fn evidence(&self) -> Evidence {
        let mut logs = BTreeMap::new();
        for id in &self.rooms {
            let records = self.world.store.read(id, Seq::ZERO, ALL).await.unwrap();
            logs.insert(id.to_string(), records.iter().map(Stored::of).collect());
        }
        let histories = self.clients.iter().map(|client| client.lock().unwrap().clone()).collect();
        Evidence { logs, histories }
    }
}

/// Where two texts begin to differ, and a little of what is around.
fn difference(one: &str, other: &str) -> (String, String) {
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.chars().skip(same.saturating_sub(120)).take(300).collect();
    (around(one), around(other))
}

/// What goes wrong all the time.
fn steady(plan: &Plan) -> Weather {
    let steady = plan.steady;
    Weather {
        store_delay: 0..=steady.store_delay,
        bus_delay: 0..=steady.bus_delay,
        bus_lost: steady.bus_lost,
        bus_twice: steady.bus_twice,
        fail_before: steady.fail_before,
        fail_after: steady.fail_after,
        llm_fails: steady.llm_fails,
        ..Weather::calm()
    }
}
