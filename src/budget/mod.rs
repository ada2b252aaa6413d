//! Budgets: how many tokens and how much money answers may take, per user, per room, per namespace and for the
//! server, in a minute and in a day.
//!
//! Before a call to a provider [`Budgets::reserve`] takes the most that it can cost out of every budget that applies,
//! in one step: either all of them have room or nothing is taken. Behind the call [`Hold::settle`] puts the actual
//! cost in its place. So `spent + reserved` is within every limit at every instant, however many ask at once, as long
//! as no call takes more than was reserved for it; one that does is recorded as it was, with a warning, and the budget
//! admits nothing more. What to reserve is the caller's to say: the tokens of the prompt and the longest answer that
//! it asks the provider for, not the longest that the model could make, or a few calls block everybody.
//!
//! Knows scopes and amounts, never prompts, rooms or providers. Where there is a limit and the store fails, nothing is
//! admitted. A call counts in the windows in which it was reserved, also when it ends in later ones. What a server
//! that is gone has left open [`Budgets::recover`] counts as used up.
//!
//! Where no limit applies nothing is asked before a call; usage is recorded behind it.

mod hold;
mod limits;
mod price;
mod refused;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub use self::{
    hold::Hold,
    limits::{Budget, Limits, Scope, ScopeLimits, Scopes, Unit, Window},
    price::{Prices, cost, decimal},
    refused::Refused,
};
use crate::{
    budget::hold::{Debt, HOLDS, pay_all},
    clock::{Clock, Timestamp},
    ids::{MessageId, ReservationId},
    nodes::Identity,
    store::{
        self, Store,
        ledger::{Line, OpenReservation, Reservation, Reserve},
    },
};

/// How long the account of a window is kept behind its end: for a clock that is set back, and for answers that end
/// late.
const KEPT: Duration = Duration::from_secs(2 * 60 * 60);
/// How many reservations a start settles at once.
const RECOVERED_AT_ONCE: usize = 64;

/// What a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Tokens of the prompt and of the answer.
    pub tokens: u64,
    /// Millionths of the currency; none: no price is known.
    pub micros: Option<u64>,
}

/// What a budget holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Which budget.
    pub budget: Budget,
    /// What it allows; none: no limit.
    pub limit: Option<u64>,
    /// Used in this window.
    pub spent: u64,
    /// Held for calls that have not ended.
    pub reserved: u64,
    /// When the window ends.
    pub resets_at: Timestamp,
}

/// The budgets of this server.
#[derive(Debug, Clone)]
pub struct Budgets {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    identity: Identity,
    limits: Arc<Limits>,
    unpaid: mpsc::Sender<Debt>,
}

/// A line with what a refusal has to say about it.
struct Entry {
    budget: Budget,
    line: Line,
}

