//! What other nodes say, repeated, reordered, lost, and unsaid.

use super::*;

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn node(n: u128) -> NodeId {
    NodeId(uuid::Uuid::from_u128(n))
}

fn present(name: &str, arrivals: &[u64]) -> PresentUser {
    let presence = if arrivals.is_empty() { Presence::Offline } else { Presence::Online };
    PresentUser { user: user(name), presence, arrivals: arrivals.into(), member: None }
}

fn says(n: u128, version: u64, said: Said) -> PresenceHint {
    PresenceHint { node: node(n), opening: 1, version, said }
}

fn changed(n: u128, version: u64, name: &str, arrivals: &[u64]) -> PresenceHint {
    says(n, version, Said::Changed(present(name, arrivals)))
}

fn page(n: u128, version: u64, (page, pages): (u32, u32), users: &[(&str, u64)]) -> PresenceHint {
    let users = users.iter().map(|(name, arrival)| present(name, &[*arrival])).collect();
    says(n, version, Said::All(PresentPage { page, pages, users }))
}

/// Who is there, and whether something is missing.
fn view(others: &Others) -> (Vec<String>, bool) {
    let mut users: Vec<String> = others.users().map(ToString::to_string).collect();
    users.sort();
    (users, others.incomplete().next().is_some())
}

fn told(others: &mut Others, hint: &PresenceHint) -> Vec<(String, bool, bool)> {
    let shifts = others.hear(hint, Instant::now()).unwrap();
    shifts.into_iter().map(|s| (s.user.to_string(), s.before.is_some(), s.after.is_some())).collect()
}

#[test]
fn every_order_of_changes_ends_in_the_same_view() {
    let changes = [
        changed(1, 1, "ann", &[1]),
        changed(1, 2, "bob", &[2]),
        changed(1, 3, "ann", &[]),
        changed(1, 4, "ann", &[3]),
        changed(1, 5, "bob", &[]),
    ];
    let mut orders = 0;
    // Every permutation of five, each one repeated.
    for order in 0..5_usize.pow(5) {
        let order: Vec<usize> = (0..5).map(|digit| order / 5_usize.pow(digit) % 5).collect();
        if (0..5).any(|wanted| !order.contains(&wanted)) {
            continue;
        }
        orders += 1;
        let mut others = Others::default();
        let mut here: BTreeSet<String> = BTreeSet::new();
        for index in order.iter().flat_map(|index| [*index, *index]) {
            for (name, before, after) in told(&mut others, &changes[index]) {
                assert_eq!(here.contains(&name), before, "{order:?}");
                if after {
                    here.insert(name)
                } else {
                    here.remove(&name)
                };
            }
        }
        assert_eq!(view(&others), (vec!["ann".to_owned()], false), "{order:?}");
        assert!(here.iter().eq(["ann"]), "{order:?}");
        assert!(others.nodes[&node(1)].gone.is_empty(), "{order:?}");
    }
    assert_eq!(orders, 120);
}

#[test]
fn what_is_lost_is_noticed_and_made_good_by_everybody() {
    let mut others = Others::default();
    told(&mut others, &changed(1, 1, "ann", &[1]));
    // The second, bob, and the third, ann's going, are lost.
    told(&mut others, &changed(1, 4, "cid", &[4]));
    assert_eq!(view(&others), (vec!["ann".into(), "cid".into()], true));
    assert!(others.incomplete().eq([node(1)]));
    // Behind the fourth there is one more, which overtakes the answer.
    told(&mut others, &changed(1, 5, "dan", &[5]));
    assert_eq!(told(&mut others, &page(1, 4, (1, 2), &[("cid", 4)])), []);
    let made_good = told(&mut others, &page(1, 4, (0, 2), &[("bob", 2)]));
    assert_eq!(made_good, [("ann".into(), true, false), ("bob".into(), false, true)]);
    assert_eq!(view(&others), (vec!["bob".into(), "cid".into(), "dan".into()], false));
    // Repeated, and older than what is known: nothing.
    assert_eq!(told(&mut others, &page(1, 4, (0, 1), &[("ann", 9)])), []);
    assert_eq!(told(&mut others, &changed(1, 3, "ann", &[9])), []);
}

