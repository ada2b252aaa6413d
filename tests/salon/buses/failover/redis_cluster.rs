//! A cluster of Redis: a master is killed, slots move, a server says nothing.

use rustix::process::Signal;
use tokio::{net::TcpListener, time::Instant};

use super::{Node, Talk, engines::RedisCluster, recovered, two};
use crate::harness::until;

/// Rooms that are spread over all masters.
const ROOMS: usize = 12;

fn rooms() -> Vec<String> {
    (0..ROOMS).map(|n| format!("r-{n}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_dies_and_its_replica_takes_its_place() {
    let Some(mut cluster) = RedisCluster::start().await else { return };
    // One knows only the server that dies, one only another, one all.
    let place = cluster.place(&[0]);
    let others = [place.by(cluster.url(&[1])), place.by(cluster.url(&[0, 1, 2]))];
    let nodes = [Node::at(&place).await, Node::at(&others[0]).await, Node::at(&others[1]).await];
    let nodes = [&nodes[0], &nodes[1], &nodes[2]];
    for node in nodes {
        for room in rooms() {
            node.subscribe(&room).await;
        }
    }
    let hit = cluster.room_of_the_first(&place, rooms()).await;
    let (servers, _) = two(&place, &others[0]).await;
    let mut candidates = Vec::new();
    for _ in 0..ROOMS {
        candidates.push(servers[0].room(&[]).await);
    }
    let room = cluster.room_of_the_first(&place, candidates).await;
    let talk = Talk::in_room(servers, room).await;
    for room in rooms() {
        recovered(&nodes, &room).await;
    }
    let interrupted = nodes.map(Node::interrupted);

    cluster.servers[0].kill().await;
    println!("a master killed: its rooms recovered in {:?}", recovered(&nodes, &hit).await);
    for (node, before) in nodes.iter().zip(interrupted) {
        assert!(node.interrupted() > before, "nobody looks at the heads");
    }
    let begun = Instant::now();
    cluster.taken_over(0).await;
    println!("its replica had its place after {:?}", begun.elapsed());
    for room in rooms() {
        recovered(&nodes, &room).await;
    }
    // A node that starts now finds the cluster by those that live.
    let late = Node::in_room(&others[1], &hit).await;
    recovered(&[nodes[0], &late], &hit).await;
    Box::pin(talk.everything_was_seen()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_live() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let place = cluster.place(&[0, 1, 2]);
    let nodes = [Node::at(&place).await, Node::at(&place).await];
    let nodes = [&nodes[0], &nodes[1]];
    for node in nodes {
        for room in rooms() {
            node.subscribe(&room).await;
        }
    }
    let (servers, _) = two(&place, &place).await;
    let mut candidates = Vec::new();
    for _ in 0..ROOMS {
        candidates.push(servers[0].room(&[]).await);
    }
    let talked = cluster.room_of_the_first(&place, candidates).await;
    let talk = Talk::in_room(servers, talked.clone()).await;
    let mut moving = vec![cluster.slot(&place, &talked, 0).await];
    for room in rooms() {
        let slot = cluster.slot(&place, &room, 0).await;
        if slot <= 5460 {
            moving.push(slot);
        }
    }
    assert!(moving.len() > 1);
    let interrupted = nodes.map(Node::interrupted);
    let begun = Instant::now();
    for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1)] {
        for slot in &moving {
            cluster.move_slot(*slot, from, to).await;
        }
        for room in rooms() {
            recovered(&nodes, &room).await;
        }
    }
    println!("{} slots moved four times in {:?}", moving.len(), begun.elapsed());
    // Answers on a connection of which channels were taken cannot be trusted: another takes its place.
    for (node, before) in nodes.iter().zip(interrupted) {
        until("the connection is not replaced", || node.interrupted() > before).await;
    }
    for room in rooms() {
        recovered(&nodes, &room).await;
    }
    Box::pin(talk.everything_was_seen()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_holds_nobody_up() {
    let Some(cluster) = RedisCluster::start().await else { return };
    // It takes connections, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = cluster.place(&[1]);
    let url = format!("redis://{},{}", silent.local_addr().unwrap(), cluster.url(&[1]));
    let begun = Instant::now();
    let nodes = [Node::in_room(&place, "r-0").await, Node::in_room(&place.by(url), "r-0").await];
    let nodes = [&nodes[0], &nodes[1]];
    recovered(&nodes, "r-0").await;
    println!("beside a server that says nothing: connected in {:?}", begun.elapsed());

    // One that has stopped is found by asking it: nothing is closed.
    for node in nodes {
        for room in rooms() {
            node.subscribe(&room).await;
        }
    }
    let begun = Instant::now();
    cluster.servers[0].signal(Signal::STOP);
    cluster.taken_over(0).await;
    for node in nodes {
        until("the loss is not noticed", || node.bus.counts().connections_lost > 0).await;
    }
    for room in rooms() {
        recovered(&nodes, &room).await;
    }
    println!("a master stopped: recovered in {:?}", begun.elapsed());
    cluster.servers[0].signal(Signal::CONT);
}
