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
    auth::{
        gate::{Caller, Gate, Refused},
        principal::Principal,
    },
    grpc::{credentials, peer::Peer, status},
};

/// A service that only lets in whom the gate does.
#[derive(Debug, Clone)]
pub struct Guard<S> {
    gate: Gate,
    inner: S,
}

impl<S> Guard<S> {
    /// Puts the gate before a service.
    pub fn new(gate: Gate, inner: S) -> Self {
        Self { gate, inner }
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
        let gate = self.gate.clone();
        async move {
            let principal = match gate.anybody() {
                Some(anybody) => anybody,
                None => match admit(&gate, &mut request).await {
                    Ok(principal) => principal,
                    Err(refused) => return Ok(status::of(&refused.rejection()).into_http()),
                },
            };
            let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
            request.extensions_mut().insert(Caller { principal, peer });
            inner.call(request).await
        }
        .boxed()
    }
}

async fn admit(gate: &Gate, request: &mut Request<Body>) -> Result<Arc<Principal>, Refused> {
    gate.admit(credentials::take(request)?).await
}

/// Who calls. Without a guard before it a service serves nobody.
pub(super) fn caller(extensions: &http::Extensions) -> Result<&Caller, tonic::Status> {
    extensions.get().ok_or_else(|| status::of(&Refused::Missing.rejection()))
}
