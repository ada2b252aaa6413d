//! A rolling restart under load: nobody waits long, and nobody sees more of it than the hint to come back.

use std::time::Duration;

use super::{BusServer, NODES, Rig, client::MOVED};

/// Nobody may wait longer, for an ack or for a stream.
const LONGEST: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_nothing_and_nobody_waits_long() {
    let Some(mut rig) = Rig::start(BusServer::Nats).await else { return };
    let load = rig.load();
    load.go_on(Duration::from_secs(3)).await;
    for n in 0..NODES {
        rig.drain(n).await;
        println!("node {n} drained: recovered in {:?}", load.recovered().await);
        rig.restart(n).await;
        load.go_on(Duration::from_secs(3)).await;
    }
    let news = rig.finish(load).await;
    let (wait, away) = (news.longest, news.longest_away);
    println!(
        "{} acks, the longest wait {wait:?}, the longest without a stream {away:?}: {:?}",
        news.acks, news.ends
    );
    assert!(wait < LONGEST && away < LONGEST, "somebody waited {wait:?}, or {away:?} for a stream");
    let all: usize = news.ends.iter().filter(|(why, _)| *why != MOVED).map(|(_, count)| count).sum();
    let hints = news.ends.get("Draining").copied().unwrap_or_default();
    assert_eq!(hints, all, "more than the hint was seen: {:?}", news.ends);
    assert!(hints >= NODES, "{:?}", news.ends);
}
