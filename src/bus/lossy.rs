//! A bus that keeps no more than the contract: it drops, repeats and reorders. For tests of what delivery does
//! about it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::{
    bus::{Bus, BusMessage, Subscriber},
    ids::RoomId,
};

/// How badly a [`LossyBus`] behaves, each as a share of 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Never delivered.
    pub drop: u8,
    /// Delivered twice.
    pub repeat: u8,
    /// Held back behind up to four later ones.
    pub delay: u8,
}

/// Misbehaves in a way that a seed decides.
#[derive(Debug)]
pub struct LossyBus {
    subscriber: OnceLock<Arc<dyn Subscriber>>,
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: u64,
    held: VecDeque<(RoomId, BusMessage)>,
}

/// Messages held back at most: the oldest is then delivered.
const HELD: usize = 4;

impl LossyBus {
    /// A bus whose faults repeat for the same seed and the same messages.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            subscriber: OnceLock::new(),
            faults,
            // An xorshift generator must not begin at zero.
            state: Mutex::new(State { random: seed | 1, held: VecDeque::new() }),
        }
    }
}

impl State {
    /// Whether something with a share of `share` in 256 happens now.
    fn happens(&mut self, share: u8) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let [byte, ..] = (self.random >> 24).to_le_bytes();
        byte < share
    }
}

impl Bus for LossyBus {
    fn name(&self) -> &'static str {
        "lossy"
    }

    fn is_reliable(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn attach(&self, subscriber: Arc<dyn Subscriber>) {
        let _ = self.subscriber.set(subscriber);
    }

    fn publish(&self, room: &RoomId, message: BusMessage) {
        let Some(subscriber) = self.subscriber.get() else {
            return;
        };
        let due = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut due = Vec::new();
            if !state.happens(self.faults.drop) {
                if state.happens(self.faults.repeat) {
                    due.push((room.clone(), message.clone()));
                }
                if state.happens(self.faults.delay) {
                    state.held.push_back((room.clone(), message));
                } else {
                    due.push((room.clone(), message));
                }
            }
            // What is held comes out behind something later, which reorders it.
            while state.held.len() > HELD || (!state.held.is_empty() && state.happens(64)) {
                due.extend(state.held.pop_front());
            }
            due
        };
        for (room, message) in due {
            subscriber.deliver(&room, message);
        }
    }
}
