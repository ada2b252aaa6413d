//! What one transaction appends: as many appends of a call as belong into it, what each comes to, and the items that
//! are written. Pure.
//!
//! A plan is made on a state that its maker believes in. Its batch begins behind that state's head and is written only
//! if nothing is there: if that succeeds the state was the room's, and everything that was decided on it is right.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use uuid::Uuid;

use crate::{
    domain::{event::DirectoryChange, room::Visibility},
    ids::{RequestId, RoomId, Seq, UserId},
    store::{
        Append, Error, ErrorKind, Head, Idempotency, NewRecord, Outcome, Receipt,
        dynamodb::{
            codec,
            failure::error,
            items::{self, Item, Key, binary, item, number, padded, text},
        },
        rules::{self, Taken},
    },
};

/// Appends share a batch up to so many bytes: whoever reads one event of it reads all of them.
const PACK_BYTES: usize = 128 * 1024;
/// The bytes of one append: a transaction takes 4 MiB of items with everything in them.
const APPEND_BYTES: usize = 3 * 1024 * 1024 + 512 * 1024;
/// The bytes of events in one item, which takes 400 KiB.
const PART_BYTES: usize = 384 * 1024;
/// Actions of one transaction.
const ACTIONS: usize = 100;
/// Entries of subjects in one item.
const ENTRIES: usize = 10_000;
/// How long the service keeps an idempotency key that nobody has forgotten: longer than any server is told to know it.
const KEPT_SECONDS: i64 = 31 * 24 * 60 * 60;

/// An idempotency key within a room.
pub(super) type RequestKey = (UserId, RequestId);

/// Where a room's log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// The head.
    pub(super) head: Head,
    /// The first position of the last batch with a message in it; [`Seq::ZERO`]: there is none.
    pub(super) messages: Seq,
}

/// What lists say of a room; no other item of the room has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its number in lists.
    pub(super) number: u64,
    /// Who created it.
    pub(super) created_by: Option<UserId>,
}

/// What is known before a plan is made.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Where the log is believed to end. `None`: there is believed to be no room.
    pub(super) end: Option<End>,
    /// What lists say of the room.
    pub(super) facts: Option<Facts>,
    /// A number for the room, should it be created.
    pub(super) number: Option<u64>,
    /// Idempotency keys that were looked up, with what was found.
    pub(super) requests: HashMap<RequestKey, Option<(Receipt, u64)>>,
}

/// What must be known before a plan can be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// [`Known::facts`].
    Facts,
    /// [`Known::number`].
    Number,
    /// What was appended with this key, if anything was.
    Request(RequestKey),
}

/// What is to be done with one item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// It is written.
    Put(Item),
    /// It is taken away.
    Delete,
}

/// One transaction.
#[derive(Debug)]
pub(super) struct Plan {
    /// What the first appends come to, if it is carried out.
    pub(super) outcomes: Vec<Outcome>,
    /// Whether one of them was refused because of the fence.
    pub(super) refuses: bool,
    /// What is written; `None`: nothing.
    pub(super) write: Option<Write>,
}

/// What a transaction writes.
#[derive(Debug)]
pub(super) struct Write {
    /// The first position of its batch.
    pub(super) first: Seq,
    /// Where the log ends then.
    pub(super) end: End,
    /// What it adds to what the room's namespace has taken.
    pub(super) taken: Taken,
    /// What lists say of the room then, if that is known.
    pub(super) facts: Option<Facts>,
    /// The batch, without its key: only if there is none.
    pub(super) batch: Item,
    /// Idempotency keys: only if there are none.
    pub(super) requests: Vec<(RequestKey, Item)>,
    /// Everything else.
    pub(super) others: BTreeMap<Key, Action>,
    /// Who the creator must be for this to be right, if it changes who it is: the item with the new one.
    pub(super) creator: Option<(Option<UserId>, Item)>,
}

