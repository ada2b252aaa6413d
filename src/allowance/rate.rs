//! The words of rates: what is counted, for whom, and how fast it may go.
//!
//! Values only. Nothing here counts, and nothing fails.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

/// A steady rate and how much may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run, in each period.
    pub count: NonZeroU32,
    /// How long a period is.
    pub period: Duration,
    /// At once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// So many in a second, and so many at once.
    pub fn per_second(count: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { count, period: Duration::from_secs(1), burst }
    }

    /// So many in a period, also all at once.
    pub fn in_each(count: NonZeroU32, period: Duration) -> Self {
        Self { count, period, burst: count }
    }

    /// How many nanoseconds one takes to come back.
    pub(super) fn cost(self) -> u64 {
        let period = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX);
        (period / u64::from(self.count.get())).max(1)
    }

    /// How many nanoseconds all of it takes to come back.
    pub(super) fn depth(self) -> u64 {
        self.cost().saturating_mul(u64::from(self.burst.get()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, period, burst } = self;
        match period.as_secs() {
            1 => write!(f, "at most {count} a second")?,
            60 => write!(f, "at most {count} a minute")?,
            3600 => write!(f, "at most {count} an hour")?,
            _ => write!(f, "at most {count} in {period:?}")?,
        }
        match burst == count {
            true => Ok(()),
            false => write!(f, " and {burst} at once"),
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// Commands that last: messages, reactions, votes.
    Messages,
    /// What is not kept: typing, signals, presence, pings.
    Transients,
    /// Joins of a session.
    Joins,
    /// Rooms that are created.
    Rooms,
    /// Answers that LLMs are asked for.
    LlmCalls,
    /// Calls that read: of history, logs, rooms and members.
    History,
    /// Rooms that a model is asked to propose.
    Generations,
    /// Calls of the administration.
    Admin,
    /// Credentials that were none.
    FailedSignIns,
}

impl What {
    /// How many there are.
    pub(super) const COUNT: usize = 9;
    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Messages,
        Self::Transients,
        Self::Joins,
        Self::Rooms,
        Self::LlmCalls,
        Self::History,
        Self::Generations,
        Self::Admin,
        Self::FailedSignIns,
    ];

    /// Its place in a list of all.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Messages => 0,
            Self::Transients => 1,
            Self::Joins => 2,
            Self::Rooms => 3,
            Self::LlmCalls => 4,
            Self::History => 5,
            Self::Generations => 6,
            Self::Admin => 7,
            Self::FailedSignIns => 8,
        }
    }

    /// As configuration keys write it.
    fn word(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Transients => "transients",
            Self::Joins => "joins",
            Self::Rooms => "rooms",
            Self::LlmCalls => "llm_calls",
            Self::History => "history",
            Self::Generations => "generations",
            Self::Admin => "admin",
            Self::FailedSignIns => "failed_sign_ins",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "commands",
            Self::Transients => "transient events",
            Self::Joins => "joins",
            Self::Rooms => "new rooms",
            Self::LlmCalls => "questions to LLMs",
            Self::History => "reading calls",
            Self::Generations => "proposed rooms",
            Self::Admin => "administrative calls",
            Self::FailedSignIns => "failed sign-ins",
        })
    }
}

/// For whom it is counted, the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A user of a namespace, over all of their streams.
    User,
    /// A credential, over all who show it.
    Credential,
    /// An address; a /64 of IPv6.
    Peer,
    /// All of a namespace together.
    Namespace,
}

impl Scope {
    /// As configuration keys write it.
    fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Credential => "credential",
            Self::Peer => "peer",
            Self::Namespace => "namespace",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "of this user",
            Self::Credential => "with this credential",
            Self::Peer => "from this address",
            Self::Namespace => "in this namespace",
        })
    }
}

/// How a limit is called where an operator sets it, and what it says.
pub(super) fn key(what: What, scope: Scope, limit: &str) -> String {
    match (what, scope) {
        (What::Messages, Scope::User) => format!("limits.messages_per_second: {limit}"),
        (What::Transients, Scope::User) => format!("limits.transients_per_second: {limit}"),
        (What::Generations, Scope::User) => format!("llm.generate_per_minute: {limit}"),
        (What::FailedSignIns, _) => format!("limits.rates.failed_sign_ins: {limit}"),
        (what, scope) => format!("limits.rates.{}.{}: {limit}", scope.word(), what.word()),
    }
}

/// The rates of one who is counted; what has none is not limited.
#[derive(Debug, Clone, Default)]
pub struct Paces(Arc<[Option<Rate>; What::COUNT]>);

impl Paces {
    /// These, and no limit on anything else.
    pub fn new(rates: impl IntoIterator<Item = (What, Option<Rate>)>) -> Self {
        let mut all = [None; What::COUNT];
        for (what, rate) in rates {
            if let Some(place) = all.get_mut(what.index()) {
                *place = rate;
            }
        }
        Self(Arc::new(all))
    }

    /// How fast one may go.
    pub(super) fn of(&self, what: What) -> Option<Rate> {
        self.0.get(what.index()).copied().flatten()
    }
}

/// The rates of all.
#[derive(Debug, Clone, Default)]
pub struct RateTable {
    /// Of each user of a namespace.
    pub user: Paces,
    /// Of each credential.
    pub credential: Paces,
    /// Of each address.
    pub peer: Paces,
    /// Of each namespace but the default one.
    pub namespace: Paces,
    /// Of the default namespace.
    pub default_namespace: Paces,
}
