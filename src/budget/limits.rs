//! Which budgets there are, what they allow, and the accounts in which they are kept.
//!
//! Windows are fixed: a minute begins with the minute and a day at midnight, in UTC. So somebody can use up the end
//! of one window and the beginning of the next, twice the limit at once at worst; in return a refusal knows exactly
//! when it ends, and an account is one row.

use std::{borrow::Cow, fmt, time::Duration};

use crate::{
    clock::Timestamp,
    ids::{Namespace, RoomId, UserId},
    store::ledger::{AMOUNT_MAX, Account},
};

/// Whose budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// That of the human who asked, or began the chain.
    User,
    /// That of the room.
    Room,
    /// That of the namespace: of all its rooms and users together.
    Namespace,
    /// That of everybody together.
    Server,
}

/// For how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// From second 0 to second 60.
    Minute,
    /// From midnight to midnight in UTC.
    Day,
}

/// Of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Tokens, given to models and made by them.
    Tokens,
    /// Millionths of the currency in which the prices are.
    Money,
}

/// One budget of somebody: names a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Budget {
    /// Whose.
    pub scope: Scope,
    /// For how long.
    pub window: Window,
    /// Of what.
    pub unit: Unit,
}

/// What one scope allows; none: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScopeLimits {
    /// Tokens in a minute.
    pub tokens_per_minute: Option<u64>,
    /// Tokens in a day.
    pub tokens_per_day: Option<u64>,
    /// Money in a minute, in millionths.
    pub money_per_minute: Option<u64>,
    /// Money in a day, in millionths.
    pub money_per_day: Option<u64>,
}

/// What is allowed: to each user, to each room, to each namespace, and to all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Each user.
    pub user: ScopeLimits,
    /// Each room.
    pub room: ScopeLimits,
    /// Each namespace.
    pub namespace: ScopeLimits,
    /// All together.
    pub server: ScopeLimits,
}

/// On whose account something is done; the server's is always among them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Scopes {
    /// In which the user and the room are: a user of the same name in another is somebody else.
    pub namespace: Namespace,
    /// The human who asked, if one did.
    pub user: Option<UserId>,
    /// The room it is for, if it is for one.
    pub room: Option<RoomId>,
}

impl Scopes {
    /// Each scope with whose it is. The default namespace has accounts of its own only where namespaces have a limit:
    /// where nobody uses others, they would be those of the server again.
    pub(super) fn owners(&self, limits: &Limits) -> impl Iterator<Item = (Scope, Cow<'_, str>)> {
        let user = self.user.as_ref().map(|user| (Scope::User, user.key_in(&self.namespace)));
        let room = self.room.as_ref().map(|room| (Scope::Room, Cow::Borrowed(room.as_str())));
        let is_counted = !self.namespace.is_default() || limits.namespace != ScopeLimits::default();
        let namespace = is_counted.then(|| (Scope::Namespace, Cow::Borrowed(self.namespace.as_str())));
        user.into_iter().chain(room).chain(namespace).chain([(Scope::Server, Cow::Borrowed(""))])
    }
}

impl Limits {
    /// The limit of this budget.
    pub fn of(&self, budget: Budget) -> Option<u64> {
        let scope = match budget.scope {
            Scope::User => &self.user,
            Scope::Room => &self.room,
            Scope::Namespace => &self.namespace,
            Scope::Server => &self.server,
        };
        match (budget.unit, budget.window) {
            (Unit::Tokens, Window::Minute) => scope.tokens_per_minute,
            (Unit::Tokens, Window::Day) => scope.tokens_per_day,
            (Unit::Money, Window::Minute) => scope.money_per_minute,
            (Unit::Money, Window::Day) => scope.money_per_day,
        }
        .map(|limit| limit.min(AMOUNT_MAX))
    }
}

