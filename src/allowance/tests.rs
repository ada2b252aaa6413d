//! Every limit at, under and over it, in virtual time; and that what one has taken is nobody else's.

use std::num::NonZeroU32;

use super::*;
use crate::{allowance::rate::Rate, auth::quotas::Quotas, domain::rejection::Code};

const STREAMS: StreamLimits = StreamLimits {
    per_user: 2,
    per_credential: Some(3),
    per_peer: Some(4),
    waiting: 3,
    waiting_per_peer: 2,
    waiting_per_namespace: 3,
};

/// So many in a second, of everything that is counted for it.
fn all(count: u32) -> Paces {
    let rate = Rate::in_each(NonZeroU32::new(count).unwrap(), Duration::from_secs(1));
    Paces::new(What::ALL.map(|what| (what, Some(rate))))
}

fn table(user: u32, credential: u32, peer: u32, namespace: u32) -> RateTable {
    RateTable {
        user: all(user),
        credential: all(credential),
        peer: all(peer),
        namespace: all(namespace),
        default_namespace: Paces::default(),
    }
}

fn allowances(rates: RateTable) -> Allowances {
    let namespace = Quotas { streams: Some(5), runs: Some(2), ..Quotas::default() };
    Allowances::new(rates, STREAMS, Given::new(namespace, Quotas::default()))
}

fn caller(namespace: &str, user: &str, key: &str, peer: u8) -> Payer {
    Payer {
        namespace: Namespace::parse(namespace).unwrap(),
        user: Some(UserId::parse(user).unwrap()),
        credential: Credential::Key(key.into()),
        peer: Some([192, 0, 2, peer].into()),
    }
}

