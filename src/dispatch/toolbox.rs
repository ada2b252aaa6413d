//! What the tools of all runs stand on: servers of tools from outside, and the calls that wait for a person.
//!
//! Who waits for a decision is told it here; asking the room, and what follows from its word, is `tools/approve.rs`. A
//! run that has gone is forgotten, and a decision for nobody is dropped. Nothing here fails.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{domain::approval::Decided, ids::ApprovalId, mcp::Servers};

/// What the tools of all runs stand on.
#[derive(Debug, Default)]
pub(super) struct Toolbox {
    /// Servers of tools from outside.
    pub(super) servers: Servers,
    /// Calls that wait for a person.
    pub(super) approvals: Approvals,
}

/// A decision, and the reason that was given with it.
pub(super) type Word = (Decided, String);

/// The runs of this node that wait for a decision.
#[derive(Debug, Default)]
pub(super) struct Approvals(Mutex<HashMap<ApprovalId, oneshot::Sender<Word>>>);

impl Approvals {
    /// Tells the run that waits for it, if it is on this node.
    pub(super) fn decided(&self, id: ApprovalId, decided: Decided, reason: String) {
        if let Some(waiting) = self.table().remove(&id) {
            // The run may have been stopped just now.
            let _ = waiting.send((decided, reason));
        }
    }

    /// Waits for the word about this call, from now on.
    pub(super) fn wait(&self, id: ApprovalId) -> Waiter<'_> {
        let (sender, decided) = oneshot::channel();
        self.table().insert(id, sender);
        Waiter { approvals: self, id, decided }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<ApprovalId, oneshot::Sender<Word>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the table; dropping it gives it up.
pub(super) struct Waiter<'a> {
    approvals: &'a Approvals,
    id: ApprovalId,
    pub(super) decided: oneshot::Receiver<Word>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.approvals.table().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_told_once_and_who_has_gone_is_forgotten() {
        let approvals = Approvals::default();
        let id = |n| ApprovalId(Uuid::from_u128(n));
        let mut waiter = approvals.wait(id(1));
        drop(approvals.wait(id(2)));
        approvals.decided(id(2), Decided::Approved, String::new());
        approvals.decided(id(1), Decided::Denied, "too dear".into());
        approvals.decided(id(1), Decided::Approved, String::new());
        assert_eq!((&mut waiter.decided).await, Ok((Decided::Denied, "too dear".to_owned())));
        drop(waiter);
        assert!(approvals.table().is_empty());
    }
}
