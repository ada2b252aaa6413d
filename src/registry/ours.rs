//! What this node tells others of one room, until it is published.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    ids::NodeId,
    wire::hint::presence::{PresenceHint, Said},
};

/// How long a node that has taken up a room waits for what others say before it judges who came last. Longer than a
/// renewal and two looks: when its question is lost, it asks those again whose renewals it hears.
pub(super) const SETTLING: Duration = Duration::from_secs(7);
/// How long a call that shows who is here waits, on a node that has just taken up the room, for others to answer: a
/// round trip over a bus takes a few milliseconds, and a subscription as long.
const ANSWERS_WAIT: Duration = Duration::from_millis(250);
/// What waits to be published; beyond it is as lost as on a bus. It is taken out behind every change.
const WAITING: usize = 8192;

/// What this node tells others of one room.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) node: NodeId,
    pub(super) opening: u64,
    /// Changes so far.
    pub(super) version: u64,
    pub(super) waiting: Vec<PresenceHint>,
    /// What was told when nothing had changed the last time.
    pub(super) renewed: u64,
    pub(super) renew_at: Instant,
    /// When everybody was told the last time.
    pub(super) answered: Option<Instant>,
    /// Whether members were shown then.
    pub(super) answered_one_by_one: Option<bool>,
    /// Somebody waits for an answer.
    pub(super) asked: bool,
    /// `Some`: others may be here of whom nothing is known yet, until then.
    pub(super) settled_at: Option<Instant>,
    pub(super) is_subscribed: bool,
    /// Whoever could answer has answered.
    pub(super) answered_at: Instant,
    pub(super) is_closed: bool,
}

impl Ours {
    pub(super) fn new(node: NodeId, opening: u64) -> Self {
        let now = Instant::now();
        Self {
            node,
            opening,
            version: 0,
            waiting: Vec::new(),
            renewed: 0,
            // Rooms that are opened together are not renewed together.
            renew_at: now + Duration::from_secs(1 + opening % 4),
            answered: None,
            answered_one_by_one: None,
            asked: false,
            settled_at: Some(now + SETTLING),
            is_subscribed: false,
            answered_at: now + ANSWERS_WAIT,
            is_closed: false,
        }
    }

    pub(super) fn say(&mut self, said: Said) {
        if !self.is_closed && self.waiting.len() < WAITING {
            let Self { node, opening, version, .. } = *self;
            self.waiting.push(PresenceHint { node, opening, version, said });
        }
    }
}
