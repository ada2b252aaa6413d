//! Limits as clients meet them: refused in band or with a status, each with what it was and when to come again.

use std::{fs, path::Path, time::Duration};

use salon::{
    auth::quotas::Quotas,
    config::{Config, RateWord},
    ids::Namespace,
    wire::pb::room::v1::{self as pb, client_message::Payload as Say},
};
use tonic::{Code, Status};

use crate::harness::{
    Session, Setup,
    session::{join, message},
};

fn rate(count: u32) -> RateWord {
    RateWord(std::num::NonZeroU32::new(count).map(|count| (count, Duration::from_secs(3600))))
}

/// What a status says of when to come again, in milliseconds.
fn pushback(status: &Status) -> u64 {
    status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap()
}

fn refused(status: &Status, parts: &[&str]) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    for part in parts {
        assert!(status.message().contains(part), "{part}: {status:?}");
    }
}

#[tokio::test]
async fn calls_are_refused_with_a_status_that_says_when_to_come_again() {
    let setup = Setup::default().config(|config| {
        config.limits.rates.user.rooms = rate(2);
        config.limits.rates.user.history = rate(3);
    });
    let server = setup.start().await;
    let mut client = server.client().await;
    let new =
        |by: &str| pb::CreateRoomRequest { name: "r".into(), created_by: by.into(), ..Default::default() };
    client.create_room(new("ann")).await.unwrap();
    let room = client.create_room(new("ann")).await.unwrap().into_inner().room_id;
    let status = client.create_room(new("ann")).await.unwrap_err();
    refused(&status, &["too many new rooms of this user", "limits.rates.user.rooms: at most 2 an hour"]);
    // Half an hour, less what the test has taken.
    assert!((1_700_000..=1_800_000).contains(&pushback(&status)), "{status:?}");
    assert!(String::from_utf8_lossy(status.details()).contains("google.rpc.RetryInfo"));
    client.create_room(new("bob")).await.unwrap();

    // Three calls that read, whichever they are.
    let mut ann = server.join(&room, "ann").await;
    ann.talk("hello").await;
    let user = Some("ann".to_owned());
    let history =
        pb::LoadHistoryRequest { room_id: room.clone(), user_id: user.clone(), ..Default::default() };
    client.load_history(history.clone()).await.unwrap();
    let log = pb::ReadLogRequest { room_id: room.clone(), user_id: user.clone(), ..Default::default() };
    client.read_log(log.clone()).await.unwrap();
    let list = pb::ListRoomsRequest { user_id: user, ..Default::default() };
    client.list_rooms(list.clone()).await.unwrap();
    for status in [
        client.load_history(history).await.unwrap_err(),
        client.read_log(log).await.unwrap_err(),
        client.list_rooms(list).await.unwrap_err(),
    ] {
        refused(&status, &["too many reading calls of this user"]);
    }
    // Who is not named shares nothing with others, unless the namespace is limited.
    client.get_room(pb::GetRoomRequest { room_id: room }).await.unwrap();
    server.shutdown().await;
}

#[tokio::test]
async fn a_namespace_is_limited_as_a_whole() {
    let setup = Setup::default().config(|config| {
        config.limits.rates.default_namespace.messages = rate(4);
        config.limits.rates.default_namespace.history = rate(1);
    });
    let server = setup.start().await;
    let room = server.room(&[]).await;
    let (mut ann, mut bob) = (server.join(&room, "ann").await, server.join(&room, "bob").await);
    for _ in 0..2 {
        ann.talk("a").await;
        bob.talk("b").await;
    }
    for one in [&mut ann, &mut bob] {
        let error = one.command(message("c")).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.retryable), ("rate_limited", true));
        assert!(error.message.contains("in this namespace") && error.retry_after_ms > 0, "{error:?}");
    }
    let mut client = server.client().await;
    client.get_room(pb::GetRoomRequest { room_id: room.clone() }).await.unwrap();
    let members = pb::ListMembersRequest { room_id: room, ..Default::default() };
    refused(&client.list_members(members).await.unwrap_err(), &["in this namespace"]);
    server.shutdown().await;
}

#[tokio::test]
async fn joins_and_streams_are_limited_and_ended_streams_give_their_places_back() {
    let setup = Setup::default().config(|config| {
        config.limits.rates.user.joins = rate(4);
        config.limits.streams_per_user = 2;
    });
    let server = setup.start().await;
    let rooms = [server.room(&[]).await, server.room(&[]).await];
    let first = server.join(&rooms[0], "ann").await;
    let mut second = server.join(&rooms[1], "ann").await;
    let mut third = Session::open(server.client().await).await;
    let error = third.command(Say::Join(join(&rooms[0], "ann"))).await.unwrap_err();
    assert_eq!(error.code, "resource_exhausted");
    assert!(
        error.message.contains("2 streams of this user") && error.message.contains("limits.streams_per_user")
    );
    second.finish();
    let _ = second.end().await;
    // The stream lives, and joins now; the refusal has cost a join.
    third.say(Say::Join(join(&rooms[0], "ann"))).await;
    third.take_state().await;
    drop(first);
    let mut fifth = Session::open(server.client().await).await;
    let error = fifth.command(Say::Join(join(&rooms[0], "ann"))).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.retry_after_ms > 0), ("rate_limited", true), "{error:?}");
    server.join(&rooms[0], "bob").await;
    server.shutdown().await;
}

