//! Whether a store is what it promises to be: everything that it answers is compared with its logs.
//!
//! Nothing is changed and nothing is mended: each finding says what is wrong and where. The log is what is true: lists,
//! indexes, keys, cursors and snapshots are made of it. A room that is written to meanwhile is looked at again, and what
//! is still wrong then is told; a room that never rests is told as one that could not be judged.

mod chain;
pub mod heads;
mod indexes;
mod lists;
mod public;
mod room;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    domain::room::Visibility,
    ids::{MessageId, Namespace, RoomId, Seq},
    ops::{Error, LIST, verify::heads::Heads},
    store::{
        self, ErrorKind, Store,
        inventory::{Inventory, Item, ListedRoom},
    },
};

/// Findings that are told of one room: a damaged one may have as many as events.
const FINDINGS_PER_ROOM: usize = 20;
/// How often a room is looked at that is written to meanwhile.
const LOOKS: usize = 5;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In which room; none: in the ledger, or in a list of all rooms.
    pub room: Option<RoomId>,
    /// At which of its events, if it is about one.
    pub seq: Option<Seq>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.room, self.seq) {
            (Some(room), Some(seq)) => write!(f, "room {room}, event {seq}: {}", self.what),
            (Some(room), None) => write!(f, "room {room}: {}", self.what),
            (None, _) => f.write_str(&self.what),
        }
    }
}

/// How much was looked at, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Rooms.
    pub rooms: u64,
    /// Events.
    pub events: u64,
    /// What is wrong.
    pub findings: u64,
    /// Whether answers were open, so that the ledger was not looked at: what they have reserved moves.
    pub is_ledger_busy: bool,
}

/// Looks at everything; `tell` hears of each finding as it is made.
pub async fn run(store: &dyn Store, tell: &mut (dyn FnMut(Finding) + Send)) -> Result<Report, Error> {
    run_with(store, &Heads::default(), &mut Heads::default(), tell).await
}

/// Looks at everything and compares logs with what they came to once; `now` gets what they come to.
pub async fn run_with(
    store: &dyn Store,
    kept: &Heads,
    now: &mut Heads,
    tell: &mut (dyn FnMut(Finding) + Send),
) -> Result<Report, Error> {
    let (report, members) = (Report::default(), lists::Sum::default());
    let mut verify = Verify { store, tell, kept, now, report, members, public: BTreeMap::new() };
    let runs = Runs::of_store(store).await?;
    let (mut last, mut known): (Option<Item>, u64) = (None, 0);
    loop {
        let page = verify.page(&Inventory::Rooms, last.as_ref()).await?;
        for item in &page {
            if let Item::Room(listed) = item {
                verify.room(listed, &runs).await?;
                let public = verify.public.entry(listed.room.namespace()).or_default();
                if listed.visibility == Visibility::Public {
                    public.add_room(&listed.room);
                }
                known += runs.of(&listed.room).len() as u64;
            }
        }
        match page.into_iter().next_back() {
            Some(item) => last = Some(item),
            None => break,
        }
    }
    verify.gone().await?;
    verify.runs(&runs, known).await?;
    verify.strays().await?;
    verify.members().await?;
    verify.public_rooms().await?;
    verify.ledger().await?;
    Ok(verify.report)
}

/// What the store says is open.
struct Runs(BTreeSet<(RoomId, MessageId)>);

impl Runs {
    async fn of_store(store: &dyn Store) -> Result<Self, Error> {
        let open = store.open_runs().await?;
        Ok(Self(open.into_iter().map(|open| (open.room, open.run)).collect()))
    }

    fn of(&self, room: &RoomId) -> BTreeSet<MessageId> {
        let nil = MessageId(uuid::Uuid::nil());
        let from = self.0.range((room.clone(), nil)..);
        from.take_while(|(of, _)| of == room).map(|(_, run)| *run).collect()
    }
}

struct Verify<'a> {
    store: &'a dyn Store,
    tell: &'a mut (dyn FnMut(Finding) + Send),
    /// What logs came to once.
    kept: &'a Heads,
    /// What they come to.
    now: &'a mut Heads,
    report: Report,
    /// Of the memberships that the logs speak of.
    members: lists::Sum,
    /// Of the public rooms of each namespace.
    public: BTreeMap<Namespace, lists::Sum>,
}

