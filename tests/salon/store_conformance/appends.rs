//! Atomicity, order and fences.

use std::sync::Arc;

use salon::{
    domain::{event::DirectoryChange, room::Visibility},
    ids::{MessageId, Namespace, RequestId, RoomId, Seq},
    store::{Append, Direction, ErrorKind, Head, Outcome, Page, RoomFilter, Store},
};
use tokio::task::JoinSet;

use super::support::{
    appended, assert_no_holes, created, creation, fact, keyed, log, message, next_id, outcome, plain, room,
    seqs, texts, user,
};

/// An append with a part of every kind.
fn rich() -> Append {
    let directory = vec![
        DirectoryChange::Joined(user("ann")),
        DirectoryChange::Room { visibility: Visibility::Private, created_by: Some(user("bob")) },
        DirectoryChange::RunStarted(MessageId(next_id())),
    ];
    let records = vec![message("ann", "one"), fact("two"), message("ann", "three")];
    keyed(Append { directory, ..plain(records) }, "ann", "r1", 7)
}

pub async fn a_refused_append_leaves_nothing(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let before = log(&store, &room).await;
    let refused = outcome(&store, &room, Append { fence: Some(Seq(9)), ..rich() }).await;
    assert_eq!(refused, Outcome::FenceMoved(Seq(1)));

    assert_eq!(log(&store, &room).await, before);
    assert_eq!(store.head(&room).await.unwrap(), Some(Head { seq: Seq(1), fence: Seq(1) }));
    let request = RequestId::parse("r1").unwrap();
    assert_eq!(store.request(&room, &user("ann"), &request).await.unwrap(), None);
    assert_eq!(
        store.list_rooms(RoomFilter::Of(Namespace::default(), user("ann")), u64::MAX, 9).await.unwrap(),
        []
    );
    assert_eq!(
        store.list_rooms(RoomFilter::Public(Namespace::default()), u64::MAX, 9).await.unwrap().len(),
        1
    );
    assert_eq!(store.open_runs().await.unwrap(), []);
    assert_eq!(store.unread(&room, &user("zoe"), Seq::ZERO, 9).await.unwrap(), 0);
}

pub async fn an_append_brings_all_of_its_parts(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let append = Append { fence: Some(Seq(1)), ..rich() };
    let first_id = append.records[0].event_id;
    let receipt = appended(&store, &room, append).await;
    assert_eq!((receipt.first, receipt.last, receipt.event_id), (Seq(2), Seq(4), first_id));

    assert_eq!(texts(&log(&store, &room).await), ["created", "one", "two", "three"]);
    assert_eq!(store.head(&room).await.unwrap(), Some(Head { seq: Seq(4), fence: Seq(3) }));
    let request = RequestId::parse("r1").unwrap();
    assert_eq!(store.request(&room, &user("ann"), &request).await.unwrap(), Some((receipt, 7)));
    for member in ["ann", "bob"] {
        let listed =
            store.list_rooms(RoomFilter::Of(Namespace::default(), user(member)), u64::MAX, 9).await.unwrap();
        assert_eq!(listed.len(), 1, "{member}");
    }
    assert_eq!(store.list_rooms(RoomFilter::Public(Namespace::default()), u64::MAX, 9).await.unwrap(), []);
    assert_eq!(store.open_runs().await.unwrap().len(), 1);
}

pub async fn appends_of_one_call_are_carried_out_each_for_itself(store: Arc<dyn Store>) {
    let room = room("r");
    let outcomes = store
        .append(
            &room,
            vec![
                plain(vec![fact("too early")]),
                creation(Visibility::Public, None),
                plain(vec![message("ann", "a"), fact("b")]),
                Append { fence: Some(Seq(1)), ..plain(vec![fact("stale")]) },
                Append { fence: Some(Seq(3)), ..plain(vec![fact("c")]) },
            ],
        )
        .await
        .unwrap();
    assert_eq!(outcomes.len(), 5);
    assert_eq!(outcomes[0], Outcome::FenceMoved(Seq::ZERO));
    assert!(matches!(outcomes[1], Outcome::Appended(_)));
    assert!(matches!(outcomes[2], Outcome::Appended(receipt) if receipt.last == Seq(3)));
    assert_eq!(outcomes[3], Outcome::FenceMoved(Seq(3)));
    assert!(matches!(outcomes[4], Outcome::Appended(receipt) if receipt.first == Seq(4)));
    assert_eq!(texts(&log(&store, &room).await), ["created", "a", "b", "c"]);
    assert_eq!(store.append(&room, Vec::new()).await.unwrap(), []);
}

