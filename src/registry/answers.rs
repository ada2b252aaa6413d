//! The answers that are being written in one room, and how far each pace of sessions was told of them.
//!
//! There are no buffers of merged text: what waits for a pace is the end of the text so far, behind what it was told.
//! So whoever joins is given the text exactly as far as their pace was told, and the next chunk fits to it, whatever
//! was merged. Nothing here knows sessions, waits, or takes time: the caller says what time it is.
//!
//! A chunk that came too early (a bus may reorder) is kept until what is before it has come. If that was lost, nothing
//! behind it is told any more: a text with a hole is told to nobody, and the stored message has all of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    domain::llm::{ActiveAnswer, LiveAnswer},
    ids::MessageId,
    registry::pace::Pace,
    wire::transient,
};

/// Ended answers remembered, so that late chunks are recognised.
const ENDED_ANSWERS: usize = 64;
/// Chunks of one answer kept that came too early, and their bytes.
const EARLY_CHUNKS: usize = 16;
const EARLY_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Answers {
    live: Vec<Answer>,
    ended: VecDeque<MessageId>,
    /// The paces of the sessions that are here, with how many have each; never zero.
    paces: Vec<(Pace, usize)>,
}

#[derive(Debug)]
struct Answer {
    now: ActiveAnswer,
    early: BTreeMap<usize, String>,
    /// One for each pace that is here.
    told: Vec<Told>,
}

/// How far the sessions of one pace were told.
#[derive(Debug)]
struct Told {
    pace: Pace,
    /// In bytes of the text so far: where the next chunk begins.
    upto: usize,
    /// When; `None`: nothing yet, so that the next text waits for nothing.
    at: Option<Instant>,
}

/// A chunk as it came, which may be just what is to be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh<'a> {
    pub(super) message_id: MessageId,
    pub(super) offset: usize,
    pub(super) text: &'a str,
    /// Its frame, in the usual form.
    pub(super) frame: &'a Bytes,
}

/// A chunk for every session of one pace.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) pace: Pace,
    pub(super) frame: Bytes,
}

impl Answers {
    /// A session of this pace is here.
    pub(super) fn enter(&mut self, pace: Pace) {
        if let Some((_, sessions)) = self.paces.iter_mut().find(|(here, _)| *here == pace) {
            *sessions += 1;
            return;
        }
        self.paces.push((pace, 1));
        for answer in &mut self.live {
            answer.told.push(Told { pace, upto: answer.now.answer.text.len(), at: None });
        }
    }

    /// A session of this pace has gone.
    pub(super) fn leave(&mut self, pace: Pace) {
        let Some(index) = self.paces.iter().position(|(here, _)| *here == pace) else {
            return;
        };
        if let Some((_, sessions)) = self.paces.get_mut(index) {
            *sessions -= 1;
            if *sessions > 0 {
                return;
            }
        }
        self.paces.swap_remove(index);
        for answer in &mut self.live {
            answer.told.retain(|told| told.pace != pace);
        }
    }

    /// Whether any is being written.
    pub(super) fn any(&self) -> bool {
        !self.live.is_empty()
    }

    /// The shortest interval that a session here wants.
    pub(super) fn shortest(&self) -> Option<std::time::Duration> {
        self.paces.iter().map(|(pace, _)| pace.interval).min()
    }

    /// Whether a session here wants the compact form.
    pub(super) fn any_compact(&self) -> bool {
        self.paces.iter().any(|(pace, _)| pace.compact)
    }

    /// An answer has begun.
    pub(super) fn begin(&mut self, answer: ActiveAnswer) {
        let upto = answer.answer.text.len();
        let told = self.paces.iter().map(|(pace, _)| Told { pace: *pace, upto, at: None }).collect();
        self.live.push(Answer { now: answer, early: BTreeMap::new(), told });
    }

    /// An answer has ended: nothing of it is told any more.
    pub(super) fn end(&mut self, message_id: MessageId) {
        self.live.retain(|answer| answer.now.answer.message_id != message_id);
        self.ended.push_back(message_id);
        if self.ended.len() > ENDED_ANSWERS {
            self.ended.pop_front();
        }
    }

    /// Every answer with its whole text so far.
    pub(super) fn whole(&self) -> impl Iterator<Item = &LiveAnswer> {
        self.live.iter().map(|answer| &answer.now.answer)
    }

