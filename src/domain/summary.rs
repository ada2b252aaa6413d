//! What is known of the messages that are too old to be given to an LLM, and where its text comes from.

use crate::{domain::limits::OUTSIDE_SOURCES, ids::Seq};

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

/// A message that was edited or deleted, or that has another in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedMessage {
    /// When that was.
    pub at: Seq,
    /// Where the message was said.
    pub of: Seq,
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
