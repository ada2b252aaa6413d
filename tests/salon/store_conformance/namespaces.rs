//! Two namespaces with rooms and users of the same names: what is read of one never has anything of the other.

use std::sync::Arc;

use salon::{
    domain::{event::DirectoryChange, room::Visibility},
    ids::{MessageId, Namespace, RequestId, RoomId, Seq},
    store::{
        Append, Direction, Head, NamespaceUsage, OpenRun, RoomFilter, Snapshot, Store,
        inventory::{Inventory, Item},
    },
};

use super::support::{
    appended, creation, fact, keyed, log, message, next_id, outcome, plain, room, seqs, texts, user,
};

/// The default one, one, and one whose name begins as that of the other.
fn namespaces() -> [Namespace; 3] {
    [Namespace::default(), Namespace::parse("acme").unwrap(), Namespace::parse("acme-2").unwrap()]
}

fn within(namespace: &Namespace, name: &str) -> RoomId {
    room(name).within(namespace)
}

async fn listed(store: &Arc<dyn Store>, filter: RoomFilter) -> Vec<RoomId> {
    let listed = store.list_rooms(filter, u64::MAX, 1_000).await.unwrap();
    assert!(listed.is_sorted_by(|a, b| a.position > b.position), "newest first, each once");
    listed.into_iter().map(|listed| listed.room).collect()
}

fn with(changes: Vec<DirectoryChange>) -> Append {
    Append { directory: changes, ..plain(vec![fact("changed")]) }
}

pub async fn lists_are_those_of_one_namespace(store: Arc<dyn Store>) {
    let all = namespaces();
    for namespace in &all {
        for name in ["first", "second"] {
            appended(&store, &within(namespace, name), creation(Visibility::Public, Some("ann"))).await;
        }
        let hidden = within(namespace, "hidden");
        appended(&store, &hidden, creation(Visibility::Private, None)).await;
        appended(&store, &hidden, with(vec![DirectoryChange::Joined(user("bob"))])).await;
    }
    // One of them goes on alone.
    let own = within(&all[1], "own");
    appended(&store, &own, creation(Visibility::Public, Some("bob"))).await;
    appended(&store, &own, with(vec![DirectoryChange::Joined(user("ann"))])).await;
    appended(&store, &within(&all[1], "hidden"), with(vec![DirectoryChange::Left(user("bob"))])).await;

    for namespace in &all {
        let is_alone = *namespace == all[1];
        let rooms = |names: &[&str]| names.iter().map(|name| within(namespace, name)).collect::<Vec<_>>();
        let public = listed(&store, RoomFilter::Public(namespace.clone())).await;
        let of = async |name| listed(&store, RoomFilter::Of(namespace.clone(), user(name))).await;
        if is_alone {
            assert_eq!(public, rooms(&["own", "second", "first"]));
            assert_eq!(of("ann").await, rooms(&["own", "second", "first"]));
            assert_eq!(of("bob").await, rooms(&["own"]));
        } else {
            assert_eq!(public, rooms(&["second", "first"]));
            assert_eq!(of("ann").await, rooms(&["second", "first"]));
            assert_eq!(of("bob").await, rooms(&["hidden"]));
        }
        assert!(of("zoe").await.is_empty());
    }
    let nobody = Namespace::parse("nobody").unwrap();
    assert!(listed(&store, RoomFilter::Public(nobody.clone())).await.is_empty());
    assert!(listed(&store, RoomFilter::Of(nobody, user("ann"))).await.is_empty());
}

