//! Who is in a room whose people are on several servers: each sees all of them, a user with several devices is one, and
//! whatever becomes of a server, its people do not stay behind.

use std::{sync::Arc, time::Duration};

use salon::{
    bus::{
        Bus,
        hub::{Hub, HubBus},
    },
    store::{Store, memory::MemoryStore},
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};
use tokio::time::{Instant, sleep};

#[cfg(all(feature = "nats", feature = "redis"))]
use super::servers::{Backend, Place};
use crate::harness::{Session, Setup, TestServer, session::join};

const HEALING_MAX: Duration = Duration::from_secs(15);
/// How long a server that has taken up a room waits for what others know of it.
const SETTLING: Duration = Duration::from_secs(8);

/// Servers over these buses, in time that the test moves or, over real ones, in real time.
async fn servers(buses: &[Arc<dyn Bus>], in_virtual_time: bool) -> Vec<TestServer> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut servers = Vec::new();
    for bus in buses {
        let setup = Setup::default().store(Arc::clone(&store)).shared_bus(Arc::clone(bus)).config(|config| {
            config.limits.sessions_per_user = 2;
            config.rooms.idle_unload = Duration::from_secs(3600);
        });
        servers.push(match in_virtual_time {
            true => setup.virtual_time().start_without_port().await,
            false => setup.start().await,
        });
    }
    servers
}

async fn on_a_hub(count: usize) -> (Vec<TestServer>, Vec<Arc<HubBus>>) {
    let hub = Hub::default();
    let buses: Vec<Arc<HubBus>> = (0..count).map(|_| hub.node()).collect();
    let shared: Vec<Arc<dyn Bus>> = buses.iter().map(|bus| Arc::clone(bus) as Arc<dyn Bus>).collect();
    (servers(&shared, true).await, buses)
}

async fn enter(server: &TestServer, room: &str, user: &str) -> Session {
    let mut session = server.join(room, user).await;
    session.patience = Duration::from_secs(3600);
    session
}

/// What an event says of a user's presence.
fn of(event: &pb::ServerEvent) -> Option<(&str, bool)> {
    match event.payload.as_ref()? {
        Payload::UserJoined(joined) => Some((&joined.user.as_ref()?.id, true)),
        Payload::UserLeft(left) => Some((&left.user_id, false)),
        Payload::PresenceChanged(changed) => {
            Some((&changed.user_id, changed.status() != pb::PresenceStatus::Offline))
        }
        _ => None,
    }
}

fn says(event: &pb::ServerEvent, text: &str) -> bool {
    matches!(&event.payload, Some(Payload::MessageReceived(received)) if received.message.as_ref().unwrap().content == text)
}

/// Waits until a user has come or gone.
async fn hears(session: &mut Session, user: &str, is_here: bool) -> pb::ServerEvent {
    session.find(|event| of(event) == Some((user, is_here))).await
}

/// Whether nothing was told of a user before what `teller`, on any server, says now.
async fn hears_nothing(session: &mut Session, user: &str, teller: &mut Session) {
    let text = format!("up to here, {} and {user}", session.user);
    teller.talk(&text).await;
    loop {
        let event = session.next().await;
        assert_ne!(of(&event).map(|(user, _)| user), Some(user), "{event:?}");
        if says(&event, &text) {
            return;
        }
    }
}

/// Whatever the server of `teller` has told before has come to that of `listener`.
async fn hands_on(teller: &mut Session, listener: &mut Session, text: &str) {
    teller.talk(text).await;
    listener.find(|event| says(event, text)).await;
}

/// Ends a session and waits until its server has noticed.
async fn leave(mut session: Session) {
    session.finish();
    let _ = session.end().await;
}

/// Who is online by all that can be asked.
async fn online(server: &TestServer, room: &str) -> Vec<String> {
    let mut client = server.client().await;
    let got = client.get_room(pb::GetRoomRequest { room_id: room.into() }).await.unwrap().into_inner();
    let request = pb::ListMembersRequest { room_id: room.into(), ..Default::default() };
    let listed = client.list_members(request).await.unwrap().into_inner();
    let mut by_room: Vec<String> = got.participants.into_iter().map(|member| member.id).collect();
    let by_list: Vec<String> =
        listed.members.into_iter().filter(|member| member.is_online).map(|member| member.id).collect();
    by_room.sort();
    assert_eq!(by_room, by_list);
    by_room
}

