//! How far a question has come, told to whoever asked: stored, waiting, taken up, or why it will not be answered.
//!
//! Transient: told to the sessions that are here, and lost with whatever a full queue leaves out. Votes and the turns
//! of an autopilot have no receipts, because nobody waits for them.

use crate::{
    bus::{Audience, BusMessage, Transient, TransientContent},
    dispatch::{inner::Inner, job::Job},
    domain::rejection::Rejection,
    ids::{RoomId, UserId},
    wire::{
        reply::{self, Dialect},
        transient::{self, Receipt},
    },
};

/// Tells whoever asked how far a job has come.
pub(super) fn tell(inner: &Inner, job: &Job, receipt: Receipt) {
    if job.is_question() {
        let frame = transient::llm_receipt(job.reply_to, &job.llm_id, job.message_id, receipt);
        publish(inner, &job.room, job.asked_by.as_ref(), frame, TransientContent::Other);
    }
}

/// Tells whoever asked that an LLM was not, and why.
pub(super) fn refuse(inner: &Inner, job: &Job, why: &Rejection) {
    tracing::warn!(room = %job.room, llm = %job.llm_id, %why, "an LLM was not asked");
    inner.autopilots.refused(job, why);
    let message = format!("the LLM {} was not asked: {why}", job.llm_id);
    let rejection = Rejection { message, ..why.clone() };
    tell_of(inner, &job.room, job.asked_by.as_ref(), &rejection);
}

/// Tells a user of the room that what they asked for will not be.
pub(super) fn tell_of(inner: &Inner, room: &RoomId, user: Option<&UserId>, why: &Rejection) {
    let original = reply::error(why, None, Dialect::Original);
    let frame = reply::error(why, None, Dialect::V1);
    publish(inner, room, user, frame, TransientContent::Error { original });
}

fn publish(
    inner: &Inner,
    room: &RoomId,
    user: Option<&UserId>,
    frame: bytes::Bytes,
    content: TransientContent,
) {
    if let Some(user) = user {
        let transient = Transient { frame, audience: Audience::Users([user.clone()].into()), content };
        inner.rooms.registry().bus().publish(room, BusMessage::Transient(transient));
    }
}
