//! What a session has missed, read behind its queue's back.
//!
//! A session that could not take everything reads the log from its last position on, page by page as there is space, and
//! asks its room for a `resumed` when it has all. It never waits: what is being read is polled by the session's loop. A
//! store that fails ends the stream, for it cannot go on without a hole.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    domain::rejection::Rejection,
    registry::{
        fill::frames_of,
        outbound::{Expelled, Work},
    },
    rooms::task::Task,
    session::{Step, active::Active},
    store::Record,
};

/// What was missed, being read from the log.
pub(super) type Missed = BoxFuture<'static, Result<Vec<Record>, Rejection>>;

/// How long to wait for a store that does not show yet what the bus has told of.
const LATE_STORE: Duration = Duration::from_millis(50);
/// How long to wait for a `resumed` after the room was asked, before asking again.
pub(super) const RESYNC_PATIENCE: Duration = Duration::from_secs(1);

impl Active<'_> {
    /// Does what the queue asks for.
    pub(super) fn work(&mut self) -> Step {
        match self.handler.outbound.work() {
            Work::End(why) => return Step::End(why.into()),
            Work::Gone => return Step::Gone,
            Work::Read(after, page) if self.missed.is_none() => {
                self.resync_by = None;
                if let Some(stretches) = self.seat.feed().recent(after, page) {
                    for stretch in stretches {
                        self.handler.outbound.push_missed(stretch.first, stretch.last, stretch.frames);
                    }
                    // There may be more, or a `resumed` to ask for.
                    self.handler.outbound.look_again();
                    return Step::Continue;
                }
                let (rooms, id) = (self.handler.services.rooms.clone(), self.room.id().clone());
                self.missed = Some(Box::pin(async move {
                    let records = rooms.log(&id, after, page).await?;
                    if records.is_empty() {
                        // A store may show an event a moment after the bus has told of it.
                        tokio::time::sleep(LATE_STORE).await;
                    }
                    Ok(records)
                }));
            }
            Work::Resync if self.resync_by.is_none() && self.resyncing.is_none() => {
                self.resyncing = Some(self.resync());
            }
            Work::Idle => self.resync_by = None,
            Work::Read(..) | Work::Resync => {}
        }
        Step::Continue
    }

    /// Asks the room for a `resumed`. What must be read for it is read here, not in the room's task.
    fn resync(&self) -> BoxFuture<'static, ()> {
        let (rooms, mut room) = (self.handler.services.rooms.clone(), self.room.clone());
        let (user, outbound) = (self.seat.user().clone(), Arc::clone(&self.handler.outbound));
        Box::pin(async move {
            // When the store fails it is asked for again.
            if let Ok((read, unread)) = rooms.read_position(room.id(), &user).await {
                room.try_send(Task::Resync { user, outbound, read, unread });
            }
        })
    }

    pub(super) fn take_missed(&mut self, missed: Result<Vec<Record>, Rejection>) -> Step {
        self.missed = None;
        match missed {
            Ok(records) => {
                if let (Some(first), Some(last)) = (records.first(), records.last()) {
                    self.handler.outbound.push_missed(first.seq, last.seq, frames_of(&records));
                }
                Step::Continue
            }
            // The stream cannot go on without a hole: the client comes back and tries again.
            Err(rejection) => {
                tracing::warn!(%rejection, "cannot read what a session has missed");
                Step::End(Expelled::Internal.into())
            }
        }
    }
}

/// Waits for what is being read; for ever where nothing is.
pub(super) async fn poll(missed: &mut Option<Missed>) -> Result<Vec<Record>, Rejection> {
    match missed {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}
