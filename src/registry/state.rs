//! What a feed holds, and how events reach its sessions: at once, gathered or merged.
//!
//! Everything here is done under the feed's lock, in the order of the log. Knows no bus, no store, and waits for nothing.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::{
    bus::{LogBatch, Note},
    domain::{
        event::MemberChange,
        permissions::{Overrides, Standing},
        room::Presence,
    },
    ids::{Seq, UserId},
    registry::{
        RegistryLimits,
        answers::Answers,
        calendar::Look,
        linger::{self, Linger, Together},
        ours::Ours,
        outbound::{Expelled, count},
        presence::{Change, PresenceNews, Present},
        recent::{self, Recent, Stretch},
    },
    wire::transient,
};

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    /// The last position delivered.
    pub(super) delivered: Seq,
    pub(super) early: BTreeMap<Seq, LogBatch>,
    pub(super) filling: bool,
    /// The log is said to reach this position.
    pub(super) told: Seq,
    pub(super) present: Present,
    /// What other nodes are told; `None`: there are none.
    pub(super) ours: Option<Ours>,
    pub(super) answers: Answers,
    /// When the task that keeps the pace of chunks, and tells what was gathered, comes next; `None`: there is no such
    /// task.
    pub(super) timer: Option<Instant>,
    pub(super) linger: Linger,
    pub(super) merged: Option<Merged>,
    pub(super) occupancy_changed: bool,
    pub(super) recent: Recent,
    /// When what waits here is told, and what is old forgotten.
    pub(super) look: Look,
    /// Who may do what, where it is not the usual.
    pub(super) permissions: Overrides,
}

/// Membership events that large rooms are told as one.
#[derive(Debug, Default)]
pub(super) struct Merged {
    first: Seq,
    last: Seq,
    joined: u32,
    left: u32,
    updated: u32,
}

impl State {
    pub(super) fn new(head: Seq, look: Look) -> Self {
        Self {
            delivered: head,
            early: BTreeMap::new(),
            filling: false,
            told: Seq::ZERO,
            present: Present::default(),
            ours: None,
            answers: Answers::default(),
            timer: None,
            linger: Linger::default(),
            merged: None,
            occupancy_changed: false,
            recent: Recent::default(),
            look,
            permissions: Overrides::default(),
        }
    }

    pub(super) fn online(&self, max: usize) -> Vec<(UserId, Presence)> {
        self.present.users().take(max).map(|(user, presence)| (user.clone(), presence)).collect()
    }

    pub(super) fn news(&mut self, change: Change, limits: RegistryLimits) -> PresenceNews {
        let news = match change {
            Change::User => PresenceNews::User,
            Change::Connection { before, after } if before == after => PresenceNews::None,
            Change::Connection { after, .. } => PresenceNews::Shown(after),
        };
        if self.present.user_count() <= limits.participants_shown {
            return news;
        }
        if news == PresenceNews::User {
            self.occupancy_changed = true;
            self.look.by(Instant::now());
        }
        PresenceNews::None
    }

    pub(super) fn hand_out_early(&mut self, limits: RegistryLimits) {
        while let Some((first, batch)) = self.early.pop_first() {
            if batch.last <= self.delivered {
                continue;
            }
            if first != self.delivered.next() {
                self.early.insert(first, batch);
                return;
            }
            self.hand_out(&batch, limits);
        }
    }

    pub(super) fn hand_out(&mut self, batch: &LogBatch, limits: RegistryLimits) {
        self.delivered = batch.last;
        let stretch = Stretch { first: batch.first, last: batch.last, frames: batch.frames.clone() };
        let now = Instant::now();
        self.recent.push(stretch.clone(), now);
        self.look.by(now + recent::KEPT_FOR);
        let large = self.present.user_count() > limits.participants_shown;
        let is_plain = batch.notes.is_empty() && self.merged.is_none() && !self.answers.any();
        let sessions = self.present.sessions().len();
        let wait = linger::wait(sessions, limits.linger);
        if is_plain && self.linger.gather(&stretch, wait, limits.gathered_events, now) {
            return;
        }
        self.flush_gathered();
        self.linger.told(now);
        if large && batch.is_membership() {
            self.merge(batch);
        } else {
            self.flush_merged();
            let events = count(batch.first, batch.last);
            let streamed = self.end_answers(batch);
            for session in self.present.sessions() {
                let streamed = streamed.as_ref().filter(|_| session.pace.compact);
                session.outbound.push_live(batch.first, batch.last, events, &batch.frames, streamed);
            }
        }
        for note in batch.notes.iter() {
            self.take_note(note);
        }
    }

    fn merge(&mut self, batch: &LogBatch) {
        self.look.by(Instant::now());
        let merged = self.merged.get_or_insert_with(|| Merged { first: batch.first, ..Merged::default() });
        merged.last = batch.last;
        for note in batch.notes.iter() {
            if let Note::Membership { change, .. } = note {
                match change {
                    MemberChange::Joined => merged.joined += 1,
                    MemberChange::Left | MemberChange::Removed | MemberChange::Banned => merged.left += 1,
                    MemberChange::Updated | MemberChange::Unbanned => merged.updated += 1,
                }
            }
        }
    }

    /// Tells everything that waits.
    pub(super) fn flush(&mut self) {
        self.flush_gathered();
        self.flush_merged();
    }

    /// Tells what was gathered.
    pub(super) fn flush_gathered(&mut self) {
        if let Some(Together { first, last, events, frames }) = self.linger.take() {
            self.linger.told(Instant::now());
            for session in self.present.sessions() {
                session.outbound.push_log(first, last, events, &frames);
            }
        }
    }

    pub(super) fn flush_merged(&mut self) {
        let Some(merged) = self.merged.take() else {
            return;
        };
        let Merged { first, last, joined, left, updated } = merged;
        let frame = transient::members_merged(first, last, joined, left, updated);
        for session in self.present.sessions() {
            session.outbound.push_log(first, last, 1, &frame);
        }
    }

    pub(super) fn take_note(&mut self, note: &Note) {
        match note {
            Note::RunStarted(answer) => self.answers.begin(answer.clone()),
            Note::RunEnded(message_id) => self.answers.end(*message_id),
            Note::RoomEnded => self.expel(Expelled::RoomEnded, None),
            Note::Permissions(overrides) => self.permissions = overrides.clone(),
            Note::Membership { user, change, role, muted_until } => match change {
                MemberChange::Left => self.expel(Expelled::Left, Some(user)),
                MemberChange::Removed => self.expel(Expelled::Removed, Some(user)),
                MemberChange::Banned => self.expel(Expelled::Banned, Some(user)),
                MemberChange::Joined | MemberChange::Updated => {
                    let standing = Standing { role: *role, muted_until: *muted_until };
                    self.present.set_standing(user, standing);
                }
                MemberChange::Unbanned => {}
            },
        }
    }

    fn expel(&self, why: Expelled, only: Option<&UserId>) {
        for session in self.present.sessions() {
            if only.is_none_or(|user| user == &session.user) {
                session.outbound.expel(why);
            }
        }
    }
}
