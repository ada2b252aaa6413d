//! Which rooms are being summarised, and when one may be tried again: one task in a room, few on the node.
//!
//! The books only: the tasks are `summarise`. After a failure a room waits, each time twice as long; what is lost with
//! the process, or forgotten because there are too many rooms, is only looked at once more. Nothing here fails.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ids::{RoomId, Seq};

/// Summaries written at the same time on this node: nobody waits for one, and answers need the providers.
const TASKS_MAX: usize = 4;
/// After the first failure nothing is tried in that room for so long; after each further one twice as long, up to
/// the most.
const RETRY: Duration = Duration::from_secs(30);
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// Rooms of which something is remembered. One that is forgotten is only looked at once more.
const KNOWN_MAX: usize = 4096;

/// What is known of the rooms, and which of them are being summarised.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    rooms: Mutex<HashMap<RoomId, Known>>,
    /// Nothing is written any more.
    pub(super) stopped: CancellationToken,
}

#[derive(Debug, Default)]
struct Known {
    running: bool,
    failures: u32,
    not_before: Option<Instant>,
    /// Before this position there is too little to be summarised.
    enough_at: u64,
}

/// What a task has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Everything that was read has a summary.
    All,
    /// So many messages have none, which is too few.
    TooFew(u64),
    /// Something that was read has changed, or the server is going away: the next answer begins again.
    GivenUp,
}

impl Summaries {
    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, Known>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what is being written, and begins nothing more.
    pub(super) fn stop(&self) {
        self.stopped.cancel();
    }

    /// Whether a task for what is before this position may begin; then it has begun.
    pub(super) fn begin(&self, room: &RoomId, before: Seq) -> bool {
        let mut rooms = self.rooms();
        if self.stopped.is_cancelled() || rooms.values().filter(|known| known.running).count() >= TASKS_MAX {
            return false;
        }
        if rooms.len() >= KNOWN_MAX && !rooms.contains_key(room) {
            rooms.retain(|_, known| known.running);
        }
        let known = rooms.entry(room.clone()).or_default();
        let waits = known.not_before.is_some_and(|until| Instant::now() < until);
        if known.running || waits || before.0 < known.enough_at {
            return false;
        }
        known.running = true;
        true
    }

    /// A task has ended, by a failure unless it has come to something; `after` messages are enough for the next one.
    pub(super) fn end(&self, room: &RoomId, before: Seq, after: u64, result: Option<&Written>) {
        let mut rooms = self.rooms();
        let Some(known) = rooms.get_mut(room) else { return };
        known.running = false;
        match result {
            Some(Written::TooFew(found)) => {
                *known = Known { enough_at: before.0 + after.saturating_sub(*found), ..Known::default() };
            }
            Some(Written::All | Written::GivenUp) => {
                rooms.remove(room);
            }
            None => {
                let wait = RETRY.saturating_mul(1 << known.failures.min(16)).min(RETRY_MAX);
                known.failures = known.failures.saturating_add(1);
                known.not_before = Some(Instant::now() + wait);
            }
        }
    }
}
