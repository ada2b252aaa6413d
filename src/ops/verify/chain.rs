//! What one log comes to, held against what it came to once.
//!
//! Behind a change all links are others. So only the first that does not agree is told, with the last one that does: what
//! was changed stands between them.

use crate::{
    domain::chain::Link,
    ids::{RoomId, Seq},
    ops::verify::heads::Heads,
    rooms::chain,
    store::Record,
};

/// A log that is being read.
#[derive(Debug)]
pub(super) struct Chain {
    link: Link,
    /// By position, the last first; those that were passed are gone.
    kept: Vec<(Link, Keeper)>,
    /// Up to here it is what it was.
    agreed: Seq,
    broken: bool,
}

/// Who has kept a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    /// The operator.
    Head,
    /// The store itself.
    Snapshot,
}

impl Chain {
    /// Before the first event.
    pub(super) fn new(room: &RoomId, kept: &Heads) -> Self {
        let mut kept: Vec<_> = kept.of(room).map(|link| (link, Keeper::Head)).collect();
        kept.reverse();
        Self { link: Link::first(room), kept, agreed: Seq::ZERO, broken: false }
    }

    /// Adds what a snapshot says, if it says anything.
    pub(super) fn expect_saved(&mut self, saved: Option<Link>) {
        if let Some(link) = saved {
            let at = self.kept.partition_point(|(kept, _)| kept.seq > link.seq);
            self.kept.insert(at, (link, Keeper::Snapshot));
        }
    }

    /// Goes one event on; what is wrong, if that is found here.
    pub(super) fn next(&mut self, record: &Record) -> Option<String> {
        self.link = chain::next(&self.link, record);
        let mut found = None;
        while let Some((kept, keeper)) = self.kept.pop_if(|(kept, _)| kept.seq <= self.link.seq) {
            if kept == self.link {
                self.agreed = kept.seq;
            } else if !self.broken {
                self.broken = true;
                let by = match keeper {
                    Keeper::Head => "a head was kept of it",
                    Keeper::Snapshot => "its snapshot was saved",
                };
                let (from, to) = (self.agreed.next(), kept.seq);
                found = Some(format!(
                    "the log up to here is not what it was when {by}: of the events {from} to {to} some were changed, \
                     removed, added or put in another order"
                ));
            }
        }
        found
    }

    /// What the whole log comes to, and the first of the positions that the operator has kept of which it has none.
    /// Behind the end of a log its own snapshot is told of elsewhere.
    pub(super) fn end(&self) -> (Link, Option<Seq>) {
        let mut heads = self.kept.iter().rev().filter(|(_, keeper)| *keeper == Keeper::Head);
        (self.link, heads.next().map(|(kept, _)| kept.seq))
    }
}
