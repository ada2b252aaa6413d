//! `salon bench`: a load of rooms and members on any server, and what it costs that server.
//!
//! Owns a client that costs next to nothing: it shares a machine with the server it measures, and must not be what is
//! measured. So it speaks its own half of HTTP/2 (`protocol/http2.rs`), looks at an event's bytes instead of building the
//! event (`hear.rs`), and runs in one thread (`world.rs`). The same client speaks plain TCP and NATS, so that servers can
//! be compared. None of it is for anything else: the other commands use the ordinary client, and so does this one for
//! what is not the load.
//!
//! Every message says in its text who sent it and when it was due (`say.rs`), so loss, repetition, order and time are
//! found from what is delivered (`seen.rs`, `talk.rs`), and a generator that was held up does not flatter the server.
//!
//! Fails with a text that says what to do; a load that ran and was not served as it should be ends with a report and
//! [`Exit::Failure`].

mod answers;
pub mod args;
mod catch_up;
mod checks;
mod clock;
mod counts;
mod crew;
mod dial;
mod figures;
mod handles;
mod hear;
mod idle;
mod joins;
mod link;
mod load;
mod messages;
mod pace;
mod plan;
mod process;
mod progress;
mod protocol;
mod receivers;
mod report;
mod resumes;
mod rooms;
mod say;
mod seen;
mod senders;
mod storm;
mod table;
mod talk;
mod world;

use std::io::Write;

use thiserror::Error;
use tokio::task::LocalSet;

use self::{
    args::{Bench, Scenario},
    plan::Plan,
    progress::Progress,
};
pub use self::{protocol::Fault, world::NotOpened};
use crate::cli::{client, exit::Exit, text};

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum Error {
    /// The options make no sense together.
    #[error(transparent)]
    Senseless(#[from] plan::Senseless),
    /// The server is not there, or lets nobody in.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// A session did not come about.
    #[error("a session could not be opened: {}", told(.0))]
    NotOpened(NotOpened),
    /// This machine does not let us.
    #[error("{0}")]
    Machine(String),
}

/// Runs the load that is asked for, and writes the report to `out`.
pub async fn run(args: &Bench, out: &mut dyn Write) -> Result<Exit, Error> {
    let plan = Plan::new(args)?;
    let progress = Progress::new(!plan.json);
    let load = async {
        match plan.scenario {
            Scenario::Messages => messages::run(&plan, &progress).await,
            Scenario::Answers => answers::run(&plan, &progress).await,
            Scenario::Joins => joins::run(&plan, &progress).await,
            Scenario::Resumes => resumes::run(&plan, &progress).await,
            Scenario::Storm => storm::run(&plan, &progress).await,
            Scenario::Idle => idle::run(&plan, &progress).await,
        }
    };
    let report = LocalSet::new().run_until(load).await;
    progress.clear();
    let report = report?;
    report.write(plan.json, out).map_err(client::Error::from)?;
    Ok(if report.is_sound { Exit::Success } else { Exit::Failure })
}

fn told(why: &NotOpened) -> String {
    match why {
        NotOpened::Refused { code, message, .. } => {
            format!("the server refused the join: {message} ({code}){}", report::advice(code))
        }
        NotOpened::Ended(why) => text::line(why),
        NotOpened::Fault(fault) => text::line(&fault.to_string()),
    }
}
