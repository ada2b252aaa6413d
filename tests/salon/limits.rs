//! Limits as clients meet them: refused in band or with a status, each with what it was and when to come again.

mod members;

use std::{fs, num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use salon::{
    allowance::usage::FRESH,
    auth::{
        directory::{Directory, DirectorySettings, NamespaceChange, NewKey, NewNamespace},
        quotas::Quotas,
        scope::Scope,
    },
    clock::SystemClock,
    config::{AuthMode, Config, RateWord},
    ids::Namespace,
    llm::offline::OfflineProvider,
    store::{Store, memory::MemoryStore},
    wire::pb::room::v1::{self as pb, client_message::Payload as Say},
};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{
    Session, Setup, TestServer, llm,
    session::{join, message},
    tenants::Shown,
};

fn rate(count: u32) -> RateWord {
    RateWord(NonZeroU32::new(count).map(|count| (count, Duration::from_secs(3600))))
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

#[tokio::test(start_paused = true)]
async fn quotas_of_a_namespace_refuse_what_is_beyond_them_until_it_is_given_more() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
    let setup = Setup::default().store(Arc::clone(&store)).virtual_time().config(|config| {
        config.limits.quotas.default_namespace.rooms = Some(2);
        config.limits.quotas.default_namespace.streams = Some(1);
        config.limits.quotas.default_namespace.runs = Some(1_000_000);
    });
    let server = setup.start_without_port().await;
    let room = server.room(&[]).await;
    server.room(&[]).await;
    let new = pb::CreateRoomRequest { name: "r".into(), created_by: "ann".into(), ..Default::default() };
    let status = server.client().await.create_room(new.clone()).await.unwrap_err();
    refused(&status, &["the quota `rooms`", "allows 2", "ask the operator for more"]);
    let ann = server.join(&room, "ann").await;
    let mut bob = Session::open(server.client().await).await;
    let error = bob.command(Say::Join(join(&room, "bob"))).await.unwrap_err();
    assert!(error.message.contains("the quota `streams`"), "{error:?}");
    // More was written down for it.
    let more = Quotas { rooms: Some(3), streams: Some(2), ..Quotas::default() };
    give(&store, &Namespace::default(), more).await;
    server.client().await.create_room(new.clone()).await.unwrap();
    let status = server.client().await.create_room(new.clone()).await.unwrap_err();
    refused(&status, &["the quota `rooms`", "allows 3"]);
    let bob = server.join(&room, "bob").await;
    // What is taken away again leaves the server's own.
    give(&store, &Namespace::default(), Quotas::default()).await;
    let status = server.client().await.create_room(new).await.unwrap_err();
    refused(&status, &["the quota `rooms`", "allows 2"]);
    drop((ann, bob));
    server.shutdown().await;
}

/// Writes quotas of a namespace down, as the administration does, and waits until servers have read them.
async fn give(store: &Arc<dyn Store>, namespace: &Namespace, quotas: Quotas) {
    let change = NamespaceChange { quotas: Some(quotas), ..NamespaceChange::default() };
    directory(store).change_namespace(namespace, change).await.unwrap();
    tokio::time::sleep(2 * FRESH).await;
}

fn directory(store: &Arc<dyn Store>) -> Directory {
    Directory::new(Arc::clone(store), Arc::new(SystemClock), DirectorySettings::default())
}

/// A namespace with a key that may talk in its rooms.
struct Tenant {
    key: String,
}

impl Tenant {
    async fn new(store: &Arc<dyn Store>, name: &str) -> Self {
        let (directory, namespace) = (directory(store), Namespace::parse(name).unwrap());
        let new =
            NewNamespace { name: namespace.clone(), display_name: String::new(), quotas: Quotas::default() };
        directory.create_namespace(new).await.unwrap();
        let scopes = [Scope::RoomsRead, Scope::RoomsWrite].into_iter().collect();
        let new = NewKey { label: "app".into(), scopes, expires_at: None };
        let (_, _, secret) = directory.create_key(Some(&namespace), new).await.unwrap();
        Self { key: secret.expose().to_owned() }
    }

    /// A room with one LLM.
    async fn room(&self, server: &TestServer) -> Result<String, Status> {
        let asked = pb::CreateRoomRequest {
            name: "r".into(),
            created_by: "ann".into(),
            llms: vec![llm("ada")],
            ..Default::default()
        };
        let answer = server.client().await.create_room(Shown::Bearer(self.key.clone()).on(asked)).await?;
        Ok(answer.into_inner().room_id)
    }

    /// Its user in a room of its own.
    async fn talker(&self, server: &TestServer) -> Session {
        let room = self.room(server).await.unwrap();
        let shown = Shown::Bearer(self.key.clone());
        let mut session = Session::open_with(server.client().await, &shown).await.unwrap();
        session.enter(&room, "ann").await;
        session
    }
}

/// A server that asks everybody who they are, and two namespaces of it.
async fn tenants(change: impl FnOnce(&mut Config)) -> (TestServer, Arc<dyn Store>, [Tenant; 2]) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
    let both = [Tenant::new(&store, "loud").await, Tenant::new(&store, "quiet").await];
    let setup = Setup::default().store(Arc::clone(&store)).virtual_time();
    let pace = Duration::from_millis(100);
    let setup = setup.provider(OfflineProvider::with_pause("offline", pace)).config(|config| {
        config.auth.mode = AuthMode::Required;
        change(config);
    });
    (setup.start_without_port().await, store, both)
}

