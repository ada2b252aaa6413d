//! What was taken back before its time, known to every node within a second.
//!
//! Each revocation is a document whose name begins with the time; every node reads what is new in their folder, two or
//! three times a second, and needs no bus for it. Here it is known at once. A store that fails is logged once and asked
//! again: what was revoked meanwhile elsewhere is learned when it answers. Nothing is decided here about secrets that
//! are shown anew, which the directory refuses by itself: this ends streams that are open, and tokens, which no
//! document stands for.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    auth::principal::{Credential, Principal},
    clock::{Clock, Timestamp},
    domain::rejection::{Code, Rejection},
    ids::{Namespace, UserId},
    store::{
        Error, Store,
        documents::{Document, Expect, Folder},
    },
};

/// How often a shared store is asked: two of three readings may fail, and it still is within a second.
const POLL: Duration = Duration::from_millis(300);
/// By how much a reading may be later, so that nodes do not ask in step.
const JITTER_MS: u64 = 60;
/// How far the clock of another node may be behind ours.
const OVERLAP: Duration = Duration::from_secs(30);
/// Documents that are read in one call, and calls in one reading; what is left is read by the next.
const PAGE: usize = 256;
const PAGES: usize = 64;
/// How often what is old is taken out of the store.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// Users and tokens that one namespace may have revoked at a time.
const MAX_PER_NAMESPACE: usize = 10_000;

/// Something that is worth nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Revoked {
    /// A secret or an API key by its public id, or a client's certificate by its fingerprint.
    Credential {
        /// Which.
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
    kept: Duration,
    known: RwLock<Known>,
    /// How often something has taken effect.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    /// By namespace: what is revoked, and from when on.
    by_namespace: HashMap<String, HashMap<Revoked, i64>>,
    /// The names of documents that may be read again.
    names: HashSet<String>,
    /// When what is revoked for later takes effect.
    pending: BTreeSet<i64>,
}

