//! How many connections each peer has: a cap, so that one of them cannot take all that there are.
//!
//! Owns a count for each address that is connected, and nothing of those that are not, so that it is no larger than the
//! number of connections. This machine is not counted. Behind a proxy that hides its clients all of them are one
//! address: there the cap is switched off, or is as large as the proxy needs.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::address;

/// The connections of every peer.
#[derive(Debug, Clone)]
pub(super) struct Peers {
    /// None: as many as they like.
    most: Option<NonZeroUsize>,
    open: Arc<Mutex<HashMap<IpAddr, Count>>>,
}

#[derive(Debug, Default)]
struct Count {
    connections: usize,
    /// Whether it was said that the peer has too many, since it had none.
    is_told: bool,
}

/// One connection of a peer; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// None: not counted.
    counted: Option<(Peers, IpAddr)>,
}

impl Peers {
    /// Nobody is connected yet. `most`: connections of one peer; 0: as many as it likes.
    pub(super) fn new(most: usize) -> Self {
        Self { most: NonZeroUsize::new(most), open: Arc::default() }
    }

    /// Counts a connection; none: the peer has as many as it may.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let (Some(most), Some(counted)) = (self.most, address::counted(address)) else {
            return Some(Place { counted: None });
        };
        let mut open = self.lock();
        let count = open.entry(counted).or_default();
        if count.connections < most.get() {
            count.connections += 1;
            return Some(Place { counted: Some((self.clone(), counted)) });
        }
        // Once, not at every attempt: an attacker must not fill the log.
        if !std::mem::replace(&mut count.is_told, true) {
            tracing::warn!(peer = %counted, %most, "a peer has too many connections; more of it are closed");
        }
        None
    }

    fn leave(&self, counted: IpAddr) {
        let mut open = self.lock();
        if let Some(count) = open.get_mut(&counted) {
            count.connections = count.connections.saturating_sub(1);
            if count.connections == 0 {
                open.remove(&counted);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Count>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((peers, counted)) = self.counted.take() {
            peers.leave(counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_has_as_many_as_it_may_and_no_more() {
        let peers = Peers::new(2);
        let first = peers.enter(ip("192.0.2.1")).unwrap();
        let second = peers.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert!(peers.enter(ip("192.0.2.1")).is_none(), "one over");
        let _other = peers.enter(ip("192.0.2.2")).unwrap();
        drop(first);
        let third = peers.enter(ip("192.0.2.1")).unwrap();
        assert!(peers.enter(ip("192.0.2.1")).is_none());
        drop((second, third));
        assert_eq!(peers.lock().len(), 1, "nothing is kept of who is gone");
    }

    #[test]
    fn a_network_of_one_host_is_one_peer() {
        let peers = Peers::new(1);
        let _place = peers.enter(ip("2001:db8::1")).unwrap();
        assert!(peers.enter(ip("2001:db8::ffff:1")).is_none());
        assert!(peers.enter(ip("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn this_machine_is_not_counted_and_nobody_is_without_a_cap() {
        let (capped, open) = (Peers::new(1), Peers::new(0));
        let ours: Vec<_> = (0..10).map(|_| capped.enter(ip("127.0.0.1"))).collect();
        let theirs: Vec<_> = (0..10).map(|_| open.enter(ip("192.0.2.1"))).collect();
        assert!(ours.iter().chain(&theirs).all(Option::is_some));
        assert!(capped.lock().is_empty() && open.lock().is_empty());
    }
}
