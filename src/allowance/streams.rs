//! How many streams may be open at the same time, of whom; and how many may be open without having joined.
//!
//! A place is taken as a value and given back when that is dropped, however the stream ends.

use std::sync::Arc;

use crate::{
    allowance::{
        Allowance, Allowances, exhausted,
        payer::Payer,
        purse::{self, Purse},
        rate::Scope,
    },
    domain::rejection::Rejection,
};

/// How many streams may be open at the same time on this server; those of a namespace are one of its quotas.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Of a user, in all rooms of a namespace.
    pub per_user: usize,
    /// Of all who show the same credential.
    pub per_credential: Option<usize>,
    /// From one address.
    pub per_peer: Option<usize>,
    /// That have not joined, of everybody.
    pub waiting: usize,
    /// That have not joined, from one address.
    pub waiting_per_peer: usize,
    /// That have not joined, of one namespace but the default one, which is the operator's own.
    pub waiting_per_namespace: usize,
}

#[cfg(test)]
impl StreamLimits {
    /// For tests of other things.
    pub(crate) const NINE: Self = Self {
        per_user: 9,
        per_credential: None,
        per_peer: None,
        waiting: 9,
        waiting_per_peer: 9,
        waiting_per_namespace: 9,
    };
}

/// The place of a stream that has not joined.
#[derive(Debug)]
pub struct Waiting {
    of: Allowances,
    /// Of the address and of the namespace: those of whom a place was taken.
    held: Vec<Arc<Purse>>,
    is_among_all: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_among_all {
            purse::leave(&self.of.0.waiting);
        }
        self.held.iter().for_each(|purse| purse::leave(&purse.waiting));
    }
}

/// The places of a stream that has joined.
#[derive(Debug)]
pub struct Open(Vec<Arc<Purse>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.iter().for_each(|purse| purse::leave(&purse.streams));
    }
}

impl Allowances {
    /// A place for a stream that has not joined.
    pub fn wait_to_join(&self, caller: &Payer) -> Result<Waiting, Rejection> {
        let (limits, now) = (&self.0.streams, self.now());
        // What is taken is given back when this is dropped, also by a refusal.
        let mut waiting = Waiting { of: self.clone(), held: Vec::with_capacity(2), is_among_all: false };
        if let Some(peer) = caller.peer.map(|key| self.0.peers.of(&key, &self.0.rates.peer, now)) {
            if !purse::enter(&peer.waiting, limits.waiting_per_peer) {
                return Err(exhausted(format!(
                    "{} streams from this address wait to join (limits.streams_waiting_per_peer): join on those, or \
                     end them",
                    limits.waiting_per_peer
                )));
            }
            waiting.held.push(peer);
        }
        if !caller.namespace.is_default() {
            let namespace = self.0.namespaces.of(&caller.namespace, &self.0.rates.namespace, now);
            if !purse::enter(&namespace.waiting, limits.waiting_per_namespace) {
                return Err(exhausted(format!(
                    "{} streams of this namespace wait to join (a quarter of limits.streams_waiting_to_join): join on \
                     those, or end them",
                    limits.waiting_per_namespace
                )));
            }
            waiting.held.push(namespace);
        }
        if !purse::enter(&self.0.waiting, limits.waiting) {
            return Err(exhausted(format!(
                "{} streams wait to join on this server (limits.streams_waiting_to_join): try again soon",
                limits.waiting
            )));
        }
        waiting.is_among_all = true;
        Ok(waiting)
    }
}

impl Allowance {
    /// A place for a stream that joins.
    pub fn open_stream(&self) -> Result<Open, Rejection> {
        let mut open = Open(Vec::with_capacity(self.purses.len()));
        for (scope, purse) in &self.purses {
            let Some(purse) = purse else { continue };
            let most = self.streams(*scope);
            if !purse::enter(&purse.streams, most.unwrap_or(usize::MAX)) {
                return Err(full(*scope, most.unwrap_or(usize::MAX)));
            }
            open.0.push(Arc::clone(purse));
        }
        Ok(open)
    }

    /// The places of a stream that goes on with this: what it has is kept, what it needs is taken, and then the rest is
    /// given back. On a refusal nothing has changed.
    pub fn go_on(&self, open: &mut Open) -> Result<(), Rejection> {
        let mut taken = Open(Vec::new());
        for (scope, purse) in &self.purses {
            let Some(purse) = purse else { continue };
            if open.0.iter().any(|held| Arc::ptr_eq(held, purse)) {
                continue;
            }
            let most = self.streams(*scope).unwrap_or(usize::MAX);
            if !purse::enter(&purse.streams, most) {
                return Err(full(*scope, most));
            }
            taken.0.push(Arc::clone(purse));
        }
        open.0.retain(|held| {
            let mut needed = self.purses.iter().filter_map(|(_, purse)| purse.as_ref());
            let stays = needed.any(|purse| Arc::ptr_eq(held, purse));
            if !stays {
                purse::leave(&held.streams);
            }
            stays
        });
        open.0.append(&mut taken.0);
        Ok(())
    }

    fn streams(&self, scope: Scope) -> Option<usize> {
        let limits = &self.of.0.streams;
        match scope {
            Scope::User => Some(limits.per_user),
            Scope::Credential => limits.per_credential,
            Scope::Peer => limits.per_peer,
            Scope::Namespace => {
                let streams = self.of.quotas(&self.namespace).streams?;
                Some(usize::try_from(streams).unwrap_or(usize::MAX))
            }
        }
    }
}

fn full(scope: Scope, most: usize) -> Rejection {
    let (key, mend) = match scope {
        Scope::User => ("limits.streams_per_user", "leave a room, or end a stream"),
        Scope::Credential => ("limits.streams_per_credential", "end a stream that shows it"),
        Scope::Peer => ("limits.streams_per_peer", "end a stream"),
        Scope::Namespace => ("the quota `streams`", "end a stream, or ask the operator for more"),
    };
    exhausted(format!(
        "{most} streams {scope} are open on this server, the most there may be ({key}): {mend}"
    ))
}
