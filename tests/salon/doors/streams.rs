//! The life of a stream with its credential: warned, renewed, ended; in time that the test moves.

use salon::{clock::Timestamp, ids::RoomId, wire::pb::room::v1::server_event::Payload};
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::*;
use crate::harness::{session::join, tenants::code_of};

/// Timers have a millisecond's grain, and what follows one takes a few more of them.
const GRAIN: Duration = Duration::from_millis(20);
/// How long after its time a token of ours is still believed, because clocks differ.
const LEEWAY: Duration = secs(30);
/// Longer than anything that is waited for here.
const PATIENCE: Duration = Duration::from_secs(3600);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// One server, and a public room of `acme` that ann has created.
struct Stage {
    tenants: Tenants,
    server: TestServer,
}

impl Stage {
    async fn new() -> Self {
        let tenants = Tenants::in_virtual_time().await;
        tenants.tenant("acme").await;
        let server = tenants.setup().start_without_port().await;
        let stage = Self { tenants, server };
        let ann = stage.tenants.identity("acme", "ann").await.1;
        create(&stage.server, &ann, "tea").await;
        stage
    }

    /// A token of a user for so many seconds; when it ends, and what is shown.
    fn token(&self, user: &str, lifetime: u64) -> (Timestamp, Shown) {
        let mut claims = self.tenants.claims("acme", user);
        claims.lifetime = secs(lifetime);
        let (signed, shown) = self.tenants.sign(&claims);
        (signed.expires_at.plus(LEEWAY), shown)
    }

    async fn join(&self, shown: &Shown, user: &str) -> Session {
        patient(self.server.join_as(shown, "tea", user).await)
    }

    #[track_caller]
    fn assert_now(&self, expected: Timestamp) {
        let late = self.tenants.clock.now().0 - expected.0;
        assert!((0..=20).contains(&late), "{late} ms late");
    }
}

fn patient(mut session: Session) -> Session {
    session.patience = PATIENCE;
    session
}

async fn create(server: &TestServer, shown: &Shown, room: &str) {
    let request =
        pb::CreateRoomRequest { name: "Tea".into(), room_id: Some(room.into()), ..Default::default() };
    server.client().await.create_room(shown.on(request)).await.unwrap();
}

/// Waits for the warning; what it says.
async fn warned(session: &mut Session) -> Timestamp {
    let expires_at = session
        .pick(|payload| match payload {
            Payload::CredentialExpiring(warning) => warning.expires_at,
            _ => None,
        })
        .await;
    Timestamp(expires_at.seconds * 1000 + i64::from(expires_at.nanos) / 1_000_000)
}

async fn assert_ended(session: &mut Session, reason: pb::ClosingReason) {
    let (closing, status) = session.end().await;
    assert_eq!(closing.unwrap().reason(), reason);
    assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
}

