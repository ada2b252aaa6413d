//! The parts of an answer as servers really send them: everything optional, nothing trusted.

use serde::Deserialize;
use serde_json::Value;

use crate::llm::assemble::{Piece, ToolPiece};

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
    /// What the model thinks before it speaks, under the three names that servers have for it; of any shape.
    pub(super) reasoning: Option<Value>,
    pub(super) reasoning_content: Option<Value>,
    pub(super) reasoning_details: Option<Value>,
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

impl Chunk {
    /// What is new in the first choice. Only one answer is asked for: another would be mixed into it.
    pub(super) fn into_pieces(self) -> impl Iterator<Item = Piece> {
        let choices = self.choices.unwrap_or_default().into_iter();
        choices.filter(|choice| choice.index == 0).map(Choice::piece)
    }

    /// The tokens given to the model and made by it, if the server tells both.
    pub(super) fn tokens(&self) -> Option<(u32, u32)> {
        let usage = self.usage.as_ref()?;
        Some((tokens(usage, "prompt_tokens")?, tokens(usage, "completion_tokens")?))
    }
}

impl Choice {
    fn piece(self) -> Piece {
        let delta = self.delta.unwrap_or_default();
        let thoughts = [delta.reasoning, delta.reasoning_content, delta.reasoning_details];
        Piece {
            thought: thoughts.iter().flatten().any(says_something),
            text: [delta.content, delta.refusal].into_iter().flatten().collect(),
            tools: delta.tool_calls.unwrap_or_default().into_iter().map(ToolChunk::piece).collect(),
            finish: self.finish_reason,
        }
    }
}

impl ToolChunk {
    fn piece(self) -> ToolPiece {
        let function = self.function.unwrap_or_default();
        ToolPiece {
            index: self.index,
            id: self.id.unwrap_or_default(),
            name: function.name.unwrap_or_default(),
            arguments: match function.arguments {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(piece)) => piece,
                Some(whole) => whole.to_string(),
            },
        }
    }
}

/// Whether there is anything in it.
fn says_something(thought: &Value) -> bool {
    match thought {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(parts) => !parts.is_empty(),
        Value::Object(parts) => !parts.is_empty(),
    }
}

