//! The one task that writes facts down.
//!
//! A fact that cannot be written is tried again, with longer and longer pauses, while others wait in the queue; what the
//! store will never take is given up. At the end of the server what waits is written, within a few seconds.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{Act, Entry, Fact, folder, namespaces, repeats::Repeats},
    clock::{Clock, Timestamp},
    ids::{Namespace, NodeId},
    store::{self, Store, documents::Expect},
};

/// How long repeats are counted.
const MINUTE: Duration = Duration::from_secs(60);
/// Between two tries, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long the end of the server waits for what is in the queue.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two warnings that facts cannot be written.
const AGAIN: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    node: String,
    queue: mpsc::Receiver<(Timestamp, Fact)>,
    lost: Arc<AtomicU64>,
    repeats: Arc<Mutex<Repeats>>,
    stop: CancellationToken,
    /// How many were written: it orders those of one moment.
    written: u64,
    /// Of which namespaces it is written down that they have entries.
    known: HashSet<Namespace>,
    /// When it was said last that facts cannot be written.
    warned: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        node: NodeId,
        queue: mpsc::Receiver<(Timestamp, Fact)>,
        lost: Arc<AtomicU64>,
        repeats: Arc<Mutex<Repeats>>,
        stop: CancellationToken,
    ) -> Self {
        let (node, known) = (node.to_string(), HashSet::new());
        Self { store, clock, node, queue, lost, repeats, stop, written: 0, known, warned: None }
    }

    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        let mut ends: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = at(ends) => {
                    ends = None;
                    self.end_minute().await;
                }
                fact = self.queue.recv() => match fact {
                    Some((at, fact)) => self.write(at, fact).await,
                    None => break,
                },
            }
            if ends.is_none() && !self.repeats.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                ends = Some(Instant::now() + MINUTE);
            }
        }
        self.queue.close();
        if tokio::time::timeout(PATIENCE, self.write_rest()).await.is_err() {
            tracing::warn!("facts of the audit were not written: the store was too slow");
        }
    }

    async fn write_rest(&mut self) {
        while let Some((at, fact)) = self.queue.recv().await {
            self.write(at, fact).await;
        }
        self.end_minute().await;
    }

    async fn end_minute(&mut self) {
        let counted = self.repeats.lock().unwrap_or_else(PoisonError::into_inner).end();
        let at = self.clock.now();
        for fact in counted {
            self.write(at, fact).await;
        }
    }

    /// Writes a fact, and how many were lost before it.
    async fn write(&mut self, at: Timestamp, fact: Fact) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let fact = Fact { count: lost, ..Fact::new(Namespace::default(), Act::FactsLost) };
            self.write_one(at, &fact).await;
        }
        self.write_one(at, &fact).await;
    }

    async fn write_one(&mut self, at: Timestamp, fact: &Fact) {
        self.written += 1;
        let node: String = self.node.chars().filter(char::is_ascii_hexdigit).take(8).collect();
        let id = format!("{:015}-{:010}-{node}", at.0.max(0), self.written);
        let entry = Entry::new(id, at, &self.node, fact);
        tell(fact, &entry);
        let mut pause = PAUSE.0;
        loop {
            let Err(error) = self.put(&fact.namespace, &entry).await else { return };
            if self.warned.is_none_or(|at| at.elapsed() >= AGAIN) {
                self.warned = Some(Instant::now());
                tracing::warn!(%error, "a fact of the audit cannot be written");
            }
            let waited =
                error.retryable() && self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some();
            if !waited {
                let count = if fact.act == Act::FactsLost { fact.count } else { 1 };
                self.lost.fetch_add(count, Ordering::Relaxed);
                return;
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn put(&mut self, namespace: &Namespace, entry: &Entry) -> Result<(), store::Error> {
        if !self.known.contains(namespace) {
            // Whether it was there already does not matter.
            let here = Bytes::from_static(b"1");
            self.store.put_document(&namespaces(), namespace.as_str(), Expect::Nothing, here).await?;
            self.known.insert(namespace.clone());
        }
        let body = serde_json::to_vec(entry).unwrap_or_default();
        // One that is there is the same: a try whose answer was lost.
        self.store.put_document(&folder(namespace), &entry.id, Expect::Nothing, body.into()).await?;
        Ok(())
    }
}

/// The line of the log.
fn tell(fact: &Fact, entry: &Entry) {
    let Entry { act, outcome, actor, room, subject, detail, origins, count, .. } = entry;
    let namespace = fact.namespace.as_str();
    let origins = serde_json::to_string(origins).unwrap_or_default();
    tracing::info!(
        target: "salon::audit",
        namespace, act, outcome, ?actor, room, ?subject, ?detail, origins, count, "audit"
    );
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
