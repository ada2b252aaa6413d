//! Servers that are child processes: what they are given, what they leave behind, and what happens when they die.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use salon::{
    config::{McpServer, McpTool, ToolApproval},
    mcp::{
        CallError, Servers,
        config::{Endpoint, ServerConfig},
    },
};
use serde_json::json;
use tempfile::TempDir;

use super::{call, fake, text, tools};
use crate::{
    harness::{DEADLINE, Setup, until},
    process::Place,
};

const SCRIPT: &str = include_str!("server.sh");
const TOOLS: [&str; 6] = ["sh__die", "sh__env", "sh__flood", "sh__grandchild", "sh__noise", "sh__pid"];

/// A shell that runs this.
fn shell(script: &str) -> ServerConfig {
    let path = std::env::var("PATH").unwrap();
    let endpoint = Endpoint::Stdio {
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        env: [("PATH".to_owned(), path)].into(),
        secret_env: BTreeMap::new(),
        cwd: None,
    };
    fake::config("sh", endpoint)
}

fn is_running(pid: &str) -> bool {
    // Who was killed and not waited for yet is a zombie: its parent, or whoever has inherited it, sees to that.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn a_child_is_called_and_ends_with_all_it_began() {
    let servers = Servers::start(vec![shell(SCRIPT)]);
    tools(&servers, &TOOLS).await;
    let pid = text(&servers, "sh__pid", json!({ "a": "id: 7" })).await;
    let grandchild = text(&servers, "sh__grandchild", json!({})).await;
    assert!(is_running(&pid) && is_running(&grandchild));
    servers.shutdown().await;
    // The child was waited for; its own child is left to the system.
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    until("the grandchild is gone", || !is_running(&grandchild)).await;
    assert!(servers.tools().is_empty());
}

#[tokio::test]
async fn a_child_that_nobody_ends_is_ended() {
    let servers = Servers::start(vec![shell(SCRIPT)]);
    tools(&servers, &TOOLS).await;
    let pid = text(&servers, "sh__pid", json!({})).await;
    let grandchild = text(&servers, "sh__grandchild", json!({})).await;
    drop(servers);
    until("both are gone", || !is_running(&pid) && !is_running(&grandchild)).await;
}

#[tokio::test]
async fn a_child_that_dies_is_started_again() {
    let servers = Servers::start(vec![shell(SCRIPT)]);
    tools(&servers, &TOOLS).await;
    let first = text(&servers, "sh__pid", json!({})).await;
    let grandchild = text(&servers, "sh__grandchild", json!({})).await;
    assert_eq!(call(&servers, "sh__die", json!({})).await.unwrap_err(), CallError::Lost);
    until("the grandchild is gone", || !is_running(&grandchild)).await;
    tools(&servers, &[]).await;
    tools(&servers, &TOOLS).await;
    assert_ne!(text(&servers, "sh__pid", json!({})).await, first);
}

#[tokio::test]
async fn nonsense_on_standard_output_is_passed_over() {
    let mut config = shell(SCRIPT);
    if let Endpoint::Stdio { secret_env, .. } = &mut config.endpoint {
        secret_env.insert("TOKEN".into(), "hidden-4711".into());
    }
    let servers = Servers::start(vec![config]);
    tools(&servers, &TOOLS).await;
    for _ in 0..3 {
        assert_eq!(text(&servers, "sh__noise", json!({})).await, "after the noise");
    }
}

#[tokio::test]
async fn a_child_that_asks_without_end_is_hung_up_on() {
    for (flood, is_too_much) in [("requests", true), ("changes", true), ("words", false)] {
        let mut config = shell(SCRIPT);
        if let Endpoint::Stdio { env, .. } = &mut config.endpoint {
            env.insert("FLOOD".into(), flood.into());
        }
        let servers = Servers::start(vec![config]);
        tools(&servers, &TOOLS).await;
        let first = text(&servers, "sh__pid", json!({})).await;
        let answer = call(&servers, "sh__flood", json!({})).await;
        if is_too_much {
            assert_eq!(answer, Err(CallError::Lost), "{flood}");
            until("it is ended", || !is_running(&first)).await;
            tools(&servers, &TOOLS).await;
        } else {
            assert_eq!(answer.map(|answer| answer.text), Ok("after the flood".into()), "{flood}");
            assert_eq!(text(&servers, "sh__pid", json!({})).await, first);
        }
    }
}

#[tokio::test]
async fn a_child_gets_the_environment_it_was_given_and_no_other() {
    let mut config = shell(SCRIPT);
    let Endpoint::Stdio { secret_env, env, .. } = &mut config.endpoint else { panic!() };
    secret_env.insert("TOKEN".into(), "hidden-4711".into());
    env.insert("LANG".into(), "C".into());
    assert!(!format!("{config:?}").contains("4711"));
    let servers = Servers::start(vec![config]);
    tools(&servers, &TOOLS).await;
    let environment = text(&servers, "sh__env", json!({})).await;
    // It has the secret; whoever reads what it says has not.
    assert!(environment.contains("TOKEN=*** ") && environment.contains("LANG=C "), "{environment}");
    // What cargo has set for this test.
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok() && !environment.contains("CARGO"), "{environment}");
    // A shell adds some of its own.
    let own = ["PATH", "LANG", "TOKEN", "PWD", "OLDPWD", "SHLVL", "_"];
    let names = environment.split_whitespace().filter_map(|variable| variable.split_once('='));
    assert!(names.into_iter().all(|(name, _)| own.contains(&name)), "{environment}");
}

