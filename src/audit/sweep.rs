//! Forgetting what is older than `audit.retention`: now and then, page by page, beside everything else.
//!
//! Every server does it; what another has removed already is passed over. What cannot be removed now is left to the next
//! time.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    audit::{Audit, folder, namespaces},
    clock::{Clock, Timestamp},
    ids::Namespace,
    store::{self, Store, documents::Expect},
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Until the first one: not all servers that are started together look at once with everything else.
const FIRST: Duration = Duration::from_secs(5 * 60);
/// Entries and namespaces that are looked at in one call.
const PAGE: usize = 200;
/// Entries of one namespace that are removed in one look; the others are for the next.
const MOST: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) retention: Duration,
    pub(super) stop: CancellationToken,
}

impl Sweep {
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        let mut pause = FIRST;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            match stop.run_until_cancelled(self.look()).await {
                Some(Ok(0)) | None => {}
                Some(Ok(forgotten)) => tracing::debug!(forgotten, "old facts of the audit forgotten"),
                Some(Err(error)) => tracing::debug!(%error, "cannot forget old facts of the audit"),
            }
            pause = EVERY;
        }
    }

    /// Removes what is too old; returns how much.
    async fn look(&self) -> Result<usize, store::Error> {
        let kept = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        let before = Audit::position(Timestamp(self.clock.now().0.saturating_sub(kept)));
        let (mut forgotten, mut last): (usize, Option<String>) = (0, None);
        loop {
            let page = self.store.documents(&namespaces(), last.as_deref(), PAGE).await?;
            for known in &page {
                if let Ok(namespace) = Namespace::parse(&known.name) {
                    forgotten += self.namespace(&namespace, &before).await?;
                }
            }
            match page.into_iter().next_back() {
                Some(document) => last = Some(document.name),
                None => return Ok(forgotten),
            }
        }
    }

    async fn namespace(&self, namespace: &Namespace, before: &str) -> Result<usize, store::Error> {
        let (folder, mut forgotten) = (folder(namespace), 0);
        while forgotten < MOST {
            // What was removed is not at the beginning any more.
            let page = self.store.documents(&folder, None, PAGE).await?;
            let old: Vec<_> = page.into_iter().filter(|document| document.name.as_str() < before).collect();
            if old.is_empty() {
                break;
            }
            for document in &old {
                let nothing = bytes::Bytes::new();
                self.store.put_document(&folder, &document.name, Expect::Anything, nothing).await?;
            }
            forgotten += old.len();
        }
        Ok(forgotten)
    }
}
