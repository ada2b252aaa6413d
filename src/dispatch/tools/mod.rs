//! What an LLM may do besides talking: the tools of one answer, from what is offered to what has come of each call.
//!
//! Owns the order of things around a call: is it offered, are its arguments right, is it a repetition, and who is told.
//! What single tools do is in the modules below. The calls of one round are carried out one after the other, in the
//! order in which the model made them: the second sees what the first has done. Text of a model is never trusted: whom
//! a call acts for, and in which room, comes from the run. A call that is wrong is told to the model, never to the
//! room.

mod answered;
mod approve;
mod call;
mod effects;
mod external;
mod history;
mod polls;
mod registry;
mod repeats;
mod talk;
mod turns;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use self::{answered::Answered, call::Call, registry::Kind};
pub(super) use self::{
    call::Caller,
    effects::Effects,
    registry::{Offered, built_in, shown},
};
use crate::{
    bus::{Audience, BusMessage, Transient, TransientContent},
    llm::ToolCall,
    wire::transient,
};

/// The longest arguments of a call, in bytes: more is no call but a text.
const ARGUMENTS_BYTES: usize = 64 * 1024;

/// The tools of a run: for a poll it is asked about only those that answer it.
pub(super) async fn offered(by: Caller<'_>) -> Vec<Offered> {
    let mut tools = built_in(by.scene, by.job.poll_id, by.job.asked_by.is_some());
    if by.job.poll_id.is_none() {
        tools.extend(external::offered(by).await);
    }
    tools
}

/// Carries out a call; what is returned is for the model, also when the call was wrong. `deadline` is that of the run:
/// it moves by the time in which a person was waited for.
pub(super) async fn carry_out(
    by: Caller<'_>,
    offered: &[Offered],
    call: &ToolCall,
    effects: &mut Effects,
    deadline: &mut Instant,
) -> String {
    let arguments = parse(&call.arguments);
    let normalised = match &arguments {
        Ok(arguments) => repeats::normalised(arguments),
        Err(_) => call.arguments.clone(),
    };
    let mut answered = if effects.repeats.is_stuck() || !effects.repeats.may_call(&call.name, &normalised) {
        Answered::failed("not carried out: this was asked too often, there are no more tools in this answer")
    } else if let Some(tool) = offered.iter().find(|tool| tool.tool.name == call.name) {
        announce(by, &call.name, None);
        let answered = match arguments.and_then(|arguments| check(tool, arguments)) {
            Ok(arguments) => run(by, &tool.kind, arguments, effects, deadline).await,
            Err(why) => Answered::failed(&why),
        };
        effects.count(&call.name, answered.has_failed);
        announce(by, &call.name, Some(answered.has_failed));
        answered
    } else {
        // What a model calls a tool is its own text: nobody else is shown it.
        Answered::failed(&format!("there is no tool {:?} here", call.name))
    };
    if let Some(note) = effects.repeats.answered(&call.name, &normalised, &answered) {
        answered.note(note);
    }
    answered.into_text()
}

async fn run(
    by: Caller<'_>,
    kind: &Kind,
    arguments: Value,
    effects: &mut Effects,
    deadline: &mut Instant,
) -> Answered {
    match kind {
        Kind::BuiltIn(carry_out) => {
            let done = carry_out(Call { by, arguments, effects });
            let late = |_| Answered::failed("there was no time left for it");
            timeout_at(*deadline, done).await.unwrap_or_else(late)
        }
        Kind::External(tool) => external::call(by, tool, arguments, effects, deadline).await,
    }
}

/// Models send nothing at all when there are no arguments.
fn parse(arguments: &str) -> Result<Value, String> {
    let len = arguments.len();
    if len > ARGUMENTS_BYTES {
        return Err(format!("the arguments have {len} bytes, at most {ARGUMENTS_BYTES} are taken"));
    }
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    serde_json::from_str(arguments).map_err(|error| format!("the arguments are no JSON: {error}"))
}

fn check(tool: &Offered, arguments: Value) -> Result<Value, String> {
    tool.schema.check(&arguments)?;
    Ok(arguments)
}

/// Tells the room that a call begins, or whether the one that has ended failed.
fn announce(by: Caller<'_>, tool: &str, ended: Option<bool>) {
    let frame = transient::tool_call(by.job.message_id, &by.job.llm_id, tool, ended);
    let told = Transient { frame, audience: Audience::Room, content: TransientContent::Other };
    by.inner.rooms.registry().bus().publish(&by.job.room, BusMessage::Transient(told));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_or_nothing() {
        assert_eq!(parse(" "), Ok(serde_json::json!({})));
        assert!(parse("{\"a\": ").unwrap_err().contains("EOF"));
        assert!(parse(&format!("\"{}\"", "a".repeat(ARGUMENTS_BYTES))).unwrap_err().contains("at most"));
    }
}
