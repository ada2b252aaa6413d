//! Answers of this node and what happens on others; answers of others and who is here.
//!
//! Who acts when: the node that has committed something is the one that acts on it. It asks the LLMs that a message
//! calls, asks for votes, answers anew what was asked again, and takes the next turn of an autopilot that it has moved
//! on or steered last. A node that learns of it only ends what it ends: an answer whose end others have recorded, that
//! is not wanted any more, or whose question has another text now; and it tells a call that waits what was decided.
//! Nothing begins because of what others have committed.
//!
//! Where two nodes want the same nevertheless (a person steers an autopilot between two turns), the room decides: a
//! turn begins once and a vote is asked for once, and who comes second is refused and looks again. An answer that
//! another node writes to a text that was edited here is asked for again when it has ended, in its place in the
//! [`super::schedule`].
//!
//! **Interrupts** go to every node over the bus, which may lose them: they are sent again until the answers that were
//! open have ended, [`REPEATS`] times at most. They say how far the room was known, so that what is asked for later is
//! never meant, however late one arrives. An answer of which nobody outside of its node knows, because it has not begun,
//! is ended as well, but whoever asked is only told of those that were found.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    bus::{BusMessage, Interrupt},
    dispatch::{
        asks::{self, Wish},
        inner::LlmDispatcher,
        job::Job,
        unasked,
    },
    domain::{
        event::{Event, Recorded},
        message::Message,
        rejection::{Code, Rejection},
        room::Room,
    },
    ids::{LlmId, MessageId, RoomId, Seq, UserId},
    registry::Interruptible,
    rooms::task::{Done, Reply},
};

/// Between two tries to reach the node that writes an answer.
const REPEAT: Duration = Duration::from_secs(1);
/// How often an interrupt is sent: behind that its node is gone, and others end what it has left.
const REPEATS: u32 = 10;

impl LlmDispatcher {
    /// What others have committed: ends, never beginnings.
    pub(super) fn follow(&self, room: &Room, events: &[Recorded]) {
        for wish in asks::of_others(room, events) {
            match wish {
                Wish::Ended(run) => {
                    let why = unasked::unwanted("its end was recorded by another server");
                    self.stop(&room.id, &why, |job| job.message_id == run);
                    self.has_ended(&room.id, run);
                }
                Wish::Redo(question) => self.leave_to_others(room, question),
                Wish::Newer(question) => self.newer(&room.id, question),
                other => self.grant(room, other),
            }
        }
        if events.iter().any(|recorded| matches!(recorded.event, Event::AutopilotChanged(_))) {
            self.0.autopilots.set_elsewhere(room);
            self.forget_turn(room);
        }
    }

    /// Whoever has edited a question asks for all the answers to it that are known there: if the question is not in the
    /// room's memory any more, for those that have begun. What has not is asked here, and of the text as it is now.
    fn leave_to_others(&self, room: &Room, question: MessageId) {
        let edited = unasked::unwanted("the question was edited");
        let is_known = room.recent_message(question).is_some();
        {
            let mut schedule = self.schedule();
            // Nobody is told: they are answered, by another node.
            for run in room.runs.values().filter(|run| run.reply_to == question) {
                drop(schedule.take_behind(&room.id, run.message_id));
            }
            drop(schedule.stop(&room.id, &edited, |job| {
                let is_asked = is_known || room.runs.contains_key(&job.message_id);
                is_asked && job.is_question() && job.reply_to == question
            }));
        }
        self.begin();
    }

    /// The LLMs whose answers to `question` other nodes write: they are asked again when those have ended.
    pub(super) fn ask_behind_others(&self, room: &Room, question: &Message) -> Vec<LlmId> {
        let mut asked = Vec::new();
        for run in room.runs.values() {
            let is_question = run.poll_id.is_none() && run.turn.is_none() && run.reply_to == question.id;
            if !is_question || self.schedule().has(&room.id, run.message_id) {
                continue;
            }
            let job = Job {
                chain_depth: run.chain_depth,
                replaces: run.replaces,
                asked_by: question.author.user().cloned(),
                model: run.model.clone(),
                at_question: true,
                ..Job::new(room, run.llm_id.clone(), question.id)
            };
            asked.push(run.llm_id.clone());
            self.schedule().ask_behind(run.message_id, job);
        }
        asked
    }

    /// An answer has ended, of whichever node.
    pub(super) fn has_ended(&self, room: &RoomId, run: MessageId) {
        for job in self.schedule().take_behind(room, run) {
            let dispatcher = self.clone();
            self.0.tasks.spawn(async move { dispatcher.ask_again(run, job).await });
        }
    }

