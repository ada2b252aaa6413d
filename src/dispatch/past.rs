//! A room as it was when a question was asked: for an answer that takes the place of another, or answers an edited
//! text. It must not know the answer it replaces, nor what was said because of it.
//!
//! Only messages, their polls and the summary are taken back; people, LLMs and the text of edited messages are those
//! of now. Read from the log, because the question may be old.

use std::collections::VecDeque;

use crate::{
    dispatch::{inner::Inner, job::Job},
    domain::{limits::RECENT_MESSAGES, message::Message, poll::Poll, rejection::Rejection},
    ids::{PollId, Seq},
    store::Direction,
};

/// What was said up to a question, with it.
#[derive(Debug)]
pub(super) struct Past {
    question: Seq,
    messages: VecDeque<Message>,
    polls: Vec<Poll>,
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
    Ok(Past { question, messages: page.messages.into(), polls: page.polls })
}

impl Past {
    /// Oldest first; the question is the last.
    pub(super) fn messages(&self) -> &VecDeque<Message> {
        &self.messages
    }

    /// A poll that one of them announces.
    pub(super) fn poll(&self, id: PollId) -> Option<&Poll> {
        self.polls.iter().find(|poll| poll.id == id)
    }

    /// Whether this poll was there already.
    pub(super) fn knows(&self, poll: &Poll) -> bool {
        // Ids are ordered by time.
        self.messages.back().is_some_and(|question| poll.message_id.0 <= question.id.0)
    }

    /// Where the question is.
    pub(super) fn question(&self) -> Seq {
        self.question
    }
}
