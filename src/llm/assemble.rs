//! Puts an answer together from its pieces: text as it comes, tool calls whole and in the order of the model.

use std::collections::{HashSet, VecDeque};

use crate::llm::{Delta, ErrorKind, Finish, ToolCall, fault::Problem};

/// The most calls of one answer. A model that asks for more is caught in a loop.
pub(super) const CALLS_MAX: usize = 64;

/// What a server says next, in no one's dialect.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// Whether the model thought, of which nobody is told more.
    pub(super) thought: bool,
    /// More text.
    pub(super) text: String,
    /// Pieces of calls, behind the text.
    pub(super) tools: Vec<ToolPiece>,
    /// Why the model stopped, in the server's word.
    pub(super) finish: Option<String>,
}

/// A piece of a tool call, or a whole one.
#[derive(Debug, Default)]
pub(super) struct ToolPiece {
    /// Which call it continues; some servers leave it out, others say 0 for all.
    pub(super) index: Option<u32>,
    /// Empty when it continues.
    pub(super) id: String,
    /// Empty when it continues.
    pub(super) name: String,
    /// More of them.
    pub(super) arguments: String,
}

/// What has come of an answer.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// From the first tool call on, what comes is held back until the calls are whole, so that the order stays.
    held: Vec<Held>,
    calls: usize,
    /// Whether anything that belongs to an answer came.
    began: bool,
    /// Whether the model made anything.
    spoke: bool,
    finish: Option<Finish>,
    usage: Option<(u32, u32)>,
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

    /// Notes the tokens given to the model and made by it; the last ones count. Servers that do not count say zero:
    /// that is no count, and would make answers free.
    pub(super) fn set_usage(&mut self, prompt_tokens: u32, completion_tokens: u32) {
        if prompt_tokens > 0 {
            self.usage = Some((prompt_tokens, completion_tokens));
        }
    }

    /// Takes the next piece and puts what is certain into `out`, or a sign that something was made. Behind the end nothing counts.
    pub(super) fn take(&mut self, piece: Piece, out: &mut VecDeque<Delta>) -> Result<(), Problem> {
        if self.finish.is_some() {
            return Ok(());
        }
        self.began = true;
        let spoke = !piece.text.is_empty() || !piece.tools.is_empty();
        self.spoke |= spoke;
        let (made, before) = (spoke || piece.thought, out.len());
        self.take_text(piece.text, out);
        for tool in piece.tools {
            self.take_tool(tool)?;
        }
        if let Some(reason) = piece.finish.filter(|reason| !reason.is_empty()) {
            self.finish(Some(&reason), out)?;
        }
        if made && out.len() == before {
            out.push_back(Delta::Progress);
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
        let usage = self.usage.take().filter(|(_, made)| *made > 0 || !self.spoke);
        if let Some((prompt_tokens, completion_tokens)) = usage {
            out.push_back(Delta::Usage { prompt_tokens, completion_tokens });
        }
        out.push_back(Delta::Done(finish));
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

    fn take_tool(&mut self, piece: ToolPiece) -> Result<(), Problem> {
        let continued = self.held.iter_mut().rev().find_map(|held| match held {
            Held::Call(call) if call.is_continued_by(piece.index, &piece.id) => Some(call),
            Held::Call(_) | Held::Text(_) => None,
        });
        let call = if let Some(call) = continued.filter(|call| !call.is_followed_by(&piece)) {
            call
        } else {
            self.calls += 1;
            if self.calls > CALLS_MAX {
                return Err(Problem::new(ErrorKind::Garbled, "more tool calls than any model needs"));
            }
            self.held.push(Held::Call(Partial { index: piece.index, ..Partial::default() }));
            match self.held.last_mut() {
                Some(Held::Call(call)) => call,
                Some(Held::Text(_)) | None => return Ok(()),
            }
        };
        if call.id.is_empty() {
            call.id = piece.id;
        }
        // Some servers repeat the name in every piece.
        if call.name.is_empty() {
            call.name = piece.name;
        }
        call.arguments.push_str(&piece.arguments);
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

    /// Whether a piece that may continue this call is another one after all: servers that give no ids send their calls
    /// whole, one after the other, under one index or none.
    fn is_followed_by(&self, piece: &ToolPiece) -> bool {
        let told_apart = !self.id.is_empty() && !piece.id.is_empty();
        if told_apart || self.name.is_empty() || piece.name.is_empty() {
            return false;
        }
        // Some servers repeat the name in every piece. Only what ends like a call's arguments is worth being parsed.
        let has_ended = || self.arguments.trim_end().ends_with('}') && self.is_whole();
        self.name != piece.name || (!piece.arguments.trim().is_empty() && has_ended())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece { text: text.to_owned(), ..Piece::default() }
    }

    fn assemble(pieces: Vec<Piece>, usage: &[(u32, u32)]) -> Vec<Delta> {
        let mut assembler = Assembler::default();
        let mut out = VecDeque::new();
        for piece in pieces {
            assembler.take(piece, &mut out).unwrap();
        }
        for (prompt_tokens, completion_tokens) in usage {
            assembler.set_usage(*prompt_tokens, *completion_tokens);
        }
        assembler.end(&mut out).unwrap();
        out.into()
    }

    #[test]
    fn no_count_makes_an_answer_free() {
        let told = |said: &str, usage: &[(u32, u32)]| {
            assemble(vec![text(said)], usage).into_iter().find_map(|delta| match delta {
                Delta::Usage { prompt_tokens, completion_tokens } => Some((prompt_tokens, completion_tokens)),
                Delta::Text(_) | Delta::ToolCall(_) | Delta::Progress | Delta::Done(_) => None,
            })
        };
        for usage in [&[][..], &[(0, 0)], &[(0, 7)], &[(3, 0)], &[(3, 7), (3, 0)]] {
            assert_eq!(told("hi", usage), None, "{usage:?}");
        }
        assert_eq!(told("hi", &[(3, 7), (0, 0)]), Some((3, 7)));
        assert_eq!(told("hi", &[(3, 0), (3, 7)]), Some((3, 7)));
        assert_eq!(told("", &[(3, 0)]), Some((3, 0)), "nothing was made");
    }

    #[test]
    fn what_is_not_handed_on_yet_is_progress() {
        let call = |arguments: &str| {
            let name = if arguments == "{" { "one" } else { "" };
            let tool = ToolPiece { name: name.into(), arguments: arguments.into(), ..ToolPiece::default() };
            Piece { tools: vec![tool], ..Piece::default() }
        };
        let thought = || Piece { thought: true, ..Piece::default() };
        let end = Piece { finish: Some("tool_calls".into()), ..thought() };
        // A piece that says nothing only keeps the connection.
        let pieces = vec![text(""), thought(), text("hi"), call("{"), text("and"), call("}"), text(""), end];
        let whole = ToolCall { id: "call_0".into(), name: "one".into(), arguments: "{}".into() };
        let waits = || Delta::Progress;
        assert_eq!(
            assemble(pieces, &[]),
            [
                waits(),
                Delta::Text("hi".into()),
                waits(),
                waits(),
                waits(),
                Delta::ToolCall(whole),
                Delta::Text("and".into()),
                Delta::Done(Finish::ToolCalls)
            ]
        );
    }

    #[test]
    fn whole_calls_without_ids_are_told_apart() {
        let calls = |pieces: &[(&str, &str)]| {
            let tool = |(name, arguments): &(&str, &str)| ToolPiece {
                index: Some(0),
                name: (*name).to_owned(),
                arguments: (*arguments).to_owned(),
                ..ToolPiece::default()
            };
            let pieces = pieces.iter().map(|piece| Piece { tools: vec![tool(piece)], ..Piece::default() });
            let called = assemble(pieces.collect(), &[]).into_iter().filter_map(|delta| match delta {
                Delta::ToolCall(call) => Some((call.id, call.name, call.arguments)),
                Delta::Text(_) | Delta::Usage { .. } | Delta::Progress | Delta::Done(_) => None,
            });
            called.collect::<Vec<_>>()
        };
        let call = |id: &str, name: &str, arguments: &str| (id.into(), name.into(), arguments.into());
        let twice = [call("call_0", "vote", r#"{"o":1}"#), call("call_1", "vote", r#"{"o":2}"#)];
        assert_eq!(calls(&[("vote", r#"{"o":1}"#), ("vote", r#"{"o":2}"#)]), twice);
        assert_eq!(calls(&[("vote", r#"{"o""#), ("", ":1}"), ("vote", r#"{"o""#), ("", ":2}")]), twice);
        let two = [call("call_0", "one", ""), call("call_1", "two", "")];
        assert_eq!(calls(&[("one", ""), ("two", "")]), two);
        // One call whose name is repeated, also behind its end.
        let repeated = [("vote", r#"{"o":{}"#), ("vote", "}"), ("vote", ""), ("vote", "\n")];
        assert_eq!(calls(&repeated), [call("call_0", "vote", "{\"o\":{}}\n")]);
    }
}
