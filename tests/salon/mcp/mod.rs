//! Tools of MCP servers: what is offered, calls and what may go wrong with them, over HTTP and as child processes.

mod config;
pub mod fake;
mod foreign;
mod http;
mod offers;
mod stdio;

use std::{sync::Arc, time::Duration};

use salon::{
    config::{McpServer, McpTool, ToolApproval},
    mcp::{CallError, CallResult, Servers, ToolInfo},
};
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

/// Lets a server offer these tools of `fake`: their names, whether a person has to approve a call, and whether they are
/// for trusted runs only.
pub fn offer(
    config: &mut salon::config::Config,
    name: &str,
    fake: &fake::FakeMcp,
    tools: &[(&str, bool, bool)],
) {
    let tool = |&(name, approval, trusted_only): &(&str, bool, bool)| {
        let approval = if approval { ToolApproval::Required } else { ToolApproval::None };
        (name.to_owned(), McpTool { approval, trusted_only, hidden: false })
    };
    let tools = tools.iter().map(tool).collect();
    let server = McpServer { url: Some(fake.url()), tools, ..McpServer::default() };
    config.mcp.servers.insert(name.to_owned(), server);
}
