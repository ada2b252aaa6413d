//! A message as it is now: its text after edits, its reactions, or that it was deleted.

use crate::{
    clock::Timestamp,
    ids::{LlmId, MessageId, PollId, Seq, UserId},
};

/// The content type of a message whose sender gave none.
pub const PLAIN_TEXT: &str = "text/plain";

/// Who wrote or did something. It is set by the server and never read out of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Author {
    /// A person.
    User(UserId),
    /// An LLM of the room.
    Llm(LlmId),
}

impl Author {
    /// The id as text, as clients see it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::User(id) => id.as_str(),
            Self::Llm(id) => id.as_str(),
        }
    }

    /// The user, if it is one.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::User(id) => Some(id),
            Self::Llm(_) => None,
        }
    }
}

/// Everybody who gave one emoji.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// In the order they gave it; never empty.
    pub users: Vec<UserId>,
}

/// A message of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique; ordered by time.
    pub id: MessageId,
    /// Position in the log.
    pub seq: Seq,
    /// Who wrote it.
    pub author: Author,
    /// The author's name when it was written.
    pub author_name: String,
    /// The text; empty once deleted.
    pub content: String,
    /// A MIME type.
    pub content_type: String,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// When it was accepted.
    pub at: Timestamp,
    /// The poll it announces.
    pub poll_id: Option<PollId>,
    /// The LLMs it mentions, in the order of the text.
    pub mentions: Vec<LlmId>,
    /// The last edit.
    pub edited_at: Option<Timestamp>,
    /// Its text is gone.
    pub deleted: bool,
    /// In the order the emoji were first given.
    pub reactions: Vec<Reaction>,
    /// An answer that did not end by itself.
    pub partial: bool,
    /// How many LLMs asked one another before it; 0 for a human's message.
    pub chain_depth: u32,
    /// It is the text of an answer.
    pub from_run: bool,
    /// What from outside of the room went into the text: names of tools.
    pub outside: Vec<String>,
    /// The answer whose place it takes.
    pub replaces: Option<MessageId>,
    /// The answer that has taken its place: LLMs are not given this one any more.
    pub superseded_by: Option<MessageId>,
    /// Of an answer: from 1; 0: it is none.
    pub version: u32,
    /// Edits and reactions there have been, also those taken back: each is read again whenever the message is.
    pub changes: u32,
}

impl Message {
    /// Replaces the text.
    pub fn edit(&mut self, content: &str, mentions: &[LlmId], at: Timestamp) {
        self.content = content.to_owned();
        self.mentions = mentions.to_vec();
        self.edited_at = Some(at);
        self.changes = self.changes.saturating_add(1);
    }

    /// Removes the text and everything said about it.
    pub fn delete(&mut self) {
        self.content.clear();
        self.mentions.clear();
        self.reactions.clear();
        self.deleted = true;
    }

    /// Adds or takes back a reaction; repeating either changes nothing but the count of changes.
    pub fn react(&mut self, user: &UserId, emoji: &str, added: bool) {
        self.changes = self.changes.saturating_add(1);
        let found = self.reactions.iter_mut().find(|r| r.emoji == emoji);
        match (found, added) {
            (Some(reaction), true) => {
                if !reaction.users.contains(user) {
                    reaction.users.push(user.clone());
                }
            }
            (Some(reaction), false) => reaction.users.retain(|u| u != user),
            (None, true) => {
                self.reactions.push(Reaction { emoji: emoji.to_owned(), users: vec![user.clone()] });
            }
            (None, false) => {}
        }
        self.reactions.retain(|r| !r.users.is_empty());
    }

    /// Whether this user has given this emoji.
    pub fn has_reaction(&self, user: &UserId, emoji: &str) -> bool {
        self.reactions.iter().any(|r| r.emoji == emoji && r.users.contains(user))
    }
}
