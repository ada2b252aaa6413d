//! Whose turn it is, and what a turn leaves behind.
//!
//! Everything is found from how the autopilot stands and who is in the room: the same state gives the same turn, on
//! every node and behind every restart. Whoever has been removed from the room is passed by.

use crate::{
    domain::{
        autopilot::{Autopilot, Mode, Status},
        llm::RunEnd,
        permissions::{self, Action},
        room::Room,
    },
    ids::LlmId,
};

/// A single LLM that fails once has not failed for good.
const FAILURES_LEAST: u32 = 2;

/// What an LLM does with its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Says what it has to say.
    Speak,
    /// Chooses who speaks next, or ends it.
    Choose,
    /// Argues for its side.
    Argue(Side),
    /// Says what has come out of it, from its side.
    SumUp(Side),
    /// Carries on the work of the one before.
    Improve,
    /// Agrees to what was said last, or says what else it wants.
    Agree,
}

/// A side of a debate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// For the topic.
    For,
    /// Against it.
    Against,
}

/// A turn to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who takes it.
    pub llm: LlmId,
    /// What it does with it.
    pub kind: Kind,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Somebody takes a turn.
    Turn(Turn),
    /// Nobody does any more, for this reason.
    Over(String),
    /// Nobody does until it is resumed.
    Wait,
}

/// A turn that was taken.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// Who has taken it.
    pub llm: &'a LlmId,
    /// Its name.
    pub name: &'a str,
    /// Which, from 1.
    pub turn: u32,
    /// How it ended.
    pub end: RunEnd,
    /// Something was said aloud.
    pub has_spoken: bool,
    /// Why it ended like this; may be empty.
    pub why: &'a str,
}

impl Autopilot {
    /// What happens next in this room.
    pub fn next(&self, room: &Room) -> Next {
        if self.status != Status::Running {
            return Next::Wait;
        }
        if self.is_agreed(room) {
            return Next::Over("all agree".to_owned());
        }
        if self.turns >= self.max_turns {
            let max = self.max_turns;
            return Next::Over(match self.mode {
                Mode::Consensus => format!("no agreement within {max} turns"),
                Mode::RoundRobin | Mode::Moderator | Mode::Debate | Mode::Relay => {
                    format!("all {max} turns were taken")
                }
            });
        }
        if let Err(rejection) = permissions::require_role(room, &self.started_by, Action::DirectLlms) {
            return Next::Over(format!("nobody answers for it any more: {}", rejection.message));
        }
        self.turn(room).map_or_else(Next::Over, Next::Turn)
    }

    /// Whose turn it is, whether it is running or not; or why there is nobody to take it.
    pub fn turn(&self, room: &Room) -> Result<Turn, String> {
        let is_here = |id: &&LlmId| room.llm(id).is_some();
        let here: Vec<&LlmId> = self.llms.iter().filter(is_here).collect();
        if here.is_empty() {
            return Err("no LLM of it is left in the room".to_owned());
        }
        let in_order = || self.following(&here).ok_or_else(|| "nobody is left to speak".to_owned());
        match self.mode {
            Mode::RoundRobin => in_order().map(|llm| Turn { llm, kind: Kind::Speak }),
            Mode::Relay => in_order().map(|llm| Turn { llm, kind: Kind::Improve }),
            Mode::Moderator => self.moderated(room, &here),
            Mode::Debate => self.debated(&here),
            Mode::Consensus if here.len() < 2 => Err("too few are left to agree with one another".to_owned()),
            Mode::Consensus => {
                let unsure: Vec<&LlmId> =
                    here.iter().copied().filter(|id| !self.agreed.contains(id)).collect();
                let llm = self.following(&unsure).ok_or_else(|| "all agree".to_owned())?;
                Ok(Turn { llm, kind: Kind::Agree })
            }
        }
    }

