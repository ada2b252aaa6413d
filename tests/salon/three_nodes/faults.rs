//! A minute of load, and in it: a node that is killed, the bus restarted, the store restarted, links cut.

use std::time::Duration;

use super::{BusServer, Rig};

/// Between two faults.
const LOAD: Duration = Duration::from_secs(10);

async fn survives(bus: BusServer) {
    let Some(mut rig) = Rig::start(bus).await else { return };
    let load = rig.load();
    load.go_on(LOAD).await;

    rig.kill(0).await;
    println!("{bus:?}: a node killed: recovered in {:?}", load.recovered().await);
    rig.restart(0).await;
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
