//! A cold room: its newest snapshot, and what came after it.

use crate::{
    domain::{apply, chain::Link, event::Recorded, room::Room},
    ids::{RoomId, Seq},
    rooms::chain,
    store::{Error, ErrorKind, Page, Record, Store},
    wire::{decode, snapshot},
};

/// How much is read at once.
pub(super) const PAGE: Page = Page { events: 1000, bytes: 4 * 1024 * 1024 };

/// A loaded room, and the position its newest snapshot speaks for.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) room: Room,
    pub(super) snapshot: Seq,
}

/// Loads a room; `None`: there is no such room.
pub(super) async fn load(store: &dyn Store, id: &RoomId, chained: bool) -> Result<Option<Loaded>, Error> {
    let mut saved = match store.snapshot(id).await? {
        Some(saved) if saved.version == snapshot::VERSION => match snapshot::decode(&saved.state) {
            Ok(room) => Some(room),
            Err(error) => {
                // A snapshot is only a short cut: the log has everything.
                tracing::warn!(room = %id, %error, "a snapshot cannot be read; the whole log is read instead");
                None
            }
        },
        Some(_) | None => None,
    };
    let mut snapshot = saved.as_ref().map_or(Seq::ZERO, |room| room.seq);
    let at = snapshot;
    if let Some(room) = &mut saved {
        // One that nobody here moves on must not be saved again.
        room.chain = room.chain.filter(|_| chained);
        if chained && room.chain.is_none() {
            room.chain = chain::up_to(store, id, at).await?;
            // The next one is worth its writing whatever its position.
            snapshot = Seq::ZERO;
        }
    }
    let mut room = saved;
    let mut after = at;
    loop {
        let records = store.read(id, after, PAGE).await?;
        let Some(last) = records.last() else {
            return Ok(room.map(|room| Loaded { room, snapshot }));
        };
        after = last.seq;
        for record in &records {
            let recorded = recorded(store, record)?;
            match &mut room {
                Some(room) => apply::apply(room, &recorded),
                None => {
                    room = apply::create(&recorded)
                        .map(|room| Room { chain: chained.then(|| Link::first(id)), ..room });
                }
            }
            if let Some(room) = &mut room {
                chain::read(room, record);
            }
        }
    }
}

/// A record as an event.
pub(super) fn recorded(store: &dyn Store, record: &Record) -> Result<Recorded, Error> {
    decode::event(record.seq, &record.public, &record.private).map_err(|error| Error {
        kind: ErrorKind::Corrupt,
        store: store.name(),
        what: format!("holds an event at {} that cannot be read", record.seq),
        source: Some(std::sync::Arc::new(error)),
    })
}