pub async fn a_room_changes_the_lists_of_its_own_namespace(store: Arc<dyn Store>) {
    let [here, there, _] = namespaces();
    for namespace in [&here, &there] {
        appended(&store, &within(namespace, "r"), creation(Visibility::Public, Some("ann"))).await;
    }
    let change = |visibility, created_by| DirectoryChange::Room { visibility, created_by };
    appended(&store, &within(&there, "r"), with(vec![change(Visibility::Private, Some(user("bob")))])).await;
    assert_eq!(listed(&store, RoomFilter::Public(here.clone())).await, [within(&here, "r")]);
    assert!(listed(&store, RoomFilter::Public(there.clone())).await.is_empty());
    assert_eq!(listed(&store, RoomFilter::Of(here.clone(), user("ann"))).await, [within(&here, "r")]);
    assert!(listed(&store, RoomFilter::Of(there.clone(), user("ann"))).await.is_empty());
    assert!(listed(&store, RoomFilter::Of(here, user("bob"))).await.is_empty());
    assert_eq!(listed(&store, RoomFilter::Of(there.clone(), user("bob"))).await, [within(&there, "r")]);
}

pub async fn a_list_of_a_small_namespace_is_paged_among_many_rooms(store: Arc<dyn Store>) {
    let [here, there, _] = namespaces();
    for n in 0..20 {
        appended(&store, &room(&format!("r{n}")), creation(Visibility::Public, Some("ann"))).await;
        if n % 5 == 0 {
            let small = within(&there, &format!("r{n}"));
            appended(&store, &small, creation(Visibility::Public, Some("ann"))).await;
        }
    }
    for filter in [RoomFilter::Public(there.clone()), RoomFilter::Of(there.clone(), user("ann"))] {
        let (mut found, mut before) = (Vec::new(), u64::MAX);
        loop {
            let page = store.list_rooms(filter.clone(), before, 3).await.unwrap();
            let Some(last) = page.last() else { break };
            before = last.position;
            found.extend(page.into_iter().map(|listed| listed.room));
        }
        assert_eq!(found, [15, 10, 5, 0].map(|n| within(&there, &format!("r{n}"))), "{filter:?}");
    }
    assert_eq!(listed(&store, RoomFilter::Public(here)).await.len(), 20);
}

pub async fn rooms_of_one_name_share_nothing(store: Arc<dyn Store>) {
    let all = namespaces();
    let run = MessageId(next_id());
    let subject = next_id();
    for (n, namespace) in (1_u64..).zip(&all) {
        let room = within(namespace, "r");
        assert_eq!(store.head(&room).await.unwrap(), None, "it is not there, whatever others are");
        assert_eq!(store.advance_cursor(&room, &user("ann"), Seq(9)).await.unwrap(), Seq::ZERO);
        appended(&store, &room, creation(Visibility::Public, Some("ann"))).await;
        for m in 0..n {
            let mut said = message("ann", &format!("{namespace} {m}"));
            said.subject = Some(subject);
            appended(&store, &room, keyed(plain(vec![said]), "ann", &format!("key{m}"), n)).await;
        }
        appended(&store, &room, with(vec![DirectoryChange::RunStarted(run)])).await;
        let snapshot = Snapshot { seq: Seq(n), version: 1, state: namespace.to_string().into() };
        store.save_snapshot(&room, snapshot).await.unwrap();
        assert_eq!(store.advance_cursor(&room, &user("ann"), Seq(n)).await.unwrap(), Seq(n));
    }
    let mut open = store.open_runs().await.unwrap();
    open.sort();
    for (n, namespace) in (1_u64..).zip(&all) {
        let room = within(namespace, "r");
        let own: Vec<String> = (0..n).map(|m| format!("{namespace} {m}")).collect();
        assert_eq!(store.head(&room).await.unwrap(), Some(Head { seq: Seq(n + 2), fence: Seq(n + 2) }));
        assert_eq!(seqs(&log(&store, &room).await), (1..=n + 2).collect::<Vec<_>>());
        assert_eq!(texts(&store.messages(&room, Direction::After(Seq::ZERO), 99).await.unwrap()), own);
        assert_eq!(texts(&store.about(&room, &[subject]).await.unwrap()), own);
        assert_eq!(u64::from(store.unread(&room, &user("bob"), Seq::ZERO, 99).await.unwrap()), n);
        assert_eq!(store.unread(&room, &user("ann"), Seq::ZERO, 99).await.unwrap(), 0);
        assert_eq!(store.cursor(&room, &user("ann")).await.unwrap(), Seq(n));
        let snapshot = store.snapshot(&room).await.unwrap().unwrap();
        assert_eq!((snapshot.seq, &*snapshot.state), (Seq(n), namespace.as_str().as_bytes()));
        let last = RequestId::parse(&format!("key{}", n - 1)).unwrap();
        assert_eq!(store.request(&room, &user("ann"), &last).await.unwrap().map(|found| found.1), Some(n));
        let next = RequestId::parse(&format!("key{n}")).unwrap();
        assert_eq!(store.request(&room, &user("ann"), &next).await.unwrap(), None);
        assert!(open.iter().any(|OpenRun { room: of, run: which, .. }| *of == room && *which == run));
    }
    assert_eq!(open.len(), all.len());
}

