//! The provider that is always there: it answers by fixed rules, and says that it is not a model.
//!
//! Deterministic, needs no network and cannot fail: the same request gets the same answer. Never writes `@`, so it
//! never calls anybody.

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};

use crate::llm::{Delta, Deltas, Error, Finish, Provider, Request, Speaker, ToolCall, Turn};

mod form;
mod vote;

/// Between two words: slow enough that people see the answer being written, some 65 words a second.
const PAUSE: Duration = Duration::from_millis(15);
/// How much of a message is quoted: enough to see which one was answered.
const QUOTE_CHARS_MAX: usize = 80;

/// See the module.
#[derive(Debug, Clone)]
pub struct OfflineProvider {
    name: String,
    pause: Duration,
}

impl OfflineProvider {
    /// A provider that writes at a pace that people can see.
    pub fn new(name: &str) -> Self {
        Self::with_pause(name, PAUSE)
    }

    /// A provider that waits `pause` between two words; zero: not at all.
    pub fn with_pause(name: &str, pause: Duration) -> Self {
        Self { name: name.to_owned(), pause }
    }
}

#[async_trait]
impl Provider for OfflineProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_model(&self) -> bool {
        false
    }

    async fn answer(&self, request: Request) -> Result<Deltas, Error> {
        let deltas = write(&request);
        let pause = self.pause;
        let paced = stream::unfold((deltas, true), move |(mut deltas, is_first)| async move {
            let delta = deltas.pop_front()?;
            if !is_first && !pause.is_zero() && matches!(delta, Delta::Text(_)) {
                tokio::time::sleep(pause).await;
            }
            Some((delta, (deltas, false)))
        });
        Ok(paced.map(Ok).boxed())
    }
}

/// The whole answer.
fn write(request: &Request) -> VecDeque<Delta> {
    let (text, call) = compose(request);
    let mut deltas = VecDeque::new();
    let mut made = 0_u32;
    let mut finish = Finish::Stop;
    for word in text.split_inclusive(' ') {
        if request.max_tokens > 0 && made == request.max_tokens {
            finish = Finish::Length;
            break;
        }
        made += 1;
        deltas.push_back(Delta::Text(word.to_owned()));
    }
    if let Some(call) = call.filter(|_| finish == Finish::Stop) {
        deltas.push_back(Delta::ToolCall(call));
        finish = Finish::ToolCalls;
    }
    // A word counts as a token, so that budgets can be seen to work.
    deltas.push_back(Delta::Usage { prompt_tokens: words(&request.turns), completion_tokens: made });
    deltas.push_back(Delta::Done(finish));
    deltas
}

/// What is said, and which tool is called behind it.
fn compose(request: &Request) -> (String, Option<ToolCall>) {
    if let Some(asked) = &request.form {
        return (form::fill(&asked.schema), None);
    }
    let (turn, since) = said_last(&request.turns);
    let said = &without_marks(turn);
    let call = vote::next_call(request, said, since);
    let text = match (&call, since) {
        (Some(_), []) => format!("{} takes part in the poll.", speaker_name(request)),
        (Some(_), _) => String::new(),
        (None, since) => match since.iter().rev().find_map(result) {
            Some(result) => after_tool(request, since, result),
            None => reply(request, said),
        },
    };
    (text, call)
}

/// What an answer reacts to, and what happened since.
fn said_last(turns: &[Turn]) -> (&str, &[Turn]) {
    let found = turns.iter().enumerate().rev().find_map(|(at, turn)| match turn {
        Turn::Text { speaker: Speaker::User, text } => Some((text.as_str(), turns.get(at + 1..)?)),
        Turn::Text { .. } | Turn::ToolCalls { .. } | Turn::ToolResult { .. } => None,
    });
    found.unwrap_or(("", turns))
}

/// A text without the author and the marks of its lines, as the dispatcher writes them: neither contains a bracket.
fn without_marks(turn: &str) -> String {
    let text = match turn.strip_prefix('[').and_then(|author| author.split_once("] ")) {
        Some((_, text)) => text,
        None => turn,
    };
    text.replace("\n    | ", "\n")
}

fn result(turn: &Turn) -> Option<&str> {
    match turn {
        Turn::ToolResult { result, .. } => Some(result),
        Turn::Text { .. } | Turn::ToolCalls { .. } => None,
    }
}

fn reply(request: &Request, said: &str) -> String {
    let mut text = format!(
        "This is {}, written by Salon's offline stand-in: no model is connected.",
        speaker_name(request)
    );
    let quote = quote(said);
    if !quote.is_empty() {
        let _ = write!(text, " You wrote: \u{201c}{quote}\u{201d}.");
    }
    let seen = request
        .turns
        .iter()
        .filter(|turn| matches!(turn, Turn::Text { speaker: Speaker::User | Speaker::Assistant, .. }))
        .count();
    let noun = if seen == 1 { "message" } else { "messages" };
    let _ = write!(text, " I see {seen} {noun} of this conversation.");
    text.push_str(
        " For real answers set OPENAI_API_KEY, or OPENAI_BASE_URL for another server, and start Salon again.",
    );
    text
}