#[test]
fn a_lost_last_change_is_noticed_by_the_renewal() {
    let mut others = Others::default();
    told(&mut others, &changed(1, 1, "ann", &[1]));
    told(&mut others, &says(1, 1, Said::Same));
    assert_eq!(view(&others), (vec!["ann".into()], false));
    told(&mut others, &says(1, 2, Said::Same));
    assert_eq!(view(&others), (vec!["ann".into()], true));
    assert_eq!(told(&mut others, &page(1, 2, (0, 1), &[])), [("ann".into(), true, false)]);
    assert_eq!(view(&others), (vec![], false));
}

#[test]
fn a_lost_page_leaves_what_was_known() {
    let mut others = Others::default();
    told(&mut others, &says(1, 7, Said::Same));
    told(&mut others, &page(1, 7, (0, 3), &[("ann", 1)]));
    told(&mut others, &page(1, 7, (2, 3), &[("cid", 3)]));
    assert_eq!(view(&others), (vec![], true));
    // The next answer is of another version: pages of the two are not mixed.
    told(&mut others, &page(1, 8, (1, 3), &[("bob", 2)]));
    told(&mut others, &page(1, 7, (1, 3), &[("dan", 2)]));
    assert_eq!(view(&others), (vec![], true));
    told(&mut others, &page(1, 8, (0, 3), &[("ann", 1)]));
    told(&mut others, &page(1, 8, (2, 3), &[("cid", 3)]));
    assert_eq!(view(&others), (vec!["ann".into(), "bob".into(), "cid".into()], false));
}

