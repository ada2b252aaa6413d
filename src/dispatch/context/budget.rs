//! What fits into a model: the newest of a conversation, counted in tokens.
//!
//! What is left out, in this order: old messages, the oldest first; then the ends of long results of tools; then old
//! rounds of tools, a call always with its results. The instructions, the question, the ballot paper and the last
//! round stay, and what is too long alone loses its middle. Below what the instructions and the paper take there is
//! nothing to be left out: then the model's provider says that it is too long.
//!
//! Pure: whoever calls says how tokens are counted. Nothing is counted twice, and nothing that is too old to be given.

use crate::{
    dispatch::plain::around,
    ids::Seq,
    llm::{Speaker, Tool, ToolCall, Turn},
};

use super::messages::Rendered;

/// How many tokens a text is.
pub(in crate::dispatch) type Count<'a> = &'a (dyn Fn(&str) -> u64 + Send + Sync);

/// What frames a message: its beginning, its role, its end.
const MESSAGE_TOKENS: u64 = 4;
/// What frames a tool, or a call of one.
const TOOL_TOKENS: u64 = 8;
/// What the beginning of the answer takes.
const ANSWER_TOKENS: u64 = 3;

/// What of the space for messages one that is not the question may take, and the rounds of tools: a half.
const SHARE: u64 = 2;
/// What of the space for messages the summary may take: a quarter.
const SUMMARY_SHARE: u64 = 4;

/// A message with what it costs.
#[derive(Debug, Clone)]
pub(in crate::dispatch) struct Item {
    pub(super) seq: Seq,
    /// It is the question.
    pub(super) pinned: bool,
    /// Between it and the next one messages were left out before anything was counted.
    pub(super) apart: bool,
    pub(super) outside: Vec<String>,
    rendered: Rendered,
    /// Bytes of its text that are given.
    bytes: usize,
    /// What it costs like that; `None`: not counted yet.
    tokens: Option<u64>,
}

/// The messages that an LLM was not given although it may see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dispatch) struct LeftOut {
    /// The oldest message it was given: what is missing is before it.
    pub(in crate::dispatch) before: Seq,
    /// Up to here there is a summary.
    pub(in crate::dispatch) summarised: Seq,
}

/// A conversation, and how much of it may be given.
#[derive(Debug, Clone, Default)]
pub(in crate::dispatch) struct Talk {
    pub(super) instructions: String,
    /// With what from outside went into it.
    pub(super) summary: Option<(String, Vec<String>)>,
    /// Oldest first.
    pub(super) messages: Vec<Item>,
    pub(super) ballot: Option<String>,
    /// Up to here there is a summary.
    pub(super) summarised: Seq,
    /// The room has older messages than these.
    pub(super) has_older: bool,
    /// The tokens it was fitted into; `None`: it was not, and everything is given.
    pub(super) limit: Option<u64>,
    /// The oldest message that is given in a row with all behind it.
    pub(super) oldest: Option<Seq>,
}

impl Item {
    pub(super) fn new(seq: Seq, pinned: bool, apart: bool, rendered: Rendered, outside: Vec<String>) -> Self {
        Self { seq, pinned, apart, outside, bytes: rendered.body_len(), rendered, tokens: None }
    }

    fn cost(&mut self, count: Count<'_>) -> u64 {
        *self.tokens.get_or_insert_with(|| frame(count(&self.rendered.text(self.bytes))))
    }

    /// Shortens it until it costs no more than `allowed`, as far as that goes.
    fn shorten(&mut self, allowed: u64, count: Count<'_>) -> u64 {
        let cost = self.cost(count);
        let (bytes, cost) =
            shortened(self.bytes, cost, allowed, |bytes| frame(count(&self.rendered.text(bytes))));
        (self.bytes, self.tokens) = (bytes, Some(cost));
        cost
    }
}

