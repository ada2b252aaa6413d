//! How much a caller may take: how often, and how many streams at the same time.
//!
//! Owns token buckets and counters, for each user of a namespace, each credential, each address and each namespace.
//! Whoever takes something takes it of all four; where one has none left, nothing is taken of the others. All of it is
//! this server's own: to ask the others would cost every command a way over the network, so whoever uses several of
//! them is let through by a few times as much. Decides nothing about rights, and keeps nothing behind a restart.
//!
//! Memory is bounded: whoever has been quiet for so long that nothing is missing any more is forgotten, and beyond
//! [`KEYS_KEPT`] of one kind all newcomers share one allowance, which leaves those who were there before alone.

mod kept;
pub mod payer;
mod purse;
pub mod quotas;
pub mod rate;
pub mod streams;
#[cfg(test)]
mod tests;
pub mod usage;

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    allowance::{
        kept::Kept,
        payer::Payer,
        purse::{Bucket, Purse},
        quotas::Given,
        rate::{Paces, RateTable, Scope, What},
        streams::StreamLimits,
    },
    auth::principal::Credential,
    domain::rejection::{Code, Rejection},
    ids::{Namespace, UserId},
};

/// So many users, credentials, addresses and namespaces are told apart, each: some 80 MB for each kind at most.
pub const KEYS_KEPT: usize = 262_144;
/// How often [`Allowances::forget_quiet`] should be called.
pub const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// What everybody may take. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Allowances(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    rates: RateTable,
    streams: StreamLimits,
    /// Streams that have not joined, of everybody.
    waiting: AtomicUsize,
    /// Those who are nobody count as one in each namespace.
    users: Kept<(Namespace, Option<UserId>)>,
    nobody: Paces,
    credentials: Kept<Credential>,
    peers: Kept<IpAddr>,
    namespaces: Kept<Namespace>,
    given: Given,
}

