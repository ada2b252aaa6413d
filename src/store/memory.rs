//! The store that is gone when the server ends: for tests, for trying things out, and for rooms nobody must keep.
//!
//! It behaves as the others do in everything but durability. It never waits and never fails, except after
//! [`Store::close`]; its size is bounded by the machine's memory alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    domain::{
        event::{DirectoryChange, Kind},
        room::Visibility,
    },
    ids::{MessageId, Namespace, NodeId, RequestId, ReservationId, RoomId, Seq, UserId},
    store::{
        Append, Direction, Error, ErrorKind, Head, Idempotency, Lease, Listed, NamespaceUsage, NewRecord,
        OpenRun, Outcome, Page, Receipt, Record, RoomFilter, Snapshot, Store,
        documents::{self, Document, Expect, Folder},
        inventory::{Inventory, Item},
        ledger::{self, Account, Balance, OpenReservation, Reservation, Reserve},
        memory::{
            accounts::Accounts,
            log::{Entry, Log},
            shelf::Shelf,
        },
        rules::{self, PageFill, Placement, Taken},
    },
};

mod accounts;
mod listing;
mod log;
mod shelf;

const NAME: &str = "memory";

/// Keeps everything in one map under one lock, which is never held across a wait.
#[derive(Debug)]
pub struct MemoryStore {
    /// `None` once it is closed.
    state: Mutex<Option<State>>,
    is_shared: bool,
}

/// All rooms, their order, and the ledger.
#[derive(Debug, Default)]
struct State {
    rooms: HashMap<RoomId, Room>,
    /// By position in lists.
    order: BTreeMap<u64, RoomId>,
    accounts: Accounts,
    leases: BTreeMap<NodeId, u64>,
    documents: Shelf,
    usage: HashMap<Namespace, NamespaceUsage>,
}

#[derive(Debug)]
struct Room {
    visibility: Visibility,
    created_by: Option<UserId>,
    members: HashSet<UserId>,
    runs: HashMap<MessageId, NodeId>,
    head: Head,
    log: Log,
    /// In order.
    messages: Vec<Seq>,
    /// Ids of this server come in the order of time, and the newest are side by side.
    subjects: BTreeSet<(Uuid, Seq)>,
    requests: HashMap<(UserId, RequestId), Request>,
    snapshot: Option<Snapshot>,
    cursors: HashMap<UserId, Seq>,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    receipt: Receipt,
    body_hash: u64,
    at: Timestamp,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { state: Mutex::new(Some(State::default())), is_shared: false }
    }

    /// An empty store for several servers of one process.
    pub fn shared() -> Self {
        Self { is_shared: true, ..Self::new() }
    }

    /// Runs `work` on the state, which is whole even if an earlier `work` has panicked: nothing in here can stop
    /// half way but for lack of memory, which ends the process.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> Result<T, Error> {
        match self.lock().as_mut() {
            Some(state) => Ok(work(state)),
            None => Err(Error {
                kind: ErrorKind::Closed,
                store: NAME,
                what: "has been closed".to_owned(),
                source: None,
            }),
        }
    }

    /// As [`MemoryStore::with`], for one room; what a room that does not exist gives is the default.
    fn with_room<T: Default>(&self, room: &RoomId, work: impl FnOnce(&mut Room) -> T) -> Result<T, Error> {
        self.with(|state| state.rooms.get_mut(room).map(work).unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, id: &RoomId, append: Append) -> Outcome {
        let room = self.rooms.get_mut(id);
        if let Some(outcome) = room.as_ref().and_then(|room| room.repeat(append.idempotency.as_ref())) {
            return outcome;
        }
        let placement = match rules::place(room.as_ref().map(|room| room.head), append.fence, &append.records)
        {
            Ok(placement) => placement,
            Err(outcome) => return outcome,
        };
        let (is_new, bytes) = (room.is_none(), rules::bytes_of(&append));
        let room = match room {
            Some(room) => room,
            None => {
                self.order.insert(u64::try_from(self.order.len()).unwrap_or(u64::MAX) + 1, id.clone());
                self.rooms.entry(id.clone()).or_insert_with(|| Room::new(placement.head))
            }
        };
        let (receipt, members) = room.append(placement, append);
        let usage = self.usage.entry(id.namespace()).or_default();
        *usage = Taken { rooms: u64::from(is_new), bytes, members }.on_top_of(*usage);
        Outcome::Appended(receipt)
    }
}

