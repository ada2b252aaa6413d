//! Redis alone, with a replica behind it that is no cluster.

use tokio::time::Instant;

use super::{Node, Place, engines::redis, recovered};
use crate::{buses::servers::Backend, harness::until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_master_is_passed_by_and_left() {
    let Some(first) = redis(&[]).await else { return };
    let number = first.port.to_string();
    let Some(second) = redis(&["--replicaof", "127.0.0.1", &number]).await else { return };
    second.says("INFO replication", &["role:slave", "master_link_status:up"]).await;
    let url = |server: &super::engines::Engine| format!("redis://{}", server.host());
    // What is published on a replica is heard on that replica alone.
    let place = Place::at(Backend::Redis, format!("{},{}", url(&second), url(&first)));
    let other = place.by(format!("{},{}", url(&first), url(&second)));
    let nodes = [Node::in_room(&place, "r").await, Node::in_room(&other, "r").await];
    let nodes = [&nodes[0], &nodes[1]];
    recovered(&nodes, "r").await;

    // An operator exchanges them; nobody is disconnected for that.
    let begun = Instant::now();
    let () = second.ask("REPLICAOF NO ONE").await;
    let () = first.ask(&format!("REPLICAOF 127.0.0.1 {}", second.port)).await;
    for node in nodes {
        until("the old master is not left", || node.bus.counts().connections > 1).await;
    }
    recovered(&nodes, "r").await;
    println!("master and replica exchanged: recovered in {:?}", begun.elapsed());
}
