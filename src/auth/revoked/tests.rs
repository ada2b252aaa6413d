//! What is revoked is known here at once, and elsewhere within a second.

use super::{
    folder::{PAGE, SECRET_DOCUMENT_KEPT, parse},
    *,
};
use crate::{auth::scope::Powers, clock::ManualClock, ids::RoomId, store::memory::MemoryStore};

const DAY: Duration = Duration::from_secs(24 * 3600);
const KEPT: Kept = Kept { users: DAY, tokens: DAY };
/// Later than the beginning of time, so that there is something before it.
const START: Timestamp = Timestamp(1_700_000_000_000);

struct Node {
    revocations: Revocations,
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
}

impl Node {
    fn start(store: &Arc<dyn Store>, clock: &Arc<ManualClock>) -> Self {
        let clock = Arc::clone(clock) as Arc<dyn Clock>;
        let revocations = Revocations::new(Arc::clone(store), clock, KEPT);
        let (stop, mut tasks) = (CancellationToken::new(), tokio::task::JoinSet::new());
        tasks.spawn(revocations.clone().run(stop.clone()));
        Self { revocations, stop, tasks }
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[tokio::test]
async fn a_node_knows_everything_before_it_lets_anybody_in() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
    let clock = Arc::new(ManualClock::new(START));
    let as_clock = || Arc::clone(&clock) as Arc<dyn Clock>;
    let one = Revocations::new(Arc::clone(&store), as_clock(), KEPT);
    one.revoke_user(&acme(), &UserId::parse("ann").unwrap()).await.unwrap();
    let next = Revocations::new(store, as_clock(), KEPT);
    let ann = ann(Credential::Token { issuer: "us".into(), id: None }, Some(START));
    assert!(!next.is_revoked(&ann), "it has read nothing");
    next.catch_up().await.unwrap();
    assert!(next.is_revoked(&ann));
}

fn acme() -> Namespace {
    Namespace::parse("acme").unwrap()
}

fn ann(credential: Credential, issued_at: Option<Timestamp>) -> Principal {
    let user = Some(UserId::parse("ann").unwrap());
    Principal { namespace: acme(), user, issued_at, credential, ..Principal::open() }
}

fn token(id: &str) -> Credential {
    Credential::Token { issuer: "salon".into(), id: Some(id.into()) }
}

fn pair() -> (Arc<dyn Store>, Arc<ManualClock>) {
    (Arc::new(MemoryStore::shared()), Arc::new(ManualClock::new(START)))
}

#[tokio::test(start_paused = true)]
async fn another_node_knows_within_a_second_and_is_told() {
    let (store, clock) = pair();
    let (here, there) = (Node::start(&store, &clock), Node::start(&store, &clock));
    let mut told = there.revocations.subscribe();
    // Both have read what there is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let credential = Revoked::Credential { id: "k1".into() };
    let began = Instant::now();
    here.revocations.revoke(&acme(), credential, clock.now()).await.unwrap();
    let key = ann(Credential::Key("k1".into()), Some(START));
    assert!(here.revocations.is_revoked(&key), "it is known here at once");
    told.changed().await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(there.revocations.is_revoked(&key));
    assert!(!there.revocations.is_revoked(&ann(Credential::Key("k2".into()), Some(START))));
    here.end().await;
    there.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_hides_and_delays_nothing() {
    let (store, clock) = pair();
    let slow = Arc::new(ManualClock::new(Timestamp(START.0 - 20_000)));
    let (here, there) = (Node::start(&store, &clock), Node::start(&store, &slow));
    // The one with the later clock is read first, so that the other's name stands before it.
    let of = |id: &str| Revoked::Token { id: id.into() };
    here.revocations.revoke(&acme(), of("t1"), clock.now()).await.unwrap();
    let mut told = here.revocations.subscribe();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(there.revocations.is_revoked(&ann(token("t1"), None)), "at once, whatever its clock says");
    there.revocations.revoke(&acme(), of("t2"), slow.now()).await.unwrap();
    told.changed().await.unwrap();
    assert!(here.revocations.is_revoked(&ann(token("t2"), None)));
    assert!(!here.revocations.is_revoked(&ann(token("t3"), None)));
    here.end().await;
    there.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_user_had_is_over_and_what_comes_later_is_not() {
    let (store, clock) = pair();
    let node = Node::start(&store, &clock);
    let user = UserId::parse("ann").unwrap();
    node.revocations.revoke_user(&acme(), &user).await.unwrap();
    let later = START.plus(Duration::from_secs(1));
    let is_revoked = |principal: &Principal| node.revocations.is_revoked(principal);
    assert!(is_revoked(&ann(token("t1"), Some(START))));
    assert!(is_revoked(&ann(Credential::Identity("i1".into()), Some(START))));
    assert!(is_revoked(&ann(token("t1"), None)), "nobody knows when it was issued");
    assert!(!is_revoked(&ann(token("t1"), Some(later))));
    let elsewhere = Principal { namespace: Namespace::default(), ..ann(token("t1"), Some(START)) };
    assert!(!is_revoked(&elsewhere), "another namespace's user of the same name");
    assert!(!is_revoked(&Principal::open()));
    node.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_ends_for_all_but_the_servers_own() {
    let (store, clock) = pair();
    let node = Node::start(&store, &clock);
    node.revocations.revoke(&acme(), Revoked::Namespace, clock.now()).await.unwrap();
    assert!(node.revocations.is_revoked(&ann(token("t1"), Some(START))));
    let server = Principal { powers: Powers::server(), ..ann(Credential::Key("s".into()), Some(START)) };
    assert!(!node.revocations.is_revoked(&server));
    let room = RoomId::parse("tea").unwrap().within(&acme());
    let of_room = Principal { room: Some(room), user: None, ..ann(token("t1"), Some(START)) };
    assert!(node.revocations.is_revoked(&of_room));
    node.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_ends_later_is_told_when_it_does() {
    let (store, clock) = pair();
    let node = Node::start(&store, &clock);
    let (until, credential) = (START.plus(Duration::from_secs(60)), Revoked::Credential { id: "i1".into() });
    let mut told = node.revocations.subscribe();
    node.revocations.revoke(&acme(), credential, until).await.unwrap();
    let old = ann(Credential::Identity("i1".into()), Some(START));
    // That it will end is news, for those who are to be warned.
    told.changed().await.unwrap();
    assert_eq!(node.revocations.ends_at(&old), Some(until));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!node.revocations.is_revoked(&old) && !told.has_changed().unwrap());
    clock.advance(Duration::from_secs(60));
    told.changed().await.unwrap();
    assert!(node.revocations.is_revoked(&old));
    assert_eq!(node.revocations.ends_at(&old), None);
    node.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_node_knows_what_was_revoked_before_and_old_things_are_swept() {
    let (store, clock) = pair();
    let node = Node::start(&store, &clock);
    node.revocations.revoke(&acme(), Revoked::Token { id: "t1".into() }, clock.now()).await.unwrap();
    node.end().await;
    let next = Node::start(&store, &clock);
    let mut told = next.revocations.subscribe();
    told.changed().await.unwrap();
    assert!(next.revocations.is_revoked(&ann(token("t1"), None)));
    clock.advance(DAY + Duration::from_secs(1));
    tokio::time::sleep(SWEEP_INTERVAL + Duration::from_secs(1)).await;
    assert_eq!(store.documents(&folder(), None, 10).await.unwrap(), []);
    assert!(!next.revocations.is_revoked(&ann(token("t1"), None)));
    next.end().await;
}

#[tokio::test]
async fn a_namespace_fills_its_own_memory_only() {
    let (store, clock) = pair();
    let revocations = Revocations::new(store, clock, KEPT);
    let learned = (0..MAX_PER_NAMESPACE).map(|n| {
        let what = Revoked::Token { id: n.to_string() };
        (format!("{}-{n}", key(START)), Revocation { namespace: "acme".into(), at: START.0, what })
    });
    revocations.0.learn(learned);
    let more = || Revoked::Token { id: "one more".into() };
    let refused = revocations.revoke(&acme(), more(), START).await.unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    revocations.revoke(&Namespace::default(), more(), START).await.unwrap();
    revocations.revoke(&acme(), Revoked::Token { id: "7".into() }, START).await.unwrap();
    revocations.revoke(&acme(), Revoked::Credential { id: "k".into() }, START).await.unwrap();
    let certificate = Revoked::Certificate { id: "c".into() };
    revocations.revoke(&acme(), certificate, START).await.unwrap();
    assert!(revocations.is_revoked(&ann(Credential::Certificate("c".into()), None)));
}

#[tokio::test]
async fn certificates_take_no_room_from_what_else_ends() {
    let (store, clock) = pair();
    let revocations = Revocations::new(store, Arc::<ManualClock>::clone(&clock), KEPT);
    let ids = 0..MAX_PER_NAMESPACE;
    revocations.0.learn(ids.map(|n| written_now(Revoked::Certificate { id: n.to_string() }, n)));
    revocations.check_rotation(&acme()).unwrap();
    revocations.revoke(&acme(), Revoked::Token { id: "t".into() }, START).await.unwrap();
    let more = || Revoked::Certificate { id: "one more".into() };
    assert_eq!(revocations.revoke(&acme(), more(), START).await.unwrap_err().code, Code::ResourceExhausted);
    clock.advance(SECRET_KEPT + Duration::from_secs(1));
    revocations.revoke(&acme(), more(), clock.now()).await.unwrap();
}

fn written_now(what: Revoked, n: usize) -> (String, Revocation) {
    (format!("{}-{n}", key(START)), Revocation { namespace: "acme".into(), at: START.0, what })
}

#[tokio::test(start_paused = true)]
async fn secrets_that_are_replaced_again_and_again_are_bounded_and_soon_forgotten() {
    let (store, clock) = pair();
    let revocations = Revocations::new(store, Arc::<ManualClock>::clone(&clock), KEPT);
    let secrets = |from: usize| {
        let ids = from..from + MAX_PER_NAMESPACE;
        ids.map(|n| written_now(Revoked::Credential { id: n.to_string() }, n))
    };
    revocations.0.learn(secrets(0));
    let refused = revocations.check_rotation(&acme()).unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(refused.message.contains("in 61 s"), "{}", refused.message);
    revocations.check_rotation(&Namespace::default()).unwrap();
    // What has to end does, and users and tokens have a room of their own.
    revocations.revoke(&acme(), Revoked::Credential { id: "k".into() }, START).await.unwrap();
    revocations.revoke(&acme(), Revoked::Token { id: "t".into() }, START).await.unwrap();
    assert!(revocations.is_revoked(&ann(Credential::Key("k".into()), None)));
    clock.advance(SECRET_KEPT + Duration::from_secs(1));
    revocations.check_rotation(&acme()).unwrap();
    assert!(revocations.is_revoked(&ann(token("t"), None)), "tokens live longer");
    let known = revocations.0.read();
    let sizes = |of: &Marks| (of.secrets.len(), of.others.len());
    assert_eq!(known.by_namespace.get("acme").map(sizes), Some((0, 1)));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_shares_the_store_names_and_what_ends_later_are_forgotten_too() {
    let clock = Arc::new(ManualClock::new(START));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let node = Node::start(&store, &clock);
    for n in 0..100 {
        let credential = || Revoked::Credential { id: n.to_string() };
        // It was to end in a week, and is taken away at once.
        let week = START.plus(Duration::from_secs(7 * 24 * 3600 + n));
        node.revocations.revoke(&acme(), credential(), week).await.unwrap();
        node.revocations.revoke(&acme(), credential(), clock.now()).await.unwrap();
    }
    let sizes = || {
        let known = node.revocations.0.read();
        (known.by_namespace.len(), known.names.len(), known.pending.len())
    };
    assert_eq!(sizes(), (1, 200, 100));
    clock.advance(Duration::from_secs(120));
    tokio::time::sleep(FORGET_INTERVAL + Duration::from_secs(1)).await;
    assert_eq!(sizes(), (0, 0, 0));
    node.end().await;
}

#[tokio::test]
async fn a_namespace_that_is_full_has_room_again_when_its_tokens_must_have_expired() {
    let (store, clock) = pair();
    let kept = Kept { users: DAY, tokens: Duration::from_secs(3600) };
    let revocations = Revocations::new(store, Arc::<ManualClock>::clone(&clock), kept);
    let ids = 0..MAX_PER_NAMESPACE;
    revocations.0.learn(ids.map(|n| written_now(Revoked::Token { id: n.to_string() }, n)));
    let more = || Revoked::User { user: "ann".into() };
    let refused = revocations.revoke(&acme(), more(), START).await.unwrap_err();
    assert!(refused.message.contains("in 3601 s"), "{}", refused.message);
    clock.advance(kept.tokens + Duration::from_secs(1));
    revocations.revoke(&acme(), more(), clock.now()).await.unwrap();
}

#[tokio::test]
async fn documents_of_secrets_are_taken_out_of_the_store_before_others() {
    let (store, clock) = pair();
    let revocations = Revocations::new(Arc::clone(&store), Arc::<ManualClock>::clone(&clock), KEPT);
    for n in 0..PAGE {
        revocations.revoke(&acme(), Revoked::Token { id: n.to_string() }, START).await.unwrap();
    }
    clock.advance(Duration::from_secs(1));
    revocations.revoke(&acme(), Revoked::Credential { id: "old".into() }, clock.now()).await.unwrap();
    clock.advance(SECRET_DOCUMENT_KEPT + Duration::from_secs(1));
    revocations.revoke(&acme(), Revoked::Credential { id: "young".into() }, clock.now()).await.unwrap();
    Sweep::default().sweep(&revocations.0).await.unwrap();
    let left = store.documents(&folder(), None, 2 * PAGE).await.unwrap();
    assert_eq!(left.len(), PAGE + 1);
    let last = parse(left.last().unwrap()).unwrap().1;
    assert_eq!(last.what, Revoked::Credential { id: "young".into() });
}
