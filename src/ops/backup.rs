//! A store as a file, also while servers use it.
//!
//! What is promised: of every room that existed when the backup began, its log from the first event to one that had been
//! acknowledged, without a hole, with the keys and cursors that belong to it. With `sqlite` all of it is of one moment;
//! with a store that many servers share each room is of a moment of its own, and what is written to it later is not
//! there. Documents are of the moment at which they are read. Snapshots are left out: they are made of the log. The file has its name only when it is whole and on the disk,
//! it never takes the place of another, and only its owner may read it; a failure leaves nothing, and neither does a
//! caller that stops waiting.

use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{RoomId, Seq},
    ops::{DOCUMENTS, Error, LIST, PAGE, file::PartWriter},
    store::{
        Store,
        inventory::{Inventory, Item},
    },
    wire::backup::{Account, Document, End, Event, Header, Part, Request, RoomEnd, RoomHead, VERSION},
};

/// Writes all that `store` keeps to `file`, which must not be there yet; says how much it was.
pub async fn run(store: &dyn Store, file: &Path, now: Timestamp) -> Result<End, Error> {
    if file.exists() {
        return Err(Error::Exists { file: file.to_owned() });
    }
    let (unfinished, opened) = Unfinished::create(file)?;
    let place = unfinished.place();
    let failed = |source| Error::File { doing: "write", file: place.to_owned(), source };
    let parts = PartWriter::new(BufWriter::new(opened)).map_err(failed)?;
    let mut backup = Backup { store, parts, place, done: End::default() };
    backup.write_all(now).await?;
    let Backup { parts, done, .. } = backup;
    let written = parts.into_inner().into_inner().map_err(|error| failed(error.into_error()))?;
    written.sync_all().map_err(failed)?;
    publish(place, file)?;
    drop(unfinished);
    let failed = |source| Error::File { doing: "write", file: file.to_owned(), source };
    sync_directory(file).map_err(failed)?;
    Ok(done)
}

/// Gives what is at `place` its name, unless something has it already.
pub(super) fn publish(place: &Path, file: &Path) -> Result<(), Error> {
    match fs::hard_link(place, file) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Error::Exists { file: file.to_owned() })
        }
        // Not every file system has second names.
        Err(_) if !file.exists() => fs::rename(place, file).map_err(|source| Error::File {
            doing: "write",
            file: file.to_owned(),
            source,
        }),
        Err(source) => Err(Error::File { doing: "write", file: file.to_owned(), source }),
    }
}

/// The new name is on the disk as well.
pub(super) fn sync_directory(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// A file of ours that has no end yet; this name of it goes when this does.
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    /// One beside `file`, under a name that nobody else has, for the eyes of its owner: it holds what only servers know.
    pub(super) fn create(file: &Path) -> Result<(Self, File), Error> {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".{}.part", Uuid::new_v4().simple()));
        let place = PathBuf::from(name);
        let opened = File::options().write(true).create_new(true).mode(0o600).open(&place);
        match opened {
            Ok(opened) => Ok((Self(place), opened)),
            Err(source) => Err(Error::File { doing: "write", file: place, source }),
        }
    }

    /// Its name.
    pub(super) fn place(&self) -> &Path {
        &self.0
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It may have become the other name already.
        let _ = fs::remove_file(&self.0);
    }
}

struct Backup<'a, W> {
    store: &'a dyn Store,
    parts: PartWriter<W>,
    place: &'a Path,
    done: End,
}

