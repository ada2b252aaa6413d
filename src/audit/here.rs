//! By which credentials, and from where, users are connected to this node.
//!
//! A room knows who asks and not how they came; the node that commits what they ask is the one that they are connected
//! to. Holds as much as there are streams.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    audit::{Fact, Origin},
    ids::{Namespace, UserId},
};

type Who = (Namespace, UserId);

/// Who is here, with how many streams of each origin, in their order. Nearly everybody has one: a map for each would be
/// ten times as large.
#[derive(Debug, Default)]
pub(super) struct Here(Mutex<HashMap<Who, Vec<(Origin, usize)>>>);

/// A stream of somebody; gone when it is dropped.
#[derive(Debug)]
pub struct SignedIn {
    here: Arc<Here>,
    who: Who,
    origin: Origin,
}

impl Here {
    /// Somebody comes.
    pub(super) fn enter(here: &Arc<Self>, who: Who, origin: Origin) -> SignedIn {
        let mut all = here.0.lock().unwrap_or_else(PoisonError::into_inner);
        let origins = all.entry(who.clone()).or_insert_with(|| Vec::with_capacity(1));
        match place(origins, &origin) {
            Ok(at) => {
                if let Some((_, streams)) = origins.get_mut(at) {
                    *streams += 1;
                }
            }
            Err(at) => origins.insert(at, (origin.clone(), 1)),
        }
        drop(all);
        SignedIn { here: Arc::clone(here), who, origin }
    }

    /// Adds to a fact how its actor is connected, if it does not say.
    pub(super) fn complete(&self, fact: Fact) -> Fact {
        let Some(actor) = fact.actor.as_ref().filter(|_| fact.origins.is_empty()) else { return fact };
        let who = (fact.namespace.clone(), actor.clone());
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let origins = all
            .get(&who)
            .map(|origins| origins.iter().map(|(origin, _)| origin.clone()).collect())
            .unwrap_or_default();
        Fact { origins, ..fact }
    }
}

impl Drop for SignedIn {
    fn drop(&mut self) {
        let mut all = self.here.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(origins) = all.get_mut(&self.who) else { return };
        origins.retain_mut(|(origin, streams)| {
            *streams -= usize::from(*origin == self.origin);
            *streams > 0
        });
        if origins.is_empty() {
            all.remove(&self.who);
        }
    }
}

/// Where an origin is, or would be.
fn place(origins: &[(Origin, usize)], origin: &Origin) -> Result<usize, usize> {
    origins.binary_search_by(|(known, _)| known.cmp(origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Act;

    #[test]
    fn what_somebody_does_has_all_the_ways_they_are_here_by_and_none_that_are_gone() {
        let here = Arc::<Here>::default();
        let ann = UserId::parse("ann").unwrap();
        let origin = |credential: &str| Origin { credential: credential.into(), peer: None };
        let enter = |credential| Here::enter(&here, (Namespace::default(), ann.clone()), origin(credential));
        let origins = || {
            let fact = Fact::new(Namespace::default(), Act::Kick).by(ann.clone());
            here.complete(fact).origins.into_iter().map(|origin| origin.credential).collect::<Vec<_>>()
        };
        let (phone, again, desk) = (enter("key 1"), enter("key 1"), enter("key 2"));
        assert_eq!(origins(), ["key 1", "key 2"]);
        drop(phone);
        assert_eq!(origins(), ["key 1", "key 2"]);
        drop(again);
        assert_eq!(origins(), ["key 2"]);
        let said = Fact::new(Namespace::default(), Act::Kick).by(ann.clone()).from(origin("key 9"));
        assert_eq!(here.complete(said).origins, [origin("key 9")]);
        let other = Fact::new(Namespace::parse("acme").unwrap(), Act::Kick).by(ann.clone());
        assert_eq!(here.complete(other).origins, []);
        drop(desk);
        assert_eq!(origins(), Vec::<String>::new());
        assert!(here.0.lock().unwrap().is_empty());
    }
}