#[tokio::test(start_paused = true)]
async fn a_namespace_has_the_quotas_that_it_was_given_and_others_have_theirs() {
    let (server, store, [loud, quiet]) = tenants(|_| {}).await;
    loud.room(&server).await.unwrap();
    quiet.room(&server).await.unwrap();
    let two = Quotas { rooms: Some(2), ..Quotas::default() };
    give(&store, &Namespace::parse("loud").unwrap(), two).await;
    loud.room(&server).await.unwrap();
    refused(&loud.room(&server).await.unwrap_err(), &["this namespace has 2 rooms", "the quota `rooms`"]);
    for _ in 0..5 {
        quiet.room(&server).await.unwrap();
    }
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_goes_a_hundred_times_too_fast_holds_up_no_other() {
    let second = Duration::from_secs(1);
    let (server, _, [loud, quiet]) = tenants(|config| {
        config.limits.rates.namespace.messages = RateWord(NonZeroU32::new(10).map(|count| (count, second)));
    })
    .await;
    let (mut loud, mut quiet) = (loud.talker(&server).await, quiet.talker(&server).await);
    // 1000 a second, three seconds long.
    let flood = async {
        let (mut stored, mut refused) = (0, 0);
        for _ in 0..300 {
            for _ in 0..10 {
                match loud.command(message("more")).await {
                    Ok(_) => stored += 1,
                    Err(error) => {
                        assert_eq!(error.code, "rate_limited");
                        assert!(error.message.contains("in this namespace"), "{error:?}");
                        refused += 1;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (stored, refused)
    };
    // Nine a second.
    let talk = async {
        let mut longest = Duration::ZERO;
        for _ in 0..27 {
            let asked = Instant::now();
            quiet.talk("hello").await;
            longest = longest.max(asked.elapsed());
            tokio::time::sleep(second / 9).await;
        }
        longest
    };
    let ((stored, refused), longest) = tokio::join!(flood, talk);
    assert!((30..=41).contains(&stored) && stored + refused == 3000, "{stored} stored, {refused} refused");
    assert_eq!(longest, Duration::ZERO, "every ack came at once");
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_questions_of_one_namespace_do_not_stand_in_the_way_of_anothers() {
    let (server, _, [loud, quiet]) = tenants(|config| {
        config.llm.runs_per_room = 1;
        config.llm.runs_per_node = 2;
    })
    .await;
    let mut rooms = Vec::new();
    for _ in 0..20 {
        let mut ann = loud.talker(&server).await;
        ann.talk("@ada hello").await;
        rooms.push(ann);
    }
    let mut quiet = quiet.talker(&server).await;
    let waiting = server.run_count();
    quiet.talk("@ada hello").await;
    quiet.pick(|payload| matches!(payload, pb::server_event::Payload::LlmDone(_)).then_some(())).await;
    let left = server.run_count();
    // Two were being written when it asked; while it was, at most two others began and ended.
    assert!(waiting >= 15 && left + 5 >= waiting, "{left} of {waiting} are left");
    server.shutdown().await;
}

#[tokio::test]
async fn the_administration_is_in_the_lists_of_services_and_its_health_is_told() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "room.v1.RoomService", "room.v1.AdminService", "api.room.Room"] {
        let asked = HealthCheckRequest { service: service.into() };
        let status = health.check(asked).await.unwrap().into_inner().status;
        assert_eq!(status, ServingStatus::Serving as i32, "{service}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn reading_what_is_used_counts_as_reading() {
    let setup = Setup::default().config(|config| config.limits.rates.user.history = rate(1));
    let server = setup.start().await;
    let mut client = server.client().await;
    let asked = pb::GetUsageRequest { user_id: Some("ann".into()), ..Default::default() };
    client.get_usage(asked.clone()).await.unwrap();
    refused(&client.get_usage(asked).await.unwrap_err(), &["too many reading calls of this user"]);
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
