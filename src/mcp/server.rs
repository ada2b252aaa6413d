//! One configured server as callers see it: its tools while it is connected, and calls.
//!
//! The link is put in and taken out by the task of `connection.rs`; a lock is held only to clone or replace it. A
//! call holds one of a fixed number of places from before it is sent until its future ends, however it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::{
    RoleClient, ServiceError,
    model::{CallToolRequestParams, CallToolResponse, ErrorCode},
    service::Peer,
};
use serde_json::{Map, Value};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout_at},
};

use crate::mcp::{
    CallError, CallResult, ToolInfo,
    catalog::Catalog,
    config::ServerConfig,
    result::render,
    words::{self, Secrets},
};

/// Calls of one server that run at the same time; most child processes answer one after the other anyway.
pub(super) const CALLS_MAX: usize = 16;
/// The longest refusal that is passed on, in characters.
const REFUSAL_CHARS: usize = 500;

/// A connection that can be called on.
#[derive(Debug, Clone)]
struct Link {
    peer: Peer<RoleClient>,
    catalog: Arc<Catalog>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) config: ServerConfig,
    pub(super) secrets: Secrets,
    /// Told when a call has failed as it would if the connection were broken or the tools were others.
    pub(super) suspect: Notify,
    /// Told when a call was not answered in all the time it has: perhaps nothing is answered any more.
    pub(super) silent: Notify,
    calls: Semaphore,
    link: Mutex<Option<Link>>,
}

impl Server {
    pub(super) fn new(config: ServerConfig) -> Self {
        Self {
            secrets: Secrets::new(config.endpoint.secrets()),
            config,
            suspect: Notify::new(),
            silent: Notify::new(),
            calls: Semaphore::new(CALLS_MAX),
            link: Mutex::new(None),
        }
    }

    /// From now on these are its tools, and this is where they are called.
    pub(super) fn connect(&self, peer: Peer<RoleClient>, catalog: Catalog) {
        let (server, tools) = (&self.config.name, catalog.len());
        let mut link = self.link();
        match link.as_ref() {
            None => tracing::info!(%server, tools, "MCP server is connected"),
            Some(before) if !before.catalog.keys().eq(catalog.keys()) => {
                tracing::info!(%server, tools, "MCP server has changed its tools");
            }
            Some(_) => tracing::debug!(%server, tools, "MCP server has the same tools as before"),
        }
        *link = Some(Link { peer, catalog: Arc::new(catalog) });
    }

    /// From now on it has no tools.
    pub(super) fn disconnect(&self) {
        *self.link() = None;
    }

    /// Whether no call is running.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls.available_permits() == CALLS_MAX
    }

    pub(super) fn tools(&self) -> Vec<Arc<ToolInfo>> {
        self.link().as_ref().map(|link| link.catalog.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        self.link().as_ref().map(|link| Arc::clone(&link.catalog)).unwrap_or_default()
    }

    pub(super) fn find(&self, name: &str) -> Option<(Peer<RoleClient>, Arc<ToolInfo>)> {
        let link = self.link();
        let link = link.as_ref()?;
        Some((link.peer.clone(), Arc::clone(link.catalog.get(name)?)))
    }

    pub(super) async fn call(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        deadline: Instant,
    ) -> Result<CallResult, CallError> {
        let (peer, tool) = self.find(name).ok_or(CallError::UnknownTool)?;
        let arguments = Value::Object(arguments);
        tool.schema.check(&arguments).map_err(CallError::Arguments)?;
        let Value::Object(arguments) = arguments else { return Err(CallError::Garbled) };
        let began = Instant::now();
        let deadline = deadline.min(began + self.config.call_timeout);
        let Ok(Ok(_place)) = timeout_at(deadline, self.calls.acquire()).await else {
            return Err(CallError::Busy);
        };
        let params = CallToolRequestParams::new(tool.tool.clone()).with_arguments(arguments);
        // When this is dropped before its end, by the deadline or by the caller, the request is cancelled.
        match timeout_at(deadline, peer.call_tool_once(params)).await {
            Ok(Ok(CallToolResponse::Complete(result))) => {
                Ok(render(&result, self.config.max_result, &self.secrets))
            }
            Ok(Ok(_)) => Err(CallError::Garbled),
            Ok(Err(error)) => Err(self.failed(&tool, &error)),
            Err(_) => {
                // A caller with less time says nothing about the server.
                if began.elapsed() >= self.config.call_timeout {
                    self.silent.notify_one();
                }
                Err(CallError::Timeout(began.elapsed()))
            }
        }
    }

    fn failed(&self, tool: &ToolInfo, error: &ServiceError) -> CallError {
        let (server, tool) = (&self.config.name, &tool.tool);
        match error {
            ServiceError::McpError(error) => {
                // So an unknown tool is answered: the server may have been replaced meanwhile.
                if matches!(error.code, ErrorCode::INVALID_PARAMS | ErrorCode::METHOD_NOT_FOUND) {
                    self.suspect.notify_one();
                }
                CallError::Refused(self.secrets.line(&error.message, REFUSAL_CHARS))
            }
            ServiceError::TransportSend(_)
            | ServiceError::TransportClosed
            | ServiceError::Cancelled { .. } => {
                let reason = self.secrets.line(&error.to_string(), REFUSAL_CHARS);
                tracing::warn!(%server, tool = ?tool, reason, "a call was lost");
                self.suspect.notify_one();
                CallError::Lost
            }
            _ => {
                let reason = self.secrets.line(&error.to_string(), REFUSAL_CHARS);
                tracing::warn!(%server, tool = ?tool, reason, "a call was answered with what is no result");
                CallError::Garbled
            }
        }
    }

    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A foreign error as one line of a log.
pub(super) fn reason(error: &dyn std::error::Error, secrets: &Secrets) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    words::line(&secrets.hide(&text), REFUSAL_CHARS)
}
