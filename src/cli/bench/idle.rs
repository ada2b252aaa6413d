//! `salon bench idle`: sessions that are there and do nothing: what one holds of memory, and takes of a processor.

use serde::Serialize;

use super::{
    Error,
    clock::nanos,
    crew::Crew,
    load,
    plan::Plan,
    progress::Progress,
    report::{Own, Report, ratio},
    talk::Talk,
};

/// What the report says of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Idle {
    /// Sessions that were there.
    pub sessions: usize,
    /// What the server used for one in a second; none: its process is not known.
    pub cpu_us_per_session_second: Option<f64>,
    /// What all of them heard meanwhile, signs of life for the most part.
    pub events: u64,
}

/// Runs it.
pub(super) async fn run(plan: &Plan, progress: &Progress) -> Result<Report, Error> {
    let crew = Crew::prepare(plan, &[], progress).await?;
    let talk = Talk::new(plan, crew.speech(plan), &[]);
    let opened = load::open(plan, &crew, talk, progress).await?;
    let ticks = opened.world.borrow().ticks;
    progress.measuring(plan.duration);
    let (before, arrived, began) = (crew.used(), opened.world.borrow().arrived, ticks.now());
    ticks.until(began + nanos(plan.duration)).await;
    let (after, spent) = (crew.used(), ticks.now() - began);
    let session_seconds = ratio(spent, 1_000_000_000) * ratio(plan.sessions() as u64, 1);
    let used = after.zip(before).map(|(after, before)| after.cpu.saturating_sub(before.cpu).as_secs_f64());
    let world = opened.world.borrow();
    let idle = Idle {
        sessions: plan.sessions(),
        cpu_us_per_session_second: used.map(|used| used * 1e6 / session_seconds),
        events: world.arrived - arrived,
    };
    Ok(Report::new(plan)
        .with_process(&crew, [before, after], spent, [opened.empty, opened.full])
        .with(Own::Idle(idle))
        .with_ends(&world.script.counts))
}
