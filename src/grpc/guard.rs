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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use async_trait::async_trait;

    use super::*;
    use crate::{
        allowance::{
            quotas::Given,
            rate::{Paces, Rate, RateTable, What},
            streams::StreamLimits,
        },
        auth::gate::{Source, Sources},
        clock::{ManualClock, Timestamp},
        domain::rejection::Code,
    };

    /// Has seen one secret before; another is good too, and would have to be looked up.
    #[derive(Debug)]
    struct Secrets;

    #[async_trait]
    impl Source for Secrets {
        async fn verify(&self, shown: &str, _: Timestamp, effort: Effort) -> Result<Principal, Refused> {
            let key = crate::auth::principal::Credential::Key("k".into());
            match (shown, effort) {
                ("known", _) | ("new", Effort::Full) => {
                    Ok(Principal { credential: key, ..Principal::open() })
                }
                _ => Err(Refused::Invalid("it is not known")),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_guesses_keeps_no_known_caller_of_the_same_address_out() {
        let few = Rate::in_each(NonZeroU32::new(3).unwrap(), std::time::Duration::from_secs(60));
        let peer = Paces::new([(What::FailedSignIns, Some(few))]);
        let streams = StreamLimits {
            per_user: 1,
            per_credential: None,
            per_peer: None,
            waiting: 1,
            waiting_per_peer: 1,
            waiting_per_namespace: 1,
        };
        let allowances =
            Allowances::new(RateTable { peer, ..RateTable::default() }, streams, Given::default());
        let sources = Sources { secrets: Some(Arc::new(Secrets)), ..Sources::default() };
        let gate = Gate::required(Arc::new(ManualClock::new(Timestamp(1))), sources);
        let sign_in = async |secret: &str| {
            let mut request = Request::new(Body::empty());
            let value = format!("Bearer {secret}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
            let address = Some([192, 0, 2, 7].into());
            request.extensions_mut().insert(Peer { address, ..Peer::default() });
            admit(&gate, &allowances, &mut request).await.map(drop).map_err(|rejection| rejection.code)
        };
        for _ in 0..3 {
            assert_eq!(sign_in("guess").await, Err(Code::Unauthenticated));
        }
        assert_eq!(sign_in("guess").await, Err(Code::RateLimited));
        assert_eq!(sign_in("new").await, Err(Code::RateLimited), "it is not looked up");
        assert_eq!(sign_in("known").await, Ok(()));
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
        assert_eq!(sign_in("new").await, Ok(()));
    }
}