impl Allowances {
    /// Nobody has taken anything.
    pub fn new(rates: RateTable, streams: StreamLimits, given: Given) -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            streams,
            waiting: AtomicUsize::new(0),
            users: Kept::new(KEYS_KEPT, &rates.user),
            credentials: Kept::new(KEYS_KEPT, &rates.credential),
            peers: Kept::new(KEYS_KEPT, &rates.peer),
            namespaces: Kept::new(KEYS_KEPT, &rates.namespace),
            nobody: Paces::new([(What::Generations, rates.user.of(What::Generations))]),
            rates,
            given,
        }))
    }

    /// What one caller may take. A session asks once, and holds it.
    pub fn of(&self, caller: &Payer) -> Allowance {
        let Inner { rates, users, nobody, credentials, peers, namespaces, .. } = &*self.0;
        let now = self.now();
        let namespace = match caller.namespace.is_default() {
            true => &rates.default_namespace,
            false => &rates.namespace,
        };
        let user = (caller.namespace.clone(), caller.user.clone());
        // Whoever names nobody shares nothing with others but what calls a model.
        let pace = if user.1.is_some() { &rates.user } else { nobody };
        Allowance {
            of: self.clone(),
            purses: [
                (Scope::User, Some(users.of(&user, pace, now))),
                (Scope::Credential, caller.counted().map(|key| credentials.of(key, &rates.credential, now))),
                (Scope::Peer, caller.peer.map(|key| peers.of(&key, &rates.peer, now))),
                (Scope::Namespace, Some(namespaces.of(&caller.namespace, namespace, now))),
            ],
            namespace: caller.namespace.clone(),
        }
    }

    /// What one connection may say before it is known who speaks: as much as a user may of what is not kept.
    pub fn stranger(&self) -> Stranger {
        Stranger { of: self.clone(), bucket: Bucket::default() }
    }

    /// Whether what somebody at this address shows may still be looked up, if it is not known. Asked before, so that a
    /// guess costs no reading.
    pub fn may_sign_in(&self, peer: Option<IpAddr>) -> Result<(), Rejection> {
        self.peer(peer).map_or(Ok(()), |allowance| allowance.look(What::FailedSignIns))
    }

    /// Somebody at this address has shown what is no credential.
    pub fn sign_in_failed(&self, peer: Option<IpAddr>) {
        if let Some(allowance) = self.peer(peer) {
            // Whoever has none left has been told so before.
            let _ = allowance.take(What::FailedSignIns);
        }
    }

    /// An address alone; none: this machine, or a connection without one, which are not counted.
    fn peer(&self, peer: Option<IpAddr>) -> Option<Allowance> {
        let purse = self.0.peers.of(&peer?, &self.0.rates.peer, self.now());
        Some(Allowance {
            of: self.clone(),
            purses: [
                (Scope::User, None),
                (Scope::Credential, None),
                (Scope::Peer, Some(purse)),
                (Scope::Namespace, None),
            ],
            namespace: Namespace::default(),
        })
    }

    /// Forgets who has been quiet; called from time to time.
    pub fn forget_quiet(&self) {
        let now = self.now();
        self.0.users.forget_quiet(now);
        self.0.credentials.forget_quiet(now);
        self.0.peers.forget_quiet(now);
        self.0.namespaces.forget_quiet(now);
    }

    /// How many users, credentials, addresses and namespaces are told apart now.
    pub fn known(&self) -> usize {
        let Inner { users, credentials, peers, namespaces, .. } = &*self.0;
        users.len() + credentials.len() + peers.len() + namespaces.len()
    }

    /// Nanoseconds since the beginning, of the runtime's clock: enough for 584 years.
    fn now(&self) -> u64 {
        u64::try_from(self.0.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What one caller may take, of each that it counts for.
#[derive(Debug)]
pub struct Allowance {
    of: Allowances,
    /// The narrowest first: whoever goes too fast alone takes nothing of what others share with them.
    purses: [(Scope, Option<Arc<Purse>>); 4],
    namespace: Namespace,
}

impl Allowance {
    /// Takes one, or says when there will be one.
    pub fn take(&self, what: What) -> Result<(), Rejection> {
        let now = self.of.now();
        let purses = || self.purses.iter().filter_map(|(_, purse)| purse.as_deref());
        for (at, purse) in purses().enumerate() {
            if !purse.take(what, now) {
                purses().take(at).for_each(|purse| purse.give_back(what));
                return self.look_at(what, now);
            }
        }
        Ok(())
    }

    /// Whether there is one, without taking it.
    pub fn look(&self, what: What) -> Result<(), Rejection> {
        self.look_at(what, self.of.now())
    }

    /// Of all that have none left the one that takes longest: before that nothing can be taken.
    fn look_at(&self, what: What, now: u64) -> Result<(), Rejection> {
        let purses = self.purses.iter().filter_map(|(scope, purse)| Some((*scope, purse.as_deref()?)));
        let waits = purses.filter_map(|(scope, purse)| Some((purse.wait(what, now)?, scope, purse)));
        match waits.max_by_key(|(wait, ..)| *wait) {
            Some((wait, scope, purse)) => Err(refusal(what, scope, purse, wait)),
            None => Ok(()),
        }
    }

    /// The purse of the namespace.
    fn shared(&self) -> Option<&Purse> {
        self.purses.iter().find(|(scope, _)| *scope == Scope::Namespace)?.1.as_deref()
    }
}

/// Says what there is too much of, which limit that is, and when to come again.
fn refusal(what: What, scope: Scope, purse: &Purse, wait: u64) -> Rejection {
    let wait = Duration::from_millis(wait.div_ceil(1_000_000).max(1));
    let limit = purse.rate(what).map_or_else(String::new, |rate| rate.to_string());
    let key = rate::key(what, scope, &limit);
    Rejection::rate_limited(&format!("{what} {scope} ({key})"), wait)
}

/// One connection, before it is known who speaks.
#[derive(Debug)]
pub struct Stranger {
    of: Allowances,
    bucket: Bucket,
}

impl Stranger {
    /// Takes one message.
    pub fn take(&self) -> Result<(), Rejection> {
        let Some(rate) = self.of.0.rates.user.of(What::Transients) else {
            return Ok(());
        };
        let now = self.of.now();
        match self.bucket.take(rate, now) {
            true => Ok(()),
            false => {
                let wait = self.bucket.wait(rate, now).unwrap_or_default().div_ceil(1_000_000);
                Err(Rejection::rate_limited(
                    &format!("messages before the join ({rate})"),
                    Duration::from_millis(wait.max(1)),
                ))
            }
        }
    }
}

/// More of something than there may be; waiting alone does not help.
fn exhausted(message: String) -> Rejection {
    Rejection::new(Code::ResourceExhausted, message)
}
