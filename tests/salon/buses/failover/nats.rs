//! A cluster of NATS: servers are killed, and sent away in order.

use rustix::process::Signal;
use tokio::{net::TcpListener, time::Instant};

use super::{Node, Talk, engines::NatsCluster, holds, recovered, room, transient};
use crate::harness::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_die_and_nodes_go_to_others_also_to_those_that_they_were_not_told() {
    let Some(mut cluster) = NatsCluster::start().await else { return };
    // Nobody is told of the last one.
    let place = cluster.place(&[0]);
    let others = [place.by(cluster.url(&[1])), place.by(cluster.url(&[0, 1]))];
    let nodes = [&place, &others[0], &others[1]];
    let nodes = [
        Node::in_room(nodes[0], "r").await,
        Node::in_room(nodes[1], "r").await,
        Node::in_room(nodes[2], "r").await,
    ];
    let nodes = [&nodes[0], &nodes[1], &nodes[2]];
    let talk = Box::pin(Talk::start([&place, &others[0]])).await;
    recovered(&nodes, "r").await;
    for n in 0..2 {
        let interrupted = nodes[n].interrupted();
        cluster.servers[n].kill().await;
        println!("a server killed: recovered in {:?}", recovered(&nodes, "r").await);
        assert!(nodes[n].interrupted() > interrupted, "nobody looks at the heads");
    }
    Box::pin(talk.everything_was_seen()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_going_away_is_left_before() {
    let Some(cluster) = NatsCluster::start().await else { return };
    let place = cluster.place(&[0]);
    let other = place.by(cluster.url(&[1]));
    let nodes = [Node::in_room(&place, "r").await, Node::in_room(&other, "r").await];
    let nodes = [&nodes[0], &nodes[1]];
    let talk = Box::pin(Talk::start([&place, &other])).await;
    recovered(&nodes, "r").await;
    // Lame duck mode: it takes no more connections, and ends those that it has in its own time.
    let begun = Instant::now();
    cluster.servers[0].signal(Signal::USR2);
    until("the connection is not replaced", || nodes[0].bus.counts().connections > 1).await;
    println!("lame duck mode: left after {:?}", begun.elapsed());
    nodes[0].bus.publish(&room("r"), transient(b"from its new place"));
    until("it does not arrive", || holds(nodes[1], "r", "from its new place")).await;
    recovered(&nodes, "r").await;
    assert_eq!(nodes[0].bus.counts().connections_lost, 0, "it was left too late");
    Box::pin(talk.everything_was_seen()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_say_nothing_are_given_up_soon() {
    let Some(cluster) = NatsCluster::start().await else { return };
    let (mut silent, mut urls) = (Vec::new(), vec![cluster.url(&[0])]);
    for _ in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        urls.insert(0, format!("nats://{}", listener.local_addr().unwrap()));
        silent.push(listener);
    }
    let place = cluster.place(&[1]);
    let begun = Instant::now();
    let nodes = [Node::in_room(&place, "r").await, Node::in_room(&place.by(urls.join(",")), "r").await];
    recovered(&[&nodes[0], &nodes[1]], "r").await;
    println!("beside three servers that say nothing: connected in {:?}", begun.elapsed());
}
