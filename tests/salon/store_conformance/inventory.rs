//! Lists of all that a store keeps, for backups and checks.

use std::sync::Arc;

use salon::{
    clock::Timestamp,
    domain::{event::DirectoryChange, room::Visibility},
    ids::{MessageId, NodeId, RequestId, ReservationId, Seq},
    store::{
        Append, Idempotency, Outcome, Store,
        inventory::{Inventory, Item},
        ledger::{Account, Balance, Line, Reservation},
    },
};

use super::support::{appended, creation, fact, keyed, message, next_id, plain, room, user};

/// All of it, by pages of two.
async fn listed(store: &Arc<dyn Store>, of: Inventory) -> Vec<Item> {
    let mut all: Vec<Item> = Vec::new();
    loop {
        let page = store.inventory(&of, all.last(), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

pub async fn rooms_are_listed_in_the_order_of_their_creation(store: Arc<dyn Store>) {
    assert!(listed(&store, Inventory::Rooms).await.is_empty());
    let all = [
        ("c", Visibility::Public, Some("ann")),
        ("a", Visibility::Private, None),
        ("b", Visibility::Public, None),
    ];
    for (name, visibility, creator) in all {
        appended(&store, &room(name), creation(visibility, creator)).await;
    }
    let rooms = listed(&store, Inventory::Rooms).await;
    let rooms: Vec<_> = rooms
        .into_iter()
        .map(|item| match item {
            Item::Room(listed) => (listed.room, listed.visibility, listed.created_by),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = all.map(|(name, visibility, creator)| (room(name), visibility, creator.map(user)));
    assert_eq!(rooms, expected);
}

pub async fn keys_and_cursors_are_listed_for_their_room(store: Arc<dyn Store>) {
    for name in ["r", "other"] {
        appended(&store, &room(name), creation(Visibility::Public, None)).await;
    }
    let mut expected = Vec::new();
    for (number, (sender, id)) in
        [("bob", "1"), ("ann", "2"), ("ann", "1"), ("Zoë 🦊", "é")].into_iter().enumerate()
    {
        let idempotency = Idempotency {
            sender: user(sender),
            request_id: RequestId::parse(id).unwrap(),
            body_hash: u64::MAX - 7,
        };
        let append =
            Append { idempotency: Some(idempotency.clone()), ..plain(vec![message(sender, "x"), fact("y")]) };
        let receipt = match store.append(&room("r"), vec![append]).await.unwrap()[0] {
            Outcome::Appended(receipt) => receipt,
            other => panic!("{other:?}"),
        };
        assert_eq!(receipt.first, Seq(2 + 2 * number as u64));
        expected.push((sender.to_owned(), id.to_owned(), receipt, idempotency.body_hash));
        store.advance_cursor(&room("r"), &user(sender), Seq(number as u64 + 1)).await.unwrap();
    }
    let mut kept: Vec<_> = listed(&store, Inventory::Requests(room("r")))
        .await
        .into_iter()
        .map(|item| match item {
            Item::Request(kept) => {
                (kept.sender.to_string(), kept.request_id.to_string(), kept.receipt, kept.body_hash)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    kept.sort_by_key(|(_, _, receipt, _)| receipt.first);
    assert_eq!(kept, expected);
    let mut cursors: Vec<_> = listed(&store, Inventory::Cursors(room("r")))
        .await
        .into_iter()
        .map(|item| match item {
            Item::Cursor { user, seq } => (seq.0, user.to_string()),
            other => panic!("{other:?}"),
        })
        .collect();
    cursors.sort_unstable();
    assert_eq!(cursors, [(1, "bob"), (3, "ann"), (4, "Zoë 🦊")].map(|(seq, user)| (seq, user.to_owned())));
    for name in ["other", "unknown"] {
        assert!(listed(&store, Inventory::Requests(room(name))).await.is_empty());
        assert!(listed(&store, Inventory::Cursors(room(name))).await.is_empty());
    }
}

pub async fn the_longest_names_are_listed_as_they_are(store: Arc<dyn Store>) {
    let longest = "🦊".repeat(128);
    let here = room(&"r".repeat(64));
    appended(&store, &here, creation(Visibility::Private, Some(&longest))).await;
    // What is as long together, and another pair of names.
    let mut names = vec![(longest.clone(), longest.clone())];
    names.push((longest.clone(), "🦊".repeat(127)));
    names.push(("🦊".repeat(127), longest.clone()));
    for (sender, id) in &names {
        let joined = DirectoryChange::Joined(user(sender));
        let append = keyed(plain(vec![message(sender, "x")]), sender, id, 7);
        appended(&store, &here, Append { directory: vec![joined], ..append }).await;
        store.advance_cursor(&here, &user(sender), Seq(1)).await.unwrap();
    }
    names.sort();
    let mut requests = Vec::new();
    for item in listed(&store, Inventory::Requests(here.clone())).await {
        let Item::Request(kept) = item else { panic!("{item:?}") };
        let found = store.request(&here, &kept.sender, &kept.request_id).await.unwrap();
        assert_eq!(found, Some((kept.receipt, kept.body_hash)));
        requests.push((kept.sender.to_string(), kept.request_id.to_string()));
    }
    requests.sort();
    assert_eq!(requests, names);
    assert_eq!(listed(&store, Inventory::Cursors(here)).await.len(), 2);
    assert_eq!(listed(&store, Inventory::Members).await.len(), 2);
    assert_eq!(listed(&store, Inventory::Rooms).await.len(), 1);
}

pub async fn members_are_listed_with_their_rooms(store: Arc<dyn Store>) {
    for name in ["a", "b"] {
        let members = ["bob", "ann", "eve"].map(|name| DirectoryChange::Joined(user(name)));
        appended(&store, &room(name), creation(Visibility::Public, None)).await;
        let append = Append { directory: members.into(), ..plain(vec![fact("joined")]) };
        appended(&store, &room(name), append).await;
    }
    let gone = Append { directory: vec![DirectoryChange::Left(user("bob"))], ..plain(vec![fact("left")]) };
    appended(&store, &room("a"), gone).await;
    let mut members: Vec<_> = listed(&store, Inventory::Members)
        .await
        .into_iter()
        .map(|item| match item {
            Item::Member { user, room } => format!("{user} in {room}"),
            other => panic!("{other:?}"),
        })
        .collect();
    members.sort_unstable();
    assert_eq!(members, ["ann in a", "ann in b", "bob in b", "eve in a", "eve in b"]);
}

pub async fn accounts_are_listed_with_what_they_hold(store: Arc<dyn Store>) {
    let account = |key: &str, begins| Account { key: key.into(), begins: Timestamp(begins) };
    let all = [account("a", 0), account("a", 60_000), account("b", 0)];
    let lines =
        all.clone().map(|account| Line { account, amount: 5, limit: None, keep_until: Timestamp(99) });
    let reservation = |lines| Reservation {
        id: ReservationId(next_id()),
        run: MessageId(next_id()),
        at: Timestamp(1),
        lines,
        node: NodeId::NOBODY,
    };
    let settled = reservation(lines.to_vec());
    store.reserve(settled.clone()).await.unwrap();
    assert!(store.settle(settled.id, vec![1, 2, 3]).await.unwrap());
    store.reserve(reservation(lines[..1].to_vec())).await.unwrap();
    let mut accounts: Vec<_> = listed(&store, Inventory::Accounts)
        .await
        .into_iter()
        .map(|item| match item {
            Item::Account(kept) => {
                assert_eq!(kept.keep_until, Timestamp(99));
                (kept.account, kept.balance)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    accounts.sort_by_key(|(account, _)| account.clone());
    let held = [(1, 5), (2, 0), (3, 0)].map(|(spent, reserved)| Balance { spent, reserved });
    assert_eq!(accounts, all.into_iter().zip(held).collect::<Vec<_>>());
}
