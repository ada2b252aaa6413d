//! Whoever follows commits on a server is told of each event once, in order, and by whom it was committed: also when
//! the store stores and does not answer, or cannot be read for a while.

use std::sync::Mutex;

use salon::{
    clock::SystemClock,
    config::Config,
    domain::{
        command::{Actor, Command, JoinProfile, MessageInput},
        event::{NewRoom, Recorded},
        room::{Profile, Room, Visibility},
    },
    ids::{MessageId, RoomId, Seq, UserId},
    nodes::Identity,
    registry::{HandlerRegistry, RegistryLimits},
    rooms::{AfterCommit, Rooms, RoomsLimits, Used},
    store::Store,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;

/// Everything that it was told, and whether this server has committed it.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<(Seq, bool)>>);

impl Recorder {
    fn keep(&self, room: &Room, events: &[Recorded], own: bool) {
        assert!(events.last().is_some_and(|last| last.seq <= room.seq), "the room is what they leave behind");
        self.0.lock().unwrap().extend(events.iter().map(|recorded| (recorded.seq, own)));
    }
}

impl AfterCommit for Recorder {
    fn committed(&self, room: &Room, events: &[Recorded]) {
        self.keep(room, events, true);
    }

    fn followed(&self, room: &Room, events: &[Recorded]) {
        self.keep(room, events, false);
    }

    fn concerns(&self, _: &RoomId) -> bool {
        true
    }

    fn used(&self, _: &RoomId, _: MessageId) -> Option<Used> {
        None
    }

    fn loaded(&self, _: &Room) {}
}

/// The rooms of a server, and who follows their commits.
pub(super) struct Node {
    pub(super) rooms: Rooms,
    told: Arc<Recorder>,
    pub(super) stop: CancellationToken,
}

impl Node {
    pub(super) fn start(store: &Arc<GatedStore>, hub: &Arc<Hub>) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let store: Arc<dyn Store> = Arc::clone(store) as _;
        let limits = RegistryLimits {
            participants_shown: 200,
            sessions_per_user: 16,
            head_check: Duration::from_millis(100),
            chunk_interval: Duration::from_millis(40),
            linger: Duration::ZERO,
            gathered_events: 64,
        };
        let registry = HandlerRegistry::start(
            Arc::clone(&store),
            hub.node(),
            Arc::new(SystemClock),
            limits,
            tasks.clone(),
            stop.clone(),
        );
        let limits = RoomsLimits {
            domain: Default::default(),
            queue: 1024,
            snapshot_every: Config::default().rooms.snapshot_every,
            idle_unload: Duration::from_secs(60),
            participants_shown: 200,
            heartbeat: Duration::from_secs(30),
            chained: false,
        };
        let rooms =
            Rooms::new(store, registry, Arc::new(SystemClock), Identity::new(), limits, tasks, stop.clone());
        let told = Arc::new(Recorder::default());
        rooms.observe(Arc::clone(&told) as Arc<dyn AfterCommit>);
        Self { rooms, told, stop }
    }

    /// A room with one event.
    pub(super) async fn room(&self) -> RoomId {
        let room = RoomId::parse("a-room").unwrap();
        let profile = Profile {
            name: "Room".into(),
            description: String::new(),
            visibility: Visibility::Public,
            settings: Default::default(),
        };
        let new = NewRoom { id: room.clone(), profile, created_by: None, llms: Vec::new() };
        self.rooms.create(new).await.unwrap();
        room
    }

    pub(super) async fn join(&self, room: &RoomId, user: &str) {
        let profile = JoinProfile { name: user.into(), ..JoinProfile::default() };
        let actor = Actor::User(UserId::parse(user).unwrap());
        self.rooms.submit(room, actor, Command::Join(profile)).await.unwrap();
    }

    pub(super) async fn say(&self, room: &RoomId, user: &str, content: String) {
        let input =
            MessageInput { content, content_type: String::new(), reply_to: None, mentions: Vec::new() };
        let actor = Actor::User(UserId::parse(user).unwrap());
        // It may fail: what has become of it is seen in the log.
        let _ = self.rooms.submit(room, actor, Command::SendMessage(input)).await;
    }
}

async fn orders(seed: u64) {
    let (store, hub) = (Arc::new(GatedStore::shared()), Arc::new(Hub::default()));
    let nodes = [Node::start(&store, &hub), Node::start(&store, &hub)];
    let room = nodes[0].room().await;
    // In memory on both, with one event, before anything is told.
    for node in &nodes {
        node.rooms.read(&room, |_, _| ()).await.unwrap();
    }
    for user in ["ann", "bob"] {
        nodes[0].join(&room, user).await;
    }
    // An xorshift generator must not begin at zero.
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 20) % n
    };
    let mut lose = seed;
    hub.loses(move |_| {
        lose = lose.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        lose >> 62 == 0
    });
    for n in 0..120 {
        match below(8) {
            0 => store.lose_nth(1),
            1 => {
                let unreadable = below(2) == 0;
                store.reads_fail(unreadable);
            }
            2 => tokio::time::sleep(Duration::from_millis(below(400))).await,
            _ => {}
        }
        let text = |user: &str| format!("{user} {n}");
        let (ann, bob) = (nodes[0].say(&room, "ann", text("ann")), nodes[1].say(&room, "bob", text("bob")));
        match below(3) {
            0 => ann.await,
            1 => bob.await,
            _ => drop(tokio::join!(ann, bob)),
        }
    }
    store.reads_fail(false);
    let end = store.head(&room).await.unwrap().unwrap().seq;
    let mut own = Vec::new();
    for node in &nodes {
        // The store could not be read just now: it is tried again.
        while node.rooms.read_latest(&room, |room, _| room.seq).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let told = node.told.0.lock().unwrap().clone();
        let seqs: Vec<u64> = told.iter().map(|(seq, _)| seq.0).collect();
        assert_eq!(seqs, (2..=end.0).collect::<Vec<_>>(), "seed {seed}: once each, in order");
        own.extend(told.into_iter().filter(|(_, own)| *own).map(|(seq, _)| seq.0));
        node.stop.cancel();
    }
    own.sort_unstable();
    assert_eq!(own, (2..=end.0).collect::<Vec<_>>(), "seed {seed}: each by one server");
}

#[tokio::test(start_paused = true)]
async fn every_event_is_told_once_in_order_and_belongs_to_one_server() {
    for seed in 0..40 {
        orders(seed).await;
    }
}

/// What still comes when a server has ended is refused, and asks the store nothing: its lease may be another's by then.
#[tokio::test(start_paused = true)]
async fn a_room_does_nothing_behind_the_end_of_its_server() {
    let store = Arc::new(GatedStore::new());
    let node = Node::start(&store, &Arc::new(Hub::default()));
    let room = node.room().await;
    node.join(&room, "ann").await;
    let end = store.head(&room).await.unwrap();
    let told = node.told.0.lock().unwrap().len();
    node.stop.cancel();
    // The first finds the task that was there, and the others would begin one.
    for n in 0..3 {
        node.say(&room, "ann", format!("message {n}")).await;
    }
    assert_eq!(store.head(&room).await.unwrap(), end);
    assert_eq!(node.told.0.lock().unwrap().len(), told);
}