async fn two_devices_on_two_servers_are_one_user(servers: Vec<TestServer>) {
    let [a, b] = &servers[..] else { panic!("two servers") };
    let room = a.room(&[]).await;
    let mut watch_a = enter(a, &room, "watch-a").await;
    let mut watch_b = enter(b, &room, "watch-b").await;
    hears(&mut watch_a, "watch-b", true).await;
    // Who came later was told of who was there, in the state or behind it.
    if !watch_b.state.participants.iter().any(|member| member.id == "watch-a" && member.is_online) {
        hears(&mut watch_b, "watch-a", true).await;
    }
    let on_a = enter(a, &room, "ann").await;
    for watcher in [&mut watch_a, &mut watch_b] {
        let event = hears(watcher, "ann", true).await;
        let Some(Payload::UserJoined(joined)) = event.payload else { panic!("{event:?}") };
        assert_eq!(joined.user.unwrap().name, "ann");
    }
    let on_b = enter(b, &room, "ann").await;
    assert_eq!(on_b.state.online_count, 3);
    // The other server has heard of the second device: until then it would have to take the first for the only one.
    hands_on(&mut watch_b, &mut watch_a, "there are two").await;
    leave(on_a).await;
    hears_nothing(&mut watch_a, "ann", &mut watch_b).await;
    hears_nothing(&mut watch_b, "ann", &mut watch_a).await;
    for server in &servers {
        assert_eq!(online(server, &room).await, ["ann", "watch-a", "watch-b"]);
    }
    leave(on_b).await;
    for watcher in [&mut watch_a, &mut watch_b] {
        hears(watcher, "ann", false).await;
    }
    hears_nothing(&mut watch_a, "ann", &mut watch_b).await;
    hears_nothing(&mut watch_b, "ann", &mut watch_a).await;
    for server in &servers {
        assert_eq!(online(server, &room).await, ["watch-a", "watch-b"]);
    }
    for server in servers {
        server.shutdown().await;
    }
}

async fn a_session_too_many_ends_wherever_it_is(servers: Vec<TestServer>) {
    let [a, b] = &servers[..] else { panic!("two servers") };
    let room = a.room(&[]).await;
    let (mut watch_a, mut watch_b) = (enter(a, &room, "watch-a").await, enter(b, &room, "watch-b").await);
    hears(&mut watch_a, "watch-b", true).await;
    sleep(SETTLING).await;
    let mut sessions: Vec<Session> = Vec::new();
    for (n, server) in [a, b, a, b, b, a, a].into_iter().enumerate() {
        sessions.push(enter(server, &room, "ann").await);
        // The other server has heard of it, too.
        hands_on(&mut watch_a, &mut watch_b, &format!("{n}")).await;
        hands_on(&mut watch_b, &mut watch_a, &format!("{n} as well")).await;
    }
    // Each but the last two was the oldest once.
    let last = sessions.split_off(5);
    for mut session in sessions {
        let closing = session.end().await.0.unwrap();
        assert_eq!(closing.reason(), pb::ClosingReason::TooManySessions);
    }
    for mut session in last {
        session.talk("still here").await;
    }
    for server in servers {
        server.shutdown().await;
    }
}

