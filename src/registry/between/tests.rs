//! Several registries in one process, in time that the test moves.

use std::{
    collections::BTreeSet,
    io::Write as _,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use prost::Message as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    bus::{
        hub::{Hub, HubBus},
        lossy::Faults,
    },
    clock::{SystemClock, Timestamp},
    domain::room::{Presence, Role},
    ids::{ConnectionId, RoomId, Seq},
    registry::{
        outbound::{Outbound, QueueLimits, Work},
        seat::Seat,
    },
    store::memory::MemoryStore,
    wire::{
        frame::{PREFIX, len_at},
        join::ChunkWish,
        pb::room::v1::{PresenceStatus, ServerEvent, server_event::Payload},
    },
};

const LIMITS: RegistryLimits = RegistryLimits {
    participants_shown: 200,
    sessions_per_user: 2,
    head_check: Duration::from_secs(3600),
    chunk_interval: Duration::ZERO,
    linger: Duration::ZERO,
    gathered_events: 64,
};
const MAX_HEALING: Duration = Duration::from_secs(15);

/// A node with one room.
struct Node {
    registry: Arc<HandlerRegistry>,
    bus: Arc<HubBus>,
    feed: Arc<Feed>,
    /// Its sessions have ended and the room is closed, when it goes in order.
    stop: CancellationToken,
}

struct Device {
    seat: Seat,
    outbound: Arc<Outbound>,
}

fn room() -> RoomId {
    RoomId::parse("room").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

/// One whose subscription is not in force yet.
fn taken_up(hub: &Hub) -> Node {
    let (bus, stop) = (hub.node(), CancellationToken::new());
    let shared = Arc::clone(&bus) as Arc<dyn crate::bus::Bus>;
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock));
    let registry = HandlerRegistry::start(store, shared, clock, LIMITS, TaskTracker::new(), stop.clone());
    let feed = registry.open(&room(), Seq(0));
    Node { registry, bus, feed, stop }
}

async fn node(hub: &Hub) -> Node {
    let node = taken_up(hub);
    pass(Duration::from_millis(1)).await;
    node
}

/// Lets time pass, and everything happen that is due meanwhile.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

impl Node {
    fn join(&self, name: &str) -> Device {
        let member = Member {
            id: user(name),
            name: format!("{name}'s name"),
            role: Role::Member,
            title: String::new(),
            avatar: "🦊".into(),
            joined_at: Timestamp(0),
            muted_until: None,
        };
        let limits = QueueLimits { events: 4096, bytes: 1 << 24, replies: 8 };
        let (connection, outbound) = (ConnectionId::next(), Arc::new(Outbound::new(limits)));
        let telling = self.feed.telling();
        let news = self.feed.enter(connection, &member, &outbound, ChunkWish::default(), |_, seq| {
            outbound.start(Bytes::new(), seq, seq);
        });
        let (registry, clock) = (Arc::clone(&self.registry), Arc::new(SystemClock));
        let seat = Seat::take(registry, clock, Arc::clone(&self.feed), connection, member, news);
        drop(telling);
        seat.tell_nodes();
        Device { seat, outbound }
    }

    fn sees(&self) -> Vec<String> {
        self.feed.lock().present.check_invariants();
        self.feed.online(usize::MAX).into_iter().map(|(user, _)| user.to_string()).collect()
    }
}

impl Device {
    /// What it was told of presence since the last time.
    fn told(&self) -> Vec<String> {
        let mut all = Vec::new();
        while let Poll::Ready(Some(Ok(bytes))) =
            self.outbound.poll_next(&mut Context::from_waker(Waker::noop()))
        {
            let mut at = 0;
            while let Some(len) = len_at(&bytes, at) {
                let event = ServerEvent::decode(&bytes[at + PREFIX..at + len]).unwrap();
                all.push(match event.payload.unwrap() {
                    Payload::UserJoined(joined) => format!("{} is here", joined.user.unwrap().name),
                    Payload::UserLeft(left) => format!("{} has gone", left.user_id),
                    Payload::PresenceChanged(changed) if changed.status() == PresenceStatus::Away => {
                        format!("{} is away", changed.user_id)
                    }
                    Payload::PresenceChanged(changed) => format!("{} is back", changed.user_id),
                    Payload::Occupancy(occupancy) => format!("{} are here", occupancy.online_count),
                    other => format!("{other:?}"),
                });
                at += len;
            }
        }
        all
    }

