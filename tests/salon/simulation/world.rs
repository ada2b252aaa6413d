//! What all parts of one simulation share: the store, the bus, the weather, the nodes and the trace.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use salon::store::memory::MemoryStore;
use tokio::sync::Notify;

use super::{bus::Hub, node::Node, planted::Planted, random::Random, trace::Trace, weather::Weather};

/// See the module.
#[derive(Debug)]
pub struct World {
    /// Where all chance comes from.
    pub random: Random,
    pub trace: Trace,
    pub store: Arc<MemoryStore>,
    pub hub: Hub,
    /// What is broken on purpose.
    pub planted: Option<Planted>,
    weather: Mutex<Weather>,
    nodes: Mutex<Vec<Option<Arc<Node>>>>,
    /// Clients say nothing new any more.
    quiet: AtomicBool,
    /// The simulation is over.
    pub over: tokio_util::sync::CancellationToken,
    /// A node has started.
    pub started: Notify,
}

impl World {
    pub fn new(seed: u64, nodes: usize, planted: Option<Planted>) -> Arc<Self> {
        let random = Random::new(seed);
        Arc::new(Self {
            hub: Hub::new(random.of("bus")),
            planted,
            trace: Trace::default(),
            store: Arc::new(MemoryStore::shared()),
            weather: Mutex::new(Weather::calm()),
            nodes: Mutex::new(vec![None; nodes]),
            quiet: AtomicBool::new(false),
            over: tokio_util::sync::CancellationToken::new(),
            started: Notify::new(),
            random,
        })
    }

    pub fn weather(&self) -> MutexGuard<'_, Weather> {
        self.weather.lock().unwrap()
    }

    /// How many places for nodes there are.
    pub fn size(&self) -> usize {
        self.nodes.lock().unwrap().len()
    }

    /// The node at a place, if one runs there.
    pub fn node(&self, index: usize) -> Option<Arc<Node>> {
        self.nodes.lock().unwrap().get(index).cloned().flatten()
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().unwrap().iter().flatten().cloned().collect()
    }

    /// Puts a node in its place, or takes it away.
    pub fn set_node(&self, index: usize, node: Option<Arc<Node>>) {
        self.nodes.lock().unwrap()[index] = node;
        self.started.notify_waiters();
    }

    /// Clients only finish what they have begun.
    pub fn be_quiet(&self) {
        self.quiet.store(true, Ordering::SeqCst);
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::SeqCst)
    }
}
