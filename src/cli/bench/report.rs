//! What a run has come to: for a program one JSON object, for a person a few lines.
//!
//! Names and units of the JSON are a promise: scripts compare servers by them. A figure that is not known is null there,
//! and left out for a person.

use std::io::{self, Write};

use serde::Serialize;

use super::{
    answers,
    crew::Crew,
    figures::Quantiles,
    idle::Idle,
    joins::Joins,
    load::Measured,
    plan::{Pace, Plan},
    process::Used,
    resumes::Resumes,
    storm::Storm,
    table,
    talk::Talk,
};

/// The whole report.
#[derive(Debug, Default, Serialize)]
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
    pub latency_us: Option<Quantiles>,
    pub ack_us: Option<Quantiles>,
    /// How much later than due messages were handed to their connections: the generator's own part of the latency.
    pub behind_us: Option<Quantiles>,
    pub server_process: Option<ServerProcess>,
    /// What only this scenario has.
    #[serde(flatten)]
    pub own: Option<Own>,
    /// What was refused and what ended, in words.
    pub problems: Vec<String>,
    /// Whether all was as it should be.
    #[serde(skip)]
    pub is_sound: bool,
}

/// What only one scenario has, under its name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Own {
    Answers(answers::Figures),
    Joins(Joins),
    Resumes(Resumes),
    Storm(Storm),
    Idle(Idle),
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

impl Report {
    /// One that says what was asked for.
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            scenario: plan.scenario.name(),
            server: shown(&plan.server.url),
            contract: plan.contract.name(),
            rooms: plan.rooms,
            members: plan.members,
            streams_per_connection: plan.per_connection,
            payload: plan.payload,
            rate: if let Pace::Rate(rate) = plan.pace { Some(rate) } else { None },
            in_flight: if let Pace::InFlight(window) = plan.pace { Some(window) } else { None },
            is_sound: true,
            ..Self::default()
        }
    }

    /// With what came of a load of messages.
    pub(super) fn with_talk(mut self, crew: &Crew, talk: &Talk, measured: Measured) -> Self {
        let counts = &talk.counts;
        let Measured { began, ended, empty, full } = measured;
        let arrivals = ended.arrivals - began.arrivals;
        let refusals = counts
            .codes
            .iter()
            .map(|(code, (count, words))| format!("{count} refused with {code}: {words}{}", advice(code)));
        let ends = counts.ended.iter().map(|(why, count)| format!("{count} sessions ended: {why}"));
        self.problems.extend(refusals.chain(ends));
        self.seconds = ratio(ended.at.saturating_sub(began.at), 1_000_000_000);
        self.sent = counts.sent;
        self.acknowledged = talk.has_acks().then_some(counts.acknowledged);
        self.refused = counts.refused;
        self.deliveries = counts.deliveries;
        self.deliveries_per_second = per(arrivals, self.seconds);
        self.lost = talk.lost();
        self.duplicated = counts.duplicated;
        self.inversions = counts.inversions;
        self.astray = counts.astray;
        self.ended = counts.ended.values().sum();
        self.latency_us = Some(counts.latency.quantiles());
        self.ack_us = talk.has_acks().then(|| counts.ack.quantiles());
        // In a closed loop a message is due when there is room for it.
        self.behind_us = self.rate.map(|_| counts.behind.quantiles());
        self.server_process = ServerProcess::new(
            crew,
            [began.used, ended.used],
            [empty, full],
            arrivals,
            self.rooms * self.members,
        );
        let faults = self.lost + self.duplicated + self.inversions + self.astray + self.ended;
        self.is_sound = faults == 0 && self.deliveries > 0;
        self
    }

    /// With what the server has used since `before`, which was so many nanoseconds ago.
    pub(super) fn with_process(
        mut self,
        crew: &Crew,
        before: Option<Used>,
        nanos: u64,
        grown: [Option<Used>; 2],
    ) -> Self {
        self.seconds = ratio(nanos, 1_000_000_000);
        let sessions = self.rooms * self.members;
        self.server_process = ServerProcess::new(crew, [before, crew.used()], grown, 0, sessions);
        self
    }

    /// With what only this scenario has.
    pub(super) fn with(mut self, own: Own) -> Self {
        self.own = Some(own);
        self
    }

    /// With whether it went as it should, and why not.
    pub(super) fn ending(mut self, is_sound: bool, problem: Option<String>) -> Self {
        self.is_sound &= is_sound;
        self.problems.extend(problem);
        self
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
    /// What was used between two moments, and what memory had grown between two others.
    fn new(
        crew: &Crew,
        [before, after]: [Option<Used>; 2],
        [empty, full]: [Option<Used>; 2],
        deliveries: u64,
        sessions: usize,
    ) -> Option<Self> {
        let (before, after) = (before?, after?);
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let per_delivery = |seconds: f64| (deliveries > 0).then(|| 1e6 * seconds / ratio(deliveries, 1));
        let softirq = after.softirq.zip(before.softirq).map(|(after, before)| after.saturating_sub(before));
        let grown = full.zip(empty).map(|(full, empty)| full.rss_kib.saturating_sub(empty.rss_kib));
        Some(Self {
            pid: crew.process.as_ref()?.pid,
            cpu_seconds: cpu,
            cpu_us_per_delivery: per_delivery(cpu),
            softirq_us_per_delivery: softirq.and_then(|spent| per_delivery(spent.as_secs_f64())),
            rss_kib: after.rss_kib,
            rss_kib_per_session: ratio(grown.unwrap_or_default(), sessions as u64),
            threads: after.threads,
        })
    }
}

/// What to do about a refusal.
pub(super) fn advice(code: &str) -> &'static str {
    match code.to_ascii_lowercase().as_str() {
        "rate_limited" => {
            "; a load needs a server with higher limits.messages_per_second, limits.messages_burst, \
             limits.commands_in_flight and limits.rates.user (`salon bench --help` shows one)"
        }
        "resource_exhausted" => "; see limits.* and limits.quotas.* of the server",
        "invalid_argument" => "; see limits.message_bytes of the server, or give a smaller --payload",
        _ => "",
    }
}

/// The address without what may be a password.
pub(super) fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

/// A quotient as people read it.
#[expect(clippy::cast_precision_loss, reason = "nobody reads the sixteenth digit")]
pub(super) fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}

/// So many in so many seconds.
pub(super) fn per(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { ratio(count, 1) / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_address_is_not_shown() {
        assert_eq!(shown("nats://ada:s3cr3t@127.0.0.1:4222"), "nats://127.0.0.1:4222");
        assert_eq!(shown("http://127.0.0.1:50052"), "http://127.0.0.1:50052");
    }

    #[test]
    fn refusals_name_the_key() {
        assert!(advice("RATE_LIMITED").contains("limits.messages_per_second"));
        assert_eq!(advice("internal"), "");
    }
}
