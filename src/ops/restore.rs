//! A backup as a store.
//!
//! The whole file is read first, so that a damaged one changes nothing. Then it goes into an empty store, room by room in
//! the order of their creation: each append is whole or absent, with the idempotency key that it had. A restore that was
//! stopped leaves a store that holds the first rooms, and a part of one: no server should be started on it. With
//! `resume` the same file goes on there. What answers had reserved counts as spent, as behind a crash; runs that were
//! open are open, and the next start ends them.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{EventId, MessageId, NodeId, ReservationId, RoomId, Seq, UserId},
    ops::{
        Error, LIST,
        file::{Fault, PartReader},
    },
    rooms::replay::{Replay, Replayed},
    store::{
        Append, Idempotency, Outcome, Page, Store,
        documents::{Expect, Folder},
        inventory::{Inventory, Item},
        ledger::{self, Line, Reservation, Reserve},
    },
    wire::backup::{Account, Document, End, Event, Part, Request, RoomHead},
};

/// Events of one append that had no key, and appends of one call: a transaction of a few milliseconds.
const EVENTS_AT_ONCE: usize = 256;
/// Bytes of one call.
const BYTES_AT_ONCE: usize = 1 << 20;
/// Cursors that are moved at the same time: a store commits them together.
const CURSORS_AT_ONCE: usize = 64;

/// Reads a whole backup, and finds whatever is wrong with it; says how much there is.
pub fn check(file: &Path) -> Result<End, Error> {
    Ok(survey(file)?.0)
}

/// Puts the backup into `store`; says how much it was. Nothing is written before all of the file was found whole, and the
/// store free for it.
pub async fn run(store: &dyn Store, file: &Path, resume: bool) -> Result<End, Error> {
    let (done, rooms) = survey(file)?;
    refuse_others(store, &rooms, resume).await?;
    drop(rooms);
    write(store, file).await.map_err(|why| Error::Partly { why: Box::new(why) })?;
    Ok(done)
}

async fn write(store: &dyn Store, file: &Path) -> Result<(), Error> {
    let mut parts = Parts::open(file)?;
    while let Some(part) = parts.next()? {
        match part {
            Part::Room(head) => restore_room(store, &mut parts, head).await?,
            Part::Account(account) => restore_account(store, account).await?,
            Part::Document(document) => restore_document(store, document).await?,
            Part::Header(_)
            | Part::Request(_)
            | Part::Event(_)
            | Part::Cursor { .. }
            | Part::RoomEnd(_)
            | Part::End(_) => {}
        }
    }
    Ok(())
}

/// The parts of a file that is named in errors.
struct Parts {
    file: PathBuf,
    reader: PartReader<BufReader<File>>,
}

impl Parts {
    fn open(file: &Path) -> Result<Self, Error> {
        let opened = File::open(file).map_err(|source| Error::File {
            doing: "read",
            file: file.to_owned(),
            source,
        })?;
        let reader = PartReader::new(BufReader::with_capacity(1 << 20, opened))
            .map_err(|why| Error::Backup { file: file.to_owned(), why })?;
        Ok(Self { file: file.to_owned(), reader })
    }

    fn next(&mut self) -> Result<Option<Part>, Error> {
        let faulty = |why: Fault| Error::Backup { file: self.file.clone(), why };
        self.reader.next_part().map_err(faulty)
    }
}

/// The end of a whole file, and its rooms. Their events are read as well: one that this build does not know, or that
/// belongs to another room, is found before anything is written.
fn survey(file: &Path) -> Result<(End, HashSet<RoomId>), Error> {
    let (mut parts, mut rooms, mut end) = (Parts::open(file)?, HashSet::new(), End::default());
    let (mut replay, mut inside) = (Replay::default(), None);
    while let Some(part) = parts.next()? {
        match part {
            Part::Room(head) => {
                let (room, seq) = (head.room.clone(), Seq::ZERO);
                if !rooms.insert(room.clone()) {
                    return Err(Error::Room { room, seq, what: "it is in the backup twice".to_owned() });
                }
                (replay, inside) = (Replay::default(), Some(head));
            }
            Part::Event(event) => {
                if let Some(head) = &inside {
                    replayed(&mut replay, head, &event)?;
                }
            }
            Part::RoomEnd(_) => {
                if let (Some(head), Some(room)) = (inside.take(), replay.room())
                    && head.fence != room.fence
                {
                    let what = format!("its fence is {}, and that of its log {}", head.fence, room.fence);
                    return Err(Error::Room { room: head.room, seq: head.head, what });
                }
            }
            Part::End(all) => end = all,
            // One that is wrong is found before anything is written.
            Part::Document(document) => drop(folder_of(&document)?),
            Part::Header(_) | Part::Request(_) | Part::Cursor { .. } | Part::Account(_) => {}
        }
    }
    Ok((end, rooms))
}

