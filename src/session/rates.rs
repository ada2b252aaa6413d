//! How fast one user may go, over all of the user's connections on this node. Other nodes count for themselves: to ask
//! them would cost every command a way over the network, and who may use several is let through by a few times as much.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

use crate::{domain::rejection::Rejection, ids::UserId};

/// A steady rate and how much may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

impl Rate {
    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// The rates of all users.
#[derive(Debug)]
pub struct Rates {
    lasting: DefaultKeyedRateLimiter<UserId>,
    transient: DefaultKeyedRateLimiter<UserId>,
    before_join: Rate,
    clock: DefaultClock,
}

/// The rate of one connection that is nobody yet.
pub type Unknown = DefaultDirectRateLimiter;

impl Rates {
    /// `lasting` for commands that become events, `transient` for everything else.
    pub fn new(lasting: Rate, transient: Rate) -> Self {
        Self {
            lasting: RateLimiter::keyed(lasting.quota()),
            transient: RateLimiter::keyed(transient.quota()),
            before_join: transient,
            clock: DefaultClock::default(),
        }
    }

    /// Takes one lasting command of a user.
    pub fn lasting(&self, user: &UserId) -> Result<(), Rejection> {
        self.lasting
            .check_key(user)
            .map_err(|until| Rejection::rate_limited("commands", until.wait_time_from(self.clock.now())))
    }

    /// Takes one transient event or ping of a user.
    pub fn transient(&self, user: &UserId) -> Result<(), Rejection> {
        self.transient.check_key(user).map_err(|until| {
            Rejection::rate_limited("transient events", until.wait_time_from(self.clock.now()))
        })
    }

    /// A limiter for one connection until it has joined.
    pub fn unknown(&self) -> Unknown {
        RateLimiter::direct(self.before_join.quota())
    }

    /// Takes one message of a connection that has not joined.
    pub fn before_join(&self, unknown: &Unknown) -> Result<(), Rejection> {
        unknown
            .check()
            .map_err(|until| Rejection::rate_limited("messages", until.wait_time_from(self.clock.now())))
    }

    /// Forgets users who have been quiet; called from time to time.
    pub fn forget_quiet(&self) {
        self.lasting.retain_recent();
        self.transient.retain_recent();
    }
}

/// Something that each user may have only so often in a minute; all who are nobody count as one.
#[derive(Debug, Clone)]
pub struct PerMinute {
    taken: Arc<DefaultKeyedRateLimiter<Option<UserId>>>,
    clock: DefaultClock,
}

/// From so many users on those who have been quiet are forgotten.
const USERS_KEPT: usize = 1024;

impl PerMinute {
    /// So many in a minute, also all at once.
    pub fn new(most: NonZeroU32) -> Self {
        let taken = Arc::new(RateLimiter::keyed(Quota::per_minute(most)));
        Self { taken, clock: DefaultClock::default() }
    }

    /// Takes one for a user.
    pub fn take(&self, what: &str, user: Option<&UserId>) -> Result<(), Rejection> {
        if self.taken.len() >= USERS_KEPT {
            self.taken.retain_recent();
        }
        let until = |until: NotUntil<_>| until.wait_time_from(self.clock.now());
        self.taken.check_key(&user.cloned()).map_err(|wait| Rejection::rate_limited(what, until(wait)))
    }
}

/// How often [`Rates::forget_quiet`] should be called.
pub const FORGET_INTERVAL: Duration = Duration::from_secs(60);
