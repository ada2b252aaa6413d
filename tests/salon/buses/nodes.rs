//! Two servers with one store and one bus between them: whoever is on either sees the same, in the same order, and a
//! bus that goes away and comes back loses nothing.

use std::{sync::Arc, time::Duration};

use salon::{
    bus::Bus,
    store::{Store, memory::MemoryStore},
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};

use super::{
    has_seen_everything,
    servers::{Backend, Place},
};
use crate::harness::{Setup, TestServer, until};

/// Two servers; the second one's way to the bus is `second`.
pub async fn two(first: &Place, second: &Place) -> ([TestServer; 2], [Arc<dyn Bus>; 2]) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let buses = [first.open().await, second.open().await];
    let start = |bus: &Arc<dyn Bus>| {
        let setup = Setup::default().store(Arc::clone(&store)).shared_bus(Arc::clone(bus));
        // What arrives has come over the bus, or because the bus said that something was missed: not by this.
        setup.config(|config| config.bus.head_check = Duration::from_secs(60)).start()
    };
    ([start(&buses[0]).await, start(&buses[1]).await], buses)
}

async fn what_is_said_on_one_node_is_seen_on_the_other(place: Place) {
    let ([a, b], _) = two(&place, &place).await;
    let room = a.room(&["bot"]).await;
    let mut ann = a.join(&room, "ann").await;
    let mut bob = b.join(&room, "bob").await;
    let mut watchers = [a.join(&room, "watcher-a").await, b.join(&room, "watcher-b").await];
    let mut last = 0;
    for n in 0..50 {
        last = ann.talk(&format!("ann {n}")).await.seq;
        last = bob.talk(&format!("bob {n}")).await.seq.max(last);
    }
    // Things that are not stored go the same way, and an answer in pieces.
    ann.say(Say::Typing(pb::TypingIndicator { is_typing: true })).await;
    bob.find(|event| matches!(&event.payload, Some(Payload::UserTyping(_)))).await;
    let asked = bob.talk("@bot what do you think?").await;
    for watcher in &mut watchers {
        watcher.find(|event| matches!(&event.payload, Some(Payload::LlmChunk(_)))).await;
        let ends = |event: &pb::ServerEvent| matches!(&event.payload, Some(Payload::LlmDone(done)) if done.reply_to == asked.event_id);
        last = watcher.find(ends).await.seq.max(last);
    }
    // By the log of the node that has written last.
    has_seen_everything(&b, &room, ann, last).await;
    has_seen_everything(&b, &room, bob, last).await;
    a.shutdown().await;
    b.shutdown().await;
}

async fn a_bus_that_was_away_loses_nothing(place: Place) {
    let (behind, network) = place.behind_a_network().await;
    let ([a, b], buses) = two(&place, &behind).await;
    let room = a.room(&[]).await;
    let (mut ann, mut bob) = (a.join(&room, "ann").await, b.join(&room, "bob").await);
    let (reader_a, reader_b) = (a.join(&room, "reader-a").await, b.join(&room, "reader-b").await);
    for round in 0..3 {
        for n in 0..40 {
            ann.talk(&format!("ann {round} {n}")).await;
            bob.talk(&format!("bob {round} {n}")).await;
            if n == 10 {
                until("it is not connected again", || buses[1].counts().connections > round).await;
                network.cut();
            }
            if n == 30 {
                until("the loss is not noticed", || buses[1].counts().connections_lost > round).await;
                network.mend();
            }
        }
    }
    let last = ann.talk("the end").await.seq;
    for session in [ann, reader_a, bob, reader_b] {
        has_seen_everything(&a, &room, session, last).await;
    }
    a.shutdown().await;
    b.shutdown().await;
}

macro_rules! on {
    ($name:ident: $backend:ident, $($case:ident)*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(place) = super::Backend::$backend.place() {
                        super::$case(place).await;
                    }
                }
            )*
        }
    };
}

on! { redis: Redis, what_is_said_on_one_node_is_seen_on_the_other a_bus_that_was_away_loses_nothing }
on! { redis_cluster: RedisCluster, what_is_said_on_one_node_is_seen_on_the_other }
on! { nats: Nats, what_is_said_on_one_node_is_seen_on_the_other a_bus_that_was_away_loses_nothing }
