//! Who calls the administration, whether they may, and that it is remembered.
//!
//! The door has put the verified caller into the request; without one nothing is answered. In open mode nobody is told
//! from anybody else, so that nobody may do anything here, from wherever they call.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tonic::{Request, Status};

use crate::{
    auth::{
        audit::Fact,
        gate,
        principal::{Credential, Principal},
        scope::{Scope, Scopes},
    },
    clock::Timestamp,
    domain::rejection::{Code, Rejection},
    grpc::guard,
    ids::Namespace,
};

/// Who calls, and from where.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    principal: Arc<Principal>,
    from: Option<IpAddr>,
}

impl Caller {
    /// The caller of a request.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let gate::Caller { principal, peer } = guard::caller(request.extensions())?.clone();
        Ok(Self { principal, from: peer })
    }

    /// The namespace that is named in the field `namespace`, if the caller may do this in it. Another's reads as one
    /// that is not there.
    pub(super) fn within(&self, named: &str, scope: Scope) -> Result<Namespace, Rejection> {
        self.is_somebody()?;
        let own = &self.principal.namespace;
        let namespace = match named {
            "" => own.clone(),
            named => Namespace::parse(named).map_err(|error| Rejection::id("namespace", &error))?,
        };
        let powers = self.principal.powers;
        if !powers.everywhere && namespace != *own {
            return Err(Rejection::new(Code::NotFound, format!("there is no namespace {:?}", named)));
        }
        match powers.allow(scope, own, &namespace) {
            true => Ok(namespace),
            false => Err(missing(scope)),
        }
    }

    /// Whether the caller may do what concerns the whole server.
    pub(super) fn everywhere(&self) -> Result<(), Rejection> {
        self.is_somebody()?;
        let powers = self.principal.powers;
        match (powers.scopes.allow(Scope::Admin), powers.everywhere) {
            (true, true) => Ok(()),
            (true, false) => {
                Err(Rejection::denied("this needs a credential of the server, not of a namespace"))
            }
            (false, _) => Err(missing(Scope::Admin)),
        }
    }

    /// Whose keys are meant: a namespace's, or with `server` the server's.
    pub(super) fn keys_of(&self, named: &str, server: bool) -> Result<Option<Namespace>, Rejection> {
        match (server, named) {
            (true, "") => self.everywhere().map(|()| None),
            (true, _) => Err(Rejection::field("namespace", "must be empty for a key of the server")),
            (false, named) => self.within(named, Scope::Admin).map(Some),
        }
    }

    /// The API key with which the caller came.
    pub(super) fn key(&self) -> Option<String> {
        match &self.principal.credential {
            Credential::Key(id) => Some(id.clone()),
            _ => None,
        }
    }

    /// How long what the caller makes may live that is to live so long: no longer than what it came with.
    pub(super) fn lifetime(&self, asked: Duration, now: Timestamp) -> Result<Duration, Rejection> {
        let left = self.principal.expires_at.map_or(asked, |end| end.since(now));
        match left < Duration::from_secs(1) {
            true => Err(Rejection::denied("your credential ends before a token that you make could be used")),
            false => Ok(asked.min(left)),
        }
    }

    /// Refuses scopes that the caller does not have.
    pub(super) fn covers(&self, scopes: Scopes) -> Result<(), Rejection> {
        match self.principal.powers.scopes.cover(scopes) {
            true => Ok(()),
            false => Err(Rejection::denied("a key may do no more than whoever makes it")),
        }
    }

    /// What is remembered of this call.
    pub(super) fn fact(
        &self,
        at: Timestamp,
        action: &'static str,
        (named, target): (&str, String),
        refused: Option<Code>,
    ) -> Fact {
        let namespace = match named {
            "" => Some(self.principal.namespace.clone()),
            named => Namespace::parse(named).ok(),
        };
        // A caller who is not the namespace's has done nothing to it: it is an affair of their own.
        let own = Some(self.principal.namespace.clone());
        let namespace = if self.principal.powers.everywhere { namespace } else { own };
        let by = self.principal.credential.clone();
        Fact { at, namespace, by, from: self.from, action, target, refused }
    }

    fn is_somebody(&self) -> Result<(), Rejection> {
        match self.principal.credential {
            Credential::Open => Err(Rejection::denied(
                "auth.mode is open, so that nobody can be told from anybody else: set it to required, make a first \
                 key with `salon admin bootstrap`, and call with it",
            )),
            Credential::Identity(_)
            | Credential::Key(_)
            | Credential::Owner(_)
            | Credential::Token { .. }
            | Credential::Certificate(_) => Ok(()),
        }
    }
}

fn missing(scope: Scope) -> Rejection {
    Rejection::denied(format!("this needs a credential with the scope `{scope}`"))
}