impl Revocations {
    /// Nothing is known yet: [`Revocations::run`] reads what there is. What is older than `kept` is forgotten, so that
    /// no token may live longer.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, kept: Duration) -> Self {
        let (changes, _) = watch::channel(0);
        Self(Arc::new(Inner { store, clock, kept, known: RwLock::default(), changes }))
    }

    /// Whether what `principal` came with was revoked since it was issued. What is open to everybody never is.
    pub fn is_revoked(&self, principal: &Principal) -> bool {
        let now = self.0.clock.now().0;
        let known = self.0.read();
        let Some(of) = known.by_namespace.get(principal.namespace.as_str()) else {
            return false;
        };
        let is_over = |what: Revoked| of.get(&what).is_some_and(|at| *at <= now);
        // A time of issue in whole seconds is that of a token which may have been issued before.
        let is_before = |what: Revoked| {
            let issued = principal.issued_at.map_or(i64::MIN, |at| at.0);
            of.get(&what).is_some_and(|at| issued <= *at)
        };
        let itself = match &principal.credential {
            Credential::Open => return false,
            Credential::Identity(id)
            | Credential::Key(id)
            | Credential::Owner(id)
            | Credential::Certificate(id) => is_over(Revoked::Credential { id: id.clone() }),
            Credential::Token { id: Some(id), .. } => is_over(Revoked::Token { id: id.clone() }),
            Credential::Token { id: None, .. } => false,
        };
        let user = || {
            let user = principal.user.as_ref().map(|user| user.as_str().to_owned());
            user.is_some_and(|user| is_before(Revoked::User { user }))
        };
        itself || user() || (!principal.powers.everywhere && is_before(Revoked::Namespace))
    }

    /// Changes whenever something has taken effect, here or elsewhere: ask [`Revocations::is_revoked`] again then.
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

    /// A namespace pays for its own memory; what ends a secret always has room, because there are not many.
    fn check_room(&self, namespace: &Namespace, what: &Revoked) -> Result<(), Rejection> {
        let known = self.0.read();
        let Some(of) = known.by_namespace.get(namespace.as_str()) else {
            return Ok(());
        };
        match what {
            Revoked::User { .. } | Revoked::Token { .. }
                if of.len() >= MAX_PER_NAMESPACE && !of.contains_key(what) =>
            {
                let message = format!(
                    "{MAX_PER_NAMESPACE} users and tokens of this namespace are revoked already; they are forgotten after {} s",
                    self.0.kept.as_secs()
                );
                Err(Rejection::new(Code::ResourceExhausted, message))
            }
            _ => Ok(()),
        }
    }

    /// Learns what other nodes revoke, until `stop`. A store that nobody shares is read once.
    pub async fn run(self, stop: CancellationToken) {
        let mut reading = Reading::new(&self.0);
        let mut sweep_at = Instant::now() + SWEEP_INTERVAL;
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
            if Instant::now() >= sweep_at {
                sweep_at = Instant::now() + SWEEP_INTERVAL;
                if let Err(error) = self.0.sweep().await {
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
        let mut effective = false;
        {
            let mut known = self.write();
            for (name, Revocation { namespace, at, what }) in read {
                // What was to hold at once does, also where the clock is behind the one it was written by.
                let is_for_later = written(&name).is_some_and(|written| at > written) && at > now;
                if !known.names.insert(name) {
                    continue;
                }
                match is_for_later {
                    true => drop(known.pending.insert(at)),
                    false => effective = true,
                }
                // What a user had counts up to the last time; all else is over from the first time on.
                let up_to = matches!(what, Revoked::User { .. } | Revoked::Namespace);
                let at = if up_to || is_for_later { at } else { at.min(now) };
                let known = known.by_namespace.entry(namespace).or_default().entry(what).or_insert(at);
                *known = if up_to { at.max(*known) } else { at.min(*known) };
            }
        }
        if effective {
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

    /// Forgets what is too old to matter, here and in the store.
    async fn sweep(&self) -> Result<(), Error> {
        let oldest = self.oldest();
        {
            let mut known = self.write();
            known.by_namespace.retain(|_, of| {
                of.retain(|_, at| *at >= oldest.0);
                !of.is_empty()
            });
        }
        let end = key(oldest);
        for _ in 0..PAGES {
            let page = self.store.documents(&folder(), None, PAGE).await?;
            let old: Vec<Document> = page.into_iter().take_while(|document| document.name < end).collect();
            for document in &old {
                self.store.put_document(&folder(), &document.name, Expect::Anything, Bytes::new()).await?;
            }
            if old.len() < PAGE {
                break;
            }
        }
        Ok(())
    }

    /// From when on revocations matter.
    fn oldest(&self) -> Timestamp {
        let kept = i64::try_from(self.kept.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.clock.now().0.saturating_sub(kept))
    }
}

/// How far the folder was read.
struct Reading {
    /// Everything up to this name was.
    after: String,
    /// Whether the end was reached once.
    is_done: bool,
}

impl Reading {
    fn new(of: &Inner) -> Self {
        Self { after: key(of.oldest()), is_done: false }
    }

    async fn read(&mut self, of: &Inner) -> Result<(), Error> {
        let begun = of.clock.now();
        for _ in 0..PAGES {
            let page = of.store.documents(&folder(), Some(&self.after), PAGE).await?;
            if let Some(last) = page.last() {
                self.after = last.name.clone();
                of.learn(page.iter().filter_map(parse));
                continue;
            }
            self.is_done = true;
            // What a slower clock has written since then stands before what was read.
            let overlap = i64::try_from(OVERLAP.as_millis()).unwrap_or_default();
            let again = begun.0.saturating_sub(overlap);
            self.after = self.after.clone().min(key(Timestamp(again)));
            // A name is read again only within that time.
            of.write().names.retain(|name| *name > self.after);
            break;
        }
        Ok(())
    }
}

/// When a document was written, by the clock of who wrote it.
fn written(name: &str) -> Option<i64> {
    name.split_once('-')?.0.parse().ok()
}

/// What a document says. One that says nothing we know is from a newer server.
fn parse(document: &Document) -> Option<(String, Revocation)> {
    let read = serde_json::from_slice(&document.body);
    if let Err(error) = &read {
        tracing::warn!(name = document.name, %error, "a revocation cannot be read");
    }
    Some((document.name.clone(), read.ok()?))
}

fn folder() -> Folder {
    Folder::new(&["revoked"])
}

/// The beginning of a name: times as texts of one length, in the order of the times.
fn key(at: Timestamp) -> String {
    format!("{:014}", at.0.max(0))
}

#[cfg(test)]
mod tests;
