//! The service as HTTP sees it: the session stream is taken out before the generated code, and the original's name
//! leads to the same place.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, FutureExt};
use http::{HeaderValue, Request, Response, Uri, header::CONTENT_TYPE};
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming, body::Body, server::NamedService};
use tower::Service;
use tracing::Instrument as _;

use crate::{
    grpc::{
        body::SessionBody,
        codec::{self, Messages},
        guard, payer,
        service::RoomApi,
        status,
    },
    registry::outbound::Outbound,
    session::{Services, StreamHandler},
    wire::{pb::room::v1::room_service_server::RoomServiceServer, reply::Dialect},
};

/// The service's own name.
const NAME: &str = "room.v1.RoomService";
/// The name clients of the original contract call.
const ORIGINAL: &str = "api.room.Room";

/// `room.v1.RoomService`.
#[derive(Debug, Clone)]
pub struct Door {
    unary: RoomServiceServer<RoomApi>,
    services: Arc<Services>,
    sessions: TaskTracker,
    /// The largest client message, in bytes.
    max_message: usize,
}

/// `api.room.Room`: the same messages under the name of the original.
#[derive(Debug, Clone)]
pub struct OriginalDoor(pub Door);

impl Door {
    /// A door whose sessions are tracked by `sessions`.
    pub fn new(api: RoomApi, services: Arc<Services>, sessions: TaskTracker, max_message: usize) -> Self {
        let unary = RoomServiceServer::new(api).max_decoding_message_size(max_message);
        Self { unary, services, sessions, max_message }
    }

    fn handle(&mut self, request: Request<Body>, dialect: Dialect) -> BoxFuture<'static, Response<Body>> {
        if request.uri().path() == "/room.v1.RoomService/RoomSession" {
            let response = self.open_session(request, dialect);
            return async move { response }.boxed();
        }
        let response = self.unary.call(request);
        async move { response.await.unwrap_or_else(|never| match never {}) }.boxed()
    }

    /// Opens a stream: its task runs until the stream ends, whatever becomes of this call.
    fn open_session(&self, request: Request<Body>, dialect: Dialect) -> Response<Body> {
        let caller = match guard::caller(request.extensions()) {
            Ok(caller) => caller.clone(),
            Err(status) => return status.into_http(),
        };
        if self.services.drain.is_refusing() {
            return status::draining().into_http();
        }
        if let Some(encoding) = request.headers().get("grpc-encoding").filter(|e| *e != "identity") {
            let shown = encoding.to_str().unwrap_or("?");
            return Status::unimplemented(format!("messages compressed with {shown:?} are not read"))
                .into_http();
        }
        let payer = payer::payer(&caller);
        let waiting = match self.services.allowances.wait_to_join(&payer) {
            Ok(waiting) => waiting,
            Err(rejection) => return status::of(&rejection).into_http(),
        };
        let outbound = Arc::new(Outbound::speaking(self.services.limits.queue, dialect));
        let handler = StreamHandler::new(Arc::clone(&self.services), Arc::clone(&outbound), dialect, caller)
            .paid_by(payer, waiting);
        let stream = Streaming::new_request(Messages, request.into_body(), None, Some(self.max_message));
        let inbound = codec::inbound(stream, self.max_message);
        let span = tracing::debug_span!("session", connection = %handler.connection());
        self.sessions.spawn(handler.run(inbound).instrument(span));
        let mut response = Response::new(Body::new(SessionBody::new(outbound, self.sessions.token())));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

impl NamedService for Door {
    const NAME: &'static str = NAME;
}

impl NamedService for OriginalDoor {
    const NAME: &'static str = ORIGINAL;
}

impl Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.handle(request, Dialect::V1).map(Ok).boxed()
    }
}

impl Service<Request<Body>> for OriginalDoor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        match Uri::builder().path_and_query(format!("/{NAME}/{method}")).build() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(_) => return async { Ok(Status::unimplemented("no such method").into_http()) }.boxed(),
        }
        self.0.handle(request, Dialect::Original).map(Ok).boxed()
    }
}
