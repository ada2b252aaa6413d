//! The names of things, each a type of its own, parsed once at the edge.
//!
//! Owns the syntax of ids and nothing else: whether a room or a user exists is asked elsewhere. Text ids are
//! reference-counted, so that a clone never allocates.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    num::NonZeroU64,
    str::FromStr,
    sync::{Arc, LazyLock},
};

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
        || matches!(c, '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// A line of JSON in which nothing disturbs: JSON itself escapes only what is below U+0020. What it means stays the
/// same, because a character that disturbs can stand in a JSON text only within a string.
pub fn harmless_json(line: &str) -> Cow<'_, str> {
    // The end of a line is not part of it.
    let disturbs = |c: char| is_disturbing(c) && c != '\n';
    if !line.chars().any(disturbs) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        match c {
            c if disturbs(c) => {
                // All of them are in the first plane: one escape each.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

text_id! {
    /// A namespace (tenant): its rooms, users and keys are its own, and nobody else's calls reach them.
    Namespace, max 32, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

impl Namespace {
    /// The name of the one that is there without being created.
    pub const DEFAULT: &str = "default";

    /// Whether it is the one that is there without being created.
    pub fn is_default(&self) -> bool {
        self.as_str() == Self::DEFAULT
    }
}

impl Default for Namespace {
    fn default() -> Self {
        // Asked for with each event: made once.
        static DEFAULT: LazyLock<Namespace> = LazyLock::new(|| Namespace(Namespace::DEFAULT.into()));
        DEFAULT.clone()
    }
}

/// A room: its name, chosen by the server (12 hexadecimal digits) or by whoever creates it, and its namespace. The same
/// name in another namespace is another room, so whatever is keyed by rooms keeps namespaces apart.
///
/// Stores, buses and logs have its key: the name, behind `namespace/` unless that is the default one. Clients see and
/// send the name alone ([`RoomId::name`], [`RoomId::parse`]).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Arc<str>);

impl RoomId {
    /// The longest name, in characters.
    pub const MAX_CHARS: usize = 64;

    /// A name as a client sends it: of a room in the default namespace, until it is put [`RoomId::within`] another.
    pub fn parse(name: &str) -> Result<Self, IdError> {
        let len = name.chars().count();
        if len == 0 {
            return Err(IdError::Empty);
        }
        if len > Self::MAX_CHARS {
            return Err(IdError::TooLong { max: Self::MAX_CHARS, len });
        }
        match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
            Some(c) => Err(IdError::Character(c)),
            None => Ok(Self(name.into())),
        }
    }

    /// A key as stores and buses keep it.
    pub fn parse_key(key: &str) -> Result<Self, IdError> {
        match key.split_once('/') {
            None => Self::parse(key),
            Some((namespace, name)) => Ok(Self::parse(name)?.within(&Namespace::parse(namespace)?)),
        }
    }

    /// A new name: 48 random bits. The store refuses the rare one that is taken.
    pub fn random() -> Self {
        let (high, _) = Uuid::new_v4().as_u64_pair();
        Self(format!("{:012x}", high >> 16).into())
    }

    /// The room of this name in `namespace`.
    #[must_use]
    pub fn within(&self, namespace: &Namespace) -> Self {
        match namespace.is_default() {
            true => Self(self.name().into()),
            false => Self(format!("{namespace}/{}", self.name()).into()),
        }
    }

    /// Its key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its name, as clients know it.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// Whose it is.
    pub fn namespace(&self) -> Namespace {
        self.0.split_once('/').map_or_else(Namespace::default, |(namespace, _)| Namespace(namespace.into()))
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomId({})", &self.0)
    }
}

/// Reads a key: what comes from a client is read by [`RoomId::parse`].
impl FromStr for RoomId {
    type Err = IdError;
    fn from_str(key: &str) -> Result<Self, IdError> {
        Self::parse_key(key)
    }
}

text_id! {
    /// A user: who somebody is, whatever and however many connections they use.
    UserId, max 128, |c| !is_disturbing(c)
}

impl UserId {
    /// What no id has in it: it stands between a namespace and a user.
    const BEHIND_NAMESPACE: char = '\u{1f}';

    /// Its key among the users of all namespaces: the id itself in the default one.
    pub fn key_in(&self, namespace: &Namespace) -> Cow<'_, str> {
        match namespace.is_default() {
            true => Cow::Borrowed(self.as_str()),
            false => Cow::Owned(format!("{namespace}{}{self}", Self::BEHIND_NAMESPACE)),
        }
    }

    /// Reads a key of this namespace; that of another is none.
    pub fn parse_key(key: &str, namespace: &Namespace) -> Result<Self, IdError> {
        let behind = match namespace.is_default() {
            true => Some(key),
            false => key
                .strip_prefix(namespace.as_str())
                .and_then(|rest| rest.strip_prefix(Self::BEHIND_NAMESPACE)),
        };
        Self::parse(behind.ok_or(IdError::Character(Self::BEHIND_NAMESPACE))?)
    }
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
    fn a_room_is_its_name_in_its_namespace() {
        let (here, acme) = (RoomId::parse("tea").unwrap(), Namespace::parse("acme").unwrap());
        let there = here.within(&acme);
        assert_ne!(here, there);
        assert_eq!((there.as_str(), there.name(), there.namespace()), ("acme/tea", "tea", acme.clone()));
        assert_eq!((here.as_str(), here.namespace().is_default()), ("tea", true));
        assert_eq!(there.within(&Namespace::default()), here);
        assert_eq!(there.within(&acme), there);
        assert_eq!(RoomId::parse_key("acme/tea"), Ok(there));
        assert_eq!(RoomId::parse_key("tea"), Ok(here));
        for bad in ["acme/tea/x", "/tea", "acme/", "ACME/tea", "a.b/tea"] {
            assert!(RoomId::parse_key(bad).is_err(), "{bad}");
        }
        assert!(RoomId::parse("acme/tea").is_err(), "a client names rooms of its own namespace only");
    }

    #[test]
    fn a_user_of_another_namespace_has_another_key() {
        let (ann, acme) = (UserId::parse("ann").unwrap(), Namespace::parse("acme").unwrap());
        assert_eq!(ann.key_in(&Namespace::default()), "ann");
        assert_ne!(ann.key_in(&acme), "ann");
        assert!(UserId::parse(&ann.key_in(&acme)).is_err(), "nobody can be called so");
        let all = [Namespace::default(), acme, Namespace::parse("acme-2").unwrap()];
        for namespace in &all {
            for other in &all {
                let read = UserId::parse_key(&ann.key_in(namespace), other);
                assert_eq!(read.ok(), (namespace == other).then(|| ann.clone()), "{namespace} {other}");
            }
        }
    }

    #[test]
    fn json_without_what_disturbs_means_the_same() {
        let text = "a\u{7f}b\u{85}c\u{9b}2Jd\u{61c}e\u{202e}f\u{2028}g\u{feff}ü 🦊\n\u{1b}[2J";
        let line = serde_json::to_string(text).unwrap();
        assert!(line.chars().any(is_disturbing), "JSON escapes this by itself: {line}");
        let harmless = harmless_json(&line);
        assert!(!harmless.chars().any(is_disturbing), "{harmless}");
        assert_eq!(serde_json::from_str::<String>(&harmless).unwrap(), text);
        assert!(matches!(harmless_json("{\"a\":\"ü\"}"), Cow::Borrowed(_)));
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
