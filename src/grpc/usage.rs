//! What is used of the budgets, as the contract says it.

use crate::{
    budget::{Scope, Unit, Usage, Window},
    wire::{basic::time, pb::room::v1 as pb},
};

/// A budget in its current window.
pub(super) fn budget_to_pb(usage: Usage) -> pb::Budget {
    let scope = match usage.budget.scope {
        Scope::User => pb::BudgetScope::User,
        Scope::Room => pb::BudgetScope::Room,
        Scope::Namespace => pb::BudgetScope::Namespace,
        Scope::Server => pb::BudgetScope::Server,
    };
    let window = match usage.budget.window {
        Window::Minute => pb::BudgetWindow::Minute,
        Window::Day => pb::BudgetWindow::Day,
    };
    let unit = match usage.budget.unit {
        Unit::Tokens => pb::BudgetUnit::Tokens,
        Unit::Money => pb::BudgetUnit::Micros,
    };
    pb::Budget {
        scope: scope.into(),
        window: window.into(),
        unit: unit.into(),
        limit: usage.limit,
        spent: usage.spent,
        reserved: usage.reserved,
        resets_at: time(usage.resets_at),
    }
}
