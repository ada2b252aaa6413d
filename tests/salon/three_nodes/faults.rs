//! A minute of load, and in it: a node that is killed, the bus restarted, the store restarted, links cut.

use std::time::Duration;

use salon::wire::pb::room::v1::server_event::Payload;
use tokio::time::{Instant, timeout};

use super::{BusServer, FOREVER, ROOMS, Rig, is_interrupted};

/// Between two faults.
const LOAD: Duration = Duration::from_secs(10);

/// Within this time another node ends what one that is gone was writing.
const CLOSED: Duration = Duration::from_secs(30);

/// What begins on a node when somebody there asks for it, and never ends by itself.
async fn an_endless_answer(rig: &Rig, n: usize) -> String {
    let mut ann = rig.salon(n).join(ROOMS[0], "ann").await;
    let asked = ann.talk(&format!("@ada talk {FOREVER}")).await;
    let begins = |payload: &Payload| match payload {
        Payload::LlmChunk(chunk) if chunk.reply_to == asked.event_id => Some(chunk.message_id.clone()),
        _ => None,
    };
    ann.pick(begins).await
}

/// Waits on another node until an answer was ended there, as interrupted; says how long that took.
async fn is_closed(rig: &Rig, n: usize, answer: &str) -> Duration {
    let begun = Instant::now();
    let mut watcher = rig.salon(n).join(ROOMS[0], "watcher").await;
    if watcher.state.active_answers.iter().any(|active| active.message_id == answer) {
        let closed = watcher.find(|event| is_interrupted(event, answer));
        timeout(CLOSED, closed).await.expect("nobody ends what a node that is gone was writing");
    }
    begun.elapsed()
}

async fn survives(bus: BusServer) {
    let Some(mut rig) = Rig::start(bus).await else { return };
    let load = rig.load();
    load.go_on(LOAD).await;

    let answer = an_endless_answer(&rig, 0).await;
    rig.kill(0).await;
    println!("{bus:?}: a node killed: recovered in {:?}", load.recovered().await);
    println!("{bus:?}: what it wrote was closed by another in {:?}", is_closed(&rig, 1, &answer).await);
    rig.restart(0).await;
    load.go_on(LOAD).await;

    // One stands still for longer than its lease: when it goes on it is another node.
    let answer = an_endless_answer(&rig, 2).await;
    rig.salon(2).signal("STOP").await;
    println!("{bus:?}: a node stood still: recovered in {:?}", load.recovered().await);
    println!("{bus:?}: what it wrote was closed by another in {:?}", is_closed(&rig, 1, &answer).await);
    rig.salon(2).signal("CONT").await;
    load.go_on(LOAD).await;

    rig.bus.restart().await;
    println!("{bus:?}: the bus restarted: recovered in {:?}", load.recovered().await);
    load.go_on(LOAD).await;

    for mode in ["fast", "immediate"] {
        rig.postgres.restart(mode).await;
        println!("{bus:?}: the store restarted ({mode}): recovered in {:?}", load.recovered().await);
        load.go_on(LOAD / 2).await;
    }

    // One node does not reach the bus: it hears of others by looking at the store.
    rig.nodes[1].to_bus.cut();
    println!("{bus:?}: a link to the bus cut: recovered in {:?}", load.recovered().await);
    load.go_on(LOAD / 2).await;
    rig.nodes[1].to_bus.mend();
    // One does not reach the store: it acknowledges nothing.
    rig.nodes[2].to_store.cut();
    tokio::time::sleep(LOAD / 4).await;
    rig.nodes[2].to_store.mend();
    println!("{bus:?}: a link to the store cut and mended: recovered in {:?}", load.recovered().await);
    load.go_on(LOAD / 2).await;

    // The store answers slowly, to everybody.
    for node in &rig.nodes {
        node.to_store.delay(Duration::from_millis(400));
    }
    load.go_on(LOAD).await;
    for node in &rig.nodes {
        node.to_store.delay(Duration::ZERO);
    }
    println!("{bus:?}: a slow store was quick again: recovered in {:?}", load.recovered().await);

    let news = rig.finish(load).await;
    println!(
        "{bus:?}: {} acks, the longest wait {:?}, without a stream {:?}, streams that ended: {:?}",
        news.acks, news.longest, news.longest_away, news.ends
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_links_redis_and_the_store_die_under_load_and_nothing_is_lost_or_doubled() {
    survives(BusServer::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_links_nats_and_the_store_die_under_load_and_nothing_is_lost_or_doubled() {
    survives(BusServer::Nats).await;
}
