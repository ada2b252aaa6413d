//! What of a server's tools is offered, and under which names.

use salon::mcp::{
    Servers,
    config::{Policy, Rule},
};
use serde_json::json;

use super::{
    call,
    fake::{FakeMcp, tool},
    text, tools,
};
use crate::harness::until;

#[tokio::test]
async fn all_pages_are_listed_and_words_are_cleaned() {
    let fake = FakeMcp::start(&["e", "d", "c", "b", "a"]).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    let offered = tools(&servers, &["fake__a", "fake__b", "fake__c", "fake__d", "fake__e"]).await;
    assert_eq!(fake.count("tools/list"), 3);
    let first = &offered[0];
    assert_eq!((first.server.as_str(), first.tool.as_str()), ("fake", "a"));
    assert_eq!(first.description, "Does a. [2J");
    assert_eq!(first.schema.value(), &json!({ "type": "object", "properties": {} }));
    assert_eq!(servers.tool("fake__b").unwrap().tool, "b");
    assert!(servers.tool("fake__f").is_none());
}

#[tokio::test]
async fn only_what_the_operator_lists_is_offered() {
    let fake = FakeMcp::start(&["asks", "hidden", "plain", "trusted"]).await;
    let policy = |approval, trusted_only| Policy { approval, trusted_only };
    let listed = [
        ("asks".to_owned(), Rule::Offered(policy(true, false))),
        ("hidden".to_owned(), Rule::Hidden),
        ("trusted".to_owned(), Rule::Offered(policy(false, true))),
        ("is_not_there".to_owned(), Rule::Offered(policy(true, true))),
    ];
    let mut config = fake.config("fake");
    config.rules = listed.clone().into();
    let servers = Servers::start(vec![config.clone()]);
    let offered = tools(&servers, &["fake__asks", "fake__trusted"]).await;
    assert_eq!([offered[0].policy, offered[1].policy], [policy(true, false), policy(false, true)]);

    config.rules.insert("*".into(), Rule::Offered(policy(true, true)));
    let servers = Servers::start(vec![config.clone()]);
    let offered = tools(&servers, &["fake__asks", "fake__plain", "fake__trusted"]).await;
    assert_eq!([offered[0].policy, offered[1].policy], [policy(true, false), policy(true, true)]);

    config.rules.clear();
    let servers = Servers::start(vec![config]);
    let before = fake.count("ping");
    until("it is connected", || fake.count("ping") > before + 1).await;
    assert!(servers.tools().is_empty());
}

#[tokio::test]
async fn a_schema_that_is_none_keeps_its_tool_back_and_no_other() {
    let fake = FakeMcp::start(&["broken", "echo", "no_object"]).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    tools(&servers, &["fake__echo"]).await;
}

#[tokio::test]
async fn odd_names_are_made_fit_without_collisions() {
    let long = "x".repeat(100);
    let fake = FakeMcp::start(&["a.b", "a b", "a_b", &long, &format!("{long}y"), "ä", "", "__x"]).await;
    let servers = Servers::start(vec![fake.config("fake-1")]);
    until("they are offered", || !servers.tools().is_empty()).await;
    let offered = servers.tools();
    // The one without a name is left out.
    assert_eq!(offered.len(), 7);
    for tool in &offered {
        assert!(tool.name.len() <= 64 && tool.name.starts_with("fake-1__"), "{}", tool.name);
        assert!(tool.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)), "{}", tool.name);
        // Each leads to its own tool.
        text(&servers, &tool.name, json!({})).await;
        let seen = fake.seen();
        assert_eq!(seen.messages.last().unwrap()["params"]["name"], tool.tool);
    }
    let names: Vec<_> = offered.iter().map(|tool| tool.name.as_str()).collect();
    assert!(names.contains(&"fake-1__a_b") && names.contains(&"fake-1____x"), "{names:?}");
    // The names do not depend on what else is there.
    let other = FakeMcp::start(&["ä", "a.b"]).await;
    let servers = Servers::start(vec![other.config("fake-1")]);
    until("they are offered", || servers.tools().len() == 2).await;
    assert!(servers.tools().iter().all(|tool| names.contains(&tool.name.as_str())));
}

#[tokio::test]
async fn a_name_that_looks_like_a_changed_one_is_not_taken() {
    let fake = FakeMcp::start(&["a.b"]).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    until("it is offered", || servers.tools().len() == 1).await;
    let taken = servers.tools()[0].name.clone();
    fake.change(&["a.b", taken.strip_prefix("fake__").unwrap()]);
    until("both are offered", || servers.tools().len() == 2).await;
    assert_eq!(servers.tool(&taken).unwrap().tool, taken.strip_prefix("fake__").unwrap());
}

#[tokio::test]
async fn changes_are_told_and_listed_again() {
    let fake = FakeMcp::start(&["one"]).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    tools(&servers, &["fake__one"]).await;
    for names in [["one", "two"], ["three", "two"]] {
        fake.change(&names);
        let mut names = names.map(|name| format!("fake__{name}"));
        names.sort();
        tools(&servers, &names.each_ref().map(String::as_str)).await;
    }
    assert_eq!(fake.count("initialize"), 1);
}

#[tokio::test]
async fn a_server_that_refuses_is_asked_again_what_it_has() {
    let fake = FakeMcp::start(&["refuse"]).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    tools(&servers, &["fake__refuse"]).await;
    // Nobody is told that it has other tools now.
    fake.seen().tools = vec![tool("other")];
    call(&servers, "fake__refuse", json!({})).await.unwrap_err();
    tools(&servers, &["fake__other"]).await;
    assert_eq!(fake.count("initialize"), 1);
}

#[tokio::test]
async fn too_many_tools_are_left_out() {
    let many: Vec<String> = (0..200).map(|n| format!("tool_{n:03}")).collect();
    let fake = FakeMcp::start(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let servers = Servers::start(vec![fake.config("fake")]);
    until("they are offered", || !servers.tools().is_empty()).await;
    assert_eq!(servers.tools().len(), 128);
    assert_eq!(servers.tools()[127].tool, "tool_127");
}

#[tokio::test]
async fn a_list_without_end_ends() {
    let fake = FakeMcp::start(&["echo"]).await;
    fake.seen().is_endless = true;
    let servers = Servers::start(vec![fake.config("fake")]);
    tools(&servers, &["fake__echo"]).await;
    assert_eq!(fake.count("tools/list"), 100);
}

#[tokio::test]
async fn a_long_description_is_cut() {
    let fake = FakeMcp::start(&[]).await;
    let mut long = tool("long");
    long["description"] = json!("word ".repeat(1000));
    fake.seen().tools = vec![long];
    let servers = Servers::start(vec![fake.config("fake")]);
    let offered = tools(&servers, &["fake__long"]).await;
    assert_eq!(offered[0].description.chars().count(), 1025);
}