    /// Stops answers of a room, on whichever node they are written: of one LLM or all, or one answer. Those of this
    /// node at once; `reply` is told when it is known which others there are.
    pub fn interrupt(
        &self,
        room: &RoomId,
        llm: Option<LlmId>,
        message: Option<MessageId>,
        by: UserId,
        reply: Reply,
    ) {
        let interrupt = Interrupt { llm, message, by, up_to: Seq(u64::MAX) };
        let stopped = self.interrupt_here(room, &interrupt);
        if !self.0.rooms.registry().bus().is_shared() {
            return reply.send(found(stopped > 0));
        }
        let (dispatcher, room) = (self.clone(), room.clone());
        self.0.tasks.spawn(async move {
            let Some((sent, open)) = dispatcher.interrupt_others(&room, interrupt, stopped > 0, reply).await
            else {
                return;
            };
            // Whoever goes away answers, and has sent it once: only the repeats hold nobody up.
            let leaving = dispatcher.0.leaving.clone();
            leaving.run_until_cancelled(dispatcher.repeat(&room, &sent, open)).await;
        });
    }

    /// Sends an interrupt to other nodes, and tells whoever asked; returns what was sent, and the answers that it is for.
    async fn interrupt_others(
        &self,
        room: &RoomId,
        interrupt: Interrupt,
        stopped: bool,
        reply: Reply,
    ) -> Option<(Interrupt, Vec<MessageId>)> {
        let meant = interrupt.clone();
        let look = move |room: &Room, _: &_| {
            let meant = room.runs.values().filter(|run| meant.names(&run.llm_id, run.message_id));
            (room.seq, meant.map(|run| run.message_id).collect::<Vec<_>>())
        };
        let (seq, open) = match self.0.rooms.read_latest(room, look).await {
            Ok(seen) => seen,
            Err(rejection) => {
                reply.send(if stopped { found(true) } else { Err(rejection) });
                return None;
            }
        };
        let interrupt = Interrupt { up_to: seq, ..interrupt };
        self.publish(room, &interrupt);
        reply.send(found(stopped || !open.is_empty()));
        Some((interrupt, self.of_others(room, open)))
    }

    /// Sends an interrupt again until the answers have ended.
    async fn repeat(&self, room: &RoomId, interrupt: &Interrupt, mut open: Vec<MessageId>) {
        for _ in 1..REPEATS {
            if open.is_empty() {
                return;
            }
            sleep(REPEAT).await;
            let left = move |room: &Room, _: &_| {
                open.into_iter().filter(|run| room.runs.contains_key(run)).collect::<Vec<_>>()
            };
            match self.0.rooms.read_latest(room, left).await {
                Ok(left) => open = left,
                // The room is gone, or cannot be read: then its ends cannot be written either.
                Err(_) => return,
            }
            if !open.is_empty() {
                self.publish(room, interrupt);
            }
        }
        if !open.is_empty() {
            tracing::warn!(%room, answers = open.len(), "no server was found that writes them: they were not interrupted");
        }
    }

    fn publish(&self, room: &RoomId, interrupt: &Interrupt) {
        self.0.rooms.registry().bus().publish(room, BusMessage::Interrupt(interrupt.clone()));
    }

    /// Those that are not written here.
    fn of_others(&self, room: &RoomId, runs: Vec<MessageId>) -> Vec<MessageId> {
        let schedule = self.schedule();
        runs.into_iter().filter(|run| !schedule.has(room, *run)).collect()
    }

    /// Stops those of this node; returns how many. What they have said is kept.
    fn interrupt_here(&self, room: &RoomId, interrupt: &Interrupt) -> usize {
        let why = unasked::unwanted(format!("interrupted by {}", interrupt.by));
        let mut stopped = self.schedule().stop(room, &why, |job| {
            job.asked_at <= interrupt.up_to && interrupt.names(&job.llm_id, job.message_id)
        });
        // What was to be asked behind an answer of another node is not, if that answer was not wanted.
        if let Some(run) = interrupt.message {
            stopped.forgone.extend(self.schedule().take_behind(room, run));
        }
        // Nothing else tells an autopilot that a turn which has not begun is not wanted: it would ask for it anew.
        stopped.dropped.iter().for_each(|job| self.0.autopilots.refused(job, &why));
        self.gone(&stopped, &why);
        stopped.running + stopped.dropped.len()
    }
}

impl Interruptible for LlmDispatcher {
    fn interrupted(&self, room: &RoomId, interrupt: &Interrupt) {
        let stopped = self.interrupt_here(room, interrupt);
        if stopped > 0 {
            tracing::debug!(%room, by = %interrupt.by, stopped, "answers were interrupted");
        }
    }
}

/// What whoever interrupts is told.
fn found(any: bool) -> Result<Done, Rejection> {
    if any {
        return Ok(Done::NOTHING);
    }
    Err(Rejection::new(Code::NotFound, "no such answer is running in this room"))
}
