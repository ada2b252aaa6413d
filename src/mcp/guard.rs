//! What of a server's messages reaches the client: answers, and what we listen to.
//!
//! The client spawns a task for every request and notification it is given, and keeps what cannot be sent yet, so a
//! server that asks without end, and reads nothing, would fill the memory. Here notifications that nobody listens to
//! are dropped, and a server that asks, or says that its tools have changed, more than [`ASKED_MAX`] times in a second
//! is hung up on; it is connected to again as after any other failure. All else is bounded elsewhere: messages by
//! their size, what is on its way by channels of a fixed length, lists of tools by `Pace::relist` and one `Notify`
//! (however often they change), calls by their places.

use std::{sync::Arc, time::Duration};

use rmcp::{
    RoleClient,
    model::{JsonRpcMessage, ServerNotification},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::time::Instant;

use crate::mcp::server::Server;

/// Requests and changes of a server in a [`WINDOW`]. It has nothing to ask but pings: there is no model, no root and
/// nobody here.
const ASKED_MAX: u32 = 100;
/// After which they are counted anew.
const WINDOW: Duration = Duration::from_secs(1);

/// A transport with a guard.
pub(super) struct Guarded<T> {
    inner: T,
    server: Arc<Server>,
    asked: Asked,
}

/// How many there were in this window.
struct Asked {
    since: Instant,
    count: u32,
}

impl Asked {
    fn new() -> Self {
        Self { since: Instant::now(), count: 0 }
    }

    /// Whether one more is not too many.
    fn take(&mut self) -> bool {
        if self.since.elapsed() >= WINDOW {
            *self = Self::new();
        }
        self.count = self.count.saturating_add(1);
        self.count <= ASKED_MAX
    }
}

impl<T> Guarded<T> {
    pub(super) fn new(inner: T, server: Arc<Server>) -> Self {
        Self { inner, server, asked: Asked::new() }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Guarded<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    /// Cancel-safe if the inner one is: nothing is awaited after a message has come.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let message = self.inner.receive().await?;
            let is_asking = match &message {
                JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => false,
                JsonRpcMessage::Request(_) => true,
                JsonRpcMessage::Notification(told) => match &told.notification {
                    ServerNotification::ToolListChangedNotification(_) => true,
                    _ => continue,
                },
            };
            if !is_asking || self.asked.take() {
                return Some(message);
            }
            let server = &self.server.config.name;
            tracing::warn!(%server, "asks more than {ASKED_MAX} times in a second: it is hung up on");
            return None;
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}
