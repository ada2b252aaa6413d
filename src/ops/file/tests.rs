//! Every byte of a backup matters, and so does the order of its parts.

use uuid::Uuid;

use super::*;
use crate::{
    clock::Timestamp,
    ids::{EventId, RequestId, RoomId, Seq, UserId},
    wire::backup::{Account, Document, End, Event, Header, Request, RoomEnd, RoomHead, VERSION},
};

fn parts() -> Vec<Part> {
    let user = UserId::parse("Zoë 🦊").unwrap();
    let event = |seq| {
        Part::Event(Event {
            seq: Seq(seq),
            event_id: EventId(Uuid::from_u128(seq.into())),
            at: Timestamp(-1),
            public: Bytes::from_static(b"public"),
            private: Bytes::new(),
        })
    };
    vec![
        Part::Header(Header {
            version: VERSION,
            program: "0.1.0".into(),
            created_at: Timestamp(1),
            store: "memory".into(),
        }),
        Part::Room(RoomHead { room: RoomId::parse("r").unwrap(), head: Seq(2), fence: Seq(1) }),
        Part::Request(Request {
            sender: user.clone(),
            request_id: RequestId::parse("1").unwrap(),
            first: Seq(2),
            last: Seq(2),
            event_id: EventId(Uuid::from_u128(2)),
            body_hash: u64::MAX,
        }),
        event(1),
        event(2),
        Part::Cursor { user, seq: Seq(1) },
        Part::RoomEnd(RoomEnd { requests: 1, events: 2, cursors: 1 }),
        Part::Account(Account {
            key: "k".into(),
            begins: Timestamp(0),
            spent: 3,
            reserved: 4,
            keep_until: Timestamp(9),
        }),
        Part::Document(Document {
            folder: "keys/acme".into(),
            name: "Zoë".into(),
            body: Bytes::from_static(b"{}"),
        }),
        Part::End(End { rooms: 1, events: 2, accounts: 1, documents: 1 }),
    ]
}

fn written(parts: &[Part]) -> Vec<u8> {
    let mut writer = PartWriter::new(Vec::new()).unwrap();
    for part in parts {
        writer.write(part.clone()).unwrap();
    }
    writer.into_inner()
}

fn read(bytes: &[u8]) -> Result<Vec<Part>, Fault> {
    let mut reader = PartReader::new(bytes)?;
    let mut parts = Vec::new();
    while let Some(part) = reader.next_part()? {
        parts.push(part);
    }
    Ok(parts)
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(read(&written(&parts())).unwrap(), parts());
}

#[test]
fn every_flipped_bit_is_found() {
    let whole = written(&parts());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            let fault = read(&damaged).expect_err("a flipped bit was not found");
            if let Fault::Damaged { at: begin, .. } = fault {
                assert!(usize::try_from(begin).unwrap() <= at, "byte {at}: {fault}");
            }
        }
    }
}

#[test]
fn every_cut_is_found_and_said_where() {
    let whole = written(&parts());
    for length in 0..whole.len() {
        match read(&whole[..length]) {
            Err(Fault::Cut { at, .. }) => assert_eq!(usize::try_from(at).unwrap(), length),
            other => panic!("cut at {length}: {other:?}"),
        }
    }
    let mut longer = whole;
    longer.push(0);
    assert!(matches!(read(&longer), Err(Fault::Damaged { .. })));
    assert!(matches!(read(b"PK\x03\x04 and so on"), Err(Fault::Foreign)));
}

#[test]
fn a_part_that_is_missing_or_stands_twice_is_found() {
    for at in 0..parts().len() {
        let mut fewer = parts();
        fewer.remove(at);
        assert!(read(&written(&fewer)).is_err(), "without {:?}", parts()[at]);
        let mut more = parts();
        more.insert(at, parts()[at].clone());
        assert!(read(&written(&more)).is_err(), "twice {:?}", parts()[at]);
    }
}

#[test]
fn another_format_is_refused_by_its_number() {
    let mut newer = parts();
    let Part::Header(header) = &mut newer[0] else { panic!("no header") };
    (header.version, header.program) = (7, "9.9.9".into());
    let refused = read(&written(&newer)).unwrap_err().to_string();
    assert!(refused.contains("format 7") && refused.contains("9.9.9"), "{refused}");
}

#[test]
fn a_backup_of_the_first_version_is_read() {
    let mut older = parts();
    older.retain(|part| !matches!(part, Part::Document(_)));
    let Part::Header(header) = &mut older[0] else { panic!("no header") };
    header.version = 1;
    let end = older.len() - 1;
    older[end] = Part::End(End { rooms: 1, events: 2, accounts: 1, documents: 0 });
    assert_eq!(read(&written(&older)).unwrap(), older);
}