/// The next event of a room, as it goes into a store.
fn replayed(replay: &mut Replay, head: &RoomHead, event: &Event) -> Result<Replayed, Error> {
    let seq = event.seq;
    let wrong = |what: String| Error::Room { room: head.room.clone(), seq, what };
    let next = replay.next(seq, &event.public, &event.private);
    let next = next.map_err(|error| {
        wrong(format!("this build cannot read it ({error}): restore with the build that made the backup"))
    })?;
    if replay.room().is_some_and(|room| room.id != head.room) {
        return Err(wrong("it belongs to another room".to_owned()));
    }
    if (next.record.event_id, next.record.at) != (event.event_id, event.at) {
        return Err(wrong("its id or its time is not that of its content".to_owned()));
    }
    Ok(next)
}

/// Refuses a store that holds anything else.
async fn refuse_others(store: &dyn Store, rooms: &HashSet<RoomId>, resume: bool) -> Result<(), Error> {
    let mut last: Option<Item> = None;
    loop {
        let page = store.inventory(&Inventory::Rooms, last.as_ref(), LIST).await?;
        for item in &page {
            if let Item::Room(listed) = item
                && !(resume && rooms.contains(&listed.room))
            {
                let mend = if resume {
                    "only what this backup has begun can be gone on with"
                } else {
                    "name another store, or go on with --resume if this backup was being restored there"
                };
                return Err(Error::NotEmpty { holds: format!("the room {}", listed.room), mend });
            }
        }
        match page.into_iter().next_back() {
            Some(item) => last = Some(item),
            None => break,
        }
    }
    let mend = "name another store, or go on with --resume if this backup was being restored there";
    for of in [Inventory::Accounts, Inventory::Documents] {
        let holds = match store.inventory(&of, None, 1).await?.first() {
            Some(Item::Account(kept)) => format!("the account {} of the ledger", kept.account.key),
            Some(Item::Document { folder, document }) => format!("the document {folder}/{}", document.name),
            _ => continue,
        };
        if !resume {
            return Err(Error::NotEmpty { holds, mend });
        }
    }
    Ok(())
}

/// A room that is being written.
struct Writing<'a> {
    store: &'a dyn Store,
    head: RoomHead,
    /// By the position of their first event.
    keys: HashMap<Seq, Request>,
    replay: Replay,
    /// Appends for the next call.
    waiting: Vec<Append>,
    events: usize,
    bytes: usize,
    /// Where the append that is being gathered ends, if it has a key.
    key_ends: Option<Seq>,
    /// What the store holds already.
    had: Seq,
    /// Where the next call's appends begin.
    from: Seq,
}

async fn restore_room(store: &dyn Store, parts: &mut Parts, head: RoomHead) -> Result<(), Error> {
    let had = store.head(&head.room).await?.map_or(Seq::ZERO, |head| head.seq);
    if had > head.head {
        let what = format!("the store's log ends there, and the backup's at {}", head.head);
        return Err(Error::Room { room: head.room, seq: had, what });
    }
    let mut writing = Writing {
        store,
        head,
        keys: HashMap::new(),
        replay: Replay::default(),
        waiting: Vec::new(),
        events: 0,
        bytes: 0,
        key_ends: None,
        had,
        from: had.next(),
    };
    let mut cursors: Vec<(UserId, Seq)> = Vec::new();
    while let Some(part) = parts.next()? {
        match part {
            Part::Request(request) => drop(writing.keys.insert(request.first, request)),
            Part::Event(event) => writing.event(&event).await?,
            Part::Cursor { user, seq } => {
                cursors.push((user, seq));
                if cursors.len() == LIST {
                    restore_cursors(store, &writing.head.room, std::mem::take(&mut cursors)).await?;
                }
            }
            Part::RoomEnd(_) => break,
            Part::Header(_) | Part::Room(_) | Part::Account(_) | Part::Document(_) | Part::End(_) => {}
        }
    }
    writing.flush().await?;
    // Behind the log: a room that does not exist keeps no cursor.
    restore_cursors(store, &writing.head.room, cursors).await
}

