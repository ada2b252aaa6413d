//! Puts an answer together from its pieces: text as it comes, tool calls whole and in the order of the model.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;

use crate::llm::{
    Delta, ErrorKind, Finish, ToolCall,
    openai::{
        chunk::{Choice, Chunk, ToolChunk},
        classify::{Fault, Problem},
    },
};

/// The most calls of one answer. A model that asks for more is caught in a loop.
const CALLS_MAX: usize = 64;

/// What has come of an answer.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// From the first tool call on, what comes is held back until the calls are whole, so that the order stays.
    held: Vec<Held>,
    calls: usize,
    /// Whether anything that belongs to an answer came.
    began: bool,
    finish: Option<Finish>,
    usage: Option<Value>,
}

#[derive(Debug)]
enum Held {
    Text(String),
    Call(Partial),
}

/// A tool call that may be incomplete.
#[derive(Debug, Default)]
struct Partial {
    index: Option<u32>,
    id: String,
    name: String,
    arguments: String,
}

impl Assembler {
    /// Whether the model said that it stopped.
    pub(super) fn has_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Takes the next piece and puts what is certain into `out`.
    pub(super) fn take(&mut self, chunk: Chunk, out: &mut VecDeque<Delta>) -> Result<(), Problem> {
        if let Some(error) = chunk.error {
            return Err(Fault::from_value(&error).in_stream());
        }
        if chunk.usage.is_some() {
            self.usage = chunk.usage;
        }
        for choice in chunk.choices.unwrap_or_default() {
            // Only one answer is asked for; a second would be mixed into the first.
            if choice.index == 0 && self.finish.is_none() {
                self.began = true;
                self.take_choice(choice, out)?;
            }
        }
        Ok(())
    }

    /// The stream ended as it should: what is held, the usage and the end.
    pub(super) fn end(&mut self, out: &mut VecDeque<Delta>) -> Result<(), Problem> {
        if !self.began {
            return Err(Problem::new(ErrorKind::Garbled, "the stream held no answer"));
        }
        let finish = match self.finish {
            Some(finish) => finish,
            None => self.finish(None, out)?,
        };
        if let Some(usage) = self.usage.take() {
            out.push_back(Delta::Usage {
                prompt_tokens: tokens(&usage, "prompt_tokens"),
                completion_tokens: tokens(&usage, "completion_tokens"),
            });
        }
        out.push_back(Delta::Done(finish));
        Ok(())
    }

    fn take_choice(&mut self, choice: Choice, out: &mut VecDeque<Delta>) -> Result<(), Problem> {
        if let Some(delta) = choice.delta {
            for text in [delta.content, delta.refusal].into_iter().flatten() {
                self.take_text(text, out);
            }
            for tool in delta.tool_calls.unwrap_or_default() {
                self.take_tool(tool)?;
            }
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.finish(Some(&reason), out)?;
        }
        Ok(())
    }

    fn take_text(&mut self, text: String, out: &mut VecDeque<Delta>) {
        if text.is_empty() {
            return;
        }
        match self.held.last_mut() {
            None => out.push_back(Delta::Text(text)),
            Some(Held::Text(held)) => held.push_str(&text),
            Some(Held::Call(_)) => self.held.push(Held::Text(text)),
        }
    }

