//! The budgets a second time, as simple as they can be said: sums over a list of everything that was ever asked for.

use std::collections::BTreeMap;

use salon::{
    budget::{Cost, Limits, ScopeLimits},
    clock::Timestamp,
    store::ledger::Account,
};

const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;
/// How long behind the end of its window an account must be there.
const KEPT: i64 = 2 * 60 * MINUTE;

/// Small limits, so that a few calls meet them.
pub fn limits() -> Limits {
    Limits {
        user: ScopeLimits {
            tokens_per_minute: Some(60),
            tokens_per_day: Some(200),
            money_per_minute: None,
            money_per_day: Some(150),
        },
        room: ScopeLimits { money_per_minute: Some(70), ..ScopeLimits::default() },
        server: ScopeLimits { tokens_per_day: Some(500), ..ScopeLimits::default() },
        ..Limits::default()
    }
}

/// How a request must be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Passes,
    UsedUp,
    TooLarge,
    Unpriced,
}

/// One line of one call.
#[derive(Debug, Clone)]
struct Part {
    account: Account,
    /// In the order of the unit: tokens or money.
    is_money: bool,
    worst: u64,
    /// What it came to; none: it has not ended.
    actual: Option<u64>,
}

/// What an account must hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    pub spent: u64,
    pub reserved: u64,
    /// What calls took of it beyond what was reserved for them.
    beyond: u64,
}

/// One call that has passed.
pub type Call = usize;

/// Everything that was ever asked for, and passed.
#[derive(Debug, Default)]
pub struct Model {
    calls: Vec<Vec<Part>>,
    /// The limits of the accounts that have one.
    limits: BTreeMap<Account, u64>,
    latest: i64,
}

impl Model {
    /// Asks; a call that passes is open from now on.
    pub fn ask(&mut self, user: Option<&str>, room: &str, worst: Cost, now: Timestamp) -> Answer {
        let limits = limits();
        let scopes = [
            ("user", user, limits.user),
            ("room", Some(room), limits.room),
            ("server", Some(""), limits.server),
        ];
        let mut parts = Vec::new();
        for (scope, owner, limits) in scopes {
            let Some(owner) = owner else { continue };
            for (window, length, tokens, money) in [
                ("day", DAY, limits.tokens_per_day, limits.money_per_day),
                ("minute", MINUTE, limits.tokens_per_minute, limits.money_per_minute),
            ] {
                let begins = Timestamp(now.0 / length * length);
                for (unit, amount, limit) in
                    [("tokens", Some(worst.tokens), tokens), ("money", worst.micros, money)]
                {
                    let account = Account { key: format!("{scope}/{window}/{unit}/{owner}"), begins };
                    match (amount, limit) {
                        (None, None) => continue,
                        (None, Some(_)) => return Answer::Unpriced,
                        (Some(amount), Some(limit)) if amount > limit => return Answer::TooLarge,
                        (Some(_), _) => {}
                    }
                    if let Some(limit) = limit {
                        self.limits.insert(account.clone(), limit);
                    }
                    let worst = amount.unwrap_or_default();
                    parts.push(Part { account, is_money: unit == "money", worst, actual: None });
                }
            }
        }
        let balances = self.balances();
        let fits = |part: &Part| {
            let held = balances.get(&part.account).copied().unwrap_or_default();
            let limit = self.limits.get(&part.account);
            limit.is_none_or(|limit| held.spent + held.reserved + part.worst <= *limit)
        };
        if !parts.iter().all(fits) {
            return Answer::UsedUp;
        }
        self.calls.push(parts);
        Answer::Passes
    }

    /// The call that has passed last.
    pub fn last(&self) -> Call {
        self.calls.len() - 1
    }

    /// The most that the call can take.
    pub fn worst(&self, call: Call) -> Cost {
        let worst = |is_money| {
            let part = self.calls[call].iter().find(|part| part.is_money == is_money);
            part.map(|part| part.worst)
        };
        Cost { tokens: worst(false).unwrap_or_default(), micros: worst(true) }
    }

    /// The call took this.
    pub fn settle(&mut self, call: Call, cost: Cost) {
        self.end(call, |part| if part.is_money { cost.micros.unwrap_or(part.worst) } else { cost.tokens });
    }

    /// Nobody knows what the call took.
    pub fn use_up(&mut self, call: Call) {
        self.end(call, |part| part.worst);
    }

    fn end(&mut self, call: Call, actual: impl Fn(&Part) -> u64) {
        for part in &mut self.calls[call] {
            assert_eq!(part.actual, None, "ended twice");
            part.actual = Some(actual(part));
        }
    }

    /// The latest moment that any clock has shown.
    pub fn is(&mut self, now: Timestamp) {
        self.latest = self.latest.max(now.0);
    }

    /// What every account that was ever used must hold.
    pub fn balances(&self) -> BTreeMap<&Account, Held> {
        let mut balances = BTreeMap::<&Account, Held>::new();
        for part in self.calls.iter().flatten() {
            let held = balances.entry(&part.account).or_default();
            match part.actual {
                Some(actual) => {
                    held.spent += actual;
                    held.beyond += actual.saturating_sub(part.worst);
                }
                None => held.reserved += part.worst,
            }
        }
        balances
    }

    /// What `spent + reserved` may come to: the limit, and what calls took beyond what was reserved for them.
    pub fn bound(&self, account: &Account, held: Held) -> u64 {
        self.limits.get(account).map_or(u64::MAX, |limit| limit + held.beyond)
    }

    /// Whether the account may have been forgotten.
    pub fn is_over(&self, account: &Account, held: Held) -> bool {
        let length = if account.key.contains("/day/") { DAY } else { MINUTE };
        account.begins.0 + length + KEPT < self.latest && held.reserved == 0
    }
}