impl Room {
    fn new(head: Head) -> Self {
        Self {
            visibility: Visibility::Private,
            created_by: None,
            members: HashSet::new(),
            runs: HashMap::new(),
            head,
            log: Log::default(),
            messages: Vec::new(),
            subjects: BTreeSet::new(),
            requests: HashMap::new(),
            snapshot: None,
            cursors: HashMap::new(),
        }
    }

    /// What to answer if the append was carried out before.
    fn repeat(&self, key: Option<&Idempotency>) -> Option<Outcome> {
        let key = key?;
        let request = self.requests.get(&(key.sender.clone(), key.request_id.clone()))?;
        Some(if request.body_hash == key.body_hash {
            Outcome::Duplicate(request.receipt)
        } else {
            Outcome::Reused
        })
    }

    /// Where it went, and how many members there are more.
    fn append(&mut self, placement: Placement, append: Append) -> (Receipt, i64) {
        let first = append.records.first();
        let at = first.map_or(Timestamp::default(), |record| record.at);
        let event_id = rules::first_id(&append.records);
        let receipt = Receipt { first: placement.first, last: placement.head.seq, event_id };
        let mut seq = placement.first;
        for record in append.records {
            self.push(seq, record);
            seq = seq.next();
        }
        self.head = placement.head;
        if let Some(Idempotency { sender, request_id, body_hash }) = append.idempotency {
            self.requests.insert((sender, request_id), Request { receipt, body_hash, at });
        }
        let mut members = 0;
        for change in append.directory {
            members += self.list(change, append.node);
        }
        (receipt, members)
    }

    fn push(&mut self, seq: Seq, new: NewRecord) {
        if new.kind == Kind::Message {
            self.messages.push(seq);
        }
        if let Some(subject) = new.subject {
            self.subjects.insert((subject, seq));
        }
        let NewRecord { event_id, at, kind, sender, public, private, .. } = new;
        let record = Record { seq, event_id, at, kind, public, private };
        self.log.push(Entry { record, sender });
    }

    /// Returns how many members there are more.
    fn list(&mut self, change: DirectoryChange, node: NodeId) -> i64 {
        let counts = rules::members_of(&change);
        match change {
            DirectoryChange::Room { visibility, created_by } => {
                self.visibility = visibility;
                self.created_by = created_by.or(self.created_by.take());
            }
            DirectoryChange::Joined(user) => return if self.members.insert(user) { counts } else { 0 },
            DirectoryChange::Left(user) => return if self.members.remove(&user) { counts } else { 0 },
            DirectoryChange::RunStarted(message) => {
                self.runs.insert(message, node);
            }
            DirectoryChange::RunEnded(message) => {
                self.runs.remove(&message);
            }
        }
        0
    }

