//! Who may call what, that secrets are shown once, and that every call is remembered.

use std::sync::{Mutex, PoisonError};

use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    allowance::{
        quotas::Given,
        rate::{Paces, Rate, RateTable},
        streams::StreamLimits,
    },
    audit::{self, Act, AuditSettings, Origin},
    auth::{
        audit::Fact,
        directory::DirectorySettings,
        gate::Caller,
        mint::{Minted, NewToken},
        principal::{Credential, Principal},
        scope::{Powers, Scopes},
    },
    clock::{ManualClock, Timestamp},
    domain::rejection::Code,
    ids::{NodeId, RoomId},
    store::{Store, memory::MemoryStore},
    wire::basic::time,
};

const START: Timestamp = Timestamp(1_700_000_000_000);

/// Remembers what it is told.
#[derive(Debug, Default)]
struct Remembered(Mutex<Vec<Fact>>);

#[tonic::async_trait]
impl AuditSink for Remembered {
    async fn tell(&self, fact: Fact) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fact);
    }
}

/// Signs by writing down what it was asked.
#[derive(Debug)]
struct Mint;

impl MintTokens for Mint {
    fn mint(&self, token: &NewToken, now: Timestamp) -> Result<Minted, Rejection> {
        let room = token.room.as_ref().map_or("any", RoomId::as_str);
        let text = format!("{} {room} {}", token.user, token.grants.write);
        Ok(Minted { token: SecretString::from(text), id: "t1".into(), expires_at: now.plus(token.lifetime) })
    }
}

struct World {
    api: AdminApi,
    directory: Directory,
    audit: Arc<Remembered>,
    clock: Arc<ManualClock>,
    entries: Audit,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl World {
    fn new(mint: Option<Arc<dyn MintTokens>>) -> Self {
        Self::with_rates(mint, RateTable::default())
    }

    fn with_rates(mint: Option<Arc<dyn MintTokens>>, rates: RateTable) -> Self {
        let manual = Arc::new(ManualClock::new(START));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&manual);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let settings = AuditSettings { enabled: true, retention: Duration::from_secs(86_400) };
        let (kept, node) = (Arc::clone(&store), NodeId::random());
        let entries = Audit::start(kept, Arc::clone(&clock), node, settings, &tasks, stop.clone());
        let directory = Directory::new(store, Arc::clone(&clock), DirectorySettings::default());
        let audit = Arc::new(Remembered::default());
        let sink = Arc::clone(&audit) as Arc<dyn AuditSink>;
        let allowances = Allowances::new(rates, StreamLimits::NINE, Given::default());
        let api = AdminApi::new(directory.clone(), mint, sink, entries.clone(), allowances, clock);
        Self { api, directory, audit, clock: manual, entries, tasks, stop }
    }

