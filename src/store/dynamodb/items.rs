//! Items of the table: their keys, and their values as the store's own. What cannot have been written is an error,
//! never a guess.
//!
//! The whole table, one line for each kind of item:
//!
//! | `pk` | `sk` | what it is |
//! |---|---|---|
//! | `salon` | `schema`, `rooms`, `probe` | the version of this table; the number of the last room; what a check writes |
//! | `R#room` | `M` | the room: its number in lists, who created it |
//! | `R#room` | `E#first` | a batch: the events from this position on |
//! | `R#room` | `P#first#part` | the rest of a batch that is larger than an item |
//! | `R#room` | `S#subject#first` | which events of that batch are about this subject |
//! | `R#room` | `W#first#part` | the same, for a batch with more subjects than a transaction has room for |
//! | `R#room` | `C#user` | a read cursor |
//! | `R#room` | `N`, `O#seq#part` | the newest snapshot, and its bytes |
//! | `K#room` | `sender⏎request id` | an idempotency key |
//! | `L#every` | number of the room | a room, for who lists them all |
//! | `L#public`, `L#user⏎name` | number of the room, `c` or `m` | a room in a list: as its creator's, as a member's |
//! | `L#public⏎namespace` | number of the room | a public room of another namespace than the default one |
//! | `B#namespace` | `taken` | about how much its rooms have taken |
//! | `D#folder` | name | a document: its revision, its bytes, and which write wrote it |
//! | `U#shard` | `room⏎run` | an open run, and whose it is |
//! | `A#key` | when its window begins | an account |
//! | `V#shard` | reservation | an open reservation, and whose it is |
//! | `nodes` | node | a lease |
//!
//! Rooms stand everywhere by their ids and users in lists by their keys: in both, other namespaces than the default one
//! come first.
//!
//! The index `due` has what is forgotten one day, idempotency keys and accounts: `d` says which and in which shard,
//! `t` from when on.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use bytes::Bytes;
use uuid::Uuid;

use crate::{
    ids::{Namespace, RequestId, ReservationId, RoomId, Seq, UserId},
    store::{Error, documents::Folder, dynamodb::failure::strange, ledger::Account},
};

/// The index of what is forgotten one day.
pub(super) const DUE: &str = "due";

/// An item, or the values of an expression.
pub(super) type Item = HashMap<String, AttributeValue>;

/// In how many parts anything is kept that all rooms share, so that no part of the service has all of it.
pub(super) const SHARDS: u64 = 8;

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// The partition.
    pub(super) pk: String,
    /// The place in it.
    pub(super) sk: String,
}

impl Key {
    /// This key.
    pub(super) fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }

    /// As the attributes that it consists of.
    pub(super) fn item(&self) -> Item {
        item([("pk", text(&self.pk)), ("sk", text(&self.sk))])
    }

    /// With these beside it.
    pub(super) fn with<const N: usize>(&self, values: [(&str, AttributeValue); N]) -> Item {
        let mut whole = self.item();
        whole.extend(item(values));
        whole
    }
}

/// The partition of a room.
pub(super) fn room(room: &RoomId) -> String {
    format!("R#{room}")
}

/// What a room is beside its events.
pub(super) fn meta(of: &RoomId) -> Key {
    Key::new(room(of), "M")
}

/// A position, a part or a room's number, so that they are ordered as texts as they are as numbers.
pub(super) fn padded(number: u64) -> String {
    format!("{number:020}")
}

/// The batch that begins there.
pub(super) fn batch(of: &RoomId, first: Seq) -> Key {
    Key::new(room(of), batch_sk(first))
}

/// The place of the batch that begins there.
pub(super) fn batch_sk(first: Seq) -> String {
    format!("E#{}", padded(first.0))
}

/// A part of that batch.
pub(super) fn part(of: &RoomId, first: Seq, part: usize) -> Key {
    Key::new(room(of), format!("{}{part:04}", parts_of(first)))
}

/// What the parts of that batch begin with.
pub(super) fn parts_of(first: Seq) -> String {
    format!("P#{}#", padded(first.0))
}

/// What the entries of a subject begin with.
pub(super) fn entries_of(subject: &Uuid) -> String {
    format!("S#{}#", subject.simple())
}

/// The entry of a subject for that batch.
pub(super) fn entry(of: &RoomId, subject: &Uuid, first: Seq) -> Key {
    Key::new(room(of), format!("{}{}", entries_of(subject), padded(first.0)))
}

/// The entries of all subjects of that batch.
pub(super) fn wide_entries(of: &RoomId, first: Seq, part: usize) -> Key {
    Key::new(room(of), format!("W#{}#{part:04}", padded(first.0)))
}

/// The partition of a room's idempotency keys.
pub(super) fn requests(of: &RoomId) -> String {
    format!("K#{of}")
}

/// The longest place that the service takes, in bytes.
const PLACE_MAX: usize = 1024;

