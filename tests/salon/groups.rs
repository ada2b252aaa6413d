//! Commands that are committed together: what rests on one that is not stored is not answered as if it were.

use std::{sync::Arc, time::Duration};

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};
use tokio::time::Instant;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{
    Session, Setup, TestServer,
    gate::GatedStore,
    session::{join, message},
};

async fn gated() -> (TestServer, Arc<GatedStore>, String) {
    let store = Arc::new(GatedStore::new());
    let server = Setup::default().store(Arc::<GatedStore>::clone(&store)).start().await;
    let room = server.room(&[]).await;
    (server, store, room)
}

fn topic(text: &str) -> Say {
    Say::UpdateRoomDescription(pb::UpdateRoomDescription { description: text.into() })
}

async fn send(session: &mut Session, request_id: &str, payload: Say) {
    session.send(pb::ClientMessage { payload: Some(payload), request_id: request_id.into() }).await;
}

async fn answer(session: &mut Session, request_id: &str) -> Payload {
    session.find(|event| event.request_id == request_id).await.payload.unwrap()
}

#[tokio::test]
async fn what_rests_on_a_command_that_was_not_stored_is_decided_anew() {
    let (server, store, room) = gated().await;
    let (mut ann, mut bob) = (server.join(&room, "ann").await, server.join(&room, "bob").await);
    let gate = store.shut().await;
    ann.say(message("this one waits at the gate")).await;
    store.somebody_waits().await;
    // Both wait in the room's queue and come into one group, in which the second has nothing to change.
    send(&mut ann, "first", topic("new")).await;
    ann.settle().await;
    send(&mut bob, "second", topic("new")).await;
    bob.settle().await;
    store.fail_one();
    drop(gate);
    let Payload::Error(refused) = answer(&mut ann, "first").await else { panic!("it was not stored") };
    assert_eq!((refused.code.as_str(), refused.retryable), ("unavailable", true));
    let Payload::Ack(ack) = answer(&mut bob, "second").await else { panic!("it could be stored") };
    let log = server.log(&room).await;
    let updates = log.iter().filter(|event| {
        matches!(&event.payload, Some(Payload::RoomUpdated(updated))
            if updated.room.as_ref().unwrap().description == "new")
    });
    assert_eq!(updates.map(|event| event.seq).collect::<Vec<_>>(), [ack.seq]);
    server.shutdown().await;
}

#[tokio::test]
async fn rights_that_only_a_repeat_would_give_let_nothing_through() {
    let (server, store, room) = gated().await;
    let mut admin = server.join(&room, "admin").await;
    let mut bob = server.join(&room, "bob").await;
    let role =
        |role: pb::Role| Say::UpdateMember(pb::UpdateMember { user_id: "bob".into(), role: role.into() });
    admin.command(role(pb::Role::Viewer)).await.unwrap();
    admin.command_as("raise", role(pb::Role::Member)).await.unwrap();
    admin.command(role(pb::Role::Viewer)).await.unwrap();
    let gate = store.shut().await;
    admin.say(message("this one waits at the gate")).await;
    store.somebody_waits().await;
    send(&mut admin, "raise", role(pb::Role::Member)).await;
    admin.settle().await;
    send(&mut bob, "said", message("am I heard?")).await;
    bob.settle().await;
    drop(gate);
    let Payload::Ack(repeat) = answer(&mut admin, "raise").await else { panic!("it is a repeat") };
    assert!(repeat.duplicate);
    let Payload::Error(refused) = answer(&mut bob, "said").await else { panic!("bob is a VIEWER") };
    assert_eq!(refused.code, "permission_denied");
    server.shutdown().await;
}

#[tokio::test]
async fn leaving_again_with_the_same_request_id_leaves_again() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let _ann = server.join(&room, "ann").await;
    for _ in 0..2 {
        let mut bob = server.join(&room, "bob").await;
        send(&mut bob, "bye", Say::Leave(pb::LeaveRoom::default())).await;
        let (closing, status) = bob.end().await;
        assert_eq!(closing.unwrap().reason(), pb::ClosingReason::Left);
        status.unwrap();
    }
    let members = pb::ListMembersRequest { room_id: room, ..Default::default() };
    let members = server.client().await.list_members(members).await.unwrap().into_inner().members;
    assert_eq!(members.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(), ["ann"]);
    server.shutdown().await;
}

#[tokio::test]
async fn joins_that_change_something_cost_what_commands_cost() {
    let setup = Setup::default().config(|config| {
        config.limits.messages_per_second = 1;
        config.limits.messages_burst = 3;
    });
    let server = setup.start().await;
    let room = server.room(&[]).await;
    let mut refused = None;
    for n in 0..6 {
        let mut ann = Session::open(server.client().await).await;
        ann.say(Say::Join(pb::JoinRoom { display_name: format!("Ann {n}"), ..join(&room, "ann") })).await;
        if let Some(Payload::Error(error)) = ann.next().await.payload {
            refused.get_or_insert((n, error));
        }
    }
    // The first join is free, and so is coming back as one was.
    let (joined, error) = refused.expect("five changes at once are too many");
    assert_eq!((joined, error.code.as_str()), (4, "rate_limited"));
    for _ in 0..20 {
        server.join(&room, "ann").await;
    }
    assert!(error.retry_after_ms > 0);
    server.shutdown().await;
}

#[tokio::test]
async fn a_watcher_of_the_health_does_not_hold_up_a_drain() {
    let grace = Duration::from_secs(20);
    let server = Setup::default().config(|config| config.limits.drain = grace).start().await;
    let mut watcher = HealthClient::new(server.channel().await);
    let mut health = watcher.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status, 1);
    let began = Instant::now();
    server.shutdown().await;
    assert!(began.elapsed() < grace / 2);
}
