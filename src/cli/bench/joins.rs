//! `salon bench joins`: connections that are opened, and whose sessions join, as often as the server takes it.
//!
//! So many at the same time as `--in-flight` says, or so many a second as `--rate` says, each counted from when it was
//! due. One that has joined stays until its turn comes again, which is when all that joined before it have had theirs; one
//! that is still joining is left alone. What was due and could not even be begun before the end is told.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::ready,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::{
    Error,
    clock::nanos,
    crew::{self, Crew},
    figures::{Quantiles, Times},
    load,
    pace::{due, due_within},
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
    /// Connections that were due, and not begun before the end because so many others were still joining.
    pub not_begun: u64,
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
    let (at_once, rate) = match plan.pace {
        Pace::InFlight(window) => (window.min(connections), None),
        Pace::Rate(rate) => (connections.min(AT_ONCE_MAX), Some(rate)),
        Pace::Silent => (1, None),
    };
    let before = crew.used();
    let began = ticks.now();
    let to = began + nanos(plan.duration);
    let due_of = |number| began.saturating_add(rate.map_or(0, |rate| due(number, rate)));
    let tally = RefCell::new((Joins::default(), Times::new(), None));
    // Those that have joined, the one that did so first in front: there are no more at once than there are of them.
    let there: RefCell<VecDeque<usize>> = RefCell::new((0..connections).collect());
    let begun = Cell::new(0_u64);
    progress.counting("joins", 0);
    let all = stream::iter((0_u64..).map(due_of)).take_while(|due| ready(*due < to && ticks.now() < to));
    all.for_each_concurrent(at_once, |due| {
        let (crew, opened, tally, there) = (&crew, &opened, &tally, &there);
        begun.set(begun.get() + 1);
        async move {
            ticks.until(due).await;
            let due = if rate.is_some() { due } else { ticks.now() };
            let Some(connection) = there.borrow_mut().pop_front() else {
                return;
            };
            opened.world.borrow_mut().cut(connection);
            let joined = come_back(plan, crew, opened, connection, Comes::Anew).await;
            there.borrow_mut().push_back(connection);
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
    let (after, spent) = (crew.used(), ticks.now() - began);
    // Who has joined must stay.
    crew::settle(world).await;
    let (mut joins, times, last) = tally.into_inner();
    let all_due = rate.map(|rate| due_within(nanos(plan.duration), rate));
    joins.not_begun = all_due.unwrap_or_default().saturating_sub(begun.get());
    let late = (joins.not_begun > 0).then(|| {
        format!("{} connections were due and not begun: {at_once} others were still joining", joins.not_begun)
    });
    joins.joined_us = times.quantiles();
    joins.joins_per_second = super::report::per(joins.joined, Duration::from_nanos(spent).as_secs_f64());
    let is_sound = joins.joined > 0 && joins.refused == 0 && joins.not_begun == 0;
    Ok(Report::new(plan)
        .with_process(&crew, [before, after], spent, [opened.empty, opened.full])
        .with(Own::Joins(joins))
        .with_ends(&world.borrow().script.counts)
        .ending(is_sound, last)
        .ending(is_sound, late))
}
