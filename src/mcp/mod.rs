//! Tools of foreign servers, by the Model Context Protocol: as child processes (stdio) or over streamable HTTP.
//!
//! Owns the connections to the servers that the configuration names, what they offer, and calls. Knows tools, not
//! rooms: who may call what, and what a person has to approve, is decided above from each tool's [`Policy`]. Trusts
//! no server: names, descriptions, schemas and results are bounded and cleaned. A server that is down holds up
//! nothing: its tools are not offered until it is back, which a task per server sees to. What is in flight when a
//! connection ends is reported as lost, never repeated.

mod catalog;
mod child;
pub mod config;
mod connection;
mod guard;
mod result;
mod server;
mod words;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde_json::{Map, Value};
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    json_schema::Schema,
    mcp::{
        catalog::SEPARATOR,
        config::{Policy, ServerConfig},
        server::Server,
    },
};

/// One tool that can be called now.
#[derive(Debug, Clone)]
pub struct ToolInfo {
    /// What models call it: `server__tool`, at most 64 of A-Z, a-z, 0-9, _ and -. Built-in tools have no `__`.
    pub name: String,
    /// The server, as the configuration names it.
    pub server: String,
    /// What the server calls it.
    pub tool: String,
    /// What the server says about it, bounded and cleaned: foreign words, to be taken as data.
    pub description: String,
    /// Its arguments.
    pub schema: Schema,
    /// What the operator says about it.
    pub policy: Policy,
}

/// What a tool has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallResult {
    /// The text, bounded and cleaned; what is not text is described in brackets. Foreign words, to be taken as data.
    pub text: String,
    /// Whether the tool says that it failed.
    pub is_error: bool,
}

/// Why a tool has not answered. Displayed, each may be shown to a model.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// No connected server offers such a tool now.
    #[error("there is no tool of this name now")]
    UnknownTool,
    /// The arguments do not fit its schema. Nothing was sent.
    #[error("the call was not made: {0}")]
    Arguments(String),
    /// Too many calls of this server are running. Nothing was sent; later it may work.
    #[error("the call was not made: too many calls to this tool's server are running")]
    Busy,
    /// It took too long and was cancelled; whether it has had an effect is not known.
    #[error("the tool did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The server refuses the call, in its own words.
    #[error("the tool's server refused the call: {0}")]
    Refused(String),
    /// The connection ended; whether the call has had an effect is not known.
    #[error("the connection to the tool's server was lost during the call")]
    Lost,
    /// The server answers what is no result of a tool.
    #[error("the tool's server gave an answer that is no result")]
    Garbled,
}

/// The configured servers. Cheap to clone; the default has none.
#[derive(Clone, Default)]
pub struct Servers {
    by_name: Arc<BTreeMap<String, Arc<Server>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends the tasks when the last clone is gone, if nobody has waited for them.
    _guard: Option<Arc<DropGuard>>,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("names", &self.by_name.keys()).finish_non_exhaustive()
    }
}

impl Servers {
    /// Begins to connect to all of them, each in a task of its own, and returns at once.
    pub fn start(configs: Vec<ServerConfig>) -> Self {
        let by_name: BTreeMap<_, _> =
            configs.into_iter().map(|config| (config.name.clone(), Arc::new(Server::new(config)))).collect();
        let stop = CancellationToken::new();
        let guard = Some(Arc::new(stop.clone().drop_guard()));
        let servers = Self { by_name: Arc::new(by_name), tasks: TaskTracker::new(), stop, _guard: guard };
        for server in servers.by_name.values() {
            servers.tasks.spawn(connection::keep(Arc::clone(server), servers.stop.clone()));
        }
        servers
    }

    /// The tools that can be called now, by name.
    pub fn tools(&self) -> Vec<Arc<ToolInfo>> {
        let mut tools: Vec<_> = self.by_name.values().flat_map(|server| server.tools()).collect();
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        tools
    }

    /// One of them.
    pub fn tool(&self, name: &str) -> Option<Arc<ToolInfo>> {
        self.server_of(name)?.find(name).map(|(_, tool)| tool)
    }

    /// Calls a tool, and waits for it until `deadline`, or for the server's own `call_timeout` if that is shorter.
    ///
    /// Cancel-safe: whoever drops the future cancels the call at the server and frees its place.
    pub async fn call(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        deadline: Instant,
    ) -> Result<CallResult, CallError> {
        let server = self.server_of(name).ok_or(CallError::UnknownTool)?;
        server.call(name, arguments, deadline).await
    }

    /// Begins to end the connections and the child processes. [`Servers::shutdown`] waits for it.
    pub fn start_shutdown(&self) {
        self.stop.cancel();
    }

    /// Ends the connections and the child processes, and waits for that: a few seconds at most. Then there are no
    /// tools.
    pub async fn shutdown(&self) {
        self.start_shutdown();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// No server's name holds the separator or ends in a part of it, so the first one ends the name.
    fn server_of(&self, name: &str) -> Option<&Arc<Server>> {
        name.split_once(SEPARATOR).and_then(|(server, _)| self.by_name.get(server))
    }
}
