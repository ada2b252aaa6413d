//! The ledger: what is spent and what is reserved in each account, and the arithmetic that every backend shares.
//!
//! Pure. It knows neither whose an account is nor what its amounts count; that is its caller's business.

use std::collections::HashSet;

use crate::{
    clock::Timestamp,
    ids::{MessageId, NodeId, ReservationId},
    store::{Error, ErrorKind},
};

/// The largest amount and the largest balance: what every backend can keep.
pub const AMOUNT_MAX: u64 = i64::MAX.cast_unsigned();

/// One account: a key in one window of time. In the next window it is another account, which begins at nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// Whose it is and what it counts; opaque to the store.
    pub key: String,
    /// When its window begins.
    pub begins: Timestamp,
}

/// What is to be reserved in one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub account: Account,
    /// How much.
    pub amount: u64,
    /// What `spent + reserved` may not exceed afterwards; none: [`AMOUNT_MAX`].
    pub limit: Option<u64>,
    /// From then on the account may be forgotten.
    pub keep_until: Timestamp,
}

/// What one piece of work may take at most, in all accounts that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Unique; never used again.
    pub id: ReservationId,
    /// For which answer.
    pub run: MessageId,
    /// When it was asked for.
    pub at: Timestamp,
    /// At least one, and no account twice.
    pub lines: Vec<Line>,
    /// Who will settle it.
    pub node: NodeId,
}

/// The answer to a [`Reservation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// All lines are reserved.
    Reserved,
    /// Nothing is reserved: this line, the first of those that do not fit, had this balance.
    Refused {
        /// Counted from 0.
        line: usize,
        /// What its account held.
        balance: Balance,
    },
}

/// A reservation that was not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpenReservation {
    /// Which one.
    pub id: ReservationId,
    /// For which answer.
    pub run: MessageId,
    /// When it was asked for.
    pub at: Timestamp,
    /// Who was to settle it.
    pub node: NodeId,
}

/// What an account holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Used, and known to be.
    pub spent: u64,
    /// Held for what has not ended.
    pub reserved: u64,
}

impl Balance {
    /// What nobody else can have.
    pub fn used(self) -> u64 {
        self.spent.saturating_add(self.reserved)
    }

    /// Whether this line still fits.
    pub(super) fn admits(self, line: &Line) -> bool {
        let limit = line.limit.unwrap_or(AMOUNT_MAX).min(AMOUNT_MAX);
        self.used().saturating_add(line.amount) <= limit
    }

    /// With `amount` more reserved.
    pub(super) fn reserve(self, amount: u64) -> Self {
        Self { reserved: self.reserved.saturating_add(amount), ..self }
    }

    /// With `spent` instead of what was reserved for it.
    pub(super) fn settle(self, reserved: u64, spent: u64) -> Self {
        Self {
            spent: self.spent.saturating_add(spent).min(AMOUNT_MAX),
            reserved: self.reserved.saturating_sub(reserved),
        }
    }
}

/// Refuses a reservation that no backend can carry out.
pub(super) fn check(store: &'static str, reservation: &Reservation) -> Result<(), Error> {
    let unusable =
        |what: &str| Error { kind: ErrorKind::Unusable, store, what: what.to_owned(), source: None };
    if reservation.lines.is_empty() {
        return Err(unusable("was asked to reserve nothing"));
    }
    let mut seen = HashSet::new();
    if reservation.lines.iter().any(|line| !seen.insert(&line.account)) {
        return Err(unusable("was asked to reserve twice in one account"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(amount: u64, limit: Option<u64>) -> Line {
        let account = Account { key: "k".into(), begins: Timestamp(0) };
        Line { account, amount, limit, keep_until: Timestamp(0) }
    }

    #[test]
    fn a_line_fits_up_to_the_limit_and_never_overflows() {
        let balance = Balance { spent: 6, reserved: 3 };
        assert!(balance.admits(&line(1, Some(10))));
        assert!(!balance.admits(&line(2, Some(10))));
        assert!(!balance.admits(&line(u64::MAX, None)));
        assert!(balance.admits(&line(AMOUNT_MAX - 9, None)));
        assert!(!balance.admits(&line(AMOUNT_MAX - 8, Some(u64::MAX))));
    }

    #[test]
    fn what_is_settled_moves_from_reserved_to_spent() {
        let balance = Balance { spent: 6, reserved: 3 }.reserve(4);
        assert_eq!(balance, Balance { spent: 6, reserved: 7 });
        assert_eq!(balance.settle(4, 1), Balance { spent: 7, reserved: 3 });
        assert_eq!(balance.settle(4, u64::MAX), Balance { spent: AMOUNT_MAX, reserved: 3 });
    }
}