impl<W: Write> Backup<'_, W> {
    fn put(&mut self, part: Part) -> Result<(), Error> {
        let failed = |source| Error::File { doing: "write", file: self.place.to_owned(), source };
        self.parts.write(part).map_err(failed)
    }

    async fn write_all(&mut self, now: Timestamp) -> Result<(), Error> {
        self.put(Part::Header(Header {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: now,
            store: self.store.name().to_owned(),
        }))?;
        if let Some(Item::Stray { number }) =
            self.store.inventory(&Inventory::Strays, None, 1).await?.into_iter().next()
        {
            return Err(Error::Stray { number });
        }
        let mut last: Option<Item> = None;
        loop {
            let page = self.store.inventory(&Inventory::Rooms, last.as_ref(), LIST).await?;
            for item in &page {
                if let Item::Room(listed) = item {
                    self.room(&listed.room).await?;
                }
            }
            match page.into_iter().next_back() {
                Some(item) => last = Some(item),
                None => break,
            }
        }
        self.accounts().await?;
        self.documents().await?;
        self.put(Part::End(self.done))
    }

    async fn room(&mut self, room: &RoomId) -> Result<(), Error> {
        // First: what is listed or read later may be of events behind it, which are left out.
        let Some(head) = self.store.head(room).await? else { return Ok(()) };
        self.put(Part::Room(RoomHead { room: room.clone(), head: head.seq, fence: head.fence }))?;
        let requests = self.requests(room, head.seq).await?;
        let events = self.events(room, head.seq).await?;
        let cursors = self.cursors(room, head.seq).await?;
        self.put(Part::RoomEnd(RoomEnd { requests, events, cursors }))?;
        self.done.rooms += 1;
        self.done.events += events;
        Ok(())
    }

    async fn requests(&mut self, room: &RoomId, head: Seq) -> Result<u64, Error> {
        let (of, mut last, mut count) = (Inventory::Requests(room.clone()), None, 0);
        loop {
            let page = self.store.inventory(&of, last.as_ref(), LIST).await?;
            let Some(end) = page.last().cloned() else { return Ok(count) };
            for item in page {
                let Item::Request(kept) = item else { continue };
                let receipt = kept.receipt;
                if receipt.last > head {
                    continue;
                }
                self.put(Part::Request(Request {
                    sender: kept.sender,
                    request_id: kept.request_id,
                    first: receipt.first,
                    last: receipt.last,
                    event_id: receipt.event_id,
                    body_hash: kept.body_hash,
                }))?;
                count += 1;
            }
            last = Some(end);
        }
    }

    async fn events(&mut self, room: &RoomId, head: Seq) -> Result<u64, Error> {
        let mut after = Seq::ZERO;
        while after < head {
            let page = self.store.read(room, after, PAGE).await?;
            if page.is_empty() {
                return Err(missing(room, after.next(), head));
            }
            for record in page.into_iter().take_while(|record| record.seq <= head) {
                if record.seq != after.next() {
                    return Err(missing(room, after.next(), head));
                }
                after = record.seq;
                self.put(Part::Event(Event {
                    seq: record.seq,
                    event_id: record.event_id,
                    at: record.at,
                    public: record.public,
                    private: record.private,
                }))?;
            }
        }
        Ok(head.0)
    }

    async fn cursors(&mut self, room: &RoomId, head: Seq) -> Result<u64, Error> {
        let (of, mut last, mut count) = (Inventory::Cursors(room.clone()), None, 0);
        loop {
            let page = self.store.inventory(&of, last.as_ref(), LIST).await?;
            let Some(end) = page.last().cloned() else { return Ok(count) };
            for item in page {
                let Item::Cursor { user, seq } = item else { continue };
                self.put(Part::Cursor { user, seq: seq.min(head) })?;
                count += 1;
            }
            last = Some(end);
        }
    }

    async fn accounts(&mut self) -> Result<(), Error> {
        let mut last = None;
        loop {
            let page = self.store.inventory(&Inventory::Accounts, last.as_ref(), LIST).await?;
            let Some(end) = page.last().cloned() else { return Ok(()) };
            for item in page {
                let Item::Account(kept) = item else { continue };
                self.put(Part::Account(Account {
                    key: kept.account.key,
                    begins: kept.account.begins,
                    spent: kept.balance.spent,
                    reserved: kept.balance.reserved,
                    keep_until: kept.keep_until,
                }))?;
                self.done.accounts += 1;
            }
            last = Some(end);
        }
    }

    /// Behind all else: what a room's events rest on was there before they were.
    async fn documents(&mut self) -> Result<(), Error> {
        let mut last = None;
        loop {
            let page = self.store.inventory(&Inventory::Documents, last.as_ref(), DOCUMENTS).await?;
            let Some(end) = page.last().cloned() else { return Ok(()) };
            for item in page {
                let Item::Document { folder, document } = item else { continue };
                let (folder, name, body) = (folder.to_string(), document.name, document.body);
                self.put(Part::Document(Document { folder, name, body }))?;
                self.done.documents += 1;
            }
            last = Some(end);
        }
    }
}

/// A log with a hole is not backed up as if it were whole.
fn missing(room: &RoomId, seq: Seq, head: Seq) -> Error {
    let what = format!("it is missing, and the log ends at {head}: `salon verify` lists all that is wrong");
    Error::Room { room: room.clone(), seq, what }
}
