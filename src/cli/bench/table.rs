//! The report as a person reads it.

use std::io::{self, Write};

use super::{
    figures::Quantiles,
    report::{Own, Report, ServerProcess, ratio},
};

fn head(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    // What is paced; only of messages the size is known.
    let (what, size) = match &report.own {
        Some(Own::Joins(_)) => ("connections", String::new()),
        Some(Own::Answers(_)) => ("questions", format!(" of {} bytes", report.payload)),
        _ => ("messages", format!(" of {} bytes", report.payload)),
    };
    let pace = match (report.rate, report.in_flight) {
        (Some(rate), _) => format!("{rate} {what}/s{size}, "),
        (None, Some(window)) => format!("{window} {what} in flight{size}, "),
        (None, None) => String::new(),
    };
    writeln!(out, "{} on {}", report.scenario, report.server)?;
    writeln!(
        out,
        "  {} of {}, {} on a connection, {pace}{:.1} s",
        counted(report.rooms, "room"),
        counted(report.members, "member"),
        counted(report.streams_per_connection, "stream"),
        report.seconds
    )
}

fn talk(report: &Report, out: &mut dyn Write) -> io::Result<()> {
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
    Ok(())
}

fn all_times(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let own: &[(&str, Quantiles)] = match &report.own {
        Some(Own::Answers(own)) => &[("first part", own.first_chunk_us), ("answered", own.answer_us)],
        Some(Own::Joins(own)) => &[("joined", own.joined_us)],
        Some(Own::Resumes(own)) => &[("resumed", own.resumed_us)],
        Some(Own::Storm(own)) => &[("came back", own.returned_us)],
        Some(Own::Idle(_)) | None => &[],
    };
    let talk =
        [("delivered", report.latency_us), ("acknowledged", report.ack_us), ("sent late", report.behind_us)];
    let talk = talk.into_iter().filter_map(|(name, times)| Some((name, times?)));
    let mut is_first = true;
    for (name, quantiles) in talk.chain(own.iter().copied()) {
        if std::mem::take(&mut is_first) {
            writeln!(out, "\n  {:<12}{:>10}{:>10}{:>10}{:>10}", "", "p50", "p99", "p99.9", "max")?;
        }
        times(out, name, quantiles)?;
    }
    Ok(())
}

fn own(own: &Own, out: &mut dyn Write) -> io::Result<()> {
    match own {
        Own::Answers(own) => writeln!(
            out,
            "  answers     {:>13}   {} parts delivered, {}/s; {} unanswered",
            grouped(own.answers),
            grouped(own.chunks),
            grouped(whole(own.chunks_per_second)),
            grouped(own.unanswered)
        ),
        Own::Joins(own) => writeln!(
            out,
            "\n  joins       {:>13}   {}/s, {} refused, {} not begun in time",
            grouped(own.joined),
            grouped(whole(own.joins_per_second)),
            grouped(own.refused),
            grouped(own.not_begun)
        ),
        Own::Resumes(own) => {
            writeln!(out, "  resumes     {:>13}   {} refused", grouped(own.resumed), grouped(own.refused))
        }
        Own::Storm(own) => writeln!(
            out,
            "\n  came back   {:>13}   of {} in {:.2} s, {} refused on the way",
            grouped(own.served as u64),
            grouped(own.sessions as u64),
            own.seconds,
            grouped(own.refused)
        ),
        Own::Idle(own) => {
            let used = own
                .cpu_us_per_session_second
                .map(|used| format!("{used:.2} µs of a processor a second each, "));
            let used = used.unwrap_or_default();
            writeln!(
                out,
                "\n  idle        {:>13}   sessions: {used}{} events heard",
                grouped(own.sessions as u64),
                grouped(own.events)
            )
        }
    }
}

/// Writes the lines.
pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    head(report, out)?;
    if report.latency_us.is_some() {
        talk(report, out)?;
    }
    if let Some(figures) = &report.own {
        own(figures, out)?;
    }
    all_times(report, out)?;
    if let Some(share) = report.generator_cpu {
        writeln!(out, "\n  the generator took {:.0} % of its one processor", share * 100.0)?;
    }
    process(out, report.server_process.as_ref())?;
    for problem in report.problems.iter().chain(&report.warnings) {
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
        "\n  server ({}, process {}, {}): {:.2} s of processor time{}, {} MiB, {:.1} KiB for each session",
        process.name,
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
