//! What one call holds of the budgets, and the task that pays what could not be paid at once.
//!
//! A [`Hold`] ends exactly once, whatever becomes of the call: settled with what it took, or dropped (cancelled, or a
//! panic) and then settled as reserved, unless somebody knows what was used. Every hold has a place in the queue of that
//! task from its beginning, so that a drop neither waits nor fails. When the store fails the task tries again until it
//! succeeds; when the server ends before that, the reservation stays open, and is settled by another server of the
//! store or by the next start.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    budget::{Cost, limits::Unit},
    clock::Clock,
    store::{self, Store, ledger::Reservation},
};

/// How many holds there may be at once, ended but unpaid ones included. A call beyond it is refused: that many unpaid
/// ones mean that the store has not taken a settlement for long.
pub(super) const HOLDS: usize = 16 * 1024;
/// How many are paid at once, so that they share a commit.
const AT_ONCE: usize = 64;
/// Between two tries to pay.
const RETRY: Duration = Duration::from_secs(5);
/// How often accounts that are over are forgotten.
const FORGET: Duration = Duration::from_secs(10 * 60);

/// A reservation that has to be settled.
#[derive(Debug)]
pub(super) struct Debt {
    pub(super) reservation: Reservation,
    /// Whether the store knows it. Without limits there is nothing to ask before a call, and it is told behind it.
    pub(super) reserved: bool,
    /// What was used, by line; a line without is used up as reserved.
    pub(super) actual: Vec<u64>,
}

impl Debt {
    /// Pays. It can be repeated after an error: what was done already changes nothing the second time.
    pub(super) async fn pay(&mut self, store: &dyn Store) -> Result<(), store::Error> {
        if !self.reserved {
            for (line, actual) in self.reservation.lines.iter_mut().zip(self.actual.drain(..)) {
                line.amount = actual;
            }
            store.reserve(self.reservation.clone()).await?;
            self.reserved = true;
        }
        store.settle(self.reservation.id, self.actual.clone()).await.map(|_| ())
    }
}

/// The right to make one call, within every budget that applies. Dropped without [`Hold::settle`] it counts as used
/// up.
#[must_use = "a hold that is dropped counts as used up"]
pub struct Hold {
    store: Arc<dyn Store>,
    /// By line.
    units: Vec<Unit>,
    /// `None` when it is paid.
    debt: Option<Debt>,
    /// Its place in the queue; always there when there is a limit.
    slot: Option<mpsc::OwnedPermit<Debt>>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("debt", &self.debt).finish_non_exhaustive()
    }
}

impl Hold {
    pub(super) fn new(
        store: Arc<dyn Store>,
        units: Vec<Unit>,
        debt: Debt,
        slot: Option<mpsc::OwnedPermit<Debt>>,
    ) -> Self {
        Self { store, units, debt: Some(debt), slot }
    }

    /// Asks the store. Until the answer is there a drop gives everything back, since no call was made.
    pub(super) async fn reserve(&mut self) -> Result<store::ledger::Reserve, store::Error> {
        let Some(debt) = &mut self.debt else {
            return Ok(store::ledger::Reserve::Reserved);
        };
        debt.reserved = true;
        debt.actual = vec![0; debt.reservation.lines.len()];
        let answer = self.store.reserve(debt.reservation.clone()).await?;
        debt.actual.clear();
        Ok(answer)
    }

    /// There is nothing to pay: the store has refused.
    pub(super) fn forget(&mut self) {
        self.debt = None;
    }

    /// Ends the call with what it took. Returns when the ledger knows; if the store fails, or the caller does not wait
    /// for the end, it is paid in the background.
    pub async fn settle(mut self, actual: Cost) {
        self.record(actual);
        let Some(debt) = &mut self.debt else {
            return;
        };
        match debt.pay(self.store.as_ref()).await {
            Ok(()) => self.debt = None,
            Err(error) => tracing::warn!(%error, "what an answer took is written down later"),
        }
    }

    /// Ends the call with what it took, which is paid in the background.
    pub fn settle_later(mut self, actual: Cost) {
        self.record(actual);
    }

    fn record(&mut self, actual: Cost) {
        let Some(debt) = &mut self.debt else {
            return;
        };
        debt.actual = self
            .units
            .iter()
            .zip(&debt.reservation.lines)
            .map(|(unit, line)| match unit {
                Unit::Tokens => actual.tokens,
                // Without a price nothing is known: it stays what was reserved.
                Unit::Money => actual.micros.unwrap_or(line.amount),
            })
            .collect();
        let limited = |line: &store::ledger::Line| line.limit.is_some();
        let mut amounts = debt.reservation.lines.iter().zip(&debt.actual);
        if let Some((line, actual)) = amounts.find(|(line, actual)| limited(line) && line.amount < **actual) {
            let (run, reserved) = (debt.reservation.run, line.amount);
            tracing::warn!(%run, reserved, actual, "an answer took more than was reserved for it");
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let (Some(debt), Some(slot)) = (self.debt.take(), self.slot.take()) {
            slot.send(debt);
        }
    }
}

/// Pays what comes, and forgets what is over, until `stop`; then tries once more.
pub(super) async fn pay_all(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    mut queue: mpsc::Receiver<Debt>,
    stop: CancellationToken,
) {
    let mut forget = interval(FORGET);
    forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut debts = Vec::new();
    loop {
        let ends = tokio::select! {
            biased;
            count = queue.recv_many(&mut debts, AT_ONCE) => count == 0,
            _ = forget.tick() => {
                forget_accounts(store.as_ref(), clock.as_ref()).await;
                false
            }
            () = stop.cancelled() => true,
        };
        if ends {
            break;
        }
        debts = pay_some(store.as_ref(), debts).await;
        while !debts.is_empty() && stop.run_until_cancelled(sleep(RETRY)).await.is_some() {
            debts = pay_some(store.as_ref(), debts).await;
        }
    }
    queue.close();
    while let Ok(debt) = queue.try_recv() {
        debts.push(debt);
    }
    let unpaid = pay_some(store.as_ref(), debts).await.len();
    if unpaid > 0 {
        tracing::warn!(
            unpaid,
            "what answers have taken could not be written down; the next start will do it"
        );
    }
}

/// Pays these together; returns those that could not be.
async fn pay_some(store: &dyn Store, mut debts: Vec<Debt>) -> Vec<Debt> {
    let paid = join_all(debts.iter_mut().map(|debt| debt.pay(store))).await;
    if let Some(error) = paid.iter().find_map(|paid| paid.as_ref().err()) {
        tracing::warn!(%error, "what answers have taken cannot be written down");
    }
    let mut failed = paid.into_iter().map(|paid| paid.is_err());
    debts.retain(|_| failed.next().unwrap_or(false));
    debts
}

async fn forget_accounts(store: &dyn Store, clock: &dyn Clock) {
    match store.forget_accounts(clock.now()).await {
        Ok(0) => {}
        Ok(forgotten) => tracing::debug!(forgotten, "accounts of past windows forgotten"),
        Err(error) => tracing::warn!(%error, "cannot forget accounts of past windows"),
    }
}
