//! What indexes say of a page of a log, beside what the page says.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::{
    ids::{EventId, RoomId, Seq},
    ops::{
        Error,
        verify::{Finding, unreadable},
    },
    store::{Direction, Record, Store},
    wire::decode,
};

/// Subjects that are asked for at once: each may have any number of events.
const SUBJECTS_AT_ONCE: usize = 100;

/// What an index must know of an event, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Indexed {
    /// It is a message.
    pub(super) is_message: bool,
    /// What it is about.
    pub(super) subject: Option<Uuid>,
}

/// Compares the indexes with a page of the log behind `after`; `indexed` is what they must know of it.
pub(super) async fn compare(
    store: &dyn Store,
    room: &RoomId,
    after: Seq,
    page: &[Record],
    indexed: &[Indexed],
) -> Result<Vec<Finding>, Error> {
    let mut findings = Findings { room, all: Vec::new() };
    let end = page.last().map_or(after, |record| record.seq);
    let said = page.iter().zip(indexed).filter(|(_, indexed)| indexed.is_message);
    let said = said.map(|(record, _)| (record.seq, record.event_id)).collect();
    messages(store, &mut findings, after, end, said).await?;
    let about: Vec<(Uuid, Seq, EventId)> = page
        .iter()
        .zip(indexed)
        .filter_map(|(record, indexed)| Some((indexed.subject?, record.seq, record.event_id)))
        .collect();
    let distinct: BTreeSet<Uuid> = about.iter().map(|(subject, ..)| *subject).collect();
    let distinct: Vec<Uuid> = distinct.into_iter().collect();
    for asked in distinct.chunks(SUBJECTS_AT_ONCE) {
        let expected: BTreeSet<(Seq, EventId)> = about
            .iter()
            .filter(|(subject, ..)| asked.binary_search(subject).is_ok())
            .map(|(_, seq, id)| (*seq, *id))
            .collect();
        self::about(store, &mut findings, asked, expected).await?;
    }
    Ok(findings.all)
}

struct Findings<'a> {
    room: &'a RoomId,
    all: Vec<Finding>,
}

impl Findings<'_> {
    fn found(&mut self, seq: Seq, what: impl Into<String>) {
        self.all.push(Finding { room: Some(self.room.clone()), seq: Some(seq), what: what.into() });
    }
}

/// The index of messages from behind `after` to `end`.
async fn messages(
    store: &dyn Store,
    findings: &mut Findings<'_>,
    after: Seq,
    end: Seq,
    mut expected: BTreeSet<(Seq, EventId)>,
) -> Result<(), Error> {
    // One more than there are: what should not be there shows as well.
    let asked = store.messages(findings.room, Direction::After(after), expected.len() + 1).await;
    let listed = match unreadable(asked)? {
        Ok(listed) => listed,
        Err(problem) => {
            findings.found(after.next(), problem);
            return Ok(());
        }
    };
    for record in listed.into_iter().filter(|record| record.seq <= end) {
        if !expected.remove(&(record.seq, record.event_id)) {
            findings.found(record.seq, "the index of messages has it, and it is none");
        }
    }
    for (seq, _) in expected {
        findings.found(seq, "it is a message, and the index of messages does not have it");
    }
    Ok(())
}

/// The index of what events are about.
async fn about(
    store: &dyn Store,
    findings: &mut Findings<'_>,
    asked: &[Uuid],
    mut expected: BTreeSet<(Seq, EventId)>,
) -> Result<(), Error> {
    let listed = match unreadable(store.about(findings.room, asked).await)? {
        Ok(listed) => listed,
        Err(problem) => {
            let seq = expected.first().map_or(Seq::ZERO, |(seq, _)| *seq);
            findings.found(seq, problem);
            return Ok(());
        }
    };
    for record in listed {
        if expected.remove(&(record.seq, record.event_id)) {
            continue;
        }
        // Of another page: that it is there at all is for the look at that page.
        let subject = decode::event(record.seq, &record.public, &record.private).map(|r| r.event.subject());
        if !matches!(subject, Ok(Some(subject)) if asked.binary_search(&subject).is_ok()) {
            findings.found(record.seq, "the index of subjects has it where it does not belong");
        }
    }
    for (seq, _) in expected {
        findings.found(seq, "the index of subjects does not have it for what it is about");
    }
    Ok(())
}
