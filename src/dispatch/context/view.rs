//! A room as an LLM looks at it: as it is now, or as it was at a question. Borrows; of a room nothing is copied that is
//! not told.

use std::collections::VecDeque;

use crate::{
    dispatch::past::Past,
    domain::{message::Message, poll::Poll, room::Room, summary::Summary},
    ids::{MessageId, PollId},
};

/// A room, and what of it was there already.
#[derive(Debug, Clone, Copy)]
pub(in crate::dispatch) struct View<'a> {
    /// People, LLMs and settings, which are those of now.
    pub(super) room: &'a Room,
    past: Option<&'a Past>,
}

impl<'a> From<&'a Room> for View<'a> {
    fn from(room: &'a Room) -> Self {
        Self { room, past: None }
    }
}

impl<'a> View<'a> {
    /// `room` with only this said in it.
    pub(in crate::dispatch) fn of_past(room: &'a Room, past: &'a Past) -> Self {
        Self { room, past: Some(past) }
    }

    /// The last messages, oldest first.
    pub(super) fn recent(self) -> &'a VecDeque<Message> {
        self.past.map_or(&self.room.recent, Past::messages)
    }

    /// One of the last messages.
    pub(super) fn recent_message(self, id: MessageId) -> Option<&'a Message> {
        self.recent().iter().rev().find(|message| message.id == id)
    }

    /// A poll that could be seen.
    pub(super) fn poll(self, id: PollId) -> Option<&'a Poll> {
        match self.past {
            None => self.room.polls.get(&id),
            Some(past) => self.open_polls().find(|poll| poll.id == id).or_else(|| past.poll(id)),
        }
    }

    /// The polls that take votes.
    pub(super) fn open_polls(self) -> impl Iterator<Item = &'a Poll> {
        self.room.open_polls().filter(move |poll| self.past.is_none_or(|past| past.knows(poll)))
    }

    /// What is known of what is older.
    pub(super) fn summary(self) -> Option<&'a Summary> {
        match self.past {
            None => self.room.summary.as_ref(),
            Some(past) => self.room.summary_before(past.question()),
        }
    }
}
