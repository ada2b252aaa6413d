//! A store that many servers share and nobody runs: one table of Amazon DynamoDB.
//!
//! What the table holds is written down in `items.rs`. The events of a call are one item, a *batch*, at the position of
//! the first of them. It is written only if nothing is there, and so by one: batches follow on one another without a
//! hole, and whoever has written the last one knows where the log ends (`hints.rs`). An append to a room that no other
//! process writes to reads nothing first. What comes with the events (idempotency keys, entries of subjects, lists, open
//! runs) is written with them in one transaction; events with nothing beside them are one plain write.
//!
//! A transaction takes 100 items of 4 MiB together, an item 400 KiB: a call of many appends is as many transactions as it
//! needs, cut between appends (`plan.rs`); a batch that is larger than an item goes on in others. One append takes 3.5
//! MiB of events and about 40 changes of lists; more is refused.
//!
//! Everything is read as it is now (`ConsistentRead`), but for the index that says what may be forgotten, which is a
//! little behind. Acknowledged is what the service has acknowledged: it is on several disks in several places then.
//! `durability` changes nothing.
//!
//! When the service is away or throttles, requests are sent again until `store.timeout` is over; then the call fails with
//! [`ErrorKind::Unavailable`] and nothing was acknowledged. A request whose answer is lost is sent again with the same
//! condition, which finds out what became of the first (`client.rs`). If nobody answers at all, what was on its way may
//! still be carried out, moments after the call has failed; who reads then and finds nothing has to expect that.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{Namespace, RequestId, ReservationId, RoomId, Seq, UserId},
    store::{
        Append, Direction, Error, ErrorKind, Head, Lease, Listed, NamespaceUsage, OpenRun, Outcome, Page,
        Receipt, Record, RoomFilter, Snapshot, Store,
        config::StoreConfig,
        documents::{self as kept, Document, Expect, Folder},
        dynamodb::{
            client::Table,
            failure::{NAME, error},
            hints::Hints,
            taken::Tally,
        },
        inventory::{Inventory, Item},
        ledger::{self, Account, Balance, OpenReservation, Reservation, Reserve},
        pending::Pending,
        rules,
    },
};

mod accounts;
mod append;
mod client;
mod codec;
mod documents;
mod failure;
mod forget;
mod hints;
mod inventory;
mod items;
mod leases;
mod log;
mod lookups;
mod plan;
mod query;
mod snapshots;
mod table;
mod taken;

/// How long a start waits for a service that cannot be reached: both may be starting after the same loss of power.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to reach it.
const RETRY: Duration = Duration::from_secs(1);

/// A store in a table of DynamoDB. To be closed with [`Store::close`].
#[derive(Debug)]
pub struct DynamoStore {
    table: Arc<Table>,
    hints: Hints,
    tally: Tally,
    pending: Pending,
    /// Whoever opened it may not write.
    is_to_read: bool,
}

impl DynamoStore {
    /// Finds the table, which `salon setup` has made. A service that cannot be reached is waited for, up to a minute.
    ///
    /// Every other refusal is [`ErrorKind::Unusable`] and says what an operator can do: no region, no credentials or
    /// wrong ones, a lack of rights, no such table, another program's table, one of a newer build.
    pub async fn open(config: &StoreConfig) -> Result<Self, Error> {
        Ok(Self::on(reach(config, async |table| table::check(table).await).await?.0, false))
    }

    /// Finds the table as [`DynamoStore::open`] does, without waiting. Nothing is made, and whatever would write fails.
    pub async fn open_to_read(config: &StoreConfig) -> Result<Self, Error> {
        let table = Table::new(config).await?;
        table::check(&table).await?;
        Ok(Self::on(table, true))
    }

    fn on(table: Table, is_to_read: bool) -> Self {
        let table = Arc::new(table);
        Self {
            table,
            hints: Hints::default(),
            tally: Tally::default(),
            pending: Pending::default(),
            is_to_read,
        }
    }

    /// Refuses what would write to a table that was opened to be read only.
    fn check_writable(&self) -> Result<(), Error> {
        if self.is_to_read {
            return Err(error(ErrorKind::Unusable, "was opened to be read only"));
        }
        Ok(())
    }

    /// Makes the table, or what is missing of it; returns what was done, for people.
    pub async fn set_up(config: &StoreConfig) -> Result<Vec<String>, Error> {
        reach(config, async |table| table::set_up(table).await).await.map(|(_, done)| done)
    }
}