/// Collects appends while they fit.
struct Draft<'a> {
    room: &'a RoomId,
    known: &'a Known,
    end: Option<End>,
    facts: Option<Facts>,
    first: Seq,
    bytes: Vec<u8>,
    records: usize,
    taken: Taken,
    has_message: bool,
    requests: Vec<(RequestKey, (Receipt, u64), Item)>,
    subjects: BTreeMap<Uuid, Vec<Seq>>,
    others: BTreeMap<Key, Action>,
    is_new: bool,
}

/// Plans the first of `appends`, and as many behind it as belong into the same transaction.
pub(super) fn plan(room: &RoomId, known: &Known, appends: &[Append]) -> Result<Result<Plan, Missing>, Error> {
    let mut draft = Draft::new(room, known);
    let (mut outcomes, mut refuses) = (Vec::new(), false);
    for append in appends {
        let decided = draft.repeat(append.idempotency.as_ref());
        let outcome = match decided {
            Some(outcome) => outcome,
            None => match rules::place(draft.end.map(|end| end.head), append.fence, &append.records) {
                Ok(placement) => {
                    if let Some(missing) = draft.missing(append) {
                        return Ok(Err(missing));
                    }
                    if !draft.has_room_for(append)? {
                        break;
                    }
                    Outcome::Appended(draft.add(placement, append))
                }
                // Idempotency is looked at first: whether it was appended before must be known.
                Err(refused) => match append.idempotency.as_ref().map(key_of) {
                    Some(key) if draft.end.is_some() && !known.requests.contains_key(&key) => {
                        return Ok(Err(Missing::Request(key)));
                    }
                    _ => {
                        refuses = true;
                        refused
                    }
                },
            },
        };
        outcomes.push(outcome);
    }
    Ok(Ok(Plan { outcomes, refuses, write: draft.finish() }))
}

fn key_of(key: &Idempotency) -> RequestKey {
    (key.sender.clone(), key.request_id.clone())
}

fn repeated((receipt, body_hash): (Receipt, u64), key: &Idempotency) -> Outcome {
    if body_hash == key.body_hash { Outcome::Duplicate(receipt) } else { Outcome::Reused }
}

impl<'a> Draft<'a> {
    fn new(room: &'a RoomId, known: &'a Known) -> Self {
        Self {
            room,
            known,
            end: known.end,
            facts: known.facts.clone(),
            first: known.end.map_or(Seq::ZERO, |end| end.head.seq).next(),
            bytes: codec::begin(),
            records: 0,
            taken: Taken::default(),
            has_message: false,
            requests: Vec::new(),
            subjects: BTreeMap::new(),
            others: BTreeMap::new(),
            is_new: false,
        }
    }

    /// What an append comes to that was carried out before, as far as that is known.
    fn repeat(&self, key: Option<&Idempotency>) -> Option<Outcome> {
        let key = key?;
        let wanted = key_of(key);
        let here = self.requests.iter().find(|(known, ..)| *known == wanted).map(|(_, first, _)| *first);
        let first = here.or_else(|| self.known.requests.get(&wanted).copied().flatten())?;
        Some(repeated(first, key))
    }

    fn missing(&self, append: &Append) -> Option<Missing> {
        if self.end.is_none() {
            return self.known.number.is_none().then_some(Missing::Number);
        }
        let lists = |change: &DirectoryChange| match change {
            DirectoryChange::Room { .. } | DirectoryChange::Joined(_) | DirectoryChange::Left(_) => true,
            DirectoryChange::RunStarted(_) | DirectoryChange::RunEnded(_) => false,
        };
        (self.facts.is_none() && append.directory.iter().any(lists)).then_some(Missing::Facts)
    }

    /// Whether an append still belongs into this transaction. An error: it belongs into none.
    fn has_room_for(&self, append: &Append) -> Result<bool, Error> {
        let size: usize = append.records.iter().map(codec::size).sum();
        let mut subjects: Vec<&Uuid> =
            append.records.iter().filter_map(|record| record.subject.as_ref()).collect();
        subjects.sort_unstable();
        subjects.dedup();
        // The batch and its parts, the room and its place among all, a key, and two for each change: a room that
        // changes its creator.
        let own = 2 * append.directory.len() + 3 + size / PART_BYTES + 1;
        if self.records > 0 {
            let so_far = self.requests.len() + self.subjects.len() + self.others.len();
            return Ok(self.bytes.len() + size <= PACK_BYTES && so_far + own + subjects.len() <= ACTIONS);
        }
        let wide = append.records.len() / ENTRIES + 1;
        if size > APPEND_BYTES || own + subjects.len().min(wide) > ACTIONS {
            let what = format!(
                "cannot append {size} bytes with {} changes at once: {APPEND_BYTES} and about 40 are the most",
                append.directory.len()
            );
            return Err(error(ErrorKind::Unusable, what));
        }
        Ok(true)
    }

