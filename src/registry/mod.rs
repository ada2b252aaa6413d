//! `HandlerRegistry`: who is connected to which room on this node, and the ordered delivery to them.
//!
//! Owns the feeds of rooms. It never decides and never writes: lasting events come from the bus or the store,
//! always in the order of their positions. When the bus loses something, the feed reads it from the store; when
//! that fails as well, delivery waits and is tried again.

mod answers;
mod between;
mod calendar;
mod chunks;
pub mod feed;
pub mod fill;
mod heads;
mod linger;
mod others;
mod ours;
pub mod outbound;
pub mod pace;
pub mod presence;
pub mod recent;
pub mod seat;
mod state;

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use tokio::{sync::Notify, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    bus::{Bus, BusMessage, Interrupt, Subscriber},
    clock::Clock,
    ids::{NodeId, RoomId, Seq},
    registry::{calendar::Calendar, feed::Feed},
    store::Store,
};

/// How delivery behaves.
#[derive(Debug, Clone, Copy)]
pub struct RegistryLimits {
    /// Up to so many users online, each joining and leaving is told; above, only how many there are.
    pub participants_shown: usize,
    /// Streams of one user in one room, on all nodes.
    pub sessions_per_user: usize,
    /// How often the store's head is looked at when the bus may lose messages.
    pub head_check: Duration,
    /// Between two chunks of an answer, for a session that does not say.
    pub chunk_interval: Duration,
    /// How long events of a large and busy room may wait to be told together; zero: not at all.
    pub linger: Duration,
    /// How many may wait so: some part of what a session's queue holds.
    pub gathered_events: usize,
}

/// Ends answers of this node that somebody on any node wants to end. Must not wait.
pub trait Interruptible: Send + Sync + fmt::Debug {
    /// Ends those that are meant, if there are any here.
    fn interrupted(&self, room: &RoomId, interrupt: &Interrupt);
}

/// How often merged membership and occupancy are told, old events are forgotten, and other nodes told what is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Rooms that are looked at together, and how long the others wait then: what is said of many rooms must not overrun
/// the bus.
const TENDED_TOGETHER: usize = 512;
const TENDING_PAUSE: Duration = Duration::from_millis(10);

/// The feeds of the rooms that are loaded on this node.
#[derive(Debug)]
pub struct HandlerRegistry {
    feeds: DashMap<RoomId, Arc<Feed>>,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    limits: RegistryLimits,
    calendar: Arc<Calendar>,
    /// Who writes answers here.
    interruptible: OnceLock<Arc<dyn Interruptible>>,
    /// This registry among those of other nodes.
    node: NodeId,
    /// Feeds that were opened.
    openings: AtomicU64,
    /// What other nodes said of presence and was more than is kept.
    beyond: AtomicU64,
    /// Every head must be looked at now.
    look_at_heads: Arc<Notify>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl HandlerRegistry {
    /// A registry that receives from `bus`; its tasks end with `stop`.
    pub fn start(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        limits: RegistryLimits,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (feeds, look_at_heads) = (DashMap::new(), Arc::new(Notify::new()));
        let registry = Arc::new(Self {
            feeds,
            store,
            bus,
            clock,
            limits,
            calendar: Arc::default(),
            node: NodeId::random(),
            openings: AtomicU64::new(0),
            beyond: AtomicU64::new(0),
            interruptible: OnceLock::new(),
            look_at_heads,
            tasks,
            stop,
        });
        let subscriber: Arc<dyn Subscriber> = Arc::clone(&registry) as Arc<dyn Subscriber>;
        registry.bus.attach(subscriber);
        registry.tasks.spawn(look(Arc::downgrade(&registry), registry.stop.clone()));
        if registry.bus.is_shared() {
            registry.tasks.spawn(tend(Arc::downgrade(&registry), registry.stop.clone()));
        }
        // What another process appends to a shared store is told by no bus that stays within this one.
        if !registry.bus.is_reliable() || registry.store.is_shared() {
            registry.tasks.spawn(heads::check(Arc::downgrade(&registry), registry.stop.clone()));
        }
        registry
    }

    /// Sets who writes answers on this node; once.
    pub fn interrupts(&self, interruptible: Arc<dyn Interruptible>) {
        let _ = self.interruptible.set(interruptible);
    }

    /// The bus this registry receives from, for publishing.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// Opens the feed of a room that was just loaded; the first event it will deliver is the one behind `head`.
    pub fn open(&self, room: &RoomId, head: Seq) -> Arc<Feed> {
        let mut feed = Feed::new(room.clone(), head, self.limits, Arc::clone(&self.calendar));
        if self.bus.is_shared() {
            feed = feed.among_others(self.node, self.openings.fetch_add(1, Ordering::Relaxed) + 1);
        }
        let feed = Arc::new(feed);
        let entry = self.feeds.entry(room.clone());
        // As long as the entry is held, nobody closes the feed before: the bus hears of both in the right order.
        let _entry = entry.insert(Arc::clone(&feed));
        self.bus.subscribe(room);
        feed
    }

    /// Closes the feed of a room that is unloaded, unless another has taken its place.
    pub fn close(&self, feed: &Arc<Feed>) {
        self.feeds.remove_if(feed.room(), |room, current| {
            let is_this = Arc::ptr_eq(current, feed);
            if is_this {
                self.bus.unsubscribe(room);
            }
            is_this
        });
        feed.say_closed();
        self.tell_nodes(feed);
    }

    /// Reads what a feed is missing from the store; one reading at a time.
    pub fn fill(&self, feed: &Arc<Feed>) {
        if feed.begin_fill() {
            let (feed, store) = (Arc::clone(feed), Arc::clone(&self.store));
            let stop = self.stop.clone();
            self.tasks.spawn(async move { stop.run_until_cancelled(feed.fill(store.as_ref())).await });
        }
    }

    /// The shortest time between two chunks of an answer that a session of this room on this node wants.
    pub fn chunk_interval(&self, room: &RoomId) -> Option<Duration> {
        self.feeds.get(room).and_then(|feed| feed.shortest_interval())
    }

    fn keep_pace(&self, feed: Arc<Feed>) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(feed.keep_pace()).await });
    }

    /// How many sessions there are over all rooms.
    pub fn session_count(&self) -> usize {
        self.feeds.iter().map(|feed| feed.session_count()).sum()
    }

    /// The feed of a room, if it is loaded.
    fn feed(&self, room: &RoomId) -> Option<Arc<Feed>> {
        self.feeds.get(room).map(|feed| Arc::clone(feed.value()))
    }

    /// Every feed, in the order of the rooms' ids: what is done to all of them is done in the same order each time.
    fn all(&self) -> Vec<Arc<Feed>> {
        let mut all: Vec<_> = self.feeds.iter().map(|feed| Arc::clone(feed.value())).collect();
        all.sort_unstable_by(|a, b| a.room().cmp(b.room()));
        all
    }
}

