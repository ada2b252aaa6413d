//! A store whose appends a test can hold back and let fail, to put several commands into one group, and whose ledger
//! can fail before or behind what it was asked.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use salon::{
    clock::Timestamp,
    ids::{Namespace, RequestId, ReservationId, RoomId, Seq, UserId},
    store::{
        Append, Direction, Error, ErrorKind, Head, Lease, Listed, NamespaceUsage, OpenRun, Outcome, Page,
        Receipt, Record, RoomFilter, Snapshot, Store,
        documents::{Document, Expect, Folder},
        inventory::{Inventory, Item},
        ledger::{Account, Balance, OpenReservation, Reservation, Reserve},
        memory::MemoryStore,
    },
};
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

/// A store in memory with a gate before its appends.
#[derive(Debug)]
pub struct GatedStore {
    inner: MemoryStore,
    open: Semaphore,
    waiting: Notify,
    fail: AtomicBool,
    /// Whether no log can be read.
    unreadable: AtomicBool,
    /// How many appends are stored until one is lost; 0: none is.
    lose: AtomicUsize,
    /// Whether the end of no log can be found out.
    headless: AtomicBool,
    /// How often it was asked for.
    heads: AtomicUsize,
    /// Whether nobody is told what a namespace has taken.
    uncounted: AtomicBool,
    /// How many appends are stored until one is late; 0: none is.
    late: AtomicUsize,
    /// What is on its way although it has failed.
    on_its_way: Mutex<Option<(RoomId, Vec<Append>)>>,
    /// How the next calls to change the ledger fail, and how many of them.
    ledger: Mutex<(Option<Fault>, u32)>,
    pauses: AtomicBool,
    /// Whether it says that other processes write to it.
    shared: bool,
    /// How often a snapshot was asked for.
    snapshots: AtomicUsize,
    /// How often one was saved.
    saved: AtomicUsize,
    /// How often a log was read.
    reads: AtomicUsize,
}

/// When a call to change the ledger fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is changed.
    Before,
    /// It is changed, and the caller cannot know.
    After,
}

impl GatedStore {
    /// A gate that stands open.
    pub fn new() -> Self {
        let open = Semaphore::new(Semaphore::MAX_PERMITS);
        Self {
            inner: MemoryStore::new(),
            open,
            waiting: Notify::new(),
            fail: AtomicBool::new(false),
            unreadable: AtomicBool::new(false),
            headless: AtomicBool::new(false),
            heads: AtomicUsize::new(0),
            uncounted: AtomicBool::new(false),
            late: AtomicUsize::new(0),
            on_its_way: Mutex::new(None),
            ledger: Mutex::new((None, 0)),
            lose: AtomicUsize::new(0),
            pauses: AtomicBool::new(false),
            shared: false,
            snapshots: AtomicUsize::new(0),
            saved: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
        }
    }

    /// One that several servers write to.
    pub fn shared() -> Self {
        Self { shared: true, ..Self::new() }
    }

    /// How often a snapshot was asked for: a room that is loaded asks once.
    pub fn snapshots(&self) -> usize {
        self.snapshots.load(Ordering::SeqCst)
    }

    /// How often a log was read.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// How often a snapshot was saved.
    pub fn saved(&self) -> usize {
        self.saved.load(Ordering::SeqCst)
    }

    /// Shuts the gate; the guard opens it again.
    pub async fn shut(&self) -> tokio::sync::SemaphorePermit<'_> {
        let all = u32::try_from(Semaphore::MAX_PERMITS.min(u32::MAX as usize)).unwrap();
        self.open.forget_permits(self.open.available_permits().saturating_sub(all as usize));
        self.open.acquire_many(all).await.unwrap()
    }

    /// Waits until an append stands before the gate.
    pub async fn somebody_waits(&self) {
        self.waiting.notified().await;
    }

    /// The append after the one that waits now fails, and nothing of it is stored.
    pub fn fail_one(&self) {
        self.fail.store(true, Ordering::SeqCst);
    }

    /// The `n`th of the next appends, from 1, is stored, and nobody is told so.
    pub fn lose_nth(&self, n: usize) {
        self.lose.store(n, Ordering::SeqCst);
    }

    /// Whether reading a log fails from now on.
    pub fn reads_fail(&self, fail: bool) {
        self.unreadable.store(fail, Ordering::SeqCst);
    }

    /// Whether asking how far a log reaches fails from now on.
    pub fn heads_fail(&self, fail: bool) {
        self.headless.store(fail, Ordering::SeqCst);
    }

    /// How often it was asked how far a log reaches.
    pub fn heads(&self) -> usize {
        self.heads.load(Ordering::SeqCst)
    }

    /// Who asks what a namespace has taken waits for ever.
    pub fn usage_hangs(&self) {
        self.uncounted.store(true, Ordering::SeqCst);
    }

    /// The `n`th of the next appends, from 1, fails, and is stored when it arrives.
    pub fn delay_nth(&self, n: usize) {
        self.late.store(n, Ordering::SeqCst);
    }

    /// The append that failed is stored now; false: there was none.
    pub async fn arrive(&self) -> bool {
        let Some((room, appends)) = self.on_its_way.lock().unwrap().take() else { return false };
        self.inner.append(&room, appends).await.unwrap();
        true
    }

    /// So many of the next calls to change the ledger fail.
    pub fn ledger_fails(&self, fault: Option<Fault>, times: u32) {
        *self.ledger.lock().unwrap() = (fault, times);
    }

    /// Whether the next call to change the ledger fails.
    pub fn ledger_is_faulty(&self) -> bool {
        let ledger = self.ledger.lock().unwrap();
        ledger.0.is_some() && ledger.1 > 0
    }

    /// Whether calls to change the ledger wait once before they do it and once behind that.
    pub fn ledger_pauses(&self, pauses: bool) {
        self.pauses.store(pauses, Ordering::SeqCst);
    }

    /// Carries out a call to change the ledger, with what a test has put in its way.
    async fn change<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let fault = {
            let mut ledger = self.ledger.lock().unwrap();
            let fault = ledger.0.filter(|_| ledger.1 > 0);
            ledger.1 = ledger.1.saturating_sub(1);
            fault
        };
        let pauses = self.pauses.load(Ordering::SeqCst);
        let failure = unavailable();
        if pauses {
            tokio::task::yield_now().await;
        }
        if fault == Some(Fault::Before) {
            return Err(failure);
        }
        let done = call.await;
        if pauses {
            tokio::task::yield_now().await;
        }
        if fault.is_some() { Err(failure) } else { done }
    }
}

