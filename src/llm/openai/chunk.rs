//! The parts of an answer as servers really send them: everything optional, nothing trusted.

use serde::Deserialize;
use serde_json::Value;

/// One event of the stream. Servers leave out `id`, `model`, `object` and more, which nobody here needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk {
    /// Empty in the event that holds the usage.
    pub(super) choices: Option<Vec<Choice>>,
    /// Usually in the last event, `null` before. Of any shape: no answer is given up for its bill.
    pub(super) usage: Option<Value>,
    /// How a server reports that it failed after it said 200; of any shape.
    pub(super) error: Option<Value>,
}

/// One of several answers; only the first is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice {
    pub(super) index: u32,
    pub(super) delta: Option<ChoiceDelta>,
    pub(super) finish_reason: Option<String>,
}

/// What is new in a choice.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChoiceDelta {
    pub(super) content: Option<String>,
    /// The model's own words of declining: to the room a text like any other.
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Option<Vec<ToolChunk>>,
}

/// A piece of a tool call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolChunk {
    /// Which call it continues; some servers leave it out, others say 0 for all.
    pub(super) index: Option<u32>,
    pub(super) id: Option<String>,
    pub(super) function: Option<FunctionChunk>,
}

/// A piece of a function's name and arguments.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FunctionChunk {
    pub(super) name: Option<String>,
    /// A piece of a text; some servers send the whole as an object.
    pub(super) arguments: Option<Value>,
}
