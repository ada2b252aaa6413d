//! Which answer begins next: a queue for each room, and a line of rooms for the slots of this node.
//!
//! Pure: it starts nothing and waits for nothing. A room's queue is bounded, and a room stands in the line at most
//! once, so that whoever asks most gets no more than their turn: the line ([`Line`]) is fair over namespaces, and over
//! the rooms of each. A run that waits for a person gives its slot back meanwhile; to go on it
//! stands in the same line, before what has not begun in its room.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::Notify;

use crate::{
    dispatch::{
        job::{Job, Stop},
        line::Line,
    },
    domain::{rejection::Rejection, settings::TurnPolicy},
    ids::{LlmId, MessageId, Namespace, RoomId},
    rooms::Used,
};

/// How many answers there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots {
    /// At the same time in one room.
    pub(super) per_room: usize,
    /// Waiting in one room, beside those.
    pub(super) queue_per_room: usize,
    /// At the same time on this node.
    pub(super) per_node: usize,
}

/// The answers that run and wait on this node.
#[derive(Debug)]
pub(super) struct Schedule {
    slots: Slots,
    rooms: HashMap<RoomId, RoomRuns>,
    /// Rooms in which something can begin as soon as a slot is free.
    line: Line,
    running: usize,
}

#[derive(Debug, Default)]
struct RoomRuns {
    active: Vec<Active>,
    waiting: VecDeque<Job>,
    /// Runs that have given back their slots and want to go on, in their order, and how they are told that they may.
    returning: VecDeque<(MessageId, Arc<Notify>)>,
    /// What is asked when an answer that another node writes has ended.
    behind: Vec<(MessageId, Job)>,
    in_line: bool,
}

/// A run that has its own task.
#[derive(Debug)]
struct Active {
    job: Job,
    stop: Stop,
    /// It may call models; false: it waits for a person, or for a slot behind that.
    has_slot: bool,
    /// What is asked when it has ended.
    again: Option<Job>,
}

/// What became of answers that were not wanted any more.
#[derive(Debug, Default)]
pub(super) struct Stopped {
    /// How many that ran are told to end.
    pub(super) running: usize,
    /// Those that waited, and will not begin.
    pub(super) dropped: Vec<Job>,
    /// Those that were to be asked behind one that ran, and will not be.
    pub(super) forgone: Vec<Job>,
}

impl Schedule {
    /// Nothing runs.
    pub(super) fn new(slots: Slots) -> Self {
        Self { slots, rooms: HashMap::new(), line: Line::default(), running: 0 }
    }

    /// Lets a job wait for its turn, which may come at once: returns how many answers of its room are before it. If
    /// the queue of its room is full, an error says how many wait. Those that wait for a person take no place in it.
    pub(super) fn ask(&mut self, job: Job) -> Result<usize, usize> {
        let room = job.room.clone();
        let runs = self.rooms.entry(room.clone()).or_default();
        let busy = runs.busy();
        if busy + runs.waiting.len() >= self.slots.per_room + self.slots.queue_per_room {
            return Err(runs.waiting.len());
        }
        // Whoever speaks in turn waits for those as well.
        let in_turn = job.is_spoken() && job.policy == TurnPolicy::Sequential;
        let ahead = if in_turn { runs.active.len() } else { busy };
        let before = ahead + runs.waiting.len();
        runs.waiting.push_back(job);
        let at_once = runs.startable(self.slots.per_room) == Some(runs.waiting.len() - 1);
        self.line_up(&room);
        Ok(if at_once { 0 } else { before })
    }

    /// The job that begins now, if one may; runs that may go on before it are told so.
    pub(super) fn next(&mut self) -> Option<(Job, Stop)> {
        while self.running < self.slots.per_node {
            let room = self.line.pop()?;
            let Some(runs) = self.rooms.get_mut(&room) else {
                continue;
            };
            runs.in_line = false;
            if runs.go_on(self.slots.per_room) {
                self.running += 1;
                self.line.begun(&room);
                self.line_up(&room);
                continue;
            }
            let next = runs.startable(self.slots.per_room).and_then(|at| runs.waiting.remove(at));
            if let Some(job) = next {
                let stop = Stop::default();
                runs.active.push(Active {
                    job: job.clone(),
                    stop: stop.clone(),
                    has_slot: true,
                    again: None,
                });
                self.running += 1;
                self.line.begun(&room);
                self.line_up(&room);
                return Some((job, stop));
            }
        }
        None
    }

