//! `salon admin` against the administration: from the first key to a revoked identity.

use std::{sync::Arc, time::Duration};

use clap::Parser as _;
use salon::{
    allowance::{Allowances, quotas::Given, rate::RateTable, streams::StreamLimits},
    audit::{Act, Audit, AuditSettings, Fact},
    auth::{
        audit::LogSink,
        directory::{Directory, DirectorySettings},
        gate::Caller,
    },
    cli::{
        admin::{self, args::Admin},
        args::{Args, Command},
        client::Error,
        exit::Exit,
    },
    clock::{Clock, SystemClock},
    grpc::admin::AdminApi,
    ids::{Namespace, NodeId},
    ops::bootstrap,
    store::{Store, memory::MemoryStore},
    wire::pb::room::v1::admin_service_server::AdminServiceServer,
};
use tokio::{net::TcpListener, runtime::Handle, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Status, transport::Server};

use crate::{harness::DEADLINE, process::Place};

/// The administration at a port, behind a door that only looks secrets up.
struct World {
    url: String,
    directory: Directory,
    root: String,
    audit: Audit,
    _tasks: JoinSet<()>,
}

impl World {
    async fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let made = bootstrap::run(Arc::clone(&store), Arc::clone(&clock), false).await.unwrap();
        let directory = Directory::new(Arc::clone(&store), Arc::clone(&clock), DirectorySettings::default());
        let settings = AuditSettings { enabled: true, retention: Duration::from_secs(86_400) };
        let (kept, stop) = (Arc::clone(&store), CancellationToken::new());
        let audit =
            Audit::start(kept, Arc::clone(&clock), NodeId::random(), settings, &TaskTracker::new(), stop);
        let streams = StreamLimits {
            per_user: 9,
            per_credential: None,
            per_peer: None,
            waiting: 9,
            waiting_per_peer: 9,
            waiting_per_namespace: 9,
        };
        let allowances = Allowances::new(RateTable::default(), streams, Given::default());
        let sink = Arc::new(LogSink);
        let api = AdminApi::new(directory.clone(), None, sink, audit.clone(), allowances, clock);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let known = directory.clone();
        let door = move |request| look_up(&known, request);
        let service = AdminServiceServer::with_interceptor(api, door);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let serving = Server::builder().add_service(service);
            serving.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { url, directory, root: made.secret.expose().to_owned(), audit, _tasks: tasks }
    }

    /// Runs a command with this credential.
    async fn run(&self, token: &str, line: &str) -> Result<String, Error> {
        let words = ["salon", "admin"].into_iter().chain(line.split_whitespace());
        let shown = ["--server", &self.url, "--token", token];
        let args = Args::try_parse_from(words.chain(shown)).unwrap_or_else(|error| panic!("{error}"));
        let Command::Admin(Admin::Call(call)) = args.into_command() else { panic!("{line}") };
        let mut out = Vec::new();
        assert_eq!(admin::run(call, SystemClock.now(), &mut out).await?, Exit::Success);
        Ok(String::from_utf8(out).unwrap())
    }

    /// As [`World::run`], with one object of JSON in answer.
    async fn json(&self, token: &str, line: &str) -> serde_json::Value {
        let out = self.run(token, &format!("{line} --json")).await.unwrap();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

fn look_up(directory: &Directory, mut request: Request<()>) -> Result<Request<()>, Status> {
    let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let secret = shown.and_then(|shown| shown.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
    let found = tokio::task::block_in_place(|| Handle::current().block_on(directory.find(&secret)));
    let found = found.map_err(|_| Status::unauthenticated("the credential is not known"))?;
    let principal = Arc::new(found.principal(SystemClock.now()));
    request.extensions_mut().insert(Caller { principal, peer: None });
    Ok(request)
}

fn text<'a>(value: &'a serde_json::Value, path: &str) -> &'a str {
    value.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_else(|| panic!("{path}: {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_its_identities_and_keys_are_made_shown_and_ended() {
    let world = World::new().await;
    let root = world.root.as_str();
    let made = world.json(root, "namespace create acme --display-name Acme").await;
    let owner = text(&made, "/secret").to_owned();
    let table = world.run(root, "namespace list").await.unwrap();
    assert!(table.contains("acme") && table.contains("default"), "{table}");

    let made = world.json(&owner, "identity create --user ann --name Ann").await;
    let (id, secret) = (text(&made, "/identity/identityId").to_owned(), text(&made, "/secret").to_owned());
    assert!(world.directory.find(&secret).await.is_ok());
    let listed = world.json(&owner, "identity list").await;
    assert_eq!((text(&listed, "/identityId"), text(&listed, "/userId")), (id.as_str(), "ann"));
    let rotated = world.json(&owner, &format!("identity rotate {id} --overlap 1m")).await;
    assert!(world.directory.find(&secret).await.unwrap().expires_at.is_some());
    let table = world.run(&owner, &format!("identity revoke {id}")).await.unwrap();
    assert!(table.contains("revoked"), "{table}");
    for ended in [secret.as_str(), text(&rotated, "/secret")] {
        assert!(world.directory.find(ended).await.is_err());
    }

    let made = world.json(&owner, "key create --label web --scope tokens,audit --expires-in 1h").await;
    let (id, key) = (text(&made, "/key/keyId").to_owned(), text(&made, "/secret").to_owned());
    assert!(world.directory.find(&key).await.unwrap().expires_at.is_some());
    let refused = world.run(&key, "identity create").await.unwrap_err().to_string();
    assert!(refused.contains("`identities`"), "{refused}");
    world.run(&key, "token revoke --user ann").await.unwrap();
    let refused = world.run(&key, "token create --user ann").await.unwrap_err().to_string();
    assert!(refused.contains("no signing key"), "{refused}");
    world.run(&owner, &format!("key revoke {id}")).await.unwrap();
    let refused = world.run(&key, "token revoke --user ann").await.unwrap_err().to_string();
    assert!(refused.contains("SALON_TOKEN"), "{refused}");

    let archived = world.json(root, "namespace archive acme").await;
    assert!(archived.get("archivedAt").is_some(), "{archived}");
    assert!(world.run(&owner, "identity list").await.is_err());
    world.run(root, "namespace archive acme --undo").await.unwrap();
    let out = world.run(&owner, "namespace rotate").await.unwrap();
    assert_eq!(out.lines().count(), 1, "nothing but the secret: {out}");
    assert!(world.run(&owner, "identity list").await.is_err(), "the old secret has ended");
    world.run(out.trim(), "identity list").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_server_are_made_by_its_own_alone() {
    let world = World::new().await;
    let made = world.json(&world.root, "key create --everywhere --label ops --scope admin").await;
    let ops = text(&made, "/secret");
    world.run(ops, "namespace create acme").await.unwrap();
    let listed = world.run(ops, "key list --everywhere").await.unwrap();
    assert!(listed.contains("bootstrap") && listed.contains("ops"), "{listed}");
    let made = world.json(ops, "key create --namespace acme --label all --scope admin").await;
    let refused = world
        .run(text(&made, "/secret"), "key create --everywhere --label x --scope admin")
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("credential of the server"), "{refused}");
    let refused = world.run(ops, "identity create --namespace nowhere").await.unwrap_err().to_string();
    assert!(refused.contains("there is no namespace \"nowhere\""), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_and_identities_are_shown_and_changed_without_touching_the_rest() {
    let world = World::new().await;
    let root = world.root.as_str();
    world.run(root, "namespace create acme").await.unwrap();
    world.run(root, "namespace update acme --rooms 5 --members 20 --stored-bytes 10GiB").await.unwrap();
    let changed = world.json(root, "namespace update acme --rooms default --streams 7").await;
    let quotas = serde_json::json!({ "members": "20", "storedBytes": "10737418240", "streams": "7" });
    assert_eq!(changed["quotas"], quotas);
    let named = world.json(root, "namespace update acme --display-name Acme").await;
    assert_eq!((&named["displayName"], &named["quotas"]), (&"Acme".into(), &quotas));
    let table = world.run(root, "namespace show acme").await.unwrap();
    assert!(table.contains("members=20,stored-bytes=10737418240,streams=7"), "{table}");

    let made = world.json(root, "identity create --namespace acme --user ann --name Ann").await;
    let id = text(&made, "/identity/identityId").to_owned();
    let command = format!("identity update {id} --namespace acme --metadata team=red --metadata x=a=b");
    let changed = world.json(root, &command).await;
    assert_eq!(changed["metadata"], serde_json::json!({ "team": "red", "x": "a=b" }));
    world.run(root, &format!("identity update {id} --namespace acme --name Anna")).await.unwrap();
    let shown = world.json(root, &format!("identity show {id} --namespace acme")).await;
    assert_eq!((text(&shown, "/displayName"), text(&shown, "/metadata/team")), ("Anna", "red"));
    for wrong in [
        "namespace update acme",
        "namespace update acme --rooms many",
        "namespace update acme --stored-bytes 10",
        "identity update x",
        "identity update x --metadata y",
        "audit --since yesterday",
        "audit --limit 0",
    ] {
        let words = ["salon", "admin"].into_iter().chain(wrong.split_whitespace());
        assert!(Args::try_parse_from(words).is_err(), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_read_from_when_on_and_as_much_as_was_asked_for() {
    let world = World::new().await;
    let root = world.root.as_str();
    let count = 1203;
    for n in 0..count {
        world.audit.record(Fact::new(Namespace::default(), Act::Kick).to(format!("u{n}\u{1b}[2J")));
    }
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let lines = loop {
        let out = world.run(root, "audit --limit 5000 --json").await.unwrap();
        let lines: Vec<String> = out.lines().map(str::to_owned).collect();
        if lines.len() == count {
            break lines;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} entries", lines.len());
    };
    let entry = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap();
    for (n, line) in lines.iter().enumerate() {
        assert!(!line.contains('\u{1b}'), "{line}");
        assert_eq!(text(&entry(line), "/subject"), format!("u{n}\u{1b}[2J"), "in order, over pages");
    }
    let out = world.run(root, "audit --limit 501").await.unwrap();
    assert_eq!(out.lines().count(), 501);
    assert!(out.contains("kick done subject=\"u500\"") && !out.contains('\u{1b}'), "{out}");
    assert_eq!(world.run(root, "audit --since 2100-01-01T00:00:00Z").await.unwrap(), "");
    assert_eq!(
        world.run(root, "audit --since 1970-01-01T00:00:00Z --limit 1").await.unwrap().lines().count(),
        1
    );
    let made = world.json(root, "key create --namespace default --label look --scope audit").await;
    let reader = text(&made, "/secret");
    world.run(reader, "audit --limit 1").await.unwrap();
    world.run(reader, "identity list").await.unwrap_err();
}

#[tokio::test]
async fn the_first_key_is_made_in_the_store_and_alone_on_the_output() {
    let place = Place::new();
    let first = place.run(&["admin", "bootstrap"]).await;
    let errors = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(first.status.success(), "{errors}");
    let key = String::from_utf8(first.stdout).unwrap();
    assert!(key.trim_end().len() == 64 && key.lines().count() == 1, "{key:?}");
    assert!(!errors.contains(key.trim_end()) && errors.contains("scope admin"), "{errors}");
    let second = place.run(&["admin", "bootstrap"]).await;
    assert!(!second.status.success() && second.stdout.is_empty());
    assert!(String::from_utf8_lossy(&second.stderr).contains("--force"));
    let forced = place.run(&["admin", "bootstrap", "--force"]).await;
    assert!(forced.status.success() && forced.stdout != key.as_bytes());
    let memory = Place::new().env("SALON__STORE__KIND", "memory").run(&["admin", "bootstrap"]).await;
    assert!(!memory.status.success() && memory.stdout.is_empty());
}
