//! The tables, in Markdown, a line for each shape and server. The documentation has a column for each server.

use super::{
    child::Kind,
    goals::{self, Medians},
    outcome::Figures,
    shapes::{Load, Shape},
};

/// What was measured: a line for each shape and server.
pub(super) fn figures(
    shapes: &[Shape],
    runs: &[(&'static str, Kind, Vec<Figures>)],
    medians: &Medians,
) -> String {
    let mut out = String::from(
        "| shape | load | server | server CPU per delivery (least-most) | deliveries/s | p50 | p99 | KiB per session |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for shape in shapes {
        for (_, kind, median) in medians.iter().filter(|(name, ..)| *name == shape.name) {
            let all = runs.iter().find(|(name, of, _)| *name == shape.name && of == kind);
            let cpu = match shape.load {
                Load::Idle => format!("{:.2} µs for a session and a second", median.session_us),
                Load::Paced(_) | Load::InFlight(_) => spread(median, all.map_or(&[], |(.., all)| all)),
            };
            let memory = if median.kib_per_session > 0.0 {
                format!("{:.1}", median.kib_per_session)
            } else {
                "-".into()
            };
            out += &format!(
                "| {} | {} | {} | {cpu} | {} | {} | {} | {memory} |\n",
                shape.name,
                shape.describe(),
                kind.name(),
                grouped(median.per_second),
                time(median.p50_us),
                time(median.p99_us),
            );
        }
    }
    out
}

/// The ratios, each beside its goal: a line for each shape.
pub(super) fn ratios(shapes: &[Shape], medians: &Medians) -> String {
    let columns = [goals::OF_TCP, goals::OF_BARE, goals::OF_NAIVE, goals::OF_NATS, goals::OF_ORIGINAL];
    let mut out = format!("| shape | load | {} |\n|---|---|---|---|---|---|---|\n", columns.join(" | "));
    for shape in shapes.iter().filter(|shape| shape.load != Load::Idle) {
        let checks = goals::ratios(medians, shape.name);
        if checks.is_empty() {
            continue;
        }
        let cells = columns.map(|column| {
            checks.iter().find(|check| check.what == column).map_or_else(|| "-".into(), goals::Check::cell)
        });
        out += &format!("| {} | {} | {} |\n", shape.name, shape.describe(), cells.join(" | "));
    }
    out
}

/// What compares Salon with itself, and the sizes: a line each; nothing if there is none.
pub(super) fn others(medians: &Medians) -> String {
    let checks = goals::others(medians);
    if checks.is_empty() {
        return String::new();
    }
    let lines =
        checks.iter().map(|check| format!("| {} | {} | {} |\n", check.shape, check.what, check.cell()));
    format!("| shape | Salon | figure |\n|---|---|---|\n{}", lines.collect::<String>())
}

fn spread(median: &Figures, runs: &[Figures]) -> String {
    let all = || runs.iter().map(|run| run.cpu_us);
    let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    format!("{:.2} µs ({least:.2}-{most:.2})", median.cpu_us)
}

/// A time in the unit that suits it.
pub(super) fn time(us: f64) -> String {
    match us {
        us if us <= 0.0 => "-".into(),
        us if us < 1000.0 => format!("{us:.0} µs"),
        us => format!("{:.1} ms", us / 1000.0),
    }
}

/// A whole number with commas.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
