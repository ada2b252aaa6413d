//! The arguments of `salon bench`.
//!
//! What can be checked by itself is checked here; what depends on other options is in `plan`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::{args::DEFAULT_SERVER, client, tls::TlsArgs, token::TokenArgs};

/// What the help shows.
pub const EXAMPLES: &str = "\
Examples:
  salon bench                                             Two members in one room, 100 messages a second
  salon bench --rooms 100 --members 10 --rate 5000        A paced load: how long does a delivery take?
  salon bench --rooms 100 --members 10 --in-flight 200    As much as the server can do: what does one cost?
  salon bench idle --rooms 1000 --members 10              What a session takes while nothing happens
  salon bench answers --rooms 50 --in-flight 50           Fifty answers at a time, by the server's usual model
  salon bench --server tcp://127.0.0.1:9000 --rate 1000   The same messages without HTTP, to compare

A server's limits are for people, and refuse a load. Run one for it, whose data are gone afterwards:
  SALON__STORE__KIND=memory SALON__LIMITS__MESSAGES_PER_SECOND=100000 SALON__LIMITS__MESSAGES_BURST=1000000 \\
  SALON__LIMITS__COMMANDS_IN_FLIGHT=10000 SALON__LIMITS__RATES__USER__JOINS=none salon serve

Latency counts from when a message was due, not from when it could be sent; with nine tenths of its processor taken the
generator is itself in it, and says so. The exit status is 0 if all that was sent was acknowledged, and came once and in
order, else 1.";

/// What is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Messages to everybody in their rooms
    #[default]
    Messages,
    /// Answers of an LLM in each room, read while they are written
    Answers,
    /// Connections that are opened, and whose sessions join
    Joins,
    /// Sessions that are cut and come back where they were, while messages flow
    Resumes,
    /// All sessions are cut at once, and all come back
    Storm,
    /// Sessions that do nothing
    Idle,
}

impl Scenario {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Answers => "answers",
            Self::Joins => "joins",
            Self::Resumes => "resumes",
            Self::Storm => "storm",
            Self::Idle => "idle",
        }
    }
}

/// Which service is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Contract {
    /// room.v1.RoomService
    #[default]
    Salon,
    /// api.room.Room, in which nothing is acknowledged
    Original,
}

impl Contract {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Salon => "salon",
            Self::Original => "original",
        }
    }

    /// The service with its package.
    pub fn service(self) -> &'static str {
        match self {
            Self::Salon => "room.v1.RoomService",
            Self::Original => "api.room.Room",
        }
    }
}

/// `salon bench`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Bench {
    /// What to measure
    #[arg(value_enum, default_value_t)]
    pub scenario: Scenario,
    /// The server: http:// or https:// (gRPC), tcp:// (the same messages without HTTP) or nats:// (plain subjects)
    // It may have a password in it: an error of clap's own would repeat it, so `plan` looks whether it can be used.
    #[arg(long = "server", env = "SALON_SERVER", hide_env_values = true, default_value = DEFAULT_SERVER, value_name = "URL")]
    pub url: String,
    /// The contract that the server speaks
    #[arg(long, value_enum, default_value_t)]
    pub contract: Contract,
    /// How many rooms
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub rooms: usize,
    /// Members of each room, each with a session
    #[arg(long, value_name = "M", default_value_t = 2)]
    pub members: usize,
    /// Sessions that share a connection
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub streams_per_connection: usize,
    /// Messages (answers: questions; joins: connections) a second in all rooms together, each sent when it is due;
    /// without this and --in-flight 10; not for idle and storm
    #[arg(long, value_name = "R", conflicts_with = "in_flight")]
    pub rate: Option<f64>,
    /// Messages that are not yet acknowledged, in all rooms together (answers: answers that are written; joins:
    /// connections that are opened at the same time); the next is sent for each that is
    #[arg(long, value_name = "W")]
    pub in_flight: Option<usize>,
    /// Bytes of a message's text, of messages, answers and resumes; without it 100
    #[arg(long, value_name = "BYTES")]
    pub payload: Option<usize>,
    /// How long the load of messages, answers and resumes runs before anything is measured; without it 1
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub warm_up: Option<Duration>,
    /// How long is measured, without it 5; a storm lasts until all are back
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// answers: the model, as the server knows it; without it its usual one
    #[arg(long, value_name = "MODEL", default_value = "")]
    pub llm: String,
    /// storm: over how many seconds sessions come back
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub spread: Duration,
    /// storm: come again at once where the server asks to wait
    #[arg(long)]
    pub at_once: bool,
    /// The process of a server on this machine; without it the one that listens on the port, which may be only on the
    /// way to it: the report has its name
    #[arg(long)]
    pub pid: Option<u32>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// How it is trusted.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// What it is shown.
    #[command(flatten)]
    pub token: TokenArgs,
}

impl Bench {
    /// Which server.
    pub fn server(&self) -> client::Server {
        client::Server {
            url: self.url.clone(),
            tls: self.tls.clone().into(),
            token: self.token.clone().into(),
        }
    }
}

/// Seconds, with a point if need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 =
        text.parse().map_err(|_| "must be a number of seconds, for example 5 or 0.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if seconds <= 86_400.0 => Ok(duration),
        _ => Err("must be between 0 and 86400 seconds".into()),
    }
}
