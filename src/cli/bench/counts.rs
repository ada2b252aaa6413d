//! What was counted of a load of messages.

use std::collections::BTreeMap;

use super::figures::Times;

/// See the module.
#[derive(Debug)]
pub(super) struct Counts {
    /// Messages that were due while it was measured.
    pub sent: u64,
    /// Those of them that were acknowledged.
    pub acknowledged: u64,
    /// Those of them that were refused.
    pub refused: u64,
    /// Acknowledgements and refusals of all times.
    pub answered: u64,
    /// All refusals, with their codes, and what was said of the first of each.
    pub codes: BTreeMap<String, (u64, String)>,
    /// Deliveries of the messages that were due while it was measured.
    pub deliveries: u64,
    /// Messages that came again.
    pub duplicated: u64,
    /// Messages that came behind a later one of their sender, and events that came behind a later one of the room.
    pub inversions: u64,
    /// Messages of other rooms, what nobody has said, and what was refused and told all the same.
    pub astray: u64,
    /// Sessions that ended, by the reason.
    pub ended: BTreeMap<String, u64>,
    /// From when a message was due until it was delivered.
    pub latency: Times,
    /// From when a message was due until it was acknowledged.
    pub ack: Times,
    /// From when a message was due until it was handed to the connection.
    pub behind: Times,
}

impl Counts {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            sent: 0,
            acknowledged: 0,
            refused: 0,
            answered: 0,
            codes: BTreeMap::new(),
            deliveries: 0,
            duplicated: 0,
            inversions: 0,
            astray: 0,
            ended: BTreeMap::new(),
            latency: Times::new(),
            ack: Times::new(),
            behind: Times::new(),
        }
    }

    /// All refusals.
    pub(super) fn refusals(&self) -> u64 {
        self.codes.values().map(|(count, _)| count).sum()
    }

    /// All sessions that ended.
    pub(super) fn ends(&self) -> u64 {
        self.ended.values().sum()
    }
}
