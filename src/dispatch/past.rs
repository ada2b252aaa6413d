//! A room as it was when a question was asked: for an answer that takes the place of another, or answers an edited
//! text. It must not know the answer it replaces, nor what was said because of it.
//!
//! Only messages, their polls and the summary are taken back; people, LLMs and the text of edited messages are those
//! of now. Read from the log, because the question may be old.

use crate::{
    dispatch::{Inner, Job},
    domain::{limits::RECENT_MESSAGES, poll::Poll, rejection::Rejection, room::Room},
    ids::Seq,
    rooms::history::HistoryPage,
    store::Direction,
};

/// What was said up to a question, with it.
#[derive(Debug)]
pub(super) struct Past {
    question: Seq,
    page: HistoryPage,
}

/// Where what an answer may know ends: behind the question, if it looks at the room as it was then.
pub(super) async fn end(inner: &Inner, job: &Job) -> Result<Seq, Rejection> {
    if job.at_question { Ok(question(inner, job).await?.next()) } else { Ok(Seq(u64::MAX)) }
}

async fn question(inner: &Inner, job: &Job) -> Result<Seq, Rejection> {
    let question = inner.rooms.message(&job.room, job.reply_to).await?;
    Ok(question.ok_or_else(|| Rejection::not_found("message", job.reply_to))?.seq)
}

/// Reads what was said up to the message that asks.
pub(super) async fn up_to_question(inner: &Inner, job: &Job) -> Result<Past, Rejection> {
    let question = question(inner, job).await?;
    let page = inner.rooms.history(&job.room, Direction::Before(question.next()), RECENT_MESSAGES).await?;
    Ok(Past { question, page })
}

impl Past {
    /// `room` with only this said in it.
    pub(super) fn of(self, room: &Room) -> Room {
        let is_open = |poll: &Poll| poll.is_open() && poll.message_id.0 <= self.last();
        let open = room.polls.values().filter(|poll| is_open(poll)).cloned().map(|poll| (poll.id, poll));
        let shown = self.page.polls.iter().cloned().map(|poll| (poll.id, poll));
        Room {
            polls: shown.chain(open).collect(),
            summary: room.summary.clone().filter(|summary| summary.up_to <= self.question),
            recent: self.page.messages.into(),
            ..room.clone()
        }
    }

    /// The id of the question: ids are ordered by time.
    fn last(&self) -> uuid::Uuid {
        self.page.messages.last().map_or(uuid::Uuid::nil(), |message| message.id.0)
    }
}
