//! The model that is asked: who answers, how its tokens are counted, and how much it may be given.
//!
//! Found from a name before anything is told to it; nothing is asked here, and nothing fails: whether somebody answers
//! to that name is seen when it is asked.

use crate::llm::{
    route::{Plan, Router},
    tokens::Tokenizer,
};

/// Who is asked, and how much it may be given.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Who answers, and who stands in for them.
    pub(super) plan: Plan,
    /// How the tokens of the first are counted.
    pub(super) tokenizer: Tokenizer,
    /// What it may be given, its answer included.
    pub(super) window: u64,
}

impl Model {
    /// The model of this name; `limit` bounds what it is given, also where more would fit.
    pub(super) fn of(router: &Router, name: &str, fallbacks: &[String], limit: u64) -> Self {
        let plan = router.plan(name, fallbacks);
        let first = plan.targets().first();
        let tokenizer = first.map_or(Tokenizer::Estimate, |target| Tokenizer::of(&target.model));
        let window = first.map_or(limit, |target| limit.min(target.info.context_tokens.into()));
        Self { plan, tokenizer, window }
    }
}
