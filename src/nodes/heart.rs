//! That this node lives, said again and again.
//!
//! Whoever was silent for too long finds its lease taken away, and goes on under another name: what it had begun
//! belongs to others then. A store that fails is told nothing, and asked again with the next beat.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::{
    ids::NodeId,
    nodes::Identity,
    store::{Error, Lease, Store},
};

/// Says that this node lives.
#[derive(Debug)]
pub struct Heart {
    store: Arc<dyn Store>,
    identity: Identity,
    /// The last beat that is known to be there.
    lease: Lease,
    pulse: Pulse,
}

/// What a beat has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// The lease is renewed.
    Kept,
    /// It had been taken away: this is another node now, and what the one before had begun is for others to close.
    Lost {
        /// Who this was.
        was: NodeId,
    },
}

/// When the last beat began that the store has taken. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    /// `None`: there was none.
    pub fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn felt(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

impl Heart {
    /// The first beat: before it, nothing may be begun in this node's name.
    pub async fn begin(store: Arc<dyn Store>, identity: Identity) -> Result<Self, Error> {
        let lease = Lease { node: identity.now(), beat: 0 };
        let mut heart = Self { store, identity, lease, pulse: Pulse::default() };
        heart.beat().await?;
        Ok(heart)
    }

    /// When it last beat.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// The next beat. After an error it is not known whether it was the next, and it is repeated as it was.
    pub async fn beat(&mut self) -> Result<Beat, Error> {
        let began = Instant::now();
        let next = self.next();
        if self.store.beat(next).await? {
            self.lease = next;
            self.pulse.felt(began);
            return Ok(Beat::Kept);
        }
        let fresh = Lease { node: NodeId::random(), beat: 1 };
        self.store.beat(fresh).await?;
        let was = self.lease.node;
        self.lease = fresh;
        // Not before its lease is there: what begins in its name must not look like a dead node's.
        self.identity.become_another(fresh.node);
        self.pulse.felt(began);
        Ok(Beat::Lost { was })
    }

    /// Gives the lease back: nobody has to wait until it is over.
    pub async fn end(self) -> Result<(), Error> {
        // The last beat may have arrived although its answer has not.
        if !self.store.retire(self.lease).await? {
            self.store.retire(self.next()).await?;
        }
        Ok(())
    }

    fn next(&self) -> Lease {
        Lease { beat: self.lease.beat.saturating_add(1), ..self.lease }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn a_lease_that_was_taken_away_leaves_another_node() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
        let identity = Identity::new();
        let mut heart = Heart::begin(Arc::clone(&store), identity.clone()).await.unwrap();
        assert_eq!(heart.beat().await.unwrap(), Beat::Kept);
        let was = identity.now();
        let lease = Lease { node: was, beat: 2 };
        assert_eq!(store.leases().await.unwrap(), [lease]);
        assert!(store.retire(lease).await.unwrap());
        assert_eq!(heart.beat().await.unwrap(), Beat::Lost { was });
        assert_ne!(identity.now(), was);
        assert_eq!(store.leases().await.unwrap(), [Lease { node: identity.now(), beat: 1 }]);
        assert_eq!(heart.beat().await.unwrap(), Beat::Kept);
        heart.end().await.unwrap();
        assert_eq!(store.leases().await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_beat_without_an_answer_is_given_back_as_well() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
        let identity = Identity::new();
        let heart = Heart::begin(Arc::clone(&store), identity.clone()).await.unwrap();
        // As if it were this heart's, and nobody had told it.
        assert!(store.beat(Lease { node: identity.now(), beat: 2 }).await.unwrap());
        heart.end().await.unwrap();
        assert_eq!(store.leases().await.unwrap(), []);
    }
}