impl Verify<'_> {
    fn found(&mut self, finding: Finding) {
        self.report.findings += 1;
        (self.tell)(finding);
    }

    /// One room, once more as long as it is written to.
    async fn room(&mut self, listed: &ListedRoom, runs: &Runs) -> Result<(), Error> {
        let id = &listed.room;
        let mut known = (listed.clone(), runs.of(id));
        let mut found_before = Vec::new();
        for look in 1..=LOOKS {
            let before = unreadable(self.store.head(id).await)?;
            let mut looked = room::look(self.store, &known.0, &known.1, self.kept).await?;
            let after = unreadable(self.store.head(id).await)?;
            if before == after || looked.findings.is_empty() || look == LOOKS {
                if before != after {
                    // What is wrong stays wrong; what was only read at two moments is something else each time.
                    looked.findings.retain(|finding| found_before.contains(finding));
                }
                if before != after && !looked.findings.is_empty() {
                    let what = "it is written to all the time; what follows may be only that".to_owned();
                    looked.findings.insert(0, Finding { room: Some(id.clone()), seq: None, what });
                }
                self.report.rooms += 1;
                self.report.events += looked.events;
                self.members.add(&looked.members);
                if let Some(link) = looked.link {
                    self.now.add(id, link);
                }
                self.tell_of_room(id, looked.findings);
                return Ok(());
            }
            found_before = looked.findings;
            known = self.again(listed).await?;
        }
        Ok(())
    }

    fn tell_of_room(&mut self, room: &RoomId, findings: Vec<Finding>) {
        let more = findings.len().saturating_sub(FINDINGS_PER_ROOM);
        for finding in findings.into_iter().take(FINDINGS_PER_ROOM) {
            self.found(finding);
        }
        if more > 0 {
            let what = format!("and {more} more");
            self.found(Finding { room: Some(room.clone()), seq: None, what });
        }
    }

    /// What lists say of a room now.
    async fn again(&self, listed: &ListedRoom) -> Result<(ListedRoom, BTreeSet<MessageId>), Error> {
        let before = Item::Room(ListedRoom { position: listed.position.saturating_sub(1), ..listed.clone() });
        let page = self.store.inventory(&Inventory::Rooms, Some(&before), 1).await?;
        let now = match page.into_iter().next() {
            Some(Item::Room(now)) if now.room == listed.room => now,
            _ => listed.clone(),
        };
        let runs = Runs::of_store(self.store).await?;
        Ok((now, runs.of(&listed.room)))
    }

    /// The next page of a list; one that cannot be read is told, and ends the list.
    async fn page(&mut self, of: &Inventory, last: Option<&Item>) -> Result<Vec<Item>, Error> {
        match unreadable(self.store.inventory(of, last, LIST).await)? {
            Ok(page) => Ok(page),
            Err(problem) => {
                let what = format!("the list of all {of:?} cannot be read to its end: {problem}");
                self.found(Finding { room: None, seq: None, what });
                Ok(Vec::new())
            }
        }
    }

    /// Rooms of which only a head is left.
    async fn gone(&mut self) -> Result<(), Error> {
        let kept = self.kept;
        for (room, seq) in kept.last() {
            if matches!(unreadable(self.store.head(room).await)?, Ok(None)) {
                let what = "its head was kept, and the store has no such room".to_owned();
                self.found(Finding { room: Some(room.clone()), seq: Some(seq), what });
            }
        }
        Ok(())
    }

    /// Runs of rooms that no list has.
    async fn runs(&mut self, runs: &Runs, known: u64) -> Result<(), Error> {
        if known == runs.0.len() as u64 {
            return Ok(());
        }
        for (room, run) in &runs.0 {
            if matches!(unreadable(self.store.head(room).await)?, Ok(None)) {
                let what = format!("the answer {run} is open, but there is no such room");
                self.found(Finding { room: Some(room.clone()), seq: None, what });
            }
        }
        Ok(())
    }
}

/// A page that cannot be read is a finding; a store that is away is not.
fn unreadable<T>(result: Result<T, store::Error>) -> Result<Result<T, String>, Error> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.kind == ErrorKind::Corrupt => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}