fn after_tool(request: &Request, since: &[Turn], result: &str) -> String {
    let name = speaker_name(request);
    let done = if vote::has_voted(since) { "voted by a fixed rule" } else { "used a tool" };
    let mut text = format!("{name}, written by Salon's offline stand-in, {done}.");
    let quote = quote(result);
    if !quote.is_empty() {
        let _ = write!(text, " The result: \u{201c}{quote}\u{201d}.");
    }
    text
}

fn speaker_name(request: &Request) -> String {
    match quote(&request.display_name) {
        name if name.is_empty() => "the LLM".to_owned(),
        name => name,
    }
}

/// A short piece of `text` on one line, in which nothing can call or format anything.
fn quote(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| match c {
            '@' | '\u{ff20}' | '\u{fe6b}' | '`' | '*' | '#' | '\u{201c}' | '\u{201d}' => ' ',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect();
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(QUOTE_CHARS_MAX) {
        None => line,
        Some((end, _)) => {
            let head = line.get(..end).unwrap_or_default();
            // At a space if there is one: half a word reads like a mistake.
            let whole = head.rfind(' ').and_then(|space| head.get(..space)).unwrap_or(head);
            format!("{whole}…")
        }
    }
}

fn words(turns: &[Turn]) -> u32 {
    let count = |text: &String| text.split_whitespace().count();
    let sum: usize = turns
        .iter()
        .map(|turn| match turn {
            Turn::Text { text, .. } | Turn::ToolCalls { text, .. } => count(text),
            Turn::ToolResult { result, .. } => count(result),
        })
        .sum();
    u32::try_from(sum).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(said: &str) -> Request {
        let turn = |speaker, text: &str| Turn::Text { speaker, text: text.to_owned() };
        Request {
            model: String::new(),
            turns: vec![turn(Speaker::System, "be kind"), turn(Speaker::User, said)],
            tools: Vec::new(),
            form: None,
            max_tokens: 0,
            display_name: "Ada".into(),
        }
    }

    fn text(request: &Request) -> String {
        let texts = write(request).into_iter().filter_map(|delta| match delta {
            Delta::Text(text) => Some(text),
            Delta::ToolCall(_) | Delta::Usage { .. } | Delta::Progress | Delta::Done(_) => None,
        });
        texts.collect()
    }

    #[test]
    fn it_says_who_speaks_that_it_is_offline_what_it_saw_and_what_to_do() {
        let text = text(&request("What is\na room?"));
        assert_eq!(
            text,
            "This is Ada, written by Salon's offline stand-in: no model is connected. You wrote: \u{201c}What is a \
             room?\u{201d}. I see 1 message of this conversation. For real answers set OPENAI_API_KEY, or \
             OPENAI_BASE_URL for another server, and start Salon again."
        );
    }

    #[test]
    fn it_quotes_what_was_said_without_the_author() {
        for (turn, quoted) in [
            ("[\"Cy\"] Hello,\n    | you [there] all", "Hello, you [there] all"),
            ("[\"Cy\", answering \"Di\": \"vote (now)\"] Hello", "Hello"),
            ("[Cy Hello", "[Cy Hello"),
        ] {
            let text = text(&request(turn));
            assert!(text.contains(&format!("You wrote: \u{201c}{quoted}\u{201d}.")), "{text}");
        }
    }

    #[test]
    fn it_never_calls_anybody() {
        let mut hostile = request("@everyone \u{ff20}all `@Bob`\u{201d}. @Ada");
        hostile.display_name = "@all".into();
        let text = text(&hostile);
        assert!(!text.contains(['@', '\u{ff20}', '`']), "{text}");
        assert!(text.contains("\u{201c}everyone all Bob . Ada\u{201d}"), "{text}");
    }

    #[test]
    fn a_quote_is_cut_at_a_word_and_at_a_character() {
        let at = "x".repeat(QUOTE_CHARS_MAX);
        assert_eq!(quote(&at), at);
        assert_eq!(quote(&format!("{at}y")), format!("{at}…"));
        assert_eq!(quote(&"é".repeat(200)), format!("{}…", "é".repeat(QUOTE_CHARS_MAX)));
        assert_eq!(quote(&format!("word {at}")), "word…");
        assert_eq!(quote("\0\n @ "), "");
    }

    #[test]
    fn the_longest_answer_is_kept() {
        let mut request = request("hi");
        request.max_tokens = 3;
        let deltas: Vec<_> = write(&request).into();
        let usage = Delta::Usage { prompt_tokens: 3, completion_tokens: 3 };
        assert_eq!(deltas[2..], [Delta::Text("Ada, ".into()), usage, Delta::Done(Finish::Length)]);
    }

    #[test]
    fn an_empty_conversation_gets_an_answer_too() {
        let mut request = request("hi");
        request.turns.clear();
        request.display_name.clear();
        assert!(text(&request).starts_with("This is the LLM, written by Salon's offline stand-in"));
    }
}
