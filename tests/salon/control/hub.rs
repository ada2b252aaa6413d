//! A bus between the servers of one process, of which a test can lose what it likes.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use salon::{
    bus::{Bus, BusMessage, Subscriber},
    ids::RoomId,
    wire::hint::codec::{self, NodeId},
};

type Loses = Box<dyn FnMut(&BusMessage) -> bool + Send>;

/// What the nodes have in common.
#[derive(Default)]
pub struct Hub {
    nodes: Mutex<Vec<Arc<dyn Subscriber>>>,
    loses: Mutex<Option<Loses>>,
    interrupts: AtomicUsize,
}

/// One server's end of it.
#[derive(Debug)]
pub struct HubBus(Arc<Hub>, Mutex<Option<Arc<dyn Subscriber>>>);

impl Hub {
    /// Another node's end.
    pub fn node(self: &Arc<Self>) -> Arc<dyn Bus> {
        Arc::new(HubBus(Arc::clone(self), Mutex::default()))
    }

    /// Of what is sent from now on, this is lost on its way to others.
    pub fn loses(&self, loses: impl FnMut(&BusMessage) -> bool + Send + 'static) {
        *self.loses.lock().unwrap() = Some(Box::new(loses));
    }

    /// How many interrupts were sent, the lost ones included.
    pub fn interrupts(&self) -> usize {
        self.interrupts.load(Ordering::SeqCst)
    }

    fn is_lost(&self, message: &BusMessage) -> bool {
        self.loses.lock().unwrap().as_mut().is_some_and(|loses| loses(message))
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hub")
    }
}

impl Bus for HubBus {
    fn name(&self) -> &'static str {
        "hub"
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn attach(&self, subscriber: Arc<dyn Subscriber>) {
        *self.1.lock().unwrap() = Some(Arc::clone(&subscriber));
        self.0.nodes.lock().unwrap().push(subscriber);
    }

    fn publish(&self, room: &RoomId, message: BusMessage) {
        let own = self.1.lock().unwrap().clone().unwrap();
        let others = self.0.nodes.lock().unwrap().clone();
        own.deliver(room, message.clone());
        if matches!(message, BusMessage::Interrupt(_)) {
            self.0.interrupts.fetch_add(1, Ordering::SeqCst);
        }
        if self.0.is_lost(&message) {
            return;
        }
        // As it comes over a network.
        let bytes = codec::encode(NodeId::random(), room, &message);
        for other in others.iter().filter(|other| !Arc::ptr_eq(other, &own)) {
            let (room, message) = codec::decode(&bytes).unwrap();
            other.deliver(&room, message);
        }
    }
}
