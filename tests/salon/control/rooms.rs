//! What it costs a room that others write to it.

use std::time::Instant;

use bytes::BytesMut;
use salon::{
    bus::LogBatch,
    ids::{RoomId, Seq},
    wire::frame,
};

use super::*;
use crate::harness::{session::message, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_commit_is_followed_and_not_loaded() {
    let pair = Pair::start(nobody(), nobody()).await;
    let room = pair.room(&[]).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    let loaded = pair.store.snapshots();
    let mut last = 0;
    for n in 0..200 {
        last = bob.talk(&format!("message {n}")).await.seq;
        if n % 20 == 0 {
            // A task now and then, which needs the state as it is then.
            let request = pb::GetRoomRequest { room_id: room.clone() };
            assert_eq!(pair.a.client().await.get_room(request).await.unwrap().into_inner().seq, last);
        }
    }
    ann.find(|event| event.seq == last).await;
    assert_eq!(ann.talk("all heard").await.seq, last + 1);
    assert_eq!(pair.store.snapshots(), loaded, "nothing was read from the beginning");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_write_at_the_same_time_load_no_room_anew_each_time() {
    const EACH: usize = 200;
    let pair = Pair::start(nobody(), nobody()).await;
    let room = pair.room(&[]).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    let (mut ann_reads, mut bob_reads) =
        (pair.b.join(&room, "ann-reads").await, pair.a.join(&room, "bob-reads").await);
    let from = pair.a.log(&room).await.last().unwrap().seq;
    let loaded = pair.store.snapshots();
    let talk = async |session: &mut Session| {
        for n in 0..EACH {
            session.talk(&format!("message {n}")).await;
        }
    };
    tokio::join!(talk(&mut ann), talk(&mut bob));
    let log = pair.a.log(&room).await;
    assert_eq!(log.len() as u64, from + 2 * EACH as u64);
    for reader in [&mut ann_reads, &mut bob_reads] {
        let seen = reader.lasting_until(log.last().unwrap().seq).await;
        let behind = |events: &[pb::ServerEvent]| -> Vec<u64> {
            events.iter().map(|event| event.seq).filter(|seq| *seq > from).collect()
        };
        assert_eq!(behind(&seen), behind(&log));
    }
    // Once each, when it is seen for the first time that others write as well.
    assert!(pair.store.snapshots() <= loaded + 2, "{} more", pair.store.snapshots() - loaded);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn together_they_save_as_many_snapshots_as_one_would() {
    const EVERY: u64 = 20;
    let often = || Setup::default().provider(nobody()).config(|config| config.rooms.snapshot_every = EVERY);
    let pair = Pair::of(often(), often()).await;
    let room = pair.room(&[]).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    let mut last = 0;
    for n in 0..5 * EVERY {
        last = bob.talk(&format!("message {n}")).await.seq;
        let request = pb::GetRoomRequest { room_id: room.clone() };
        assert_eq!(pair.a.client().await.get_room(request).await.unwrap().into_inner().seq, last);
    }
    let saved = pair.store.saved() as u64;
    assert!(
        (4..=last / EVERY).contains(&saved),
        "{saved} for {last} events, and one who only follows saves none"
    );
    for n in 0..EVERY {
        ann.talk(&format!("message {n}")).await;
        bob.talk(&format!("message {n}")).await;
    }
    let last = last + 2 * EVERY;
    assert!(pair.store.saved() as u64 <= last / EVERY, "{} for {last} events", pair.store.saved());
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_bus_tells_and_the_store_does_not_show_is_asked_for_with_pauses() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let pair = Pair::start(provider, nobody()).await;
    let room = pair.room(&["ada"]).await;
    let mut ann = pair.a.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let mut call = begins(&mut script, "I am here").await;
    let next = pair.a.log(&room).await.last().unwrap().seq + 1;
    let mut frames = BytesMut::new();
    frame::put_stored(&mut frames, b"", Seq(next));
    let batch = LogBatch { first: Seq(next), last: Seq(next), frames: frames.freeze(), notes: [].into() };
    let bus = pair.b.server.graph().rooms.registry().bus();
    let (begun, before) = (Instant::now(), pair.store.reads());
    bus.publish(&RoomId::parse(&room).unwrap(), BusMessage::Log(batch));
    until("it is not asked for again", || pair.store.reads() > before + 10).await;
    let (asked, pauses) = (pair.store.reads() - before, begun.elapsed().as_millis() / 20);
    assert!(asked as u128 <= 2 * pauses + 4, "asked {asked} times in {pauses} pauses");
    // Nothing has come of it.
    assert!(call.text(", still").await && call.done(Finish::Stop).await);
    until("the answer does not end", || pair.a.run_count() == 0).await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_together_is_looked_at_once_for_all_that_is_refused() {
    const MANY: usize = 16;
    let pair = Pair::start(nobody(), nobody()).await;
    let room = pair.room(&[]).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.a.join(&room, "bob").await);
    let gate = pair.store.shut().await;
    ann.say(message("this one waits at the gate")).await;
    pair.store.somebody_waits().await;
    // All wait in the room's queue behind it.
    for n in 0..MANY {
        let delete = pb::DeleteMessage { message_id: uuid::Uuid::now_v7().to_string() };
        let request_id = format!("delete {n}");
        bob.send(pb::ClientMessage { payload: Some(Say::DeleteMessage(delete)), request_id }).await;
    }
    bob.settle().await;
    let before = pair.store.heads();
    drop(gate);
    for n in 0..MANY {
        let answer = bob.find(|event| event.request_id == format!("delete {n}")).await;
        assert!(
            matches!(&answer.payload, Some(Payload::Error(error)) if error.code == "not_found"),
            "{answer:?}"
        );
    }
    let looks = pair.store.heads() - before;
    assert!(looks < MANY / 2, "{looks} looks for {MANY} commands");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_must_know_the_latest_is_refused_where_it_cannot_be_known() {
    let pair = Pair::start(nobody(), nobody()).await;
    let room = pair.room(&[]).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.a.join(&room, "bob").await);
    let gate = pair.store.shut().await;
    ann.say(message("this one waits at the gate")).await;
    pair.store.somebody_waits().await;
    let send = |payload, request_id: &str| pb::ClientMessage {
        payload: Some(payload),
        request_id: request_id.into(),
    };
    ann.send(send(message("@anybody here?"), "calls")).await;
    ann.settle().await;
    bob.send(send(message("hello"), "says")).await;
    bob.settle().await;
    pair.store.heads_fail(true);
    drop(gate);
    let said = bob.find(|event| event.request_id == "says").await;
    assert!(matches!(said.payload, Some(Payload::Ack(_))), "{said:?}");
    let refused = ann.find(|event| event.request_id == "calls").await;
    assert!(
        matches!(&refused.payload, Some(Payload::Error(error)) if error.code == "unavailable"),
        "{refused:?}"
    );
    // What would change nothing may change something of what others have done.
    let same = Say::UpdateRoomDescription(pb::UpdateRoomDescription::default());
    assert_eq!(bob.command(same.clone()).await.unwrap_err().code, "unavailable");
    pair.store.heads_fail(false);
    bob.command(same).await.unwrap();
    pair.end().await;
}
