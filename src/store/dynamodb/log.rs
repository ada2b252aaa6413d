//! Reading events. A batch is never changed once it is there, so that what several requests have found fits together
//! as long as none of them is about what lies behind the others.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use uuid::Uuid;

use crate::{
    domain::event::Kind,
    ids::{RoomId, Seq, UserId},
    store::{
        Direction, Error, Head, Page, Record,
        dynamodb::{
            client::Table,
            codec::{self, Kept},
            failure::strange,
            items::{self, Item, batch_sk, get_bytes, get_number, get_seq, get_text},
            lookups::{AT_ONCE, get_all},
            plan::End,
            query::{Query, query, query_all},
        },
        rules::PageFill,
    },
};

/// Batches that one request asks for, at least: most are small.
const BATCHES: usize = 16;
/// Batches that one request asks for, at most.
const BATCHES_MAX: usize = 200;

/// Batches from this one on, one page after the other.
struct Forwards<'a> {
    table: &'a Table,
    room: &'a RoomId,
    after: Seq,
    /// The next event must be this one.
    next: Seq,
    behind: Option<String>,
    ended: bool,
}

impl<'a> Forwards<'a> {
    /// Of the events behind `after`.
    fn new(table: &'a Table, room: &'a RoomId, after: Seq) -> Self {
        Self { table, room, after, next: after.next(), behind: None, ended: after == Seq(u64::MAX) }
    }

    /// The next events; none: the log ends there.
    async fn next(&mut self, batches: usize) -> Result<Vec<Kept>, Error> {
        let mut kept = Vec::new();
        while kept.is_empty() && !self.ended {
            let from = batch_sk(self.after.next());
            let pk = items::room(self.room);
            let asked = Query::between(&pk, from, batch_sk(Seq(u64::MAX)))
                .at_most(batches.clamp(1, BATCHES_MAX))
                .behind(self.behind.take());
            let ahead = query(self.table, "read events", asked);
            let is_first = self.next == self.after.next();
            let (covering, ahead) = if !is_first || self.after == Seq::ZERO {
                (None, ahead.await?)
            } else {
                // The batch before may go on behind `after`.
                future::try_join(last_batch(self.table, self.room, self.after), ahead).await?
            };
            self.behind = ahead.last;
            self.ended = self.behind.is_none();
            for batch in covering.iter().chain(&ahead.items) {
                kept.extend(events(self.table, self.room, batch).await?);
            }
            kept.retain(|kept| kept.record.seq > self.after);
            if kept.iter().zip(self.next.0..).any(|(kept, seq)| kept.record.seq.0 != seq) {
                // Who asks from behind the end may be told of a batch that has just come, and not of those before it.
                if covering.map_or(Ok(Seq::ZERO), |batch| get_seq(&batch, "l"))? < self.after && is_first {
                    self.ended = true;
                    return Ok(Vec::new());
                }
                return Err(strange("a log with a hole in it"));
            }
            self.next = kept.last().map_or(self.next, |kept| kept.record.seq.next());
        }
        Ok(kept)
    }
}

/// The last batch that begins at this position or before.
async fn last_batch(table: &Table, room: &RoomId, up_to: Seq) -> Result<Option<Item>, Error> {
    let asked =
        Query::between(items::room(room), batch_sk(Seq::ZERO), batch_sk(up_to)).backwards().at_most(1);
    Ok(query(table, "read events", asked).await?.items.pop())
}

/// Where a log ends; `None`: there is no such room.
pub(super) async fn end(table: &Table, room: &RoomId) -> Result<Option<End>, Error> {
    let last = last_batch(table, room, Seq(u64::MAX)).await?;
    let end = |last: &Item| {
        let head = Head { seq: get_seq(last, "l")?, fence: get_seq(last, "f")? };
        Ok(End { head, messages: get_seq(last, "m")? })
    };
    last.as_ref().map(end).transpose()
}

/// The position of a batch.
fn first_of(batch: &Item) -> Result<Seq, Error> {
    let digits = get_text(batch, "sk")?.strip_prefix("E#").and_then(|digits| digits.parse().ok());
    digits.map(Seq).ok_or_else(|| strange("a batch of events without a position"))
}

/// The events of a batch, with the parts of it that are beside it.
async fn events(table: &Table, room: &RoomId, batch: &Item) -> Result<Vec<Kept>, Error> {
    let first = first_of(batch)?;
    let mut bytes = get_bytes(batch, "b")?;
    if batch.contains_key("k") {
        let parts = Query::beginning(items::room(room), &items::parts_of(first));
        let parts = query_all(table, "read events", parts).await?;
        if parts.len() != get_number::<usize>(batch, "k")? {
            return Err(strange("a batch of events without all of its parts"));
        }
        let mut whole = BytesMut::from(&bytes[..]);
        for part in &parts {
            whole.extend_from_slice(&get_bytes(part, "b")?);
        }
        bytes = whole.freeze();
    }
    let kept = codec::read(bytes, first)?;
    if kept.last().map(|kept| kept.record.seq) != Some(get_seq(batch, "l")?) {
        return Err(strange("a batch with more or fewer events than it says"));
    }
    Ok(kept)
}

/// [`crate::store::Store::read`].
pub(super) async fn read(table: &Table, room: &RoomId, after: Seq, page: Page) -> Result<Vec<Record>, Error> {
    let mut batches = Forwards::new(table, room, after);
    let (mut fill, mut records) = (PageFill::new(page), Vec::new());
    loop {
        let kept = batches.next(page.events).await?;
        if kept.is_empty() {
            return Ok(records);
        }
        for Kept { record, .. } in kept {
            if !fill.takes(record.public.len()) {
                return Ok(records);
            }
            records.push(record);
        }
    }
}