mod on_a_hub_in_virtual_time {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_devices_on_two_servers_are_one_user() {
        super::two_devices_on_two_servers_are_one_user(on_a_hub(2).await.0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_too_many_ends_wherever_it_is() {
        super::a_session_too_many_ends_wherever_it_is(on_a_hub(2).await.0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_people_of_a_dead_server_go_offline() {
        let (servers, buses) = on_a_hub(3).await;
        let room = servers[0].room(&[]).await;
        let mut watchers =
            [enter(&servers[0], &room, "watch-a").await, enter(&servers[1], &room, "watch-b").await];
        let _elsewhere_too = enter(&servers[1], &room, "ann").await;
        let (_ann, _bob) = (enter(&servers[2], &room, "ann").await, enter(&servers[2], &room, "bob").await);
        for watcher in &mut watchers {
            hears(watcher, "bob", true).await;
        }
        sleep(Duration::from_secs(60)).await;
        let died = Instant::now();
        buses[2].cut();
        for watcher in &mut watchers {
            hears(watcher, "bob", false).await;
            assert!(died.elapsed() <= HEALING_MAX, "{:?}", died.elapsed());
        }
        for server in &servers[..2] {
            assert_eq!(online(server, &room).await, ["ann", "watch-a", "watch-b"]);
        }
        // It was not dead, only away: it comes back with everybody.
        buses[2].mend();
        for watcher in &mut watchers {
            hears(watcher, "bob", true).await;
        }
        for server in servers {
            server.shutdown().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_drains_leaves_nobody_behind() {
        let (mut servers, _) = on_a_hub(2).await;
        let room = servers[0].room(&[]).await;
        let mut watcher = enter(&servers[0], &room, "watcher").await;
        let mut bob = enter(&servers[1], &room, "bob").await;
        hears(&mut watcher, "bob", true).await;
        let began = Instant::now();
        let draining = servers.remove(1).shutdown();
        let (_, (closing, _)) = tokio::join!(draining, bob.end());
        assert_eq!(closing.unwrap().reason(), pb::ClosingReason::Draining);
        hears(&mut watcher, "bob", false).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        servers.remove(0).shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_server_sees_everybody() {
        let (servers, _) = on_a_hub(3).await;
        let room = servers[0].room(&[]).await;
        let _here: Vec<Session> = vec![
            enter(&servers[0], &room, "ann").await,
            enter(&servers[1], &room, "bob").await,
            enter(&servers[1], &room, "ann").await,
        ];
        sleep(Duration::from_secs(60)).await;
        // Asked at once: nobody had the room in memory there.
        assert_eq!(online(&servers[2], &room).await, ["ann", "bob"]);
        let mut zed = enter(&servers[2], &room, "zed").await;
        assert_eq!(zed.state.online_count, 3);
        // What was known at the join is not told again.
        let mut teller = enter(&servers[0], &room, "teller").await;
        hears_nothing(&mut zed, "bob", &mut teller).await;
        for server in servers {
            server.shutdown().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_the_first_on_a_late_server_hears_of_everybody_at_once() {
        let (servers, _) = on_a_hub(2).await;
        let room = servers[0].room(&[]).await;
        let _ann = enter(&servers[0], &room, "ann").await;
        sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        let mut zed = enter(&servers[1], &room, "zed").await;
        if zed.state.online_count < 2 {
            hears(&mut zed, "ann", true).await;
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        for server in servers {
            server.shutdown().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn joins_at_once_on_two_servers_end_as_many_as_are_too_many() {
        let (servers, buses) = on_a_hub(2).await;
        let room = servers[0].room(&[]).await;
        let _watchers = [enter(&servers[0], &room, "w").await, enter(&servers[1], &room, "w").await];
        sleep(SETTLING).await;
        let mut old = [enter(&servers[0], &room, "ann").await, enter(&servers[1], &room, "ann").await];
        // Neither server hears of the other's session before it has decided.
        buses[1].cut();
        let mut new = Vec::new();
        for server in &servers {
            let mut session = Session::open(server.client().await).await;
            session.patience = Duration::from_secs(3600);
            session.say(Say::Join(join(&room, "ann"))).await;
            session.take_state().await;
            session.user = "ann".into();
            new.push(session);
        }
        buses[1].mend();
        for session in &mut old {
            let closing = session.end().await.0.unwrap();
            assert_eq!(closing.reason(), pb::ClosingReason::TooManySessions);
        }
        sleep(HEALING_MAX).await;
        for session in &mut new {
            session.talk("still here").await;
        }
        for server in servers {
            server.shutdown().await;
        }
    }
}

#[cfg(all(feature = "nats", feature = "redis"))]
mod on_real_buses {
    use super::*;

    async fn two(place: &Place) -> Vec<TestServer> {
        servers(&[place.open().await, place.open().await], false).await
    }

    macro_rules! on {
        ($name:ident: $backend:ident) => {
            mod $name {
                use super::*;

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn two_devices_on_two_servers_are_one_user() {
                    if let Some(place) = Backend::$backend.place() {
                        super::super::two_devices_on_two_servers_are_one_user(two(&place).await).await;
                    }
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn a_session_too_many_ends_wherever_it_is() {
                    if let Some(place) = Backend::$backend.place() {
                        super::super::a_session_too_many_ends_wherever_it_is(two(&place).await).await;
                    }
                }
            }
        };
    }

    on! { redis: Redis }
    on! { redis_cluster: RedisCluster }
    on! { nats: Nats }
}
