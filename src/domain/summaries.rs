//! Which summaries a room keeps.
//!
//! A summary stands for everything said up to its position, and may hold any of it. When a message changes (it is
//! edited, deleted, or another answer takes its place), every summary that stands for it is forgotten, at once and for
//! good: what somebody has taken back is in no memory. The room goes back to the last summary before that message,
//! which was made without it; what lies between is summarised anew from the messages as they are now. So that little
//! has to be made anew, some earlier summaries are kept, the farther apart the older they are.
//!
//! A text that was read before such a change and comes behind it is refused.

use std::cmp::Ordering;

use crate::{
    domain::{
        limits::{CHANGED_MESSAGES, EARLIER_SUMMARIES, SUMMARY_BYTES},
        rejection::{Code, Rejection},
        room::Room,
        summary::{ChangedMessage, Summary},
    },
    ids::Seq,
};

/// Refuses what is empty or too long, knows less than what there is, or is made of texts that were read before
/// they have changed.
pub(super) fn check(room: &Room, summary: &Summary, read_at: Seq) -> Result<(), Rejection> {
    let len = summary.text.len();
    if summary.text.trim().is_empty() || len > SUMMARY_BYTES {
        return Err(Rejection::field(
            "summary.text",
            format_args!("must have 1 to {SUMMARY_BYTES} bytes, has {len}"),
        ));
    }
    let known = room.summary.as_ref().map_or(Seq::ZERO, |known| known.up_to);
    if summary.up_to <= known || summary.up_to > room.seq {
        return Err(Rejection::field("summary.up_to_seq", "must be newer than the summary there is"));
    }
    let is_full = room.changed.len() >= CHANGED_MESSAGES;
    let unknown = is_full && room.changed.front().is_some_and(|first| first.at > read_at);
    if unknown || room.changed.iter().any(|changed| changed.at > read_at && changed.of <= summary.up_to) {
        return Err(Rejection::new(Code::NotFound, "what was summarised has changed since it was read"));
    }
    Ok(())
}

/// Keeps a summary, and the one before it among the earlier ones. In logs of servers that began anew behind a change,
/// it may come before some there are: these may stand for what has changed.
pub(super) fn keep(room: &mut Room, summary: Summary) {
    let newest = summary.up_to;
    room.earlier_summaries.extend(room.summary.replace(summary));
    room.earlier_summaries.retain(|earlier| earlier.up_to < newest);
    if room.earlier_summaries.len() > EARLIER_SUMMARIES {
        let index = most_dispensable(&room.earlier_summaries, newest);
        room.earlier_summaries.remove(index);
    }
}

/// Forgets the summaries that stand for the message that was said at `of`: it has just changed.
pub(super) fn message_changed(room: &mut Room, of: Seq) {
    while room.summary.as_ref().is_some_and(|summary| of <= summary.up_to) {
        room.summary = room.earlier_summaries.pop();
    }
    room.changed.push_back(ChangedMessage { at: room.seq, of });
    if room.changed.len() > CHANGED_MESSAGES {
        room.changed.pop_front();
    }
}

/// The one whose neighbours are nearest to one another for its age. The first is never it: what was said before
/// the first would have to be read from the beginning.
fn most_dispensable(earlier: &[Summary], newest: Seq) -> usize {
    let up_to = |at: usize| earlier.get(at).map_or(newest.0, |summary| summary.up_to.0);
    let gap = |at: usize| u128::from(up_to(at + 1).saturating_sub(up_to(at.saturating_sub(1))));
    let age = |at: usize| u128::from(newest.0.saturating_sub(up_to(at)));
    let nearer = |a: &usize, b: &usize| -> Ordering { (gap(*a) * age(*b)).cmp(&(gap(*b) * age(*a))) };
    (1..earlier.len()).min_by(nearer).unwrap_or(0)
}
