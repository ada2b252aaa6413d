//! `salon bench resumes`: sessions are cut and come back where they were, while messages flow.
//!
//! One after the other, those that say nothing themselves: what a sender had said last may or may not have arrived. What
//! a session missed it must be told when it is back, so the counting of messages finds whatever a resume leaves out or
//! repeats.

use serde::Serialize;

use super::{
    Error,
    crew::{Crew, JOIN_TIMEOUT},
    figures::{Quantiles, Times},
    load::{self, Ready},
    plan::{Plan, Senseless},
    progress::Progress,
    report::{Own, Report},
    talk::Talk,
    world::{self, NotOpened},
};

/// What the report says of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Resumes {
    /// Connections that were cut and came back.
    pub resumed: u64,
    /// From the cut until all sessions of the connection were complete again.
    pub resumed_us: Quantiles,
}

/// Runs the load.
pub(super) async fn run(plan: &Plan, progress: &Progress) -> Result<Report, Error> {
    let crew = Crew::prepare(plan, &[], progress).await?;
    let talk = Talk::new(plan, crew.speech(plan), &[]);
    let opened = load::open(plan, &crew, talk, progress).await?;
    let silent = silent_connections(&opened);
    if silent.is_empty() {
        return Err(Senseless(
            "there is a sender on every connection: give more --members, or fewer --streams-per-connection"
                .into(),
        )
        .into());
    }
    let (mut resumed, mut times) = (0, Times::new());
    let beside = async {
        let ticks = opened.world.borrow().ticks;
        let to = ticks.now() + super::clock::nanos(plan.warm_up + plan.duration);
        for connection in silent.iter().cycle() {
            if ticks.now() >= to {
                break;
            }
            let began = ticks.now();
            opened.world.borrow_mut().cut(*connection);
            come_back(plan, &crew, &opened, *connection, Comes::Back).await.map_err(Error::NotOpened)?;
            times.record(ticks.now() - began);
            resumed += 1;
        }
        Ok(())
    };
    let measured = load::run(plan, &crew, &opened, progress, beside).await?;
    let own = Own::Resumes(Resumes { resumed, resumed_us: times.quantiles() });
    let talk = &opened.world.borrow().script;
    Ok(Report::new(plan).with_talk(&crew, talk, measured).with(own).ending(resumed > 0, None))
}

/// Those on which nobody says anything.
fn silent_connections(opened: &Ready<Talk>) -> Vec<usize> {
    let world = opened.world.borrow();
    let is_silent =
        |connection: &usize| !world.sessions_of(*connection).any(|session| world.script.is_sender(session));
    (0..world.connections()).filter(is_silent).collect()
}

/// Where a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comes {
    /// With the room as it is.
    Anew,
    /// Behind the last event that it has heard.
    Back,
}

/// Opens a connection that was cut, and its sessions.
pub(super) async fn come_back(
    plan: &Plan,
    crew: &Crew,
    opened: &Ready<Talk>,
    connection: usize,
    comes: Comes,
) -> Result<(), NotOpened> {
    let join_of = |session: usize| {
        let last = opened.world.borrow().script.last_seq(session);
        crew.join_of(plan, session, last.filter(|_| comes == Comes::Back))
    };
    let joined = world::open(&opened.world, &opened.tasks, &crew.dial, connection, join_of);
    tokio::time::timeout(JOIN_TIMEOUT, joined)
        .await
        .unwrap_or_else(|_| Err(NotOpened::Ended(format!("no answer to a join within {JOIN_TIMEOUT:?}"))))
}
