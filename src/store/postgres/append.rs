//! The appends of one call as the columns that the function `append` takes, and its rows as outcomes. One statement
//! carries them all, so that a call costs one round trip however many it has.

use std::borrow::Cow;

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use crate::{
    domain::{event::DirectoryChange, room::Visibility},
    ids::{Namespace, RoomId, UserId},
    store::{
        Append, Error, NewRecord, Outcome,
        postgres::{
            connections::{Asking, Question},
            rows,
        },
    },
};

/// [`crate::store::Store::append`].
pub(super) const APPEND: Question = Question {
    sql: "SELECT outcome, first_seq, last_seq, first_id, fence_seq
          FROM append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)",
    doing: "append",
    asking: Asking::TakesRoom,
};

/// The columns of one call: what the function says about them is in the schema.
#[derive(Debug, Default)]
pub(super) struct Columns<'a> {
    namespace: Namespace,
    fences: Vec<Option<i64>>,
    senders: Vec<Option<&'a str>>,
    request_ids: Vec<Option<&'a str>>,
    body_hashes: Vec<Option<i64>>,
    counts: Vec<i32>,
    last_moves: Vec<i32>,
    owners: Vec<i32>,
    kinds: Vec<i16>,
    ats: Vec<i64>,
    event_ids: Vec<Uuid>,
    authors: Vec<Option<&'a str>>,
    subjects: Vec<Option<Uuid>>,
    publics: Vec<&'a [u8]>,
    privates: Vec<&'a [u8]>,
    change_owners: Vec<i32>,
    changes: Vec<i16>,
    users: Vec<Option<Cow<'a, str>>>,
    messages: Vec<Option<Uuid>>,
    publics_now: Vec<Option<bool>>,
    nodes: Vec<Uuid>,
}

impl<'a> Columns<'a> {
    /// The columns of these, which go into this room.
    pub(super) fn of(room: &RoomId, appends: &'a [Append]) -> Self {
        let mut columns = Self { namespace: room.namespace(), ..Self::default() };
        for (index, append) in appends.iter().enumerate() {
            columns.add(rows::place(index + 1), append);
        }
        columns
    }

    /// In the order of the function's parameters.
    pub(super) fn parameters<'b>(&'b self, room: &'b &'b str) -> [&'b (dyn ToSql + Sync); 21] {
        [
            room,
            &self.fences,
            &self.senders,
            &self.request_ids,
            &self.body_hashes,
            &self.counts,
            &self.last_moves,
            &self.owners,
            &self.kinds,
            &self.ats,
            &self.event_ids,
            &self.authors,
            &self.subjects,
            &self.publics,
            &self.privates,
            &self.change_owners,
            &self.changes,
            &self.users,
            &self.messages,
            &self.publics_now,
            &self.nodes,
        ]
    }

    fn add(&mut self, owner: i32, append: &'a Append) {
        let key = append.idempotency.as_ref();
        self.nodes.push(append.node.0);
        self.fences.push(append.fence.map(|fence| rows::integer(fence.0)));
        self.senders.push(key.map(|key| key.sender.as_str()));
        self.request_ids.push(key.map(|key| key.request_id.as_str()));
        self.body_hashes.push(key.map(|key| key.body_hash.cast_signed()));
        self.counts.push(rows::place(append.records.len()));
        let last = append.records.iter().rposition(|record| record.moves_fence);
        self.last_moves.push(last.map_or(0, |last| rows::place(last + 1)));
        for record in &append.records {
            self.add_record(owner, record);
        }
        for change in &append.directory {
            self.add_change(owner, change);
        }
    }

    fn add_record(&mut self, owner: i32, record: &'a NewRecord) {
        self.owners.push(owner);
        self.kinds.push(rows::kind_column(record.kind));
        self.ats.push(record.at.0);
        self.event_ids.push(record.event_id.0);
        self.authors.push(record.sender.as_ref().map(UserId::as_str));
        self.subjects.push(record.subject);
        self.publics.push(&record.public);
        self.privates.push(&record.private);
    }

    /// The numbers of the changes are the function's.
    fn add_change(&mut self, owner: i32, change: &'a DirectoryChange) {
        let (number, user, message, public) = match change {
            DirectoryChange::Room { visibility, created_by } => {
                (0, created_by.as_ref(), None, Some(*visibility == Visibility::Public))
            }
            DirectoryChange::Joined(user) => (1, Some(user), None, None),
            DirectoryChange::Left(user) => (2, Some(user), None, None),
            DirectoryChange::RunStarted(message) => (3, None, Some(message.0), None),
            DirectoryChange::RunEnded(message) => (4, None, Some(message.0), None),
        };
        self.change_owners.push(owner);
        self.changes.push(number);
        self.users.push(user.map(|user| user.key_in(&self.namespace)));
        self.messages.push(message);
        self.publics_now.push(public);
    }
}

/// What the function answers for one append.
pub(super) fn outcome(row: &Row) -> Result<Outcome, Error> {
    Ok(match rows::get::<i16>(row, 0)? {
        0 => Outcome::Appended(rows::receipt(row, 1)?),
        1 => Outcome::Duplicate(rows::receipt(row, 1)?),
        2 => Outcome::Reused,
        3 => Outcome::FenceMoved(rows::seq(row, 4)?),
        _ => return Err(rows::strange("an outcome of no kind")),
    })
}
