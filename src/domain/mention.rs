//! Which LLMs a text calls. Written in the next change.

use crate::{domain::llm::LlmConfig, ids::LlmId};

/// Whether a name stands for every LLM of the room.
pub fn is_everyone(name: &str) -> bool {
    matches!(name.to_lowercase().as_str(), "all" | "everyone")
}

/// The LLMs that `text` mentions, in its order, then those named besides; without duplicates.
pub fn resolve(llms: &[LlmConfig], text: &str, names: &[String]) -> Vec<LlmId> {
    let _ = (llms, text, names);
    Vec::new()
}
