//! What stands before every service of ours: who calls is found out first, and nothing of a request is looked at before.
//!
//! Behind it each request has its [`Caller`] in its extensions. Health and reflection are not behind it: they tell
//! nothing of anybody.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, FutureExt};
use http::{Request, Response};
use tonic::{body::Body, server::NamedService};
use tower::Service;

use crate::{
    allowance::Allowances,
    audit::{Act, Audit, Fact, Origin},
    auth::{
        gate::{Caller, Effort, Gate, Refused},
        principal::Principal,
    },
    domain::rejection::Rejection,
    grpc::{credentials, peer::Peer, status},
    ids::Namespace,
    session::Services,
};

/// A service that only lets in whom the gate does.
#[derive(Debug, Clone)]
pub struct Guard<S> {
    gate: Gate,
    allowances: Allowances,
    audit: Audit,
    inner: S,
}

impl<S> Guard<S> {
    /// Puts the gate before a service.
    pub fn new(services: &Services, inner: S) -> Self {
        let Services { gate, allowances, audit, .. } = services;
        Self { gate: gate.clone(), allowances: allowances.clone(), audit: audit.clone(), inner }
    }
}

impl<S: NamedService> NamedService for Guard<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that was found ready is called; what stays is asked again before the next call.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let (gate, allowances, audit) = (self.gate.clone(), self.allowances.clone(), self.audit.clone());
        async move {
            let principal = match gate.anybody() {
                Some(anybody) => anybody,
                None => match admit(&gate, &allowances, &mut request).await {
                    Ok(principal) => principal,
                    Err(rejection) => {
                        let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
                        let origin = Origin { credential: String::new(), peer };
                        // Whose it would have been is not known.
                        let fact = Fact::new(Namespace::default(), Act::SignIn).from(origin);
                        audit.record(fact.refused(rejection.code.as_str()));
                        return Ok(status::of(&rejection).into_http());
                    }
                },
            };
            let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
            request.extensions_mut().insert(Caller { principal, peer });
            inner.call(request).await
        }
        .boxed()
    }
}

/// Who shows what a call shows. For an address that has guessed too often nothing is looked up for a while; who is known
/// is let in, so that nobody keeps others out who share the address.
async fn admit(
    gate: &Gate,
    allowances: &Allowances,
    request: &mut Request<Body>,
) -> Result<Arc<Principal>, Rejection> {
    let peer = request.extensions().get::<Peer>().and_then(Peer::counted);
    let limit = allowances.may_sign_in(peer);
    let effort = if limit.is_ok() { Effort::Full } else { Effort::Known };
    let admitted = match credentials::take(request) {
        Ok(shown) => gate.admit(shown, effort).await,
        Err(refused) => Err(refused),
    };
    if admitted.as_ref().is_err_and(Refused::may_be_guess) {
        // Whether it is none or only not known here is not told.
        limit?;
        allowances.sign_in_failed(peer);
    }
    admitted.map_err(|refused| refused.rejection())
}

/// Who calls. Without a guard before it a service serves nobody.
pub(super) fn caller(extensions: &http::Extensions) -> Result<&Caller, tonic::Status> {
    extensions.get().ok_or_else(|| status::of(&Refused::Missing.rejection()))
}