    fn add(&mut self, placement: rules::Placement, append: &Append) -> Receipt {
        let receipt = Receipt {
            first: placement.first,
            last: placement.head.seq,
            event_id: rules::first_id(&append.records),
        };
        let mut seq = placement.first;
        for record in &append.records {
            self.has_message |= record.kind == crate::domain::event::Kind::Message;
            if let Some(subject) = record.subject {
                self.subjects.entry(subject).or_default().push(seq);
            }
            codec::put(&mut self.bytes, record);
            seq = seq.next();
        }
        self.records += append.records.len();
        self.taken = self.taken.and(Taken {
            rooms: u64::from(self.end.is_none()),
            bytes: rules::bytes_of(append),
            members: append.directory.iter().map(rules::members_of).sum(),
        });
        if self.end.is_none() {
            self.is_new = true;
            self.facts = self.known.number.map(|number| Facts { number, created_by: None });
        }
        let messages = if self.has_message { self.first } else { self.known.messages() };
        self.end = Some(End { head: placement.head, messages });
        if let Some(key) = &append.idempotency {
            let item = request_item(receipt, key, append.records.first());
            self.requests.push((key_of(key), (receipt, key.body_hash), item));
        }
        for change in &append.directory {
            self.list(change, append);
        }
        receipt
    }

    fn list(&mut self, change: &DirectoryChange, append: &Append) {
        let number = self.facts.as_ref().map_or(0, |facts| facts.number);
        let listed = |pk: String, what: &str| Key::new(pk, format!("{}{what}", padded(number)));
        let here = || Action::Put(item([("room", text(self.room.as_str()))]));
        let namespace = self.room.namespace();
        let list_of = |user: &UserId| items::list_of(&namespace, user);
        match change {
            DirectoryChange::Room { visibility, created_by } => {
                let public = listed(items::public_of(&namespace), "");
                let is_public = *visibility == Visibility::Public;
                let action = if is_public { here() } else { Action::Delete };
                if self.is_new {
                    self.others.insert(listed(items::EVERY.to_owned(), ""), here());
                }
                // A new room is in no list yet.
                if is_public || !self.is_new {
                    self.others.insert(public, action);
                }
                if let (Some(user), Some(facts)) = (created_by, &mut self.facts)
                    && facts.created_by.as_ref() != Some(user)
                {
                    let before = facts.created_by.replace(user.clone());
                    let creators = Action::Put(item([("room", text(self.room.as_str()))]));
                    if let Some(before) = before {
                        self.others.insert(listed(list_of(&before), "c"), Action::Delete);
                    }
                    self.others.insert(listed(list_of(user), "c"), creators);
                }
            }
            DirectoryChange::Joined(user) => {
                let joined = here();
                self.others.insert(listed(list_of(user), "m"), joined);
            }
            DirectoryChange::Left(user) => {
                self.others.insert(listed(list_of(user), "m"), Action::Delete);
            }
            DirectoryChange::RunStarted(run) => {
                let whose = item([("o", binary(append.node.0.as_bytes().to_vec()))]);
                self.others.insert(items::run(self.room, run.0), Action::Put(whose));
            }
            DirectoryChange::RunEnded(run) => {
                self.others.insert(items::run(self.room, run.0), Action::Delete);
            }
        }
    }

