//! One room: its log from the first event to the last, and what the store has made of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    domain::{autopilot::Status, chain::Link, event::Kind, message::Author, room::Room},
    ids::{MessageId, RoomId, Seq, UserId},
    ops::{
        Error, LIST, PAGE,
        verify::{
            Finding,
            chain::Chain,
            heads::Heads,
            indexes::{self, Indexed},
            unreadable,
        },
    },
    rooms::replay::Replay,
    store::{
        Head, Page, Record, Store,
        inventory::{Inventory, Item, KeptRequest, ListedRoom},
    },
    wire::snapshot,
};

/// Whose unread messages are counted: of those who wrote, the ones who wrote most.
const READERS: usize = 64;

/// What was found in one room.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// How many events were read.
    pub(super) events: u64,
    /// What is wrong.
    pub(super) findings: Vec<Finding>,
    /// Who is a member, by the log.
    pub(super) members: Vec<(RoomId, UserId)>,
    /// What its log comes to, if it could be read to its end.
    pub(super) link: Option<Link>,
}

/// Looks at a room; `listed` and `runs` are what lists say of it, `kept` what its log came to once.
pub(super) async fn look(
    store: &dyn Store,
    listed: &ListedRoom,
    runs: &BTreeSet<MessageId>,
    kept: &Heads,
) -> Result<Looked, Error> {
    let mut look = Look {
        store,
        id: &listed.room,
        looked: Looked::default(),
        replay: Replay::default(),
        seq: Seq::ZERO,
        messages: 0,
        senders: BTreeMap::new(),
        saved: None,
        chain: Chain::new(&listed.room, kept),
    };
    let head = match unreadable(store.head(&listed.room).await)? {
        Ok(Some(head)) => head,
        Ok(None) => {
            look.found(None, "it is listed, and has no log");
            return Ok(look.looked);
        }
        Err(problem) => {
            look.found(None, problem);
            return Ok(look.looked);
        }
    };
    look.snapshot(head).await?;
    if look.log(head).await? {
        look.end(head).await?;
        look.lists(listed, runs);
        look.unread(head).await?;
    }
    look.keys(head).await?;
    look.cursors(head).await?;
    Ok(look.looked)
}

/// The room that a log leaves behind, as far as it can be read; with where it was read to.
pub(super) async fn fold(store: &dyn Store, id: &RoomId) -> Result<Option<Room>, Error> {
    let (mut replay, mut after) = (Replay::default(), Seq::ZERO);
    loop {
        let Ok(page) = unreadable(store.read(id, after, PAGE).await)? else { return Ok(None) };
        let Some(last) = page.last() else { return Ok(replay.room().cloned()) };
        after = last.seq;
        for record in &page {
            if replay.next(record.seq, &record.public, &record.private).is_err() {
                return Ok(None);
            }
        }
    }
}

struct Look<'a> {
    store: &'a dyn Store,
    id: &'a RoomId,
    looked: Looked,
    replay: Replay,
    /// Read up to here.
    seq: Seq,
    messages: u64,
    senders: BTreeMap<UserId, u64>,
    /// What was saved of the room, until the log has come to its position.
    saved: Option<Room>,
    /// What the log comes to.
    chain: Chain,
}