fn unavailable() -> Error {
    let what = "was told to fail".to_owned();
    Error { kind: ErrorKind::Unavailable, store: "gated", what, source: None }
}

#[async_trait]
impl Store for GatedStore {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    async fn append(&self, room: &RoomId, appends: Vec<Append>) -> Result<Vec<Outcome>, Error> {
        // Who comes while the gate is open and a failure is wanted, fails; who waits at the gate is let through.
        if self.open.available_permits() > 0 && self.fail.swap(false, Ordering::SeqCst) {
            return Err(unavailable());
        }
        if self.open.available_permits() == 0 {
            self.waiting.notify_one();
        }
        drop(self.open.acquire().await);
        let late = self.late.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if late == Ok(1) {
            *self.on_its_way.lock().unwrap() = Some((room.clone(), appends));
            return Err(unavailable());
        }
        let outcomes = self.inner.append(room, appends).await?;
        let left = self.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left == Ok(1) { Err(unavailable()) } else { Ok(outcomes) }
    }

    async fn head(&self, room: &RoomId) -> Result<Option<Head>, Error> {
        self.heads.fetch_add(1, Ordering::SeqCst);
        if self.headless.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        self.inner.head(room).await
    }

    async fn read(&self, room: &RoomId, after: Seq, page: Page) -> Result<Vec<Record>, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        self.inner.read(room, after, page).await
    }

    async fn messages(
        &self,
        room: &RoomId,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        self.inner.messages(room, direction, limit).await
    }

    async fn about(&self, room: &RoomId, subjects: &[Uuid]) -> Result<Vec<Record>, Error> {
        self.inner.about(room, subjects).await
    }

    async fn unread(&self, room: &RoomId, reader: &UserId, after: Seq, cap: u32) -> Result<u32, Error> {
        self.inner.unread(room, reader, after, cap).await
    }

    async fn request(
        &self,
        room: &RoomId,
        sender: &UserId,
        request_id: &RequestId,
    ) -> Result<Option<(Receipt, u64)>, Error> {
        self.inner.request(room, sender, request_id).await
    }

    async fn inventory(
        &self,
        of: &Inventory,
        after: Option<&Item>,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        self.inner.inventory(of, after, limit).await
    }

    async fn forget_requests(&self, before: Timestamp) -> Result<u64, Error> {
        self.inner.forget_requests(before).await
    }

    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, Error> {
        self.snapshots.fetch_add(1, Ordering::SeqCst);
        self.inner.snapshot(room).await
    }

    async fn save_snapshot(&self, room: &RoomId, snapshot: Snapshot) -> Result<(), Error> {
        self.saved.fetch_add(1, Ordering::SeqCst);
        self.inner.save_snapshot(room, snapshot).await
    }

    async fn advance_cursor(&self, room: &RoomId, user: &UserId, to: Seq) -> Result<Seq, Error> {
        self.inner.advance_cursor(room, user, to).await
    }

    async fn cursor(&self, room: &RoomId, user: &UserId) -> Result<Seq, Error> {
        self.inner.cursor(room, user).await
    }

    async fn list_rooms(&self, filter: RoomFilter, before: u64, limit: usize) -> Result<Vec<Listed>, Error> {
        self.inner.list_rooms(filter, before, limit).await
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, Error> {
        self.inner.open_runs().await
    }

    async fn beat(&self, lease: Lease) -> Result<bool, Error> {
        self.inner.beat(lease).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, Error> {
        self.inner.leases().await
    }

    async fn retire(&self, lease: Lease) -> Result<bool, Error> {
        self.inner.retire(lease).await
    }

    async fn reserve(&self, reservation: Reservation) -> Result<Reserve, Error> {
        self.change(self.inner.reserve(reservation)).await
    }

    async fn settle(&self, id: ReservationId, actual: Vec<u64>) -> Result<bool, Error> {
        self.change(self.inner.settle(id, actual)).await
    }

    async fn open_reservations(&self) -> Result<Vec<OpenReservation>, Error> {
        self.inner.open_reservations().await
    }

    async fn balances(&self, accounts: &[Account]) -> Result<Vec<Balance>, Error> {
        self.inner.balances(accounts).await
    }

    async fn forget_accounts(&self, before: Timestamp) -> Result<u64, Error> {
        self.inner.forget_accounts(before).await
    }

    async fn namespace_usage(&self, namespace: &Namespace) -> Result<NamespaceUsage, Error> {
        if self.uncounted.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        self.inner.namespace_usage(namespace).await
    }

    async fn document(&self, folder: &Folder, name: &str) -> Result<Option<Document>, Error> {
        self.inner.document(folder, name).await
    }

    async fn documents(
        &self,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error> {
        self.inner.documents(folder, after, limit).await
    }

    async fn put_document(
        &self,
        folder: &Folder,
        name: &str,
        expect: Expect,
        body: Bytes,
    ) -> Result<bool, Error> {
        self.inner.put_document(folder, name, expect, body).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}
