//! Reading logs.

use std::sync::Arc;

use bytes::Bytes;
use salon::{
    clock::Timestamp,
    domain::event::Kind,
    ids::Seq,
    store::{Direction, NewRecord, Page, Record, Store},
};

use super::support::{ALL, appended, created, fact, log, message, next_id, plain, room, seqs, texts, user};

pub async fn a_record_comes_back_as_it_was(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let new = [
        NewRecord { kind: Kind::Membership, at: Timestamp(i64::MAX), ..fact("a") },
        NewRecord { public: Bytes::new(), private: Bytes::new(), at: Timestamp(-1), ..message("ann", "") },
        NewRecord { public: Bytes::from_static(&[0, 255, 10]), ..fact("") },
    ];
    appended(&store, &room, plain(new.to_vec())).await;
    let want: Vec<Record> = new
        .into_iter()
        .zip(2..)
        .map(|(new, seq)| Record {
            seq: Seq(seq),
            event_id: new.event_id,
            at: new.at,
            kind: new.kind,
            public: new.public,
            private: new.private,
        })
        .collect();
    assert_eq!(store.read(&room, Seq(1), ALL).await.unwrap(), want);
    assert_eq!(store.messages(&room, Direction::After(Seq::ZERO), 9).await.unwrap(), want[1..2]);
}

pub async fn an_unknown_room_reads_as_nothing(store: Arc<dyn Store>) {
    created(&store, "other").await;
    let room = room("r");
    assert_eq!(store.head(&room).await.unwrap(), None);
    assert_eq!(store.read(&room, Seq::ZERO, ALL).await.unwrap(), []);
    assert_eq!(store.messages(&room, Direction::Before(Seq(u64::MAX)), 9).await.unwrap(), []);
    assert_eq!(store.messages(&room, Direction::After(Seq::ZERO), 9).await.unwrap(), []);
    assert_eq!(store.about(&room, &[next_id()]).await.unwrap(), []);
    assert_eq!(store.unread(&room, &user("ann"), Seq::ZERO, 9).await.unwrap(), 0);
    assert_eq!(store.snapshot(&room).await.unwrap(), None);
    assert_eq!(store.cursor(&room, &user("ann")).await.unwrap(), Seq::ZERO);
}

pub async fn a_page_ends_at_its_number_of_events(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    appended(&store, &room, plain((2..=10).map(|n| fact(&n.to_string())).collect())).await;
    let read = async |after, events| {
        seqs(&store.read(&room, Seq(after), Page { events, bytes: usize::MAX }).await.unwrap())
    };
    assert_eq!(read(0, 4).await, [1, 2, 3, 4]);
    assert_eq!(read(4, 4).await, [5, 6, 7, 8]);
    assert_eq!(read(8, 4).await, [9, 10]);
    assert_eq!(read(0, 10).await.len(), 10);
    assert_eq!(read(9, 0).await, [10], "an empty page would say that the log ends here");
    assert!(read(10, 4).await.is_empty());
    assert!(read(u64::MAX, 4).await.is_empty());
}

pub async fn a_page_ends_at_its_bytes_but_has_one_event(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let large = "x".repeat(1_000_000);
    let records = ["aaaa", "bbbb", &large, "cccc"].map(fact);
    appended(&store, &room, plain(records.to_vec())).await;
    let read =
        async |after, bytes| seqs(&store.read(&room, Seq(after), Page { events: 100, bytes }).await.unwrap());
    assert_eq!(read(1, 7).await, [2]);
    assert_eq!(read(1, 8).await, [2, 3]);
    assert_eq!(read(1, 9).await, [2, 3], "an event that does not fit waits for the next page");
    assert_eq!(read(3, 8).await, [4], "unless it never would");
    assert_eq!(read(4, 0).await, [5]);
    assert_eq!(read(1, 2_000_000).await, [2, 3, 4, 5]);
}