    /// Forgets a run that has ended; returns what is to be asked behind it.
    pub(super) fn finished(&mut self, room: &RoomId, message_id: MessageId) -> Option<Job> {
        let runs = self.rooms.get_mut(room)?;
        let at = runs.active.iter().position(|active| active.job.message_id == message_id)?;
        let ended = runs.active.swap_remove(at);
        runs.returning.retain(|(id, _)| *id != message_id);
        if ended.has_slot {
            self.running = self.running.saturating_sub(1);
            self.line.ended(room);
        }
        self.line_up(room);
        ended.again
    }

    /// A run waits for a person: others may have its slot.
    pub(super) fn give_back(&mut self, room: &RoomId, message_id: MessageId) {
        let active = self.rooms.get_mut(room).and_then(|runs| runs.active(message_id));
        if active.is_some_and(|active| std::mem::take(&mut active.has_slot)) {
            self.running = self.running.saturating_sub(1);
            self.line.ended(room);
            self.line_up(room);
        }
    }

    /// A run that has given back its slot wants to go on: it is told when it may. `None`: it may at once.
    pub(super) fn take_back(&mut self, room: &RoomId, message_id: MessageId) -> Option<Arc<Notify>> {
        let runs = self.rooms.get_mut(room)?;
        if runs.active(message_id)?.has_slot {
            return None;
        }
        let turn = Arc::new(Notify::new());
        runs.returning.push_back((message_id, Arc::clone(&turn)));
        self.line_up(room);
        Some(turn)
    }

    /// Puts a room into the line if something of it can begin, and forgets one that has nothing.
    fn line_up(&mut self, room: &RoomId) {
        let Some(runs) = self.rooms.get_mut(room) else {
            return;
        };
        if !runs.in_line && runs.wants_slot(self.slots.per_room) {
            runs.in_line = true;
            self.line.push(room.clone());
        } else if runs.active.is_empty() && runs.waiting.is_empty() && runs.behind.is_empty() {
            // Its queue may have been emptied while it stood in the line.
            if self.rooms.remove(room).is_some_and(|runs| runs.in_line) {
                self.line.remove(room);
            }
        }
    }

    /// Ends answers of a room, also those that have not begun.
    pub(super) fn stop(&mut self, room: &RoomId, why: &Rejection, which: impl Fn(&Job) -> bool) -> Stopped {
        let Some(runs) = self.rooms.get_mut(room) else {
            return Stopped::default();
        };
        let (dropped, kept): (Vec<Job>, Vec<Job>) = runs.waiting.drain(..).partition(|job| which(job));
        runs.waiting = kept.into();
        let (mut running, mut forgone) = (0, Vec::new());
        forgone.extend(runs.behind.extract_if(.., |(_, job)| which(job)).map(|(_, job)| job));
        for active in runs.active.iter_mut().filter(|active| which(&active.job)) {
            active.stop.stop(why);
            forgone.extend(active.again.take());
            running += 1;
        }
        self.line_up(room);
        Stopped { running, dropped, forgone }
    }

    /// The text of a question has changed: answers that are being written to it end, and are asked for again when
    /// they have. Returns the LLMs that will answer the text as it is now.
    pub(super) fn again(
        &mut self,
        room: &RoomId,
        question: MessageId,
        why: &Rejection,
        again: impl Fn(&Job) -> Job,
    ) -> Vec<LlmId> {
        let Some(runs) = self.rooms.get_mut(room) else {
            return Vec::new();
        };
        let about = |job: &Job| job.is_question() && job.reply_to == question;
        for active in runs.active.iter_mut().filter(|active| about(&active.job)) {
            active.stop.stop(why);
            active.again = Some(again(&active.job));
        }
        let jobs = runs.active.iter().map(|active| &active.job).chain(&runs.waiting);
        jobs.filter(|job| about(job)).map(|job| job.llm_id.clone()).collect()
    }

    /// Keeps what is asked when an answer of another node has ended, in the place of what was to be asked before.
    pub(super) fn ask_behind(&mut self, run: MessageId, job: Job) {
        let behind = &mut self.rooms.entry(job.room.clone()).or_default().behind;
        behind.retain(|(other, _)| *other != run);
        behind.push((run, job));
    }

    /// What is to be asked behind an answer of another node, which has ended.
    pub(super) fn take_behind(&mut self, room: &RoomId, run: MessageId) -> Vec<Job> {
        let Some(runs) = self.rooms.get_mut(room).filter(|runs| !runs.behind.is_empty()) else {
            return Vec::new();
        };
        let taken = runs.behind.extract_if(.., |(behind, _)| *behind == run).map(|(_, job)| job).collect();
        self.line_up(room);
        taken
    }

