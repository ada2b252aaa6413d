//! What a run has come to: for a program one JSON object, for a person a few lines.
//!
//! Names and units of the JSON are a promise: scripts compare servers by them. A figure that is not known is null there,
//! and left out for a person.

use std::io::{self, Write};

use serde::Serialize;

use super::{
    crew::Crew,
    figures::Quantiles,
    messages::Moment,
    plan::{Pace, Plan},
    process::Used,
    table,
    talk::Talk,
};

/// The whole report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub scenario: &'static str,
    pub server: String,
    pub contract: &'static str,
    pub rooms: usize,
    pub members: usize,
    pub streams_per_connection: usize,
    pub payload: usize,
    pub rate: Option<f64>,
    pub in_flight: Option<usize>,
    /// How long was measured.
    pub seconds: f64,
    pub sent: u64,
    /// None: nothing is acknowledged there.
    pub acknowledged: Option<u64>,
    pub refused: u64,
    pub deliveries: u64,
    pub deliveries_per_second: f64,
    pub lost: u64,
    pub duplicated: u64,
    pub inversions: u64,
    /// Messages in rooms where nobody said them.
    pub astray: u64,
    /// Sessions that ended before the load did.
    pub ended: u64,
    pub latency_us: Quantiles,
    pub ack_us: Option<Quantiles>,
    /// How much later than due messages were handed to their connections: the generator's own part of the latency.
    pub behind_us: Quantiles,
    pub server_process: Option<ServerProcess>,
    /// What was refused and what ended, in words.
    pub problems: Vec<String>,
}

/// What the server has used while it was measured.
#[derive(Debug, Serialize)]
pub(super) struct ServerProcess {
    pub pid: u32,
    pub cpu_seconds: f64,
    pub cpu_us_per_delivery: Option<f64>,
    pub softirq_us_per_delivery: Option<f64>,
    pub rss_kib: u64,
    pub rss_kib_per_session: f64,
    pub threads: usize,
}

/// What was looked at around the load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// When measuring began.
    pub began: Moment,
    /// When it ended.
    pub ended: Moment,
    /// Before any session was open.
    pub empty: Option<Used>,
    /// When all had joined.
    pub full: Option<Used>,
}

impl Report {
    /// Of a load of messages.
    pub(super) fn messages(
        plan: &Plan,
        crew: &Crew,
        talk: &Talk,
        measured: Measured,
        has_acks: bool,
    ) -> Self {
        let counts = &talk.counts;
        let Measured { began, ended, .. } = measured;
        let seconds = ratio(ended.at.saturating_sub(began.at), 1_000_000_000);
        let arrivals = ended.arrivals - began.arrivals;
        let refusals = counts
            .codes
            .iter()
            .map(|(code, (count, words))| format!("{count} refused with {code}: {words}{}", advice(code)));
        let ends = counts.ended.iter().map(|(why, count)| format!("{count} sessions ended: {why}"));
        Self {
            scenario: plan.scenario.name(),
            server: plan.server.url.clone(),
            contract: plan.contract.name(),
            rooms: plan.rooms,
            members: plan.members,
            streams_per_connection: plan.per_connection,
            payload: plan.payload,
            rate: if let Pace::Rate(rate) = plan.pace { Some(rate) } else { None },
            in_flight: if let Pace::InFlight(window) = plan.pace { Some(window) } else { None },
            seconds,
            sent: counts.sent,
            acknowledged: has_acks.then_some(counts.acknowledged),
            refused: counts.refused,
            deliveries: counts.deliveries,
            deliveries_per_second: per(arrivals, seconds),
            lost: talk.lost(),
            duplicated: counts.duplicated,
            inversions: counts.inversions,
            astray: counts.astray,
            ended: counts.ended.values().sum(),
            latency_us: counts.latency.quantiles(),
            ack_us: has_acks.then(|| counts.ack.quantiles()),
            behind_us: counts.behind.quantiles(),
            server_process: ServerProcess::new(crew, measured, arrivals, plan.sessions()),
            problems: refusals.chain(ends).collect(),
        }
    }

    /// Whether all came, once, in order, and where it belongs.
    pub(super) fn is_sound(&self) -> bool {
        let faults = self.lost + self.duplicated + self.inversions + self.astray + self.ended;
        faults == 0 && self.deliveries > 0
    }

    /// Writes it down, for a program or for a person.
    pub(super) fn write(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        table::write(self, out)
    }
}

impl ServerProcess {
    fn new(crew: &Crew, measured: Measured, arrivals: u64, sessions: usize) -> Option<Self> {
        let Measured { began, ended, empty, full } = measured;
        let (began, ended) = (began.used?, ended.used?);
        let cpu = ended.cpu.saturating_sub(began.cpu).as_secs_f64();
        let per_delivery = |seconds: f64| (arrivals > 0).then(|| 1e6 * seconds / ratio(arrivals, 1));
        let softirq = ended.softirq.zip(began.softirq).map(|(ended, began)| ended.saturating_sub(began));
        let grown = full.zip(empty).map(|(full, empty)| full.rss_kib.saturating_sub(empty.rss_kib));
        Some(Self {
            pid: crew.process.as_ref()?.pid,
            cpu_seconds: cpu,
            cpu_us_per_delivery: per_delivery(cpu),
            softirq_us_per_delivery: softirq.and_then(|spent| per_delivery(spent.as_secs_f64())),
            rss_kib: ended.rss_kib,
            rss_kib_per_session: ratio(grown.unwrap_or_default(), sessions as u64),
            threads: ended.threads,
        })
    }
}

/// What to do about a refusal.
fn advice(code: &str) -> &'static str {
    match code.to_ascii_lowercase().as_str() {
        "rate_limited" => {
            "; a load needs a server with higher limits.messages_per_second, limits.messages_burst and \
             limits.commands_in_flight (`salon bench --help` shows one)"
        }
        "resource_exhausted" => "; see limits.* and limits.quotas.* of the server",
        "invalid_argument" => "; see limits.message_bytes of the server, or give a smaller --payload",
        _ => "",
    }
}

/// A quotient as people read it.
#[expect(clippy::cast_precision_loss, reason = "nobody reads the sixteenth digit")]
pub(super) fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}

fn per(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { ratio(count, 1) / seconds } else { 0.0 }
}
