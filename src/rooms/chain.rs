//! The chain of a room's log, moved on with its state: by what was appended here, and by what was read.
//!
//! It is part of the state, so it is given up and read anew with it. A snapshot carries it, and a cold room reads its log
//! from there. Only a room whose snapshot has none (it was saved before `rooms.integrity` was set) is read once from
//! its first event.

use crate::{
    domain::{
        chain::{Link, Stored},
        room::Room,
    },
    ids::{RoomId, Seq},
    rooms::load,
    store::{Error, NewRecord, Record, Store},
};

/// The link behind `link` of an event that was read.
pub fn next(link: &Link, record: &Record) -> Link {
    let Record { event_id, at, kind, public, private, .. } = record;
    link.next(&Stored { event_id: *event_id, at: *at, kind: *kind, public, private })
}

/// The link behind `link` of an event that was appended.
pub(super) fn appended(link: &Link, record: &NewRecord) -> Link {
    let NewRecord { event_id, at, kind, public, private, .. } = record;
    link.next(&Stored { event_id: *event_id, at: *at, kind: *kind, public, private })
}

/// Moves the chain of a room on, if it has one.
pub(super) fn read(room: &mut Room, record: &Record) {
    room.chain = room.chain.map(|link| next(&link, record));
}

/// What a log comes to up to `end`, read from its first event. `None`: it ends before.
pub(super) async fn up_to(store: &dyn Store, room: &RoomId, end: Seq) -> Result<Option<Link>, Error> {
    let mut link = Link::first(room);
    while link.seq < end {
        let records = store.read(room, link.seq, load::PAGE).await?;
        if records.is_empty() {
            return Ok(None);
        }
        for record in records.iter().take_while(|record| record.seq <= end) {
            if record.seq != link.seq.next() {
                return Ok(None);
            }
            link = next(&link, record);
        }
    }
    Ok(Some(link))
}
