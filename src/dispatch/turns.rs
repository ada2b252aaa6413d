//! The turns of autopilots that were asked for and have not ended, at most one in a room.
//!
//! Remembers and forgets; who asks for the next turn, and records what a refused one has come to, is `autopilot`.
//! Nothing is written down: what is lost with the process is found anew from the rooms. Nothing here fails.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    dispatch::job::Job,
    domain::{rejection::Rejection, room::Room},
    ids::{AutopilotId, MessageId, RoomId},
};

/// Rooms of which it is remembered that another node drives their autopilot. If all of them are forgotten, a turn may be
/// tried for on two nodes, and is refused on one.
const ELSEWHERE: usize = 16_384;

/// What the driver remembers.
#[derive(Debug, Default)]
pub(super) struct Autopilots {
    /// What a crash has left is tidied up.
    ready: AtomicBool,
    asked: Mutex<HashMap<RoomId, Asked>>,
    /// Rooms whose autopilot another node has moved on or steered last: that one takes the next turn.
    elsewhere: Mutex<HashSet<RoomId>>,
}

/// A turn that was asked for and has not ended.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) autopilot: AutopilotId,
    pub(super) turn: u32,
    pub(super) message_id: MessageId,
    /// Why it was refused.
    pub(super) refused: Option<String>,
}

impl Autopilots {
    pub(super) fn asked(&self) -> MutexGuard<'_, HashMap<RoomId, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another node has moved a room's autopilot on.
    pub(super) fn set_elsewhere(&self, room: &Room) {
        let mut elsewhere = self.elsewhere();
        if room.open_autopilot().is_none() {
            elsewhere.remove(&room.id);
            return;
        }
        if elsewhere.len() >= ELSEWHERE {
            elsewhere.clear();
        }
        elsewhere.insert(room.id.clone());
    }

    /// This node has, or takes it over.
    pub(super) fn set_here(&self, room: &RoomId) {
        self.elsewhere().remove(room);
    }

    /// Whether the next turn is for another node to take.
    pub(super) fn is_elsewhere(&self, room: &RoomId) -> bool {
        self.elsewhere().contains(room)
    }

    fn elsewhere(&self) -> MutexGuard<'_, HashSet<RoomId>> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a crash has left is tidied up from now on.
    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::SeqCst);
    }

    /// Whether what a crash has left is tidied up.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// Keeps why a turn is not taken, until it is over.
    pub(super) fn refused(&self, job: &Job, why: &Rejection) {
        if let Some(asked) =
            self.asked().get_mut(&job.room).filter(|asked| asked.message_id == job.message_id)
        {
            asked.refused = Some(why.message.clone());
        }
    }

    /// The turn that this job was, if it has not ended as a turn.
    pub(super) fn take(&self, job: &Job) -> Option<Asked> {
        let mut asked = self.asked();
        asked.get(&job.room).filter(|asked| asked.message_id == job.message_id)?;
        asked.remove(&job.room)
    }

    /// Forgets the turn of a room that is none any more: it has ended, or its autopilot has.
    pub(super) fn forget(&self, room: &Room) -> Option<Asked> {
        let open = room.open_autopilot();
        let mut asked = self.asked();
        let known = asked.get(&room.id)?;
        let same = open.filter(|autopilot| autopilot.id == known.autopilot);
        if same.is_some_and(|autopilot| known.turn > autopilot.turns) {
            return None;
        }
        let known = asked.remove(&room.id);
        known.filter(|_| same.is_none())
    }
}
