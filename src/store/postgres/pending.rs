//! Reservations on their way to the server, so that whoever settles one waits until it is known there.
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
    store::{
        Error, ErrorKind,
        ledger::{Reservation, Reserve},
        postgres::{
            accounts,
            connections::Connections,
            failure::{caused, closed},
        },
    },
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
    pub(super) async fn reserve(
        &self,
        connections: &Arc<Connections>,
        reservation: Reservation,
    ) -> Result<Reserve, Error> {
        if self.tasks.is_closed() {
            return Err(closed());
        }
        let (arrived, arrives) = watch::channel(());
        let id = reservation.id;
        lock(&self.underway).insert(id, arrives);
        let arrival = Arrival { underway: Arc::clone(&self.underway), id, _arrived: arrived };
        let connections = Arc::clone(connections);
        let task = self.tasks.spawn(async move {
            let _arrival = arrival;
            accounts::reserve(&connections, &reservation).await
        });
        task.await.unwrap_or_else(|source| {
            Err(caused(ErrorKind::Unavailable, "met a defect of its own while it reserved", source))
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
