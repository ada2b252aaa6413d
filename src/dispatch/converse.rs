//! The conversation of one answer: the model is asked, its tool calls are carried out, and it is asked again with their
//! results, as often as is allowed.
//!
//! Rounds and calls are bounded, and who repeats itself gets no more tools; then the model is asked once more without
//! any, so that it ends with an answer. Whoever is only asked to vote is not: that takes a tool. The calls of a round are carried out one after the other. Opting out ends the answer behind the other calls of
//! its round.

use std::sync::Arc;

use crate::{
    dispatch::{
        context::Scene,
        ended::Ended,
        inner::Inner,
        job::Job,
        listen::{Heard, Progress, ask, publish_chunk},
        look::told,
        tools::{self, Caller, Effects},
    },
    domain::llm::RunEnd,
    llm::{Error, ErrorKind, Finish, ToolCall, Turn},
};

/// Asks the model, carries out its tool calls, and asks again with their results, as often as is allowed.
pub(super) async fn converse(inner: &Arc<Inner>, job: &Job, scene: &Scene, progress: &mut Progress) -> Ended {
    let mut deadline = progress.started + inner.limits.total;
    let by = Caller { inner, job, scene };
    progress.effects.outside.clone_from(&scene.outside);
    let offered = tools::offered(by).await;
    let mut plan = match &scene.model {
        Some(model) => model.plan.clone(),
        None => inner.router.plan(&scene.llm.model, &scene.llm.fallback_models),
    };
    // Until somebody else answers.
    if let Some(wanted) = plan.targets().first() {
        progress.report.provider.clone_from(&wanted.provider);
        progress.report.model.clone_from(&wanted.model);
    }
    progress.note();
    let mut rounds: Vec<Turn> = Vec::new();
    for round in 0..=inner.limits.tool_rounds {
        // In the last round there is nothing left to call: the model must say something.
        let is_last =
            round == inner.limits.tool_rounds || progress.effects.is_stuck() || progress.calls_left == 0;
        if is_last && job.poll_id.is_some() {
            // Without tools there is no vote, and what else it says nobody hears.
            break;
        }
        let tools = if is_last { Vec::new() } else { tools::shown(&offered, &progress.effects) };
        let turns = told(scene, &rounds).await;
        let heard = match ask(inner, job, scene, &plan, (&turns, &tools), progress, deadline).await {
            Ok(heard) => heard,
            Err(ended) => return ended,
        };
        progress.note();
        plan.prefer(&progress.report.provider, &progress.report.model);
        if job.poll_id.is_some() && !heard.text.trim().is_empty() {
            heard.text.trim().clone_into(&mut progress.aside);
        }
        // What it has called although there was nothing to call is left out of what was heard.
        let insists = is_last && heard.finish == Finish::ToolCalls;
        if heard.calls.is_empty() && !insists {
            return said(job, &progress.effects, &heard, progress.answer.text());
        }
        if is_last {
            break;
        }
        let calls: Vec<ToolCall> = heard.calls.into_iter().take(progress.calls_left).collect();
        progress.calls_left -= calls.len();
        rounds.push(Turn::ToolCalls { text: heard.text, calls: calls.clone() });
        // A tool may take its time: what was said before is heard before.
        publish_chunk(inner, job, progress);
        for call in calls {
            let effects = &mut progress.effects;
            let result = tools::carry_out(by, &offered, &call, effects, &mut deadline).await;
            rounds.push(Turn::ToolResult { call_id: call.id, result });
            progress.note();
        }
        if let Some(ended) = done(job, progress) {
            return ended;
        }
        progress.answer.new_part();
    }
    Ended::by_itself(RunEnd::Completed, used_up(progress))
}

/// Why a model that wanted to call something could not.
fn used_up(progress: &Progress) -> &'static str {
    if progress.effects.is_stuck() {
        "it repeated a tool call too often"
    } else if progress.calls_left == 0 {
        "no more tool calls were allowed"
    } else {
        "no more rounds were allowed"
    }
}

/// How a run ends because of what its tools have done: a vote is cast, or the model wants to say nothing.
fn done(job: &Job, progress: &Progress) -> Option<Ended> {
    let effects = &progress.effects;
    if job.poll_id.is_some_and(|poll| effects.voted.contains(&poll)) {
        return Some(Ended::by_itself(RunEnd::Completed, ""));
    }
    if effects.turn.is_done() {
        return Some(Ended::by_itself(RunEnd::Completed, ""));
    }
    let reason = effects.opted_out.clone()?;
    let silent = progress.answer.text().trim().is_empty() && effects.mentions.is_empty();
    let end = if silent { RunEnd::OptedOut } else { RunEnd::Completed };
    Some(Ended::by_itself(end, reason))
}

/// How a run ends whose model has finished.
fn said(job: &Job, effects: &Effects, heard: &Heard, text: &str) -> Ended {
    if job.poll_id.is_some() {
        // Had it voted, it would not have been asked for more.
        return Ended::by_itself(RunEnd::OptedOut, "did not vote");
    }
    if heard.finish == Finish::Filtered {
        return Ended::failed(Error {
            kind: ErrorKind::Refused,
            provider: String::new(),
            message: "the answer was filtered".into(),
            retry_after: None,
        });
    }
    let silent = text.trim().is_empty() && heard.text.trim().is_empty() && effects.mentions.is_empty();
    if silent {
        return Ended::by_itself(RunEnd::OptedOut, "the answer was empty");
    }
    Ended::by_itself(
        RunEnd::Completed,
        if heard.finish == Finish::Length { "the longest answer was reached" } else { "" },
    )
}