impl Writing<'_> {
    async fn event(&mut self, event: &Event) -> Result<(), Error> {
        let Replayed { recorded, record, directory } = replayed(&mut self.replay, &self.head, event)?;
        let seq = recorded.seq;
        let key = self.keys.remove(&seq);
        if seq <= self.had {
            return if seq == self.had { self.compare(seq, record.event_id).await } else { Ok(()) };
        }
        // A key begins an append, and what is behind its last event begins another.
        let goes_on = key.is_none()
            && match self.key_ends {
                Some(last) => seq <= last,
                None => self.waiting.last().is_some_and(|append| append.records.len() < EVENTS_AT_ONCE),
            };
        let is_full = self.events >= EVENTS_AT_ONCE || self.bytes >= BYTES_AT_ONCE;
        if is_full && !(goes_on && self.key_ends.is_some()) {
            self.flush().await?;
        }
        if !goes_on || self.waiting.is_empty() {
            self.key_ends = key.as_ref().map(|key| key.last);
            self.waiting.push(Append {
                records: Vec::new(),
                fence: (seq == Seq(1)).then_some(Seq::ZERO),
                idempotency: key.map(|key| Idempotency {
                    sender: key.sender,
                    request_id: key.request_id,
                    body_hash: key.body_hash,
                }),
                directory: Vec::new(),
                // What is open was some server's that is gone: the first to start ends it.
                node: NodeId::NOBODY,
            });
        }
        self.events += 1;
        self.bytes += record.public.len() + record.private.len();
        if let Some(append) = self.waiting.last_mut() {
            append.records.push(record);
            append.directory.extend(directory);
        }
        Ok(())
    }

    /// That what is there already is the beginning of this log.
    async fn compare(&self, seq: Seq, event_id: EventId) -> Result<(), Error> {
        let page = Page { events: 1, bytes: usize::MAX };
        let there = self.store.read(&self.head.room, seq.before(), page).await?;
        if there.first().map(|record| record.event_id) == Some(event_id) {
            return Ok(());
        }
        let what = "the store holds another event there: only what this backup has begun can be gone on with";
        Err(Error::Room { room: self.head.room.clone(), seq, what: what.to_owned() })
    }

    /// Writes what waits.
    async fn flush(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let appends = std::mem::take(&mut self.waiting);
        (self.events, self.bytes, self.key_ends) = (0, 0, None);
        let counts: Vec<usize> = appends.iter().map(|append| append.records.len()).collect();
        let outcomes = self.store.append(&self.head.room, appends).await?;
        for (count, outcome) in counts.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Appended(receipt) if receipt.first == self.from => {}
                other => {
                    let what = format!("somebody else writes to this store ({other:?}): stop every server");
                    return Err(Error::Room { room: self.head.room.clone(), seq: self.from, what });
                }
            }
            self.from = self.from.plus(u64::try_from(count).unwrap_or(u64::MAX));
        }
        Ok(())
    }
}

async fn restore_cursors(store: &dyn Store, room: &RoomId, cursors: Vec<(UserId, Seq)>) -> Result<(), Error> {
    let moves = cursors
        .into_iter()
        .map(|(user, seq)| async move { store.advance_cursor(room, &user, seq).await.map_err(Error::Store) });
    futures_util::stream::iter(moves)
        .buffer_unordered(CURSORS_AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await
}

async fn restore_account(store: &dyn Store, account: Account) -> Result<(), Error> {
    let spent = account.spent.saturating_add(account.reserved).min(ledger::AMOUNT_MAX);
    let place = ledger::Account { key: account.key, begins: account.begins };
    let held = store.balances(std::slice::from_ref(&place)).await?;
    if held.first().is_some_and(|balance| balance.used() > 0) {
        // It was restored before this restore was stopped.
        return Ok(());
    }
    let reservation = Reservation {
        id: ReservationId(Uuid::now_v7()),
        run: MessageId(Uuid::now_v7()),
        at: Timestamp(account.begins.0),
        lines: vec![Line { account: place, amount: 0, limit: None, keep_until: account.keep_until }],
        node: NodeId::NOBODY,
    };
    let id = reservation.id;
    if store.reserve(reservation).await? == Reserve::Reserved {
        store.settle(id, vec![spent]).await?;
    }
    Ok(())
}

/// It begins at its first revision.
async fn restore_document(store: &dyn Store, document: Document) -> Result<(), Error> {
    let folder = folder_of(&document)?;
    let Document { name, body, .. } = document;
    if store.put_document(&folder, &name, Expect::Nothing, body.clone()).await? {
        return Ok(());
    }
    // It was restored before this restore was stopped.
    if store.document(&folder, &name).await?.is_some_and(|found| found.body == body) {
        return Ok(());
    }
    let holds = format!("another document {folder}/{name}");
    Err(Error::NotEmpty { holds, mend: "only what this backup has begun can be gone on with" })
}

fn folder_of(document: &Document) -> Result<Folder, Error> {
    let fits = !document.body.is_empty();
    Folder::parse(&document.folder)
        .filter(|_| fits)
        .ok_or_else(|| Error::Document { folder: document.folder.clone(), name: document.name.clone() })
}