impl Look<'_> {
    fn found(&mut self, seq: Option<Seq>, what: impl Into<String>) {
        self.looked.findings.push(Finding { room: Some(self.id.clone()), seq, what: what.into() });
    }

    /// Where the log ends now; `head`, where that cannot be read any more.
    async fn now(&self, head: Head) -> Result<Seq, Error> {
        let now = unreadable(self.store.head(self.id).await)?.ok().flatten();
        Ok(now.unwrap_or(head).seq)
    }

    /// A snapshot of another version is of no use to this build, and no harm.
    async fn snapshot(&mut self, head: Head) -> Result<(), Error> {
        match unreadable(self.store.snapshot(self.id).await)? {
            Ok(None) => {}
            Ok(Some(saved)) if saved.seq > head.seq && self.now(head).await? < saved.seq => {
                self.found(Some(saved.seq), "a snapshot speaks for it, and the log ends before");
            }
            Ok(Some(saved)) if saved.version == snapshot::VERSION => match snapshot::decode(&saved.state) {
                Ok(mut room) if room.seq == saved.seq => {
                    self.chain.expect_saved(room.chain.take());
                    self.saved = Some(room);
                }
                Ok(room) => {
                    self.found(Some(saved.seq), format!("its snapshot is one of position {}", room.seq));
                }
                Err(error) => self.found(Some(saved.seq), format!("its snapshot cannot be read: {error}")),
            },
            Ok(Some(_)) => {}
            Err(problem) => self.found(None, problem),
        }
        Ok(())
    }

    /// Reads the log up to its head: what is written meanwhile is for the next look. Whether it could be read so far.
    async fn log(&mut self, head: Head) -> Result<bool, Error> {
        loop {
            let mut page = match unreadable(self.store.read(self.id, self.seq, PAGE).await)? {
                Ok(page) => page,
                Err(problem) => {
                    self.found(Some(self.seq.next()), problem);
                    return Ok(false);
                }
            };
            page.retain(|record| record.seq <= head.seq);
            if page.is_empty() {
                return Ok(true);
            }
            let after = self.seq;
            let mut indexed = Vec::with_capacity(page.len());
            for record in &page {
                match self.event(record) {
                    Some(known) => indexed.push(known),
                    None => return Ok(false),
                }
            }
            let findings = indexes::compare(self.store, self.id, after, &page, &indexed).await?;
            self.looked.findings.extend(findings);
        }
    }

    /// One event, with what indexes must know of it; none: nothing behind it can be judged.
    fn event(&mut self, record: &Record) -> Option<Indexed> {
        if record.seq != self.seq.next() {
            self.found(Some(self.seq.next()), format!("it is missing: the next one is {}", record.seq));
            return None;
        }
        self.seq = record.seq;
        self.looked.events += 1;
        if let Some(broken) = self.chain.next(record) {
            self.found(Some(record.seq), broken);
        }
        let next = match self.replay.next(record.seq, &record.public, &record.private) {
            Ok(next) => next,
            Err(error) => {
                self.found(Some(record.seq), format!("it cannot be read: {error}"));
                return None;
            }
        };
        let (is, says) = (&next.record, record);
        if (is.event_id, is.at, is.kind) != (says.event_id, says.at, says.kind) {
            let what = "its id, time or kind in the store is not that of its content";
            self.found(Some(record.seq), what);
        }
        if let Some(message) = next.message() {
            self.messages += 1;
            if let Author::User(user) = &message.author {
                *self.senders.entry(user.clone()).or_default() += 1;
            }
        }
        if self.replay.room().is_some_and(|room| room.id != *self.id) {
            self.found(Some(record.seq), "it belongs to another room");
            return None;
        }
        if let (Some(saved), Some(room)) = (&self.saved, self.replay.room())
            && saved.seq == room.seq
        {
            if saved != room {
                self.found(Some(record.seq), "the snapshot of this position is not what the log comes to");
            }
            self.saved = None;
        }
        Some(Indexed { is_message: next.record.kind == Kind::Message, subject: next.record.subject })
    }

    /// Behind the last event.
    async fn end(&mut self, head: Head) -> Result<(), Error> {
        let Some(room) = self.replay.room().cloned() else {
            self.found(None, "its log is empty");
            return Ok(());
        };
        let one = Page { events: 1, bytes: usize::MAX };
        let goes_on =
            unreadable(self.store.read(self.id, head.seq, one).await)?.is_ok_and(|page| !page.is_empty());
        if goes_on && matches!(unreadable(self.store.head(self.id).await)?, Ok(Some(now)) if now == head) {
            self.found(Some(head.seq), "the log goes on behind it, and its head says that it ends here");
        }
        if self.seq != head.seq {
            self.found(Some(self.seq), format!("the log ends here, and its head says {}", head.seq));
        }
        if room.fence != head.fence {
            self.found(Some(room.fence), format!("this is its fence, and the store says {}", head.fence));
        }
        if let Some(broken) = room.broken_invariant() {
            self.found(Some(self.seq), format!("the log comes to a room that breaks a rule: {broken}"));
        }
        let (link, cut_off) = self.chain.end();
        self.looked.link = Some(link);
        if let Some(seq) = cut_off {
            self.found(
                Some(seq),
                format!("its link was kept, and the log ends at {}: it was cut off", self.seq),
            );
        }
        self.looked.members = room.members.keys().map(|user| (self.id.clone(), user.clone())).collect();
        Ok(())
    }

    fn lists(&mut self, listed: &ListedRoom, runs: &BTreeSet<MessageId>) {
        let Some(room) = self.replay.room() else { return };
        let mut wrong = Vec::new();
        if room.profile.visibility != listed.visibility {
            wrong.push(format!("it is {:?}, and lists say {:?}", room.profile.visibility, listed.visibility));
        }
        if room.created_by != listed.created_by {
            wrong
                .push(format!("{:?} has created it, and lists say {:?}", room.created_by, listed.created_by));
        }
        let autopilot = room.autopilot.as_ref().filter(|autopilot| autopilot.status != Status::Ended);
        let open: BTreeSet<MessageId> =
            room.runs.keys().copied().chain(autopilot.map(|autopilot| MessageId(autopilot.id.0))).collect();
        for run in open.difference(runs) {
            wrong.push(format!("the answer {run} is open, and the list of open ones does not have it"));
        }
        for run in runs.difference(&open) {
            wrong.push(format!("the list of open answers has {run}, which is not open"));
        }
        for what in wrong {
            self.found(None, what);
        }
    }

    /// The counts of unread messages: of nobody who wrote, and of those who wrote most.
    async fn unread(&mut self, head: Head) -> Result<(), Error> {
        let mut readers: Vec<(UserId, u64)> = self.senders.iter().map(|(u, n)| (u.clone(), *n)).collect();
        readers.sort_by_key(|(_, wrote)| std::cmp::Reverse(*wrote));
        readers.truncate(READERS);
        let strangers = ["salon-verify", "salon-verify-2"].into_iter().filter_map(|n| UserId::parse(n).ok());
        readers.extend(strangers.filter(|s| !self.senders.contains_key(s)).take(1).map(|s| (s, 0)));
        for (reader, wrote) in readers {
            let expected = u32::try_from(self.messages - wrote).unwrap_or(u32::MAX);
            let counted = match unreadable(self.store.unread(self.id, &reader, Seq::ZERO, u32::MAX).await)? {
                Ok(counted) => counted,
                Err(problem) => {
                    self.found(None, format!("what {reader} has not read cannot be counted: {problem}"));
                    return Ok(());
                }
            };
            // What was written since may be counted as well.
            let now = self.now(head).await?;
            let since = u32::try_from(now.0.saturating_sub(head.seq.0)).unwrap_or(u32::MAX);
            if counted < expected || counted > expected.saturating_add(since) {
                let what = format!(
                    "{expected} messages are not by {reader}, and the index of messages counts {counted}"
                );
                self.found(None, what);
            }
        }
        Ok(())
    }

    async fn keys(&mut self, head: Head) -> Result<(), Error> {
        let (of, mut last) = (Inventory::Requests(self.id.clone()), None);
        loop {
            let page = match unreadable(self.store.inventory(&of, last.as_ref(), LIST).await)? {
                Ok(page) => page,
                Err(problem) => {
                    self.found(None, format!("its keys cannot be read: {problem}"));
                    return Ok(());
                }
            };
            let Some(end) = page.last().cloned() else { return Ok(()) };
            for item in &page {
                if let Item::Request(kept) = item {
                    self.key(kept, head).await?;
                }
            }
            last = Some(end);
        }
    }

    async fn key(&mut self, kept: &KeptRequest, head: Head) -> Result<(), Error> {
        let receipt = kept.receipt;
        let name = format!("the key {} of {}", kept.request_id, kept.sender);
        let mut end = head.seq;
        if receipt.last > end {
            // It may have come since.
            end = self.now(head).await?;
        }
        if receipt.first == Seq::ZERO || receipt.first > receipt.last || receipt.last > end {
            let what = format!("{name} points at {} to {}: there are none", receipt.first, receipt.last);
            self.found(Some(receipt.first), what);
            return Ok(());
        }
        let one = Page { events: 1, bytes: usize::MAX };
        match unreadable(self.store.read(self.id, receipt.first.before(), one).await)? {
            Ok(page) if page.first().is_some_and(|record| record.event_id == receipt.event_id) => {}
            Ok(_) => self.found(Some(receipt.first), format!("{name} points at it, and names another event")),
            Err(problem) => self.found(Some(receipt.first), problem),
        }
        Ok(())
    }

    async fn cursors(&mut self, head: Head) -> Result<(), Error> {
        let (of, mut last) = (Inventory::Cursors(self.id.clone()), None);
        loop {
            let page = match unreadable(self.store.inventory(&of, last.as_ref(), LIST).await)? {
                Ok(page) => page,
                Err(problem) => {
                    self.found(None, format!("its cursors cannot be read: {problem}"));
                    return Ok(());
                }
            };
            let Some(end) = page.last().cloned() else { return Ok(()) };
            for item in page {
                if let Item::Cursor { user, seq } = item
                    && seq > head.seq
                {
                    let what = format!("{user} has read up to it, and the log ends at {}", head.seq);
                    self.found(Some(seq), what);
                }
            }
            last = Some(end);
        }
    }
}
