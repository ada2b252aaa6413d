//! How many tokens a text is: exactly for OpenAI's models, by an estimate for all others.
//!
//! What a provider bills is what it reports; this is for deciding beforehand what fits, so that it may be a little
//! too much but hardly too little. The estimate goes by characters, in sixths of a token: a letter or a space of
//! ASCII is 2, a digit 3, another sign of ASCII 4, a character of two bytes in UTF-8 4, of three 8, of four 15. It
//! is at least half of what OpenAI's two vocabularies count for texts of every script that is tested, and mostly
//! between the count and twice the count.
//!
//! Counting is bounded. The library's work on a single word without a space grows faster than the word, and its
//! regular expressions give up on monstrous ones; it is given pieces of at most `PIECE_BYTES`, cut where words end
//! if there is such a place. A text above [`EXACT_BYTES_MAX`] is estimated: it does not fit anywhere anyhow. The
//! vocabularies are read at their first use, which takes some tenths of a second: async code calls
//! [`count_request`], which does all of this on a thread that may block.

use tiktoken_rs::{
    CoreBPE, cl100k_base_singleton, o200k_base_singleton,
    tokenizer::{Tokenizer as Known, get_tokenizer},
};

use crate::llm::{Request, Turn};

/// Above this a text is estimated.
pub const EXACT_BYTES_MAX: usize = 256 << 10;
/// What the library is given at once.
const PIECE_BYTES: usize = 4 << 10;
/// How much of a piece is searched for the end of a word.
const WORD_BYTES: usize = 256;
/// What frames a message: its beginning, its role, its end.
const MESSAGE_TOKENS: u64 = 4;
/// What frames a tool, or a call of one.
const TOOL_TOKENS: u64 = 8;
/// What the beginning of the answer takes.
const ANSWER_TOKENS: u64 = 3;

/// How texts for a model are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tokenizer {
    /// The vocabulary of OpenAI's models since gpt-4o, and of gpt-oss.
    O200k,
    /// The vocabulary of gpt-4 and gpt-3.5-turbo.
    Cl100k,
    /// No vocabulary is known.
    Estimate,
}

impl Tokenizer {
    /// The one of a model, by its name as the provider knows it; a maker's name and a slash before it do not matter.
    pub fn of(model: &str) -> Self {
        let bare = model.rsplit('/').next().unwrap_or(model);
        match get_tokenizer(bare) {
            Some(Known::O200kBase | Known::O200kHarmony) => Self::O200k,
            Some(Known::Cl100kBase) => Self::Cl100k,
            // Models that are not served any more.
            Some(Known::R50kBase | Known::P50kBase | Known::P50kEdit | Known::Gpt2) | None => Self::Estimate,
        }
    }

    /// How many tokens `text` is. May block for some tenths of a second at the first use.
    pub fn count(self, text: &str) -> u64 {
        let vocabulary = match self {
            Self::O200k => o200k_base_singleton,
            Self::Cl100k => cl100k_base_singleton,
            Self::Estimate => return estimate(text),
        };
        if text.len() > EXACT_BYTES_MAX { estimate(text) } else { exact(vocabulary(), text) }
    }
}

/// How many tokens `text` is for `model`. May block for some tenths of a second at the first use.
pub fn count(model: &str, text: &str) -> u64 {
    Tokenizer::of(model).count(text)
}

/// How many tokens a whole request is for its model: every turn, tool and form with what frames them. Counted on a
/// thread that may block.
pub async fn count_request(model: &str, request: &Request) -> u64 {
    let (tokenizer, request) = (Tokenizer::of(model), request.clone());
    if tokenizer == Tokenizer::Estimate {
        return request_tokens(&request, estimate);
    }
    let counting = tokio::task::spawn_blocking(move || {
        (request_tokens(&request, |text| tokenizer.count(text)), request)
    });
    // It cannot fail but by a fault of the library, or when the runtime ends and nobody reads the count.
    counting.await.map_or(u64::MAX, |(tokens, _)| tokens)
}

/// How many tokens `text` is. What takes its time is counted on a thread that may block.
pub async fn count_text(tokenizer: Tokenizer, text: &str) -> u64 {
    if tokenizer == Tokenizer::Estimate || text.is_empty() {
        return estimate(text);
    }
    let copy = text.to_owned();
    // Like that of a request it hardly fails.
    tokio::task::spawn_blocking(move || tokenizer.count(&copy)).await.unwrap_or_else(|_| estimate(text))
}

/// The estimate that the module describes.
pub fn estimate(text: &str) -> u64 {
    sixths(text).div_ceil(6)
}

/// The estimate in sixths of a token: those of the parts of a text add up to that of the whole.
pub fn sixths(text: &str) -> u64 {
    text.chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | ' ' => 2,
            '0'..='9' => 3,
            '\0'..='\x7f' => 4,
            '\u{80}'..='\u{7ff}' => 4,
            '\u{800}'..='\u{ffff}' => 8,
            _ => 15,
        })
        .sum()
}

fn exact(vocabulary: &CoreBPE, mut text: &str) -> u64 {
    let mut tokens = 0;
    while !text.is_empty() {
        let (piece, rest) = text.split_at(piece_end(text));
        tokens += u64::try_from(vocabulary.count_ordinary(piece)).unwrap_or(u64::MAX);
        text = rest;
    }
    tokens
}

/// Where to cut: before the last space behind a word, if there is one near the end of the piece.
fn piece_end(text: &str) -> usize {
    if text.len() <= PIECE_BYTES {
        return text.len();
    }
    let end = char_start(text, PIECE_BYTES);
    let from = char_start(text, PIECE_BYTES - WORD_BYTES);
    let near = text.get(from..end).unwrap_or_default();
    let mut last = None;
    let mut behind_word = false;
    for (at, c) in near.char_indices() {
        if c == ' ' && behind_word {
            last = Some(from + at);
        }
        behind_word = c.is_alphanumeric();
    }
    last.unwrap_or(end)
}

/// Where the character begins that the byte `at` belongs to.
fn char_start(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

fn request_tokens(request: &Request, count: impl Fn(&str) -> u64) -> u64 {
    let turns: u64 = request
        .turns
        .iter()
        .map(|turn| {
            MESSAGE_TOKENS
                + match turn {
                    Turn::Text { text, .. } => count(text),
                    Turn::ToolCalls { text, calls } => {
                        let call = |call: &super::ToolCall| {
                            TOOL_TOKENS + count(&call.id) + count(&call.name) + count(&call.arguments)
                        };
                        count(text) + calls.iter().map(call).sum::<u64>()
                    }
                    Turn::ToolResult { call_id, result } => count(call_id) + count(result),
                }
        })
        .sum();
    let tools: u64 = request
        .tools
        .iter()
        .map(|tool| {
            TOOL_TOKENS + count(&tool.name) + count(&tool.description) + count(&tool.parameters.to_string())
        })
        .sum();
    let form =
        request.form.iter().map(|form| TOOL_TOKENS + count(&form.name) + count(&form.schema.to_string()));
    turns + tools + form.sum::<u64>() + ANSWER_TOKENS
}

#[cfg(test)]
mod tests;
