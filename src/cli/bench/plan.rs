//! What will be done: the arguments, once they make sense together.
//!
//! A combination that would measure nothing is refused with what to write instead, before anything is opened.

use std::time::Duration;

use thiserror::Error;

use super::{
    args::{Bench, Contract, Scenario},
    checks,
};
use crate::cli::client;

/// The least text: the digits that a receiver reads, and one byte more.
pub(super) const PAYLOAD_MIN: usize = super::say::DIGITS + 1;
/// The most text that any server takes (`limits.message_bytes`).
const PAYLOAD_MAX: usize = 1 << 20;
/// Sessions of one run: more than one machine has ports for.
const SESSIONS_MAX: usize = 1_000_000;
/// Messages a second beyond which no generator of one thread comes.
const RATE_MAX: f64 = 10_000_000.0;
/// The lowest rate: less than four messages in an hour measure nothing.
const RATE_MIN: f64 = 0.001;
/// Messages that may be under way: a server that holds more of them at once is not measured but filled.
const IN_FLIGHT_MAX: usize = 1_000_000;
/// Bytes of a text where nothing is said of them.
const PAYLOAD_DEFAULT: usize = 100;
/// How long the load runs unmeasured where nothing is said of it.
const WARM_UP_DEFAULT: Duration = Duration::from_secs(1);
/// How long is measured where nothing is said of it.
const DURATION_DEFAULT: Duration = Duration::from_secs(5);
/// The rate where none is given: what the default limits of a server allow the senders of one room.
const RATE_DEFAULT: f64 = 10.0;
/// Senders of one room. More would make every receiver remember more, and do not change what a server does.
const SENDERS_MAX: usize = 64;

/// Why nothing was measured.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Senseless(pub(super) String);

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// So many a second, at times fixed in advance.
    Rate(f64),
    /// As many as keep so many unacknowledged.
    InFlight(usize),
    /// Never.
    Silent,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// What is measured.
    pub scenario: Scenario,
    /// Which server.
    pub server: client::Server,
    /// Its contract.
    pub contract: Contract,
    /// Rooms.
    pub rooms: usize,
    /// Members of each.
    pub members: usize,
    /// Sessions on one connection.
    pub per_connection: usize,
    /// When messages are sent.
    pub pace: Pace,
    /// Bytes of a text.
    pub payload: usize,
    /// How long the load runs unmeasured.
    pub warm_up: Duration,
    /// How long is measured.
    pub duration: Duration,
    /// The model of answers.
    pub llm: String,
    /// Over how long sessions come back.
    pub spread: Duration,
    /// Whether they come again sooner than they are asked to.
    pub at_once: bool,
    /// The server's process, if it was given.
    pub pid: Option<u32>,
    /// Whether a program reads the report.
    pub json: bool,
}

impl Plan {
    /// What the arguments come to.
    pub(super) fn new(args: &Bench) -> Result<Self, Senseless> {
        let refuse = |why: String| Err(Senseless(why));
        for (name, given) in [
            ("--rooms", args.rooms),
            ("--members", args.members),
            ("--streams-per-connection", args.streams_per_connection),
        ] {
            if given == 0 {
                return refuse(format!("{name} is 0: there would be nobody to measure; give at least 1"));
            }
        }
        let sessions = args.rooms.saturating_mul(args.members);
        if sessions > SESSIONS_MAX {
            return refuse(format!("--rooms times --members is {sessions}: at most {SESSIONS_MAX} sessions"));
        }
        let payload = args.payload.unwrap_or(PAYLOAD_DEFAULT);
        if !(PAYLOAD_MIN..=PAYLOAD_MAX).contains(&payload) {
            return refuse(format!(
                "--payload is {payload}: from {PAYLOAD_MIN} (the digits by which a message is known) to {PAYLOAD_MAX} \
                 bytes"
            ));
        }
        let pace = pace(args)?;
        let duration = args.duration.unwrap_or(DURATION_DEFAULT);
        if duration.is_zero() {
            return refuse("--duration is 0: nothing would be measured; give at least 0.1".into());
        }
        if args.url.starts_with("tcp://") && args.streams_per_connection > 1 {
            return refuse(
                "tcp:// has one stream on a connection: leave --streams-per-connection out".into(),
            );
        }
        if args.contract == Contract::Original && !args.url.starts_with("http") {
            return refuse("--contract original is spoken over http:// or https:// only".into());
        }
        checks::server(&args.url)?;
        checks::scenario(args)?;
        checks::options(args)?;
        Ok(Self {
            scenario: args.scenario,
            server: args.server(),
            contract: args.contract,
            rooms: args.rooms,
            members: args.members,
            per_connection: args.streams_per_connection,
            pace,
            payload,
            warm_up: args.warm_up.unwrap_or(WARM_UP_DEFAULT),
            duration,
            llm: args.llm.clone(),
            spread: args.spread,
            at_once: args.at_once,
            pid: args.pid,
            json: args.json,
        })
    }

