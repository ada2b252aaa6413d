//! What bounds the services that ask nobody who they are: health and reflection.
//!
//! Owns how many of their streams may be open, and for how long. Does not look at what is asked. Beyond the bound a
//! stream is refused, and one that is too old ends with UNAVAILABLE: whoever still wants it opens another. One whose client
//! takes nothing cannot be told so, and is not counted any more. Calls that are answered once are let through, so that
//! nobody who watches keeps a probe out.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
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
    places: Places,
    inner: S,
}

impl<S> Bounded<S> {
    /// Bounds a service.
    pub fn new(inner: S) -> Self {
        Self { places: Places::default(), inner }
    }
}

/// The streams that are open, with when each has to end.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<Vec<Taken>>>);

/// A place that was given away.
#[derive(Debug)]
struct Taken {
    until: Instant,
    place: Arc<Place>,
}

/// Held by a stream that counts.
#[derive(Debug)]
struct Place;

impl Places {
    /// A place until then, if there is one. Looks at all of them: there are few.
    fn take(&self, until: Instant) -> Option<Arc<Place>> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        taken.retain(|one| one.until > now && Arc::strong_count(&one.place) > 1);
        if taken.len() >= STREAMS {
            return None;
        }
        let place = Arc::new(Place);
        taken.push(Taken { until, place: Arc::clone(&place) });
        Some(place)
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
        let until = Instant::now() + LONGEST;
        let Some(place) = self.places.take(until) else {
            let message = format!("{STREAMS} streams of this service are open, the most there may be");
            return async move { Ok(Status::resource_exhausted(message).into_http()) }.boxed();
        };
        let mut end = Box::pin(sleep_until(until));
        let response = self.inner.call(request);
        async move {
            let response = tokio::select! {
                response = response => response?,
                // It waits for a question that has not come.
                () = end.as_mut() => return Ok(too_old().into_http()),
            };
            Ok(response.map(|inner| Body::new(Held { inner, end, place: Some(place) })))
        }
        .boxed()
    }
}

fn too_old() -> Status {
    Status::unavailable("the stream has been open for long; open another")
}

/// An answer that holds a place.
struct Held {
    inner: Body,
    end: Pin<Box<Sleep>>,
    /// None: it is over.
    place: Option<Arc<Place>>,
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
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&too_old())))));
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
        assert!(body.frame().await.is_none());
    }

    /// Never answers.
    #[derive(Clone)]
    struct Mute;

    impl Service<Request<Body>> for Mute {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_never_asked_anything_ends_too() {
        let mut service = Bounded::new(Mute);
        let request = Request::builder().uri("/grpc.health.v1.Health/Watch").body(Body::empty()).unwrap();
        let response = service.call(request).await.unwrap();
        assert_eq!(status(&response), Some("14"));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_take_nothing_keep_others_out_no_longer_than_an_hour() {
        let mut service = Bounded::new(Silent);
        let mut untaken = Vec::new();
        for _ in 0..STREAMS {
            untaken.push(call(&mut service, "Watch").await);
        }
        tokio::time::sleep(LONGEST - Duration::from_secs(1)).await;
        assert_eq!(status(&call(&mut service, "Watch").await), Some("8"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(status(&call(&mut service, "Watch").await), None);
    }
}
