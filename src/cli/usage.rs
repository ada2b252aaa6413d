//! `salon usage`: what the answers of LLMs have used up, as a table or as lines of JSON.

use std::io::{BufWriter, Write};

use crate::{
    cli::{
        client::{self, Error},
        exit::Exit,
        json::Printer,
        text,
    },
    config::Money,
    wire::pb::room::v1::{Budget, BudgetScope, BudgetUnit, BudgetWindow, GetUsageRequest},
};

/// What `salon usage` was asked.
#[derive(Debug, Clone, Default)]
pub struct UsageOptions {
    /// The server.
    pub server: client::Server,
    /// Of this user.
    pub user: Option<String>,
    /// Of this room; without either: of the server.
    pub room: Option<String>,
    /// Lines of JSON instead of a table.
    pub json: bool,
}

/// Asks once, and writes one line for each budget to `out`.
pub async fn run(options: UsageOptions, out: &mut (impl Write + Send)) -> Result<Exit, Error> {
    let UsageOptions { server, user, room, json } = options;
    let mut client = client::rooms(&server).await?;
    let request = GetUsageRequest { user_id: user, room_id: room.clone() };
    let usage = client.get_usage(request).await;
    let budgets = usage.map_err(|status| Error::from_status(&status, room.as_deref()))?.into_inner().budgets;
    let mut out = BufWriter::new(out);
    let written = if json {
        let printer = Printer::new("room.v1.Budget")?;
        budgets.iter().try_for_each(|budget| Ok(writeln!(out, "{}", printer.line(budget)?)?))
    } else {
        table(&budgets, &mut out).map_err(Error::from)
    };
    match written.and_then(|()| Ok(out.flush()?)) {
        Err(error) if !error.is_broken_pipe() => Err(error),
        Ok(()) | Err(_) => Ok(Exit::Success),
    }
}

fn table(budgets: &[Budget], out: &mut impl Write) -> std::io::Result<()> {
    let header = ["OF THE", "PER", "COUNTED", "LIMIT", "SPENT", "RESERVED", "RESETS"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(header).chain(budgets.iter().map(row)).collect();
    text::columns(&rows, out)
}

fn row(budget: &Budget) -> [String; 7] {
    let scope = match budget.scope() {
        BudgetScope::User => "user",
        BudgetScope::Room => "room",
        BudgetScope::Namespace => "namespace",
        BudgetScope::Server => "server",
        BudgetScope::Unspecified => "?",
    };
    let window = match budget.window() {
        BudgetWindow::Minute => "minute",
        BudgetWindow::Day => "day",
        BudgetWindow::Unspecified => "?",
    };
    let unit = match budget.unit() {
        BudgetUnit::Tokens => "tokens",
        BudgetUnit::Micros => "money",
        BudgetUnit::Unspecified => "?",
    };
    let amount = |amount: u64| match budget.unit() {
        BudgetUnit::Micros => Money { micros: amount }.to_string(),
        BudgetUnit::Tokens | BudgetUnit::Unspecified => amount.to_string(),
    };
    let resets = budget.resets_at.map(|at| prost_types::Timestamp { nanos: 0, ..at }.to_string());
    [
        scope.to_owned(),
        window.to_owned(),
        unit.to_owned(),
        budget.limit.map_or_else(|| "none".to_owned(), amount),
        amount(budget.spent),
        amount(budget.reserved),
        resets.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_as_money_and_no_limit_as_none() {
        let budget = |unit: BudgetUnit, limit| Budget {
            scope: BudgetScope::Room.into(),
            window: BudgetWindow::Day.into(),
            unit: unit.into(),
            limit,
            spent: 1_250_000,
            reserved: 7,
            resets_at: Some(prost_types::Timestamp { seconds: 86_400, nanos: 1 }),
        };
        let mut out = Vec::new();
        table(&[budget(BudgetUnit::Tokens, None), budget(BudgetUnit::Micros, Some(5_000_000))], &mut out)
            .unwrap();
        let expected = "\
            OF THE  PER  COUNTED  LIMIT  SPENT    RESERVED  RESETS\n\
            room    day  tokens   none   1250000  7         1970-01-02T00:00:00Z\n\
            room    day  money    5      1.25     0.000007  1970-01-02T00:00:00Z\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