/// An idempotency key. The longest id of all behind the longest name of all leaves no room for what separates them, and
/// needs none: no others are as long.
pub(super) fn request(of: &RoomId, sender: &UserId, request_id: &RequestId) -> Key {
    let (sender, request_id) = (sender.as_str(), request_id.as_str());
    let separator = if sender.len() + request_id.len() < PLACE_MAX { "\n" } else { "" };
    Key::new(requests(of), format!("{sender}{separator}{request_id}"))
}

/// Whose the idempotency key at this place is, and what it is called.
pub(super) fn of_request(place: &str) -> Option<(&str, &str)> {
    place.split_once('\n').or_else(|| place.split_at_checked(PLACE_MAX / 2))
}

/// What the places of read cursors begin with.
pub(super) const CURSORS: &str = "C#";

/// A read cursor.
pub(super) fn cursor(of: &RoomId, user: &UserId) -> Key {
    Key::new(room(of), format!("{CURSORS}{user}"))
}

/// The list of every room, in which they stay for ever.
pub(super) const EVERY: &str = "L#every";

/// The list of public rooms of a namespace.
pub(super) fn public_of(namespace: &Namespace) -> String {
    if namespace.is_default() { "L#public".to_owned() } else { format!("L#public\n{namespace}") }
}

/// The list of a user's rooms.
pub(super) fn list_of(namespace: &Namespace, user: &UserId) -> String {
    format!("L#user\n{}", user.key_in(namespace))
}

/// What a namespace has taken.
pub(super) fn taken(namespace: &Namespace) -> Key {
    Key::new(format!("B#{namespace}"), "taken")
}

/// What the partitions of documents begin with.
pub(super) const DOCUMENTS: &str = "D#";

/// The partition of a folder.
pub(super) fn folder(of: &Folder) -> String {
    format!("{DOCUMENTS}{of}")
}

/// A run that has begun.
pub(super) fn run(of: &RoomId, run: Uuid) -> Key {
    Key::new(format!("U#{}", shard(of.as_str())), format!("{of}\n{}", run.as_hyphenated()))
}

/// An account.
pub(super) fn account(account: &Account) -> Key {
    Key::new(format!("A#{}", account.key), account.begins.0.to_string())
}

/// A reservation.
pub(super) fn reservation(id: ReservationId) -> Key {
    let id = id.0.as_hyphenated().to_string();
    Key::new(format!("V#{}", shard(&id)), id)
}

/// In which part this is kept. Every process must come to the same one.
pub(super) fn shard(of: &str) -> u64 {
    u64::from(crc32fast::hash(of.as_bytes())) % SHARDS
}

/// The values of an item or an expression.
pub(super) fn item<const N: usize>(values: [(&str, AttributeValue); N]) -> Item {
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A text as a value.
pub(super) fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number as a value.
pub(super) fn number(number: impl ToString + Copy) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Bytes as a value.
pub(super) fn binary(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// The text of this name.
pub(super) fn get_text<'a>(item: &'a Item, name: &str) -> Result<&'a str, Error> {
    match item.get(name) {
        Some(AttributeValue::S(text)) => Ok(text),
        _ => Err(strange(&format!("an item without the text `{name}`"))),
    }
}

/// The number of this name.
pub(super) fn get_number<T: std::str::FromStr>(item: &Item, name: &str) -> Result<T, Error> {
    let digits = match item.get(name) {
        Some(AttributeValue::N(digits)) => digits.parse().ok(),
        _ => None,
    };
    digits.ok_or_else(|| strange(&format!("an item without the number `{name}`")))
}

/// The position of this name.
pub(super) fn get_seq(item: &Item, name: &str) -> Result<Seq, Error> {
    get_number(item, name).map(Seq)
}

/// The bytes of this name.
pub(super) fn get_bytes(item: &Item, name: &str) -> Result<Bytes, Error> {
    match item.get(name) {
        Some(AttributeValue::B(bytes)) => Ok(Bytes::copy_from_slice(bytes.as_ref())),
        _ => Err(strange(&format!("an item without the bytes `{name}`"))),
    }
}

/// The id of this name.
pub(super) fn get_uuid(item: &Item, name: &str) -> Result<Uuid, Error> {
    Uuid::from_slice(&get_bytes(item, name)?).map_err(|_| strange(&format!("no id as `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_key_is_told_from_its_place_whatever_its_length() {
        let room = RoomId::parse("r").unwrap();
        for (sender, id) in [(1, 1), (127, 128), (128, 127), (128, 128)] {
            let (sender, id) = ("🦊".repeat(sender), "🐻".repeat(id));
            let names = (UserId::parse(&sender).unwrap(), RequestId::parse(&id).unwrap());
            let place = request(&room, &names.0, &names.1).sk;
            assert!(place.len() <= PLACE_MAX, "{}", place.len());
            assert_eq!(of_request(&place), Some((&*sender, &*id)));
        }
        assert_eq!(of_request("short"), None);
    }
}
