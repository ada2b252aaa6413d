//! Many at once: one order for everybody, without holes, whoever comes and goes meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use salon::wire::pb::room::v1::{self as pb, server_event::Payload};
use tokio::{sync::Barrier, task::JoinSet};
use tonic::transport::Channel;

use crate::harness::{
    Session, Setup, TestServer,
    raw::RawSession,
    session::{is_lasting, message},
};

const END: &str = "the end";

fn content(event: &pb::ServerEvent) -> Option<&str> {
    match &event.payload {
        Some(Payload::MessageReceived(received)) => received.message.as_ref().map(|m| m.content.as_str()),
        _ => None,
    }
}

/// Reads lasting events up to the message that ends the test; what has changed without a hole.
async fn read_to_the_end(mut reader: Session) -> (u64, Vec<pb::ServerEvent>) {
    let mut events: Vec<pb::ServerEvent> = Vec::new();
    while events.last().and_then(content) != Some(END) {
        let event = reader.next().await;
        if is_lasting(&event) {
            events.push(event);
        }
    }
    (reader.seq, events)
}

/// Whether the events continue one another from behind `after`; merged ones stand for several.
fn without_holes(after: u64, events: &[pb::ServerEvent]) -> bool {
    let mut last = after;
    events.iter().all(|event| {
        let first = match &event.payload {
            Some(Payload::MembersMerged(merged)) => merged.first_seq,
            _ => event.seq,
        };
        let continues = first == last + 1 && event.seq >= first;
        last = event.seq;
        continues
    })
}

fn messages(events: &[pb::ServerEvent]) -> Vec<&pb::ServerEvent> {
    events.iter().filter(|event| content(event).is_some()).collect()
}

/// Sends until it is taken: a room that has more waiting than it takes says so, and a repeat is safe.
async fn publish(session: &mut RawSession, request_id: &str, text: &str) -> pb::Ack {
    loop {
        session.say(request_id, message(text)).await;
        match session.answer(request_id).await {
            Payload::Ack(ack) => return ack,
            Payload::Error(error) => assert!(error.retryable, "{error:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_and_twelve_publishers_are_heard_in_one_order() {
    const PUBLISHERS: usize = 512;
    const CONNECTIONS: usize = 8;
    const READERS: usize = 8;
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut readers = JoinSet::new();
    for n in 0..READERS {
        readers.spawn(read_to_the_end(server.join(&room, &format!("reader-{n}")).await));
    }
    let mut connections: Vec<Channel> = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(server.channel().await);
    }
    let all_here = Arc::new(Barrier::new(PUBLISHERS));
    let mut publishers = JoinSet::new();
    for p in 0..PUBLISHERS {
        let (channel, room) = (connections[p % CONNECTIONS].clone(), room.clone());
        let all_here = Arc::clone(&all_here);
        publishers.spawn(async move {
            let mut session = RawSession::join(channel, &room, &format!("publisher-{p}")).await;
            // Nobody waits for the others unread: what is not read holds up a shared connection.
            let mut waiting = std::pin::pin!(all_here.wait());
            loop {
                tokio::select! {
                    _ = &mut waiting => break,
                    event = session.next() => assert!(event.unwrap().is_some()),
                }
            }
            let first = publish(&mut session, "first", &format!("{p} 0")).await;
            let second = publish(&mut session, "second", &format!("{p} 1")).await;
            assert!(first.seq < second.seq);
        });
    }
    publishers.join_all().await;
    server.join(&room, "admin").await.talk(END).await;
    let log = server.log(&room).await;
    assert!(log.iter().map(|event| event.seq).eq(1..=log.len() as u64));
    let said = messages(&log);
    assert_eq!(said.len(), 2 * PUBLISHERS + 1);
    let mut next: BTreeMap<&str, u32> = BTreeMap::new();
    for text in said.iter().filter_map(|event| content(event)).filter(|text| *text != END) {
        let (publisher, n) = text.split_once(' ').unwrap();
        let expected = next.entry(publisher).or_default();
        assert_eq!(n, expected.to_string(), "publisher {publisher} is heard out of order");
        *expected += 1;
    }
    for (after, events) in readers.join_all().await {
        assert!(without_holes(after, &events));
        assert_eq!(messages(&events), said, "the same events in the same order");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_joins_or_resumes_during_a_storm_misses_nothing_and_doubles_nothing() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 150;
    let server = Arc::new(TestServer::start().await);
    let room = server.room(&[]).await;
    let mut first = server.join(&room, "first").await;
    let mut storm = JoinSet::new();
    for p in 0..PUBLISHERS {
        let mut session = RawSession::join(server.channel().await, &room, &format!("publisher-{p}")).await;
        storm.spawn(async move {
            for n in 0..MESSAGES {
                publish(&mut session, &n.to_string(), &format!("{p} {n}")).await;
            }
        });
    }
    let mut readers = JoinSet::new();
    let mut joiners = 0;
    while !storm.is_empty() {
        let user = format!("joiner-{joiners}");
        let joined = server.join(&room, &user).await;
        // The same user again, from a position that the first stream had.
        let after = joined.seq.saturating_sub(joiners % 7);
        let mut resumed = Session::resume(server.client().await, &room, &user, after).await;
        assert!(
            matches!(resumed.next().await.payload, Some(Payload::Resumed(told)) if told.after_seq == after)
        );
        resumed.seq = after;
        readers.spawn(read_to_the_end(joined));
        readers.spawn(read_to_the_end(resumed));
        joiners += 1;
        while storm.try_join_next().is_some_and(|done| done.is_ok()) {}
    }
    assert!(joiners > 3, "the storm was over too soon to show anything");
    first.talk(END).await;
    let log = server.log(&room).await;
    for (after, events) in readers.join_all().await {
        assert!(
            events.iter().eq(log.iter().filter(|event| event.seq > after && event.seq <= log.len() as u64))
        );
    }
    Arc::into_inner(server).unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rooms_at_once_do_not_mix() {
    const ROOMS: usize = 40;
    const MESSAGES: usize = 25;
    let server = Arc::new(Setup::default().start().await);
    let mut rooms = JoinSet::new();
    for r in 0..ROOMS {
        let server = Arc::clone(&server);
        rooms.spawn(async move {
            let room = server.room(&[]).await;
            let client = server.client().await;
            let reader = Session::join(client.clone(), &room, "reader").await;
            let mut people = JoinSet::new();
            for name in ["ann", "bob"] {
                let mut session = Session::join(client.clone(), &room, name).await;
                people.spawn(async move {
                    for n in 0..MESSAGES {
                        session.talk(&format!("{r} {n}")).await;
                    }
                });
            }
            people.join_all().await;
            server.join(&room, "ender").await.talk(END).await;
            let (after, events) = read_to_the_end(reader).await;
            let log = server.log(&room).await;
            assert!(log.iter().map(|event| event.seq).eq(1..=log.len() as u64));
            assert!(events.iter().eq(log.iter().filter(|event| event.seq > after)));
            let own = format!("{r} ");
            let said = messages(&log);
            assert_eq!(said.len(), 2 * MESSAGES + 1);
            assert!(
                said.iter()
                    .filter_map(|event| content(event))
                    .all(|text| text.starts_with(&own) || text == END)
            );
        });
    }
    while let Some(room) = rooms.join_next().await {
        room.unwrap();
    }
    Arc::into_inner(server).unwrap().shutdown().await;
}
