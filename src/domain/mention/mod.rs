//! Which LLMs a text calls.
//!
//! Owns the answer to "whom does this `@` mean" for the LLMs a room really has; knows nothing of who may ask or
//! what an answer costs. A name that means nobody is no error: the text simply does not call.
//!
//! - `@` is followed by an LLM's id or display name, or by `all` or `everyone`. Letter case does not count, and
//!   spaces and `_` are the same. Characters are compared as they were typed: a letter with its accent in one
//!   character is not the same letter with a combining accent.
//! - Of several names that fit, the longest is meant.
//! - The name stands alone, on both sides: see `boundary`.
//! - Code and quoted lines do not call: see `prose`.
//!
//! The time is linear in the text: from each `@` no more is read than the longest name, and never beyond the
//! next `@`.

mod boundary;
mod fold;
mod prose;
#[cfg(test)]
mod tests;

use crate::{
    domain::{
        llm::LlmConfig,
        mention::{
            boundary::{continues, is_at, is_glued},
            fold::Folded,
            prose::Prose,
        },
    },
    ids::LlmId,
};

/// The names that stand for every LLM of the room.
const EVERYONE: [&str; 2] = ["all", "everyone"];

/// What people put behind a name without meaning it as a part of the name.
const PUNCTUATION: [char; 6] = ['.', ',', '!', '?', ';', ':'];

/// Whether a name stands for every LLM of the room.
pub fn is_everyone(name: &str) -> bool {
    let name = key(name);
    EVERYONE.iter().any(|everyone| name.iter().copied().eq(everyone.chars()))
}

/// A name as mentions compare it: two names with the same key cannot be told apart in a text.
pub fn key(name: &str) -> Vec<char> {
    Folded::new(name.trim_matches(fold::is_separator)).collect()
}

/// The LLMs that `text` mentions, in its order, then those named besides; without duplicates.
///
/// A name in `names` may have the `@` in front of it and punctuation behind; one that means nobody is passed over.
pub fn resolve(llms: &[LlmConfig], text: &str, names: &[String]) -> Vec<LlmId> {
    if llms.is_empty() || (names.is_empty() && !text.contains(is_at)) {
        return Vec::new();
    }
    let known = Names::of(llms);
    let mut called = Called::new(llms);
    for piece in Prose::new(text) {
        let mut before = None;
        let mut rest = piece.chars();
        while let Some(c) = rest.next() {
            if is_at(c) && !is_glued(before) {
                called.call(known.longest_at_start(rest.as_str()));
            }
            before = Some(c);
        }
        if called.is_everyone() {
            break;
        }
    }
    for name in names {
        called.call(known.named(name));
    }
    called.ids
}

/// Whom a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Everyone,
    /// The LLM at this place of the room's list.
    One(usize),
}

/// Every name of a room, sorted: names with a common beginning are neighbours.
struct Names(Vec<(Vec<char>, Target)>);

impl Names {
    fn of(llms: &[LlmConfig]) -> Self {
        let everyone = EVERYONE.iter().map(|name| (key(name), Target::Everyone));
        let each = llms.iter().enumerate().flat_map(|(index, llm)| {
            [llm.id.as_str(), llm.display_name.as_str()].map(|name| (key(name), Target::One(index)))
        });
        let mut names: Vec<_> = everyone.chain(each).filter(|(key, _)| !key.is_empty()).collect();
        names.sort();
        // A room's names differ; should two be equal after all, the LLM that came first keeps its name.
        names.dedup_by(|later, earlier| later.0 == earlier.0);
        Self(names)
    }

    /// Whom the longest name means with which `text` begins.
    fn longest_at_start(&self, text: &str) -> Option<Target> {
        let mut candidates = self.0.as_slice();
        let mut longest = None;
        let mut folded = Folded::new(text);
        let mut depth = 0;
        while let Some(c) = folded.next() {
            // No name goes over an `@`; stopping here is what keeps a text of nothing but `@` linear.
            if is_at(c) {
                break;
            }
            let from = candidates.partition_point(|(key, _)| key.get(depth) < Some(&c));
            let to = candidates.partition_point(|(key, _)| key.get(depth) <= Some(&c));
            candidates = candidates.get(from..to).unwrap_or_default();
            depth += 1;
            match candidates.first() {
                Some((key, target)) if key.len() == depth && !continues(c, folded.rest()) => {
                    longest = Some(*target);
                }
                Some(_) => {}
                None => break,
            }
        }
        longest
    }

    /// Whom a name given beside the text means.
    fn named(&self, name: &str) -> Option<Target> {
        let name = name.trim();
        let name = name.strip_prefix(is_at).unwrap_or(name);
        // As it is first: a name may itself end in a full stop.
        self.exact(name).or_else(|| self.exact(name.trim_end_matches(PUNCTUATION)))
    }

    fn exact(&self, name: &str) -> Option<Target> {
        let name = key(name);
        let place = self.0.binary_search_by(|(key, _)| key.cmp(&name)).ok()?;
        self.0.get(place).map(|(_, target)| *target)
    }
}

/// Who has been called so far, each once.
struct Called<'a> {
    llms: &'a [LlmConfig],
    seen: Vec<bool>,
    ids: Vec<LlmId>,
}

impl<'a> Called<'a> {
    fn new(llms: &'a [LlmConfig]) -> Self {
        Self { llms, seen: vec![false; llms.len()], ids: Vec::new() }
    }

    fn is_everyone(&self) -> bool {
        self.ids.len() == self.llms.len()
    }

    fn call(&mut self, target: Option<Target>) {
        match target {
            _ if self.is_everyone() => {}
            Some(Target::Everyone) => (0..self.llms.len()).for_each(|index| self.call_one(index)),
            Some(Target::One(index)) => self.call_one(index),
            None => {}
        }
    }

    fn call_one(&mut self, index: usize) {
        if let (Some(llm), Some(seen)) = (self.llms.get(index), self.seen.get_mut(index))
            && !std::mem::replace(seen, true)
        {
            self.ids.push(llm.id.clone());
        }
    }
}
