//! The events of a batch as bytes, one behind the other. Pure.
//!
//! A byte for the form, and then for each event: its kind and what it has (a byte each), its time (8 bytes), its id
//! (16), its subject (16, if it has one), and its sender (if it has one), its public and its private half, each with
//! its length before it (4). Numbers have their lowest byte first.

use bytes::{Buf as _, Bytes};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    domain::event::Kind,
    ids::{EventId, Seq},
    store::{Error, NewRecord, Record, dynamodb::failure::strange},
};

/// The form that is written.
const FORM: u8 = 1;
const HAS_SUBJECT: u8 = 1;
const HAS_SENDER: u8 = 2;

/// An event as a batch holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// The event.
    pub(super) record: Record,
    /// Who sent it, if a user did.
    pub(super) sender: Option<Bytes>,
}

/// A batch without an event.
pub(super) fn begin() -> Vec<u8> {
    vec![FORM]
}

/// How many bytes [`put`] adds at most.
pub(super) fn size(record: &NewRecord) -> usize {
    let sender = record.sender.as_ref().map_or(0, |sender| sender.as_str().len());
    64 + sender + record.public.len() + record.private.len()
}

/// Adds an event.
pub(super) fn put(to: &mut Vec<u8>, record: &NewRecord) {
    to.push(match record.kind {
        Kind::Other => 0,
        Kind::Message => 1,
        Kind::Membership => 2,
    });
    let subject = if record.subject.is_some() { HAS_SUBJECT } else { 0 };
    let sender = if record.sender.is_some() { HAS_SENDER } else { 0 };
    to.push(subject | sender);
    to.extend(record.at.0.to_le_bytes());
    to.extend(record.event_id.0.as_bytes());
    if let Some(subject) = &record.subject {
        to.extend(subject.as_bytes());
    }
    if let Some(sender) = &record.sender {
        put_bytes(to, sender.as_str().as_bytes());
    }
    put_bytes(to, &record.public);
    put_bytes(to, &record.private);
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    // An append of more is refused long before.
    to.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    to.extend(bytes);
}

/// The events of a batch that begins at `first`.
pub(super) fn read(mut bytes: Bytes, first: Seq) -> Result<Vec<Kept>, Error> {
    let torn = || strange("a batch of events that ends too early");
    if bytes.try_get_u8().map_err(|_| torn())? != FORM {
        return Err(strange("a batch of events in an unknown form"));
    }
    let mut kept = Vec::new();
    let mut seq = first;
    while bytes.has_remaining() {
        kept.push(read_one(&mut bytes, seq).ok_or_else(torn)??);
        seq = seq.next();
    }
    Ok(kept)
}

fn read_one(bytes: &mut Bytes, seq: Seq) -> Option<Result<Kept, Error>> {
    let kind = match bytes.try_get_u8().ok()? {
        0 => Kind::Other,
        1 => Kind::Message,
        2 => Kind::Membership,
        _ => return Some(Err(strange("an event of no kind"))),
    };
    let has = bytes.try_get_u8().ok()?;
    let at = Timestamp(bytes.try_get_i64_le().ok()?);
    let event_id = EventId(read_uuid(bytes)?);
    if has & HAS_SUBJECT != 0 {
        read_uuid(bytes)?;
    }
    let sender = if has & HAS_SENDER == 0 { None } else { Some(read_bytes(bytes)?) };
    let (public, private) = (read_bytes(bytes)?, read_bytes(bytes)?);
    Some(Ok(Kept { record: Record { seq, event_id, at, kind, public, private }, sender }))
}

fn read_uuid(bytes: &mut Bytes) -> Option<Uuid> {
    if bytes.len() < 16 {
        return None;
    }
    Uuid::from_slice(&bytes.split_to(16)).ok()
}

fn read_bytes(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    fn records() -> Vec<NewRecord> {
        let one = NewRecord {
            event_id: EventId(Uuid::from_u128(7)),
            at: Timestamp(-5),
            kind: Kind::Message,
            sender: Some(UserId::parse("ann").unwrap()),
            subject: Some(Uuid::from_u128(9)),
            moves_fence: false,
            public: "said".into(),
            private: Bytes::new(),
        };
        let other = NewRecord { kind: Kind::Membership, sender: None, subject: None, ..one.clone() };
        vec![one, other]
    }

    #[test]
    fn what_was_written_is_read_and_what_is_cut_off_is_noticed() {
        let mut bytes = begin();
        let mut ends = vec![bytes.len()];
        for record in records() {
            let before = bytes.len();
            put(&mut bytes, &record);
            assert!(bytes.len() - before <= size(&record));
            ends.push(bytes.len());
        }
        let whole = Bytes::from(bytes);
        let kept = read(whole.clone(), Seq(4)).unwrap();
        assert_eq!(kept[0].sender.as_deref(), Some(&b"ann"[..]));
        assert_eq!(kept[1].sender, None);
        for (kept, (record, seq)) in kept.into_iter().zip(records().into_iter().zip(4..)) {
            let NewRecord { event_id, at, kind, public, private, .. } = record;
            assert_eq!(kept.record, Record { seq: Seq(seq), event_id, at, kind, public, private });
        }
        for end in 0..whole.len() {
            assert_eq!(read(whole.slice(..end), Seq(1)).is_ok(), ends.contains(&end), "{end}");
        }
        assert!(read(Bytes::from_static(&[2]), Seq(1)).is_err());
        assert!(read(Bytes::from_static(&[1, 9]), Seq(1)).is_err());
    }
}
