//! A log that is read again from its bytes: what its room is at each position, and what a store must know of each event.
//!
//! For whoever checks or rebuilds a store. It decides nothing: what is in a log has happened. The bytes are kept as they
//! are, so that a rebuilt log is the same one.

use bytes::Bytes;

use crate::{
    domain::{
        apply,
        event::{DirectoryChange, Event, Recorded},
        message::Message,
        room::Room,
    },
    ids::Seq,
    rooms::commit,
    store::NewRecord,
    wire::{basic::Corrupt, decode},
};

/// A log up to some position.
#[derive(Debug, Default)]
pub struct Replay {
    room: Option<Room>,
}

/// One event of it.
#[derive(Debug)]
pub struct Replayed {
    /// What has happened.
    pub recorded: Recorded,
    /// How a store is given it.
    pub record: NewRecord,
    /// What lists of rooms must know afterwards.
    pub directory: Vec<DirectoryChange>,
}

impl Replay {
    /// Goes one event on. An error leaves everything as it was.
    pub fn next(&mut self, seq: Seq, public: &Bytes, private: &Bytes) -> Result<Replayed, Corrupt> {
        let recorded = decode::event(seq, public, private)?;
        let directory = match &mut self.room {
            Some(room) => {
                let change = commit::directory_change(room, &recorded.event);
                apply::apply(room, &recorded);
                change.into_iter().collect()
            }
            None => {
                let created = apply::create(&recorded)
                    .ok_or_else(|| Corrupt::new("log", "its first event creates no room"))?;
                self.room = Some(created);
                commit::directory(&recorded.event)
            }
        };
        let record = commit::indexed(&recorded, public.clone(), private.clone());
        Ok(Replayed { recorded, record, directory })
    }

    /// The room that the events so far leave behind; none before the first.
    pub fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }
}

impl Replayed {
    /// The message, if it is one.
    pub fn message(&self) -> Option<&Message> {
        match &self.recorded.event {
            Event::MessagePosted(message) => Some(message),
            _ => None,
        }
    }
}
