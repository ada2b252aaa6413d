//! Who is let in, who is not any more, and how soon other nodes know.

use super::*;
use crate::{auth::scope::Scope, clock::ManualClock, store::memory::MemoryStore};

const START: Timestamp = Timestamp(1_700_000_000_000);

struct World {
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    directory: Directory,
}

impl World {
    fn new() -> Self {
        Self::with(DirectorySettings::default())
    }

    fn with(settings: DirectorySettings) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
        let clock = Arc::new(ManualClock::new(START));
        let directory = Directory::new(Arc::clone(&store), Arc::clone(&clock) as Arc<dyn Clock>, settings);
        Self { store, clock, directory }
    }

    fn another_node(&self) -> Directory {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Directory::new(Arc::clone(&self.store), clock, DirectorySettings::default())
    }

    async fn acme(&self) -> (Namespace, Secret) {
        let name = Namespace::parse("acme").unwrap();
        let new =
            NewNamespace { name: name.clone(), display_name: "Acme".into(), quotas: Default::default() };
        (name, self.directory.create_namespace(new).await.unwrap().1)
    }

    async fn ann(&self, namespace: &Namespace) -> (String, Secret) {
        let user = Some(UserId::parse("ann").unwrap());
        let new = NewIdentity { user, name: Some("Ann".into()), ..NewIdentity::default() };
        let (id, _, secret) = self.directory.create_identity(namespace, new).await.unwrap();
        (id, secret)
    }
}

fn key_for(scope: Scope) -> NewKey {
    NewKey { label: "ci".into(), scopes: [scope].into_iter().collect(), expires_at: None }
}

async fn refusal(directory: &Directory, secret: &Secret) -> &'static str {
    match directory.find(secret.expose()).await {
        Ok(_) => "found",
        Err(Refused::Unknown) => "unknown",
        Err(Refused::Expired) => "expired",
        Err(Refused::Revoked) => "revoked",
        Err(Refused::Archived) => "archived",
        Err(Refused::Unavailable(_)) => "unavailable",
    }
}

#[tokio::test]
async fn a_secret_is_found_by_itself_and_says_who_it_is() {
    let world = World::new();
    let (acme, owner) = world.acme().await;
    let (id, secret) = world.ann(&acme).await;
    let found = world.directory.find(secret.expose()).await.unwrap();
    assert_eq!((&found.id, found.id.as_str()), (&id, secret.hash().id().as_str()));
    let principal = found.principal(START);
    assert_eq!((&principal.namespace, principal.name.as_deref()), (&acme, Some("Ann")));
    assert_eq!(principal.user.unwrap().as_str(), "ann");
    assert_eq!((principal.powers, principal.credential), (Powers::NONE, Credential::Identity(id)));

    let owner = world.directory.find(owner.expose()).await.unwrap().principal(START);
    assert_eq!(
        (owner.namespace.clone(), owner.grants, owner.powers),
        (acme.clone(), Grants::NONE, Powers::owner())
    );

    let (_, _, key) = world.directory.create_key(Some(&acme), key_for(Scope::RoomsRead)).await.unwrap();
    let key = world.directory.find(key.expose()).await.unwrap().principal(START);
    assert!(key.grants.join && !key.grants.write && !key.powers.everywhere && key.user.is_none());
    let (_, _, key) = world.directory.create_key(None, key_for(Scope::Admin)).await.unwrap();
    assert!(world.directory.find(key.expose()).await.unwrap().principal(START).powers.everywhere);
}

#[tokio::test]
async fn what_is_nobodys_is_unknown_also_when_half_of_it_fits() {
    let world = World::new();
    let (acme, _) = world.acme().await;
    let (id, secret) = world.ann(&acme).await;
    for wrong in ["", "secret", &id, &"0".repeat(64), &format!("{} ", secret.expose())] {
        assert!(matches!(world.directory.find(wrong).await, Err(Refused::Unknown)), "{wrong}");
    }
    // A pointer with the right public id and another hash: as if 64 bits had been forged.
    let folder = records::secrets();
    let (mut pointer, _) = world.directory.0.shelf.get::<Pointer>(&folder, &id).await.unwrap().unwrap();
    let mut digits = pointer.hash.into_bytes();
    digits[63] = if digits[63] == b'0' { b'1' } else { b'0' };
    pointer.hash = String::from_utf8(digits).unwrap();
    let anything = store::documents::Expect::Anything;
    assert!(world.directory.0.shelf.put(&folder, &id, anything, &pointer).await.unwrap());
    assert_eq!(refusal(&world.directory, &secret).await, "unknown");
}

