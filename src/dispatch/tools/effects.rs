//! What the tool calls of an answer have come to: noted by every tool, read by the next call and when the answer ends.
//!
//! Kept in memory for one answer; nothing is sent or recorded here, and nothing fails.

use super::repeats::Repeats;
use crate::{
    domain::llm::ToolUse,
    ids::{LlmId, PollId},
};

/// What the tool calls of an answer have come to.
#[derive(Debug, Default)]
pub(in crate::dispatch) struct Effects {
    /// The LLM wants to say nothing; with its reason.
    pub(in crate::dispatch) opted_out: Option<String>,
    /// LLMs it has called.
    pub(in crate::dispatch) mentions: Vec<LlmId>,
    /// Their names, and what it wants to tell them; may be empty.
    pub(super) told: Vec<(String, String)>,
    /// The polls it has voted in.
    pub(in crate::dispatch) voted: Vec<PollId>,
    /// What from outside of the room it has read so far: what it was told with the question, and since.
    pub(in crate::dispatch) outside: Vec<String>,
    /// The tools it has called.
    pub(in crate::dispatch) uses: Vec<ToolUse>,
    /// What it has done with its turn in an autopilot.
    pub(in crate::dispatch) turn: TurnEffects,
    /// Nobody has decided about a call in time.
    pub(super) is_unattended: bool,
    /// Polls it has made.
    pub(super) polls_made: usize,
    pub(super) repeats: Repeats,
}

impl Effects {
    /// Whether it has asked for the same thing so often that it gets no more tools.
    pub(in crate::dispatch) fn is_stuck(&self) -> bool {
        self.repeats.is_stuck()
    }

    /// It is asked something new: what it has called before is no repetition.
    pub(in crate::dispatch) fn begin_anew(&mut self) {
        self.repeats = Repeats::default();
    }

    /// What is said to the LLMs that it has called. Those it has told nothing are named only if `all` are, because
    /// nothing else was said.
    pub(in crate::dispatch) fn mention_text(&self, all: bool) -> String {
        let told = self.told.iter().filter(|(_, context)| all || !context.is_empty());
        told.map(|(name, context)| format!("@{name} {context}")).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn count(&mut self, tool: &str, failed: bool) {
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

/// What an LLM has done with its turn.
#[derive(Debug, Default)]
pub(in crate::dispatch) struct TurnEffects {
    /// Who speaks next, and what about.
    pub(in crate::dispatch) chosen: Option<(LlmId, String)>,
    /// It agrees to what was said last.
    pub(in crate::dispatch) agrees: bool,
    /// It has ended the autopilot, for this reason.
    pub(in crate::dispatch) over: Option<String>,
}

impl TurnEffects {
    /// Whether there is nothing left to be done in this turn.
    pub(in crate::dispatch) fn is_done(&self) -> bool {
        self.chosen.is_some() || self.agrees || self.over.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
