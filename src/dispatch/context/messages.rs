//! One message in words: its author and what the server knows of it, its text, and notes about it.
//!
//! ```text
//! ["Ada", LLM, answering "Ann": "Which one?", unfinished] The first,
//!     | or the second.
//!   (reactions: 👍 2)
//! ```
//!
//! The LLM's own messages are what it has said, without anything around it: it would learn to write what stands there.

use std::fmt::Write as _;

use crate::{
    dispatch::plain::{around, block, clean, line, names, quoted, start},
    domain::{
        message::{Author, Message, PLAIN_TEXT},
        poll::Poll,
    },
    llm::{Speaker, Turn},
};

use super::{names::Names, polls};

/// Characters of a message that is quoted because another answers it.
const QUOTE_CHARS: usize = 120;

/// A message in words, of whose text something can be left out.
#[derive(Debug, Clone)]
pub(super) struct Rendered {
    speaker: Speaker,
    head: String,
    /// The text, not yet marked.
    body: String,
    tail: String,
}

impl Rendered {
    /// Bytes of its text.
    pub(super) fn body_len(&self) -> usize {
        self.body.len()
    }

    /// The whole message with at most `bytes` bytes of its text: its beginning and its end, and what is missing
    /// between them.
    pub(super) fn text(&self, bytes: usize) -> String {
        let Some((begin, left_out, end)) = around(&self.body, bytes) else {
            return match self.speaker {
                Speaker::Assistant => self.body.clone(),
                Speaker::User | Speaker::System => format!("{}{}{}", self.head, block(&self.body), self.tail),
            };
        };
        match self.speaker {
            Speaker::Assistant => format!("{begin} … {end}"),
            Speaker::User | Speaker::System => {
                // With a break before it, its first line is marked as well.
                let end = block(&format!("\n{end}"));
                let begin = block(begin);
                format!("{}{begin}\n  ({left_out} characters are left out here){end}{}", self.head, self.tail)
            }
        }
    }

    pub(super) fn turn(&self, bytes: usize) -> Turn {
        Turn::Text { speaker: self.speaker, text: self.text(bytes) }
    }
}

/// A message as an LLM is told it; `own`: it has said it itself.
pub(super) fn render(
    message: &Message,
    own: bool,
    quote: Option<&Message>,
    poll: Option<&Poll>,
    names: &Names,
) -> Rendered {
    // How a poll stands is not what the LLM has said.
    if own && poll.is_none() {
        return Rendered {
            speaker: Speaker::Assistant,
            head: String::new(),
            body: clean(&message.content),
            tail: String::new(),
        };
    }
    let shown = is_text(&message.content_type);
    let mut tail = String::new();
    if !shown {
        let _ = write!(tail, "\n  ({} bytes, not shown)", message.content.len());
    }
    if let Some(poll) = poll {
        tail.push_str(&polls::results(poll, names));
    }
    tail.push_str(&reactions(message));
    Rendered {
        speaker: Speaker::User,
        head: head(message, own, quote, names),
        body: if shown { message.content.clone() } else { String::new() },
        tail,
    }
}

fn head(message: &Message, own: bool, quote: Option<&Message>, known: &Names) -> String {
    let author = |message: &Message| known.told(&message.author, &message.author_name);
    let mut text = format!("[{}", author(message));
    if own {
        text.push_str(", you");
    } else if matches!(message.author, Author::Llm(_)) {
        text.push_str(", LLM");
    }
    if message.content_type != PLAIN_TEXT && !message.content_type.is_empty() {
        let _ = write!(text, ", {}", quoted(&message.content_type));
    }
    match quote {
        Some(quote) if quote.deleted => text.push_str(", answering a deleted message"),
        Some(quote) if quote.superseded_by.is_some() => {
            let _ = write!(text, ", answering a replaced message of {}", author(quote));
        }
        Some(quote) => {
            let said = if is_text(&quote.content_type) { start(&quote.content, QUOTE_CHARS) } else { "" };
            let _ = write!(text, ", answering {}: {}", author(quote), quoted(said));
        }
        None => {}
    }
    if message.edited_at.is_some() {
        text.push_str(", edited");
    }
    if message.partial {
        text.push_str(", unfinished");
    }
    if !message.outside.is_empty() {
        let _ = write!(text, ", contains text from {}", names(message.outside.iter().map(String::as_str)));
    }
    text.push_str("] ");
    text
}

/// Whether people read it as it is. Contents are always characters, but a picture in characters is nothing to read.
fn is_text(content_type: &str) -> bool {
    let bare = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = ["", "application/json", "application/xml", "application/yaml", "application/toml"];
    bare.starts_with("text/")
        || bare.ends_with("+json")
        || bare.ends_with("+xml")
        || known.contains(&bare.as_str())
}

fn reactions(message: &Message) -> String {
    if message.reactions.is_empty() {
        return String::new();
    }
    // An emoji is whatever somebody has sent as one.
    let given = message.reactions.iter().map(|r| format!("{} {}", emoji(&r.emoji), r.users.len()));
    format!("\n  (reactions: {})", given.collect::<Vec<_>>().join(", "))
}

/// An emoji as it is; anything with letters, digits or signs of its own in quotation marks.
fn emoji(text: &str) -> String {
    if text.chars().any(|c| c.is_ascii() || c.is_alphanumeric()) { quoted(text) } else { line(text) }
}
