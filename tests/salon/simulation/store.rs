//! The shared store as a node sees it: behind a network that is slow, fails before a call is carried out or behind it,
//! and can be cut.
//!
//! A call that was sent is carried out even if the node that sent it has crashed meanwhile, or has given it up: so a
//! crash comes between a commit and its answer.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
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
use tokio::{sync::oneshot, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{planted::Planted, random::Random, world::World};

const NAME: &str = "simulated";
/// How long a node waits for a store that it does not reach.
const UNREACHED: Duration = Duration::from_millis(1500);

/// The way of one node to the store.
#[derive(Debug)]
pub struct SimStore {
    node: usize,
    world: Arc<World>,
    behind: Arc<MemoryStore>,
    random: Mutex<Random>,
    /// Cancelled: the node has crashed, and no answer arrives there any more.
    crashed: CancellationToken,
    /// Reservations on their way: whoever settles one waits until it has arrived, as with every store whose calls may
    /// overtake one another.
    under_way: Arc<Mutex<BTreeMap<ReservationId, CancellationToken>>>,
}

/// What becomes of one call.
struct Fate {
    there: Duration,
    back: Duration,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Answered,
    NotCarriedOut,
    NotAnswered,
}

impl SimStore {
    pub fn new(node: usize, world: &Arc<World>, random: Random, crashed: CancellationToken) -> Self {
        let (world, behind) = (Arc::clone(world), Arc::clone(&world.store));
        Self { node, world, behind, random: Mutex::new(random), crashed, under_way: Arc::default() }
    }

    fn fate(&self) -> Fate {
        let weather = self.world.weather();
        let mut random = self.random.lock().unwrap();
        let (there, back) =
            (random.millis(weather.store_delay.clone()), random.millis(weather.store_delay.clone()));
        let end = if weather.without_store.contains(&self.node) {
            return Fate { there: UNREACHED, back, end: End::NotCarriedOut };
        } else if random.percent(weather.fail_before) {
            End::NotCarriedOut
        } else if random.percent(weather.fail_after) {
            End::NotAnswered
        } else {
            End::Answered
        };
        Fate { there, back, end }
    }

    async fn call<T, A, F>(
        &self,
        what: &'static str,
        show: impl FnOnce(&T) -> String,
        act: A,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        A: FnOnce(Arc<MemoryStore>) -> F + Send + 'static,
        F: Future<Output = Result<T, Error>> + Send,
    {
        if self.crashed.is_cancelled() {
            return std::future::pending().await;
        }
        let Fate { there, back, end } = self.fate();
        let (answer, answered) = oneshot::channel();
        let behind = Arc::clone(&self.behind);
        tokio::spawn(async move {
            wait(there).await;
            let result = match end {
                End::NotCarriedOut => Err(failed(what)),
                End::Answered | End::NotAnswered => act(behind).await,
            };
            wait(back).await;
            let _ = answer.send(match end {
                End::NotAnswered => Err(failed(what)),
                End::Answered | End::NotCarriedOut => result,
            });
        });
        tokio::select! {
            biased;
            () = self.crashed.cancelled() => std::future::pending().await,
            answer = answered => {
                let answer = answer.unwrap_or_else(|_| Err(failed(what)));
                match &answer {
                    Ok(answer) => {
                        let shown = show(answer);
                        if !shown.is_empty() {
                            self.say(format_args!("{what} {shown}"));
                        }
                    }
                    Err(_) => self.say(format_args!("{what} fails: {end:?}")),
                }
                answer
            }
        }
    }

    fn say(&self, what: fmt::Arguments<'_>) {
        self.world.trace.say(format_args!("node {} store {what}", self.node));
    }
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn failed(what: &str) -> Error {
    Error { kind: ErrorKind::Unavailable, store: NAME, what: format!("did not answer {what}"), source: None }
}

/// What a store would say that had carried them out.
fn made_up(appends: &[Append]) -> Vec<Outcome> {
    let receipt =
        |append: &Append| Receipt { first: Seq(1), last: Seq(1), event_id: append.records[0].event_id };
    appends.iter().map(|append| Outcome::Appended(receipt(append))).collect()
}

/// How many, unless there is none.
fn some(count: usize) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

fn nothing<T>(_: &T) -> String {
    String::new()
}

fn outcomes(outcomes: &[Outcome]) -> String {
    let shown = outcomes.iter().map(|outcome| match outcome {
        Outcome::Appended(receipt) => format!("{}..={}", receipt.first, receipt.last),
        Outcome::Duplicate(receipt) => format!("duplicate of {}", receipt.first),
        Outcome::Reused => "reused".to_owned(),
        Outcome::FenceMoved(to) => format!("fence at {to}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[async_trait]
impl Store for SimStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn append(&self, room: &RoomId, appends: Vec<Append>) -> Result<Vec<Outcome>, Error> {
        let id = room.clone();
        let show = |done: &Vec<Outcome>| format!("{id} {}", outcomes(done));
        let room = room.clone();
        let mut appends = appends;
        match self.world.planted {
            Some(Planted::Repeats) => appends.iter_mut().for_each(|append| append.idempotency = None),
            Some(Planted::NoFence) => {
                appends
                    .iter_mut()
                    .filter(|append| append.fence != Some(Seq::ZERO))
                    .for_each(|append| append.fence = None);
            }
            _ => {}
        }
        let made_up = (self.world.planted == Some(Planted::EarlyAck)).then(|| made_up(&appends));
        let done =
            self.call("append", show, move |store| async move { store.append(&room, appends).await }).await;
        done.or_else(|error| made_up.ok_or(error))
    }

    async fn head(&self, room: &RoomId) -> Result<Option<Head>, Error> {
        let room = room.clone();
        self.call("head", nothing, move |store| async move { store.head(&room).await }).await
    }

    async fn read(&self, room: &RoomId, after: Seq, page: Page) -> Result<Vec<Record>, Error> {
        let id = room.clone();
        let show = |records: &Vec<Record>| format!("{id} behind {after}: {}", records.len());
        let room = room.clone();
        self.call("read", show, move |store| async move { store.read(&room, after, page).await }).await
    }

    async fn messages(
        &self,
        room: &RoomId,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        let room = room.clone();
        let act = move |store: Arc<MemoryStore>| async move { store.messages(&room, direction, limit).await };
        self.call("messages", nothing, act).await
    }

    async fn about(&self, room: &RoomId, subjects: &[Uuid]) -> Result<Vec<Record>, Error> {
        let (room, subjects) = (room.clone(), subjects.to_vec());
        self.call("about", nothing, move |store| async move { store.about(&room, &subjects).await }).await
    }

    async fn unread(&self, room: &RoomId, reader: &UserId, after: Seq, cap: u32) -> Result<u32, Error> {
        let (room, reader) = (room.clone(), reader.clone());
        let act =
            move |store: Arc<MemoryStore>| async move { store.unread(&room, &reader, after, cap).await };
        self.call("unread", nothing, act).await
    }

    async fn request(
        &self,
        room: &RoomId,
        sender: &UserId,
        request_id: &RequestId,
    ) -> Result<Option<(Receipt, u64)>, Error> {
        let (room, sender, request_id) = (room.clone(), sender.clone(), request_id.clone());
        let act =
            move |store: Arc<MemoryStore>| async move { store.request(&room, &sender, &request_id).await };
        self.call("request", nothing, act).await
    }

    async fn forget_requests(&self, before: Timestamp) -> Result<u64, Error> {
        let act = move |store: Arc<MemoryStore>| async move { store.forget_requests(before).await };
        self.call("forget_requests", nothing, act).await
    }

    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, Error> {
        let room = room.clone();
        self.call("snapshot", nothing, move |store| async move { store.snapshot(&room).await }).await
    }

    async fn save_snapshot(&self, room: &RoomId, snapshot: Snapshot) -> Result<(), Error> {
        let (room, seq) = (room.clone(), snapshot.seq);
        let act = move |store: Arc<MemoryStore>| async move { store.save_snapshot(&room, snapshot).await };
        self.call("save_snapshot", move |()| format!("at {seq}"), act).await
    }

    async fn advance_cursor(&self, room: &RoomId, user: &UserId, to: Seq) -> Result<Seq, Error> {
        let (room, user) = (room.clone(), user.clone());
        let act = move |store: Arc<MemoryStore>| async move { store.advance_cursor(&room, &user, to).await };
        self.call("advance_cursor", nothing, act).await
    }

    async fn cursor(&self, room: &RoomId, user: &UserId) -> Result<Seq, Error> {
        let (room, user) = (room.clone(), user.clone());
        self.call("cursor", nothing, move |store| async move { store.cursor(&room, &user).await }).await
    }

    async fn list_rooms(&self, filter: RoomFilter, before: u64, limit: usize) -> Result<Vec<Listed>, Error> {
        let act = move |store: Arc<MemoryStore>| async move { store.list_rooms(filter, before, limit).await };
        self.call("list_rooms", nothing, act).await
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, Error> {
        let finds_none = self.world.planted == Some(Planted::Orphans);
        let act = move |store: Arc<MemoryStore>| async move {
            let mut open = store.open_runs().await?;
            // The trait promises no order, and a simulation must have one.
            open.sort_by(|a, b| (&a.room, a.run).cmp(&(&b.room, b.run)));
            Ok(if finds_none { Vec::new() } else { open })
        };
        self.call("open_runs", |open: &Vec<_>| some(open.len()), act).await
    }

    async fn beat(&self, lease: Lease) -> Result<bool, Error> {
        // Who has begun first is the first: the ids themselves have another order each time.
        self.world.trace.name(&lease.node.to_string());
        let show = |kept: &bool| if *kept { String::new() } else { "of a lease that is gone".to_owned() };
        self.call("beat", show, move |store| async move { store.beat(lease).await }).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, Error> {
        let world = Arc::clone(&self.world);
        let act = move |store: Arc<MemoryStore>| async move {
            let mut leases = store.leases().await?;
            leases.sort_by_key(|lease| world.trace.number(&lease.node.to_string()));
            Ok(leases)
        };
        self.call("leases", nothing, act).await
    }

    async fn retire(&self, lease: Lease) -> Result<bool, Error> {
        let name = self.world.trace.name(&lease.node.to_string());
        let show = move |was_there: &bool| format!("{name} {was_there}");
        self.call("retire", show, move |store| async move { store.retire(lease).await }).await
    }

    async fn reserve(&self, reservation: Reservation) -> Result<Reserve, Error> {
        let id = self.world.trace.name(&reservation.id.to_string());
        let show =
            |done: &Reserve| format!("{id} {}", if *done == Reserve::Reserved { "done" } else { "refused" });
        let (arrived, under_way) = (CancellationToken::new().drop_guard(), Arc::clone(&self.under_way));
        under_way.lock().unwrap().insert(reservation.id, arrived.token().clone());
        let act = move |store: Arc<MemoryStore>| async move {
            let _arrived = arrived;
            let reserved = store.reserve(reservation.clone()).await;
            under_way.lock().unwrap().remove(&reservation.id);
            reserved
        };
        self.call("reserve", show, act).await
    }

    async fn settle(&self, id: ReservationId, actual: Vec<u64>) -> Result<bool, Error> {
        let name = self.world.trace.name(&id.to_string());
        let arrives = self.under_way.lock().unwrap().get(&id).cloned();
        if let Some(arrives) = arrives {
            arrives.cancelled().await;
        }
        let show = |was_open: &bool| format!("{name} {was_open}");
        self.call("settle", show, move |store| async move { store.settle(id, actual).await }).await
    }

    async fn open_reservations(&self) -> Result<Vec<OpenReservation>, Error> {
        let act = |store: Arc<MemoryStore>| async move {
            let mut open = store.open_reservations().await?;
            open.sort_by_key(|open| (open.at, open.run));
            Ok(open)
        };
        self.call("open_reservations", |open: &Vec<_>| some(open.len()), act).await
    }

    async fn balances(&self, accounts: &[Account]) -> Result<Vec<Balance>, Error> {
        let accounts = accounts.to_vec();
        self.call("balances", nothing, move |store| async move { store.balances(&accounts).await }).await
    }

    async fn forget_accounts(&self, before: Timestamp) -> Result<u64, Error> {
        let act = move |store: Arc<MemoryStore>| async move { store.forget_accounts(before).await };
        self.call("forget_accounts", nothing, act).await
    }

    async fn namespace_usage(&self, namespace: &Namespace) -> Result<NamespaceUsage, Error> {
        let namespace = namespace.clone();
        let act = move |store: Arc<MemoryStore>| async move { store.namespace_usage(&namespace).await };
        self.call("namespace_usage", nothing, act).await
    }

    async fn inventory(
        &self,
        of: &Inventory,
        after: Option<&Item>,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        let (of, after) = (of.clone(), after.cloned());
        let act =
            move |store: Arc<MemoryStore>| async move { store.inventory(&of, after.as_ref(), limit).await };
        self.call("inventory", nothing, act).await
    }

    async fn document(&self, folder: &Folder, name: &str) -> Result<Option<Document>, Error> {
        let (folder, name) = (folder.clone(), name.to_owned());
        let act = move |store: Arc<MemoryStore>| async move { store.document(&folder, &name).await };
        self.call("document", nothing, act).await
    }

    async fn documents(
        &self,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error> {
        let (folder, after) = (folder.clone(), after.map(str::to_owned));
        let act = move |store: Arc<MemoryStore>| async move {
            store.documents(&folder, after.as_deref(), limit).await
        };
        self.call("documents", nothing, act).await
    }

    async fn put_document(
        &self,
        folder: &Folder,
        name: &str,
        expect: Expect,
        body: Bytes,
    ) -> Result<bool, Error> {
        let (folder, name) = (folder.clone(), name.to_owned());
        let act = move |store: Arc<MemoryStore>| async move {
            store.put_document(&folder, &name, expect, body).await
        };
        self.call("put_document", nothing, act).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.call("check", nothing, |store| async move { store.check().await }).await
    }

    /// The store outlives its nodes.
    async fn close(&self) -> Result<(), Error> {
        std::future::ready(Ok(())).await
    }
}