    /// Everything that was recorded is written down.
    async fn written(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The namespaces `acme` and `other`, and the principal of each one's owner.
    async fn tenants(&self) -> [Principal; 2] {
        let mut owners = Vec::new();
        for name in ["acme", "other"] {
            let asked = pb::CreateNamespaceRequest { namespace: name.into(), ..Default::default() };
            let made = self.api.create_namespace(from(&server(), asked)).await.unwrap().into_inner();
            owners.push(self.directory.find(&made.secret).await.unwrap().principal(START));
        }
        owners.try_into().unwrap()
    }

    fn facts(&self) -> Vec<Fact> {
        std::mem::take(&mut self.audit.0.lock().unwrap())
    }
}

fn server() -> Principal {
    Principal { powers: Powers::server(), credential: Credential::Key("root".into()), ..Principal::open() }
}

fn with_scope(namespace: &str, scope: Scope) -> Principal {
    let powers = Powers { scopes: Scopes::from_iter([scope]), everywhere: false };
    let namespace = Namespace::parse(namespace).unwrap();
    Principal { namespace, powers, credential: Credential::Key("k".into()), ..Principal::open() }
}

fn from<T>(principal: &Principal, asked: T) -> Request<T> {
    let mut request = Request::new(asked);
    let caller = Caller { principal: Arc::new(principal.clone()), peer: None };
    request.extensions_mut().insert(caller);
    request
}

fn identity_in(namespace: &str) -> pb::CreateIdentityRequest {
    pb::CreateIdentityRequest { namespace: namespace.into(), user_id: "ann".into(), ..Default::default() }
}

#[tokio::test]
async fn nobody_calls_without_a_credential_or_in_open_mode() {
    let world = World::new(None);
    let refused = world.api.create_identity(Request::new(identity_in(""))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let refused = world.api.create_identity(from(&Principal::open(), identity_in(""))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(refused.message().contains("salon admin bootstrap"), "{}", refused.message());
    let refused = world.api.list_namespaces(from(&Principal::open(), Default::default())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn a_foreign_namespace_reads_as_one_that_is_not_there() {
    let world = World::new(None);
    let [acme, _] = world.tenants().await;
    for namespace in ["other", "nowhere"] {
        let refused = world.api.create_identity(from(&acme, identity_in(namespace))).await.unwrap_err();
        let expected = format!("there is no namespace {namespace:?}");
        assert_eq!((refused.code(), refused.message()), (tonic::Code::NotFound, expected.as_str()));
    }
    // The server's own caller is told the same of one that is not there.
    let refused = world.api.create_identity(from(&server(), identity_in("nowhere"))).await.unwrap_err();
    assert_eq!(refused.message(), "there is no namespace \"nowhere\"");
    let made = world.api.create_identity(from(&acme, identity_in(""))).await.unwrap().into_inner();
    let id = made.identity.unwrap().identity_id;
    let asked =
        |namespace: &str| pb::GetIdentityRequest { namespace: namespace.into(), identity_id: id.clone() };
    assert!(world.api.get_identity(from(&acme, asked("acme"))).await.is_ok());
    let refused = world.api.get_identity(from(&server(), asked("other"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_scope_allows_what_it_names_and_an_owner_not_what_is_the_servers() {
    let world = World::new(None);
    let [owner, _] = world.tenants().await;
    for scope in Scope::ALL {
        let caller = with_scope("acme", scope);
        let made = world.api.create_identity(from(&caller, identity_in(""))).await;
        assert_eq!(made.is_ok(), matches!(scope, Scope::Admin | Scope::Identities), "{scope}");
        let keys = world.api.list_api_keys(from(&caller, Default::default())).await;
        assert_eq!(keys.is_ok(), scope == Scope::Admin, "{scope}");
        let user = pb::RevokeUserRequest { user_id: "ann".into(), ..Default::default() };
        let revoked = world.api.revoke_user(from(&caller, user)).await;
        assert_eq!(revoked.is_ok(), matches!(scope, Scope::Admin | Scope::Tokens), "{scope}");
        for refused in [made.err(), keys.err(), revoked.err()].into_iter().flatten() {
            assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{scope}");
        }
    }
    let name = pb::UpdateNamespaceRequest { display_name: Some("Acme".into()), ..Default::default() };
    assert!(world.api.update_namespace(from(&owner, name)).await.is_ok());
    let quotas = Some(pb::Quotas { rooms: Some(1_000_000), ..Default::default() });
    let more = pb::UpdateNamespaceRequest { quotas, ..Default::default() };
    let refused = world.api.update_namespace(from(&owner, more.clone())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let named = pb::UpdateNamespaceRequest { namespace: "acme".into(), ..more };
    let set = world.api.update_namespace(from(&server(), named)).await.unwrap().into_inner();
    let set = set.namespace.unwrap();
    assert_eq!((set.display_name.as_str(), set.quotas.unwrap().rooms), ("Acme", Some(1_000_000)));
    for refused in [
        world.api.list_namespaces(from(&owner, Default::default())).await.err(),
        world.api.create_namespace(from(&owner, Default::default())).await.err(),
        world.api.unarchive_namespace(from(&owner, Default::default())).await.err(),
    ] {
        assert_eq!(refused.unwrap().code(), tonic::Code::PermissionDenied);
    }
}

#[tokio::test]
async fn a_key_may_do_no_more_than_its_maker_and_works_until_it_is_revoked() {
    let world = World::new(None);
    let [owner, _] = world.tenants().await;
    let key = |server, scopes: &[&str]| pb::CreateApiKeyRequest {
        server,
        label: "ci".into(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..Default::default()
    };
    let refused = world.api.create_api_key(from(&owner, key(true, &["tokens"]))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let refused = world.api.create_api_key(from(&owner, key(false, &["root"]))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let made = world.api.create_api_key(from(&owner, key(false, &["tokens"]))).await.unwrap().into_inner();
    let id = made.key.unwrap().key_id;
    let caller = world.directory.find(&made.secret).await.unwrap().principal(START);
    assert!(world.api.create_api_key(from(&caller, key(false, &["tokens"]))).await.is_err());
    let asked = pb::RevokeApiKeyRequest { key_id: id, ..Default::default() };
    let revoked = world.api.revoke_api_key(from(&owner, asked)).await.unwrap().into_inner();
    assert!(revoked.key.unwrap().revoked_at.is_some());
    assert!(world.directory.find(&made.secret).await.is_err());
    assert!(world.directory.revocations().is_revoked(&caller));
}

#[tokio::test]
async fn tokens_are_made_by_whoever_has_a_key_to_sign() {
    let without = World::new(None);
    let [owner, _] = without.tenants().await;
    let grants = Some(pb::TokenGrants { write: Some(false), ..Default::default() });
    let asked = pb::CreateJoinTokenRequest {
        user_id: "ann".into(),
        room_id: "tea".into(),
        grants,
        ..Default::default()
    };
    let refused = without.api.create_join_token(from(&owner, asked.clone())).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::Unimplemented, "no signing key is configured")
    );
    let world = World::new(Some(Arc::new(Mint)));
    let [owner, _] = world.tenants().await;
    let made = world.api.create_join_token(from(&owner, asked)).await.unwrap().into_inner();
    assert_eq!((made.token.as_str(), made.token_id.as_str()), ("ann acme/tea false", "t1"));
    assert_eq!(made.expires_at, time(START.plus(Duration::from_secs(600))));
    let asked = pb::RevokeTokenRequest { token_id: "t1".into(), ..Default::default() };
    world.api.revoke_token(from(&owner, asked)).await.unwrap();
    let token = Credential::Token { issuer: "salon".into(), id: Some("t1".into()) };
    let holder = Principal { credential: token, ..owner };
    assert!(world.directory.revocations().is_revoked(&holder));
}

#[tokio::test]
async fn every_call_is_remembered_without_its_secrets() {
    let world = World::new(None);
    let [owner, _] = world.tenants().await;
    world.facts();
    let made = world.api.create_identity(from(&owner, identity_in(""))).await.unwrap().into_inner();
    let id = made.identity.unwrap().identity_id;
    world.api.create_identity(from(&owner, identity_in("other"))).await.unwrap_err();
    let facts = world.facts();
    let shown: Vec<_> = facts
        .iter()
        .map(|fact| {
            let namespace = fact.namespace.as_ref().map(Namespace::as_str);
            (namespace, fact.action, fact.target.as_str(), fact.refused)
        })
        .collect();
    let expected = [
        (Some("acme"), "identity.create", id.as_str(), None),
        (Some("acme"), "identity.create", "", Some(Code::NotFound)),
    ];
    assert_eq!(shown, expected);
    assert!(facts.iter().all(|fact| fact.by == owner.credential && fact.at == START));
    assert!(!format!("{facts:?}").contains(&made.secret));
}

#[tokio::test]
async fn lists_come_in_pages_whose_cursors_are_their_own() {
    let world = World::new(None);
    let [owner, other] = world.tenants().await;
    for _ in 0..5 {
        world.api.create_identity(from(&owner, identity_in(""))).await.unwrap();
    }
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let asked = pb::ListIdentitiesRequest { limit: 2, cursor, ..Default::default() };
        let page = world.api.list_identities(from(&owner, asked)).await.unwrap().into_inner();
        ids.extend(page.identities.into_iter().map(|identity| identity.identity_id));
        cursor = page.next_cursor;
        let Some(foreign) = cursor.clone() else { break };
        let asked = pb::ListIdentitiesRequest { cursor: Some(foreign), ..Default::default() };
        let refused = world.api.list_identities(from(&other, asked)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((ids.len(), &ids), (5, &sorted));
}

#[tokio::test]
async fn who_calls_too_often_is_refused_before_anything_is_done() {
    let two = Rate::in_each(std::num::NonZeroU32::new(2).unwrap(), Duration::from_secs(3600));
    let credential = Paces::new([(What::Admin, Some(two))]);
    let world = World::with_rates(None, RateTable { credential, ..RateTable::default() });
    // The two that make the namespaces are the server's.
    let [acme, _] = world.tenants().await;
    let refused = world.api.list_namespaces(from(&server(), Default::default())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    for part in ["too many administrative calls", "limits.rates.credential.admin: at most 2 an hour"] {
        assert!(refused.message().contains(part), "{refused:?}");
    }
    world.api.create_identity(from(&acme, identity_in(""))).await.unwrap();
    world.api.create_identity(from(&acme, identity_in("other"))).await.unwrap_err();
    let refused = world.api.create_identity(from(&acme, identity_in(""))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "what was refused has counted");
    let listed = world.directory.list_identities(&acme.namespace, None, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
}

fn kick(namespace: &str, subject: &str) -> audit::Fact {
    let origin = Origin { credential: "key 0123".into(), peer: Some([192, 0, 2, 1].into()) };
    let fact = audit::Fact::new(Namespace::parse(namespace).unwrap(), Act::Kick).from(origin);
    fact.by(UserId::parse("ann").unwrap()).to(subject)
}

#[tokio::test]
async fn the_audit_of_a_namespace_is_read_in_pages_by_whoever_may() {
    let world = World::new(None);
    world.tenants().await;
    for n in 0..5 {
        world.entries.record(kick("acme", &format!("user {n}")));
        world.clock.advance(Duration::from_secs(1));
    }
    world.entries.record(kick("other", "eve"));
    world.written().await;
    let reader = with_scope("acme", Scope::Audit);
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let asked = pb::ReadAuditRequest { limit: 2, cursor, ..Default::default() };
        let page = world.api.read_audit(from(&reader, asked)).await.unwrap().into_inner();
        assert!(page.entries.len() <= 2);
        all.extend(page.entries);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
        let foreign = pb::ReadAuditRequest { cursor: cursor.clone(), ..Default::default() };
        let refused = world.api.read_audit(from(&with_scope("other", Scope::Audit), foreign)).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::InvalidArgument);
        let since = time(START);
        let both = pb::ReadAuditRequest { cursor: cursor.clone(), since, ..Default::default() };
        let refused = world.api.read_audit(from(&reader, both)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
    let subjects: Vec<&str> = all.iter().map(|entry| entry.subject.as_str()).collect();
    assert_eq!(subjects, ["user 0", "user 1", "user 2", "user 3", "user 4"]);
    let first = &all[0];
    assert_eq!((first.act.as_str(), first.outcome.as_str(), first.actor.as_str()), ("kick", "done", "ann"));
    assert_eq!((first.at, first.count), (time(START), 1));
    assert_eq!(
        (first.origins[0].credential.as_str(), first.origins[0].peer.as_str()),
        ("key 0123", "192.0.2.1")
    );
    let later = pb::ReadAuditRequest {
        namespace: "acme".into(),
        since: time(START.plus(Duration::from_secs(3))),
        ..Default::default()
    };
    let page = world.api.read_audit(from(&server(), later.clone())).await.unwrap().into_inner();
    assert_eq!(page.entries, all[3..]);
    for (who, code) in [
        (with_scope("acme", Scope::Tokens), tonic::Code::PermissionDenied),
        (with_scope("other", Scope::Audit), tonic::Code::NotFound),
    ] {
        assert_eq!(world.api.read_audit(from(&who, later.clone())).await.unwrap_err().code(), code);
    }
    let nowhere = pb::ReadAuditRequest { namespace: "nowhere".into(), ..Default::default() };
    let refused = world.api.read_audit(from(&server(), nowhere)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    let facts = world.facts();
    let read = facts.iter().filter(|fact| fact.action == "audit.read" && fact.refused.is_some());
    assert!(read.count() > 0, "who may not is remembered");
}
