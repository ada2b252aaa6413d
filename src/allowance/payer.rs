//! For whom something is counted: whose call it is, as far as limits go.

use std::net::IpAddr;

use crate::{
    auth::principal::{Credential, Principal},
    ids::{Namespace, UserId},
};

/// Whose call it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payer {
    /// The namespace it stays in.
    pub namespace: Namespace,
    /// The user it speaks for, if it says one.
    pub user: Option<UserId>,
    /// What was shown.
    pub credential: Credential,
    /// Where it comes from, as addresses are counted; none: it is not counted.
    pub peer: Option<IpAddr>,
}

impl Payer {
    /// Whoever calls with this principal from there.
    pub fn new(principal: &Principal, peer: Option<IpAddr>) -> Self {
        Self {
            namespace: principal.namespace.clone(),
            user: principal.user.clone(),
            credential: principal.credential.clone(),
            peer,
        }
    }

    /// A user of a namespace, where nothing else is known of the call.
    pub fn user(namespace: Namespace, user: Option<UserId>) -> Self {
        Self { namespace, user, credential: Credential::Open, peer: None }
    }

    /// The same, speaking for this user.
    #[must_use]
    pub fn speaking_for(&self, user: Option<UserId>) -> Self {
        Self { user: user.or_else(|| self.user.clone()), ..self.clone() }
    }

    /// The credential, if it is one that can be told from others.
    pub(super) fn counted(&self) -> Option<&Credential> {
        match &self.credential {
            // A token without an id is as many as its issuer has signed: its user is counted.
            Credential::Open | Credential::Token { id: None, .. } => None,
            counted => Some(counted),
        }
    }
}
