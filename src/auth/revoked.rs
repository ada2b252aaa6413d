//! What was taken back before its time, known to every node within a second.
//!
//! Each revocation is a document whose name begins with the time; every node reads what is new in their folder, two or
//! three times a second, and needs no bus for it. Here it is known at once. A store that fails is logged once and asked
//! again: what was revoked meanwhile elsewhere is learned when it answers. Nothing is decided here about secrets that
//! are shown anew, which the directory refuses by itself: this ends streams that are open, and tokens, which no
//! document stands for.
//!
//! Bounded for each namespace, each kind by itself. What ends a secret or a certificate is forgotten a minute after it
//! was told, because whoever comes later is refused by the directory; its document stays an hour, for a server that
//! cannot read the store for so long. What ends a token is remembered as long as tokens live, what ends a user or a
//! namespace for [`Revocations::new`]'s `kept`.

mod folder;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    auth::{
        principal::{Credential, Principal},
        revoked::folder::{OVERLAP, Reading, Sweep, folder, key, written},
    },
    clock::{Clock, Timestamp},
    domain::rejection::{Code, Rejection},
    ids::{Namespace, UserId},
    store::{self, Store, documents::Expect},
};

/// How often a shared store is asked: two of three readings may fail, and it still is within a second.
const POLL: Duration = Duration::from_millis(300);
/// By how much a reading may be later, so that nodes do not ask in step.
const JITTER_MS: u64 = 60;
/// How often what is old is taken out of the store.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// How often what is over is forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);
/// How long the end of a secret is remembered after it has taken effect: streams are told at once, and a secret that was
/// read before it ended is believed for less than a second.
const SECRET_KEPT: Duration = Duration::from_secs(60);
/// Users and tokens that one namespace may have revoked at a time; certificates; and secrets whose end is remembered,
/// beyond which none is replaced.
const MAX_PER_NAMESPACE: usize = 10_000;

/// Something that is worth nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Revoked {
    /// A secret or an API key by its public id.
    Credential {
        /// Which.
        id: String,
    },
    /// A client's certificate.
    Certificate {
        /// Its fingerprint.
        id: String,
    },
    /// One token of the namespace.
    Token {
        /// Its `jti`.
        id: String,
    },
    /// Whatever a user had until then.
    User {
        /// Who.
        user: String,
    },
    /// Whatever anybody of the namespace had until then.
    Namespace,
}

/// What is revoked, whose it is, and from when on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The namespace; a key of the server is of the default one.
    pub namespace: String,
    /// From when on, in milliseconds since 1970: a secret that is replaced may live a little longer.
    pub at: i64,
    /// What.
    #[serde(flatten)]
    pub what: Revoked,
}

/// Everything that is revoked. Clones are one.
#[derive(Debug, Clone)]
pub struct Revocations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// How long a revocation is remembered: as long as any token lives.
    kept: Kept,
    known: RwLock<Known>,
    /// How often something has taken effect.
    changes: watch::Sender<u64>,
}

/// How long revocations are remembered.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// What a user or a namespace had.
    pub users: Duration,
    /// A token: as long as the longest token lives.
    pub tokens: Duration,
}

/// What is known of something that is revoked, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// From when on.
    at: i64,
    /// When it is forgotten.
    until: i64,
}

/// What a namespace has revoked.
#[derive(Debug, Default)]
struct Marks {
    secrets: HashMap<String, Mark>,
    certificates: HashMap<String, Mark>,
    others: HashMap<Revoked, Mark>,
}

#[derive(Debug, Default)]
struct Known {
    /// By namespace.
    by_namespace: HashMap<String, Marks>,
    /// The names of documents that may be read again.
    names: HashSet<String>,
    /// When what is revoked for later takes effect.
    pending: BTreeSet<i64>,
}