    /// Whether an answer is written here, or waits for its turn.
    pub(super) fn has(&self, room: &RoomId, message_id: MessageId) -> bool {
        self.rooms.get(room).is_some_and(|runs| {
            let mut jobs = runs.active.iter().map(|active| &active.job).chain(&runs.waiting);
            jobs.any(|job| job.message_id == message_id)
        })
    }

    /// Whether anything of a room runs or waits here.
    pub(super) fn knows(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// Forgets all that waits; returns it.
    pub(super) fn clear_waiting(&mut self) -> Vec<Job> {
        let mut dropped = Vec::new();
        self.rooms.retain(|_, runs| {
            dropped.extend(runs.waiting.drain(..));
            dropped.extend(runs.behind.drain(..).map(|(_, job)| job));
            runs.in_line &= !runs.returning.is_empty();
            !runs.active.is_empty()
        });
        let rooms = &self.rooms;
        self.line.retain(|room| rooms.get(room).is_some_and(|runs| runs.in_line));
        dropped
    }

    /// Ends all that runs; returns what was to be asked behind it.
    pub(super) fn stop_all(&mut self, why: &Rejection) -> Vec<Job> {
        let mut forgone = Vec::new();
        for active in self.rooms.values_mut().flat_map(|runs| &mut runs.active) {
            active.stop.stop(why);
            forgone.extend(active.again.take());
        }
        forgone
    }

    /// What a run has used so far; `None`: there is no such run.
    pub(super) fn used(&self, room: &RoomId, message_id: MessageId) -> Option<Used> {
        let mut active = self.rooms.get(room)?.active.iter();
        active.find(|active| active.job.message_id == message_id).map(|active| active.stop.used())
    }

    /// Whether this LLM is about to vote in this poll.
    pub(super) fn has_vote(&self, vote: &Job) -> bool {
        let same = |job: &Job| job.poll_id == vote.poll_id && job.llm_id == vote.llm_id;
        self.rooms.get(&vote.room).is_some_and(|runs| {
            runs.waiting.iter().chain(runs.active.iter().map(|active| &active.job)).any(same)
        })
    }

    /// How many run or wait in a namespace.
    pub(super) fn count_in(&self, namespace: &Namespace) -> usize {
        let within = |room: &RoomId| match room.as_str().split_once('/') {
            Some((prefix, _)) => prefix == namespace.as_str(),
            None => namespace.is_default(),
        };
        let runs = self.rooms.iter().filter(|(room, _)| within(room)).map(|(_, runs)| runs);
        runs.map(|runs| runs.active.len() + runs.waiting.len() + runs.behind.len()).sum()
    }

    /// How many run or wait.
    pub(super) fn count(&self) -> usize {
        self.rooms.values().map(|runs| runs.active.len() + runs.waiting.len() + runs.behind.len()).sum()
    }
}

impl RoomRuns {
    fn active(&mut self, message_id: MessageId) -> Option<&mut Active> {
        self.active.iter_mut().find(|active| active.job.message_id == message_id)
    }

    /// How many of it run.
    fn running(&self) -> usize {
        self.active.iter().filter(|active| active.has_slot).count()
    }

    /// How many of it run or wait for a slot to go on, and not for a person.
    fn busy(&self) -> usize {
        self.running() + self.returning.len()
    }

    /// Whether the room has a place for one more, apart from the node.
    fn has_place(&self, per_room: usize) -> bool {
        self.running() < per_room
    }

    /// Whether something of it goes on or begins as soon as it gets a slot.
    fn wants_slot(&self, per_room: usize) -> bool {
        (!self.returning.is_empty() && self.has_place(per_room)) || self.startable(per_room).is_some()
    }

    /// Lets the first of those go on that have given back their slots, if one may.
    fn go_on(&mut self, per_room: usize) -> bool {
        if !self.has_place(per_room) {
            return false;
        }
        let Some((message_id, turn)) = self.returning.pop_front() else {
            return false;
        };
        if let Some(active) = self.active(message_id) {
            active.has_slot = true;
        }
        turn.notify_one();
        true
    }

    /// The first of those that wait which may begin as far as the room goes.
    ///
    /// Votes do not take turns: they neither wait for answers nor hold them up. What was asked while the room spoke
    /// one after the other waits until nobody speaks, and for those before it, also while they wait for a person; what
    /// was asked under another policy waits for neither.
    fn startable(&self, per_room: usize) -> Option<usize> {
        if !self.has_place(per_room) {
            return None;
        }
        let mut spoken = self.active.iter().any(|active| active.job.is_spoken());
        self.waiting.iter().position(|job| {
            let its_turn = !spoken || !job.is_spoken() || job.policy != TurnPolicy::Sequential;
            spoken |= job.is_spoken();
            its_turn
        })
    }
}

#[cfg(test)]
mod tests;