    /// The records at these positions.
    fn at<'a>(&'a self, seqs: impl Iterator<Item = &'a Seq>) -> Vec<Record> {
        seqs.filter_map(|seq| self.log.get(*seq)).map(|entry| entry.record.clone()).collect()
    }

    /// The messages behind a position, and those up to it.
    fn messages_at(&self, after: Seq) -> (&[Seq], &[Seq]) {
        let (until, behind) = self.messages.split_at(self.messages.partition_point(|seq| *seq <= after));
        (behind, until)
    }

    fn is_listed(&self, id: &RoomId, filter: &RoomFilter) -> bool {
        match filter {
            RoomFilter::Public(namespace) => {
                self.visibility == Visibility::Public && id.namespace() == *namespace
            }
            RoomFilter::Of(namespace, user) => {
                let is_theirs = self.members.contains(user) || self.created_by.as_ref() == Some(user);
                is_theirs && id.namespace() == *namespace
            }
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_shared(&self) -> bool {
        self.is_shared
    }

    async fn append(&self, room: &RoomId, appends: Vec<Append>) -> Result<Vec<Outcome>, Error> {
        rules::check(NAME, &appends)?;
        self.with(|state| appends.into_iter().map(|append| state.append(room, append)).collect())
    }

    async fn head(&self, room: &RoomId) -> Result<Option<Head>, Error> {
        self.with_room(room, |room| Some(room.head))
    }

    async fn read(&self, room: &RoomId, after: Seq, page: Page) -> Result<Vec<Record>, Error> {
        self.with_room(room, |room| {
            let mut fill = PageFill::new(page);
            room.log
                .behind(after)
                .map(|entry| &entry.record)
                .take_while(|record| fill.takes(record.public.len()))
                .cloned()
                .collect()
        })
    }

    async fn messages(
        &self,
        room: &RoomId,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        self.with_room(room, |room| match direction {
            Direction::After(after) => room.at(room.messages_at(after).0.iter().take(limit)),
            Direction::Before(before) => {
                let mut records = room.at(room.messages_at(before.before()).1.iter().rev().take(limit));
                records.reverse();
                records
            }
        })
    }

    async fn about(&self, room: &RoomId, subjects: &[Uuid]) -> Result<Vec<Record>, Error> {
        self.with_room(room, |room| {
            let about =
                |subject: &Uuid| room.subjects.range((*subject, Seq::ZERO)..=(*subject, Seq(u64::MAX)));
            let mut seqs: Vec<Seq> = subjects.iter().flat_map(about).map(|(_, seq)| *seq).collect();
            seqs.sort_unstable();
            seqs.dedup();
            room.at(seqs.iter())
        })
    }

    async fn unread(&self, room: &RoomId, reader: &UserId, after: Seq, cap: u32) -> Result<u32, Error> {
        self.with_room(room, |room| {
            let entries = room.messages_at(after).0.iter().filter_map(|seq| room.log.get(*seq));
            let others = entries.filter(|entry| entry.sender.as_ref() != Some(reader));
            let counted = others.take(usize::try_from(cap).unwrap_or(usize::MAX)).count();
            u32::try_from(counted).unwrap_or(cap)
        })
    }

    async fn request(
        &self,
        room: &RoomId,
        sender: &UserId,
        request_id: &RequestId,
    ) -> Result<Option<(Receipt, u64)>, Error> {
        self.with_room(room, |room| {
            let request = room.requests.get(&(sender.clone(), request_id.clone()))?;
            Some((request.receipt, request.body_hash))
        })
    }

    async fn forget_requests(&self, before: Timestamp) -> Result<u64, Error> {
        self.with(|state| {
            let mut forgotten = 0;
            for room in state.rooms.values_mut() {
                let had = room.requests.len();
                room.requests.retain(|_, request| request.at >= before);
                forgotten += had - room.requests.len();
            }
            u64::try_from(forgotten).unwrap_or(u64::MAX)
        })
    }

    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, Error> {
        self.with_room(room, |room| room.snapshot.clone())
    }

    async fn save_snapshot(&self, room: &RoomId, snapshot: Snapshot) -> Result<(), Error> {
        self.with_room(room, |room| {
            if room.snapshot.as_ref().is_none_or(|saved| saved.seq <= snapshot.seq) {
                room.snapshot = Some(snapshot);
            }
        })
    }

    async fn advance_cursor(&self, room: &RoomId, user: &UserId, to: Seq) -> Result<Seq, Error> {
        self.with_room(room, |room| {
            let cursor = room.cursors.entry(user.clone()).or_default();
            *cursor = to.max(*cursor);
            *cursor
        })
    }

    async fn cursor(&self, room: &RoomId, user: &UserId) -> Result<Seq, Error> {
        self.with_room(room, |room| room.cursors.get(user).copied().unwrap_or_default())
    }

    async fn list_rooms(&self, filter: RoomFilter, before: u64, limit: usize) -> Result<Vec<Listed>, Error> {
        self.with(|state| {
            let older = state.order.range(..before).rev();
            let listed =
                older.filter(|(_, id)| state.rooms.get(id).is_some_and(|room| room.is_listed(id, &filter)));
            listed.take(limit).map(|(&position, room)| Listed { room: room.clone(), position }).collect()
        })
    }

    async fn namespace_usage(&self, namespace: &Namespace) -> Result<NamespaceUsage, Error> {
        self.with(|state| state.usage.get(namespace).copied().unwrap_or_default())
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, Error> {
        self.with(|state| {
            let open = |id: &RoomId, (&run, &node)| OpenRun { room: id.clone(), run, node };
            let rooms = state.rooms.iter();
            rooms.flat_map(|(id, room)| room.runs.iter().map(move |entry| open(id, entry))).collect()
        })
    }

    async fn beat(&self, Lease { node, beat }: Lease) -> Result<bool, Error> {
        self.with(|state| match state.leases.get_mut(&node) {
            Some(kept) if rules::renews(*kept, beat) => {
                *kept = beat;
                true
            }
            None if beat == rules::FIRST_BEAT => {
                state.leases.insert(node, beat);
                true
            }
            Some(_) | None => false,
        })
    }

    async fn leases(&self) -> Result<Vec<Lease>, Error> {
        self.with(|state| state.leases.iter().map(|(&node, &beat)| Lease { node, beat }).collect())
    }

    async fn retire(&self, Lease { node, beat }: Lease) -> Result<bool, Error> {
        self.with(|state| {
            let is_it = state.leases.get(&node) == Some(&beat);
            is_it && state.leases.remove(&node).is_some()
        })
    }

    async fn reserve(&self, reservation: Reservation) -> Result<Reserve, Error> {
        ledger::check(NAME, &reservation)?;
        self.with(|state| state.accounts.reserve(reservation))
    }

    async fn settle(&self, id: ReservationId, actual: Vec<u64>) -> Result<bool, Error> {
        self.with(|state| state.accounts.settle(id, &actual))
    }

    async fn open_reservations(&self) -> Result<Vec<OpenReservation>, Error> {
        self.with(|state| state.accounts.open())
    }

    async fn balances(&self, accounts: &[Account]) -> Result<Vec<Balance>, Error> {
        self.with(|state| state.accounts.balances(accounts))
    }

    async fn forget_accounts(&self, before: Timestamp) -> Result<u64, Error> {
        self.with(|state| state.accounts.forget(before))
    }

    async fn inventory(
        &self,
        of: &Inventory,
        after: Option<&Item>,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        self.with(|state| listing::list(state, of, after, limit))
    }

    async fn document(&self, folder: &Folder, name: &str) -> Result<Option<Document>, Error> {
        self.with(|state| state.documents.one(folder, name))
    }

    async fn documents(
        &self,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error> {
        self.with(|state| state.documents.page(folder, after, limit))
    }

    async fn put_document(
        &self,
        folder: &Folder,
        name: &str,
        expect: Expect,
        body: Bytes,
    ) -> Result<bool, Error> {
        documents::check(NAME, folder, name, &body)?;
        self.with(|state| state.documents.put(folder, name, expect, body))
    }

    async fn check(&self) -> Result<(), Error> {
        self.with(|_| ())
    }

    async fn close(&self) -> Result<(), Error> {
        *self.lock() = None;
        Ok(())
    }
}
