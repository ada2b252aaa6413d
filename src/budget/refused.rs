//! Why something may not be done: in words for the room, and with the time at which to ask again.

use std::fmt;

use thiserror::Error;

use crate::{
    budget::{
        limits::{Budget, Unit, Window},
        price::decimal,
    },
    clock::Timestamp,
};

/// Why a call must not be made. Safe to show.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// What the call may cost does not fit any more.
    #[error(
        "the budget of {} {budget} has {} left, and this may take {}; it refills {}",
        Shown(*limit, *budget), Shown(*left, *budget), Shown(*asked, *budget), When(*budget)
    )]
    UsedUp {
        /// Which budget.
        budget: Budget,
        /// What it allows.
        limit: u64,
        /// What of it is neither spent nor reserved.
        left: u64,
        /// What the call may cost at worst.
        asked: u64,
        /// When it refills.
        refills_at: Timestamp,
    },
    /// What the call may cost is more than the budget ever holds: asking again is of no use.
    #[error(
        "this may take {}, and the budget is {} {budget}: it can never be done",
        Shown(*asked, *budget), Shown(*limit, *budget)
    )]
    TooLarge {
        /// Which budget.
        budget: Budget,
        /// What it allows.
        limit: u64,
        /// What the call may cost at worst.
        asked: u64,
    },
    /// There is a budget of money, and nobody knows what the call costs.
    #[error("no price is known for this model, and there is a budget of {} {budget}", Shown(*limit, *budget))]
    Unpriced {
        /// Which budget.
        budget: Budget,
        /// What it allows.
        limit: u64,
    },
    /// Whether there is anything left cannot be found out now.
    #[error("the budgets cannot be read now")]
    Unavailable,
}

impl Refused {
    /// When asking again may help; none: it is not known, or never.
    pub fn retry_at(&self) -> Option<Timestamp> {
        match self {
            Self::UsedUp { refills_at, .. } => Some(*refills_at),
            Self::TooLarge { .. } | Self::Unpriced { .. } | Self::Unavailable => None,
        }
    }

    /// The budget that stands in the way.
    pub fn budget(&self) -> Option<Budget> {
        match self {
            Self::UsedUp { budget, .. } | Self::TooLarge { budget, .. } | Self::Unpriced { budget, .. } => {
                Some(*budget)
            }
            Self::Unavailable => None,
        }
    }
}

/// An amount in the unit of its budget.
struct Shown(u64, Budget);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1.unit {
            Unit::Tokens => self.0.fmt(f),
            Unit::Money => f.write_str(&decimal(self.0)),
        }
    }
}

/// When a budget refills.
struct When(Budget);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.window {
            Window::Minute => "with the next minute",
            Window::Day => "at midnight UTC",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::limits::Scope;

    #[test]
    fn a_refusal_names_the_budget_and_when_it_refills() {
        let budget = Budget { scope: Scope::Room, window: Window::Day, unit: Unit::Tokens };
        let refused =
            Refused::UsedUp { budget, limit: 1000, left: 20, asked: 300, refills_at: Timestamp(86_400_000) };
        assert_eq!(
            refused.to_string(),
            "the budget of 1000 tokens per day of the room has 20 left, and this may take 300; it refills at \
             midnight UTC"
        );
        assert_eq!(refused.retry_at(), Some(Timestamp(86_400_000)));
    }

    #[test]
    fn one_that_can_never_pass_says_so_and_has_no_time() {
        let budget = Budget { scope: Scope::User, window: Window::Minute, unit: Unit::Money };
        let refused = Refused::TooLarge { budget, limit: 500_000, asked: 1_250_000 };
        assert_eq!(
            refused.to_string(),
            "this may take 1.25, and the budget is 0.5 money per minute of the user: it can never be done"
        );
        assert_eq!(refused.retry_at(), None);
    }
}
