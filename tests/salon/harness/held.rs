//! A store that a test can cut off from one server: its calls stand still, as those of a process that is stopped do.
//! What was called before is answered when it is let go on.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use salon::{
    clock::Timestamp,
    ids::{Namespace, RequestId, ReservationId, RoomId, Seq, UserId},
    store::{
        Append, Direction, Error, Head, Lease, Listed, NamespaceUsage, OpenRun, Outcome, Page, Receipt,
        Record, RoomFilter, Snapshot, Store,
        documents::{Document, Expect, Folder},
        inventory::{Inventory, Item},
        ledger::{Account, Balance, OpenReservation, Reservation, Reserve},
    },
};
use tokio::sync::watch;
use uuid::Uuid;

/// One server's way to a store that others use as well.
#[derive(Debug)]
pub struct HeldStore {
    inner: Arc<dyn Store>,
    held: watch::Sender<bool>,
    /// Nothing but beats is held.
    beats_only: bool,
    /// Nothing but appends to this room is held.
    room_only: Option<RoomId>,
}

impl HeldStore {
    /// A free way.
    pub fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, held: watch::Sender::new(false), beats_only: false, room_only: None })
    }

    /// A free way, of which only the beats can be held.
    pub fn of_beats(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, held: watch::Sender::new(false), beats_only: true, room_only: None })
    }

    /// A free way, of which only the appends to one room can be held.
    pub fn of_room(inner: Arc<dyn Store>, room: &str) -> Arc<Self> {
        let room_only = Some(RoomId::parse(room).unwrap());
        Arc::new(Self { inner, held: watch::Sender::new(false), beats_only: false, room_only })
    }

    /// From now on calls stand still, or go on again.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    async fn pass(&self) {
        // The sender lives as long as this.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }

    /// A call stands still before it is carried out, or behind that.
    async fn through<T>(&self, call: impl Future<Output = T>) -> T {
        if self.beats_only || self.room_only.is_some() {
            return call.await;
        }
        self.pass().await;
        let done = call.await;
        self.pass().await;
        done
    }
}

#[async_trait]
impl Store for HeldStore {
    fn name(&self) -> &'static str {
        "held"
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn append(&self, room: &RoomId, appends: Vec<Append>) -> Result<Vec<Outcome>, Error> {
        if self.room_only.as_ref() == Some(room) {
            self.pass().await;
        }
        self.through(self.inner.append(room, appends)).await
    }

    async fn head(&self, room: &RoomId) -> Result<Option<Head>, Error> {
        self.through(self.inner.head(room)).await
    }

    async fn read(&self, room: &RoomId, after: Seq, page: Page) -> Result<Vec<Record>, Error> {
        self.through(self.inner.read(room, after, page)).await
    }

    async fn messages(
        &self,
        room: &RoomId,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        self.through(self.inner.messages(room, direction, limit)).await
    }

    async fn about(&self, room: &RoomId, subjects: &[Uuid]) -> Result<Vec<Record>, Error> {
        self.through(self.inner.about(room, subjects)).await
    }

    async fn unread(&self, room: &RoomId, reader: &UserId, after: Seq, cap: u32) -> Result<u32, Error> {
        self.through(self.inner.unread(room, reader, after, cap)).await
    }

    async fn request(
        &self,
        room: &RoomId,
        sender: &UserId,
        request_id: &RequestId,
    ) -> Result<Option<(Receipt, u64)>, Error> {
        self.through(self.inner.request(room, sender, request_id)).await
    }

    async fn forget_requests(&self, before: Timestamp) -> Result<u64, Error> {
        self.through(self.inner.forget_requests(before)).await
    }

    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, Error> {
        self.through(self.inner.snapshot(room)).await
    }

    async fn save_snapshot(&self, room: &RoomId, snapshot: Snapshot) -> Result<(), Error> {
        self.through(self.inner.save_snapshot(room, snapshot)).await
    }

    async fn advance_cursor(&self, room: &RoomId, user: &UserId, to: Seq) -> Result<Seq, Error> {
        self.through(self.inner.advance_cursor(room, user, to)).await
    }

    async fn cursor(&self, room: &RoomId, user: &UserId) -> Result<Seq, Error> {
        self.through(self.inner.cursor(room, user)).await
    }

    async fn list_rooms(&self, filter: RoomFilter, before: u64, limit: usize) -> Result<Vec<Listed>, Error> {
        self.through(self.inner.list_rooms(filter, before, limit)).await
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, Error> {
        self.through(self.inner.open_runs()).await
    }

    async fn beat(&self, lease: Lease) -> Result<bool, Error> {
        if self.room_only.is_none() {
            self.pass().await;
        }
        self.inner.beat(lease).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, Error> {
        self.through(self.inner.leases()).await
    }

    async fn retire(&self, lease: Lease) -> Result<bool, Error> {
        self.through(self.inner.retire(lease)).await
    }

    async fn reserve(&self, reservation: Reservation) -> Result<Reserve, Error> {
        self.through(self.inner.reserve(reservation)).await
    }

    async fn settle(&self, id: ReservationId, actual: Vec<u64>) -> Result<bool, Error> {
        self.through(self.inner.settle(id, actual)).await
    }

    async fn open_reservations(&self) -> Result<Vec<OpenReservation>, Error> {
        self.through(self.inner.open_reservations()).await
    }

    async fn balances(&self, accounts: &[Account]) -> Result<Vec<Balance>, Error> {
        self.through(self.inner.balances(accounts)).await
    }

    async fn forget_accounts(&self, before: Timestamp) -> Result<u64, Error> {
        self.through(self.inner.forget_accounts(before)).await
    }

    async fn namespace_usage(&self, namespace: &Namespace) -> Result<NamespaceUsage, Error> {
        self.through(self.inner.namespace_usage(namespace)).await
    }

    async fn inventory(
        &self,
        of: &Inventory,
        after: Option<&Item>,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        self.through(self.inner.inventory(of, after, limit)).await
    }

    async fn document(&self, folder: &Folder, name: &str) -> Result<Option<Document>, Error> {
        self.through(self.inner.document(folder, name)).await
    }

    async fn documents(
        &self,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error> {
        self.through(self.inner.documents(folder, after, limit)).await
    }

    async fn put_document(
        &self,
        folder: &Folder,
        name: &str,
        expect: Expect,
        body: Bytes,
    ) -> Result<bool, Error> {
        self.through(self.inner.put_document(folder, name, expect, body)).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.through(self.inner.check()).await
    }

    /// Others use it.
    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}
