//! Every kind of secret is replaced while calls are made with it: none of them is refused.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use salon::auth::jwt::sign::Signer;
use tokio::{sync::RwLock, task::JoinSet};
use tonic::{Code, transport::Channel};

use super::*;
use crate::harness::{
    Setup,
    tenants::{code_of, signing},
    until,
};

/// How often each secret is replaced.
const TIMES: usize = 10;
/// How long an old secret is worth something: longer than a test runs.
const OVERLAP: u64 = 60_000;

/// Calls that are made one behind the other on several connections, each with the newest secret.
struct Load {
    /// Held for as long as a call is under way.
    shown: Arc<RwLock<Shown>>,
    calls: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// `call` makes one call and tells how it was answered.
    async fn start<F>(world: &World, shown: &Shown, call: fn(Channel, Shown) -> F) -> Self
    where
        F: Future<Output = Code> + Send + 'static,
    {
        let mut load = Self {
            shown: Arc::new(RwLock::new(shown.clone())),
            calls: Arc::default(),
            stop: Arc::default(),
            tasks: JoinSet::new(),
        };
        for _ in 0..4 {
            let channel = world.server.channel().await;
            let (shown, calls, stop) =
                (Arc::clone(&load.shown), Arc::clone(&load.calls), Arc::clone(&load.stop));
            load.tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let now = shown.read().await;
                    assert_eq!(call(channel.clone(), now.clone()).await, Code::Ok, "a good call was refused");
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        load.more().await;
        load
    }

    /// From now on this is shown, and what was shown before is under way no more.
    async fn show(&self, shown: Shown) {
        *self.shown.write().await = shown;
        self.more().await;
    }

    /// Waits until so many calls more were made.
    async fn more(&self) {
        let enough = self.calls.load(Ordering::SeqCst) + 40;
        until("calls are made", || self.calls.load(Ordering::SeqCst) >= enough || self.has_failed()).await;
    }

    fn has_failed(&self) -> bool {
        self.tasks.len() < 4
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

async fn get_room(channel: Channel, shown: Shown) -> Code {
    let mut client = pb::room_service_client::RoomServiceClient::new(channel);
    code_of(&client.get_room(shown.on(pb::GetRoomRequest { room_id: "tea".into() })).await)
}

async fn list_identities(channel: Channel, shown: Shown) -> Code {
    let mut client = pb::admin_service_client::AdminServiceClient::new(channel);
    code_of(&client.list_identities(shown.on(pb::ListIdentitiesRequest::default())).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_of_an_identity_is_rotated_under_load() {
    let world = World::new().await;
    drop(world.room("tea").await);
    let mut claims = world.tenants.claims("acme", "rob");
    claims.grants.role = Some(Role::Member);
    drop(world.server.join_as(&world.tenants.sign(&claims).1, "tea", "rob").await);
    let (identity_id, first) = world.tenants.identity("acme", "rob").await;
    let load = Load::start(&world, &first, get_room).await;
    let mut admin = world.server.admin().await;
    for _ in 0..TIMES {
        let (namespace, identity_id) = ("acme".into(), identity_id.clone());
        let request = pb::RotateIdentitySecretRequest { namespace, identity_id, overlap_ms: OVERLAP };
        let made = admin.rotate_identity_secret(world.owner.on(request)).await.unwrap().into_inner();
        load.show(Shown::Identity(made.secret)).await;
    }
    load.end().await;
    let refused = get_room(world.server.channel().await, first).await;
    assert_eq!(refused, Code::Unauthenticated, "a holder has only so many secrets");
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_of_an_owner_is_rotated_under_load() {
    let world = World::new().await;
    let load = Load::start(&world, &world.owner, list_identities).await;
    let mut admin = world.server.admin().await;
    let mut owner = world.owner.clone();
    for _ in 0..TIMES {
        // Each secret makes the next one.
        let request = pb::RotateNamespaceSecretRequest { namespace: "acme".into(), overlap_ms: OVERLAP };
        let made = admin.rotate_namespace_secret(owner.on(request)).await.unwrap().into_inner();
        owner = Shown::Bearer(made.secret);
        load.show(owner.clone()).await;
    }
    load.end().await;
    let refused = list_identities(world.server.channel().await, world.owner.clone()).await;
    assert_eq!(refused, Code::Unauthenticated);
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_is_replaced_under_load() {
    let world = World::new().await;
    drop(world.room("tea").await);
    let mut admin = world.server.admin().await;
    let make = || {
        let scopes = vec!["rooms.read".to_owned()];
        world.owner.on(pb::CreateApiKeyRequest { label: "web".into(), scopes, ..Default::default() })
    };
    let made = admin.create_api_key(make()).await.unwrap().into_inner();
    let (first, mut id) = (Shown::Bearer(made.secret), made.key.unwrap().key_id);
    let load = Load::start(&world, &first, get_room).await;
    for _ in 0..TIMES {
        let made = admin.create_api_key(make()).await.unwrap().into_inner();
        load.show(Shown::Bearer(made.secret)).await;
        let key_id = std::mem::replace(&mut id, made.key.unwrap().key_id);
        let request = pb::RevokeApiKeyRequest { key_id, ..Default::default() };
        admin.revoke_api_key(world.owner.on(request)).await.unwrap();
        load.more().await;
    }
    load.end().await;
    assert_eq!(get_room(world.server.channel().await, first).await, Code::Unauthenticated);
    world.server.shutdown().await;
}

/// A server of these tenants with these keys, and what signs as it does.
async fn keyed(tenants: &Tenants, keys: &[&str]) -> (TestServer, Signer) {
    let setup: Setup = tenants.setup().config(|config| config.auth.tokens = signing(keys));
    (setup.start().await, signer(keys))
}

#[tokio::test]
async fn the_key_that_signs_join_tokens_is_replaced_server_by_server() {
    let (old, new) = ("the-old-key-of-at-least-thirty-two-bytes", "the-new-key-of-at-least-thirty-two-bytes");
    let tenants = Tenants::new().await;
    tenants.tenant("acme").await;
    let ann = tenants.identity("acme", "ann").await.1;
    // One after the other each server is replaced: with the new key behind, then before, then alone.
    let steps: [&[&str]; 4] = [&[old], &[old, new], &[new, old], &[new]];
    let (first, _) = keyed(&tenants, steps[0]).await;
    let request = pb::CreateRoomRequest {
        name: "Tea".into(),
        room_id: Some("tea".into()),
        created_by: "ann".into(),
        ..Default::default()
    };
    first.client().await.create_room(ann.on(request)).await.unwrap();
    first.shutdown().await;
    let mut good = 0;
    for pair in steps.windows(2) {
        let ((before, signs_before), (after, signs_after)) =
            (keyed(&tenants, pair[0]).await, keyed(&tenants, pair[1]).await);
        for server in [&before, &after] {
            for signs in [&signs_before, &signs_after] {
                let signed = signs.sign(&tenants.claims("acme", "ann"), tenants.clock.now()).unwrap();
                let code = get_room(server.channel().await, Shown::Bearer(signed.token)).await;
                assert_eq!(code, Code::Ok, "a token of one server at another, {pair:?}");
                good += 1;
            }
        }
        before.shutdown().await;
        after.shutdown().await;
    }
    assert_eq!(good, 12);
    // In the end the old key is worth nothing.
    let (last, _) = keyed(&tenants, steps[3]).await;
    let signed = signer(&[old]).sign(&tenants.claims("acme", "ann"), tenants.clock.now()).unwrap();
    let code = get_room(last.channel().await, Shown::Bearer(signed.token)).await;
    assert_eq!(code, Code::Unauthenticated);
    last.shutdown().await;
}