pub async fn messages_are_paged_both_ways_in_ascending_order(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let other = created(&store, "other").await;
    // Messages at 2, 4, 6 … 20, other events between them.
    for n in 1..=10 {
        let pair = vec![message("ann", &n.to_string()), fact("between")];
        appended(&store, &room, plain(pair.clone())).await;
        appended(&store, &other, plain(pair)).await;
    }
    let read = async |direction, limit| seqs(&store.messages(&room, direction, limit).await.unwrap());
    assert_eq!(read(Direction::Before(Seq(u64::MAX)), 3).await, [16, 18, 20]);
    assert_eq!(read(Direction::Before(Seq(16)), 3).await, [10, 12, 14]);
    assert_eq!(read(Direction::Before(Seq(17)), 2).await, [14, 16]);
    assert_eq!(read(Direction::Before(Seq(5)), 9).await, [2, 4]);
    assert!(read(Direction::Before(Seq(2)), 9).await.is_empty());
    assert!(read(Direction::Before(Seq::ZERO), 9).await.is_empty());
    assert_eq!(read(Direction::After(Seq::ZERO), 3).await, [2, 4, 6]);
    assert_eq!(read(Direction::After(Seq(6)), 2).await, [8, 10]);
    assert_eq!(read(Direction::After(Seq(7)), 2).await, [8, 10]);
    assert!(read(Direction::After(Seq(20)), 9).await.is_empty());
    assert!(read(Direction::After(Seq(u64::MAX)), 9).await.is_empty());
    assert!(read(Direction::After(Seq::ZERO), 0).await.is_empty());
}

pub async fn subjects_are_read_in_order_and_never_from_another_room(store: Arc<dyn Store>) {
    let (here, there) = (created(&store, "here").await, created(&store, "there").await);
    let (first, second, third) = (next_id(), next_id(), next_id());
    let about = |subject, text: &str| NewRecord { subject: Some(subject), ..fact(text) };
    let records = vec![
        about(first, "first posted"),
        about(second, "second posted"),
        about(first, "first edited"),
        about(third, "third posted"),
        fact("about nothing"),
        about(second, "second edited"),
    ];
    appended(&store, &here, plain(records)).await;
    appended(&store, &there, plain(vec![about(first, "elsewhere")])).await;

    let read = async |room, subjects: &[_]| texts(&store.about(room, subjects).await.unwrap());
    assert_eq!(read(&here, &[first]).await, ["first posted", "first edited"]);
    let both = ["first posted", "second posted", "first edited", "second edited"];
    assert_eq!(read(&here, &[second, first]).await, both);
    assert_eq!(read(&here, &[second, first, next_id(), second]).await, both);
    assert_eq!(read(&there, &[first, second]).await, ["elsewhere"]);
    assert!(read(&here, &[]).await.is_empty());
    assert!(read(&here, &[next_id()]).await.is_empty());
}

pub async fn unread_counts_others_messages_up_to_the_cap(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    let other = created(&store, "other").await;
    // At 2 to 7.
    let records = vec![
        message("ann", "a"),
        message("bob", "b"),
        fact("no message"),
        NewRecord { sender: None, ..message("llm", "an answer") },
        message("ann", "c"),
        message("bob", "d"),
    ];
    appended(&store, &other, plain(records.clone())).await;
    appended(&store, &room, plain(records)).await;
    let count = async |reader, after, cap| store.unread(&room, &user(reader), Seq(after), cap).await.unwrap();
    assert_eq!(count("ann", 0, 100).await, 3, "an answer that no user wrote is unread too");
    assert_eq!(count("bob", 0, 100).await, 3);
    assert_eq!(count("zoe", 0, 100).await, 5);
    assert_eq!(count("zoe", 0, 5).await, 5);
    assert_eq!(count("zoe", 0, 4).await, 4);
    assert_eq!(count("zoe", 0, 0).await, 0);
    assert_eq!(count("ann", 3, 100).await, 2);
    assert_eq!(count("ann", 7, 100).await, 0);
    assert_eq!(count("ann", u64::MAX, 100).await, 0);

    let position = async |of| store.read_position(&room, &user(of), 4).await.unwrap();
    assert_eq!(position("zoe").await, (Seq::ZERO, 4), "up to the cap");
    assert_eq!(position("ann").await, (Seq::ZERO, 3));
    store.advance_cursor(&room, &user("ann"), Seq(3)).await.unwrap();
    assert_eq!(position("ann").await, (Seq(3), 2));
    assert_eq!(
        store.read_position(&super::support::room("none"), &user("ann"), 4).await.unwrap(),
        (Seq::ZERO, 0)
    );
}

pub async fn what_was_appended_is_seen_by_the_next_read(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    for seq in 2..=200 {
        let receipt = appended(&store, &room, plain(vec![message("ann", "a")])).await;
        assert_eq!(receipt.last, Seq(seq));
        assert_eq!(store.head(&room).await.unwrap().unwrap().seq, Seq(seq));
        assert_eq!(seqs(&store.read(&room, Seq(seq - 1), ALL).await.unwrap()), [seq]);
    }
    assert_eq!(log(&store, &room).await.len(), 200);
}