impl Talk {
    /// Leaves out what does not fit into `limit` tokens.
    pub(super) fn fit(&mut self, limit: u64, count: Count<'_>) {
        self.limit = Some(limit);
        let fixed =
            frame(count(&self.instructions)) + self.ballot.as_ref().map_or(0, |paper| frame(count(paper)));
        let mut left = limit.saturating_sub(fixed);
        for question in self.messages.iter_mut().filter(|item| item.pinned) {
            left = left.saturating_sub(question.shorten(left, count));
        }
        left = left.saturating_sub(self.fit_summary(left / SUMMARY_SHARE, count));
        let share = left / SHARE;
        let mut kept = Vec::with_capacity(self.messages.len());
        let mut is_full = false;
        for mut item in std::mem::take(&mut self.messages).into_iter().rev() {
            if !item.pinned {
                // Behind the first that does not fit nothing older is given: a conversation has no holes.
                let cost = if is_full { 0 } else { item.shorten(share, count) };
                is_full |= cost > left;
                if is_full {
                    self.has_older = true;
                    continue;
                }
                left -= cost;
            }
            if !is_full && !item.apart {
                self.oldest = Some(item.seq);
            }
            kept.push(item);
        }
        kept.reverse();
        if self.oldest.is_none() {
            self.oldest = kept.first().map(|item| item.seq);
        }
        self.messages = kept;
    }

    fn fit_summary(&mut self, allowed: u64, count: Count<'_>) -> u64 {
        let Some((text, _)) = &mut self.summary else {
            return 0;
        };
        let cost = frame(count(text));
        let (bytes, cost) = shortened(text.len(), cost, allowed, |bytes| frame(count(&cut(text, bytes))));
        *text = cut(text, bytes);
        if cost > allowed {
            self.summary = None;
            return 0;
        }
        cost
    }

    /// Everything a model is given. With rounds of tools the messages have only the half that those leave.
    pub(super) fn turns(&self, rounds: &[Turn], count: Count<'_>) -> Vec<Turn> {
        let Some(limit) = self.limit.filter(|_| !rounds.is_empty()) else {
            return self.listed().collect();
        };
        let all: u64 = self.listed().map(|turn| cost(&turn, count)).sum();
        let instructions = frame(count(&self.instructions));
        let paper = self.ballot.as_ref().map_or(0, |paper| frame(count(paper)));
        let space = limit.saturating_sub(instructions + paper);
        let rounds = trimmed(rounds, limit.saturating_sub(all).max(space / SHARE), count);
        let taken: u64 = rounds.iter().map(|turn| cost(turn, count)).sum();
        let mut rest = self.clone();
        rest.fit(limit.saturating_sub(taken), count);
        rest.listed().chain(rounds).collect()
    }

    fn listed(&self) -> impl Iterator<Item = Turn> {
        let text = |speaker, text: &String| Turn::Text { speaker, text: text.clone() };
        let summary = self.summary.iter().map(move |(summary, _)| text(Speaker::User, summary));
        std::iter::once(text(Speaker::System, &self.instructions))
            .chain(summary)
            .chain(self.messages.iter().map(|item| item.rendered.turn(item.bytes)))
            .chain(self.ballot.iter().map(move |paper| text(Speaker::User, paper)))
    }

    pub(super) fn left_out(&self) -> Option<LeftOut> {
        let before = self.oldest.filter(|_| self.has_older)?;
        Some(LeftOut { before, summarised: self.summarised })
    }
}

/// How many tokens the conversation may have, of a model that takes `window` with its answer of at most `answer`.
/// Answers and tools never take more than three quarters: a model that has read nothing has nothing to say.
pub(in crate::dispatch) fn prompt_tokens(window: u64, answer: u64, tools: &[Tool], count: Count<'_>) -> u64 {
    let tool = |tool: &Tool| {
        TOOL_TOKENS + count(&tool.name) + count(&tool.description) + count(&tool.parameters.to_string())
    };
    let tools: u64 = tools.iter().map(tool).sum();
    window.saturating_sub(answer).saturating_sub(tools + ANSWER_TOKENS).max(window / 4)
}

/// How many tokens of messages a model may be given to summarise, besides what frames them.
pub(in crate::dispatch) fn summary_space(window: u64, answer: u32, frame: &[Turn], count: Count<'_>) -> u64 {
    let frame: u64 = frame.iter().map(|turn| cost(turn, count)).sum();
    prompt_tokens(window, u64::from(answer), &[], count).saturating_sub(frame)
}

