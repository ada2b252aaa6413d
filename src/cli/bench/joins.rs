//! `salon bench joins`: connections that are opened, and whose sessions join, as often as the server takes it.
//!
//! So many at the same time as `--in-flight` says, or so many a second as `--rate` says, each counted from when it was
//! due. One that has joined stays until its turn comes again.

use std::{cell::RefCell, future::ready, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::{
    Error,
    clock::nanos,
    crew::Crew,
    figures::{Quantiles, Times},
    load,
    plan::{Pace, Plan},
    progress::Progress,
    report::{Own, Report},
    resumes::{Comes, come_back},
    talk::Talk,
};

/// Those at the same time where times are fixed: beyond it a server is not keeping up at all.
const AT_ONCE_MAX: usize = 1024;

/// What the report says of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Joins {
    /// Sessions that joined.
    pub joined: u64,
    /// In a second.
    pub joins_per_second: f64,
    /// Connections whose join was refused.
    pub refused: u64,
    /// From when a connection was due until all its sessions had joined.
    pub joined_us: Quantiles,
}

/// Runs it.
pub(super) async fn run(plan: &Plan, progress: &Progress) -> Result<Report, Error> {
    let crew = Crew::prepare(plan, &[], progress).await?;
    // The first time everybody becomes a member; what is measured is coming back as one.
    let talk = Talk::new(plan, crew.speech(plan), &[]);
    let opened = load::open(plan, &crew, talk, progress).await?;
    let world = &opened.world;
    let connections = world.borrow().connections();
    let ticks = world.borrow().ticks;
    let (at_once, gap) = match plan.pace {
        Pace::InFlight(window) => (window.min(connections), 0.0),
        Pace::Rate(rate) => (connections.min(AT_ONCE_MAX), 1.0 / rate),
    };
    let before = crew.used();
    let began = ticks.now();
    let to = began + nanos(plan.duration);
    let due_of = |number: u32| began + nanos(Duration::from_secs_f64(gap) * number);
    let tally = RefCell::new((Joins::default(), Times::new(), None));
    progress.counting("joins", 0);
    let due = stream::iter((0_u32..).map(|number| (number, due_of(number))));
    let due = due.take_while(|(_, due)| ready(*due < to && ticks.now() < to));
    due.for_each_concurrent(at_once, |(number, due)| {
        let (crew, opened, tally) = (&crew, &opened, &tally);
        async move {
            ticks.until(due).await;
            let due = if gap > 0.0 { due } else { ticks.now() };
            let connection = number as usize % connections;
            opened.world.borrow_mut().cut(connection);
            let joined = come_back(plan, crew, opened, connection, Comes::Anew).await;
            let (joins, times, last) = &mut *tally.borrow_mut();
            match joined {
                Ok(()) => {
                    joins.joined += opened.world.borrow().sessions_of(connection).len() as u64;
                    times.record(ticks.now().saturating_sub(due));
                    progress.more(1);
                }
                Err(why) => {
                    joins.refused += 1;
                    *last = Some(super::told(&why));
                }
            }
        }
    })
    .await;
    let spent = ticks.now() - began;
    let (mut joins, times, last) = tally.into_inner();
    joins.joined_us = times.quantiles();
    joins.joins_per_second = super::report::per(joins.joined, Duration::from_nanos(spent).as_secs_f64());
    let is_sound = joins.joined > 0 && joins.refused == 0;
    Ok(Report::new(plan)
        .with_process(&crew, before, spent, [opened.empty, opened.full])
        .with(Own::Joins(joins))
        .ending(is_sound, last))
}
