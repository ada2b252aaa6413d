//! The same between servers that have nothing in common but PostgreSQL and a bus with a server of its own.

use salon::store;

use super::*;
use crate::{
    buses::servers::{Backend, Place},
    harness::{session::message, until},
    store_conformance::postgres::Schema,
};

async fn server(schema: &Schema, place: &Place, provider: ScriptedProvider) -> TestServer {
    let store = store::open::open(&schema.config()).await.unwrap();
    let setup = Setup::default().provider(provider).store(store).shared_bus(place.open().await);
    setup.config(|config| config.bus.head_check = Duration::from_secs(60)).start().await
}

async fn one_controls_and_sees_what_is_on_the_other(place: Place) {
    let Some(schema) = Schema::new().await else { return };
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let (a, b) = (server(&schema, &place, provider).await, server(&schema, &place, nobody()).await);
    let room = a.room(&["ada", "bot"]).await;
    let (mut ann, mut bob) = (a.join(&room, "ann").await, b.join(&room, "bob").await);
    // An interrupt.
    ann.talk("@ada hello").await;
    let call = begins(&mut script, "For ever").await;
    thinking(&mut bob).await;
    bob.command(interrupt("ada", None)).await.unwrap();
    call.cancelled().await;
    assert_eq!(done(&mut bob).await.detail, "interrupted by bob");
    // An autopilot in the middle of a turn.
    let start = pb::StartAutopilot {
        mode: pb::AutopilotMode::RoundRobin.into(),
        topic: "Tea or coffee?".into(),
        max_turns: 9,
        ..Default::default()
    };
    ann.command(Say::StartAutopilot(start)).await.unwrap();
    begins(&mut script, "Tea").await.done(Finish::Stop).await;
    let call = begins(&mut script, "Coffee").await;
    done(&mut bob).await;
    let stop = pb::ControlAutopilot { action: pb::AutopilotAction::Stop.into(), reason: String::new() };
    bob.command(Say::ControlAutopilot(stop)).await.unwrap();
    call.cancelled().await;
    assert_eq!(done(&mut bob).await.detail, "stopped by bob");
    until("a turn was left over", || a.run_count() + b.run_count() == 0).await;
    // What was acknowledged is seen and known.
    for round in 0..20 {
        let id = format!("once-{round}");
        let mut there = b.join(&room, "ann").await;
        let ack = ann.command_as(&id, message("hello")).await.unwrap();
        let request = pb::GetRoomRequest { room_id: room.clone() };
        let seen = b.client().await.get_room(request).await.unwrap().into_inner().seq;
        assert!(seen >= ack.seq, "{seen} behind {}", ack.seq);
        let again = there.command_as(&id, message("hello")).await.unwrap();
        assert_eq!(again, pb::Ack { duplicate: true, ..ack.clone() });
        assert!(b.join(&room, "bob").await.seq >= ack.seq);
    }
    a.shutdown().await;
    b.shutdown().await;
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_and_redis() {
    if let Some(place) = Backend::Redis.place() {
        Box::pin(one_controls_and_sees_what_is_on_the_other(place)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_and_nats() {
    if let Some(place) = Backend::Nats.place() {
        Box::pin(one_controls_and_sees_what_is_on_the_other(place)).await;
    }
}