#[tokio::test]
async fn streams_that_never_join_leave_no_more_of_them_in() {
    let setup = Setup::default().config(|config| config.limits.streams_waiting_to_join = 2);
    let server = setup.start().await;
    let room = server.room(&[]).await;
    let mut held =
        vec![Session::open(server.client().await).await, Session::open(server.client().await).await];
    let mut client = server.client().await;
    let status = client.room_session(tokio_stream::empty()).await.unwrap_err();
    refused(&status, &["limits.streams_waiting_to_join"]);
    // One that joins makes place, and so does one that ends.
    held[0].say(Say::Join(join(&room, "ann"))).await;
    held[0].take_state().await;
    held.push(Session::open(server.client().await).await);
    held[1].finish();
    let _ = held[1].end().await;
    server.join(&room, "bob").await;
    server.shutdown().await;
}

#[tokio::test]
async fn questions_to_llms_are_counted_for_whoever_asks() {
    let setup = Setup::default().config(|config| config.limits.rates.user.llm_calls = rate(2));
    let server = setup.start().await;
    let room = server.room(&["ada"]).await;
    let (mut ann, mut bob) = (server.join(&room, "ann").await, server.join(&room, "bob").await);
    for _ in 0..2 {
        ann.talk("@ada hello").await;
    }
    ann.talk("@ada and again").await;
    let error = ann
        .pick(|payload| match payload {
            pb::server_event::Payload::Error(error) => Some(error.clone()),
            _ => None,
        })
        .await;
    assert_eq!((error.code.as_str(), error.retryable), ("rate_limited", true));
    for part in ["the LLM ada was not asked", "too many questions to LLMs of this user", "at most 2 an hour"]
    {
        assert!(error.message.contains(part), "{error:?}");
    }
    bob.talk("@ada hello").await;
    bob.pick(|payload| matches!(payload, pb::server_event::Payload::LlmDone(_)).then_some(())).await;
    server.shutdown().await;
}

#[tokio::test]
async fn quotas_of_a_namespace_refuse_what_is_beyond_them() {
    let setup = Setup::default().config(|config| {
        config.limits.quotas.default_namespace.rooms = Some(2);
        config.limits.quotas.default_namespace.streams = Some(1);
        config.limits.quotas.default_namespace.runs = Some(1_000_000);
    });
    let server = setup.start().await;
    let room = server.room(&[]).await;
    server.room(&[]).await;
    let new = pb::CreateRoomRequest { name: "r".into(), created_by: "ann".into(), ..Default::default() };
    let status = server.client().await.create_room(new.clone()).await.unwrap_err();
    refused(&status, &["the quota `rooms`", "allows 2", "ask the operator for more"]);
    let ann = server.join(&room, "ann").await;
    let mut bob = Session::open(server.client().await).await;
    let error = bob.command(Say::Join(join(&room, "bob"))).await.unwrap_err();
    assert!(error.message.contains("the quota `streams`"), "{error:?}");
    // More was given to it: at once.
    let more = Quotas { rooms: Some(3), streams: Some(2), ..Quotas::default() };
    server.server.graph().services.allowances.set_quotas(&Namespace::default(), Some(more));
    server.client().await.create_room(new).await.unwrap();
    bob.say(Say::Join(join(&room, "bob"))).await;
    bob.take_state().await;
    drop(ann);
    server.shutdown().await;
}

#[test]
fn the_documented_defaults_are_those_in_force() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/limits.md");
    let written = fs::read_to_string(file).unwrap();
    let mut keys = Vec::new();
    leaves("limits", &serde_json::to_value(&Config::default().limits).unwrap(), &mut keys);
    let rows: Vec<String> = keys.iter().map(|(key, default)| format!("| `{key}` | {default} |")).collect();
    for row in &rows {
        assert!(written.contains(row), "docs/limits.md lacks {row}");
    }
    let all = written.lines().filter(|line| line.starts_with("| `limits.")).count();
    assert_eq!(all, rows.len(), "docs/limits.md has rows of keys that are not there");
}

fn leaves(key: &str, value: &serde_json::Value, into: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(section) => {
            section.iter().for_each(|(name, value)| leaves(&format!("{key}.{name}"), value, into));
        }
        serde_json::Value::Null => into.push((key.into(), "none".into())),
        serde_json::Value::String(text) => into.push((key.into(), text.clone())),
        other => into.push((key.into(), other.to_string())),
    }
}
