//! A server is busy when commands wait although their room does not, and not when the store is slow.

use futures_util::future::join_all;

use super::{observers::Node, *};

/// Some more than the mean is made of.
const COMMANDS: usize = 30;
const LONG: Duration = Duration::from_millis(20);

#[tokio::test(start_paused = true)]
async fn a_slow_store_is_no_pressure() {
    let store = Arc::new(GatedStore::new());
    let node = Node::start(&store, &Arc::new(Hub::default()));
    let room = node.room().await;
    node.join(&room, "ann").await;
    for _ in 0..COMMANDS {
        let shut = store.shut().await;
        let others = async {
            store.somebody_waits().await;
            let said = (1..4).map(|n| node.say(&room, "ann", format!("message {n}")));
            let opens = async {
                tokio::time::sleep(LONG).await;
                drop(shut);
            };
            tokio::join!(join_all(said), opens);
        };
        // The first goes to the store, and the others wait for it.
        tokio::join!(node.say(&room, "ann", "message 0".into()), others);
    }
    assert!(!node.rooms.registry().pressure().is_high(tokio::time::Instant::now()));
    node.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waits_for_an_idle_room_is() {
    let store = Arc::new(GatedStore::new());
    let node = Node::start(&store, &Arc::new(Hub::default()));
    let room = node.room().await;
    node.join(&room, "ann").await;
    for n in 0..COMMANDS {
        let mut said = Box::pin(node.say(&room, "ann", format!("message {n}")));
        // Handed over; the thread is busy with others before the room has its turn.
        assert!(futures_util::poll!(&mut said).is_pending());
        tokio::time::advance(LONG).await;
        said.await;
    }
    assert!(node.rooms.registry().pressure().is_high(tokio::time::Instant::now()));
    node.stop.cancel();
}
