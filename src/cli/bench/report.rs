//! What a run has come to: for a program one JSON object, for a person a few lines.
//!
//! Names and units of the JSON are a promise: scripts compare servers by them. A figure that is not known is null there,
//! and left out for a person.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

use super::{
    answers,
    counts::Counts,
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
use crate::cli::client::shown;

/// Beyond this part of its processor a generator is itself in what it measures.
const BUSY: f64 = 0.9;

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
    /// How much later than due messages were handed to their connections. What waits in the generator to be read is not
    /// in it: see `generator_cpu`.
    pub behind_us: Option<Quantiles>,
    /// Which part of its one processor the generator took while it was measured.
    pub generator_cpu: Option<f64>,
    pub server_process: Option<ServerProcess>,
    /// What only this scenario has.
    #[serde(flatten)]
    pub own: Option<Own>,
    /// What was refused and what ended, in words.
    pub problems: Vec<String>,
    /// What makes the figures worth less, though nothing went wrong.
    pub warnings: Vec<String>,
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
    /// What the kernel calls it.
    pub name: String,
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
        let Measured { began, ended, empty, full, given_up } = measured;
        let arrivals = ended.arrivals - began.arrivals;
        let parts = ended.parts - began.parts;
        let refusals = counts
            .codes
            .iter()
            .map(|(code, (count, words))| format!("{count} refused with {code}: {words}{}", advice(code)));
        self.problems.extend(refusals);
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
        self.latency_us = Some(counts.latency.quantiles());
        self.ack_us = talk.has_acks().then(|| counts.ack.quantiles());
        // In a closed loop a message is due when there is room for it.
        self.behind_us = self.rate.map(|_| counts.behind.quantiles());
        self.server_process = ServerProcess::new(
            crew,
            [began.used, ended.used],
            [empty, full],
            arrivals + parts,
            self.rooms * self.members,
        );
        let answered = self.acknowledged.map_or(self.sent, |acknowledged| acknowledged + self.refused);
        let unanswered = (answered != self.sent)
            .then(|| format!("{} messages were sent, and {answered} acknowledged or refused", self.sent));
        let nothing = (self.deliveries == 0).then(|| match self.sent {
            0 => "no message was due while it was measured: give a longer --duration, or a higher --rate"
                .into(),
            _ => "nothing of what was sent was delivered".to_owned(),
        });
        let still = given_up.map(|waited| {
            format!(
                "messages still came {waited:?} after the load had ended: what had not come by then is lost"
            )
        });
        let faults = self.lost + self.duplicated + self.inversions + self.astray + counts.refusals();
        self.is_sound &= faults == 0 && unanswered.is_none() && nothing.is_none() && still.is_none();
        self.problems.extend(unanswered.into_iter().chain(nothing).chain(still));
        self.with_generator(ended.own.saturating_sub(began.own)).with_ends(counts)
    }

    /// With the sessions that ended before they should.
    pub(super) fn with_ends(mut self, counts: &Counts) -> Self {
        let ends = counts.ended.iter().map(|(why, count)| format!("{count} sessions ended: {why}"));
        self.problems.extend(ends);
        self.ended = counts.ends();
        self.is_sound &= self.ended == 0;
        self
    }

    fn with_generator(mut self, spent: Duration) -> Self {
        let share = if self.seconds > 0.0 { spent.as_secs_f64() / self.seconds } else { 0.0 };
        self.generator_cpu = Some(share);
        if share > BUSY {
            self.warnings.push(format!(
                "the generator took {:.0} % of its one processor: times have its own waiting in them, and a server \
                 may be able to do more",
                share * 100.0
            ));
        }
        self
    }

    /// With what the server has used between two moments that were so many nanoseconds apart.
    pub(super) fn with_process(
        mut self,
        crew: &Crew,
        used: [Option<Used>; 2],
        nanos: u64,
        grown: [Option<Used>; 2],
    ) -> Self {
        self.seconds = ratio(nanos, 1_000_000_000);
        let sessions = self.rooms * self.members;
        self.server_process = ServerProcess::new(crew, used, grown, 0, sessions);
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
        let process = crew.process.as_ref()?;
        Some(Self {
            pid: process.pid,
            name: process.name.clone(),
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
    fn a_generator_that_is_full_is_warned_of() {
        let busy = |millis| {
            Report { seconds: 2.0, ..Report::default() }.with_generator(Duration::from_millis(millis))
        };
        assert_eq!((busy(1700).generator_cpu, busy(1700).warnings.len()), (Some(0.85), 0));
        assert!(busy(1900).warnings.concat().contains("95 %"), "{:?}", busy(1900).warnings);
    }

    #[test]
    fn refusals_name_the_key() {
        assert!(advice("RATE_LIMITED").contains("limits.messages_per_second"));
        assert_eq!(advice("internal"), "");
    }
}