impl Scope {
    /// Its budgets. Days before minutes: the one that stays used up for longer is named first.
    pub(super) fn budgets(self) -> [Budget; 4] {
        let budget = |window, unit| Budget { scope: self, window, unit };
        [
            budget(Window::Day, Unit::Tokens),
            budget(Window::Day, Unit::Money),
            budget(Window::Minute, Unit::Tokens),
            budget(Window::Minute, Unit::Money),
        ]
    }
}

impl Window {
    /// How long it is.
    pub fn length(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(60),
            Self::Day => Duration::from_secs(24 * 60 * 60),
        }
    }

    /// The beginning of the window in which `at` is.
    pub fn begin(self, at: Timestamp) -> Timestamp {
        let length = i64::try_from(self.length().as_millis()).unwrap_or(i64::MAX);
        Timestamp(at.0.saturating_sub(at.0.rem_euclid(length)))
    }

    /// The end of the window in which `at` is: when its budgets refill.
    pub fn end(self, at: Timestamp) -> Timestamp {
        self.begin(at).plus(self.length())
    }
}

impl Budget {
    /// The account of `owner` in the window in which `at` is. The owner stands last, so that no name can look like
    /// another's account.
    pub(super) fn account(self, owner: &str, at: Timestamp) -> Account {
        let scope = match self.scope {
            Scope::User => "user",
            Scope::Room => "room",
            Scope::Namespace => "namespace",
            Scope::Server => "server",
        };
        let window = match self.window {
            Window::Minute => "minute",
            Window::Day => "day",
        };
        let unit = match self.unit {
            Unit::Tokens => "tokens",
            Unit::Money => "money",
        };
        Account { key: format!("{scope}/{window}/{unit}/{owner}"), begins: self.window.begin(at) }
    }
}

/// As a refusal says it: "tokens per day of the room".
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Tokens => "tokens",
            Unit::Money => "money",
        };
        let window = match self.window {
            Window::Minute => "minute",
            Window::Day => "day",
        };
        let scope = match self.scope {
            Scope::User => "user",
            Scope::Room => "room",
            Scope::Namespace => "namespace",
            Scope::Server => "server",
        };
        write!(f, "{unit} per {window} of the {scope}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_with_the_minute_and_at_midnight() {
        // 2026-11-21 11:06:07.250 UTC.
        let at = Timestamp(1_795_259_167_250);
        assert_eq!(Window::Minute.begin(at), Timestamp(1_795_259_160_000));
        assert_eq!(Window::Minute.end(at), Timestamp(1_795_259_220_000));
        assert_eq!(Window::Day.begin(at), Timestamp(1_795_219_200_000));
        assert_eq!(Window::Day.end(at), Timestamp(1_795_305_600_000));
        assert_eq!(Window::Day.begin(Window::Day.end(at)), Window::Day.end(at));
        assert_eq!(Window::Minute.begin(Timestamp(-1)), Timestamp(-60_000));
    }

    #[test]
    fn no_two_budgets_share_an_account() {
        let (user, room) = (UserId::parse("a/b").ok(), RoomId::parse("server").ok());
        let mut keys: Vec<String> = Vec::new();
        let limits = Limits::default();
        for name in ["default", "acme", "a"] {
            let namespace = Namespace::parse(name).unwrap();
            let room = room.as_ref().map(|room: &RoomId| room.within(&namespace));
            let scopes = Scopes { namespace, user: user.clone(), room };
            keys.extend(scopes.owners(&limits).flat_map(|(scope, owner)| {
                scope.budgets().map(|budget| budget.account(&owner, Timestamp(0)).key)
            }));
        }
        let unique: std::collections::HashSet<&String> = keys.iter().collect();
        // All share those of the server; the default namespace has none but those.
        assert_eq!((keys.len(), unique.len()), (44, 36));
        for key in ["user/day/tokens/a/b", "room/minute/money/server", "namespace/day/money/acme"] {
            assert!(keys.contains(&key.to_owned()), "{keys:?}");
        }
        let limited =
            Limits { namespace: ScopeLimits { tokens_per_day: Some(1), ..ScopeLimits::default() }, ..limits };
        assert_eq!(Scopes::default().owners(&limited).count(), 2);
    }
}
