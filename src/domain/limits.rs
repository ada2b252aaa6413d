//! How large things may be. `config.yaml` documents those an operator can change; the others are part of the
//! contract in `proto/room/v1/room.proto`.

use std::time::Duration;

use crate::domain::rejection::Rejection;

/// Messages kept in a room's state: what `room_state` shows and what an LLM is given.
pub const RECENT_MESSAGES: usize = 50;
/// Characters of a room's name.
pub const ROOM_NAME_CHARS: usize = 200;
/// Characters of a room's description.
pub const ROOM_DESCRIPTION_CHARS: usize = 2000;
/// Characters of a person's or an LLM's display name.
pub const DISPLAY_NAME_CHARS: usize = 100;
/// Characters of a title.
pub const TITLE_CHARS: usize = 200;
/// Characters of an avatar (an emoji or a URL).
pub const AVATAR_CHARS: usize = 500;
/// Characters of an LLM's persona.
pub const PERSONA_CHARS: usize = 8000;
/// Characters of a model's name.
pub const MODEL_CHARS: usize = 200;
/// Characters of a content type.
pub const CONTENT_TYPE_CHARS: usize = 100;
/// Explicit mentions in one message.
pub const MENTIONS: usize = 32;
/// Characters of a poll's question.
pub const POLL_QUESTION_CHARS: usize = 1000;
/// Options of a poll: the least and the most.
pub const POLL_OPTIONS: std::ops::RangeInclusive<usize> = 2..=20;
/// Characters of an option's text.
pub const POLL_OPTION_CHARS: usize = 200;
/// Characters of an option's description.
pub const POLL_OPTION_DESCRIPTION_CHARS: usize = 500;
/// Characters of a reason (for a vote, a removal, an end).
pub const REASON_CHARS: usize = 1000;
/// Polls open at the same time: each is part of every `room_state`.
pub const OPEN_POLLS: usize = 32;
/// The longest deadline of a poll: 30 days.
pub const POLL_DEADLINE_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Bytes of an emoji: room for the longest joined sequence in use.
pub const EMOJI_BYTES: usize = 32;
/// Different emoji on one message.
pub const EMOJI_PER_MESSAGE: usize = 20;
/// Edits and reactions of one message: all of them are read whenever it is shown, and everybody who reacted is listed.
pub const CHANGES_PER_MESSAGE: u32 = 1000;
/// Characters of a signal's type.
pub const SIGNAL_TYPE_CHARS: usize = 64;
/// Bytes of a signal's data.
pub const SIGNAL_BYTES: usize = 8 * 1024;
/// Named recipients of a signal.
pub const SIGNAL_RECIPIENTS: usize = 64;

/// Patterns in a list of allowed tools.
pub const TOOL_PATTERNS: usize = 64;
/// Characters of one of them.
pub const TOOL_PATTERN_CHARS: usize = 128;
/// Models that are asked when an LLM's own one fails.
pub const FALLBACK_MODELS: usize = 4;
/// The most ballots a poll can require.
pub const QUORUM: u32 = 100_000;
/// Names of what from outside went into a text; of more only the first are kept.
pub const OUTSIDE_SOURCES: usize = 16;
/// Calls of tools that wait for a decision in one room.
pub const PENDING_APPROVALS: usize = 32;
/// Bytes of a call's arguments that are shown to whoever decides it.
pub const APPROVAL_ARGUMENTS_BYTES: usize = 4096;
/// Bytes of a summary of what is too old to be given to an LLM.
pub const SUMMARY_BYTES: usize = 16 * 1024;
/// Summaries that a room keeps behind the last one.
pub const EARLIER_SUMMARIES: usize = 8;
/// Changed messages that a room remembers. A summary that was begun before the oldest of so many is not kept.
pub const CHANGED_MESSAGES: usize = 64;
/// The most turns of an autopilot.
pub const AUTOPILOT_TURNS: u32 = 200;
/// Turns of an autopilot whose starter names no number.
pub const AUTOPILOT_TURNS_DEFAULT: u32 = 20;

/// The longest least time between two messages of one member.
pub const SLOW_MODE: Duration = Duration::from_secs(6 * 60 * 60);
/// The longest time for which somebody is muted at once.
pub const MUTE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The limits an operator can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message's content.
    pub message_bytes: usize,
    /// LLMs in one room.
    pub llms_per_room: usize,
    /// Members of one room.
    pub members_per_room: usize,
    /// How many LLMs may ask one another in a chain that a human began.
    pub chain_depth: u32,
    /// Answers that have begun and not ended in one room, those included that wait for a person.
    pub open_runs_per_room: usize,
    /// Who joins a private room needs an invitation, unless the room says otherwise.
    pub private_by_invitation: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 16 * 1024,
            llms_per_room: 32,
            members_per_room: 100_000,
            chain_depth: 5,
            open_runs_per_room: 40,
            private_by_invitation: false,
        }
    }
}

/// Refuses a text with more than `max` characters.
pub fn check_chars(field: &'static str, text: &str, max: usize) -> Result<(), Rejection> {
    // A character has at least one byte: most texts need not be counted.
    if text.len() <= max {
        return Ok(());
    }
    let len = text.chars().count();
    if len <= max {
        return Ok(());
    }
    Err(Rejection::field(field, format_args!("must have at most {max} characters, has {len}")))
}

/// Refuses a text that is empty, all white space, or has more than `max` characters.
pub fn check_required(field: &'static str, text: &str, max: usize) -> Result<(), Rejection> {
    if text.trim().is_empty() {
        return Err(Rejection::field(field, "must not be empty"));
    }
    check_chars(field, text, max)
}

/// Refuses a name with more than `max` characters or with characters that could disturb a log, a terminal or a
/// reader.
pub fn check_name(field: &'static str, text: &str, max: usize) -> Result<(), Rejection> {
    check_chars(field, text, max)?;
    match text.chars().find(|c| crate::ids::is_disturbing(*c)) {
        Some(c) => Err(Rejection::field(field, format_args!("must not contain {c:?}"))),
        None => Ok(()),
    }
}
