//! The quotas of namespaces: the server's defaults, and what one was given of its own.
//!
//! Whoever reads the documents of namespaces says here what is in them ([`Allowances::set_quotas`]); until then the
//! defaults hold. Which rooms, members and bytes there are is the store's knowledge, and not asked here.

use dashmap::DashMap;

use crate::{allowance::Allowances, auth::quotas::Quotas, domain::rejection::Rejection, ids::Namespace};

use super::exhausted;

/// What namespaces were given.
#[derive(Debug, Default)]
pub struct Given {
    /// Of a namespace that was given nothing of its own.
    pub namespace: Quotas,
    /// Of the default namespace, if it was given nothing of its own.
    pub default_namespace: Quotas,
    /// Of those that were.
    own: DashMap<Namespace, Quotas>,
}

impl Given {
    /// These, for namespaces that were given nothing of their own.
    pub fn new(namespace: Quotas, default_namespace: Quotas) -> Self {
        Self { namespace, default_namespace, own: DashMap::new() }
    }
}

impl Allowances {
    /// How much a namespace may have.
    pub fn quotas(&self, namespace: &Namespace) -> Quotas {
        let given = &self.0.given;
        let defaults = match namespace.is_default() {
            true => given.default_namespace,
            false => given.namespace,
        };
        given.own.get(namespace).map_or(defaults, |own| own.or(defaults))
    }

    /// A namespace has these quotas of its own from now on; `None`: none any more.
    pub fn set_quotas(&self, namespace: &Namespace, own: Option<Quotas>) {
        // What says nothing takes no memory.
        match own.filter(|own| *own != Quotas::default()) {
            Some(own) => {
                self.0.given.own.insert(namespace.clone(), own);
            }
            None => {
                self.0.given.own.remove(namespace);
            }
        }
    }

    /// Whether one more answer may run or wait in a namespace that has so many.
    pub fn check_runs(&self, namespace: &Namespace, now: usize) -> Result<(), Rejection> {
        match self.quotas(namespace).runs {
            Some(most) if u64::try_from(now).unwrap_or(u64::MAX) >= most => Err(over(
                "runs",
                &format!("{now} answers of LLMs run or wait in this namespace on this server"),
                most,
                "ask again when one has ended",
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// A quota that is used up.
pub(super) fn over(quota: &str, now: &str, most: u64, mend: &str) -> Rejection {
    exhausted(format!("{now}; the quota `{quota}` of the namespace allows {most}: {mend}"))
}
