//! What namespaces have taken: an item for each, to which this process adds now and then what it has appended meanwhile.
//!
//! An item that every append of a namespace changes would make all of them wait for one another, and cost as much again as
//! the events. So this is about as much: what was added here since is missing elsewhere, is lost when the process dies, and
//! is counted twice when an answer was lost. Rooms are added at once.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    ids::Namespace,
    store::{
        Error, NamespaceUsage,
        dynamodb::{
            client::Table,
            items::{self, get_number, item, number},
            lookups::get,
        },
    },
};

/// Bytes that may be missing elsewhere.
const BEHIND: u64 = 256 * 1024;

/// What was not added yet, by namespace: no more entries than namespaces that this process writes to.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<HashMap<Namespace, NamespaceUsage>>);

impl Tally {
    fn lock(&self) -> MutexGuard<'_, HashMap<Namespace, NamespaceUsage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what was written.
    pub(super) fn add(&self, namespace: &Namespace, taken: NamespaceUsage) {
        let mut all = self.lock();
        let usage = all.entry(namespace.clone()).or_default();
        usage.rooms += taken.rooms;
        usage.bytes += taken.bytes;
    }

    /// Adds to the item what is due. An append does not fail for it: it is tried again behind a later one.
    pub(super) async fn pass_on(&self, table: &Table, namespace: &Namespace) {
        let is_due = |usage: &NamespaceUsage| usage.rooms > 0 || usage.bytes >= BEHIND;
        if self.lock().get(namespace).is_some_and(is_due) {
            self.pass_on_all_of(table, namespace).await;
        }
    }

    /// Adds everything, before the store is closed.
    pub(super) async fn finish(&self, table: &Table) {
        let all: Vec<Namespace> = self.lock().keys().cloned().collect();
        for namespace in &all {
            // A service that is away keeps nobody for long.
            if !self.pass_on_all_of(table, namespace).await {
                break;
            }
        }
    }

    async fn pass_on_all_of(&self, table: &Table, namespace: &Namespace) -> bool {
        let Some(taken) = self.lock().remove(namespace) else { return true };
        let values = item([(":r", number(taken.rooms)), (":b", number(taken.bytes))]);
        // Whoever stops waiting for it leaves it for the next.
        let mut owed = Owed { tally: self, namespace, taken: Some(taken) };
        let sent = table.send("count what a namespace takes", || {
            table
                .client()
                .update_item()
                .table_name(table.name())
                .set_key(Some(items::taken(namespace).item()))
                .update_expression("ADD r :r, b :b")
                .set_expression_attribute_values(Some(values.clone()))
                .send()
        });
        match sent.await {
            Ok(_) => owed.taken = None,
            Err(failure) => {
                let error = failure.into_error();
                tracing::warn!(%error, %namespace, "what a namespace has taken is counted later");
            }
        }
        owed.taken.is_none()
    }

    /// [`crate::store::Store::namespace_usage`].
    pub(super) async fn usage(&self, table: &Table, namespace: &Namespace) -> Result<NamespaceUsage, Error> {
        let mut usage = self.lock().get(namespace).copied().unwrap_or_default();
        if let Some(found) = get(table, "read what a namespace has taken", &items::taken(namespace)).await? {
            usage.rooms += get_number::<u64>(&found, "r")?;
            usage.bytes += get_number::<u64>(&found, "b")?;
        }
        Ok(usage)
    }
}

/// What is on its way to the item, and goes back unless it has arrived.
struct Owed<'a> {
    tally: &'a Tally,
    namespace: &'a Namespace,
    taken: Option<NamespaceUsage>,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.tally.add(self.namespace, taken);
        }
    }
}
