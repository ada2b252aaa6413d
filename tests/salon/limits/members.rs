//! Who may still become a member where a namespace has as many, or has stored as much, as it may.

use super::*;
use crate::harness::gate::GatedStore;

#[tokio::test(start_paused = true)]
async fn a_namespace_with_as_many_members_as_it_may_have_lets_back_in_whoever_is_one() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
    let setup = Setup::default().store(Arc::clone(&store)).virtual_time().config(|config| {
        config.limits.quotas.default_namespace.members = Some(3);
    });
    let server = setup.start_without_port().await;
    let new = pb::CreateRoomRequest { name: "r".into(), created_by: "ann".into(), ..Default::default() };
    let rooms = [server.create(new).await, server.room(&[]).await];
    let ann = server.join(&rooms[0], "ann").await;
    let mut bob = server.join(&rooms[0], "bob").await;
    // On another stream they are a member already, in another room they are not.
    drop(server.join(&rooms[0], "ann").await);
    drop(server.join(&rooms[1], "ann").await);
    let refuse_eve = async || {
        let mut eve = Session::open(server.client().await).await;
        let error = eve.command(Say::Join(join(&rooms[0], "eve"))).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.retryable), ("resource_exhausted", false), "{error:?}");
        for part in ["this namespace has 3 members", "the quota `members`", "allows 3", "leave a room first"]
        {
            assert!(error.message.contains(part), "{error:?}");
        }
    };
    // As far as this server has counted, and when the store was asked.
    refuse_eve().await;
    tokio::time::sleep(2 * FRESH).await;
    refuse_eve().await;
    // Who is a member comes back, also as somebody else.
    drop(ann);
    let mut ann = Session::open(server.client().await).await;
    let display_name = "Dr Ann".to_owned();
    ann.say(Say::Join(pb::JoinRoom { display_name, ..join(&rooms[0], "ann") })).await;
    ann.take_state().await;
    // Who ends a stream stays one; who leaves makes place.
    bob.say(Say::Leave(pb::LeaveRoom { keep_membership: false })).await;
    let _ = bob.end().await;
    tokio::time::sleep(2 * FRESH).await;
    drop(server.join(&rooms[1], "eve").await);
    // A room that ends keeps its members.
    ann.command(Say::EndRoom(pb::EndRoom::default())).await.unwrap();
    tokio::time::sleep(2 * FRESH).await;
    let mut zoe = Session::open(server.client().await).await;
    let error = zoe.command(Say::Join(join(&rooms[1], "zoe"))).await.unwrap_err();
    assert!(error.message.contains("the quota `members`"), "{error:?}");
    let more = Quotas { members: Some(4), ..Quotas::default() };
    give(&store, &Namespace::default(), more).await;
    drop(server.join(&rooms[1], "zoe").await);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn many_who_join_at_once_are_counted_from_the_first_on() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
    let setup = || Setup::default().store(Arc::clone(&store)).virtual_time();
    let server = setup().start_without_port().await;
    let room = server.room(&[]).await;
    for name in ["ann", "bob"] {
        drop(server.join(&room, name).await);
    }
    // Another server, which has looked at nothing yet.
    let other = setup().config(|config| config.limits.quotas.default_namespace.members = Some(5));
    let other = other.start_without_port().await;
    let joins = (0..20).map(async |n| {
        let mut session = Session::open(other.client().await).await;
        session.answer(Say::Join(join(&room, &format!("user {n}")))).await
    });
    let codes = futures_util::future::join_all(joins).await;
    assert_eq!(codes.iter().filter(|code| code.is_empty()).count(), 3, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| *code == "resource_exhausted").count(), 17, "{codes:?}");
    other.shutdown().await;
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_and_goes_takes_one_place() {
    let setup = Setup::default().virtual_time().config(|config| {
        config.limits.quotas.default_namespace.members = Some(2);
    });
    let server = setup.start_without_port().await;
    let room = server.room(&[]).await;
    let _ann = server.join(&room, "ann").await;
    for _ in 0..9 {
        let mut bob = server.join(&room, "bob").await;
        bob.say(Say::Leave(pb::LeaveRoom { keep_membership: false })).await;
        let _ = bob.end().await;
        // The store is asked once in a second at most.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_say_what_is_taken_refuses_nobody_and_holds_them_up_once() {
    let store = Arc::new(GatedStore::new());
    let setup = Setup::default().store(Arc::<GatedStore>::clone(&store)).virtual_time().config(|config| {
        config.limits.quotas.default_namespace.members = Some(1);
    });
    let server = setup.start_without_port().await;
    let room = server.room(&[]).await;
    store.usage_hangs();
    let begun = Instant::now();
    let (here, room) = (&server, &room);
    let joins = (0..9).map(|n| async move { here.join(room, &format!("user {n}")).await });
    drop(futures_util::future::join_all(joins).await);
    drop(server.join(room, "the last").await);
    assert_eq!(begun.elapsed().as_secs(), 1);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_waits_once_for_a_store_that_does_not_say_what_is_taken() {
    let store = Arc::new(GatedStore::new());
    let setup = Setup::default().store(Arc::<GatedStore>::clone(&store)).virtual_time().config(|config| {
        config.limits.quotas.default_namespace.members = Some(1);
    });
    let server = setup.start_without_port().await;
    let room = server.room(&[]).await;
    let _ann = server.join(&room, "ann").await;
    store.usage_hangs();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    let joins = (0..20).map(async |n| {
        let mut session = Session::open(server.client().await).await;
        session.answer(Say::Join(join(&room, &format!("user {n}")))).await
    });
    let codes = futures_util::future::join_all(joins).await;
    assert!(codes.iter().all(|code| code == "resource_exhausted"), "{codes:?}");
    assert_eq!(begun.elapsed().as_secs(), 1);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_without_space_takes_no_new_member() {
    let setup = Setup::default().virtual_time().config(|config| {
        config.limits.quotas.default_namespace.stored_bytes = Some(1);
    });
    let server = setup.start_without_port().await;
    let room = server.room(&[]).await;
    drop(server.join(&room, "ann").await);
    tokio::time::sleep(2 * FRESH).await;
    let mut bob = Session::open(server.client().await).await;
    let error = bob.command(Say::Join(join(&room, "bob"))).await.unwrap_err();
    assert_eq!(error.code, "resource_exhausted");
    assert!(error.message.contains("the quota `stored_bytes`"), "{error:?}");
    // Who is a member comes back, reads, and is told the same of what would be stored.
    let mut ann = server.join(&room, "ann").await;
    assert_eq!(ann.command(message("hello")).await.unwrap_err().code, "resource_exhausted");
    ann.say(Say::Leave(pb::LeaveRoom { keep_membership: false })).await;
    let _ = ann.end().await;
    assert_eq!(server.log(&room).await.len(), 4, "created, activated, joined, left");
    server.shutdown().await;
}