/// Tries until the service answers.
async fn reach<T>(
    config: &StoreConfig,
    mut with: impl AsyncFnMut(&Table) -> Result<T, Error>,
) -> Result<(Table, T), Error> {
    let table = Table::new(config).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match with(&table).await {
            Ok(done) => return Ok((table, done)),
            Err(error) if error.retryable() && Instant::now() + RETRY < deadline => {
                tracing::warn!(%error, source = ?error.source, "the store's service is waited for");
                sleep(RETRY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[async_trait]
impl Store for DynamoStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn append(&self, room: &RoomId, appends: Vec<Append>) -> Result<Vec<Outcome>, Error> {
        rules::check(NAME, &appends)?;
        self.check_writable()?;
        append::append(self, room, &appends).await
    }

    async fn head(&self, room: &RoomId) -> Result<Option<Head>, Error> {
        Ok(log::end(&self.table, room).await?.map(|end| end.head))
    }

    async fn read(&self, room: &RoomId, after: Seq, page: Page) -> Result<Vec<Record>, Error> {
        log::read(&self.table, room, after, page).await
    }

    async fn messages(
        &self,
        room: &RoomId,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        log::messages(&self.table, room, direction, limit).await
    }

    async fn about(&self, room: &RoomId, subjects: &[Uuid]) -> Result<Vec<Record>, Error> {
        log::about(&self.table, room, subjects).await
    }

    async fn unread(&self, room: &RoomId, reader: &UserId, after: Seq, cap: u32) -> Result<u32, Error> {
        log::unread(&self.table, room, reader, after, cap).await
    }

    async fn request(
        &self,
        room: &RoomId,
        sender: &UserId,
        request_id: &RequestId,
    ) -> Result<Option<(Receipt, u64)>, Error> {
        lookups::request(&self.table, room, sender, request_id).await
    }

    async fn forget_requests(&self, before: Timestamp) -> Result<u64, Error> {
        self.check_writable()?;
        forget::forget(&self.table, plan::REQUESTS, before).await
    }

    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, Error> {
        snapshots::read(&self.table, room).await
    }

    async fn save_snapshot(&self, room: &RoomId, snapshot: Snapshot) -> Result<(), Error> {
        self.check_writable()?;
        snapshots::save(self, room, &snapshot).await
    }

    async fn advance_cursor(&self, room: &RoomId, user: &UserId, to: Seq) -> Result<Seq, Error> {
        self.check_writable()?;
        lookups::advance_cursor(self, room, user, to).await
    }

    async fn cursor(&self, room: &RoomId, user: &UserId) -> Result<Seq, Error> {
        lookups::cursor(&self.table, room, user).await
    }

    async fn list_rooms(&self, filter: RoomFilter, before: u64, limit: usize) -> Result<Vec<Listed>, Error> {
        self.table.check_open()?;
        lookups::list_rooms(&self.table, &filter, before, limit).await
    }

    async fn namespace_usage(&self, namespace: &Namespace) -> Result<NamespaceUsage, Error> {
        self.tally.usage(&self.table, namespace).await
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, Error> {
        lookups::open_runs(&self.table).await
    }

    async fn beat(&self, lease: Lease) -> Result<bool, Error> {
        self.check_writable()?;
        leases::beat(&self.table, lease).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, Error> {
        leases::all(&self.table).await
    }

    async fn retire(&self, lease: Lease) -> Result<bool, Error> {
        self.check_writable()?;
        leases::retire(&self.table, lease).await
    }

    async fn reserve(&self, reservation: Reservation) -> Result<Reserve, Error> {
        ledger::check(NAME, &reservation)?;
        self.check_writable()?;
        let table = Arc::clone(&self.table);
        let id = reservation.id;
        self.pending.carry_out(NAME, id, async move { accounts::reserve(&table, &reservation).await }).await
    }

    async fn settle(&self, id: ReservationId, actual: Vec<u64>) -> Result<bool, Error> {
        self.check_writable()?;
        self.pending.arrived(id).await;
        accounts::settle(&self.table, id, &actual).await
    }

    async fn open_reservations(&self) -> Result<Vec<OpenReservation>, Error> {
        accounts::open(&self.table).await
    }

    async fn balances(&self, accounts: &[Account]) -> Result<Vec<Balance>, Error> {
        accounts::balances(&self.table, accounts).await
    }

    async fn forget_accounts(&self, before: Timestamp) -> Result<u64, Error> {
        self.check_writable()?;
        forget::forget(&self.table, accounts::ACCOUNTS, before).await
    }

    async fn inventory(
        &self,
        of: &Inventory,
        after: Option<&Item>,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        inventory::list(&self.table, of, after, limit).await
    }

    async fn document(&self, folder: &Folder, name: &str) -> Result<Option<Document>, Error> {
        documents::one(&self.table, folder, name).await
    }

    async fn documents(
        &self,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error> {
        documents::page(&self.table, folder, after, limit).await
    }

    async fn put_document(
        &self,
        folder: &Folder,
        name: &str,
        expect: Expect,
        body: Bytes,
    ) -> Result<bool, Error> {
        kept::check(NAME, folder, name, &body)?;
        self.check_writable()?;
        documents::put(&self.table, folder, name, expect, &body).await
    }

    async fn check(&self) -> Result<(), Error> {
        if self.table.is_failing() && !self.is_to_read {
            lookups::probe(&self.table).await
        } else {
            table::check(&self.table).await
        }
    }

    async fn close(&self) -> Result<(), Error> {
        self.pending.close().await;
        self.tally.finish(&self.table).await;
        self.table.close().await;
        Ok(())
    }
}
