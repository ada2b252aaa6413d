//! The bus of a single node: a call.

use std::sync::{Arc, OnceLock};

use crate::{
    bus::{Bus, BusMessage, Subscriber},
    ids::RoomId,
};

/// Delivers within the process, at once and in order.
#[derive(Debug, Default)]
pub struct LocalBus {
    subscriber: OnceLock<Arc<dyn Subscriber>>,
}

impl Bus for LocalBus {
    fn name(&self) -> &'static str {
        "local"
    }

    fn is_reliable(&self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn attach(&self, subscriber: Arc<dyn Subscriber>) {
        // A second subscriber would be a fault in the composition root; the first one stays.
        let _ = self.subscriber.set(subscriber);
    }

    fn publish(&self, room: &RoomId, message: BusMessage) {
        if let Some(subscriber) = self.subscriber.get() {
            subscriber.deliver(room, message);
        }
    }
}
