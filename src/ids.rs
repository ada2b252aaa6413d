//! The names of things, each a type of its own, parsed once at the edge.
//!
//! Owns the syntax of ids and nothing else: whether a room or a user exists is asked elsewhere. Text ids are
//! reference-counted, so that a clone never allocates.

use std::{fmt, num::NonZeroU64, str::FromStr, sync::Arc};

use thiserror::Error;
use uuid::Uuid;

/// Why a text is no id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Longer than the kind allows.
    #[error("must have at most {max} characters, has {len}")]
    TooLong {
        /// The limit, in characters.
        max: usize,
        /// What was given, in characters.
        len: usize,
    },
    /// A character that the kind does not allow.
    #[error("must not contain {0:?}")]
    Character(char),
    /// Not a UUID.
    #[error("is not an id of this server")]
    NotUuid,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, max $max:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest id of this kind, in characters.
            pub const MAX_CHARS: usize = $max;

            /// Checks length and characters.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let len = text.chars().count();
                if len == 0 {
                    return Err(IdError::Empty);
                }
                if len > Self::MAX_CHARS {
                    return Err(IdError::TooLong { max: Self::MAX_CHARS, len });
                }
                let allowed: fn(char) -> bool = $allowed;
                match text.chars().find(|c| !allowed(*c)) {
                    Some(c) => Err(IdError::Character(c)),
                    None => Ok(Self(text.into())),
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

/// Whether `c` could disturb a log, a terminal or a reader: control characters and the marks that reorder text.
pub fn is_disturbing(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

text_id! {
    /// A room. Chosen by the server (12 hexadecimal digits) or by whoever creates it.
    RoomId, max 64, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

impl RoomId {
    /// A new id: 48 random bits. The store refuses the rare one that is taken.
    pub fn random() -> Self {
        let (high, _) = Uuid::new_v4().as_u64_pair();
        Self(format!("{:012x}", high >> 16).into())
    }
}

text_id! {
    /// A user: who somebody is, whatever and however many connections they use.
    UserId, max 128, |c| !is_disturbing(c)
}

text_id! {
    /// An LLM, unique within its room.
    LlmId, max 64, |c| !is_disturbing(c) && !c.is_whitespace() && !matches!(c, '@' | '＠')
}

text_id! {
    /// One option of a poll, unique within the poll: its position, counted from 1.
    OptionId, max 8, |c| c.is_ascii_alphanumeric()
}

text_id! {
    /// Chosen by a client to make a repeat of a command safe.
    RequestId, max 128, |c| !c.is_control()
}

text_id! {
    /// An invitation: the first 16 hexadecimal digits of the SHA-256 of its secret.
    InvitationId, max 16, |c| c.is_ascii_hexdigit()
}

impl InvitationId {
    /// The id of the invitation whose secret has this SHA-256.
    pub fn of_hash(hash: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = hash;
        Self(format!("{:016x}", u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])).into())
    }
}

impl OptionId {
    /// The id of the option at `index`, counted from 0.
    pub fn at(index: usize) -> Self {
        Self((index + 1).to_string().into())
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads the text form.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError::NotUuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

uuid_id! {
    /// One event of a log; ordered by time (`UUIDv7`).
    EventId
}
uuid_id! {
    /// A message; equal to the id of the event that carried it. A running answer already has the id its message
    /// will have.
    MessageId
}
uuid_id! {
    /// A poll.
    PollId
}
uuid_id! {
    /// What one piece of work holds of the budgets until it ends.
    ReservationId
}

uuid_id! {
    /// A call of a tool that waits for a decision.
    ApprovalId
}
uuid_id! {
    /// One life of one server among those that share a store. Whoever loses its lease takes a new one; none is ever
    /// used again.
    NodeId
}

impl NodeId {
    /// Who has begun what was written before there were nodes: nobody, and nobody ever has a lease of this name.
    pub const NOBODY: Self = Self(Uuid::nil());

    /// A new life.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

uuid_id! {
    /// One autopilot of a room, from its start to its end.
    AutopilotId
}

impl From<MessageId> for EventId {
    fn from(id: MessageId) -> Self {
        Self(id.0)
    }
}

/// The position of an event in its room's log: 1, 2, 3 … without holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The position behind this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before this one.
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The position `count` behind this one.
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One connection of a user; unique within the process and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(NonZeroU64);

impl ConnectionId {
    /// The next id of this process.
    pub fn next() -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ids_are_limited_in_length_and_characters() {
        assert_eq!(RoomId::parse(""), Err(IdError::Empty));
        assert!(RoomId::parse(&"a".repeat(64)).is_ok());
        assert_eq!(RoomId::parse(&"a".repeat(65)), Err(IdError::TooLong { max: 64, len: 65 }));
        assert_eq!(RoomId::parse("a/b"), Err(IdError::Character('/')));
        assert!(UserId::parse("Zoë 🦊").is_ok());
        assert_eq!(UserId::parse("a\u{202E}b"), Err(IdError::Character('\u{202E}')));
        assert_eq!(UserId::parse("a\nb"), Err(IdError::Character('\n')));
        assert_eq!(LlmId::parse("a b"), Err(IdError::Character(' ')));
    }

    #[test]
    fn random_room_ids_have_twelve_hexadecimal_digits() {
        let id = RoomId::random();
        assert_eq!(id.as_str().len(), 12);
        assert!(id.as_str().chars().all(|c| c.is_ascii_hexdigit()));
        assert_ne!(id, RoomId::random());
    }

    #[test]
    fn uuid_ids_round_trip_through_text() {
        let id = MessageId(Uuid::now_v7());
        assert_eq!(MessageId::parse(&id.to_string()), Ok(id));
        assert_eq!(MessageId::parse("nonsense"), Err(IdError::NotUuid));
    }
}
