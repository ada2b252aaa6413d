//! What an LLM may do besides talking: the tools of one answer, from what is offered to what has come of each call.
//!
//! Owns the order of things around a call: is it offered, are its arguments right, is it a repetition, and who is told.
//! What single tools do is in the modules below. The calls of one round are carried out one after the other, in the
//! order in which the model made them: the second sees what the first has done. Text of a model is never trusted: whom
//! a call acts for, and in which room, comes from the run. A call that is wrong is told to the model, never to the
//! room.

mod answered;
mod approve;
mod external;
mod history;
mod polls;
mod registry;
mod repeats;
mod talk;
mod turns;

use std::sync::Arc;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use self::{
    answered::Answered,
    registry::{Call, Kind},
    repeats::Repeats,
    turns::TurnEffects,
};
pub(super) use self::{
    approve::Approvals,
    registry::{Offered, built_in, shown},
};
use crate::{
    bus::{Audience, BusMessage, Transient, TransientContent},
    dispatch::{Inner, Job, context::Scene},
    domain::{
        llm::ToolUse,
        permissions::{self, Action},
    },
    ids::{LlmId, PollId},
    llm::ToolCall,
    mcp::Servers,
    wire::transient,
};

/// The longest arguments of a call, in bytes: more is no call but a text.
const ARGUMENTS_BYTES: usize = 64 * 1024;

/// What the tools of all runs stand on.
#[derive(Debug, Default)]
pub(super) struct Toolbox {
    /// Servers of tools from outside.
    pub(super) servers: Servers,
    /// Calls that wait for a person.
    pub(super) approvals: Approvals,
}

/// The run that calls.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) job: &'a Job,
    pub(super) scene: &'a Scene,
}

impl Caller<'_> {
    /// Whether whoever asked may do this in the room as it is now; if not, what the model is told.
    async fn asker_may(self, action: Action) -> Result<(), Answered> {
        let Some(asked_by) = self.job.asked_by.clone() else {
            return Err(Answered::failed("nobody asked for this whose rights it could be done with"));
        };
        let look = self
            .inner
            .rooms
            .read(&self.job.room, move |room, _| permissions::require(room, &asked_by, action).map(|_| ()));
        let checked = look.await.and_then(|checked| checked);
        checked.map_err(|rejection| Answered::failed(&rejection.message))
    }
}

/// What the tool calls of an answer have come to.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// The LLM wants to say nothing; with its reason.
    pub(super) opted_out: Option<String>,
    /// LLMs it has called.
    pub(super) mentions: Vec<LlmId>,
    /// Their names, and what it wants to tell them; may be empty.
    told: Vec<(String, String)>,
    /// The polls it has voted in.
    pub(super) voted: Vec<PollId>,
    /// What from outside of the room it has read so far: what it was told with the question, and since.
    pub(super) outside: Vec<String>,
    /// The tools it has called.
    pub(super) uses: Vec<ToolUse>,
    /// What it has done with its turn in an autopilot.
    pub(super) turn: TurnEffects,
    /// Nobody has decided about a call in time.
    is_unattended: bool,
    /// Polls it has made.
    polls_made: usize,
    repeats: Repeats,
}

impl Effects {
    /// Whether it has asked for the same thing so often that it gets no more tools.
    pub(super) fn is_stuck(&self) -> bool {
        self.repeats.is_stuck()
    }

    /// It is asked something new: what it has called before is no repetition.
    pub(super) fn begin_anew(&mut self) {
        self.repeats = Repeats::default();
    }

    /// What is said to the LLMs that it has called. Those it has told nothing are named only if `all` are, because
    /// nothing else was said.
    pub(super) fn mention_text(&self, all: bool) -> String {
        let told = self.told.iter().filter(|(_, context)| all || !context.is_empty());
        told.map(|(name, context)| format!("@{name} {context}")).collect::<Vec<_>>().join("\n")
    }

    fn count(&mut self, tool: &str, failed: bool) {
        let index = self.uses.iter().position(|used| used.tool == tool);
        let index = index.unwrap_or_else(|| {
            self.uses.push(ToolUse { tool: tool.to_owned(), ..ToolUse::default() });
            self.uses.len() - 1
        });
        if let Some(used) = self.uses.get_mut(index) {
            used.calls = used.calls.saturating_add(1);
            used.failures = used.failures.saturating_add(u32::from(failed));
        }
    }
}

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

    #[test]
    fn uses_are_counted_in_the_order_of_the_first_call() {
        let mut effects = Effects::default();
        for (tool, failed) in [("b", false), ("a", true), ("b", true)] {
            effects.count(tool, failed);
        }
        let used = |tool: &str, calls, failures| ToolUse { tool: tool.into(), calls, failures };
        assert_eq!(effects.uses, [used("b", 2, 1), used("a", 1, 1)]);
    }
}
