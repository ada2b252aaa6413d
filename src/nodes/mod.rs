//! Which servers live among those that share a store, and who this one is.
//!
//! Every answer, autopilot and reservation names the node that it belongs to. A node says again and again that it
//! lives; whoever is not heard of for long enough loses its lease, and what names a node without a lease is closed by
//! the others. No wall clock is asked for any of it: what counts is whether a beat changes while somebody looks, so
//! nodes may disagree about the time of day as much as they like.
//!
//! Knows leases, never rooms: what is done about the dead is the server's business.

mod heart;
mod watch;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use self::{
    heart::{Beat, Heart, Pulse},
    watch::Watch,
};
use crate::ids::NodeId;

/// How leases are kept.
#[derive(Debug, Clone, Copy)]
pub struct LeaseSettings {
    /// How long a server may be silent.
    pub lease: Duration,
    /// How often it says that it lives, and looks at the others.
    pub every: Duration,
}

impl LeaseSettings {
    /// How far two looks may be from each other and still be one: a single one may fail.
    pub fn gap(self) -> Duration {
        self.every * 5 / 2
    }
}

/// Who this server is at the moment. Clones are one.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Mutex<NodeId>>);

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// A node that nobody has heard of.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(NodeId::random())))
    }

    /// Its name, for what begins now.
    pub fn now(&self) -> NodeId {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on as another node.
    fn become_another(&self, node: NodeId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = node;
    }
}
