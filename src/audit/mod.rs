//! The audit: who did what to whom, by which credential, from where, and what came of it.
//!
//! A stream of its own beside the rooms' logs, one for each namespace, kept as documents of the store for
//! `audit.retention`, and as one line of the log each (target `salon::audit`). It never holds what was said, a reason
//! that somebody wrote, a secret or a token. Whoever records waits for nothing: facts go into a bounded queue, and one
//! task writes them. What strangers can cause as often as they like (sign-ins that are refused, limits that are hit) is
//! recorded once a minute for each who causes it, with how often it was. What does not fit or cannot be written is
//! counted, and the count is a fact of its own; so a store that is away loses facts, but never without a trace.
//!
//! Facts of rooms are recorded by the node that has committed them ([`room`]); they know the user, and `here` knows by
//! which credentials and from where that user is connected to this node.

mod fact;
mod here;
mod repeats;
pub mod room;
mod sweep;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    fact::{Act, Entry, Fact, Origin, Outcome},
    here::SignedIn,
};
use crate::{
    audit::{here::Here, repeats::Repeats, sweep::Sweep, writer::Writer},
    clock::{Clock, Timestamp},
    ids::{Namespace, NodeId, UserId},
    store::{self, Store, documents::Folder},
};

/// Facts that wait to be written.
const QUEUE: usize = 4096;
/// The most entries of one page.
pub const PAGE: usize = 1000;

/// How the audit is kept.
#[derive(Debug, Clone, Copy)]
pub struct AuditSettings {
    /// Whether anything is.
    pub enabled: bool,
    /// How long.
    pub retention: Duration,
}

/// The audit of this node. Clones are one.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// `None`: nothing is recorded.
    queue: Option<mpsc::Sender<(Timestamp, Fact)>>,
    lost: Arc<AtomicU64>,
    repeats: Arc<Mutex<Repeats>>,
    here: Arc<Here>,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("is_kept", &self.0.queue.is_some()).finish_non_exhaustive()
    }
}

impl Audit {
    /// Begins to write to `store` as `node`, in `tasks`, until `stop`: then what waits is still written.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        node: NodeId,
        settings: AuditSettings,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let repeats = Arc::new(Mutex::new(Repeats::default()));
        if settings.enabled {
            let sweep = Sweep {
                store: Arc::clone(&store),
                clock: Arc::clone(&clock),
                retention: settings.retention,
                stop: stop.clone(),
            };
            tasks.spawn(sweep.run());
            let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
            let (lost, repeats) = (Arc::clone(&lost), Arc::clone(&repeats));
            tasks.spawn(Writer::new(store, clock, node, queue, lost, repeats, stop).run());
        }
        let queue = settings.enabled.then_some(sender);
        Self(Arc::new(Inner { store, clock, queue, lost, repeats, here: Arc::default() }))
    }

    /// Records a fact. Never waits.
    pub fn record(&self, fact: Fact) {
        let Some(queue) = &self.0.queue else { return };
        let at = self.0.clock.now();
        let fact = self.0.here.complete(fact);
        if fact.is_often() {
            let mut repeats = self.0.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            if !repeats.is_first(&fact) {
                return;
            }
        }
        if queue.try_send((at, fact)).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Somebody is here until what is returned is dropped. Recorded if a credential was shown, and what they do in rooms
    /// meanwhile is recorded with `origin`.
    pub fn signed_in(&self, namespace: Namespace, user: UserId, origin: Origin) -> SignedIn {
        let guard = self.goes_on(namespace.clone(), user.clone(), origin.clone());
        // Where nobody is asked who they are, nothing was shown.
        if !origin.credential.is_empty() {
            self.record(Fact::new(namespace, Act::SignIn).by(user).from(origin));
        }
        guard
    }

    /// The same for somebody who was here and has shown another credential, which is recorded by itself.
    pub fn goes_on(&self, namespace: Namespace, user: UserId, origin: Origin) -> SignedIn {
        Here::enter(&self.0.here, (namespace, user), origin)
    }

    /// Up to `limit` (at most [`PAGE`]) entries of a namespace behind the one with the id `after`, oldest first. Servers
    /// write beside one another: an entry may come a few seconds behind one that is later by its time.
    pub async fn read(
        &self,
        namespace: &Namespace,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, store::Error> {
        let page = self.0.store.documents(&folder(namespace), after, limit.min(PAGE)).await?;
        Ok(page.into_iter().map(Entry::of_document).collect())
    }

    /// What stands in the place of an id to read from this time on.
    pub fn position(at: Timestamp) -> String {
        format!("{:015}", at.0.max(0))
    }
}

/// Where the entries of a namespace are.
fn folder(namespace: &Namespace) -> Folder {
    Folder::new(&["audit", namespace.as_str()])
}

/// Where it is written down which namespaces have any.
fn namespaces() -> Folder {
    Folder::new(&["audited"])
}
