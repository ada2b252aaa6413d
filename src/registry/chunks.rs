//! How the text of answers reaches the sessions of a feed: merged to the pace of each, by one timer for all.
//!
//! The timer is a task that runs only while something waits. What waits is never kept for a session: see
//! [`answers`](super::answers).

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::{
    bus::{LogBatch, Note, Transient},
    domain::llm::LiveAnswer,
    ids::MessageId,
    registry::{
        answers::{Fresh, Telling},
        feed::Feed,
        state::State,
    },
    wire::transient,
};

impl Feed {
    /// Takes more text of an answer. True: somebody must [`Feed::keep_pace`].
    pub(super) fn deliver_chunk(
        &self,
        transient: &Transient,
        (message_id, offset, text): (MessageId, usize, &str),
    ) -> bool {
        let mut state = self.lock();
        state.flush_gathered();
        if !state.answers.add(message_id, offset, text) {
            return false;
        }
        let fresh = Fresh { message_id, offset, text, frame: &transient.frame };
        let tellings = state.answers.due(Instant::now(), Some(fresh));
        state.tell(&tellings);
        match state.answers.next_due() {
            Some(due) => self.wake_at(&mut state, due),
            None => false,
        }
    }

    /// Has what waits told by then. True: somebody must [`Feed::keep_pace`].
    pub(super) fn wake_at(&self, state: &mut State, due: Instant) -> bool {
        match state.timer {
            None => {
                state.timer = Some(due);
                true
            }
            Some(set) => {
                if due < set {
                    state.timer = Some(due);
                    self.sooner.notify_one();
                }
                false
            }
        }
    }

    /// Tells what waits when it is due, until nothing waits.
    pub(super) async fn keep_pace(self: Arc<Self>) {
        while let Some(due) = self.tell_due() {
            tokio::select! {
                biased;
                () = sleep_until(due) => {}
                () = self.sooner.notified() => {}
            }
        }
    }

    /// Tells what is due now, and returns when to come again.
    pub(super) fn tell_due(&self) -> Option<Instant> {
        let mut state = self.lock();
        let now = Instant::now();
        if state.linger.due().is_some_and(|due| due <= now) {
            state.flush_gathered();
        }
        let tellings = state.answers.due(now, None);
        state.tell(&tellings);
        state.timer = [state.answers.next_due(), state.linger.due()].into_iter().flatten().min();
        state.timer
    }
}

impl State {
    fn tell(&self, tellings: &[Telling]) {
        if tellings.is_empty() {
            return;
        }
        for session in self.present.sessions() {
            for telling in tellings.iter().filter(|telling| telling.pace == session.pace) {
                session.outbound.push_transient(&telling.frame);
            }
        }
    }

    /// Tells the rest of the answers that end in this batch, before it. Returns the batch's frames for those who need
    /// not be told again what they were told.
    pub(super) fn end_answers(&mut self, batch: &LogBatch) -> Option<Bytes> {
        let ended = |message_id: &MessageId| batch.notes.contains(&Note::RunEnded(*message_id));
        let ending: Vec<MessageId> =
            self.answers.whole().map(|answer| answer.message_id).filter(ended).collect();
        if ending.is_empty() {
            return None;
        }
        let now = Instant::now();
        for message_id in &ending {
            let tellings = self.answers.rest(now, *message_id);
            self.tell(&tellings);
        }
        if !self.answers.any_compact() {
            return None;
        }
        let told: Vec<&LiveAnswer> =
            self.answers.whole().filter(|answer| ending.contains(&answer.message_id)).collect();
        transient::without_streamed(&batch.frames, &told)
    }
}

#[cfg(test)]
mod tests;
