//! Calls over streamable HTTP, and a server that misbehaves.

use std::time::Duration;

use salon::mcp::{CallError, Servers, config::Endpoint};
use serde_json::json;

use super::{call, call_within, fake::FakeMcp, text, tools};
use crate::harness::{DEADLINE, until};

#[tokio::test]
async fn a_call_is_answered() {
    let fake = FakeMcp::start(&["echo", "fail", "refuse"]).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    tools(&servers, &["fake__echo", "fake__fail", "fake__refuse"]).await;
    assert_eq!(text(&servers, "fake__echo", json!({ "a": [1, "b"] })).await, r#"{"a":[1,"b"]}"#);
    let failed = call(&servers, "fake__fail", json!({})).await.unwrap();
    assert_eq!((failed.text.as_str(), failed.is_error), ("did not work", true));
    let refused = call(&servers, "fake__refuse", json!({})).await.unwrap_err();
    assert_eq!(refused, CallError::Refused("not like this [2J".into()));
    for name in ["fake__other", "fake", "echo", "other__echo", "", "__", "fake__"] {
        assert_eq!(call(&servers, name, json!({})).await.unwrap_err(), CallError::UnknownTool, "{name}");
    }
    servers.shutdown().await;
    assert!(servers.tools().is_empty());
    assert_eq!(call(&servers, "fake__echo", json!({})).await.unwrap_err(), CallError::UnknownTool);
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_not_sent() {
    let fake = FakeMcp::start(&["strict"]).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    tools(&servers, &["fake__strict"]).await;
    let Err(CallError::Arguments(said)) = call(&servers, "fake__strict", json!({ "city": 7 })).await else {
        panic!("it was sent")
    };
    assert!(said.contains("/city") && said.contains("string"), "{said}");
    assert_eq!(fake.count("tools/call"), 0);
    assert_eq!(text(&servers, "fake__strict", json!({ "city": "Rome" })).await, r#"{"city":"Rome"}"#);
}

#[tokio::test]
async fn what_is_not_text_is_described() {
    let fake = FakeMcp::start(&["both", "picture", "structured"]).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    tools(&servers, &["fake__both", "fake__picture", "fake__structured"]).await;
    assert_eq!(text(&servers, "fake__structured", json!({})).await, r#"{"degrees":21}"#);
    assert_eq!(text(&servers, "fake__both", json!({})).await, "21 degrees");
    let described = "[image image/png, 4 bytes]\n[audio audio/wav, 3 bytes]\n[resource file:///a, 2 bytes]\n\
                     [resource file:///b]\nwords\n[link to file:///c]";
    assert_eq!(text(&servers, "fake__picture", json!({})).await, described);
}

#[tokio::test]
async fn a_huge_result_is_cut_and_says_so() {
    let fake = FakeMcp::start(&["huge"]).await;
    let mut config = fake.config("fake");
    config.max_result = 1025;
    let servers = Servers::start(vec![config]);
    tools(&servers, &["fake__huge"]).await;
    // Within a character of two bytes it is cut before it.
    let expected = format!("{}\n[cut: these are the first 1024 of 1000000 bytes]", "ä".repeat(512));
    assert_eq!(text(&servers, "fake__huge", json!({})).await, expected);
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cancelled() {
    let fake = FakeMcp::start(&["echo", "stall"]).await;
    let mut config = fake.config("fake");
    config.call_timeout = Duration::from_millis(50);
    let servers = Servers::start(vec![config]);
    tools(&servers, &["fake__echo", "fake__stall"]).await;
    let slow = call(&servers, "fake__stall", json!({})).await.unwrap_err();
    assert!(matches!(slow, CallError::Timeout(_)), "{slow}");
    until("the server is told", || fake.count("notifications/cancelled") == 1).await;
    // The caller's deadline counts as well.
    let slow = call_within(&servers, "fake__stall", json!({}), Duration::from_millis(5)).await.unwrap_err();
    assert!(matches!(slow, CallError::Timeout(_)), "{slow}");
    until("the server is told", || fake.count("notifications/cancelled") == 2).await;
    text(&servers, "fake__echo", json!({})).await;
}

#[tokio::test]
async fn a_server_that_is_silent_in_a_call_is_asked_whether_it_is_there() {
    let fake = FakeMcp::start(&["stall"]).await;
    let mut config = fake.config("fake");
    config.call_timeout = Duration::from_millis(50);
    config.connect_timeout = Duration::from_millis(500);
    // Nothing else would ask.
    config.pace.check = Duration::from_secs(3600);
    let servers = Servers::start(vec![config]);
    tools(&servers, &["fake__stall"]).await;
    call_within(&servers, "fake__stall", json!({}), Duration::from_millis(5)).await.unwrap_err();
    assert_eq!(fake.count("ping"), 0, "the caller had no time");
    call(&servers, "fake__stall", json!({})).await.unwrap_err();
    until("it is asked", || fake.count("ping") == 1).await;
    // It is there, so it is kept; when it is not, it is connected to anew.
    fake.seen().silent_to = Some("ping");
    call(&servers, "fake__stall", json!({})).await.unwrap_err();
    until("it is connected to again", || fake.count("initialize") == 2).await;
    assert_eq!(fake.count("ping"), 2);
}

#[tokio::test]
async fn a_server_that_is_still_at_a_call_has_as_long_again_to_answer() {
    let fake = FakeMcp::start(&["stall", "echo"]).await;
    let mut config = fake.config("fake");
    config.call_timeout = Duration::from_secs(2);
    config.connect_timeout = Duration::from_millis(100);
    config.pace.check = Duration::from_secs(3600);
    let late = 3 * config.connect_timeout;
    let servers = Servers::start(vec![config]);
    tools(&servers, &["fake__echo", "fake__stall"]).await;
    fake.seen().silent_to = Some("ping");
    call(&servers, "fake__stall", json!({})).await.unwrap_err();
    until("it is asked", || fake.count("ping") == 1).await;
    // Long after other connections would be given up.
    tokio::time::sleep(late).await;
    fake.seen().silent_to = None;
    text(&servers, "fake__echo", json!({})).await;
    assert_eq!((fake.count("initialize"), fake.count("ping")), (1, 1));
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_and_frees_its_place() {
    let fake = FakeMcp::start(&["echo", "stall"]).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    tools(&servers, &["fake__echo", "fake__stall"]).await;
    let mut stalled = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let servers = servers.clone();
        stalled.spawn(async move { call(&servers, "fake__stall", json!({})).await });
    }
    until("all places are taken", || fake.count("tools/call") == 16).await;
    let busy = call_within(&servers, "fake__echo", json!({}), Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(busy, CallError::Busy);
    stalled.shutdown().await;
    until("the server is told", || fake.count("notifications/cancelled") == 16).await;
    let seen = fake.seen().messages.clone();
    let ids = |method: &str, of: fn(&serde_json::Value) -> &serde_json::Value| {
        let messages = seen.iter().filter(|message| message["method"] == method);
        let mut ids: Vec<u64> = messages.map(|message| of(message).as_u64().unwrap()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(
        ids("tools/call", |message| &message["id"]),
        ids("notifications/cancelled", |message| &message["params"]["requestId"])
    );
    text(&servers, "fake__echo", json!({})).await;
}

#[tokio::test]
async fn nonsense_instead_of_a_result_is_an_error_and_no_more() {
    let fake = FakeMcp::start(&["cut", "echo", "garbage", "odd"]).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    let names = ["fake__cut", "fake__echo", "fake__garbage", "fake__odd"];
    tools(&servers, &names).await;
    for name in ["fake__odd", "fake__garbage", "fake__cut"] {
        let error = call(&servers, name, json!({})).await.unwrap_err();
        assert!(matches!(error, CallError::Garbled | CallError::Lost), "{name}: {error}");
        tools(&servers, &names).await;
        text(&servers, "fake__echo", json!({})).await;
    }
}

#[tokio::test]
async fn a_server_that_goes_away_has_no_tools_until_it_is_back() {
    let fake = FakeMcp::start(&["echo"]).await;
    let address = fake.address;
    let servers = Servers::start(vec![fake.config("fake")]);
    tools(&servers, &["fake__echo"]).await;
    drop(fake);
    tools(&servers, &[]).await;
    let _fake = FakeMcp::start_at(address, &["again"]).await;
    tools(&servers, &["fake__again"]).await;
    text(&servers, "fake__again", json!({})).await;
}

#[tokio::test]
async fn a_server_that_is_slow_to_begin_holds_up_nobody() {
    let (slow, quick) = (FakeMcp::start(&["echo"]).await, FakeMcp::start(&["echo"]).await);
    slow.seen().silent_to = Some("initialize");
    let mut config = slow.config("slow");
    config.connect_timeout = Duration::from_millis(100);
    let servers = Servers::start(vec![config, quick.config("quick")]);
    tools(&servers, &["quick__echo"]).await;
    until("it is asked again", || slow.count("initialize") > 1).await;
    slow.seen().silent_to = None;
    tools(&servers, &["quick__echo", "slow__echo"]).await;
}

#[tokio::test]
async fn the_end_waits_for_nobody_who_does_not_answer() {
    let fake = FakeMcp::start(&["echo"]).await;
    fake.seen().silent_to = Some("initialize");
    let servers = Servers::start(vec![fake.config("fake")]);
    until("it is asked", || fake.count("initialize") == 1).await;
    tokio::time::timeout(DEADLINE, servers.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let fake = FakeMcp::start(&["echo"]).await;
    fake.seen().redirects = true;
    let servers = Servers::start(vec![fake.config("fake")]);
    until("it is tried again", || fake.count("initialize") > 1).await;
    assert!(servers.tools().is_empty());
    let sent = fake.seen().messages.clone();
    assert!(sent.iter().all(|message| message["method"] == "initialize"), "{sent:?}");
}

#[tokio::test]
async fn secrets_are_sent_and_never_shown() {
    let fake = FakeMcp::start(&["secret"]).await;
    let mut config = fake.config("fake");
    let headers = [("Authorization".to_owned(), "Bearer hidden-4711".into())].into();
    config.endpoint = Endpoint::Http { url: fake.url().into(), is_url_secret: false, headers };
    let shown = format!("{config:?}");
    let servers = Servers::start(vec![config]);
    tools(&servers, &["fake__secret"]).await;
    // What the server repeats, a model does not get to see.
    assert_eq!(text(&servers, "fake__secret", json!({})).await, "you sent ***");
    assert_eq!(fake.seen().headers.get("authorization").unwrap(), "Bearer hidden-4711");
    for shown in [shown, format!("{servers:?}"), format!("{:?}", servers.tools())] {
        assert!(!shown.contains("4711"), "{shown}");
    }
}
