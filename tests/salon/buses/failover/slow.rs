//! A node that reads too slowly: the server ends its connection, and the node reads the store.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinSet,
    time::{Duration, Instant, sleep},
};

use super::{Place, engines, has_seen_everything, two};
use crate::{
    buses::servers::Backend,
    harness::{DEADLINE, until},
};

/// More than all that stands between a server and a node can hold.
const FLOOD: usize = 1000;
/// The bytes of one message of it.
const MESSAGE: usize = 15 * 1024;

/// A way to a server on which nothing comes back while it is stalled.
struct Narrow {
    address: String,
    stalled: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Narrow {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stalled, state) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut ways = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let socket = TcpSocket::new_v4().unwrap();
                socket.set_recv_buffer_size(16 * 1024).unwrap();
                let far = socket.connect(server.parse().unwrap()).await.unwrap();
                ways.spawn(pass(near, far, state.clone()));
            }
        });
        Self { address, stalled, _task: task }
    }
}

/// Until either side ends.
async fn pass(near: TcpStream, far: TcpStream, stalled: watch::Receiver<bool>) {
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    let never = watch::channel(false);
    tokio::select! {
        () = copy(from_near, to_far, never.1) => {}
        () = copy(from_far, to_near, stalled) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut stalled: watch::Receiver<bool>) {
    let mut buffer = [0; 8192];
    loop {
        // Whoever could stall it is gone: nothing does.
        let _ = stalled.wait_for(|stalled| !stalled).await;
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// `is_cut` waits until the server has ended the connection.
async fn a_node_that_is_cut_off_for_being_slow_reads_the_store(
    place: Place,
    host: String,
    is_cut: impl AsyncFn(),
) {
    let narrow = Narrow::to(host.clone()).await;
    let slow = place.by(place.url.replace(&host, &narrow.address));
    let ([a, b], buses) = two(&place, &slow).await;
    let room = a.room(&[]).await;
    let mut ann = a.join(&room, "ann").await;
    let (reader, mut bob) = (b.join(&room, "reader").await, b.join(&room, "bob").await);
    narrow.stalled.send_replace(true);
    for _ in 0..FLOOD {
        ann.talk(&"x".repeat(MESSAGE)).await;
    }
    is_cut().await;
    narrow.stalled.send_replace(false);
    until("the server keeps what is too slow", || buses[1].counts().connections_lost > 0).await;
    until("it is not connected again", || buses[1].counts().connections > 1).await;
    bob.talk("it goes on").await;
    let last = ann.talk("the end").await.seq;
    for session in [ann, bob, reader] {
        has_seen_everything(&a, &room, session, last).await;
    }
    assert_eq!(buses[0].counts().connections_lost, 0);
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_by_the_limit_of_its_output() {
    let limit = ["--client-output-buffer-limit", "pubsub 64kb 64kb 1"];
    let Some(server) = engines::redis(&limit).await else { return };
    let place = Place::at(Backend::Redis, format!("redis://{}", server.host()));
    // At once when the limit is passed.
    Box::pin(a_node_that_is_cut_off_for_being_slow_reads_the_store(place, server.host(), async || {})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_by_how_long_a_write_may_take() {
    let [port] = engines::free_ports();
    // More cannot wait for a client: before that, the server holds up who publishes.
    let settings = format!(
        "max_payload: 65536\nmax_pending: 131072\nwrite_deadline: \"500ms\"\nhttp: 127.0.0.1:{port}\n"
    );
    let Some(server) = engines::nats(&settings).await else { return };
    let place = Place::at(Backend::Nats, format!("nats://{}", server.host()));
    let is_cut = async || {
        let begun = Instant::now();
        while !engines::monitored(port).await.contains("\"slow_consumers\": 1") {
            assert!(begun.elapsed() < DEADLINE, "the server keeps what is too slow");
            sleep(Duration::from_millis(20)).await;
        }
    };
    Box::pin(a_node_that_is_cut_off_for_being_slow_reads_the_store(place, server.host(), is_cut)).await;
}