fn authenticate(shown: &Shown) -> Say {
    Say::Authenticate(pb::Authenticate { credential: shown.text() })
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_warned_a_minute_before_its_credential_ends_and_ends_with_it() {
    let stage = Stage::new().await;
    let (ends, shown) = stage.token("bob", 150);
    let mut bob = stage.join(&shown, "bob").await;
    assert_eq!(warned(&mut bob).await, ends);
    stage.assert_now(Timestamp(ends.0 - 60_000));
    assert_ended(&mut bob, pb::ClosingReason::CredentialExpired).await;
    stage.assert_now(ends);
    assert_eq!(stage.server.open_as(&shown).await.err().unwrap().code(), Code::Unauthenticated);
    stage.server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_credential_has_less_than_a_minute_is_warned_at_once() {
    let stage = Stage::new().await;
    let (ends, shown) = stage.token("bob", 10);
    let mut bob = stage.join(&shown, "bob").await;
    let joined = stage.tenants.clock.now();
    assert_eq!(warned(&mut bob).await, ends);
    stage.assert_now(joined);
    assert_ended(&mut bob, pb::ClosingReason::CredentialExpired).await;
    stage.assert_now(ends);
    stage.server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn another_credential_of_the_same_user_takes_the_place_of_the_old_one() {
    let stage = Stage::new().await;
    let mut bob = stage.join(&stage.token("bob", 100).1, "bob").await;
    warned(&mut bob).await;
    let (ends, second) = stage.token("bob", 200);
    bob.command(authenticate(&second)).await.unwrap();
    // The next warning is the new one's: the old end goes by.
    assert_eq!(warned(&mut bob).await, ends);
    stage.assert_now(Timestamp(ends.0 - 60_000));
    bob.talk("still here").await;
    // An identity has no end.
    let identity = stage.tenants.identity("acme", "bob").await.1;
    bob.command(authenticate(&identity)).await.unwrap();
    sleep(secs(1000)).await;
    bob.talk("still here").await;
    stage.server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_somebody_elses_changes_nothing() {
    let stage = Stage::new().await;
    stage.tenants.tenant("other").await;
    let (ends, shown) = stage.token("bob", 100);
    let mut bob = stage.join(&shown, "bob").await;
    let mut elsewhere = stage.tenants.claims("acme", "bob");
    elsewhere.room = Some(RoomId::parse("milk").unwrap().within(&namespace("acme")));
    let mut ungranted = stage.tenants.claims("acme", "bob");
    ungranted.grants = Grants::NONE;
    for (shown, code) in [
        (stage.token("eve", 500).1, "permission_denied"),
        (stage.tenants.identity("acme", "eve").await.1, "permission_denied"),
        (stage.tenants.identity("other", "bob").await.1, "permission_denied"),
        (stage.tenants.sign(&elsewhere).1, "permission_denied"),
        (stage.tenants.sign(&ungranted).1, "permission_denied"),
        (Shown::Bearer("0123456789abcdef".repeat(4)), "unauthenticated"),
        (Shown::Bearer("a.b.c".into()), "unauthenticated"),
    ] {
        assert_eq!(bob.answer(authenticate(&shown)).await, code, "{shown:?}");
    }
    bob.talk("still here").await;
    assert_eq!(warned(&mut bob).await, ends);
    stage.assert_now(Timestamp(ends.0 - 60_000));
    assert_ended(&mut bob, pb::ClosingReason::CredentialExpired).await;
    stage.assert_now(ends);
    stage.server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_joins_with_a_credential_that_has_ended_since_the_stream_was_opened() {
    let stage = Stage::new().await;
    let mut claims = stage.tenants.claims("acme", "bob");
    claims.lifetime = secs(4);
    let then = Timestamp(stage.tenants.clock.now().0 - 30_000);
    let mut bob = stage.server.open_as(&stage.tenants.sign_at(&claims, then).1).await.unwrap();
    let (revoked, shown) = stage.tenants.identity("acme", "eve").await;
    let mut eve = stage.server.open_as(&shown).await.unwrap();
    let before = stage.tenants.kept("acme", "tea").await.0;
    stage.tenants.directory.revoke_identity(&namespace("acme"), &revoked).await.unwrap();
    sleep(secs(5)).await;
    assert_eq!(bob.answer(Say::Join(join("tea", "bob"))).await, "unauthenticated");
    assert_eq!(eve.answer(Say::Join(join("tea", "eve"))).await, "unauthenticated");
    assert_eq!(stage.tenants.kept("acme", "tea").await.0, before, "nobody has become a member");
    stage.server.shutdown().await;
}

/// What can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Identity,
    Key,
    Token,
    User,
    Namespace,
}

/// Two servers on one store, and what is taken back on the first.
async fn assert_revoked(kind: Kind) {
    let tenants = Tenants::in_virtual_time().await;
    tenants.tenant("acme").await;
    let one = tenants.setup().start_without_port().await;
    let two = tenants.setup().start_without_port().await;
    let ann = tenants.identity("acme", "ann").await.1;
    create(&one, &ann, "tea").await;
    let mut claims = tenants.claims("acme", "bob");
    claims.lifetime = secs(3600);
    let ((signed, token), namespace) = (tenants.sign(&claims), "acme".to_owned());
    let (id, shown) = match kind {
        Kind::Identity => tenants.identity("acme", "bob").await,
        Kind::Key => tenants.key("acme", &[Scope::RoomsWrite], None).await,
        Kind::Token | Kind::User | Kind::Namespace => (signed.id, token),
    };
    let mut bystander = patient(two.join_as(&ann, "tea", "ann").await);
    let mut here = patient(one.join_as(&shown, "tea", "bob").await);
    let mut there = patient(two.join_as(&shown, "tea", "bob").await);
    sleep(secs(2)).await;
    here.talk("hello").await;
    there.talk("hello").await;

    let (mut admin, root, began) = (one.admin().await, &tenants.root, Instant::now());
    match kind {
        Kind::Identity => {
            let request = pb::RevokeIdentityRequest { namespace, identity_id: id };
            drop(admin.revoke_identity(root.on(request)).await.unwrap());
        }
        Kind::Key => {
            let request = pb::RevokeApiKeyRequest { namespace, server: false, key_id: id };
            drop(admin.revoke_api_key(root.on(request)).await.unwrap());
        }
        Kind::Token => {
            let request = pb::RevokeTokenRequest { namespace, token_id: id };
            drop(admin.revoke_token(root.on(request)).await.unwrap());
        }
        Kind::User => {
            let request = pb::RevokeUserRequest { namespace, user_id: "bob".into() };
            drop(admin.revoke_user(root.on(request)).await.unwrap());
        }
        Kind::Namespace => {
            drop(admin.archive_namespace(root.on(pb::ArchiveNamespaceRequest { namespace })).await.unwrap());
        }
    }
    // At once where it was said, for streams and for calls.
    let get = || shown.on(pb::GetRoomRequest { room_id: "tea".into() });
    assert_eq!(code_of(&one.client().await.get_room(get()).await), Code::Unauthenticated, "{kind:?}");
    assert_ended(&mut here, pb::ClosingReason::CredentialRevoked).await;
    assert!(began.elapsed() <= GRAIN, "{kind:?}: {:?}", began.elapsed());
    // Within a second elsewhere.
    assert_ended(&mut there, pb::ClosingReason::CredentialRevoked).await;
    assert!(began.elapsed() <= secs(1), "{kind:?}: {:?}", began.elapsed());
    assert_eq!(code_of(&two.client().await.get_room(get()).await), Code::Unauthenticated, "{kind:?}");
    if kind == Kind::Namespace {
        assert_ended(&mut bystander, pb::ClosingReason::CredentialRevoked).await;
        assert!(began.elapsed() <= secs(1), "{:?}", began.elapsed());
    } else {
        bystander.talk("I am somebody else").await;
    }
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_is_revoked_ends_its_streams_everywhere() {
    assert_revoked(Kind::Identity).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_revoked_ends_its_streams_everywhere() {
    assert_revoked(Kind::Key).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_revoked_ends_its_streams_everywhere() {
    assert_revoked(Kind::Token).await;
}

#[tokio::test(start_paused = true)]
async fn a_user_who_is_revoked_has_no_streams_anywhere() {
    assert_revoked(Kind::User).await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_archived_has_no_streams_anywhere() {
    assert_revoked(Kind::Namespace).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_removed_or_banned_is_out_at_once() {
    let stage = Stage::new().await;
    let ann = stage.tenants.identity("acme", "ann").await.1;
    let mut admin = stage.join(&ann, "ann").await;
    for (user, ban, reason, again) in [
        ("bob", false, pb::ClosingReason::Removed, ""),
        ("cid", true, pb::ClosingReason::Banned, "permission_denied"),
    ] {
        let shown = stage.tenants.identity("acme", user).await.1;
        let mut session = stage.join(&shown, user).await;
        let began = Instant::now();
        let remove = pb::RemoveMember { user_id: user.into(), ban, reason: String::new() };
        admin.command(Say::RemoveMember(remove)).await.unwrap();
        let (closing, status) = session.end().await;
        assert_eq!(closing.unwrap().reason(), reason);
        assert_eq!(status.unwrap_err().code(), Code::PermissionDenied);
        assert!(began.elapsed() <= GRAIN, "{:?}", began.elapsed());
        let mut session = patient(stage.server.open_as(&shown).await.unwrap());
        assert_eq!(session.answer(Say::Join(join("tea", user))).await, again);
    }
    stage.server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_secret_was_replaced_is_warned_before_the_overlap_ends() {
    let stage = Stage::new().await;
    let (id, shown) = stage.tenants.identity("acme", "bob").await;
    let mut bob = stage.join(&shown, "bob").await;
    sleep(secs(5)).await;
    // On another node.
    let overlap = secs(100);
    let ends = stage.tenants.clock.now().plus(overlap);
    let rotated =
        stage.tenants.directory.rotate_identity_secret(&namespace("acme"), &id, overlap).await.unwrap();
    assert_eq!(warned(&mut bob).await, ends);
    stage.assert_now(Timestamp(ends.0 - 60_000));
    let second = Shown::Identity(rotated.1.expose().to_owned());
    let mut late = stage.join(&shown, "bob").await;
    assert_eq!(warned(&mut late).await, ends, "and who comes with it at once");
    // Whoever shows the new one goes on; who does not is ended.
    bob.command(authenticate(&second)).await.unwrap();
    assert_ended(&mut late, pb::ClosingReason::CredentialExpired).await;
    stage.assert_now(ends);
    sleep(secs(300)).await;
    bob.talk("still here").await;
    stage.server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_counted_and_recorded_for_the_credential_it_goes_on_with() {
    let tenants = Tenants::in_virtual_time().await;
    tenants.tenant("acme").await;
    let three = salon::config::RateWord(Some((std::num::NonZeroU32::new(3).unwrap(), secs(3600))));
    let setup = tenants.setup().config(|config| config.limits.rates.credential.messages = three);
    let server = setup.start_without_port().await;
    let (ann, (second, again)) =
        (tenants.identity("acme", "ann").await.1, tenants.identity("acme", "ann").await);
    create(&server, &ann, "tea").await;
    let bob = tenants.identity("acme", "bob").await.1;
    let _bob = patient(server.join_as(&bob, "tea", "bob").await);
    let mut session = patient(server.join_as(&ann, "tea", "ann").await);
    for _ in 0..3 {
        session.talk("one of three").await;
    }
    assert_eq!(session.answer(crate::harness::session::message("four")).await, "rate_limited");
    session.command(authenticate(&again)).await.unwrap();
    let mute = pb::MuteMember { user_id: "bob".into(), duration_ms: 60_000, ..Default::default() };
    session.command(Say::MuteMember(mute)).await.unwrap();
    sleep(secs(5)).await;
    let entries = server.server.graph().audit.read(&namespace("acme"), None, 100).await.unwrap();
    let mute = entries.iter().find(|entry| entry.act == "mute").unwrap();
    let by: Vec<&str> = mute.origins.iter().map(|origin| origin.credential.as_str()).collect();
    assert_eq!(by, [format!("identity {second}")]);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn tokens_end_with_the_key_by_which_they_were_made() {
    let tenants = Tenants::in_virtual_time().await;
    let owner = tenants.tenant("acme").await;
    let one = tenants.setup().start_without_port().await;
    let two = tenants.setup().start_without_port().await;
    let ann = tenants.identity("acme", "ann").await.1;
    create(&one, &ann, "tea").await;
    let (id, key) = tenants.key("acme", &[Scope::Tokens], None).await;
    let asked =
        || pb::CreateJoinTokenRequest { user_id: "bob".into(), lifetime_ms: 3_600_000, ..Default::default() };
    let mut admin = one.admin().await;
    let made = admin.create_join_token(key.on(asked())).await.unwrap().into_inner();
    let owners = admin.create_join_token(owner.on(asked())).await.unwrap().into_inner();
    let (shown, of_owner) = (Shown::Bearer(made.token), Shown::Bearer(owners.token));
    let mut here = patient(one.join_as(&shown, "tea", "bob").await);
    let mut there = patient(two.join_as(&shown, "tea", "bob").await);
    sleep(secs(2)).await;
    let began = Instant::now();
    let request = pb::RevokeApiKeyRequest { namespace: "acme".into(), server: false, key_id: id };
    admin.revoke_api_key(owner.on(request)).await.unwrap();
    assert_ended(&mut here, pb::ClosingReason::CredentialRevoked).await;
    assert_ended(&mut there, pb::ClosingReason::CredentialRevoked).await;
    assert!(began.elapsed() <= secs(1), "{:?}", began.elapsed());
    // Also when nobody remembers any more that a secret was revoked.
    for _ in 0..2 {
        for server in [&one, &two] {
            let get = |shown: &Shown| shown.on(pb::GetRoomRequest { room_id: "tea".into() });
            assert_eq!(code_of(&server.client().await.get_room(get(&shown)).await), Code::Unauthenticated);
            assert_eq!(code_of(&server.client().await.get_room(get(&of_owner)).await), Code::Ok);
        }
        sleep(secs(600)).await;
    }
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_for_tokens_makes_no_admins_and_none_that_outlive_it() {
    let stage = Stage::new().await;
    let owner = stage.tenants.tenant("late").await;
    let asked = |role| pb::CreateJoinTokenRequest {
        user_id: "bob".into(),
        grants: Some(pb::TokenGrants { role: Some(role), ..Default::default() }),
        lifetime_ms: 600_000,
        ..Default::default()
    };
    let mut admin = stage.server.admin().await;
    let key = stage.tenants.key("late", &[Scope::Tokens, Scope::RoomsWrite], Some(secs(100))).await.1;
    let ends = stage.tenants.clock.now().plus(secs(100));
    let (member, highest) = (pb::Role::Member.into(), pb::Role::Admin.into());
    assert_eq!(code_of(&admin.create_join_token(key.on(asked(highest))).await), Code::PermissionDenied);
    let made = admin.create_join_token(key.on(asked(member))).await.unwrap().into_inner();
    assert!(made.expires_at.unwrap().seconds * 1000 <= ends.0, "no longer than the key");
    let made = admin.create_join_token(owner.on(asked(highest))).await.unwrap().into_inner();
    assert!(made.expires_at.unwrap().seconds * 1000 > ends.0);
    sleep(secs(99) + Duration::from_millis(500)).await;
    assert_eq!(code_of(&admin.create_join_token(key.on(asked(member))).await), Code::PermissionDenied);
    stage.server.shutdown().await;
}
