//! Tools of MCP servers: what is offered, calls and what may go wrong with them, over HTTP and as child processes.

mod config;
mod fake;
mod foreign;
mod http;
mod offers;
mod stdio;

use std::{sync::Arc, time::Duration};

use salon::mcp::{CallError, CallResult, Servers, ToolInfo};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::harness::{DEADLINE, until};

/// Waits until these are the names of the tools.
pub async fn tools(servers: &Servers, names: &[&str]) -> Vec<Arc<ToolInfo>> {
    let now = || servers.tools().iter().map(|tool| tool.name.clone()).collect::<Vec<_>>();
    until(&format!("{names:?} are offered"), || now() == names).await;
    servers.tools()
}

/// Calls with these arguments, and all the time there is.
pub async fn call(servers: &Servers, name: &str, arguments: Value) -> Result<CallResult, CallError> {
    call_within(servers, name, arguments, DEADLINE).await
}

pub async fn call_within(
    servers: &Servers,
    name: &str,
    arguments: Value,
    time: Duration,
) -> Result<CallResult, CallError> {
    servers.call(name, object(arguments), Instant::now() + time).await
}

pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

/// The text of a call that works.
pub async fn text(servers: &Servers, name: &str, arguments: Value) -> String {
    let result = call(servers, name, arguments).await.unwrap();
    assert!(!result.is_error, "{result:?}");
    result.text
}