    /// All sessions.
    pub(super) fn sessions(&self) -> usize {
        self.rooms * self.members
    }

    /// Those of a room that send.
    pub(super) fn senders_per_room(&self) -> usize {
        match self.scenario {
            // The others of the room are those that are cut.
            Scenario::Resumes => (self.members / 2).clamp(1, SENDERS_MAX),
            _ => self.members.min(SENDERS_MAX),
        }
    }

    /// The room of a session.
    pub(super) fn room_of(&self, session: usize) -> usize {
        session / self.members
    }
}

/// When something is sent.
fn pace(args: &Bench) -> Result<Pace, Senseless> {
    match (args.rate, args.in_flight) {
        (Some(rate), _) if !(RATE_MIN..=RATE_MAX).contains(&rate) => {
            Err(Senseless(format!("--rate is {rate}: from {RATE_MIN} to {RATE_MAX} messages a second")))
        }
        (None, Some(window)) if !(1..=IN_FLIGHT_MAX).contains(&window) => {
            Err(Senseless(format!("--in-flight is {window}: from 1 to {IN_FLIGHT_MAX} messages")))
        }
        (Some(rate), _) => Ok(Pace::Rate(rate)),
        (None, Some(window)) => Ok(Pace::InFlight(window)),
        (None, None) => match args.scenario {
            Scenario::Idle | Scenario::Storm => Ok(Pace::Silent),
            Scenario::Messages | Scenario::Answers | Scenario::Joins | Scenario::Resumes => {
                Ok(Pace::Rate(RATE_DEFAULT))
            }
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Args, Command};

    /// The plan that these arguments come to.
    pub(in crate::cli::bench) fn plan(words: &[&str]) -> Plan {
        planned(words).unwrap()
    }

    fn planned(words: &[&str]) -> Result<Plan, String> {
        let args = Args::try_parse_from(["salon", "bench"].iter().chain(words)).unwrap();
        let Command::Bench(bench) = args.into_command() else { panic!() };
        Plan::new(&bench).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_scenario_would_ignore_is_refused() {
        let options = [
            ("--rate", "5", "idle storm"),
            ("--in-flight", "5", "idle storm"),
            ("--duration", "1", "storm"),
            ("--warm-up", "1", "idle joins storm"),
            ("--payload", "50", "idle joins storm"),
            ("--llm", "m", "messages joins resumes storm idle"),
        ];
        for (option, value, refusing) in options {
            for scenario in ["messages", "answers", "joins", "resumes", "storm", "idle"] {
                let planned = planned(&[scenario, option, value]);
                if refusing.split(' ').any(|name| name == scenario) {
                    let said = planned.unwrap_err();
                    assert!(said.contains(option) && said.contains(scenario), "{said}");
                } else {
                    assert!(planned.is_ok(), "{scenario} {option}: {planned:?}");
                }
            }
        }
        assert_eq!((plan(&["idle"]).pace, plan(&[]).pace), (Pace::Silent, Pace::Rate(RATE_DEFAULT)));
    }

    #[test]
    fn rates_and_windows_have_bounds() {
        for (option, value) in [
            ("--rate", "1e-20"),
            ("--rate", "0.0009"),
            ("--rate", "1e8"),
            ("--rate", "NaN"),
            ("--in-flight", "0"),
            ("--in-flight", "1000001"),
        ] {
            let said = planned(&[option, value]).unwrap_err();
            assert!(said.contains(option) && said.contains(" to "), "{said}");
        }
        assert_eq!(plan(&["--rate", "0.001"]).pace, Pace::Rate(0.001));
        assert_eq!(plan(&["--in-flight", "1000000"]).pace, Pace::InFlight(1_000_000));
    }

    #[test]
    fn a_password_is_for_nats_and_never_repeated() {
        assert!(planned(&["--server", "nats://ada:s3cr3t@127.0.0.1:4222"]).is_ok());
        for url in [
            "http://ada:s3cr3t@127.0.0.1:1",
            "https://ada:s3cr3t@127.0.0.1:1",
            "tcp://ada:s3cr3t@127.0.0.1:1",
            "ftp://ada:s3cr3t@127.0.0.1:1",
            "ada:s3cr3t@127.0.0.1:1",
            "nats://ada:s3 cr3t@127.0.0.1:1",
            "http://",
            "",
        ] {
            let said = planned(&["--server", url]).unwrap_err();
            assert!(said.contains("--server") && !said.contains("cr3t"), "{url}: {said}");
        }
    }
}
