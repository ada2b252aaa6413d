//! `salon bench resumes`: sessions are cut and come back where they were, while messages flow.
//!
//! One after the other, those that say nothing themselves: what a sender had said last may or may not have arrived. What
//! a session missed it must be told when it is back, so the counting of messages finds whatever a resume leaves out or
//! repeats. A return takes until that was told, not only until the server has answered. One that is refused is counted,
//! and its turn comes again.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::{
    Error,
    clock::{Ticks, nanos},
    crew::{Crew, JOIN_TIMEOUT},
    figures::{Quantiles, Times},
    load::{self, Ready},
    plan::{Plan, Senseless},
    progress::Progress,
    report::{Own, Report},
    talk::Talk,
    world::{self, NotOpened},
};

/// How long one that was refused waits if the server does not say.
pub(super) const AGAIN: Duration = Duration::from_millis(100);

/// What the report says of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Resumes {
    /// Connections that were cut and came back.
    pub resumed: u64,
    /// Returns that were refused, or lost on the way.
    pub refused: u64,
    /// From the cut until all sessions of the connection had heard what they missed.
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
    let (mut resumes, mut times, mut last) = (Resumes::default(), Times::new(), None);
    let beside = async {
        let ticks = opened.world.borrow().ticks;
        let to = ticks.now() + nanos(plan.warm_up + plan.duration);
        for connection in silent.iter().cycle() {
            if ticks.now() >= to {
                break;
            }
            let began = ticks.now();
            opened.world.borrow_mut().cut(*connection);
            match whole_again(plan, &crew, &opened, *connection).await {
                Ok(()) => {
                    times.record(ticks.now() - began);
                    resumes.resumed += 1;
                }
                Err(why) => {
                    resumes.refused += 1;
                    pause(ticks, to, &why).await;
                    last = Some(format!("a return was refused: {}", super::told(&why)));
                }
            }
        }
        Ok(())
    };
    let measured = load::run(plan, &crew, &opened, progress, beside).await?;
    resumes.resumed_us = times.quantiles();
    let is_sound = resumes.resumed > 0 && resumes.refused == 0;
    let talk = &opened.world.borrow().script;
    Ok(Report::new(plan).with_talk(&crew, talk, measured).with(Own::Resumes(resumes)).ending(is_sound, last))
}

/// Brings a connection back, and waits until its sessions have heard all that they missed.
async fn whole_again(
    plan: &Plan,
    crew: &Crew,
    opened: &Ready<Talk>,
    connection: usize,
) -> Result<(), NotOpened> {
    let catching_up = async {
        while let Some(over) = { opened.world.borrow().script.catch_up.waits() } {
            over.notified().await;
        }
    };
    let came_back = come_back(plan, crew, opened, connection, Comes::Back).await;
    let whole = match came_back {
        Ok(()) => timeout(JOIN_TIMEOUT, catching_up)
            .await
            .map_err(|_| NotOpened::Ended(format!("what was missed was not told within {JOIN_TIMEOUT:?}"))),
        Err(why) => Err(why),
    };
    if whole.is_err() {
        let mut world = opened.world.borrow_mut();
        for session in world.sessions_of(connection) {
            world.script.catch_up.end(session);
        }
    }
    whole
}

/// Waits as long as who refused asks to, and no longer than it is measured.
async fn pause(ticks: Ticks, to: u64, why: &NotOpened) {
    let asked = match why {
        NotOpened::Refused { retry_after, .. } => *retry_after,
        NotOpened::Ended(_) | NotOpened::Fault(_) => Duration::ZERO,
    };
    ticks.until(to.min(ticks.now().saturating_add(nanos(asked.max(AGAIN))))).await;
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
    timeout(JOIN_TIMEOUT, joined)
        .await
        .unwrap_or_else(|_| Err(NotOpened::Ended(format!("no answer to a join within {JOIN_TIMEOUT:?}"))))
}
