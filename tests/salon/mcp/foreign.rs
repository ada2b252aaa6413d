//! Servers that others have written, in other languages, with the SDKs of those.
//!
//! `tests/foreign/run mcp` installs and starts them, and names them in variables. Without these the tests say that
//! they were left out; with `SALON_TEST_MCP_REQUIRED` that is a failure.

use std::time::Duration;

use salon::mcp::{
    CallError, Servers,
    config::{Endpoint, ServerConfig},
};
use serde_json::json;

use super::{call, call_within, fake, text};
use crate::harness::until;

/// The server that a variable names: a URL, or a command with its arguments, separated by spaces.
fn named(variable: &str) -> Option<ServerConfig> {
    let Ok(value) = std::env::var(variable) else {
        assert!(std::env::var_os("SALON_TEST_MCP_REQUIRED").is_none(), "{variable} is not set");
        println!("left out: {variable} is not set; tests/foreign/run mcp sets it");
        return None;
    };
    let endpoint = if value.starts_with("http") {
        Endpoint::Http { url: value.into(), is_url_secret: false, headers: [].into() }
    } else {
        let mut words = value.split(' ');
        Endpoint::Stdio {
            program: words.next().unwrap().into(),
            args: words.map(Into::into).collect(),
            env: [("PATH".to_owned(), std::env::var("PATH").unwrap())].into(),
            secret_env: [("SALON_TEST_TOKEN".to_owned(), "hidden-4711".into())].into(),
            cwd: None,
        }
    };
    let mut config = fake::config("foreign", endpoint);
    // Interpreters need their time on a machine with other things to do, and need not be asked all the time.
    config.connect_timeout = Duration::from_secs(60);
    config.call_timeout = Duration::from_secs(60);
    config.pace.check = Duration::from_secs(1);
    Some(config)
}

async fn connected(config: ServerConfig) -> Servers {
    let servers = Servers::start(vec![config]);
    let patience = tokio::time::timeout(Duration::from_secs(100), async {
        while servers.tools().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    patience.await.expect("the foreign server does not connect");
    servers
}

async fn python(variable: &str) {
    let Some(config) = named(variable) else { return };
    let servers = connected(config).await;
    let names: Vec<String> = servers.tools().iter().map(|tool| tool.name.clone()).collect();
    assert_eq!(
        names,
        ["foreign__add", "foreign__add_tool", "foreign__fail", "foreign__forecast", "foreign__wait"]
    );
    assert_eq!(text(&servers, "foreign__add", json!({ "a": 2, "b": 40 })).await, "42");
    let Err(CallError::Arguments(said)) = call(&servers, "foreign__add", json!({ "a": "2", "b": 1 })).await
    else {
        panic!("it was sent")
    };
    assert!(said.contains("/a"), "{said}");
    let forecast = text(&servers, "foreign__forecast", json!({ "city": { "name": "Rome" } })).await;
    assert!(forecast.contains("Rome") && forecast.contains("21"), "{forecast}");
    let failed = call(&servers, "foreign__fail", json!({})).await.unwrap();
    assert!(failed.is_error && failed.text.contains("as it should"), "{failed:?}");
    let long = json!({ "seconds": 1000 });
    let slow = call_within(&servers, "foreign__wait", long, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(slow, CallError::Timeout(_)), "{slow}");
    assert_eq!(text(&servers, "foreign__wait", json!({ "seconds": 0 })).await, "waited");
    let before = servers.tools().len();
    text(&servers, "foreign__add_tool", json!({})).await;
    until("the new tool is offered", || servers.tools().len() == before + 1).await;
    assert_eq!(text(&servers, "foreign__added", json!({})).await, "I am new");
    servers.shutdown().await;
}

async fn node(variable: &str) {
    let Some(config) = named(variable) else { return };
    let is_child = matches!(config.endpoint, Endpoint::Stdio { .. });
    let servers = connected(config).await;
    assert_eq!(text(&servers, "foreign__echo", json!({ "message": "Grüße" })).await, "Echo: Grüße");
    let sum = text(&servers, "foreign__get-sum", json!({ "a": 2, "b": 40 })).await;
    assert!(sum.contains("42"), "{sum}");
    let wrong = call(&servers, "foreign__get-sum", json!({ "a": 2 })).await.unwrap_err();
    assert!(matches!(wrong, CallError::Arguments(_)), "{wrong}");
    let picture = text(&servers, "foreign__get-tiny-image", json!({})).await;
    assert!(picture.contains("[image image/png, "), "{picture}");
    if is_child {
        // It tells its whole environment to whoever asks.
        let environment = text(&servers, "foreign__get-env", json!({})).await;
        assert!(environment.contains("\"SALON_TEST_TOKEN\": \"***\""), "{environment}");
        assert!(!environment.contains("CARGO") && !environment.contains("4711"), "{environment}");
    }
    let long = json!({ "duration": 1000, "steps": 2 });
    let slow =
        call_within(&servers, "foreign__trigger-long-running-operation", long, Duration::from_millis(300));
    assert!(matches!(slow.await.unwrap_err(), CallError::Timeout(_)));
    text(&servers, "foreign__echo", json!({ "message": "still there" })).await;
    servers.shutdown().await;
}

#[tokio::test]
async fn a_python_server_as_a_child() {
    python("SALON_TEST_MCP_PYTHON_COMMAND").await;
}

#[tokio::test]
async fn a_python_server_over_http() {
    python("SALON_TEST_MCP_PYTHON_URL").await;
}

#[tokio::test]
async fn a_node_server_as_a_child() {
    node("SALON_TEST_MCP_NODE_COMMAND").await;
}

#[tokio::test]
async fn a_node_server_over_http() {
    node("SALON_TEST_MCP_NODE_URL").await;
}