    fn must_end(&self) -> bool {
        self.outbound.work() == Work::End(Expelled::TooManySessions)
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_is_there_from_the_first_device_to_the_last_on_whatever_node() {
    let hub = Hub::default();
    let (a, b) = (node(&hub).await, node(&hub).await);
    let (watch_a, watch_b) = (a.join("watcher-a"), b.join("watcher-b"));
    assert_eq!((watch_a.told(), watch_b.told()), (vec!["watcher-b's name is here".into()], vec![]));
    let on_a = a.join("ann");
    for watcher in [&watch_a, &watch_b] {
        assert_eq!(watcher.told(), ["ann's name is here"]);
    }
    let on_b = b.join("ann");
    drop(on_a);
    pass(Duration::from_secs(30)).await;
    for (watcher, node) in [(&watch_a, &a), (&watch_b, &b)] {
        assert_eq!(watcher.told(), [""; 0], "one device less is told to nobody");
        assert_eq!(node.sees(), ["ann", "watcher-a", "watcher-b"]);
        assert_eq!(node.feed.online_count(), 3);
        assert_eq!(node.feed.presence_of([&user("ann")]), [Presence::Online]);
    }
    let on_a = a.join("ann");
    drop(on_b);
    drop(on_a);
    for (watcher, node) in [(&watch_a, &a), (&watch_b, &b)] {
        assert_eq!(watcher.told(), ["ann has gone"]);
        assert_eq!(node.sees(), ["watcher-a", "watcher-b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_is_shown_as_the_best_of_all_devices() {
    let hub = Hub::default();
    let (a, b) = (node(&hub).await, node(&hub).await);
    let (watch_a, watch_b) = (a.join("watcher"), b.join("watcher"));
    let (on_a, on_b) = (a.join("ann"), b.join("ann"));
    let both = || [watch_a.told(), watch_b.told()];
    assert_eq!(both(), [["ann's name is here"]; 2]);
    on_a.seat.set_presence(Presence::Away);
    assert_eq!(both(), [[""; 0]; 2]);
    on_b.seat.set_presence(Presence::Away);
    assert_eq!(both(), [["ann is away"]; 2]);
    assert_eq!(a.feed.presence_of([&user("ann")]), [Presence::Away]);
    on_a.seat.set_presence(Presence::Online);
    assert_eq!(both(), [["ann is back"]; 2]);
    drop(on_a);
    assert_eq!(both(), [["ann is away"]; 2]);
    assert_eq!(a.feed.presence_of([&user("ann")]), [Presence::Away]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_silent_is_forgotten_in_time_and_comes_back_whole() {
    let hub = Hub::default();
    let (a, b) = (node(&hub).await, node(&hub).await);
    let (watcher, _ann_here) = (a.join("watcher"), a.join("ann"));
    let (_ann, _bob) = (b.join("ann"), b.join("bob"));
    pass(Duration::from_secs(100)).await;
    assert_eq!(watcher.told(), ["ann's name is here", "bob's name is here"]);
    // Whenever it dies between two renewals.
    for tenths in 0..50 {
        pass(Duration::from_millis(100 * tenths)).await;
        b.bus.cut();
        let began = Instant::now();
        while a.sees().contains(&"bob".to_owned()) {
            pass(Duration::from_millis(10)).await;
        }
        assert!(began.elapsed() < MAX_HEALING, "{:?}", began.elapsed());
        assert_eq!(watcher.told(), ["bob has gone"], "ann is still here");
        b.bus.mend();
        pass(MAX_HEALING).await;
        assert_eq!(watcher.told(), ["bob's name is here"]);
        assert!(b.sees().eq(&["ann", "bob", "watcher"]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stood_still_tells_nobody_that_others_have_gone() {
    let hub = Hub::default();
    let (a, b) = (node(&hub).await, node(&hub).await);
    let (watcher, _bob) = (a.join("watcher"), b.join("bob"));
    pass(Duration::from_secs(10)).await;
    assert_eq!(watcher.told(), ["bob's name is here"]);
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(60)).await;
        pass(Duration::from_secs(7)).await;
        assert_eq!(watcher.told(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_change_does_not_bring_back_how_somebody_was_called() {
    let hub = Hub::default();
    let a = node(&hub).await;
    let _ann = a.join("ann");
    let elsewhere = NodeId::random();
    let hears = |version, name: &str| {
        let member = {
            let state = a.feed.lock();
            Member {
                name: name.to_owned(),
                ..(*state.present.said_of(&user("ann"), true).member.unwrap()).clone()
            }
        };
        let (presence, arrivals) = (Presence::Online, [version].into());
        let ann = PresentUser { user: user("ann"), presence, arrivals, member: Some(Arc::new(member)) };
        let hint = PresenceHint { node: elsewhere, opening: 1, version, said: Said::Changed(ann) };
        a.feed.hear(&hint, &SystemClock).unwrap();
        let state = a.feed.lock();
        let said = state.present.said_of(&user("ann"), true);
        (said.member.unwrap().name.clone(), state.ours.as_ref().unwrap().version)
    };
    let (name, version) = hears(2, "Ann B.");
    assert_eq!(name, "Ann B.");
    assert_eq!(hears(1, "Ann A."), (name.clone(), version));
    // What is told has changed once more only if it has.
    assert_eq!(hears(3, "Ann B."), (name, version));
    assert_eq!(hears(4, "Ann C."), ("Ann C.".to_owned(), version + 1));
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_is_told_of_everybody_and_who_goes_in_order_at_once() {
    let hub = Hub::default();
    let (a, b) = (node(&hub).await, node(&hub).await);
    let (_ann, _bob) = (a.join("ann"), b.join("bob"));
    let c = node(&hub).await;
    assert_eq!(c.sees(), ["ann", "bob"]);
    let watcher = c.join("watcher");
    a.registry.close(&a.feed);
    assert_eq!(watcher.told(), ["ann has gone"]);
    assert_eq!(
        (b.sees(), c.sees()),
        (vec!["bob".into(), "watcher".into()], vec!["bob".into(), "watcher".into()])
    );
    // The same node takes up the room again.
    let a = Node { feed: a.registry.open(&room(), Seq(0)), ..a };
    // Who has just answered somebody else takes a moment.
    pass(Duration::from_secs(2)).await;
    let _ann = a.join("ann");
    assert_eq!(watcher.told(), ["ann's name is here"]);
    assert_eq!(a.sees(), ["ann", "bob", "watcher"]);
    a.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_loses_repeats_and_reorders_ends_in_the_same_view() {
    for seed in 1..=20 {
        let hub = Hub::lossy(seed, Faults { drop: 60, repeat: 60, delay: 100 });
        let nodes = [node(&hub).await, node(&hub).await, node(&hub).await];
        let mut devices: Vec<Vec<Device>> = Vec::new();
        let mut random = seed;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((random >> 33) % below).unwrap()
        };
        devices.resize_with(3, Vec::new);
        for _ in 0..200 {
            let at = next(3);
            match next(3) {
                0 | 1 => devices[at].push(nodes[at].join(&format!("user-{}", next(12)))),
                _ if devices[at].is_empty() => {}
                _ => {
                    let index = next(devices[at].len() as u64);
                    devices[at].swap_remove(index);
                }
            }
            pass(Duration::from_millis(next(100) as u64)).await;
        }
        let here: BTreeSet<String> = devices.iter().flatten().map(|d| d.seat.user().to_string()).collect();
        // No node dies, but a quarter of everything is lost: the way goes on being a bad one, so that a node may be
        // forgotten for a while as well. It heals whenever enough arrives.
        let agree = || nodes.iter().all(|node| node.sees().iter().eq(here.iter()));
        let began = Instant::now();
        while !agree() {
            assert!(began.elapsed() < 4 * MAX_HEALING, "seed {seed}");
            pass(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_sessions_end_wherever_they_are() {
    let hub = Hub::default();
    let (a, b) = (node(&hub).await, node(&hub).await);
    pass(SETTLING).await;
    pass(Duration::from_secs(1)).await;
    let all = [a.join("ann"), b.join("ann"), b.join("ann"), a.join("ann"), a.join("ann")];
    let ended: Vec<bool> = all.iter().map(Device::must_end).collect();
    assert_eq!(ended, [true, true, true, false, false]);
    // Those of another user are not counted, and what has ended makes room.
    let others = [a.join("bob"), b.join("bob")];
    assert!(!others.iter().any(Device::must_end));
    drop(all);
    let all = [b.join("ann"), a.join("ann")];
    assert!(!all.iter().any(Device::must_end));
}

#[tokio::test(start_paused = true)]
async fn as_many_end_as_are_too_many_when_nodes_act_at_once() {
    let hub = Hub::default();
    let (a, b) = (node(&hub).await, node(&hub).await);
    pass(SETTLING).await;
    pass(Duration::from_secs(1)).await;
    let old = [a.join("ann"), b.join("ann")];
    // Neither hears of the other's before it has decided.
    b.bus.cut();
    let new = [a.join("ann"), b.join("ann")];
    b.bus.mend();
    pass(MAX_HEALING).await;
    assert!(old.iter().all(Device::must_end));
    assert!(!new.iter().any(Device::must_end));
    // Whichever of equals is the oldest: both nodes agree.
    drop(old);
    b.bus.cut();
    let more = [a.join("ann"), a.join("ann"), b.join("ann"), b.join("ann")];
    b.bus.mend();
    pass(MAX_HEALING).await;
    assert_eq!(new.iter().chain(&more).filter(|device| !device.must_end()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_come_does_not_take_the_newest_for_the_oldest() {
    let hub = Hub::default();
    let a = node(&hub).await;
    // Numbers have gone on here.
    for _ in 0..10 {
        drop(a.join("bob"));
    }
    let old = [a.join("ann"), a.join("ann")];
    pass(SETTLING).await;
    pass(Duration::from_secs(1)).await;
    // It joins before the node has heard of anybody.
    let b = taken_up(&hub);
    let new = b.join("ann");
    assert_eq!(b.sees(), ["ann"]);
    // A change comes before the answer, which says nothing new of her then.
    old[0].seat.set_presence(Presence::Away);
    pass(MAX_HEALING).await;
    assert!(!new.must_end());
    assert_eq!(old.iter().map(Device::must_end).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn in_large_rooms_the_count_is_that_of_all_nodes_and_what_is_sent_is_small() {
    let hub = Hub::default();
    let nodes = [node(&hub).await, node(&hub).await, node(&hub).await];
    let mut devices: Vec<Device> = (0..1000).map(|n| nodes[n % 3].join(&format!("a-user-{n:04}"))).collect();
    pass(Duration::from_secs(10)).await;
    assert!(nodes.iter().all(|node| node.feed.online_count() == 1000));
    assert!(!nodes[0].feed.tells_everybody());
    devices[0].told();
    // One that comes and one that goes elsewhere are a count.
    devices.pop();
    devices.push(nodes[1].join("somebody"));
    devices.push(nodes[2].join("somebody-else"));
    pass(Duration::from_secs(2)).await;
    assert_eq!(devices[0].told(), ["1001 are here"]);
    let before = hub.sent();
    pass(RENEWAL * 10).await;
    let (messages, bytes) = (hub.sent().0 - before.0, hub.sent().1 - before.1);
    let renewal = bytes / messages;
    assert!(messages >= 27 && renewal < 100, "{messages} messages of {renewal} bytes");
    // A late node is told of everybody, each once.
    let before = hub.sent();
    let late = node(&hub).await;
    let (messages, bytes) = (hub.sent().0 - before.0, hub.sent().1 - before.1);
    assert_eq!(late.feed.online_count(), 1001);
    let per_node = bytes / 3;
    let _ = writeln!(
        std::io::stderr(),
        "1000 users on 3 nodes: a renewal has {renewal} bytes, each 5 s and node; everybody on one node, told when \
         somebody asks, has {per_node}; the late one's question and its answers were {messages} messages"
    );
    assert!(per_node < 334 * 40, "{per_node}");
    // Who joins before the answers have come was told of a room of one, and must be told of this one.
    let first = taken_up(&hub);
    let early = first.join("early");
    assert_eq!((first.feed.online_count(), early.outbound.work()), (1, Work::Idle));
    pass(Duration::from_secs(2)).await;
    early.told();
    assert_eq!((first.feed.online_count(), early.outbound.work()), (1002, Work::Resync));
    drop((early, first));
    pass(Duration::from_secs(2)).await;
    // A node dies: one event, not hundreds.
    let watcher = late.join("watcher");
    pass(Duration::from_secs(2)).await;
    watcher.told();
    nodes[1].bus.cut();
    pass(MAX_HEALING).await;
    assert_eq!(watcher.told(), ["668 are here"]);
}

#[test]
fn everybody_is_cut_into_pages() {
    let some = |count: usize, arrivals: u64| {
        (0..count).map(move |n| PresentUser {
            user: user(&format!("user-{n}")),
            presence: Presence::Online,
            arrivals: (1..=arrivals).collect(),
            member: None,
        })
    };
    assert_eq!(pages(some(0, 1)), [vec![]]);
    assert_eq!(pages(some(PAGE_USERS, 1)).len(), 1);
    assert_eq!(pages(some(PAGE_USERS + 1, 1)).iter().map(Vec::len).collect::<Vec<_>>(), [PAGE_USERS, 1]);
    let wide = pages(some(100, 2000));
    assert!(wide.iter().all(|page| page.iter().map(PresentUser::size).sum::<usize>() <= PAGE_BYTES));
    assert_eq!(wide.iter().map(Vec::len).sum::<usize>(), 100);
    // One alone always fits.
    assert_eq!(pages(some(2, 100_000)).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_and_again_is_answered_once_a_second() {
    let hub = Hub::default();
    let (a, b) = (node(&hub).await, node(&hub).await);
    let _ann = a.join("ann");
    pass(Duration::from_secs(2)).await;
    let before = hub.sent().0;
    for _ in 0..100 {
        b.feed.is_subscribed();
    }
    b.registry.tell_nodes(&b.feed);
    assert_eq!(hub.sent().0 - before, 100 + 1);
    pass(Duration::from_millis(1500)).await;
    let answers_and_renewals = hub.sent().0 - before - 100;
    assert!((2..=3).contains(&answers_and_renewals), "{answers_and_renewals}");
}
