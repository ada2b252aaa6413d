//! What bounds the services that ask nobody who they are: health and reflection.
//!
//! Owns how many of their streams may be open, and for how long. Does not look at what is asked. Beyond the bound a
//! stream is refused, and one that is too old ends with UNAVAILABLE: whoever still wants it opens another. Calls that are
//! answered once are let through, so that nobody who watches keeps a probe out.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

use crate::grpc::body::trailers;

/// Streams of one service that may be open.
const STREAMS: usize = 256;
/// How long one may be open.
const LONGEST: Duration = Duration::from_secs(3600);
/// The methods that are streams; their names are those of the two protocols.
const STREAMING: [&str; 2] = ["/Watch", "/ServerReflectionInfo"];

/// A service of which few streams may be open, and none for ever.
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    places: Arc<Semaphore>,
    inner: S,
}

impl<S> Bounded<S> {
    /// Bounds a service.
    pub fn new(inner: S) -> Self {
        Self { places: Arc::new(Semaphore::new(STREAMS)), inner }
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if !STREAMING.iter().any(|method| path.ends_with(method)) {
            return self.inner.call(request).boxed();
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let message = format!("{STREAMS} streams of this service are open, the most there may be");
            return async move { Ok(Status::resource_exhausted(message).into_http()) }.boxed();
        };
        // From now on, so that a service that does not answer holds its place no longer either.
        let end = Box::pin(sleep(LONGEST));
        let response = self.inner.call(request);
        async move {
            let response = response.await?;
            Ok(response.map(|inner| Body::new(Held { inner, end, place: Some(place) })))
        }
        .boxed()
    }
}

/// An answer that holds a place.
struct Held {
    inner: Body,
    end: Pin<Box<Sleep>>,
    /// None: it is over.
    place: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.place.is_none() {
            return Poll::Ready(None);
        }
        if self.end.as_mut().poll(context).is_ready() {
            self.place = None;
            let status = Status::unavailable("the stream has been open for long; open another");
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.place.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::time::Instant;

    use super::*;

    /// Answers with a stream in which nothing ever comes.
    #[derive(Clone)]
    struct Silent;

    impl Service<Request<Body>> for Silent {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let nothing = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
            std::future::ready(Ok(Response::new(Body::new(http_body_util::StreamBody::new(nothing)))))
        }
    }

    async fn call(service: &mut Bounded<Silent>, method: &str) -> Response<Body> {
        let request = Request::builder().uri(format!("/grpc.health.v1.Health/{method}"));
        service.call(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    fn status(response: &Response<Body>) -> Option<&str> {
        response.headers().get("grpc-status")?.to_str().ok()
    }

    #[tokio::test]
    async fn so_many_streams_are_open_at_a_time_and_no_probe_is_kept_out() {
        let mut service = Bounded::new(Silent);
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let response = call(&mut service, "Watch").await;
            assert_eq!(status(&response), None);
            open.push(response);
        }
        let resource_exhausted = Some("8");
        assert_eq!(status(&call(&mut service, "Watch").await), resource_exhausted);
        assert_eq!(status(&call(&mut service, "Check").await), None);
        open.pop();
        let _last = call(&mut service, "Watch").await;
        assert_eq!(status(&call(&mut service, "Watch").await), resource_exhausted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_open_for_long_ends_and_gives_its_place_back() {
        let mut service = Bounded::new(Silent);
        let began = Instant::now();
        let mut body = call(&mut service, "Watch").await.into_body();
        let last = body.frame().await.unwrap().unwrap();
        let unavailable = "14";
        assert_eq!(last.trailers_ref().unwrap().get("grpc-status").unwrap(), unavailable);
        assert!(began.elapsed() >= LONGEST && began.elapsed() < LONGEST + Duration::from_secs(1));
        assert_eq!(service.places.available_permits(), STREAMS);
        assert!(body.frame().await.is_none());
    }
}
