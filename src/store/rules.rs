//! What every backend decides in the same way: whether an append is admitted, which positions it gets, when a page
//! is full. Pure; what is kept where is the backend's.

use uuid::Uuid;

use crate::{
    domain::event::DirectoryChange,
    ids::{EventId, Seq},
    store::{Append, Error, ErrorKind, Head, NamespaceUsage, NewRecord, Outcome, Page},
};

/// Where an admitted append goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement {
    /// Position of its first record.
    pub(super) first: Seq,
    /// Where the log ends afterwards.
    pub(super) head: Head,
}

/// Refuses a call that no backend can give a receipt for.
pub(super) fn check(store: &'static str, appends: &[Append]) -> Result<(), Error> {
    if appends.iter().any(|append| append.records.is_empty()) {
        let what = "was asked to append nothing".to_owned();
        return Err(Error { kind: ErrorKind::Unusable, store, what, source: None });
    }
    Ok(())
}

/// Compares fences and hands out positions. `head`: where the log ends; `None`: there is no such room.
pub(super) fn place(
    head: Option<Head>,
    fence: Option<Seq>,
    records: &[NewRecord],
) -> Result<Placement, Outcome> {
    let start = match (head, fence) {
        (None, Some(Seq::ZERO)) => Head { seq: Seq::ZERO, fence: Seq::ZERO.next() },
        (None, _) => return Err(Outcome::FenceMoved(Seq::ZERO)),
        (Some(head), Some(fence)) if fence != head.fence => return Err(Outcome::FenceMoved(head.fence)),
        (Some(head), _) => head,
    };
    let mut end = start;
    for record in records {
        end.seq = end.seq.next();
        if record.moves_fence {
            end.fence = end.seq;
        }
    }
    Ok(Placement { first: start.seq.next(), head: end })
}

/// The beat that begins a lease.
pub(super) const FIRST_BEAT: u64 = 1;

/// Whether a lease with the beat `kept` is renewed by `beat`. Only by the next one and the same: so a first beat that
/// was under way for long, and begins the lease of a node that was retired meanwhile, does not bring that node back.
pub(super) fn renews(kept: u64, beat: u64) -> bool {
    beat == kept || beat == kept.saturating_add(1)
}

/// Decides which event is the last of a page.
#[derive(Debug)]
pub(super) struct PageFill {
    page: Page,
    events: usize,
    bytes: usize,
}

impl PageFill {
    /// An empty page.
    pub(super) fn new(page: Page) -> Self {
        Self { page, events: 0, bytes: 0 }
    }

    /// Whether an event of `public` bytes still belongs to the page; the first always does, or a reader could
    /// never get past it.
    pub(super) fn takes(&mut self, public: usize) -> bool {
        let bytes = self.bytes.saturating_add(public);
        if self.events > 0 && (self.events >= self.page.events || bytes > self.page.bytes) {
            return false;
        }
        self.events += 1;
        self.bytes = bytes;
        true
    }
}

/// The id of the first of these records; [`check`] has seen to it that there is one.
pub(super) fn first_id(records: &[NewRecord]) -> EventId {
    records.first().map_or(EventId(Uuid::nil()), |record| record.event_id)
}

/// What appends add to what their namespace has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Taken {
    /// Rooms that they have begun.
    pub(super) rooms: u64,
    /// The bytes of their events.
    pub(super) bytes: u64,
    /// Who has become a member, less who is none any more.
    pub(super) members: i64,
}

impl Taken {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            rooms: self.rooms.saturating_add(other.rooms),
            bytes: self.bytes.saturating_add(other.bytes),
            members: self.members.saturating_add(other.members),
        }
    }

    /// What a namespace has taken then that had taken so much before.
    pub(super) fn on_top_of(self, before: NamespaceUsage) -> NamespaceUsage {
        NamespaceUsage {
            rooms: before.rooms.saturating_add(self.rooms),
            bytes: before.bytes.saturating_add(self.bytes),
            members: before.members.saturating_add_signed(self.members),
        }
    }
}

/// What a change adds to the members of a namespace, if somebody was a member before who has left, and was none who has
/// joined.
pub(super) fn members_of(change: &DirectoryChange) -> i64 {
    match change {
        DirectoryChange::Joined(_) => 1,
        DirectoryChange::Left(_) => -1,
        DirectoryChange::Room { .. } | DirectoryChange::RunStarted(_) | DirectoryChange::RunEnded(_) => 0,
    }
}

/// The bytes of an append, as they are counted.
pub(super) fn bytes_of(append: &Append) -> u64 {
    let bytes = |record: &NewRecord| record.public.len().saturating_add(record.private.len());
    append.records.iter().map(|record| u64::try_from(bytes(record)).unwrap_or(u64::MAX)).sum()
}
