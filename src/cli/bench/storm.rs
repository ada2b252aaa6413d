//! `salon bench storm`: all sessions are cut at once, and all come back.
//!
//! Each comes back after a part of `--spread`, the same for it in every run, which is what servers ask for when they send
//! sessions away (`reconnect_after_ms`). One that is refused comes again, not before the server said unless `--at-once`.
//! Over when all are served.

use std::{cell::RefCell, time::Duration};

use futures_util::future::join_all;
use serde::Serialize;

use super::{
    Error,
    crew::{self, Crew},
    figures::{Quantiles, Times},
    load::{self, Ready},
    plan::Plan,
    progress::Progress,
    report::{Own, Report},
    resumes::{AGAIN, Comes, come_back},
    talk::Talk,
    world::NotOpened,
};

/// So long after the last one wants to come back a server is not coming to itself any more.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the report says of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Storm {
    /// Sessions that were cut.
    pub sessions: usize,
    /// Sessions that came back.
    pub served: usize,
    /// From the cut until the last one was back.
    pub seconds: f64,
    /// Connections that were refused or lost on the way.
    pub refused: u64,
    /// From the moment at which one wanted to come back until it had.
    pub returned_us: Quantiles,
}

struct Tally {
    storm: Storm,
    times: Times,
    last: Option<String>,
}

impl Tally {
    fn refused(&mut self, why: String) {
        self.storm.refused += 1;
        self.last = Some(why);
    }
}

/// Runs it.
pub(super) async fn run(plan: &Plan, progress: &Progress) -> Result<Report, Error> {
    let crew = Crew::prepare(plan, &[], progress).await?;
    let talk = Talk::new(plan, crew.speech(plan), &[]);
    let opened = load::open(plan, &crew, talk, progress).await?;
    let connections = opened.world.borrow().connections();
    let before = crew.used();
    let patience = patience(plan.spread);
    let ticks = opened.world.borrow().ticks;
    progress.counting("sessions came back", plan.sessions());
    let began = ticks.now();
    for connection in 0..connections {
        opened.world.borrow_mut().cut(connection);
    }
    let storm = Storm { sessions: plan.sessions(), ..Storm::default() };
    let tally = RefCell::new(Tally { storm, times: Times::new(), last: None });
    let all = join_all(
        (0..connections)
            .map(|connection| one(plan, &crew, &opened, connection, connections, &tally, progress)),
    );
    let is_over = tokio::time::timeout(patience, all).await.is_ok();
    let (after, spent) = (crew.used(), ticks.now() - began);
    // Who is back must stay.
    crew::settle(&opened.world).await;
    let Tally { mut storm, times, last } = tally.into_inner();
    storm.seconds = Duration::from_nanos(spent).as_secs_f64();
    storm.returned_us = times.quantiles();
    let problem = (!is_over).then(|| {
        let why = last.unwrap_or_else(|| "no answer".to_owned());
        format!(
            "{} of {} sessions were back after {patience:?}; the last refusal: {why}",
            storm.served, storm.sessions
        )
    });
    let is_sound = storm.served == storm.sessions;
    Ok(Report::new(plan)
        .with_process(&crew, [before, after], spent, [opened.empty, opened.full])
        .with(Own::Storm(storm))
        .with_ends(&opened.world.borrow().script.counts)
        .ending(is_sound, problem))
}

/// How long all of it may take.
fn patience(spread: Duration) -> Duration {
    spread + PATIENCE
}

/// Brings one connection back, however often it takes.
async fn one(
    plan: &Plan,
    crew: &Crew,
    opened: &Ready<Talk>,
    connection: usize,
    connections: usize,
    tally: &RefCell<Tally>,
    progress: &Progress,
) {
    let share = u32::try_from(connection).unwrap_or(u32::MAX);
    let of = u32::try_from(connections).unwrap_or(u32::MAX);
    tokio::time::sleep(plan.spread * share / of.max(1)).await;
    let ticks = opened.world.borrow().ticks;
    let wanted = ticks.now();
    loop {
        let why = match come_back(plan, crew, opened, connection, Comes::Back).await {
            Ok(()) => break,
            Err(why) => why,
        };
        opened.world.borrow_mut().cut(connection);
        let asked = match &why {
            NotOpened::Refused { retry_after, .. } if !plan.at_once => *retry_after,
            _ => Duration::ZERO,
        };
        tally.borrow_mut().refused(super::told(&why));
        tokio::time::sleep(asked.max(AGAIN)).await;
    }
    let sessions = opened.world.borrow().sessions_of(connection).len();
    let mut tally = tally.borrow_mut();
    tally.times.record(ticks.now() - wanted);
    tally.storm.served += sessions;
    progress.more(sessions as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_back_last_is_waited_for_as_long_as_the_first() {
        for spread in [0, 119, 121, 86_400].map(Duration::from_secs) {
            assert_eq!(patience(spread).checked_sub(spread), Some(PATIENCE));
        }
    }
}
