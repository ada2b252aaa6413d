//! What LLMs are asked and never begin to answer: whoever asked is told why, and who had to vote has abstained. When
//! the process goes away a vote that was not begun is still owed: whoever loads the room next asks for it.
//!
//! Every way by which a job ends without a run leads here. An abstention that the store does not take is tried a few
//! times; behind that the LLM still owes its vote, and is asked again when its room is loaded the next time.

use std::{sync::atomic::Ordering, time::Duration};

use crate::{
    dispatch::{asks, inner::LlmDispatcher, job::Job, receipt},
    domain::{
        command::{Actor, Command},
        rejection::{Code, Rejection},
        room::Room,
    },
};

/// Between two tries to record an abstention when the store fails.
const RETRY: Duration = Duration::from_millis(250);
/// How often it is tried.
const TRIES: usize = 40;

/// Nobody wants the answer any more.
pub(super) fn unwanted(why: impl Into<String>) -> Rejection {
    Rejection::new(Code::ResourceExhausted, why)
}

/// This process asks nobody any more.
pub(super) fn going_away() -> Rejection {
    Rejection::new(Code::Unavailable, "the server is going away")
}

impl LlmDispatcher {
    /// A job will not begin.
    pub(super) fn unasked(&self, job: &Job, why: &Rejection) {
        if job.is_question() {
            receipt::refuse(&self.0, job, why);
        }
        self.abstain(job, why);
    }

    /// The room did not let an answer begin.
    pub(super) fn not_begun(&self, job: &Job, why: &Rejection) {
        match why.code {
            // For a turn of an autopilot that is no failure: what is next follows from the room. Nor is it for a vote
            // that the end of its poll has overtaken.
            Code::NotFound | Code::RoomNotFound | Code::RoomEnded | Code::PollClosed => {
                self.unasked(job, why);
            }
            // Another node was quicker: the vote comes from there.
            Code::AlreadyExists if job.poll_id.is_some() => {
                tracing::debug!(room = %job.room, llm = %job.llm_id, "a vote is asked for already");
            }
            _ => {
                receipt::refuse(&self.0, job, why);
                self.abstain(job, why);
            }
        }
    }

    /// Records that an LLM will not be heard, if it was asked for a vote that it owes.
    pub(super) fn abstain(&self, job: &Job, why: &Rejection) {
        let Some(poll_id) = job.poll_id else {
            return;
        };
        if self.0.draining.load(Ordering::SeqCst) {
            return;
        }
        let (rooms, room) = (self.0.rooms.clone(), job.room.clone());
        let (llm_id, reason) = (job.llm_id.clone(), why.message.clone());
        let abstain = Command::Abstain { poll_id, llm_id, reason };
        self.0.tasks.spawn(async move {
            for _ in 0..TRIES {
                match rooms.submit(&room, Actor::Server, abstain.clone()).await {
                    Err(Rejection { code: Code::Unavailable, .. }) => tokio::time::sleep(RETRY).await,
                    Ok(_) => return,
                    // The room has ended, and has said it of everybody.
                    Err(rejection) => {
                        return tracing::debug!(%room, %rejection, "an abstention was not recorded");
                    }
                }
            }
            tracing::warn!(%room, "an abstention could not be recorded: the store fails");
        });
    }

    /// Asks whoever owes a vote in a room, unless it is about to vote.
    pub(super) fn ask_owed(&self, room: &Room) {
        // Who goes away leaves that to whoever loads the room next.
        if self.0.draining.load(Ordering::SeqCst) {
            return;
        }
        for job in asks::owed(room) {
            if !self.schedule().has_vote(&job) {
                self.ask(&job);
            }
        }
    }
}
