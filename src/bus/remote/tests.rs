//! The task that talks to a server, with one that fails when the test wants it, in virtual time.

use std::{collections::BTreeSet, sync::Mutex};

use tokio::time::Instant;

use super::*;
use crate::{bus::LogBatch, ids::Seq, wire::hint::codec};

/// What the server does instead of what it should, one after the other.
#[derive(Debug, Default)]
struct Faults {
    /// Connections that are refused, for now.
    away: u32,
    /// Subscriptions that fail.
    subscribe: u32,
    /// Whether a subscription never ends.
    subscribe_hangs: bool,
    /// Whether a message never goes out.
    publish_hangs: bool,
    /// Times that what stands for lost events cannot be sent.
    reaches: u32,
    /// Rooms whose lost events were told of.
    reached: BTreeSet<RoomId>,
}

#[derive(Debug, Clone, Default)]
struct Fake(Arc<Mutex<Faults>>);

fn fail(left: &mut u32) -> Result<(), LinkError> {
    if *left == 0 {
        return Ok(());
    }
    *left -= 1;
    Err(LinkError::Away("for now".to_owned()))
}

#[async_trait]
impl Server for Fake {
    async fn connect(&self, _: Inbox) -> Result<Box<dyn Link>, LinkError> {
        fail(&mut self.0.lock().unwrap().away)?;
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Link for Fake {
    fn largest(&self) -> usize {
        1 << 20
    }

    async fn subscribe(&mut self, _: &[RoomId]) -> Result<(), LinkError> {
        if self.0.lock().unwrap().subscribe_hangs {
            std::future::pending::<()>().await;
        }
        fail(&mut self.0.lock().unwrap().subscribe)
    }

    async fn unsubscribe(&mut self, _: &[RoomId]) -> Result<(), LinkError> {
        Ok(())
    }

    async fn publish(&mut self, messages: Vec<(RoomId, Bytes)>) -> Result<(), LinkError> {
        if self.0.lock().unwrap().publish_hangs {
            std::future::pending::<()>().await;
        }
        let mut faults = self.0.lock().unwrap();
        for (room, bytes) in messages {
            if let Ok((_, BusMessage::Reaches(_))) = codec::decode(&bytes) {
                fail(&mut faults.reaches)?;
                faults.reached.insert(room);
            }
        }
        Ok(())
    }

    async fn check(&mut self) -> Result<(), LinkError> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Told(Mutex<Vec<RoomId>>);

impl Subscriber for Told {
    fn deliver(&self, _: &RoomId, _: BusMessage) {}

    fn subscribed(&self, room: &RoomId) {
        self.0.lock().unwrap().push(room.clone());
    }

    fn interrupted(&self) {}
}

fn room(n: usize) -> RoomId {
    RoomId::parse(&format!("room-{n}")).unwrap()
}

fn event() -> BusMessage {
    BusMessage::Log(LogBatch { first: Seq(1), last: Seq(1), frames: Bytes::new(), notes: [].into() })
}

async fn bus_on(faults: Faults) -> (Arc<dyn Bus>, Fake, Arc<Told>) {
    let (server, told) = (Fake(Arc::new(Mutex::new(faults))), Arc::new(Told::default()));
    let bus = RemoteBus::open("fake", server.clone()).await.unwrap();
    bus.attach(Arc::clone(&told) as Arc<dyn Subscriber>);
    (bus, server, told)
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_opened_while_the_bus_is_away_is_told_when_it_is_subscribed_to() {
    let (bus, _, told) = bus_on(Faults { away: 2, subscribe: 2, ..Faults::default() }).await;
    bus.subscribe(&room(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*told.0.lock().unwrap(), [room(1)]);
    bus.subscribe(&room(2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*told.0.lock().unwrap(), [room(1), room(2)]);
    bus.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_does_not_hold_up_the_end() {
    let hanging = [
        Faults { publish_hangs: true, ..Faults::default() },
        Faults { subscribe_hangs: true, away: 1, ..Faults::default() },
        Faults { subscribe_hangs: true, ..Faults::default() },
    ];
    for faults in hanging {
        let (bus, _, _) = bus_on(faults).await;
        bus.subscribe(&room(1));
        bus.publish(&room(1), event());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = Instant::now();
        bus.close().await;
        assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_told_of_however_often_the_connection_is_lost_meanwhile() {
    let (bus, server, _) = bus_on(Faults { away: 1, reaches: 3, ..Faults::default() }).await;
    // More than wait, by more than are sent together.
    (0..10_000).for_each(|n| bus.publish(&room(n), event()));
    let lost = bus.counts().unsent;
    assert!(lost > 1500, "{lost}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(server.0.lock().unwrap().reached.len() as u64, lost);
    bus.close().await;
}