    /// Every answer as far as sessions of this pace were told.
    pub(super) fn as_told(&self, pace: Pace) -> Vec<ActiveAnswer> {
        let told = |answer: &Answer| {
            let upto = answer.told.iter().find(|told| told.pace == pace).map(|told| told.upto);
            ActiveAnswer { seq: answer.now.seq, answer: answer.now.answer.up_to(upto.unwrap_or(usize::MAX)) }
        };
        self.live.iter().map(told).collect()
    }

    /// Adds a chunk to the text so far; whether there is more of it now.
    pub(super) fn add(&mut self, message_id: MessageId, offset: usize, text: &str) -> bool {
        if self.ended.contains(&message_id) {
            return false;
        }
        let Some(answer) = self.live.iter_mut().find(|answer| answer.now.answer.message_id == message_id)
        else {
            return false;
        };
        let have = answer.now.answer.text.len();
        if offset > have {
            answer.keep(offset, text);
        }
        if offset != have || text.is_empty() {
            return false;
        }
        answer.now.answer.text.push_str(text);
        answer.take_early();
        true
    }

    /// The chunks that are due.
    pub(super) fn due(&mut self, now: Instant, fresh: Option<Fresh<'_>>) -> Vec<Telling> {
        let mut tellings = Vec::new();
        for answer in &mut self.live {
            answer.tell(now, fresh, |told| told.due().is_none_or(|due| due <= now), &mut tellings);
        }
        tellings
    }

    /// Whatever was not told of an answer that ends.
    pub(super) fn rest(&mut self, now: Instant, message_id: MessageId) -> Vec<Telling> {
        let mut tellings = Vec::new();
        for answer in self.live.iter_mut().filter(|answer| answer.now.answer.message_id == message_id) {
            answer.tell(now, None, |_| true, &mut tellings);
        }
        tellings
    }

    /// When something that waits is due; `None`: nothing waits.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let waiting = |answer: &Answer| {
            let len = answer.now.answer.text.len();
            answer.told.iter().filter(|told| told.upto < len).filter_map(Told::due).min()
        };
        self.live.iter().filter_map(waiting).min()
    }
}

impl Told {
    fn due(&self) -> Option<Instant> {
        self.at.map(|at| at + self.pace.interval)
    }
}

impl Answer {
    fn keep(&mut self, offset: usize, text: &str) {
        let bytes: usize = self.early.values().map(String::len).sum();
        if self.early.len() < EARLY_CHUNKS && bytes + text.len() <= EARLY_BYTES {
            self.early.insert(offset, text.to_owned());
        }
    }

    /// Adds what had come too early and does not any more.
    fn take_early(&mut self) {
        while let Some((offset, text)) = self.early.pop_first() {
            let have = self.now.answer.text.len();
            if offset > have {
                self.early.insert(offset, text);
                return;
            }
            if offset == have {
                self.now.answer.text.push_str(&text);
            }
        }
    }

    /// Tells the paces that are `due` what they were not told; what is the same for two of them is encoded once.
    fn tell(
        &mut self,
        now: Instant,
        fresh: Option<Fresh<'_>>,
        due: impl Fn(&Told) -> bool,
        tellings: &mut Vec<Telling>,
    ) {
        let len = self.now.answer.text.len();
        let mut encoded: Vec<(usize, bool, Bytes)> = Vec::new();
        for told in self.told.iter_mut().filter(|told| told.upto < len && due(told)) {
            let (from, compact) = (told.upto, told.pace.compact);
            let same = encoded.iter().find(|(offset, form, _)| (*offset, *form) == (from, compact));
            let frame = match same {
                Some((_, _, frame)) => frame.clone(),
                None => chunk(&self.now, from, compact, fresh),
            };
            encoded.push((from, compact, frame.clone()));
            tellings.push(Telling { pace: told.pace, frame });
            (told.upto, told.at) = (len, Some(now));
        }
    }
}

/// The text of an answer from `from` on.
fn chunk(active: &ActiveAnswer, from: usize, compact: bool, fresh: Option<Fresh<'_>>) -> Bytes {
    let answer = &active.answer;
    // Always a boundary between characters: it is the end of a chunk.
    let text = answer.text.get(from..).unwrap_or_default();
    // Without a position there is nothing shorter to call it by.
    if compact && active.seq.0 > 0 {
        return transient::compact_chunk(active.seq, from, text);
    }
    let as_it_came = fresh.filter(|fresh| {
        (fresh.message_id, fresh.offset, fresh.text.len()) == (answer.message_id, from, text.len())
    });
    match as_it_came {
        Some(fresh) => fresh.frame.clone(),
        None => transient::chunk(answer, from, text),
    }
}

#[cfg(test)]
mod tests;
