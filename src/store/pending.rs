//! Reservations on their way to a server, so that whoever settles one waits until it is known there, as the contract of
//! [`crate::store::Store`] has it (*Cancel safety*). For every backend that has a server: where there is none, calls are
//! carried out in the order in which they are handed over.
//!
//! Calls go over several connections and may overtake one another. A reservation that its caller has given up is
//! still carried out, by a task of its own; settled before it is there it would stay open for ever.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    ids::ReservationId,
    store::{Error, ErrorKind, ledger::Reserve},
};

/// Who is on the way.
type Underway = Arc<Mutex<HashMap<ReservationId, watch::Receiver<()>>>>;

/// The reservations of this process that the server has not answered.
#[derive(Debug, Default)]
pub(super) struct Pending {
    underway: Underway,
    tasks: TaskTracker,
}

/// Takes a reservation off the list, however its task ends; dropping the sender tells who waits.
struct Arrival {
    underway: Underway,
    id: ReservationId,
    _arrived: watch::Sender<()>,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        lock(&self.underway).remove(&self.id);
    }
}

impl Pending {
    /// [`crate::store::Store::reserve`]. Carried out to the end, also if the caller does not wait for it.
    pub(super) async fn carry_out(
        &self,
        store: &'static str,
        id: ReservationId,
        reserve: impl Future<Output = Result<Reserve, Error>> + Send + 'static,
    ) -> Result<Reserve, Error> {
        if self.tasks.is_closed() {
            let what = "has been closed".to_owned();
            return Err(Error { kind: ErrorKind::Closed, store, what, source: None });
        }
        let (arrived, arrives) = watch::channel(());
        lock(&self.underway).insert(id, arrives);
        let arrival = Arrival { underway: Arc::clone(&self.underway), id, _arrived: arrived };
        let task = self.tasks.spawn(async move {
            let _arrival = arrival;
            reserve.await
        });
        task.await.unwrap_or_else(|source| {
            let what = "met a defect of its own while it reserved".to_owned();
            Err(Error { kind: ErrorKind::Unavailable, store, what, source: Some(Arc::new(source)) })
        })
    }

    /// Waits until this reservation is at the server, if it is on the way.
    pub(super) async fn arrived(&self, id: ReservationId) {
        let underway = lock(&self.underway).get(&id).cloned();
        if let Some(mut arrives) = underway {
            // Nothing is ever sent: it ends when the sender is gone.
            let _ = arrives.changed().await;
        }
    }

    /// Waits for those that are on the way; no more are taken.
    pub(super) async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn lock(
    underway: &Mutex<HashMap<ReservationId, watch::Receiver<()>>>,
) -> MutexGuard<'_, HashMap<ReservationId, watch::Receiver<()>>> {
    underway.lock().unwrap_or_else(PoisonError::into_inner)
}