pub async fn positions_have_no_holes_with_64_appenders_to_one_room(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let mut appenders = JoinSet::new();
    for appender in 0..64 {
        let (store, room) = (Arc::clone(&store), room.clone());
        appenders.spawn(async move {
            let mut last = Seq::ZERO;
            for n in 0..8 {
                let text = format!("{appender} {n}");
                let records = vec![message("ann", &text), message("ann", &text)];
                let receipt = appended(&store, &room, plain(records)).await;
                assert_eq!(receipt.last, receipt.first.next());
                assert!(receipt.first > last, "what was acknowledged before is before");
                last = receipt.last;
            }
        });
    }
    while let Some(appender) = appenders.join_next().await {
        appender.unwrap();
    }
    let records = log(&store, &room).await;
    assert_no_holes(&records, 1 + 64 * 8 * 2);
    for pair in records[1..].chunks(2) {
        assert_eq!(pair[0].public, pair[1].public, "one append's records are one behind the other");
    }
}

pub async fn positions_have_no_holes_over_many_rooms(store: Arc<dyn Store>) {
    let mut appenders = JoinSet::new();
    for appender in 0..64 {
        let store = Arc::clone(&store);
        appenders.spawn(async move {
            let room = room(&format!("r{}", appender % 16));
            // All four appenders of a room try; one creates it.
            outcome(&store, &room, creation(Visibility::Public, None)).await;
            for _ in 0..8 {
                appended(&store, &room, plain(vec![message("ann", room.as_str())])).await;
            }
        });
    }
    while let Some(appender) = appenders.join_next().await {
        appender.unwrap();
    }
    for n in 0..16 {
        let room = room(&format!("r{n}"));
        let records = log(&store, &room).await;
        assert_no_holes(&records, 1 + 4 * 8);
        assert!(records[1..].iter().all(|record| record.public == room.as_str()), "nothing strayed");
    }
    assert_eq!(
        store.list_rooms(RoomFilter::Public(Namespace::default()), u64::MAX, 99).await.unwrap().len(),
        16
    );
}

pub async fn the_fence_moves_with_the_records_that_move_it(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let head = |seq, fence| Some(Head { seq: Seq(seq), fence: Seq(fence) });
    appended(&store, &room, plain(vec![message("ann", "a")])).await;
    assert_eq!(store.head(&room).await.unwrap(), head(2, 1));
    appended(&store, &room, plain(vec![fact("b"), message("ann", "c")])).await;
    assert_eq!(store.head(&room).await.unwrap(), head(4, 3));
}

pub async fn an_append_with_a_fence_needs_that_fence(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let fenced = |fence| Append { fence: Some(Seq(fence)), ..plain(vec![fact("x")]) };
    appended(&store, &room, plain(vec![message("ann", "a")])).await;
    appended(&store, &room, fenced(1)).await;
    assert_eq!(outcome(&store, &room, fenced(1)).await, Outcome::FenceMoved(Seq(3)));
    assert_eq!(outcome(&store, &room, fenced(2)).await, Outcome::FenceMoved(Seq(3)));
    assert_eq!(outcome(&store, &room, fenced(4)).await, Outcome::FenceMoved(Seq(3)));
    appended(&store, &room, plain(vec![fact("without a fence")])).await;
    appended(&store, &room, fenced(4)).await;
    assert_eq!(seqs(&log(&store, &room).await), [1, 2, 3, 4, 5]);
}

/// Sends 32 copies of an append at once; returns the answers.
async fn at_once(store: &Arc<dyn Store>, room: &RoomId, append: impl Fn() -> Append) -> Vec<Outcome> {
    let mut calls = JoinSet::new();
    for _ in 0..32 {
        let (store, room, append) = (Arc::clone(store), room.clone(), append());
        calls.spawn(async move { outcome(&store, &room, append).await });
    }
    calls.join_all().await
}

pub async fn of_many_appends_with_one_fence_one_wins(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let append = || Append { fence: Some(Seq(1)), ..plain(vec![fact("x")]) };
    let outcomes = at_once(&store, &room, append).await;
    let lost = outcomes.iter().filter(|outcome| **outcome == Outcome::FenceMoved(Seq(2))).count();
    assert_eq!(lost, 31);
    assert_eq!(log(&store, &room).await.len(), 2);
}

pub async fn a_room_is_created_once(store: Arc<dyn Store>) {
    let room = room("r");
    let outcomes = at_once(&store, &room, || creation(Visibility::Public, None)).await;
    let lost = outcomes.iter().filter(|outcome| **outcome == Outcome::FenceMoved(Seq(1))).count();
    assert_eq!(lost, 31);
    assert_eq!(log(&store, &room).await.len(), 1);
    assert_eq!(
        store.list_rooms(RoomFilter::Public(Namespace::default()), u64::MAX, 9).await.unwrap().len(),
        1
    );
}

