//! The report as a person reads it.

use std::io::{self, Write};

use super::{
    figures::Quantiles,
    report::{Report, ServerProcess, ratio},
};

/// Writes the lines.
pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let pace = match (report.rate, report.in_flight) {
        (Some(rate), _) => format!("{rate} messages/s"),
        (None, window) => format!("{} messages in flight", window.unwrap_or_default()),
    };
    writeln!(out, "{} on {}", report.scenario, report.server)?;
    writeln!(
        out,
        "  {} of {}, {} on a connection, {pace} of {} bytes, {:.1} s",
        counted(report.rooms, "room"),
        counted(report.members, "member"),
        counted(report.streams_per_connection, "stream"),
        report.payload,
        report.seconds
    )?;
    let acknowledged = match report.acknowledged {
        Some(count) => format!("acknowledged {}, refused {}", grouped(count), grouped(report.refused)),
        None => "nothing is acknowledged".to_owned(),
    };
    writeln!(out, "\n  sent        {:>13}   {acknowledged}", grouped(report.sent))?;
    writeln!(
        out,
        "  deliveries  {:>13}   {}/s",
        grouped(report.deliveries),
        grouped(whole(report.deliveries_per_second))
    )?;
    writeln!(
        out,
        "  lost        {:>13}   twice {}, out of order {}, astray {}",
        grouped(report.lost),
        grouped(report.duplicated),
        grouped(report.inversions),
        grouped(report.astray)
    )?;
    writeln!(out, "\n  {:<12}{:>10}{:>10}{:>10}{:>10}", "", "p50", "p99", "p99.9", "max")?;
    times(out, "delivered", report.latency_us)?;
    if let Some(ack) = report.ack_us {
        times(out, "acknowledged", ack)?;
    }
    // In a closed loop a message is due when there is room for it.
    if report.rate.is_some() {
        times(out, "sent late", report.behind_us)?;
    }
    process(out, report.server_process.as_ref())?;
    for problem in &report.problems {
        writeln!(out, "\n  {problem}")?;
    }
    Ok(())
}

fn process(out: &mut dyn Write, process: Option<&ServerProcess>) -> io::Result<()> {
    let Some(process) = process else {
        return writeln!(
            out,
            "\n  no figures of the server's process: they are only for Linux, and on one machine"
        );
    };
    writeln!(
        out,
        "\n  server (process {}, {}): {:.2} s of processor time{}, {} MiB, {:.1} KiB for each session",
        process.pid,
        counted(process.threads, "thread"),
        process.cpu_seconds,
        match (process.cpu_us_per_delivery, process.softirq_us_per_delivery) {
            (Some(own), Some(kernel)) =>
                format!(" = {own:.2} µs a delivery, and {kernel:.2} µs of ksoftirqd"),
            (Some(own), None) => format!(" = {own:.2} µs a delivery"),
            (None, _) => String::new(),
        },
        process.rss_kib / 1024,
        process.rss_kib_per_session
    )
}

fn times(out: &mut dyn Write, name: &str, times: Quantiles) -> io::Result<()> {
    let Quantiles { p50, p99, p999, max } = times;
    let [p50, p99, p999, max] = [p50, p99, p999, max].map(time);
    writeln!(out, "  {name:<12}{p50:>10}{p99:>10}{p999:>10}{max:>10}")
}

/// A time in the unit that it is read in, to three digits.
pub(super) fn time(micros: u64) -> String {
    let (number, unit) = match micros {
        0..=999 => return format!("{micros} µs"),
        1_000..=999_999 => (ratio(micros, 1_000), "ms"),
        _ => (ratio(micros, 1_000_000), "s"),
    };
    match number {
        number if number < 10.0 => format!("{number:.2} {unit}"),
        number if number < 100.0 => format!("{number:.1} {unit}"),
        number => format!("{number:.0} {unit}"),
    }
}

/// A number with commas between its thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is neither negative nor that large"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{} {what}s", grouped(count as u64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_read_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [7, 999, 1_000, 12_345, 123_456, 1_500_000].map(time),
            ["7 µs", "999 µs", "1.00 ms", "12.3 ms", "123 ms", "1.50 s"]
        );
        assert_eq!((counted(1, "room"), counted(2000, "room")), ("1 room".into(), "2,000 rooms".into()));
    }
}