impl Subscriber for HandlerRegistry {
    fn deliver(&self, room: &RoomId, message: BusMessage) {
        let Some(feed) = self.feed(room) else {
            return;
        };
        match message {
            BusMessage::Log(batch) => match feed.deliver(batch) {
                feed::Delivery::Done => {}
                feed::Delivery::Waits => self.keep_pace(feed),
                feed::Delivery::Hole => self.fill(&feed),
            },
            BusMessage::Reaches(seq) => {
                if feed.reaches(seq) {
                    self.fill(&feed);
                }
            }
            BusMessage::Transient(transient) => {
                if feed.deliver_transient(&transient) {
                    self.keep_pace(feed);
                }
            }
            BusMessage::Interrupt(interrupt) => {
                if let Some(interruptible) = self.interruptible.get() {
                    interruptible.interrupted(room, &interrupt);
                }
            }
            // Of this node it was known before.
            BusMessage::Presence(hint) if hint.node == self.node => {}
            BusMessage::Presence(hint) => {
                if let Err(beyond) = feed.hear(&hint, self.clock.as_ref()) {
                    let dropped = self.beyond.fetch_add(1, Ordering::Relaxed) + 1;
                    if dropped.is_power_of_two() {
                        tracing::warn!(%room, node = %hint.node, %beyond, dropped, "who is on other nodes is not all known");
                    }
                }
                self.tell_nodes(&feed);
            }
        }
    }

    fn subscribed(&self, room: &RoomId) {
        if let Some(feed) = self.feed(room) {
            feed.is_subscribed();
            self.tell_nodes(&feed);
            self.look_at_head(feed);
        }
    }

    fn interrupted(&self) {
        self.look_at_heads.notify_one();
    }
}

/// Looks once a second at the rooms in which something is due: what large ones have merged is told, and what is old forgotten.
async fn look(registry: Weak<HandlerRegistry>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let Some(registry) = registry.upgrade() else {
            return;
        };
        loop {
            let due = registry.calendar.due(Instant::now(), TENDED_TOGETHER);
            due.iter().filter_map(|room| registry.feed(room)).for_each(|feed| feed.look());
            if due.len() < TENDED_TOGETHER {
                break;
            }
            tokio::time::sleep(TENDING_PAUSE).await;
        }
    }
}

/// Says once a second to other nodes what is due in each room, and forgets those that are silent.
async fn tend(registry: Weak<HandlerRegistry>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let Some(registry) = registry.upgrade() else {
            return;
        };
        for feeds in registry.all().chunks(TENDED_TOGETHER) {
            for feed in feeds {
                feed.tend(registry.clock.as_ref());
                registry.tell_nodes(feed);
            }
            if feeds.len() == TENDED_TOGETHER {
                tokio::time::sleep(TENDING_PAUSE).await;
            }
        }
    }
}
