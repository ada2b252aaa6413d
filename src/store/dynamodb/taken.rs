//! What namespaces have taken: an item for each, to which this process adds now and then what it has appended meanwhile.
//!
//! An item that every append of a namespace changes would make all of them wait for one another, and cost as much again as
//! the events. So this is about as much: what was added here since is missing elsewhere, is lost when the process dies, and
//! is counted twice or not at all when an answer was lost. Rooms are added at once.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    ids::Namespace,
    store::{
        Error, NamespaceUsage,
        dynamodb::{
            client::{Failure, Table},
            items::{self, Item, get_number, item, number},
            lookups::get,
        },
        rules::Taken,
    },
};

/// Bytes that may be missing elsewhere.
const BEHIND: u64 = 256 * 1024;
/// Members that may be missing elsewhere: a request more for so many joins is nothing beside them.
const MEMBERS_BEHIND: u64 = 100;

/// What was not added yet, by namespace: no more entries than namespaces that this process writes to.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<HashMap<Namespace, Taken>>);

impl Tally {
    fn lock(&self) -> MutexGuard<'_, HashMap<Namespace, Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what was written.
    pub(super) fn add(&self, namespace: &Namespace, taken: Taken) {
        let mut all = self.lock();
        let owed = all.entry(namespace.clone()).or_default();
        *owed = owed.and(taken);
    }

    /// Adds to the item what is due. An append does not fail for it: it is tried again behind a later one.
    pub(super) async fn pass_on(&self, table: &Table, namespace: &Namespace) {
        let is_due = |taken: &Taken| {
            taken.rooms > 0 || taken.bytes >= BEHIND || taken.members.unsigned_abs() >= MEMBERS_BEHIND
        };
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
        // Whoever stops waiting for it leaves it for the next.
        let mut owed = Owed { tally: self, namespace, taken: Some(taken) };
        match add(table, namespace, taken).await {
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
        let owed = self.lock().get(namespace).copied().unwrap_or_default();
        let found = get(table, "read what a namespace has taken", &items::taken(namespace)).await?;
        let counted = found.map(|found| {
            // Not there before the first member was counted.
            let members = if found.contains_key("m") { get_number(&found, "m")? } else { 0 };
            let (rooms, bytes) = (get_number(&found, "r")?, get_number(&found, "b")?);
            Ok(NamespaceUsage { rooms, bytes, members })
        });
        Ok(owed.on_top_of(counted.transpose()?.unwrap_or_default()))
    }
}

/// Adds to the item. Of members no fewer than none are left: some who leave may have come before they were counted.
async fn add(table: &Table, namespace: &Namespace, taken: Taken) -> Result<(), Failure> {
    if taken.members >= 0 {
        return update(table, namespace, "ADD r :r, b :b, m :m", None, values_of(taken)).await;
    }
    let none = Taken { members: 0, ..taken };
    let either = [
        ("ADD r :r, b :b, m :m", "m >= :least", taken),
        ("SET m = :m ADD r :r, b :b", "m < :least OR attribute_not_exists(m)", none),
    ];
    // One of the two holds, unless others come in between.
    loop {
        for (expression, condition, taken_now) in either {
            let mut values = values_of(taken_now);
            values.insert(":least".to_owned(), number(taken.members.unsigned_abs()));
            match update(table, namespace, expression, Some(condition), values).await {
                Err(Failure::Condition { doubted: false, .. }) => {}
                // It was carried out, as far as anybody can tell, and its answer was lost.
                Err(Failure::Condition { doubted: true, .. }) => return Ok(()),
                sent => return sent,
            }
        }
    }
}

fn values_of(taken: Taken) -> Item {
    item([(":r", number(taken.rooms)), (":b", number(taken.bytes)), (":m", number(taken.members))])
}

async fn update(
    table: &Table,
    namespace: &Namespace,
    expression: &str,
    condition: Option<&str>,
    values: Item,
) -> Result<(), Failure> {
    let sent = table.send("count what a namespace takes", || {
        table
            .client()
            .update_item()
            .table_name(table.name())
            .set_key(Some(items::taken(namespace).item()))
            .update_expression(expression)
            .set_condition_expression(condition.map(str::to_owned))
            .set_expression_attribute_values(Some(values.clone()))
            .send()
    });
    sent.await.map(|_| ())
}

/// What is on its way to the item, and goes back unless it has arrived.
struct Owed<'a> {
    tally: &'a Tally,
    namespace: &'a Namespace,
    taken: Option<Taken>,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.tally.add(self.namespace, taken);
        }
    }
}
