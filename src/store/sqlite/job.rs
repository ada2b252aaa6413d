//! What the writer is asked to do, and how it answers.

use tokio::sync::oneshot;

use crate::{
    clock::Timestamp,
    ids::{ReservationId, RoomId, Seq, UserId},
    store::{
        Append, Error, ErrorKind, Lease, Outcome, Snapshot,
        ledger::{Reservation, Reserve},
        sqlite::{documents::Put, failure::error, group::Group},
    },
};

/// Somebody who waits, and what they will hear once it is committed.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    answer: oneshot::Sender<Result<T, Error>>,
    result: Option<T>,
}

impl<T> Waiting<T> {
    /// Somebody who waits, and where they wait.
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<T, Error>>) {
        let (answer, answered) = oneshot::channel();
        (Self { answer, result: None }, answered)
    }

    /// Answers. Whoever has stopped waiting is not missed.
    pub(super) fn answer(self, commit: Result<(), Error>) {
        let result =
            self.result.ok_or_else(|| error(ErrorKind::Unavailable, "did not get to what it was asked"));
        let _ = self.answer.send(commit.and(result));
    }
}

/// One thing to write.
#[derive(Debug)]
pub(super) enum Job {
    /// [`crate::store::Store::append`].
    Append { room: RoomId, appends: Vec<Append>, waiting: Waiting<Vec<Outcome>> },
    /// [`crate::store::Store::save_snapshot`].
    Snapshot { room: RoomId, snapshot: Snapshot, waiting: Waiting<()> },
    /// [`crate::store::Store::advance_cursor`].
    Cursor { room: RoomId, user: UserId, to: Seq, waiting: Waiting<Seq> },
    /// One portion of [`crate::store::Store::forget_requests`].
    Forget { before: Timestamp, limit: u32, waiting: Waiting<u64> },
    /// [`crate::store::Store::reserve`].
    Reserve { reservation: Reservation, waiting: Waiting<Reserve> },
    /// [`crate::store::Store::settle`].
    Settle { id: ReservationId, actual: Vec<u64>, waiting: Waiting<bool> },
    /// One portion of [`crate::store::Store::forget_accounts`].
    ForgetAccounts { before: Timestamp, limit: u32, waiting: Waiting<u64> },
    /// [`crate::store::Store::beat`].
    Beat { lease: Lease, waiting: Waiting<bool> },
    /// [`crate::store::Store::retire`].
    Retire { lease: Lease, waiting: Waiting<bool> },
    /// [`crate::store::Store::put_document`].
    Put { put: Put, waiting: Waiting<bool> },
    /// [`crate::store::Store::check`].
    Check { waiting: Waiting<()> },
    /// [`crate::store::Store::close`]: answered when nothing is left to do.
    Close { waiting: Waiting<()> },
    /// A defect.
    #[cfg(test)]
    Panic { waiting: Waiting<()> },
}

impl Job {
    /// Does it, within the group's transaction, and keeps the result until that is committed.
    pub(super) fn run(&mut self, group: &mut Group<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Append { room, appends, waiting } => {
                let outcomes = appends.iter().map(|append| group.append(room, append));
                waiting.result = Some(outcomes.collect::<rusqlite::Result<_>>()?);
            }
            Self::Snapshot { room, snapshot, waiting } => {
                waiting.result = Some(group.save_snapshot(room, snapshot)?);
            }
            Self::Cursor { room, user, to, waiting } => {
                waiting.result = Some(group.advance_cursor(room, user, *to)?);
            }
            Self::Forget { before, limit, waiting } => {
                waiting.result = Some(group.forget_requests(*before, *limit)?);
            }
            Self::Reserve { reservation, waiting } => waiting.result = Some(group.reserve(reservation)?),
            Self::Settle { id, actual, waiting } => waiting.result = Some(group.settle(*id, actual)?),
            Self::ForgetAccounts { before, limit, waiting } => {
                waiting.result = Some(group.forget_accounts(*before, *limit)?);
            }
            Self::Beat { lease, waiting } => waiting.result = Some(group.beat(*lease)?),
            Self::Retire { lease, waiting } => waiting.result = Some(group.retire(*lease)?),
            Self::Put { put, waiting } => waiting.result = Some(group.put_document(put)?),
            Self::Check { waiting } => waiting.result = Some(group.check()?),
            Self::Close { waiting } => waiting.result = Some(()),
            #[cfg(test)]
            Self::Panic { .. } => panic!("asked to"),
        }
        Ok(())
    }

    /// Tells whoever waits what came of it.
    pub(super) fn answer(self, commit: Result<(), Error>) {
        match self {
            Self::Append { waiting, .. } => waiting.answer(commit),
            Self::Snapshot { waiting, .. } | Self::Check { waiting } | Self::Close { waiting } => {
                waiting.answer(commit);
            }
            Self::Cursor { waiting, .. } => waiting.answer(commit),
            Self::Forget { waiting, .. } | Self::ForgetAccounts { waiting, .. } => waiting.answer(commit),
            Self::Reserve { waiting, .. } => waiting.answer(commit),
            Self::Settle { waiting, .. }
            | Self::Beat { waiting, .. }
            | Self::Retire { waiting, .. }
            | Self::Put { waiting, .. } => waiting.answer(commit),
            #[cfg(test)]
            Self::Panic { waiting } => waiting.answer(commit),
        }
    }
}
