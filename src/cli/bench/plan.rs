//! What will be done: the arguments, once they make sense together.
//!
//! A combination that would measure nothing is refused with what to write instead, before anything is opened.

use std::time::Duration;

use thiserror::Error;

use super::args::{Bench, Contract, Scenario};
use crate::cli::client;

/// The least text: the digits that a receiver reads, and one byte more.
pub(super) const PAYLOAD_MIN: usize = super::say::DIGITS + 1;
/// The most text that any server takes (`limits.message_bytes`).
const PAYLOAD_MAX: usize = 1 << 20;
/// Sessions of one run: more than one machine has ports for.
const SESSIONS_MAX: usize = 1_000_000;
/// Messages a second beyond which no generator of one thread comes.
const RATE_MAX: f64 = 10_000_000.0;
/// The rate where none is given: a load that any server takes.
const RATE_DEFAULT: f64 = 100.0;
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
        if !(PAYLOAD_MIN..=PAYLOAD_MAX).contains(&args.payload) {
            return refuse(format!(
                "--payload is {}: from {PAYLOAD_MIN} (the digits by which a message is known) to {PAYLOAD_MAX} bytes",
                args.payload
            ));
        }
        let pace = match (args.rate, args.in_flight) {
            (Some(rate), _) if !(rate > 0.0 && rate <= RATE_MAX) => {
                return refuse(format!(
                    "--rate is {rate}: more than 0 and at most {RATE_MAX} messages a second"
                ));
            }
            (None, Some(0)) => {
                return refuse("--in-flight is 0: nothing would ever be sent; give at least 1".into());
            }
            (Some(rate), _) => Pace::Rate(rate),
            (None, Some(window)) => Pace::InFlight(window),
            (None, None) => Pace::Rate(RATE_DEFAULT),
        };
        if args.duration.is_zero() {
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
        check_scenario(args)?;
        Ok(Self {
            scenario: args.scenario,
            server: args.server(),
            contract: args.contract,
            rooms: args.rooms,
            members: args.members,
            per_connection: args.streams_per_connection,
            pace,
            payload: args.payload,
            warm_up: args.warm_up,
            duration: args.duration,
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

/// What only some scenarios can do.
fn check_scenario(args: &Bench) -> Result<(), Senseless> {
    if args.url.starts_with("nats://") && args.scenario != Scenario::Messages {
        return Err(Senseless(
            "nats:// knows neither members nor answers: only `messages` can be measured there".into(),
        ));
    }
    let needs_salon = matches!(args.scenario, Scenario::Answers | Scenario::Resumes | Scenario::Storm);
    if needs_salon && args.contract == Contract::Original {
        let name = args.scenario.name();
        return Err(Senseless(format!("the original contract does not have what `{name}` measures")));
    }
    if args.scenario == Scenario::Answers && !args.url.starts_with("http") {
        return Err(Senseless("`answers` needs a server with LLMs, at http:// or https://".into()));
    }
    if args.scenario != Scenario::Storm && (!args.spread.is_zero() || args.at_once) {
        return Err(Senseless("--spread and --at-once are for `storm` only".into()));
    }
    Ok(())
}