/// What the server says, if that is a number of tokens.
fn tokens(usage: &Value, key: &str) -> Option<u32> {
    let said = usage.get(key).and_then(Value::as_u64)?;
    Some(u32::try_from(said).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use serde_json::json;

    use super::*;
    use crate::llm::{
        Delta, ErrorKind, Finish, ToolCall,
        assemble::{Assembler, CALLS_MAX},
        fault::Problem,
        openai::take,
    };

    fn assemble(chunks: &[Value]) -> Result<Vec<Delta>, Problem> {
        let mut assembler = Assembler::default();
        let mut out = VecDeque::new();
        for chunk in chunks {
            take(&mut assembler, serde_json::from_value(chunk.clone()).unwrap(), &mut out)?;
        }
        assembler.end(&mut out)?;
        // What is held back is the assembler's to test.
        out.retain(|delta| *delta != Delta::Progress);
        Ok(out.into())
    }

    fn delta(delta: &Value) -> Value {
        json!({"choices": [{"delta": delta}]})
    }

    fn tool(tool: &Value) -> Value {
        delta(&json!({"tool_calls": [tool]}))
    }

    fn stop(reason: &str) -> Value {
        json!({"choices": [{"delta": {}, "finish_reason": reason}]})
    }

    fn call(id: &str, name: &str, arguments: &str) -> Delta {
        Delta::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
    }

    #[test]
    fn pieces_of_two_calls_that_alternate_are_put_together_by_index() {
        let deltas = assemble(&[
            delta(&json!({"content": "Let me see."})),
            tool(&json!({"index": 0, "id": "a", "function": {"name": "one", "arguments": ""}})),
            tool(&json!({"index": 1, "id": "b", "function": {"name": "two", "arguments": "{\"x\""}})),
            tool(&json!({"index": 0, "function": {"arguments": "{}"}})),
            tool(&json!({"index": 1, "function": {"arguments": ":1}"}})),
            stop("tool_calls"),
        ]);
        assert_eq!(
            deltas.unwrap(),
            [
                Delta::Text("Let me see.".into()),
                call("a", "one", "{}"),
                call("b", "two", "{\"x\":1}"),
                Delta::Done(Finish::ToolCalls)
            ]
        );
    }

    #[test]
    fn calls_that_all_have_index_0_or_none_are_told_apart_by_their_ids() {
        for index in [json!(0), json!(null)] {
            let deltas = assemble(&[
                tool(&json!({"index": index, "id": "a", "function": {"name": "one", "arguments": "{}"}})),
                tool(&json!({"index": index, "id": "b", "function": {"name": "two", "arguments": "{}"}})),
                stop("stop"),
            ]);
            let expected = [call("a", "one", "{}"), call("b", "two", "{}"), Delta::Done(Finish::ToolCalls)];
            assert_eq!(deltas.unwrap(), expected);
        }
    }

    #[test]
    fn ids_are_made_unique_and_objects_become_texts() {
        let deltas = assemble(&[
            tool(&json!({"index": 0, "function": {"name": "one", "arguments": {"x": 1}}})),
            tool(&json!({"index": 1, "function": {"name": "two", "arguments": "{}"}})),
            stop("tool_calls"),
        ]);
        let expected =
            [call("call_0", "one", "{\"x\":1}"), call("call_1", "two", "{}"), Delta::Done(Finish::ToolCalls)];
        assert_eq!(deltas.unwrap(), expected);
    }

    #[test]
    fn text_behind_a_call_stays_behind_it() {
        let deltas = assemble(&[
            tool(&json!({"index": 0, "id": "a", "function": {"name": "one", "arguments": "{"}})),
            delta(&json!({"content": "and "})),
            delta(&json!({"content": "more"})),
            tool(&json!({"index": 0, "function": {"arguments": "}"}})),
            stop("tool_calls"),
        ]);
        let expected =
            [call("a", "one", "{}"), Delta::Text("and more".into()), Delta::Done(Finish::ToolCalls)];
        assert_eq!(deltas.unwrap(), expected);
    }

    #[test]
    fn half_a_call_of_an_answer_that_was_cut_is_left_out() {
        let deltas = assemble(&[
            tool(&json!({"index": 0, "id": "a", "function": {"name": "one", "arguments": "{}"}})),
            tool(&json!({"index": 1, "id": "b", "function": {"name": "two", "arguments": "{\"x"}})),
            stop("length"),
        ]);
        assert_eq!(deltas.unwrap(), [call("a", "one", "{}"), Delta::Done(Finish::Length)]);
    }

    #[test]
    fn nothing_empty_is_yielded_and_the_last_usage_counts() {
        let deltas = assemble(&[
            json!({"choices": null, "usage": {"prompt_tokens": 1}}),
            delta(&json!({"content": ""})),
            delta(&json!({"content": null, "refusal": "no"})),
            json!({"choices": [{"index": 1, "delta": {"content": "another answer"}}]}),
            stop("content_filter"),
            delta(&json!({"content": "behind the end"})),
            json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}),
        ]);
        let usage = Delta::Usage { prompt_tokens: 3, completion_tokens: 4 };
        assert_eq!(deltas.unwrap(), [Delta::Text("no".into()), usage, Delta::Done(Finish::Filtered)]);
    }

    #[test]
    fn a_thought_is_progress_and_nothing_more() {
        let progress = |thought: &Value| {
            let mut out = VecDeque::new();
            let chunk = serde_json::from_value(delta(thought)).unwrap();
            take(&mut Assembler::default(), chunk, &mut out).unwrap();
            out == [Delta::Progress]
        };
        for thought in [
            json!({"reasoning": "hm"}),
            json!({"content": "", "reasoning_content": "hm"}),
            json!({"content": null, "reasoning": null, "reasoning_details": [{"type": "reasoning.encrypted"}]}),
        ] {
            assert!(progress(&thought), "{thought}");
        }
        for nothing in [
            json!({"role": "assistant", "content": ""}),
            json!({"reasoning": "", "reasoning_content": null, "reasoning_details": []}),
        ] {
            assert!(!progress(&nothing), "{nothing}");
        }
    }

    #[test]
    fn odd_usage_spoils_no_answer_and_makes_none_free() {
        for odd in [
            json!([1]),
            json!({}),
            json!({"total_tokens": 9}),
            json!({"prompt_tokens": 0, "completion_tokens": 0}),
            json!({"prompt_tokens": 3}),
            json!({"prompt_tokens": 3, "completion_tokens": -1}),
        ] {
            let deltas = assemble(&[stop("stop"), json!({ "usage": odd })]).unwrap();
            assert_eq!(deltas, [Delta::Done(Finish::Stop)], "{odd}");
        }
        for (said, completion_tokens) in [(0, 0), (5_000_000_000_u64, u32::MAX)] {
            let usage = json!({"prompt_tokens": 3, "completion_tokens": said});
            let deltas = assemble(&[stop("stop"), json!({ "usage": usage })]).unwrap();
            assert_eq!(deltas[0], Delta::Usage { prompt_tokens: 3, completion_tokens });
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let nameless = [tool(&json!({"index": 0, "id": "a"})), stop("tool_calls")];
        let endless: Vec<_> = (0..=CALLS_MAX)
            .map(|n| tool(&json!({"index": n, "id": n.to_string(), "function": {"name": "x"}})))
            .collect();
        assert_eq!(assemble(&[]).unwrap_err().kind, ErrorKind::Garbled);
        assert_eq!(assemble(&nameless).unwrap_err().kind, ErrorKind::Garbled);
        assert_eq!(assemble(&endless).unwrap_err().kind, ErrorKind::Garbled);
        assert!(assemble(&endless[..CALLS_MAX]).is_ok());
        assert_eq!(assemble(&[stop("error")]).unwrap_err().kind, ErrorKind::Overloaded);
        let reported = json!({"error": {"code": "rate_limit_exceeded", "message": "slow down"}});
        assert_eq!(assemble(&[reported]).unwrap_err().kind, ErrorKind::RateLimited);
    }
}