impl Revocations {
    /// Nothing is known yet: [`Revocations::run`] reads what there is. What is older than `kept` is forgotten, so that
    /// no token may live longer.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, kept: Kept) -> Self {
        let (changes, _) = watch::channel(0);
        Self(Arc::new(Inner { store, clock, kept, known: RwLock::default(), changes }))
    }

    /// Whether what `principal` came with was revoked since it was issued. What is open to everybody never is.
    pub fn is_revoked(&self, principal: &Principal) -> bool {
        let now = self.0.clock.now().0;
        let known = self.0.read();
        let is_over = |mark: Option<&Mark>| mark.is_some_and(|mark| mark.at <= now);
        // The key may be the namespace's or the server's, whose keys are in the default one.
        if let Some(key) = &principal.minted_by {
            let homes = [principal.namespace.as_str(), Namespace::DEFAULT];
            let marks = homes.iter().filter_map(|home| known.by_namespace.get(*home));
            if marks.into_iter().any(|of| is_over(of.secrets.get(key))) {
                return true;
            }
        }
        let Some(of) = known.by_namespace.get(principal.namespace.as_str()) else {
            return false;
        };
        // A time of issue in whole seconds is that of a token which may have been issued before.
        let is_before = |what: Revoked| {
            let issued = principal.issued_at.map_or(i64::MIN, |at| at.0);
            of.others.get(&what).is_some_and(|mark| issued <= mark.at)
        };
        let itself = match &principal.credential {
            Credential::Open => return false,
            Credential::Identity(id) | Credential::Key(id) | Credential::Owner(id) => {
                is_over(of.secrets.get(id))
            }
            Credential::Certificate(id) => is_over(of.certificates.get(id)),
            Credential::Token { id: Some(id), .. } => {
                is_over(of.others.get(&Revoked::Token { id: id.clone() }))
            }
            Credential::Token { id: None, .. } => false,
        };
        let user = || {
            let user = principal.user.as_ref().map(|user| user.as_str().to_owned());
            user.is_some_and(|user| is_before(Revoked::User { user }))
        };
        itself || user() || (!principal.powers.everywhere && is_before(Revoked::Namespace))
    }

    /// When the secret that `principal` came with will have been replaced; none: nobody has said so, or it has been.
    pub fn ends_at(&self, principal: &Principal) -> Option<Timestamp> {
        let id = match &principal.credential {
            Credential::Identity(id) | Credential::Key(id) | Credential::Owner(id) => id,
            Credential::Open | Credential::Token { .. } | Credential::Certificate(_) => return None,
        };
        let now = self.0.clock.now().0;
        let known = self.0.read();
        let mark = known.by_namespace.get(principal.namespace.as_str())?.secrets.get(id)?;
        (mark.at > now).then_some(Timestamp(mark.at))
    }

    /// Changes whenever something has taken effect or is to, here or elsewhere: ask [`Revocations::is_revoked`] again then.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Revokes something from `at` on. It is known here even if the store does not answer; then the caller is told
    /// to try again.
    pub async fn revoke(&self, namespace: &Namespace, what: Revoked, at: Timestamp) -> Result<(), Rejection> {
        self.check_room(namespace, &what)?;
        let revocation = Revocation { namespace: namespace.to_string(), at: at.0, what };
        let now = self.0.clock.now();
        let name = format!("{}-{}", key(now), Uuid::new_v4().simple());
        let body = serde_json::to_vec(&revocation)
            .map_err(|_| Rejection::new(Code::Internal, "a revocation cannot be written"))?;
        self.0.learn([(name.clone(), revocation)]);
        let put = self.0.store.put_document(&folder(), &name, Expect::Anything, body.into()).await;
        put.map(drop).map_err(|error| {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "a revocation is known to this server only"
            );
            Rejection::new(Code::Unavailable, "other servers cannot be told now; try again")
        })
    }

    /// Everything that this user had until now.
    pub async fn revoke_user(&self, namespace: &Namespace, user: &UserId) -> Result<(), Rejection> {
        let what = Revoked::User { user: user.as_str().to_owned() };
        self.revoke(namespace, what, self.0.clock.now()).await
    }

    /// A namespace pays for its own memory. What ends a secret always has room: it is soon forgotten, and there are no
    /// more than [`Revocations::check_rotation`] lets be made.
    fn check_room(&self, namespace: &Namespace, what: &Revoked) -> Result<(), Rejection> {
        match what {
            Revoked::Credential { .. } | Revoked::Namespace => Ok(()),
            Revoked::Certificate { id } => {
                let words = "certificates of this namespace have just been revoked";
                self.check(namespace, words, |of| &of.certificates, |of| of.contains_key(id))
            }
            Revoked::User { .. } | Revoked::Token { .. } => {
                let words = "users and tokens of this namespace are revoked";
                self.check(namespace, words, |of| &of.others, |of| of.contains_key(what))
            }
        }
    }

    /// Refuses that a secret is replaced in a namespace that has done so too often: asked before it is, because what is
    /// replaced has to end.
    pub fn check_rotation(&self, namespace: &Namespace) -> Result<(), Rejection> {
        let words = "secrets of this namespace end or have just ended";
        self.check(namespace, words, |of| &of.secrets, |_| false)
    }

    /// Refuses one more of a kind of which there are as many as there may be, unless it is there already, and says when
    /// there is room again.
    fn check<K>(
        &self,
        namespace: &Namespace,
        what: &str,
        kind: impl Fn(&Marks) -> &HashMap<K, Mark>,
        is_there: impl Fn(&HashMap<K, Mark>) -> bool,
    ) -> Result<(), Rejection> {
        // When the next of them is forgotten, if there is no room.
        let next = |known: &Known| {
            let of = kind(known.by_namespace.get(namespace.as_str())?);
            let is_full = of.len() >= MAX_PER_NAMESPACE && !is_there(of);
            if is_full { of.values().map(|mark| mark.until).min() } else { None }
        };
        if next(&self.0.read()).is_none() {
            return Ok(());
        }
        self.0.forget();
        let Some(next) = next(&self.0.read()) else {
            return Ok(());
        };
        let wait = next.saturating_sub(self.0.clock.now().0).max(0) / 1000 + 1;
        let message =
            format!("{MAX_PER_NAMESPACE} {what}, the most there may be; the next is forgotten in {wait} s");
        Err(Rejection::new(Code::ResourceExhausted, message))
    }

    /// Reads what there is to its end: to be done before anybody is let in.
    pub async fn catch_up(&self) -> Result<(), store::Error> {
        let mut reading = Reading::new(&self.0);
        while !reading.is_done {
            reading.read(&self.0).await?;
        }
        Ok(())
    }

    /// Learns what other nodes revoke, until `stop`. A store that nobody shares is read once.
    pub async fn run(self, stop: CancellationToken) {
        let mut reading = Reading::new(&self.0);
        let mut sweep = Sweep::default();
        let mut sweep_at = Instant::now() + SWEEP_INTERVAL;
        let mut forget_at = Instant::now() + FORGET_INTERVAL;
        let mut was_read = true;
        loop {
            if self.0.store.is_shared() || !reading.is_done {
                let read = reading.read(&self.0).await;
                if let (Err(error), true) = (&read, was_read) {
                    tracing::error!(
                        error = error as &(dyn std::error::Error + 'static),
                        "what other servers revoke cannot be read"
                    );
                }
                if read.is_ok() && !was_read {
                    tracing::info!("what other servers revoke can be read again");
                }
                was_read = read.is_ok();
            }
            self.0.tell();
            if Instant::now() >= forget_at {
                forget_at = Instant::now() + FORGET_INTERVAL;
                self.0.forget();
            }
            if Instant::now() >= sweep_at {
                sweep_at = Instant::now() + SWEEP_INTERVAL;
                if let Err(error) = sweep.sweep(&self.0).await {
                    tracing::warn!(%error, "old revocations cannot be taken out of the store");
                }
            }
            let (jitter, _) = Uuid::new_v4().as_u64_pair();
            let pause = POLL + Duration::from_millis(jitter % JITTER_MS);
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }
}

impl Inner {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what is new, and tells of what has taken effect.
    fn learn(&self, read: impl IntoIterator<Item = (String, Revocation)>) {
        let now = self.clock.now().0;
        let mut is_news = false;
        {
            let mut known = self.write();
            for (name, Revocation { namespace, at, what }) in read {
                // What was to hold at once does, also where the clock is behind the one it was written by.
                let is_for_later = written(&name).is_some_and(|written| at > written) && at > now;
                if !known.names.insert(name) {
                    continue;
                }
                if is_for_later {
                    known.pending.insert(at);
                }
                is_news = true;
                // What a user had counts up to the last time; all else is over from the first time on.
                let up_to = matches!(what, Revoked::User { .. } | Revoked::Namespace);
                let at = if up_to || is_for_later { at } else { at.min(now) };
                // A server that learns late of a secret's end still has streams to end.
                let ends_one = matches!(what, Revoked::Credential { .. } | Revoked::Certificate { .. });
                let from = if ends_one { at.max(now) } else { at };
                let until = from.saturating_add(self.kept(&what));
                let of = known.by_namespace.entry(namespace).or_default();
                let mark = Mark { at, until };
                let known = match what {
                    Revoked::Credential { id } => of.secrets.entry(id).or_insert(mark),
                    Revoked::Certificate { id } => of.certificates.entry(id).or_insert(mark),
                    Revoked::Token { .. } | Revoked::User { .. } | Revoked::Namespace => {
                        of.others.entry(what).or_insert(mark)
                    }
                };
                let at = if up_to { at.max(known.at) } else { at.min(known.at) };
                let until = if up_to { until.max(known.until) } else { until.min(known.until) };
                *known = Mark { at, until };
            }
        }
        if is_news {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Tells of what was to take effect later, and now has.
    fn tell(&self) {
        let now = self.clock.now().0;
        let is_due = {
            let mut known = self.write();
            let later = known.pending.split_off(&now.saturating_add(1));
            !std::mem::replace(&mut known.pending, later).is_empty()
        };
        if is_due {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Forgets what is over: it needs no store.
    fn forget(&self) {
        let now = self.clock.now().0;
        let mut known = self.write();
        let Known { by_namespace, names, pending } = &mut *known;
        pending.clear();
        by_namespace.retain(|_, of| {
            of.secrets.retain(|_, mark| mark.until > now);
            of.certificates.retain(|_, mark| mark.until > now);
            of.others.retain(|_, mark| mark.until > now);
            pending.extend(of.secrets.values().map(|mark| mark.at).filter(|at| *at > now));
            !of.secrets.is_empty() || !of.certificates.is_empty() || !of.others.is_empty()
        });
        // One that is read once more is learned once more, which changes nothing.
        let oldest = key(Timestamp(now.saturating_sub(millis(OVERLAP * 2))));
        names.retain(|name| *name >= oldest);
    }

    /// How long something is remembered, in milliseconds.
    fn kept(&self, what: &Revoked) -> i64 {
        millis(match what {
            Revoked::Credential { .. } | Revoked::Certificate { .. } => SECRET_KEPT,
            Revoked::Token { .. } => self.kept.tokens,
            Revoked::User { .. } | Revoked::Namespace => self.kept.users,
        })
    }

    /// From when on revocations matter.
    fn oldest(&self) -> Timestamp {
        let kept = millis(self.kept.users.max(self.kept.tokens));
        Timestamp(self.clock.now().0.saturating_sub(kept))
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