    fn finish(mut self) -> Option<Write> {
        let end = self.end.filter(|_| self.records > 0)?;
        self.write_entries();
        let (batch, parts) = self.write_batch(end);
        for (index, part) in parts.into_iter().enumerate() {
            let key = items::part(self.room, self.first, index + 1);
            self.others.insert(key, Action::Put(item([("b", binary(part))])));
        }
        let before = self.known.facts.as_ref().and_then(|facts| facts.created_by.clone());
        let creator = self.facts.as_ref().and_then(|facts| {
            let changed = self.is_new || facts.created_by != before;
            let mut meta = item([("n", number(facts.number))]);
            meta.extend(facts.created_by.iter().map(|user| ("c".to_owned(), text(user.as_str()))));
            changed.then_some((before, meta))
        });
        let requests = self.requests.into_iter().map(|(key, _, item)| (key, item)).collect();
        Some(Write {
            first: self.first,
            end,
            taken: self.taken,
            facts: self.facts,
            batch,
            requests,
            others: self.others,
            creator,
        })
    }

    /// An entry for each subject; if there is no room for so many, all of them together.
    fn write_entries(&mut self) {
        let (room, first) = (self.room, self.first);
        let subjects = std::mem::take(&mut self.subjects);
        let taken = self.requests.len() + self.others.len() + self.bytes.len() / PART_BYTES + 3;
        if taken + subjects.len() <= ACTIONS {
            for (subject, seqs) in subjects {
                let action = Action::Put(item([("q", binary(positions(&seqs)))]));
                self.others.insert(items::entry(room, &subject, first), action);
            }
            return;
        }
        let all: Vec<(Uuid, Seq)> = subjects
            .into_iter()
            .flat_map(|(subject, seqs)| seqs.into_iter().map(move |seq| (subject, seq)))
            .collect();
        for (index, entries) in all.chunks(ENTRIES).enumerate() {
            let pair =
                |(subject, seq): &(Uuid, Seq)| [&subject.as_bytes()[..], &seq.0.to_le_bytes()].concat();
            let bytes: Vec<u8> = entries.iter().flat_map(pair).collect();
            let action = Action::Put(item([("q", binary(bytes))]));
            self.others.insert(items::wide_entries(room, first, index), action);
        }
    }

    /// The batch's item, and what of its bytes has no room in it.
    fn write_batch(&self, end: End) -> (Item, Vec<Vec<u8>>) {
        let mut parts = self.bytes.chunks(PART_BYTES).map(<[u8]>::to_vec);
        let bytes = parts.next().unwrap_or_default();
        let parts: Vec<Vec<u8>> = parts.collect();
        let mut batch = item([
            ("l", number(end.head.seq.0)),
            ("f", number(end.head.fence.0)),
            ("m", number(end.messages.0)),
            ("p", number(self.known.messages().0)),
            ("b", binary(bytes)),
            // So that whoever wrote it knows it again.
            ("w", binary(Uuid::new_v4().as_bytes().to_vec())),
        ]);
        if !parts.is_empty() {
            batch.insert("k".to_owned(), number(parts.len()));
        }
        (batch, parts)
    }
}

impl Known {
    fn messages(&self) -> Seq {
        self.end.map_or(Seq::ZERO, |end| end.messages)
    }
}

fn request_item(receipt: Receipt, key: &Idempotency, first: Option<&NewRecord>) -> Item {
    let at = first.map_or(0, |record| record.at.0);
    item([
        ("f", number(receipt.first.0)),
        ("l", number(receipt.last.0)),
        ("e", binary(receipt.event_id.0.as_bytes().to_vec())),
        ("h", number(key.body_hash)),
        ("t", number(at)),
        ("x", number((at / 1000).saturating_add(KEPT_SECONDS))),
        ("d", due(REQUESTS, key.request_id.as_str())),
    ])
}

/// What idempotency keys are called in the index of what is forgotten one day.
pub(super) const REQUESTS: &str = "K";

/// In which part of that index this is.
pub(super) fn due(kind: &str, of: &str) -> AttributeValue {
    text(format!("{kind}{}", items::shard(of)))
}

fn positions(seqs: &[Seq]) -> Vec<u8> {
    seqs.iter().flat_map(|seq| seq.0.to_le_bytes()).collect()
}