/// How many can be taken now.
fn taken(allowance: &Allowance, what: What) -> usize {
    (0..10_000).take_while(|_| allowance.take(what).is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn everything_is_limited_for_everybody_at_its_limit() {
    for what in What::ALL {
        for (limits, scope) in [
            ([3, 9, 9, 9], "user"),
            ([9, 3, 9, 9], "credential"),
            ([9, 9, 3, 9], "address"),
            ([9, 9, 9, 3], "namespace"),
        ] {
            let [user, credential, peer, namespace] = limits;
            let all = allowances(table(user, credential, peer, namespace));
            let one = all.of(&caller("acme", "ann", "k", 1));
            assert_eq!(taken(&one, what), 3, "{what} {scope}");
            let refused = one.take(what).unwrap_err();
            assert_eq!(refused.code, Code::RateLimited);
            for word in ["too many", &what.to_string(), scope, "limits."] {
                assert!(refused.message.contains(word) || what == What::Generations, "{}", refused.message);
            }
            // A third of a second brings one back, and not a moment sooner.
            let wait = refused.retry_after.unwrap();
            assert_eq!(wait, Duration::from_millis(334));
            tokio::time::advance(wait - Duration::from_millis(2)).await;
            assert!(one.take(what).is_err(), "too soon");
            tokio::time::advance(Duration::from_millis(2)).await;
            assert_eq!(taken(&one, what), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_tenants_share_nothing_with_the_same_names() {
    let all = allowances(table(5, 100, 100, 100));
    let (here, there) = (all.of(&caller("acme", "ann", "a", 1)), all.of(&caller("wile", "ann", "b", 2)));
    assert_eq!((taken(&here, What::Messages), taken(&there, What::Messages)), (5, 5));
    // The same user on another stream has no more.
    assert_eq!(taken(&all.of(&caller("acme", "ann", "c", 3)), What::Messages), 0);
    assert_eq!(taken(&here, What::Transients), 5, "what is counted is counted apart");
    assert_eq!(taken(&all.of(&caller("acme", "bob", "a", 1)), What::Messages), 5);
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_has_taken_nothing_of_others_and_is_told_the_longest_wait() {
    // The namespace has 2 a second, the user 1: both are empty, the user's takes longer.
    let all = allowances(table(1, 100, 100, 2));
    let (ann, bob) = (all.of(&caller("acme", "ann", "a", 1)), all.of(&caller("acme", "bob", "b", 2)));
    assert!(ann.take(What::Messages).is_ok());
    for _ in 0..1000 {
        assert_eq!(ann.take(What::Messages).unwrap_err().retry_after, Some(Duration::from_secs(1)));
    }
    assert!(bob.take(What::Messages).is_ok(), "a thousand refusals took nothing of the namespace");
    let carl = all.of(&caller("acme", "carl", "c", 3));
    let refused = carl.take(What::Messages).unwrap_err();
    assert!(refused.message.contains("in this namespace"), "{}", refused.message);
    tokio::time::advance(refused.retry_after.unwrap()).await;
    assert!(carl.take(What::Messages).is_ok(), "what was taken of the user was given back");
}

#[tokio::test(start_paused = true)]
async fn a_noisy_tenant_leaves_the_others_at_their_pace() {
    let all = allowances(table(1000, 1000, 1000, 10));
    let quiet = all.of(&caller("quiet", "ann", "q", 1));
    let noisy: Vec<Allowance> =
        (0..100).map(|n| all.of(&caller("noisy", &format!("u{n}"), &format!("k{n}"), 2))).collect();
    let (mut loud, mut waits) = (0, Vec::new());
    for _ in 0..1000 {
        // A hundred times what the namespace may have, between any two of the other's.
        loud += noisy.iter().filter(|one| one.take(What::Messages).is_ok()).count();
        waits.push(quiet.take(What::Messages).err().and_then(|refused| refused.retry_after));
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert!(waits.iter().all(Option::is_none), "the other is never held up");
    assert!((1000..=1010).contains(&loud), "{loud}: what its namespace may have, and no more");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_nobody_counts_as_one_only_where_a_model_is_called() {
    let all = allowances(table(3, 100, 100, 100));
    let nobody = || all.of(&Payer { user: None, ..caller("acme", "x", "k", 1) });
    assert_eq!((taken(&nobody(), What::Generations), taken(&nobody(), What::Generations)), (3, 0));
    assert_eq!(taken(&nobody(), What::History), 100);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_apart_is_not_counted() {
    let all = allowances(RateTable { credential: all(1), peer: all(1), ..RateTable::default() });
    let unnamed = Credential::Token { issuer: "i".into(), id: None };
    for credential in [Credential::Open, unnamed] {
        let one = all.of(&Payer { credential, peer: None, ..caller("default", "ann", "k", 1) });
        assert_eq!(taken(&one, What::Messages), 10_000);
    }
    let named = Credential::Token { issuer: "i".into(), id: Some("1".into()) };
    let one = all.of(&Payer { credential: named, peer: None, ..caller("default", "ann", "k", 1) });
    assert_eq!(taken(&one, What::Messages), 1);
}

#[tokio::test(start_paused = true)]
async fn guessing_secrets_is_slow() {
    let all = allowances(table(100, 100, 3, 100));
    let (thief, other) = (Some([192, 0, 2, 1].into()), Some([192, 0, 2, 2].into()));
    for _ in 0..3 {
        all.may_sign_in(thief).unwrap();
        all.sign_in_failed(thief);
    }
    let refused = all.may_sign_in(thief).unwrap_err();
    assert!(refused.message.contains("failed sign-ins from this address"), "{}", refused.message);
    assert_eq!(refused.retry_after, Some(Duration::from_millis(334)));
    all.sign_in_failed(thief);
    all.may_sign_in(other).unwrap();
    all.may_sign_in(None).unwrap();
    tokio::time::advance(Duration::from_millis(334)).await;
    all.may_sign_in(thief).unwrap();
}

#[tokio::test(start_paused = true)]
async fn streams_are_counted_until_they_end() {
    let all = allowances(RateTable::default());
    let open = |user: &str, key: &str, peer: u8| all.of(&caller("acme", user, key, peer)).open_stream();
    let ann = [open("ann", "a", 1).unwrap(), open("ann", "b", 2).unwrap()];
    let refused = open("ann", "c", 3).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.contains("limits.streams_per_user")),
        (Code::ResourceExhausted, true)
    );
    let key = [open("bob", "a", 2).unwrap(), open("carl", "a", 2).unwrap()];
    assert!(open("dora", "a", 9).unwrap_err().message.contains("limits.streams_per_credential"));
    let fifth = open("dora", "d", 2).unwrap();
    assert!(open("emil", "e", 2).unwrap_err().message.contains("limits.streams_per_peer"));
    assert!(open("emil", "e", 3).unwrap_err().message.contains("quota `streams`"), "five in the namespace");
    // A refusal holds nothing: the places are free when the streams have ended.
    drop((ann, key, fifth));
    let again: Vec<_> = (0..5).map(|n| open(&format!("u{n}"), &format!("k{n}"), n).unwrap()).collect();
    drop(again);
    all.forget_quiet();
    assert_eq!(all.known(), 0, "who holds nothing is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_goes_on_with_another_credential_never_lets_go_of_its_user() {
    let all = allowances(RateTable::default());
    let of = |user: &str, key: &str, peer: u8| all.of(&caller("acme", user, key, peer));
    let (mut one, _other) =
        (of("ann", "a", 1).open_stream().unwrap(), of("ann", "a", 1).open_stream().unwrap());
    let full: Vec<_> = (0..3).map(|n| of(&format!("u{n}"), "b", 2).open_stream().unwrap()).collect();
    let refused = of("ann", "b", 1).go_on(&mut one).unwrap_err();
    assert!(refused.message.contains("limits.streams_per_credential"), "{}", refused.message);
    // All places of the user and of the namespace are taken, and stay so.
    assert!(of("ann", "c", 1).open_stream().is_err());
    of("ann", "c", 1).go_on(&mut one).unwrap();
    assert!(of("ann", "d", 1).open_stream().is_err());
    drop(full);
    // The credential before has its place back, and the new one gives its own back in the end.
    let held: Vec<_> = ["u", "v"].map(|user| of(user, "a", 3).open_stream().unwrap()).into();
    assert!(of("w", "a", 3).open_stream().unwrap_err().message.contains("streams_per_credential"));
    drop((held, one, _other));
    all.forget_quiet();
    assert_eq!(all.known(), 0);
}

#[tokio::test(start_paused = true)]
async fn streams_that_have_not_joined_are_bounded() {
    let all = allowances(RateTable::default());
    let wait = |peer| all.wait_to_join(&caller("acme", "ann", "k", peer));
    let mut held = vec![wait(1).unwrap(), wait(1).unwrap()];
    assert!(wait(1).unwrap_err().message.contains("limits.streams_waiting_per_peer"));
    held.push(wait(2).unwrap());
    let refused = wait(2).unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(refused.message.contains("limits.streams_waiting_to_join"), "{}", refused.message);
    held.pop();
    held.push(wait(2).unwrap());
    drop(held);
    let held = [wait(3).unwrap(), wait(3).unwrap(), wait(4).unwrap()];
    assert!(wait(5).is_err());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn one_namespace_does_not_take_all_places_to_wait() {
    let limits = StreamLimits { waiting: 8, waiting_per_namespace: 2, ..STREAMS };
    let all = Allowances::new(RateTable::default(), limits, Given::default());
    let wait = |namespace, peer| all.wait_to_join(&caller(namespace, "ann", "k", peer));
    let mut held = vec![wait("acme", 1).unwrap(), wait("acme", 2).unwrap()];
    let refused = wait("acme", 3).unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(refused.message.contains("of this namespace"), "{}", refused.message);
    // A refusal holds nothing: the address has both of its places.
    held.extend([wait("other", 3).unwrap(), wait("other", 3).unwrap()]);
    held.extend((4..8).map(|peer| wait("default", peer).unwrap()));
    assert!(wait("third", 9).unwrap_err().message.contains("on this server"));
    drop(held);
    drop([wait("third", 9).unwrap(), wait("acme", 3).unwrap(), wait("acme", 3).unwrap()]);
    all.forget_quiet();
    assert_eq!(all.known(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_has_what_it_was_given() {
    let all = allowances(RateTable::default());
    let acme = Namespace::parse("acme").unwrap();
    all.check_runs(&acme, 1).unwrap();
    let refused = all.check_runs(&acme, 2).unwrap_err();
    assert!(
        refused.message.contains("`runs`") && refused.message.contains("allows 2"),
        "{}",
        refused.message
    );
    all.check_runs(&Namespace::default(), 1_000_000).unwrap();
    all.set_quotas(&acme, Some(Quotas { runs: Some(3), ..Quotas::default() }));
    all.check_runs(&acme, 2).unwrap();
    assert_eq!(all.quotas(&acme).streams, Some(5), "what it was not given is the default");
    all.set_quotas(&acme, None);
    assert!(all.check_runs(&acme, 2).is_err());
}

#[tokio::test(start_paused = true)]
async fn before_the_join_a_connection_has_what_a_user_has() {
    let all = allowances(table(3, 1, 1, 1));
    let (one, other) = (all.stranger(), all.stranger());
    assert_eq!((0..9).filter(|_| one.take().is_ok()).count(), 3);
    assert_eq!(one.take().unwrap_err().retry_after, Some(Duration::from_millis(334)));
    other.take().unwrap();
}