#[test]
fn what_was_said_before_a_node_went_or_came_again_is_void() {
    let mut others = Others::default();
    told(&mut others, &changed(1, 1, "ann", &[1]));
    assert_eq!(told(&mut others, &says(1, 2, Said::Closed)), [("ann".into(), true, false)]);
    assert_eq!(told(&mut others, &changed(1, 2, "bob", &[2])), []);
    assert_eq!(told(&mut others, &page(1, 2, (0, 1), &[("ann", 1)])), []);
    assert_eq!(view(&others), (vec![], false));
    let again = |version, said| PresenceHint { opening: 2, ..says(1, version, said) };
    assert_eq!(
        told(&mut others, &again(1, Said::Changed(present("cid", &[1])))),
        [("cid".into(), false, true)]
    );
    assert_eq!(told(&mut others, &changed(1, 9, "ann", &[1])), []);
    assert_eq!(view(&others), (vec!["cid".into()], false));
    let third = PresenceHint { opening: 3, ..changed(1, 1, "dan", &[1]) };
    assert_eq!(told(&mut others, &third), [("cid".into(), true, false), ("dan".into(), false, true)]);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_silent_is_forgotten_and_whoever_says_anything_is_not() {
    let mut others = Others::default();
    told(&mut others, &changed(1, 1, "ann", &[1]));
    told(&mut others, &changed(2, 1, "ann", &[2]));
    told(&mut others, &changed(3, 1, "bob", &[3]));
    tokio::time::advance(FORGOTTEN_AFTER - Duration::from_millis(1)).await;
    assert!(others.forget_one(Instant::now()).is_none());
    told(&mut others, &says(2, 1, Said::Same));
    // A question is no sign that it was told everything.
    told(&mut others, &says(3, 1, Said::Ask(None)));
    tokio::time::advance(Duration::from_millis(1)).await;
    let mut gone = Vec::new();
    while let Some((id, shifts)) = others.forget_one(Instant::now()) {
        gone.push((id, shifts.len()));
    }
    assert_eq!(gone, [(node(1), 1), (node(3), 1)]);
    assert_eq!(others.presence(&user("ann"), None), Some(Presence::Online));
    assert_eq!(others.presence(&user("ann"), Some(node(2))), None);
    assert_eq!(others.presence(&user("bob"), None), None);
}

#[tokio::test(start_paused = true)]
async fn whoever_stands_still_does_not_take_others_for_silent() {
    let mut others = Others::default();
    told(&mut others, &changed(1, 1, "ann", &[1]));
    assert!(others.forget_one(Instant::now()).is_none());
    tokio::time::advance(Duration::from_secs(3600)).await;
    told(&mut others, &changed(2, 1, "bob", &[2]));
    assert!(others.forget_one(Instant::now()).is_none());
    // What comes is the time in which the renewals are read; whoever is silent then is forgotten.
    let mut seconds = 0;
    while view(&others).0.len() == 2 {
        tokio::time::advance(LOOK).await;
        others.forget_one(Instant::now());
        seconds += 1;
    }
    assert_eq!((seconds, view(&others).0), (FORGOTTEN_AFTER.as_secs() - 1, vec!["bob".to_owned()]));
    tokio::time::advance(LOOK).await;
    assert!(others.forget_one(Instant::now()).is_some(), "not an hour later");
    // Every look is late: who is silent is forgotten in the end.
    told(&mut others, &changed(3, 1, "cid", &[3]));
    let mut looks = 0;
    while others.forget_one(Instant::now()).is_none() {
        tokio::time::advance(2 * STOOD_STILL).await;
        looks += 1;
        assert!(looks < 20);
    }
}

#[test]
fn what_was_said_in_the_name_of_a_node_is_made_good() {
    let huge = (1 << 53) - 1;
    let forged = [
        says(1, huge, Said::Same),
        says(1, huge, Said::Closed),
        changed(1, huge, "ghost", &[9]),
        changed(1, huge, "ann", &[]),
        page(1, huge, (0, 1), &[("ghost", 9)]),
        page(1, huge, (0, 2), &[("ghost", 9)]),
    ];
    for lie in forged {
        let mut others = Others::default();
        told(&mut others, &changed(1, 1, "ann", &[1]));
        told(&mut others, &changed(1, 2, "bob", &[2]));
        told(&mut others, &lie);
        // Late ones are no proof.
        for version in [1, 1, huge, 2, 2] {
            told(&mut others, &says(1, version, Said::Same));
        }
        let before = view(&others).0;
        assert_eq!(told(&mut others, &says(1, 2, Said::Same)), [], "{lie:?}");
        assert_eq!(view(&others), (before, true), "nobody goes or comes before it is known: {lie:?}");
        told(&mut others, &page(1, 2, (0, 1), &[("ann", 1), ("bob", 2)]));
        assert_eq!(view(&others), (vec!["ann".into(), "bob".into()], false), "{lie:?}");
        told(&mut others, &changed(1, 3, "bob", &[]));
        assert_eq!(view(&others), (vec!["ann".into()], false), "{lie:?}");
    }
}

#[test]
fn nodes_and_users_are_bounded() {
    let mut others = Others::default();
    for n in 0..NODES as u128 {
        told(&mut others, &changed(n, 1, "ann", &[1]));
    }
    let now = Instant::now();
    assert_eq!(others.hear(&changed(999, 1, "ann", &[1]), now), Err(Beyond::Nodes));
    // Of those that are known more is taken.
    assert!(others.hear(&changed(0, 2, "bob", &[1]), now).is_ok());
    for n in 0..u64::try_from(USERS).unwrap() - 2 {
        others.hear(&changed(0, 3 + n, &format!("user-{n}"), &[1]), now).unwrap();
    }
    let version = u64::try_from(USERS).unwrap() + 1;
    assert_eq!(others.hear(&changed(0, version, "one too many", &[1]), now), Err(Beyond::Users));
    // It is not asked for again and again, and who is known may change.
    assert_eq!(others.incomplete().next(), None);
    assert_eq!(told(&mut others, &changed(0, version + 1, "bob", &[])), [("bob".into(), true, false)]);
    // What came out of order is remembered up to a bound only; all of it is asked for anyway.
    for n in 0..10_000 {
        told(&mut others, &changed(1, 10 + n, &format!("gone-{n}"), &[]));
    }
    let known = &others.nodes[&node(1)];
    assert_eq!((known.early.len(), known.gone.len(), known.upto), (EARLY, EARLY, 1));
}

#[test]
fn arrivals_are_those_of_all_nodes() {
    let mut others = Others::default();
    told(&mut others, &changed(1, 1, "ann", &[3, 9]));
    told(&mut others, &changed(2, 1, "ann", &[5]));
    let mut all: Vec<(u64, NodeId)> = others.arrivals(&user("ann")).collect();
    all.sort();
    assert_eq!(all, [(3, node(1)), (5, node(2)), (9, node(1))]);
    assert_eq!(others.last_arrival(), 9);
}
