//! What one run has come to, as the generator tells it, and the middle of several.

use std::process::Output;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::shapes::{Load, Shape};

/// How much of a paced load must have been sent: a generator that cannot keep up measures itself.
const SENT: f64 = 0.95;

/// What the generator prints, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Report {
    seconds: f64,
    #[serde(default)]
    sent: u64,
    #[serde(default)]
    refused: u64,
    #[serde(default)]
    deliveries: u64,
    #[serde(default)]
    deliveries_per_second: f64,
    #[serde(default)]
    lost: u64,
    #[serde(default)]
    duplicated: u64,
    #[serde(default)]
    inversions: u64,
    latency_us: Option<Quantiles>,
    generator_cpu: Option<f64>,
    server_process: Option<Process>,
    #[serde(default)]
    problems: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

#[derive(Debug, Deserialize)]
struct Process {
    cpu_seconds: f64,
    cpu_us_per_delivery: Option<f64>,
    softirq_us_per_delivery: Option<f64>,
    rss_kib_per_session: Option<f64>,
}

/// The figures of a run, or the middle ones of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Processor time of the server for a delivery, the kernel's work for the network included, in microseconds.
    pub(super) cpu_us: f64,
    /// Deliveries in a second.
    pub(super) per_second: f64,
    /// Half of them came within so many microseconds.
    pub(super) p50_us: f64,
    /// 99 % of them.
    pub(super) p99_us: f64,
    /// Memory of the server for a session, in KiB.
    pub(super) kib_per_session: f64,
    /// Processor time of the server for a session and a second, in microseconds.
    pub(super) session_us: f64,
    /// Which part of its processor the generator took: near one it is itself in how long things took.
    pub(super) generator_cpu: f64,
}

/// One run.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What it has come to.
    pub(super) figures: Figures,
    /// Everything that the generator has said.
    pub(super) said: serde_json::Value,
    /// Why it does not count; empty: it does.
    pub(super) problems: Vec<String>,
}

/// Reads what the generator has printed.
pub(super) fn read(output: &Output, shape: &Shape) -> anyhow::Result<Outcome> {
    let words = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the generator has failed ({}): {}", output.status, words()))?;
    let report: Report =
        serde_json::from_value(said.clone()).with_context(|| format!("cannot read the report {said}"))?;
    let mut problems = problems(&report, shape);
    if problems.is_empty() && !output.status.success() {
        let said = report.problems.join("; ");
        problems.push(format!("the generator ended with {}: {said}{}", output.status, words()));
    }
    Ok(Outcome { figures: figures(&report, shape), said, problems })
}

fn problems(report: &Report, shape: &Shape) -> Vec<String> {
    let mut problems = Vec::new();
    let counted = [
        (report.lost, "lost"),
        (report.duplicated, "came twice"),
        (report.inversions, "came in the wrong order"),
        (report.refused, "were refused"),
    ];
    for (count, what) in counted {
        if count > 0 {
            problems.push(format!("{count} {what}"));
        }
    }
    if shape.load != Load::Idle && report.deliveries == 0 {
        problems.push("nothing was delivered".into());
    }
    if let Load::Paced(rate) = shape.load {
        let due = f64::from(rate) * report.seconds;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let sent = report.sent as f64;
        if sent < due * SENT {
            problems.push(format!("{sent} of {due} messages were sent"));
        }
    }
    if report.server_process.is_none() {
        problems.push("the server's process was not measured".into());
    }
    problems
}

fn figures(report: &Report, shape: &Shape) -> Figures {
    let generator_cpu = report.generator_cpu.unwrap_or_default();
    let mut figures =
        Figures { per_second: report.deliveries_per_second, generator_cpu, ..Default::default() };
    if let Some(latency) = &report.latency_us {
        (figures.p50_us, figures.p99_us) = (latency.p50, latency.p99);
    }
    if let Some(process) = &report.server_process {
        let [own, kernel] = [process.cpu_us_per_delivery, process.softirq_us_per_delivery];
        figures.cpu_us = own.unwrap_or_default() + kernel.unwrap_or_default();
        figures.kib_per_session = process.rss_kib_per_session.unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let sessions = shape.sessions() as f64;
        figures.session_us = process.cpu_seconds * 1e6 / sessions / report.seconds.max(f64::MIN_POSITIVE);
    }
    figures
}

/// The middle of each figure; of an even number the mean of both in the middle.
pub(super) fn median(runs: &[Figures]) -> Option<Figures> {
    let middle = |of: fn(&Figures) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        let upper = all.get(all.len() / 2)?;
        let lower = all.get(all.len().checked_sub(1)? / 2)?;
        Some(f64::midpoint(*lower, *upper))
    };
    Some(Figures {
        cpu_us: middle(|run| run.cpu_us)?,
        per_second: middle(|run| run.per_second)?,
        p50_us: middle(|run| run.p50_us)?,
        p99_us: middle(|run| run.p99_us)?,
        kib_per_session: middle(|run| run.kib_per_session)?,
        session_us: middle(|run| run.session_us)?,
        generator_cpu: middle(|run| run.generator_cpu)?,
    })
}
