//! What it costs to turn an event into bytes, once for everybody, beside what a server pays that clones and encodes
//! the message for each recipient.
//!
//! `cargo bench --bench encode`; the event is a message of 200 bytes.
#![allow(missing_debug_implementations, clippy::unwrap_used, reason = "a bench ends when something is wrong")]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use salon::{
    clock::Timestamp,
    domain::{
        apply,
        event::{Event, NewRoom, Recorded},
        message::{Author, Message, PLAIN_TEXT},
        room::{Profile, Room, Visibility},
    },
    ids::{EventId, MessageId, RoomId, Seq, UserId},
    wire::{decode, encode, frame},
};
use uuid::Uuid;

const CONTENT_BYTES: usize = 200;
const AT: Timestamp = Timestamp(1_700_000_000_000);

fn room() -> Room {
    let profile = Profile {
        name: "Bench".into(),
        description: String::new(),
        visibility: Visibility::Public,
        settings: Default::default(),
    };
    let id = RoomId::parse("bench").unwrap();
    let event = Event::RoomCreated(NewRoom { id, profile, created_by: None, llms: Vec::new() });
    apply::create(&Recorded { seq: Seq(1), event_id: EventId(Uuid::now_v7()), at: AT, event }).unwrap()
}

fn message() -> Recorded {
    let id = Uuid::now_v7();
    let event = Event::MessagePosted(Message {
        id: MessageId(id),
        seq: Seq(2),
        author: Author::User(UserId::parse("somebody").unwrap()),
        author_name: "Somebody".into(),
        content: "x".repeat(CONTENT_BYTES),
        content_type: PLAIN_TEXT.into(),
        reply_to: None,
        at: AT,
        poll_id: None,
        mentions: Vec::new(),
        edited_at: None,
        deleted: false,
        reactions: Vec::new(),
        partial: false,
        chain_depth: 0,
        from_run: false,
        outside: Vec::new(),
        replaces: None,
        superseded_by: None,
        version: 0,
        changes: 0,
    });
    Recorded { seq: Seq(2), event_id: EventId(id), at: AT, event }
}

fn encoding(criterion: &mut Criterion) {
    let (room, recorded) = (room(), message());
    let stored = encode::event(&room, &recorded).public;
    let framed = {
        let mut out = BytesMut::new();
        frame::put_stored(&mut out, &stored, recorded.seq);
        out.freeze()
    };
    // What a server holds that sends messages and not bytes.
    let event = decode::public(recorded.seq, &stored).unwrap();
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    group.bench_function("event_once", |bencher| {
        bencher.iter(|| encode::event(black_box(&room), black_box(&recorded)));
    });
    group.bench_function("frame_stored", |bencher| {
        bencher.iter(|| {
            let mut out = BytesMut::with_capacity(frame::stored_len(&stored, recorded.seq));
            frame::put_stored(&mut out, black_box(&stored), recorded.seq);
            out.freeze()
        });
    });
    group.bench_function("share_per_recipient", |bencher| bencher.iter(|| black_box(&framed).clone()));
    group.bench_function("naive_clone_and_encode_per_recipient", |bencher| {
        bencher.iter(|| frame::frame(&black_box(&event).clone()));
    });
    group.finish();
}

criterion_group!(benches, encoding);
criterion_main!(benches);