#[tokio::test]
async fn a_child_runs_where_it_is_told_to() {
    let place = TempDir::new().unwrap();
    let mut config = shell(&format!("STARTED=started\n{SCRIPT}"));
    if let Endpoint::Stdio { cwd, .. } = &mut config.endpoint {
        *cwd = Some(place.path().to_owned());
    }
    let servers = Servers::start(vec![config]);
    tools(&servers, &TOOLS).await;
    let pid = text(&servers, "sh__pid", json!({})).await;
    assert_eq!(fs::read_to_string(place.path().join("started")).unwrap().trim(), pid);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_tried_again() {
    let place = TempDir::new().unwrap();
    let mut config = shell("");
    let program = place.path().join("server");
    if let Endpoint::Stdio { program: named, args, .. } = &mut config.endpoint {
        *named = program.to_str().unwrap().into();
        args.clear();
    }
    let servers = Servers::start(vec![config]);
    assert!(servers.tools().is_empty());
    let script = place.path().join("script");
    fs::write(&script, format!("#!/bin/sh\n{SCRIPT}")).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::rename(&script, &program).unwrap();
    tools(&servers, &TOOLS).await;
}

#[tokio::test]
async fn a_child_that_neither_answers_nor_ends_is_killed() {
    let place = TempDir::new().unwrap();
    let started = place.path().join("started");
    let stubborn =
        format!("trap '' TERM INT HUP; echo $$ >{}; while :; do sleep 1000; done", started.display());
    let mut config = shell(&stubborn);
    config.connect_timeout = Duration::from_millis(50);
    let servers = Servers::start(vec![config]);
    let pids = || fs::read_to_string(&started).unwrap_or_default().trim().to_owned();
    until("it has started", || !pids().is_empty()).await;
    let first = pids();
    // It does not answer, so it is killed, and another one begins.
    until("it is killed", || !is_running(&first)).await;
    until("another has started", || pids() != first && !pids().is_empty()).await;
    tokio::time::timeout(DEADLINE, servers.shutdown()).await.unwrap();
    assert!(!is_running(&pids()));
}

#[tokio::test]
async fn a_server_begins_with_its_tools_and_ends_with_them() {
    let tool = McpTool { approval: ToolApproval::None, ..McpTool::default() };
    let entry = McpServer {
        command: vec!["/bin/sh".into(), "-c".into(), SCRIPT.into()],
        tools: [("pid".to_owned(), tool), ("die".to_owned(), McpTool { hidden: true, ..McpTool::default() })]
            .into(),
        ..McpServer::default()
    };
    let server =
        Setup::default().config(|config| drop(config.mcp.servers.insert("sh".into(), entry))).start().await;
    let mcp = server.server.graph().mcp.clone();
    let offered = tools(&mcp, &["sh__pid"]).await;
    assert!(!offered[0].policy.approval && !offered[0].policy.trusted_only);
    let pid = text(&mcp, "sh__pid", json!({})).await;
    assert!(is_running(&pid));
    server.shutdown().await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

/// A configuration with that child, its directory being `place`.
fn place_with_a_child() -> Place {
    let place = Place::new()
        .env("PATH", &std::env::var("PATH").unwrap())
        .env("SALON__LOG__LEVEL", "debug")
        .env("SALON_TOKEN", "hidden-4711");
    fs::write(place.path("server.sh"), format!("STARTED=started\necho \"token $TOKEN\" >&2\n{SCRIPT}"))
        .unwrap();
    let file = "mcp: { servers: { sh: { command: [sh, server.sh], env: { TOKEN: SALON_TOKEN }, tools: { '*': {} } } } }";
    fs::write(place.path("config.yaml"), file).unwrap();
    place
}

#[tokio::test]
async fn a_process_tells_what_its_child_says_without_secrets() {
    let place = place_with_a_child();
    let salon = place.start().await;
    until("it is connected", || place.log().contains("MCP server is connected")).await;
    until("its child is heard", || place.log().contains("it begins")).await;
    let pid = fs::read_to_string(place.path("started")).unwrap().trim().to_owned();
    salon.stop().await;
    assert!(!is_running(&pid));
    let log = place.log();
    assert!(log.contains("token ***") && log.contains("tools=6") && !log.contains("4711"), "{log}");
}

#[tokio::test]
async fn a_process_that_is_killed_leaves_no_child() {
    let place = place_with_a_child();
    let salon = place.start().await;
    until("it is connected", || place.log().contains("MCP server is connected")).await;
    let pid = fs::read_to_string(place.path("started")).unwrap().trim().to_owned();
    assert!(is_running(&pid));
    salon.kill().await;
    // Its input has ended.
    until("the child has ended", || !is_running(&pid)).await;
}