/// All of it, by pages of two.
async fn kept(store: &Arc<dyn Store>, of: Inventory) -> Vec<Item> {
    let mut all: Vec<Item> = Vec::new();
    loop {
        let page = store.inventory(&of, all.last(), 2).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

pub async fn what_is_kept_is_listed_with_its_namespace(store: Arc<dyn Store>) {
    let all = namespaces();
    for (n, namespace) in all.iter().enumerate() {
        let visibility = if n == 0 { Visibility::Private } else { Visibility::Public };
        let room = within(namespace, "r");
        appended(&store, &room, creation(visibility, Some("ann"))).await;
        let joined = with(vec![DirectoryChange::Joined(user("ann")), DirectoryChange::Joined(user("bob"))]);
        appended(&store, &room, joined).await;
        appended(&store, &room, keyed(plain(vec![fact("x")]), &format!("ann{n}"), "key", 1)).await;
        store.advance_cursor(&room, &user(&format!("ann{n}")), Seq(1)).await.unwrap();
    }
    let rooms = kept(&store, Inventory::Rooms).await;
    let rooms: Vec<_> = rooms
        .into_iter()
        .map(|item| match item {
            Item::Room(listed) => (listed.room, listed.visibility, listed.created_by),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = |n: usize, namespace| {
        let visibility = if n == 0 { Visibility::Private } else { Visibility::Public };
        (within(namespace, "r"), visibility, Some(user("ann")))
    };
    assert_eq!(rooms, all.iter().enumerate().map(|(n, of)| expected(n, of)).collect::<Vec<_>>());

    let mut members: Vec<_> = kept(&store, Inventory::Members)
        .await
        .into_iter()
        .map(|item| match item {
            Item::Member { user, room } => (room.namespace(), user),
            other => panic!("{other:?}"),
        })
        .collect();
    members.sort();
    let mut expected: Vec<_> =
        all.iter().flat_map(|of| ["ann", "bob"].map(|name| (of.clone(), user(name)))).collect();
    expected.sort();
    assert_eq!(members, expected);

    for (n, namespace) in all.iter().enumerate() {
        let room = within(namespace, "r");
        let own = user(&format!("ann{n}"));
        let requests = kept(&store, Inventory::Requests(room.clone())).await;
        assert!(matches!(&requests[..], [Item::Request(kept)] if kept.sender == own), "{requests:?}");
        let cursors = kept(&store, Inventory::Cursors(room)).await;
        assert!(matches!(&cursors[..], [Item::Cursor { user, .. }] if *user == own), "{cursors:?}");
    }
    assert!(kept(&store, Inventory::Strays).await.is_empty());
}

async fn members(store: &Arc<dyn Store>, namespace: &Namespace) -> u64 {
    store.namespace_usage(namespace).await.unwrap().members
}

pub async fn memberships_are_counted_as_they_begin_and_end(store: Arc<dyn Store>) {
    let [here, there, nobody] = namespaces();
    let joined = |name: &str| DirectoryChange::Joined(user(name));
    let left = |name: &str| DirectoryChange::Left(user(name));
    // The one who creates a room is no member by that.
    for namespace in [&here, &there] {
        for name in ["r", "s"] {
            appended(&store, &within(namespace, name), creation(Visibility::Public, Some("ann"))).await;
        }
        assert_eq!(members(&store, namespace).await, 0);
    }
    let (r, s) = (within(&there, "r"), within(&there, "s"));
    appended(&store, &r, with(vec![joined("ann"), joined("bob")])).await;
    appended(&store, &s, with(vec![joined("ann")])).await;
    assert_eq!(members(&store, &there).await, 3, "a member of two rooms counts twice");

    // What is not appended counts nothing: a repeat, also within one call, and what is refused.
    let key = |append| keyed(append, "eve", "key", 1);
    let calls = vec![key(with(vec![joined("eve")])), key(with(vec![joined("eve")]))];
    store.append(&r, calls).await.unwrap();
    outcome(&store, &r, key(with(vec![joined("eve")]))).await;
    outcome(&store, &r, keyed(with(vec![left("eve")]), "eve", "key", 2)).await;
    outcome(&store, &r, Append { fence: Some(Seq(1)), ..with(vec![joined("zoe")]) }).await;
    outcome(&store, &within(&nobody, "none"), with(vec![joined("zoe")])).await;
    assert_eq!(members(&store, &there).await, 4);

    // Who leaves and comes back is one member; all of it may be in one append, or in one call.
    appended(&store, &r, with(vec![left("bob")])).await;
    assert_eq!(members(&store, &there).await, 3);
    appended(&store, &r, with(vec![joined("bob"), left("bob"), joined("bob")])).await;
    assert_eq!(members(&store, &there).await, 4);
    store.append(&r, vec![with(vec![left("bob")]), with(vec![left("ann")])]).await.unwrap();
    assert_eq!(members(&store, &there).await, 2);
    // A room may begin with members, and all of them may go.
    let with_members = Append {
        directory: [creation(Visibility::Public, None).directory, vec![joined("ann")]].concat(),
        ..creation(Visibility::Public, None)
    };
    appended(&store, &within(&there, "t"), with_members).await;
    assert_eq!(members(&store, &there).await, 3);
    for (room, name) in [(&r, "eve"), (&s, "ann"), (&within(&there, "t"), "ann")] {
        appended(&store, room, with(vec![left(name)])).await;
    }
    assert_eq!(members(&store, &there).await, 0);
    assert_eq!([members(&store, &here).await, members(&store, &nobody).await], [0, 0]);
}

async fn usage(store: &Arc<dyn Store>, namespace: &Namespace) -> (u64, u64) {
    let NamespaceUsage { rooms, bytes, .. } = store.namespace_usage(namespace).await.unwrap();
    (rooms, bytes)
}

pub async fn what_a_namespace_takes_is_counted_as_it_is_appended(store: Arc<dyn Store>) {
    let [here, there, nobody] = namespaces();
    assert_eq!(usage(&store, &here).await, (0, 0));
    let bytes = |append: &Append| {
        append.records.iter().map(|r| (r.public.len() + r.private.len()) as u64).sum::<u64>()
    };
    let mut expected = [(0, 0), (0, 0)];
    for n in 0..3_u64 {
        for (namespace, expected) in [&here, &there].into_iter().zip(&mut expected) {
            let room = within(namespace, &format!("r{n}"));
            let begin = creation(Visibility::Public, None);
            *expected = (expected.0 + 1, expected.1 + bytes(&begin));
            appended(&store, &room, begin).await;
        }
        let large = keyed(plain(vec![message("ann", &"x".repeat(100_000)), fact("y")]), "ann", "key", 1);
        expected[1].1 += bytes(&large);
        let room = within(&there, &format!("r{n}"));
        appended(&store, &room, large.clone()).await;
        // What is not appended takes nothing: a repeat, and what is refused.
        outcome(&store, &room, large).await;
        outcome(&store, &room, creation(Visibility::Public, None)).await;
        outcome(&store, &within(&nobody, "none"), plain(vec![fact("x")])).await;
        assert_eq!([usage(&store, &here).await, usage(&store, &there).await], expected, "{n}");
    }
    assert_eq!(usage(&store, &nobody).await, (0, 0));
}
