//! What a store or the file of a backup holds: it may be damaged, or somebody may have changed it.

use bytes::Bytes;
use salon::{
    domain::{apply, room::Room},
    ids::Seq,
    wire::{backup, decode, encode, snapshot},
};

/// More events find nothing that fewer do not.
const EVENTS: usize = 32;

/// The first byte says what is read: a log (pieces: public half, private half, …), a snapshot, a part of a backup.
pub fn stored(data: &[u8]) {
    let Some((what, data)) = data.split_first() else { return };
    match what % 3 {
        0 => log(data),
        1 => state(data),
        _ => {
            if let Ok(part) = backup::decode(Bytes::copy_from_slice(data)) {
                let again = backup::decode(backup::encode(part.clone()).into());
                assert_eq!(again.ok(), Some(part), "a part of a backup is copied whole");
            }
        }
    }
}

fn log(data: &[u8]) {
    let mut room: Option<Room> = None;
    for (at, halves) in super::pieces(data).chunks(2).take(EVENTS).enumerate() {
        let (public, private) = (halves[0], halves.get(1).copied().unwrap_or_default());
        let seq = Seq(at as u64 + 1);
        let _ = decode::public(seq, public);
        let Ok(recorded) = decode::event(seq, public, private) else { continue };
        match &mut room {
            None => room = apply::create(&recorded),
            Some(room) => apply::apply(room, &recorded),
        }
        if let Some(room) = &room {
            let encoded = encode::event(room, &recorded);
            // A fold of broken events may show less than was there, but what it shows can be read.
            decode::event(seq, &encoded.public, &encoded.private).expect("what was read can be written");
        }
    }
    if let Some(room) = room {
        snapshot::decode(&snapshot::encode(&room)).expect("what was folded can be kept");
    }
}

fn state(data: &[u8]) {
    let Ok(room) = snapshot::decode(data) else { return };
    let again = snapshot::decode(&snapshot::encode(&room)).expect("what was read can be written");
    assert_eq!(again, room, "a snapshot is the state");
    let _ = room.broken_invariant();
}