#[tokio::test]
async fn no_document_holds_a_secret() {
    let world = World::new();
    let (acme, owner) = world.acme().await;
    let (_, secret) = world.ann(&acme).await;
    let (_, _, key) = world.directory.create_key(Some(&acme), key_for(Scope::Tokens)).await.unwrap();
    let folders =
        [records::secrets(), records::namespaces(), records::identities(&acme), records::keys(Some(&acme))];
    for folder in folders {
        let documents = world.store.documents(&folder, None, 100).await.unwrap();
        assert!(!documents.is_empty(), "{folder}");
        for document in documents {
            let text = String::from_utf8(document.body.to_vec()).unwrap();
            for secret in [&owner, &secret, &key] {
                assert!(!text.contains(secret.expose()) && !document.name.contains(secret.expose()));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_overlaps_and_then_is_over() {
    let world = World::new();
    let (acme, _) = world.acme().await;
    let (id, first) = world.ann(&acme).await;
    let minute = Duration::from_secs(60);
    let (_, second) = world.directory.rotate_identity_secret(&acme, &id, minute).await.unwrap();
    let old = world.directory.find(first.expose()).await.unwrap();
    assert_eq!(old.expires_at, Some(START.plus(minute)));
    assert_eq!(world.directory.find(second.expose()).await.unwrap().expires_at, None);
    world.clock.advance(minute);
    assert_eq!(refusal(&world.directory, &first).await, "expired");
    let open = old.principal(START);
    assert!(world.directory.revocations().is_revoked(&open), "also for a stream that was open");
    let (record, third) = world.directory.rotate_identity_secret(&acme, &id, Duration::ZERO).await.unwrap();
    assert_eq!((record.secrets.len(), refusal(&world.directory, &second).await), (1, "unknown"));
    assert_eq!(refusal(&world.directory, &third).await, "found");
    let too_long = Duration::from_secs(365 * 24 * 3600);
    let refused = world.directory.rotate_identity_secret(&acme, &id, too_long).await.unwrap_err();
    assert_eq!(refused.field, Some("overlap"));
}

#[tokio::test]
async fn rotation_faster_than_the_overlap_keeps_few_secrets() {
    let world = World::new();
    let (acme, owner) = world.acme().await;
    let hour = Duration::from_secs(3600);
    let mut newest = owner.clone();
    for _ in 0..SECRETS {
        newest = world.directory.rotate_namespace_secret(&acme, hour).await.unwrap().1;
    }
    let record = world.directory.get_namespace(&acme).await.unwrap();
    assert_eq!(record.secrets.len(), SECRETS);
    assert_eq!(refusal(&world.directory, &owner).await, "unknown");
    assert_eq!(refusal(&world.directory, &newest).await, "found");
}

#[tokio::test]
async fn what_is_revoked_or_archived_or_expired_is_refused_here_at_once() {
    let world = World::new();
    let (acme, owner) = world.acme().await;
    let (id, secret) = world.ann(&acme).await;
    let open = world.directory.find(secret.expose()).await.unwrap().principal(START);
    world.directory.revoke_identity(&acme, &id).await.unwrap();
    assert_eq!(refusal(&world.directory, &secret).await, "revoked");
    assert!(world.directory.revocations().is_revoked(&open));
    let refused = world.directory.rotate_identity_secret(&acme, &id, Duration::ZERO).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);

    let expires_at = Some(START.plus(Duration::from_secs(5)));
    let new = NewKey { expires_at, ..key_for(Scope::Tokens) };
    let (key_id, _, key) = world.directory.create_key(Some(&acme), new).await.unwrap();
    assert_eq!(world.directory.find(key.expose()).await.unwrap().expires_at, expires_at);
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(refusal(&world.directory, &key).await, "expired");
    world.directory.revoke_key(Some(&acme), &key_id).await.unwrap();
    assert_eq!(refusal(&world.directory, &key).await, "revoked");

    world.directory.archive_namespace(&acme, true).await.unwrap();
    assert_eq!(refusal(&world.directory, &owner).await, "archived");
    let refused = world.directory.create_identity(&acme, NewIdentity::default()).await.unwrap_err();
    assert!(refused.message.contains("archived"), "{refused}");
    world.directory.archive_namespace(&acme, false).await.unwrap();
    assert_eq!(refusal(&world.directory, &owner).await, "found");
    assert!(world.directory.archive_namespace(&Namespace::default(), true).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn every_node_knows_within_a_second() {
    let world = World::new();
    let (acme, owner) = world.acme().await;
    let (id, secret) = world.ann(&acme).await;
    let other = world.another_node();
    assert_eq!(refusal(&other, &secret).await, "found");
    world.directory.revoke_identity(&acme, &id).await.unwrap();
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(refusal(&other, &secret).await, "revoked");
    assert_eq!(refusal(&other, &owner).await, "found");
    world.directory.archive_namespace(&acme, true).await.unwrap();
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(refusal(&other, &owner).await, "archived");
}

#[tokio::test(start_paused = true)]
async fn what_was_found_is_not_read_again_at_once() {
    let world = World::new();
    let (acme, _) = world.acme().await;
    let (_, secret) = world.ann(&acme).await;
    assert_eq!(refusal(&world.directory, &secret).await, "found");
    world.store.close().await.unwrap();
    assert_eq!(refusal(&world.directory, &secret).await, "found");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(refusal(&world.directory, &secret).await, "unavailable");
}

#[tokio::test]
async fn there_is_room_for_so_many_and_old_ones_make_room() {
    let world = World::with(DirectorySettings { keys: 2, namespaces: 1, ..DirectorySettings::default() });
    let (acme, _) = world.acme().await;
    let other = Namespace::parse("other").unwrap();
    let new = NewNamespace { name: other, display_name: String::new(), quotas: Default::default() };
    let refused = world.directory.create_namespace(new).await.unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    let create = || world.directory.create_key(Some(&acme), key_for(Scope::Tokens));
    let (first, _, _) = create().await.unwrap();
    create().await.unwrap();
    assert_eq!(create().await.unwrap_err().code, Code::ResourceExhausted);
    world.directory.revoke_key(Some(&acme), &first).await.unwrap();
    assert_eq!(create().await.unwrap_err().code, Code::ResourceExhausted, "it is still listed");
    world.clock.advance(Duration::from_secs(31 * 24 * 3600));
    create().await.unwrap();
    let listed = world.directory.list_keys(Some(&acme), None, 10).await.unwrap();
    assert!(listed.len() == 2 && listed.iter().all(|(id, _)| *id != first));
}

#[tokio::test]
async fn namespaces_are_listed_with_the_default_one_in_its_place() {
    let world = World::new();
    for name in ["beta", "zeta", "acme"] {
        let name = Namespace::parse(name).unwrap();
        let new = NewNamespace { name, display_name: String::new(), quotas: Default::default() };
        world.directory.create_namespace(new.clone()).await.unwrap();
        assert_eq!(world.directory.create_namespace(new).await.unwrap_err().code, Code::AlreadyExists);
    }
    for limit in [1, 2, 3, 10] {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = world.directory.list_namespaces(after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            names.extend(page.into_iter().map(|(name, _)| name.to_string()));
        }
        assert_eq!(names, ["acme", "beta", "default", "zeta"], "{limit}");
    }
}

#[tokio::test]
async fn an_identity_is_changed_and_its_metadata_is_bounded() {
    let world = World::new();
    let (acme, _) = world.acme().await;
    let (id, _) = world.ann(&acme).await;
    let metadata: std::collections::BTreeMap<String, String> = [("team".into(), "red".into())].into();
    let change = IdentityChange { name: Some(String::new()), metadata: Some(metadata.clone()) };
    let record = world.directory.change_identity(&acme, &id, change).await.unwrap();
    assert_eq!((record.name, record.metadata), (None, metadata));
    let many = (0..33).map(|n| (n.to_string(), String::new())).collect();
    let change = IdentityChange { metadata: Some(many), ..IdentityChange::default() };
    let refused = world.directory.change_identity(&acme, &id, change).await.unwrap_err();
    assert!(refused.message.contains("32"), "{refused}");
    let elsewhere = Namespace::default();
    for id in [id.as_str(), "0000000000000000", "../secrets", ""] {
        assert_eq!(world.directory.get_identity(&elsewhere, id).await.unwrap_err().code, Code::NotFound);
    }
}

#[tokio::test]
async fn concurrent_changes_are_all_there() {
    let world = World::new();
    let (acme, _) = world.acme().await;
    let made = futures_util::future::join_all((0..8).map(|_| world.ann(&acme))).await;
    assert_eq!(world.directory.list_identities(&acme, None, 100).await.unwrap().len(), made.len());
    for (_, secret) in &made {
        assert_eq!(refusal(&world.directory, secret).await, "found");
    }
}

#[tokio::test]
async fn the_gate_takes_secrets_and_hears_of_their_end() {
    use crate::auth::gate::{self, Gate, Shown, Sources};
    let world = World::new();
    let (acme, owner) = world.acme().await;
    let (id, secret) = world.ann(&acme).await;
    let sources = Sources {
        secrets: Some(Arc::new(world.directory.clone())),
        revoked: Some(Arc::new(world.directory.revocations().clone())),
        ..Sources::default()
    };
    let gate = Gate::required(Arc::clone(&world.clock) as Arc<dyn Clock>, sources);
    let shown = |secret: &Secret| Shown { bearer: Some(secret.expose().into()), ..Shown::default() };
    let ann = gate.admit(shown(&secret), gate::Effort::Full).await.unwrap();
    let ended = gate.until_revoked(&ann).unwrap();
    let (revoked, ()) = tokio::join!(world.directory.revoke_identity(&acme, &id), ended);
    revoked.unwrap();
    assert_eq!(gate.admit(shown(&secret), gate::Effort::Full).await.unwrap_err(), gate::Refused::Revoked);
    let unknown = gate.admit(shown(&Secret::random().unwrap()), gate::Effort::Full).await.unwrap_err();
    assert_eq!(unknown, gate::Refused::Invalid("it is not known"));
    assert_eq!(world.directory.admits(&acme).await, Ok(()));
    world.directory.archive_namespace(&acme, true).await.unwrap();
    assert_eq!(
        gate.admit(shown(&owner), gate::Effort::Full).await,
        Err(gate::Refused::Invalid("its namespace is archived"))
    );
    assert!(world.directory.admits(&acme).await.is_err());
    assert!(world.directory.admits(&Namespace::parse("nowhere").unwrap()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_revoked_is_let_in_nowhere_and_its_streams_end() {
    use crate::auth::gate::{self, Certificate, Gate, Shown, Sources};
    let world = World::new();
    let (acme, _) = world.acme().await;
    let (here, there) = (world.directory.clone(), world.another_node());
    let gate_of = |directory: &Directory| {
        let sources = Sources {
            certificates: Some(acme.clone()),
            namespaces: Some(directory.clone()),
            revoked: Some(Arc::new(directory.revocations().clone())),
            ..Sources::default()
        };
        Gate::required(Arc::clone(&world.clock) as Arc<dyn Clock>, sources)
    };
    let shown = |digits: &str| {
        let (subject, not_after) = ("ann".to_owned(), START.plus(Duration::from_secs(1 << 30)));
        let certificate = Some(Certificate { subject, fingerprint: digits.repeat(32), not_after });
        Shown { certificate, ..Shown::default() }
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(there.revocations().clone().run(stop.clone()));
    let gate = gate_of(&there);
    let ann = gate.admit(shown("5a"), gate::Effort::Full).await.unwrap();
    let began = tokio::time::Instant::now();
    let ended = gate.until_revoked(&ann).unwrap();
    // As `openssl x509 -fingerprint -sha256` prints it.
    here.revoke_certificate(&acme, &["5A"; 32].join(":")).await.unwrap();
    let refused = gate_of(&here).admit(shown("5a"), gate::Effort::Full).await.unwrap_err();
    assert_eq!(refused, gate::Refused::Revoked, "at once where it was said");
    ended.await;
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(gate.admit(shown("5a"), gate::Effort::Full).await.unwrap_err(), gate::Refused::Revoked);
    gate.admit(shown("5b"), gate::Effort::Full).await.unwrap();
    // A certificate may be valid for years: no server forgets it.
    world.clock.advance(Duration::from_secs(5 * 365 * 24 * 3600));
    let refused = gate_of(&world.another_node()).admit(shown("5a"), gate::Effort::Full).await.unwrap_err();
    assert_eq!(refused, gate::Refused::Revoked);
    // Again is no harm.
    here.revoke_certificate(&acme, &"5a".repeat(32)).await.unwrap();
    // What cannot be written down ends the streams that are here, and has to be said again.
    let ann = gate_of(&here).admit(shown("5b"), gate::Effort::Full).await.unwrap();
    world.store.close().await.unwrap();
    let refused = here.revoke_certificate(&acme, &"5b".repeat(32)).await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable);
    gate_of(&here).until_revoked(&ann).unwrap().await;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
}

#[tokio::test]
async fn certificates_are_revoked_in_the_namespace_they_speak_for() {
    let acme = Namespace::parse("acme").unwrap();
    let world = World::with(DirectorySettings { certificates: Some(acme), ..DirectorySettings::default() });
    let (acme, _) = world.acme().await;
    let fingerprint = "5a".repeat(32);
    world.directory.revoke_certificate(&acme, &fingerprint).await.unwrap();
    let refused = world.directory.revoke_certificate(&Namespace::default(), &fingerprint).await.unwrap_err();
    assert_eq!((refused.field, refused.message.contains("acme")), (Some("namespace"), true));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_guesses_keeps_nobody_out_who_is_known() {
    use crate::auth::gate;
    let world = World::new();
    let (acme, _) = world.acme().await;
    let (_, secret) = world.ann(&acme).await;
    let sources =
        gate::Sources { secrets: Some(Arc::new(world.directory.clone())), ..gate::Sources::default() };
    let gate = gate::Gate::required(Arc::clone(&world.clock) as Arc<dyn Clock>, sources);
    let shown = |secret: &Secret| gate::Shown {
        identity: Some(secret.expose().to_owned().into()),
        ..gate::Shown::default()
    };
    let known = gate::Effort::Known;
    let unknown = Err(gate::Refused::Invalid("it is not known"));
    assert_eq!(gate.admit(shown(&secret), known).await, unknown, "it would have to be looked up");
    gate.admit(shown(&secret), gate::Effort::Full).await.unwrap();
    // Long after what was read is not believed any more, and whatever others write meanwhile.
    tokio::time::advance(Duration::from_secs(3600)).await;
    let (bob, _) = world.ann(&acme).await;
    world.directory.revoke_identity(&acme, &bob).await.unwrap();
    assert!(gate.admit(shown(&secret), known).await.is_ok());
    assert_eq!(gate.admit(shown(&Secret::random().unwrap()), known).await, unknown);
}

#[tokio::test]
async fn a_full_folder_is_counted_once_a_minute_however_often_somebody_asks() {
    let world = World::with(DirectorySettings { identities: 2, ..DirectorySettings::default() });
    let (acme, _) = world.acme().await;
    let (ann, _) = world.ann(&acme).await;
    world.ann(&acme).await;
    let create = || world.directory.create_identity(&acme, NewIdentity::default());
    let full = create().await.unwrap_err();
    assert_eq!(full.code, Code::ResourceExhausted);
    assert!(full.message.contains("2 identities"), "{}", full.message);
    // There is a place again, which only counting finds.
    let folder = records::identities(&acme);
    world
        .store
        .put_document(&folder, &ann, store::documents::Expect::Anything, bytes::Bytes::new())
        .await
        .unwrap();
    assert!(create().await.is_err(), "it was counted just now");
    world.directory.create_key(Some(&acme), key_for(Scope::RoomsRead)).await.unwrap();
    world.clock.advance(Duration::from_secs(61));
    create().await.unwrap();
    assert!(create().await.is_err());
}