impl Budgets {
    /// Budgets kept in `store`. Starts the task that pays late; it ends with `stop`, before the store is closed.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        identity: Identity,
        limits: Limits,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (unpaid, queue) = mpsc::channel(HOLDS);
        tasks.spawn(pay_all(Arc::clone(&store), Arc::clone(&clock), queue, stop));
        Self { store, clock, identity, limits: Arc::new(limits), unpaid }
    }

    /// Every reservation that was not settled, whose ever it is.
    pub async fn open(&self) -> Result<Vec<OpenReservation>, store::Error> {
        self.store.open_reservations().await
    }

    /// Settles reservations whose nodes are gone, as used up: nobody knows what of them was. How many the store did not
    /// take: they stay reserved, which leaves as little, until they are looked for again.
    pub async fn recover(&self, open: &[OpenReservation]) -> usize {
        let (mut recovered, mut left) = (0_usize, 0_usize);
        for some in open.chunks(RECOVERED_AT_ONCE) {
            for settled in join_all(some.iter().map(|open| self.store.settle(open.id, Vec::new()))).await {
                match settled {
                    Ok(true) => recovered += 1,
                    // Another node was faster.
                    Ok(false) => {}
                    Err(_) => left += 1,
                }
            }
        }
        if recovered > 0 {
            tracing::info!(recovered, "what a crash left reserved counts as used up");
        }
        if left > 0 {
            tracing::warn!(left, "what a crash left reserved cannot be settled now");
        }
        left
    }

    /// Takes `worst`, the most that one call of `run` can cost, out of every budget that applies. Must be called
    /// before the call is made, and the [`Hold`] be settled when it has ended.
    pub async fn reserve(&self, run: MessageId, scopes: &Scopes, worst: Cost) -> Result<Hold, Refused> {
        let at = self.clock.now();
        let entries = self.entries(scopes, worst, at)?;
        let units = entries.iter().map(|entry| entry.budget.unit).collect();
        let lines: Vec<Line> = entries.iter().map(|entry| entry.line.clone()).collect();
        let limited = lines.iter().any(|line| line.limit.is_some());
        let slot = self.unpaid.clone().try_reserve_owned().ok();
        if limited && slot.is_none() {
            tracing::warn!("no answer is begun: too much of what answers have taken is not written down");
            return Err(Refused::Unavailable);
        }
        let (id, node) = (ReservationId(Uuid::new_v4()), self.identity.now());
        let reservation = Reservation { id, run, at, lines, node };
        let debt = Debt { reservation, reserved: false, actual: Vec::new() };
        let mut hold = Hold::new(Arc::clone(&self.store), units, debt, slot);
        if !limited {
            return Ok(hold);
        }
        match hold.reserve().await {
            Ok(Reserve::Reserved) => Ok(hold),
            Ok(Reserve::Refused { line, balance }) => {
                hold.forget();
                let entry = entries.get(line).ok_or(Refused::Unavailable)?;
                let limit = entry.line.limit.unwrap_or(store::ledger::AMOUNT_MAX);
                Err(Refused::UsedUp {
                    budget: entry.budget,
                    limit,
                    left: limit.saturating_sub(balance.used()),
                    asked: entry.line.amount,
                    refills_at: entry.budget.window.end(at),
                })
            }
            Err(error) => {
                tracing::warn!(%error, "no answer is begun: the budgets cannot be read");
                Err(Refused::Unavailable)
            }
        }
    }

    /// Refuses a model without a price where there is a budget of money: nobody could keep to it.
    pub fn check_unpriced(&self, scopes: &Scopes) -> Result<(), Refused> {
        for (scope, _) in scopes.owners(&self.limits) {
            for budget in scope.budgets().into_iter().filter(|budget| budget.unit == Unit::Money) {
                if let Some(limit) = self.limits.of(budget) {
                    return Err(Refused::Unpriced { budget, limit });
                }
            }
        }
        Ok(())
    }

    /// Every line that `worst` concerns. What can be refused without the store is.
    fn entries(&self, scopes: &Scopes, worst: Cost, at: Timestamp) -> Result<Vec<Entry>, Refused> {
        let mut entries = Vec::new();
        for (scope, owner) in scopes.owners(&self.limits) {
            for budget in scope.budgets() {
                let limit = self.limits.of(budget);
                let amount = match (budget.unit, worst.micros, limit) {
                    (Unit::Tokens, ..) => worst.tokens,
                    (Unit::Money, Some(0) | None, None) => continue,
                    (Unit::Money, Some(micros), _) => micros,
                    (Unit::Money, None, Some(limit)) => return Err(Refused::Unpriced { budget, limit }),
                };
                if let Some(limit) = limit.filter(|limit| amount > *limit) {
                    return Err(Refused::TooLarge { budget, limit, asked: amount });
                }
                let (account, keep_until) = (budget.account(&owner, at), budget.window.end(at).plus(KEPT));
                entries.push(Entry { budget, line: Line { account, amount, limit, keep_until } });
            }
        }
        Ok(entries)
    }

    /// The budgets of this user and this room; of neither: those of the namespace, and in the default one of the server.
    pub async fn usage(&self, scopes: &Scopes) -> Result<Vec<Usage>, store::Error> {
        let at = self.clock.now();
        let of_all = scopes.user.is_none() && scopes.room.is_none();
        let asked = |scope| match scope {
            Scope::User | Scope::Room => true,
            Scope::Namespace => of_all,
            // What others spend is nobody's business in a namespace.
            Scope::Server => of_all && scopes.namespace.is_default(),
        };
        let owners = scopes.owners(&self.limits).filter(|(scope, _)| asked(*scope));
        let (budgets, accounts): (Vec<_>, Vec<_>) = owners
            .flat_map(|(scope, owner)| {
                scope.budgets().map(move |budget| (budget, budget.account(&owner, at)))
            })
            .unzip();
        let balances = self.store.balances(&accounts).await?;
        let usage = budgets.into_iter().zip(balances).map(|(budget, balance)| Usage {
            budget,
            limit: self.limits.of(budget),
            spent: balance.spent,
            reserved: balance.reserved,
            resets_at: budget.window.end(at),
        });
        Ok(usage.collect())
    }
}
