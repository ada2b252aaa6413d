//! What happens again and again, told once a minute: so nobody fills the store by being refused.
//!
//! The first of its kind is told at once. Those that follow it are counted, and told when the minute ends. Each namespace
//! has a few kinds at a time, so that nobody takes those of others; what is of none of them is counted together, by what
//! was done. An address is what one host has ([`address::counted`]). Pure: time is the caller's.

use std::{collections::HashMap, net::IpAddr};

use crate::{
    address,
    audit::{Act, Fact, Outcome},
    ids::Namespace,
};

/// Kinds that are told apart within a minute, of all namespaces and of one.
const KINDS: usize = 1024;
const PER_NAMESPACE: usize = 64;

/// What counts as the same. The user is not in it: whoever tries names would be new with each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    namespace: Namespace,
    act: Act,
    outcome: Outcome,
    detail: String,
    peers: Vec<Option<IpAddr>>,
}

/// Since the minute began.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// The last of each kind, with how many came behind the first.
    counted: HashMap<Kind, (Fact, u64)>,
    /// How many kinds a namespace has.
    kinds: HashMap<Namespace, usize>,
    /// Of kinds that found no place. A namespace that has found none at all is told under the default one.
    others: HashMap<(Namespace, Act, Outcome), u64>,
}

impl Repeats {
    /// Whether it is to be told now.
    pub(super) fn is_first(&mut self, fact: &Fact) -> bool {
        let kind = Kind {
            namespace: fact.namespace.clone(),
            act: fact.act,
            outcome: fact.outcome,
            detail: fact.detail.clone(),
            peers: fact.origins.iter().map(|origin| origin.peer.and_then(address::counted)).collect(),
        };
        if let Some((last, more)) = self.counted.get_mut(&kind) {
            *last = fact.clone();
            *more += 1;
            return false;
        }
        let of_namespace = self.kinds.get(&fact.namespace).copied().unwrap_or_default();
        if self.counted.len() < KINDS && of_namespace < PER_NAMESPACE {
            self.kinds.insert(fact.namespace.clone(), of_namespace + 1);
            self.counted.insert(kind, (fact.clone(), 0));
            return true;
        }
        let namespace = if of_namespace > 0 { fact.namespace.clone() } else { Namespace::default() };
        *self.others.entry((namespace, fact.act, fact.outcome)).or_default() += 1;
        false
    }

    /// Whether anything was told or counted in this minute.
    pub(super) fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }

    /// Ends the minute: what was counted.
    pub(super) fn end(&mut self) -> Vec<Fact> {
        self.kinds.clear();
        let counted = self.counted.drain().filter(|(_, (_, more))| *more > 0);
        let mut facts: Vec<Fact> = counted.map(|(_, (fact, count))| Fact { count, ..fact }).collect();
        let others = self.others.drain().map(|((namespace, act, outcome), count)| {
            let detail = "of more kinds than are told apart".to_owned();
            Fact { outcome, count, detail, ..Fact::new(namespace, act) }
        });
        facts.extend(others);
        facts
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::audit::Origin;

    fn refused(peer: u32, reason: &str) -> Fact {
        let peer = Some(Ipv4Addr::from_bits(peer).into());
        let fact = Fact::new(Namespace::default(), Act::SignIn).refused(reason);
        fact.from(Origin { credential: String::new(), peer })
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_when_the_minute_ends() {
        let mut repeats = Repeats::default();
        assert!(repeats.is_empty());
        assert!(repeats.is_first(&refused(1, "expired")));
        for _ in 0..999 {
            assert!(!repeats.is_first(&refused(1, "expired")));
        }
        assert!(repeats.is_first(&refused(1, "unknown")) && repeats.is_first(&refused(2, "expired")));
        let counted = repeats.end();
        assert_eq!(counted.len(), 1, "{counted:?}");
        assert_eq!(counted[0], Fact { count: 999, ..refused(1, "expired") });
        assert!(repeats.is_empty());
        assert!(repeats.is_first(&refused(1, "expired")), "another minute");
    }

    #[test]
    fn a_stranger_with_many_addresses_makes_few_entries() {
        let mut repeats = Repeats::default();
        let told = (0..100_000).filter(|peer| repeats.is_first(&refused(*peer, "unknown"))).count();
        assert_eq!(told, PER_NAMESPACE);
        let counted = repeats.end();
        assert_eq!(counted.len(), 1);
        assert_eq!(counted[0].count, 100_000 - u64::try_from(PER_NAMESPACE).unwrap());
        assert!(repeats.is_first(&refused(0, "unknown")), "another minute has places again");
    }

    #[test]
    fn a_host_of_ipv6_is_one_and_a_namespace_takes_nobody_elses_kinds() {
        let mut repeats = Repeats::default();
        let host = |n: u128| {
            let peer = Some(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | n).into());
            refused(0, "unknown").from(Origin { credential: String::new(), peer })
        };
        assert_eq!((0..1000).filter(|n| repeats.is_first(&host(*n))).count(), 1);
        let in_namespace =
            |name: &str, fact: Fact| Fact { namespace: Namespace::parse(name).unwrap(), ..fact };
        let acme = (0..1000).filter(|n| repeats.is_first(&in_namespace("acme", refused(*n, "full")))).count();
        assert_eq!(acme, PER_NAMESPACE);
        assert!(repeats.is_first(&in_namespace("other", refused(1, "full"))));
        let counted = repeats.end();
        let of_acme = counted.iter().filter(|fact| fact.namespace.as_str() == "acme").map(|fact| fact.count);
        assert_eq!(of_acme.collect::<Vec<_>>(), [1000 - u64::try_from(PER_NAMESPACE).unwrap()]);
        // However many namespaces there are, all of it stays small.
        for n in 0..5000 {
            repeats.is_first(&in_namespace(&format!("n{n}"), refused(1, "full")));
        }
        assert_eq!((repeats.counted.len(), repeats.others.len()), (KINDS, 1));
    }
}
