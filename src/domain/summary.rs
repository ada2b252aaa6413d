//! What is known of the messages that are too old to be given to an LLM.

use crate::{
    domain::{
        limits::{OUTSIDE_SOURCES, SUMMARY_BYTES},
        rejection::Rejection,
        room::Room,
    },
    ids::Seq,
};

/// A text that stands for all messages up to a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Written by a model.
    pub text: String,
    /// The last message it stands for is here or before.
    pub up_to: Seq,
    /// Which model wrote it.
    pub model: String,
    /// What from outside of the room went into it.
    pub outside: Vec<String>,
}

impl Summary {
    /// Refuses what is empty or too long, or knows less than what there is.
    pub(super) fn check(&self, room: &Room) -> Result<(), Rejection> {
        let len = self.text.len();
        if self.text.trim().is_empty() || len > SUMMARY_BYTES {
            return Err(Rejection::field(
                "summary.text",
                format_args!("must have 1 to {SUMMARY_BYTES} bytes, has {len}"),
            ));
        }
        let known = room.summary.as_ref().map_or(Seq::ZERO, |summary| summary.up_to);
        if self.up_to <= known || self.up_to > room.seq {
            return Err(Rejection::field("summary.up_to_seq", "must be newer than the summary there is"));
        }
        Ok(())
    }
}

/// Adds names of what from outside went into a text: each once, and no more than are kept.
pub fn add_outside(known: &mut Vec<String>, more: &[String]) {
    for name in more {
        if known.len() >= OUTSIDE_SOURCES {
            return;
        }
        if !known.contains(name) {
            known.push(name.clone());
        }
    }
}