pub async fn a_creation_moves_the_fence_whatever_it_says(store: Arc<dyn Store>) {
    let room = room("r");
    let begin = || Append { records: vec![message("ann", "a")], ..creation(Visibility::Public, None) };
    appended(&store, &room, begin()).await;
    assert_eq!(store.head(&room).await.unwrap(), Some(Head { seq: Seq(1), fence: Seq(1) }));
    assert_eq!(outcome(&store, &room, begin()).await, Outcome::FenceMoved(Seq(1)));
}

pub async fn an_unknown_room_takes_no_append(store: Arc<dyn Store>) {
    let room = room("r");
    for fence in [None, Some(Seq(1)), Some(Seq(u64::MAX))] {
        let append = Append { fence, ..rich() };
        assert_eq!(outcome(&store, &room, append).await, Outcome::FenceMoved(Seq::ZERO), "{fence:?}");
    }
    assert_eq!(store.head(&room).await.unwrap(), None);
    assert_eq!(store.open_runs().await.unwrap(), []);
    assert_eq!(
        store.list_rooms(RoomFilter::Of(Namespace::default(), user("ann")), u64::MAX, 9).await.unwrap(),
        []
    );
}

pub async fn an_append_of_many_records_and_bytes_is_whole(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    // More messages than any backend writes one by one, each with a subject; and one event of the largest size.
    let records: Vec<_> = (0..300).map(|n| message("ann", &n.to_string())).collect();
    let subjects: Vec<_> = records.iter().map(|record| record.subject.unwrap()).collect();
    let many = keyed(plain(records), "ann", "many", 1);
    let receipt = appended(&store, &room, many.clone()).await;
    assert_eq!((receipt.first, receipt.last), (Seq(2), Seq(301)));
    let large = message("ann", &"a large one ".repeat(90_000));
    let subject = large.subject.unwrap();
    appended(&store, &room, plain(vec![fact("before"), large.clone(), fact("behind")])).await;
    appended(&store, &room, plain(vec![message("bob", "small")])).await;

    assert_eq!(outcome(&store, &room, many).await, Outcome::Duplicate(receipt));
    let records = log(&store, &room).await;
    assert_no_holes(&records, 305);
    assert_eq!(records[302].public, large.public);
    let about = store.about(&room, &[subjects[299], subject, subjects[0]]).await.unwrap();
    assert_eq!(seqs(&about), [2, 301, 303]);
    assert_eq!(store.unread(&room, &user("ann"), Seq::ZERO, 999).await.unwrap(), 1);
    assert_eq!(store.unread(&room, &user("bob"), Seq(250), 999).await.unwrap(), 52);
    let newest = store.messages(&room, Direction::Before(Seq(u64::MAX)), 4).await.unwrap();
    assert_eq!(seqs(&newest), [300, 301, 303, 305]);
    let from_the_middle = store.read(&room, Seq(150), Page { events: 3, bytes: usize::MAX }).await.unwrap();
    assert_eq!(seqs(&from_the_middle), [151, 152, 153]);
}

pub async fn a_call_of_many_appends_is_in_their_order(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let calls = (0..500_usize).map(|n| {
        let text = n.to_string();
        let directory = vec![DirectoryChange::Joined(user(&format!("user {}", n % 7)))];
        let records = vec![message("ann", &text), fact(&"x".repeat(n))];
        keyed(Append { directory, ..plain(records) }, "ann", &text, 1)
    });
    let outcomes = store.append(&room, calls.collect()).await.unwrap();
    let mut last = Seq(1);
    for (n, outcome) in outcomes.iter().enumerate() {
        let Outcome::Appended(receipt) = outcome else { panic!("{n}: {outcome:?}") };
        assert_eq!((receipt.first, receipt.last), (last.next(), last.next().next()), "{n}");
        last = receipt.last;
    }
    let records = log(&store, &room).await;
    assert_no_holes(&records, 1001);
    let said: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    assert!(texts(&records)[1..].iter().step_by(2).eq(&said));
    assert_eq!(
        store
            .list_rooms(RoomFilter::Of(Namespace::default(), user("user 6")), u64::MAX, 9)
            .await
            .unwrap()
            .len(),
        1
    );
}

pub async fn an_append_of_nothing_is_refused(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let appends = vec![plain(vec![fact("a")]), plain(Vec::new())];
    let refused = store.append(&room, appends).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unusable);
    assert_eq!(log(&store, &room).await.len(), 1, "it is refused before anything is appended");
}
