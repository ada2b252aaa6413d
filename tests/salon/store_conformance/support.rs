//! Stores and appends to test with.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use salon::{
    clock::Timestamp,
    domain::{
        event::{DirectoryChange, Kind},
        room::Visibility,
    },
    ids::{EventId, NodeId, RequestId, RoomId, Seq, UserId},
    store::{
        self, Append, Idempotency, NewRecord, Outcome, Page, Receipt, Record, Store,
        config::{Durability, StoreConfig, StoreKind},
    },
};
use tempfile::TempDir;
use uuid::Uuid;

/// A page that has room for everything.
pub const ALL: Page = Page { events: 1_000_000, bytes: usize::MAX };

/// An empty store of its own.
pub struct Fresh {
    pub store: Arc<dyn Store>,
    place: Place,
}

/// Where it is, and what is left of it behind the test.
enum Place {
    Nowhere,
    File {
        _directory: TempDir,
    },
    #[cfg(feature = "postgres")]
    Schema(super::postgres::Schema),
    #[cfg(feature = "dynamodb")]
    Table(super::dynamodb::Table),
}

impl Fresh {
    pub async fn memory() -> Option<Self> {
        let config = StoreConfig { kind: StoreKind::Memory, ..StoreConfig::default() };
        Some(Self { store: store::open::open(&config).await.unwrap(), place: Place::Nowhere })
    }

    pub async fn sqlite(durability: Durability) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let config = StoreConfig { durability, ..sqlite_config(directory.path()) };
        let store = store::open::open(&config).await.unwrap();
        Some(Self { store, place: Place::File { _directory: directory } })
    }

    #[cfg(feature = "postgres")]
    pub async fn postgres() -> Option<Self> {
        let schema = super::postgres::Schema::new().await?;
        let store = store::open::open(&schema.config()).await.unwrap();
        Some(Self { store, place: Place::Schema(schema) })
    }

    #[cfg(feature = "dynamodb")]
    pub async fn dynamodb() -> Option<Self> {
        let table = super::dynamodb::Table::new().await?;
        let store = store::open::open(&table.config()).await.unwrap();
        Some(Self { store, place: Place::Table(table) })
    }

    /// Leaves nothing behind.
    pub async fn finish(self) {
        self.store.close().await.unwrap();
        match self.place {
            Place::Nowhere | Place::File { .. } => {}
            #[cfg(feature = "postgres")]
            Place::Schema(schema) => schema.drop().await,
            #[cfg(feature = "dynamodb")]
            Place::Table(table) => table.drop().await,
        }
    }
}

pub fn sqlite_config(directory: &Path) -> StoreConfig {
    StoreConfig { path: directory.join("salon.db"), ..StoreConfig::default() }
}

pub fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

pub fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

/// An id that no other record of this program has.
pub fn next_id() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(NEXT.fetch_add(1, Ordering::Relaxed).into())
}

/// Something that moves the fence.
pub fn fact(text: &str) -> NewRecord {
    NewRecord {
        event_id: EventId(next_id()),
        at: Timestamp(1_000),
        kind: Kind::Other,
        sender: None,
        subject: None,
        moves_fence: true,
        public: text.to_owned().into(),
        private: "kept back".into(),
    }
}

/// A message; it does not move the fence.
pub fn message(sender: &str, text: &str) -> NewRecord {
    let record = fact(text);
    let subject = Some(record.event_id.0);
    NewRecord { kind: Kind::Message, sender: Some(user(sender)), subject, moves_fence: false, ..record }
}

/// An append of these, under no condition.
pub fn plain(records: Vec<NewRecord>) -> Append {
    Append { records, fence: None, idempotency: None, directory: Vec::new(), node: NodeId::NOBODY }
}

/// An append that begins a room.
pub fn creation(visibility: Visibility, created_by: Option<&str>) -> Append {
    let created_by = created_by.map(user);
    let directory = vec![DirectoryChange::Room { visibility, created_by }];
    Append { fence: Some(Seq::ZERO), directory, ..plain(vec![fact("created")]) }
}

/// A key for `append`.
pub fn keyed(append: Append, sender: &str, request_id: &str, body_hash: u64) -> Append {
    let request_id = RequestId::parse(request_id).unwrap();
    Append { idempotency: Some(Idempotency { sender: user(sender), request_id, body_hash }), ..append }
}

/// A new public room with one event.
pub async fn created(store: &Arc<dyn Store>, name: &str) -> RoomId {
    let room = room(name);
    appended(store, &room, creation(Visibility::Public, None)).await;
    room
}

/// The answer to one append.
pub async fn outcome(store: &Arc<dyn Store>, room: &RoomId, append: Append) -> Outcome {
    let outcomes = store.append(room, vec![append]).await.unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes[0]
}

/// The receipt of one append that must be carried out now.
pub async fn appended(store: &Arc<dyn Store>, room: &RoomId, append: Append) -> Receipt {
    match outcome(store, room, append).await {
        Outcome::Appended(receipt) => receipt,
        other => panic!("not appended: {other:?}"),
    }
}

/// The whole log.
pub async fn log(store: &Arc<dyn Store>, room: &RoomId) -> Vec<Record> {
    store.read(room, Seq::ZERO, ALL).await.unwrap()
}

/// The positions of these.
pub fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.seq.0).collect()
}

/// The texts of these.
pub fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.public.to_vec()).unwrap()).collect()
}

/// That the log is 1, 2, 3 … up to `last`.
pub fn assert_no_holes(records: &[Record], last: u64) {
    assert_eq!(seqs(records), (1..=last).collect::<Vec<_>>());
}