/// [`crate::store::Store::messages`].
pub(super) async fn messages(
    table: &Table,
    room: &RoomId,
    direction: Direction,
    limit: usize,
) -> Result<Vec<Record>, Error> {
    if limit == 0 {
        return table.check_open().map(|()| Vec::new());
    }
    match direction {
        Direction::After(after) => {
            let mut records = Vec::new();
            let mut batches = Forwards::new(table, room, after);
            loop {
                let kept = batches.next(limit.max(BATCHES)).await?;
                let ended = kept.is_empty();
                records.extend(kept.into_iter().map(|kept| kept.record).filter(is_message));
                if ended || records.len() >= limit {
                    records.truncate(limit);
                    return Ok(records);
                }
            }
        }
        Direction::Before(before) => {
            let mut records = messages_before(table, room, before, limit).await?;
            records.reverse();
            Ok(records)
        }
    }
}

fn is_message(record: &Record) -> bool {
    record.kind == Kind::Message
}

/// The newest first. Each batch says where the one before it is that has a message: what lies between is not read, but
/// for what one request brings.
async fn messages_before(
    table: &Table,
    room: &RoomId,
    before: Seq,
    limit: usize,
) -> Result<Vec<Record>, Error> {
    let mut records: Vec<Record> = Vec::new();
    let mut up_to = before.before();
    while up_to > Seq::ZERO && records.len() < limit {
        let wanted = (limit - records.len()).clamp(1, BATCHES_MAX);
        let asked = Query::between(items::room(room), batch_sk(Seq::ZERO), batch_sk(up_to));
        let page = query(table, "read messages", asked.backwards().at_most(wanted)).await?;
        let mut before_these = Seq::ZERO;
        for batch in &page.items {
            before_these = get_seq(batch, "p")?;
            let first = first_of(batch)?;
            if get_seq(batch, "m")? == first {
                let kept = events(table, room, batch).await?.into_iter().rev();
                records.extend(kept.map(|kept| kept.record).filter(|r| r.seq < before && is_message(r)));
            }
        }
        up_to = before_these;
    }
    records.truncate(limit);
    Ok(records)
}

/// [`crate::store::Store::unread`].
pub(super) async fn unread(
    table: &Table,
    room: &RoomId,
    reader: &UserId,
    after: Seq,
    cap: u32,
) -> Result<u32, Error> {
    let cap = usize::try_from(cap).unwrap_or(usize::MAX);
    let mut batches = Forwards::new(table, room, after);
    let mut counted = 0_usize;
    loop {
        let kept = batches.next(cap.clamp(BATCHES, BATCHES_MAX)).await?;
        if kept.is_empty() || counted >= cap {
            return Ok(u32::try_from(counted.min(cap)).unwrap_or(u32::MAX));
        }
        let own = Some(reader.as_str().as_bytes());
        let others = |kept: &&Kept| is_message(&kept.record) && kept.sender.as_deref() != own;
        counted += kept.iter().filter(others).count();
    }
}

/// [`crate::store::Store::about`].
pub(super) async fn about(table: &Table, room: &RoomId, subjects: &[Uuid]) -> Result<Vec<Record>, Error> {
    table.check_open()?;
    let distinct: BTreeSet<Uuid> = subjects.iter().copied().collect();
    if distinct.is_empty() {
        return Ok(Vec::new());
    }
    let pk = items::room(room);
    let of = |subject| Query::beginning(&pk, &items::entries_of(subject));
    let asked: Vec<Query> = distinct.iter().map(of).collect();
    let entries = stream::iter(asked)
        .map(|asked| query_all(table, "read what is about", asked))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>();
    let wide = query_all(table, "read what is about", Query::beginning(&pk, "W#"));
    let (entries, wide) = future::try_join(entries, wide).await?;

    // The positions that are wanted of each batch.
    let mut wanted: BTreeMap<Seq, BTreeSet<Seq>> = BTreeMap::new();
    for entry in entries.iter().flatten() {
        let seqs = get_bytes(entry, "q")?;
        wanted.entry(place(entry, 2)?).or_default().extend(seqs.chunks_exact(8).filter_map(position));
    }
    for entry in &wide {
        let pairs = get_bytes(entry, "q")?;
        let ours = pairs.chunks_exact(24).filter_map(|pair| {
            let (subject, seq) = pair.split_at_checked(16)?;
            distinct.contains(&Uuid::from_slice(subject).ok()?).then(|| position(seq))?
        });
        let mut ours = ours.peekable();
        if ours.peek().is_some() {
            wanted.entry(place(entry, 1)?).or_default().extend(ours);
        }
    }
    let keys: Vec<_> = wanted.keys().map(|first| items::batch(room, *first)).collect();
    let mut records = Vec::new();
    for batch in get_all(table, "read what is about", &keys).await? {
        let Some(seqs) = wanted.get(&first_of(&batch)?) else { continue };
        let kept = events(table, room, &batch).await?.into_iter().map(|kept| kept.record);
        records.extend(kept.filter(|record| seqs.contains(&record.seq)));
    }
    records.sort_unstable_by_key(|record| record.seq);
    Ok(records)
}

/// The position that this part of an entry's place names.
fn place(entry: &Item, part: usize) -> Result<Seq, Error> {
    let digits = get_text(entry, "sk")?.split('#').nth(part).and_then(|digits| digits.parse().ok());
    digits.map(Seq).ok_or_else(|| strange("an entry of a subject without a position"))
}

fn position(bytes: &[u8]) -> Option<Seq> {
    Some(Seq(u64::from_le_bytes(bytes.try_into().ok()?)))
}
