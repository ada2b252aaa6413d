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
    way: Mutex<Way<(RoomId, BusMessage)>>,
}

/// A way on which things are lost, repeated and overtaken; the same ones for the same seed.
#[derive(Debug)]
pub(super) struct Way<T> {
    faults: Faults,
    random: u64,
    held: VecDeque<T>,
}

/// Messages held back at most: the oldest is then delivered.
const HELD: usize = 4;

impl LossyBus {
    /// A bus whose faults repeat for the same seed and the same messages.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self { subscriber: OnceLock::new(), way: Mutex::new(Way::new(seed, faults)) }
    }
}

impl<T: Clone> Way<T> {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        // An xorshift generator must not begin at zero.
        Self { faults, random: seed | 1, held: VecDeque::new() }
    }

    /// Sends something; returns what arrives now.
    pub(super) fn pass(&mut self, sent: T) -> Vec<T> {
        let mut due = Vec::new();
        if !self.happens(self.faults.drop) {
            if self.happens(self.faults.repeat) {
                due.push(sent.clone());
            }
            if self.happens(self.faults.delay) {
                self.held.push_back(sent);
            } else {
                due.push(sent);
            }
        }
        // What is held comes out behind something later, which reorders it.
        while self.held.len() > HELD || (!self.held.is_empty() && self.happens(64)) {
            due.extend(self.held.pop_front());
        }
        due
    }

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
        let sent = (room.clone(), message);
        let due = self.way.lock().unwrap_or_else(PoisonError::into_inner).pass(sent);
        for (room, message) in due {
            subscriber.deliver(&room, message);
        }
    }
}
