//! `salon bench messages`: messages to everybody in their rooms, paced or as many as the server takes.

use std::future::ready;

use super::{Error, crew::Crew, load, plan::Plan, progress::Progress, report::Report, talk::Talk};

/// Runs the load.
pub(super) async fn run(plan: &Plan, progress: &Progress) -> Result<Report, Error> {
    let crew = Crew::prepare(plan, &[], progress).await?;
    let talk = Talk::new(plan, crew.speech(plan), &[]);
    let opened = load::open(plan, &crew, talk, progress).await?;
    let measured = load::run(plan, &crew, &opened, progress, ready(Ok(()))).await?;
    let talk = &opened.world.borrow().script;
    Ok(Report::new(plan).with_talk(&crew, talk, measured))
}
