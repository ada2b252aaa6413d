//! The conversation of one answer: the model is asked, its tool calls are carried out, and it is asked again with their
//! results, as often as is allowed.

use crate::{
    dispatch::{
        Inner, Job,
        context::{self, Scene},
        listen::{Heard, Progress, ask},
        tools::{self, Effects},
    },
    domain::{
        llm::RunEnd,
        rejection::{Code, Rejection},
    },
    llm::{Error, ErrorKind, Finish, Provider, ToolCall, Turn},
};

/// How a run ended, before it is recorded.
pub(super) struct Ended {
    pub(super) end: RunEnd,
    pub(super) error: Option<Error>,
    pub(super) detail: String,
    /// What went wrong on this server: an error code and what the room is told.
    pub(super) fault: Option<(String, String)>,
}

impl Ended {
    pub(super) fn crashed() -> Self {
        Self { end: RunEnd::Failed, error: None, detail: String::new(), fault: Some(crash()) }
    }

    /// The room cannot be seen: nobody knows what to ask.
    pub(super) fn blind(rejection: Rejection) -> Self {
        let fault = Some((rejection.code.as_str().to_owned(), rejection.message));
        Self { end: RunEnd::Failed, error: None, detail: String::new(), fault }
    }

    pub(super) fn by_itself(end: RunEnd, detail: impl Into<String>) -> Self {
        Self { end, error: None, detail: detail.into(), fault: None }
    }

    pub(super) fn failed(error: Error) -> Self {
        let end = if error.kind == ErrorKind::Timeout { RunEnd::TimedOut } else { RunEnd::Failed };
        Self { end, error: Some(error), detail: String::new(), fault: None }
    }
}

/// The name of a panic, and what the room is told of it.
pub(super) fn crash() -> (String, String) {
    (Code::Internal.as_str().into(), "the answer failed on the server".into())
}

/// Asks the model, carries out its tool calls, and asks again with their results, as often as is allowed.
pub(super) async fn converse(
    inner: &Inner,
    job: &Job,
    provider: &dyn Provider,
    scene: &Scene,
    progress: &mut Progress,
) -> Ended {
    let deadline = progress.started + inner.limits.total;
    let offered = tools::offered(scene, job.poll_id);
    let mut rounds: Vec<Turn> = Vec::new();
    for round in 0..=inner.limits.tool_rounds {
        // In the last round there is nothing left to call: the model must say something.
        let tools = if round == inner.limits.tool_rounds { &[][..] } else { offered.as_slice() };
        let turns = scene.turns(&rounds, &context::estimate);
        let heard = match ask(inner, job, provider, scene, (&turns, tools), progress, deadline).await {
            Ok(heard) => heard,
            Err(error) => return Ended::failed(error),
        };
        if heard.calls.is_empty() {
            return said(job, &progress.effects, &heard, progress.answer.text());
        }
        let calls: Vec<ToolCall> = heard.calls.into_iter().take(progress.calls_left).collect();
        progress.calls_left -= calls.len();
        rounds.push(Turn::ToolCalls { text: heard.text, calls: calls.clone() });
        for call in calls {
            let effects = &mut progress.effects;
            let result = tools::carry_out(&inner.rooms, &job.room, scene, tools, &call, effects).await;
            rounds.push(Turn::ToolResult { call_id: call.id, result });
        }
        if job.poll_id.is_some_and(|poll| progress.effects.voted.contains(&poll)) {
            return Ended::by_itself(RunEnd::Completed, "");
        }
        if let Some(reason) = progress.effects.opted_out.clone() {
            let silent = progress.answer.text().trim().is_empty() && progress.effects.mentions.is_empty();
            let end = if silent { RunEnd::OptedOut } else { RunEnd::Completed };
            return Ended::by_itself(end, reason);
        }
        progress.answer.new_part();
        if progress.calls_left == 0 {
            return Ended::by_itself(RunEnd::Completed, "no more tool calls were allowed");
        }
    }
    Ended::by_itself(RunEnd::Completed, "no more rounds were allowed")
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