    fn take_tool(&mut self, chunk: ToolChunk) -> Result<(), Problem> {
        let function = chunk.function.unwrap_or_default();
        let id = chunk.id.unwrap_or_default();
        let continued = self.held.iter_mut().rev().find_map(|held| match held {
            Held::Call(call) if call.is_continued_by(chunk.index, &id) => Some(call),
            Held::Call(_) | Held::Text(_) => None,
        });
        let call = if let Some(call) = continued {
            call
        } else {
            self.calls += 1;
            if self.calls > CALLS_MAX {
                return Err(Problem::new(ErrorKind::Garbled, "more tool calls than any model needs"));
            }
            self.held.push(Held::Call(Partial { index: chunk.index, ..Partial::default() }));
            match self.held.last_mut() {
                Some(Held::Call(call)) => call,
                Some(Held::Text(_)) | None => return Ok(()),
            }
        };
        if call.id.is_empty() {
            call.id = id;
        }
        // Some servers repeat the name in every piece.
        if call.name.is_empty() {
            call.name = function.name.unwrap_or_default();
        }
        match function.arguments {
            None | Some(Value::Null) => {}
            Some(Value::String(piece)) => call.arguments.push_str(&piece),
            Some(whole) => call.arguments.push_str(&whole.to_string()),
        }
        Ok(())
    }

    fn finish(&mut self, reason: Option<&str>, out: &mut VecDeque<Delta>) -> Result<Finish, Problem> {
        let said = match reason {
            Some("length" | "max_tokens") => Finish::Length,
            Some("content_filter") => Finish::Filtered,
            Some("error") => {
                return Err(Problem::new(ErrorKind::Overloaded, "the provider gave up the answer"));
            }
            // What matters of the other words is whether there are calls: servers say "stop" with and without.
            _ => Finish::Stop,
        };
        let was_cut = said != Finish::Stop;
        let mut ids = HashSet::new();
        for held in self.held.drain(..) {
            match held {
                Held::Text(text) => out.push_back(Delta::Text(text)),
                // Of an answer that was cut the last call is half a call, which must not be acted on.
                Held::Call(call) if was_cut && !call.is_whole() => {}
                Held::Call(call) => out.push_back(Delta::ToolCall(call.into_call(&mut ids)?)),
            }
        }
        let finish = if said == Finish::Stop && !ids.is_empty() { Finish::ToolCalls } else { said };
        self.finish = Some(finish);
        Ok(finish)
    }
}

impl Partial {
    /// Whether a piece with this index and id belongs to this call. Asked from the newest call back.
    fn is_continued_by(&self, index: Option<u32>, id: &str) -> bool {
        // A new id is a new call, whatever the index says: some servers number every call 0.
        let same_id = id.is_empty() || self.id.is_empty() || self.id == id;
        let same_index = index.is_none() || self.index.is_none() || self.index == index;
        same_id && same_index
    }

    fn is_whole(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }

    fn into_call(self, ids: &mut HashSet<String>) -> Result<ToolCall, Problem> {
        if self.name.is_empty() {
            return Err(Problem::new(ErrorKind::Garbled, "a tool call without a name"));
        }
        let mut id = self.id;
        // Some servers give no ids, or the same to all; results need to be told apart.
        while id.is_empty() || ids.contains(&id) {
            id = format!("call_{}{id}", ids.len());
        }
        ids.insert(id.clone());
        Ok(ToolCall { id, name: self.name, arguments: self.arguments })
    }
}

/// What the server says, or 0 if that is no number of tokens.
fn tokens(usage: &Value, key: &str) -> u32 {
    let said = usage.get(key).and_then(Value::as_u64).unwrap_or(0);
    u32::try_from(said).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assemble(chunks: &[Value]) -> Result<Vec<Delta>, Problem> {
        let mut assembler = Assembler::default();
        let mut out = VecDeque::new();
        for chunk in chunks {
            assembler.take(serde_json::from_value(chunk.clone()).unwrap(), &mut out)?;
        }
        assembler.end(&mut out)?;
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
    fn odd_usage_does_not_spoil_an_answer() {
        for (usage, tokens) in [
            (json!([1]), 0),
            (json!({"completion_tokens": -1}), 0),
            (json!({"completion_tokens": 5_000_000_000_u64}), u32::MAX),
        ] {
            let deltas = assemble(&[stop("stop"), json!({ "usage": usage })]).unwrap();
            assert_eq!(deltas[0], Delta::Usage { prompt_tokens: 0, completion_tokens: tokens });
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