/// How many of these turns, from the first on, fit into `limit`; at least one.
pub(in crate::dispatch) fn summary_chunk<'a>(
    turns: impl Iterator<Item = &'a Turn>,
    limit: u64,
    count: Count<'_>,
) -> usize {
    let mut left = limit;
    let fitting = turns.take_while(|turn| {
        let cost = cost(turn, count);
        let fits = cost <= left;
        left = left.saturating_sub(cost);
        fits
    });
    fitting.count().max(1)
}

fn frame(tokens: u64) -> u64 {
    tokens.saturating_add(MESSAGE_TOKENS)
}

fn cost(turn: &Turn, count: Count<'_>) -> u64 {
    let call = |call: &ToolCall| TOOL_TOKENS + count(&call.id) + count(&call.name) + count(&call.arguments);
    frame(match turn {
        Turn::Text { text, .. } => count(text),
        Turn::ToolCalls { text, calls } => count(text) + calls.iter().map(call).sum::<u64>(),
        Turn::ToolResult { call_id, result } => count(call_id) + count(result),
    })
}

/// The most bytes, of `bytes` that cost `cost`, that cost no more than `allowed`, and what they cost: found by
/// shortening in proportion, since counting is what takes time.
fn shortened(bytes: usize, cost: u64, allowed: u64, cost_of: impl Fn(usize) -> u64) -> (usize, u64) {
    let (mut bytes, mut cost) = (bytes, cost);
    while cost > allowed && bytes > 0 {
        let wanted = u128::try_from(bytes).unwrap_or(u128::MAX) * u128::from(allowed) / u128::from(cost);
        // By an eighth at least, so that it ends.
        bytes = usize::try_from(wanted).unwrap_or(usize::MAX).min(bytes - bytes.div_ceil(8));
        cost = cost_of(bytes);
    }
    (bytes, cost)
}

/// A text of a tool or a summary with at most `bytes` bytes of it.
fn cut(text: &str, bytes: usize) -> String {
    match around(text, bytes) {
        Some((begin, left_out, end)) => {
            format!("{begin} … ({left_out} characters are left out here) … {end}")
        }
        None => text.to_owned(),
    }
}

/// Rounds of tools in at most `allowed` tokens: long results lose their middle, the oldest first; then the oldest
/// rounds go, each whole; then the results of the last one share what there is.
fn trimmed(rounds: &[Turn], allowed: u64, count: Count<'_>) -> Vec<Turn> {
    let mut turns: Vec<(Turn, u64)> = rounds.iter().map(|turn| (turn.clone(), cost(turn, count))).collect();
    let total = |turns: &[(Turn, u64)]| turns.iter().map(|(_, cost)| cost).sum::<u64>();
    for share in [4, 16] {
        for at in 0..turns.len() {
            if total(&turns) <= allowed {
                break;
            }
            if let Some(turn) = turns.get_mut(at) {
                shorten_result(turn, allowed / share, count);
            }
        }
    }
    while total(&turns) > allowed {
        let next = turns.iter().skip(1).position(|(turn, _)| matches!(turn, Turn::ToolCalls { .. }));
        let Some(next) = next else { break };
        turns.drain(..=next);
    }
    let over = total(&turns) > allowed;
    let results = turns.iter().filter(|(turn, _)| matches!(turn, Turn::ToolResult { .. }));
    let calls: u64 =
        turns.iter().filter(|(turn, _)| !matches!(turn, Turn::ToolResult { .. })).map(|(_, cost)| cost).sum();
    let share =
        u64::try_from(results.count()).ok().and_then(|n| allowed.saturating_sub(calls).checked_div(n));
    for turn in turns.iter_mut().filter(|_| over) {
        shorten_result(turn, share.unwrap_or(0), count);
    }
    turns.into_iter().map(|(turn, _)| turn).collect()
}

fn shorten_result(turn: &mut (Turn, u64), allowed: u64, count: Count<'_>) {
    let (Turn::ToolResult { call_id, result }, known) = turn else { return };
    let around = frame(count(call_id));
    let cost_of = |bytes| around + count(&cut(result, bytes));
    let (bytes, cost) = shortened(result.len(), *known, allowed, cost_of);
    *result = cut(result, bytes);
    *known = cost;
}