    /// How it stands behind a turn.
    #[must_use]
    pub fn after(&self, taken: &Taken<'_>) -> Self {
        let Taken { llm, name, turn, end, has_spoken, why } = *taken;
        let mut next = self.clone();
        next.turns = self.turns.max(turn);
        next.last = Some(llm.clone());
        if self.chosen.as_ref() == Some(llm) {
            (next.chosen, next.instruction, next.outside) = (None, String::new(), Vec::new());
        }
        // Whoever says something new is for it; who else is has to say so.
        if self.mode == Mode::Consensus && has_spoken && !self.agreed.contains(llm) {
            next.agreed = vec![llm.clone()];
        }
        next.failures = if end == RunEnd::Completed { 0 } else { self.failures.saturating_add(1) };
        if self.status == Status::Running {
            let said = if why.is_empty() { String::new() } else { format!(": {why}") };
            if end == RunEnd::OverBudget {
                (next.status, next.reason) = (Status::Paused, format!("a budget is used up{said}"));
            } else if next.failures >= self.failures_most() {
                let failures = next.failures;
                next.status = Status::Paused;
                next.reason = format!("{failures} turns in a row came to nothing; the last, of {name}{said}");
            }
        }
        next
    }

    fn failures_most(&self) -> u32 {
        u32::try_from(self.llms.len()).unwrap_or(u32::MAX).max(FAILURES_LEAST)
    }

    /// Whether all who are there agree.
    fn is_agreed(&self, room: &Room) -> bool {
        let mut here = self.llms.iter().filter(|id| room.llm(id).is_some()).peekable();
        let somebody_is_here = here.peek().is_some();
        self.mode == Mode::Consensus
            && self.agreed.len() > 1
            && somebody_is_here
            && here.all(|id| self.agreed.contains(id))
    }

    /// The first of `among` behind who had the last turn, in the order of the list.
    fn following(&self, among: &[&LlmId]) -> Option<LlmId> {
        let last = self.last.as_ref().and_then(|last| self.llms.iter().position(|id| id == last));
        let from = last.map_or(0, |at| at + 1);
        let ring = self.llms.iter().skip(from).chain(self.llms.iter().take(from));
        ring.into_iter().find(|id| among.contains(id)).cloned()
    }

    fn moderated(&self, room: &Room, here: &[&LlmId]) -> Result<Turn, String> {
        let moderator = self.moderator.as_ref().filter(|id| room.llm(id).is_some());
        let Some(moderator) = moderator else {
            return Err("the moderator was removed from the room".to_owned());
        };
        if let Some(chosen) = self.chosen.as_ref().filter(|id| here.contains(id)) {
            return Ok(Turn { llm: chosen.clone(), kind: Kind::Speak });
        }
        if self.last.as_ref() != Some(moderator) {
            return Ok(Turn { llm: moderator.clone(), kind: Kind::Choose });
        }
        // It had its turn and chose nobody: somebody speaks nevertheless.
        let at = usize::try_from(self.turns / 2).unwrap_or_default() % here.len();
        let llm = here.get(at).copied().ok_or_else(|| "nobody is left to speak".to_owned())?;
        Ok(Turn { llm: llm.clone(), kind: Kind::Speak })
    }

    fn side(&self, llm: &LlmId) -> Side {
        let at = self.llms.iter().position(|id| id == llm).unwrap_or_default();
        if at.is_multiple_of(2) { Side::For } else { Side::Against }
    }

    /// Sides alternate; within a side they take turns. The last round begins when there are as many turns left as
    /// LLMs; a debate that is too short for a round before it has none.
    fn debated(&self, here: &[&LlmId]) -> Result<Turn, String> {
        let of = |side| -> Vec<&LlmId> { here.iter().copied().filter(|id| self.side(id) == side).collect() };
        let count = u32::try_from(self.llms.len()).unwrap_or(u32::MAX);
        let left = self.max_turns.saturating_sub(self.turns);
        if left <= count && self.max_turns >= count.saturating_mul(2) {
            let at = usize::try_from(count - left).unwrap_or_default();
            let llm = self.llms.iter().skip(at).chain(&self.llms).find(|id| here.contains(id));
            let llm = llm.ok_or_else(|| "nobody is left to sum up".to_owned())?;
            return Ok(Turn { llm: llm.clone(), kind: Kind::SumUp(self.side(llm)) });
        }
        let side = match self.last.as_ref().map(|last| self.side(last)) {
            None | Some(Side::Against) => Side::For,
            Some(Side::For) => Side::Against,
        };
        let speakers = of(side);
        let at = usize::try_from(self.turns / 2).unwrap_or_default().checked_rem(speakers.len());
        match at.and_then(|at| speakers.get(at)) {
            Some(llm) => Ok(Turn { llm: (*llm).clone(), kind: Kind::Argue(side) }),
            None => Err("one side of the debate has nobody left".to_owned()),
        }
    }
}
