//! What no line of the log may hold, at any level: secrets, credentials, and what was said.

use std::{fs, time::Duration};

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};
use serde_json::json;
use tokio::time::Instant;
use tonic::{Request, metadata::MetadataValue};

use super::Place;
use crate::{
    fake_openai::{FakeOpenAi, Received, Reply},
    harness::{DEADLINE, session::message},
};

/// Planted everywhere; a word for each place, so that a leak names itself.
fn planted(place: &str) -> String {
    format!("planted-{place}-8f3a61")
}

/// Every line with something planted, without repeating it in full.
fn leaks(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("planted-") || line.contains("8f3a61")).collect()
}

/// A request as a client with credentials sends it.
fn with_credentials<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {}", planted("bearer"));
    for (name, value) in
        [("authorization", bearer), ("x-identity-secret", planted("identity")), ("cookie", planted("cookie"))]
    {
        request.metadata_mut().insert(name, MetadataValue::try_from(value).unwrap());
    }
    request
}

/// The model repeats what it was given, calls tools, fails with the key in its error, and cuts streams.
fn model(request: &Received) -> Reply {
    let text = planted("answer");
    match request.number {
        0 => Reply::text(&text),
        1 => Reply::tool_call(
            "call_1",
            "create_poll",
            &json!({"question": planted("argument"), "options": [planted("option")]}),
        ),
        2 => Reply::status(401, &format!("Incorrect API key provided: {}", planted("key"))),
        3 => Reply::stream().delta(&json!({"content": text})).event(&planted("garbage")).cut(),
        4 => Reply::raw(500, "text/html", &planted("page")),
        _ => Reply::text(&text),
    }
}

#[tokio::test]
async fn no_line_of_the_log_holds_a_secret_or_what_was_said() {
    let model = FakeOpenAi::start(model).await;
    let place = Place::new()
        .env("OPENAI_BASE_URL", &model.base_url())
        .env("OPENAI_API_KEY", &planted("key"))
        .env("NOTES_AUTHORIZATION", &format!("Bearer {}", planted("tool-header")))
        .env(
            "NOTES_URL",
            &format!("http://ada:{}@127.0.0.1:9/{}", planted("url-password"), planted("url-path")),
        )
        .env("CHILD_TOKEN", &planted("child"))
        .env("SALON__LLM__RETRY__ATTEMPTS", "1")
        .env("SALON__LOG__LEVEL", "info,salon=trace");
    let tools = "mcp:\n  servers:\n    far: { url: 'http://127.0.0.1:9/mcp', headers: { Authorization: NOTES_AUTHORIZATION } }\n    \
                 hidden: { url_env: NOTES_URL }\n    child: { command: [cat, { env: CHILD_TOKEN }], env: { TOKEN: CHILD_TOKEN } }\n";
    fs::write(place.path("config.yaml"), tools).unwrap();
    let server = place.start().await;
    let mut client = server.client().await;
    let create = pb::CreateRoomRequest {
        name: planted("room-name"),
        description: planted("description"),
        room_id: Some("r".into()),
        created_by: "admin".into(),
        llms: vec![pb::LlmConfig { persona: planted("persona"), ..crate::harness::llm("ada") }],
        ..Default::default()
    };
    client.create_room(with_credentials(create)).await.unwrap();
    client.get_room(with_credentials(pb::GetRoomRequest { room_id: "r".into() })).await.unwrap();
    client.get_room(with_credentials(pb::GetRoomRequest { room_id: planted("no-room") })).await.unwrap_err();
    let mut admin = server.join("r", "admin").await;
    let mut ann = server.join("r", "ann").await;
    let said = ann.talk(&planted("message")).await;
    let edit = pb::EditMessage { message_id: said.event_id, content: planted("edit"), ..Default::default() };
    ann.command(Say::EditMessage(edit)).await.unwrap();
    let option = |text: &str| pb::PollOptionInput { text: text.into(), ..Default::default() };
    let options = vec![option(&planted("choice")), option("no")];
    let poll = pb::CreatePoll { question: planted("question"), options, ..Default::default() };
    ann.command(Say::CreatePoll(poll)).await.unwrap();
    for n in 0..5 {
        ann.command(message(&format!("@ada {} {n}", planted("asked")))).await.unwrap();
        ann.find(|event| matches!(event.payload, Some(Payload::LlmDone(_)))).await;
    }
    // What is refused is shown to nobody else either.
    let long = format!("{}{}", planted("long"), "x".repeat(20_000));
    ann.command(message(&long)).await.unwrap_err();
    let unknown = pb::DeleteMessage { message_id: planted("no-id") };
    ann.command(Say::DeleteMessage(unknown)).await.unwrap_err();
    let kick = pb::RemoveMember { user_id: "ann".into(), ban: true, reason: planted("reason") };
    admin.command(Say::RemoveMember(kick)).await.unwrap();
    server.stop().await;
    let log = place.log();
    // That anything would have been seen.
    for seen in ["salon::audit", "\"ann\"", "DEBUG", "draining"] {
        assert!(log.contains(seen), "{seen} is not in the log: {log}");
    }
    assert_eq!(leaks(&log), Vec::<&str>::new());
    assert!(model.requests().len() >= 5);
}

#[tokio::test]
async fn servers_that_cannot_be_reached_are_named_without_their_passwords() {
    let url = |kind: &str| format!("{kind}://ada:{}@127.0.0.1:9/salon", planted(kind));
    let place = || Place::new().env("SALON__LOG__LEVEL", "info,salon=trace");
    let postgres = place().env("SALON__STORE__KIND", "postgres").env("SALON__STORE__URL", &url("postgres"));
    let dynamodb = place()
        .env("SALON__BUS__KIND", "redis")
        .env("SALON__BUS__URL", &url("redis"))
        .env("SALON__STORE__KIND", "dynamodb")
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_ACCESS_KEY_ID", &planted("key-id"))
        .env("AWS_SECRET_ACCESS_KEY", &planted("aws-secret"));
    for place in [postgres, dynamodb] {
        let server = place.start_without_listening();
        let deadline = Instant::now() + DEADLINE;
        while place.log().is_empty() {
            assert!(Instant::now() < deadline, "it says nothing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.kill().await;
        assert_eq!(leaks(&place.log()), Vec::<&str>::new());
    }
    // What is refused is not repeated either: a bus that does not go with the store, URLs that are none.
    for (kind, url) in [("redis", url("redis")), ("nats", url("nats")), ("redis", planted("no-url"))] {
        let place = place().env("SALON__BUS__KIND", kind).env("SALON__BUS__URL", &url);
        let output = place.run(&["serve"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(78) && said.contains("bus."), "{said}");
        assert_eq!(leaks(&said), Vec::<&str>::new());
    }
}
