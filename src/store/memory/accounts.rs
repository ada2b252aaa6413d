//! The ledger in memory.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    clock::Timestamp,
    ids::ReservationId,
    store::{
        inventory::KeptAccount,
        ledger::{Account, Balance, OpenReservation, Reservation, Reserve},
    },
};

/// Accounts, and the reservations that are open in them.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    kept: HashMap<Account, Kept>,
    open: HashMap<ReservationId, Reservation>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    balance: Balance,
    until: Timestamp,
}

impl Accounts {
    /// [`crate::store::Store::reserve`].
    pub(super) fn reserve(&mut self, reservation: Reservation) -> Reserve {
        let Entry::Vacant(place) = self.open.entry(reservation.id) else {
            return Reserve::Reserved;
        };
        for (index, line) in reservation.lines.iter().enumerate() {
            let balance = self.kept.get(&line.account).map(|kept| kept.balance).unwrap_or_default();
            if !balance.admits(line) {
                return Reserve::Refused { line: index, balance };
            }
        }
        for line in &reservation.lines {
            let kept = self.kept.entry(line.account.clone()).or_default();
            kept.balance = kept.balance.reserve(line.amount);
            kept.until = kept.until.max(line.keep_until);
        }
        place.insert(reservation);
        Reserve::Reserved
    }

    /// [`crate::store::Store::settle`].
    pub(super) fn settle(&mut self, id: ReservationId, actual: &[u64]) -> bool {
        let Some(reservation) = self.open.remove(&id) else {
            return false;
        };
        for (index, line) in reservation.lines.iter().enumerate() {
            if let Some(kept) = self.kept.get_mut(&line.account) {
                let spent = actual.get(index).copied().unwrap_or(line.amount);
                kept.balance = kept.balance.settle(line.amount, spent);
            }
        }
        true
    }

    /// [`crate::store::Store::open_reservations`].
    pub(super) fn open(&self) -> Vec<OpenReservation> {
        let open = self.open.values();
        open.map(|reservation| OpenReservation {
            id: reservation.id,
            run: reservation.run,
            at: reservation.at,
            node: reservation.node,
        })
        .collect()
    }

    /// [`crate::store::Store::balances`].
    pub(super) fn balances(&self, accounts: &[Account]) -> Vec<Balance> {
        let balance = |account| self.kept.get(account).map(|kept| kept.balance).unwrap_or_default();
        accounts.iter().map(balance).collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = KeptAccount> {
        self.kept.iter().map(|(account, kept)| KeptAccount {
            account: account.clone(),
            balance: kept.balance,
            keep_until: kept.until,
        })
    }

    /// [`crate::store::Store::forget_accounts`].
    pub(super) fn forget(&mut self, before: Timestamp) -> u64 {
        let had = self.kept.len();
        self.kept.retain(|_, kept| kept.until >= before || kept.balance.reserved > 0);
        u64::try_from(had - self.kept.len()).unwrap_or(u64::MAX)
    }
}
