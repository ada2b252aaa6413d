//! The text of an answer as it comes: what is kept is exactly what was sent.
//!
//! Models like to begin with their own name ("Claude: hello"). It is taken away before anything is sent, by holding
//! back the first characters until it is clear what they are.

use crate::dispatch::plain::within;

/// The longest answer that is kept, whatever the model was told: 256 KiB.
pub(super) const ANSWER_BYTES: usize = 256 * 1024;

/// Collects an answer.
#[derive(Debug)]
pub(super) struct AnswerText {
    /// `Name:`, in lower case.
    prefix: String,
    /// Held back: it may still turn out to be the prefix.
    held: String,
    /// Nothing is held back any more.
    begun: bool,
    /// Everything to be sent, from the beginning of the answer.
    text: String,
    /// How much of `text` was sent.
    sent: usize,
    /// What comes next begins a paragraph of its own.
    parted: bool,
    /// Something had to be left out: nothing that follows may be joined to what was kept.
    full: bool,
}

impl AnswerText {
    /// An answer of an LLM that is called `name`.
    pub(super) fn new(name: &str) -> Self {
        let prefix = format!("{}:", name.to_lowercase());
        Self {
            prefix,
            held: String::new(),
            begun: false,
            text: String::new(),
            sent: 0,
            parted: false,
            full: false,
        }
    }

    /// Adds what the model said, as far as there is room for it; returns false when there was not.
    pub(super) fn push(&mut self, delta: &str) -> bool {
        if self.begun {
            // Only now: a part in which nothing is said must not leave an empty paragraph at the end.
            if std::mem::take(&mut self.parted) && !self.text.ends_with("\n\n") {
                self.append("\n\n");
            }
            self.append(delta);
        } else {
            self.held.push_str(delta);
            self.strip();
        }
        !self.full
    }

    fn append(&mut self, text: &str) {
        if !self.full {
            let kept = within(text, ANSWER_BYTES.saturating_sub(self.text.len()));
            self.text.push_str(kept);
            self.full = kept.len() < text.len();
        }
    }

    /// Another part follows, after tools were called: it begins a paragraph of its own.
    pub(super) fn new_part(&mut self) {
        self.release();
        self.parted = !self.text.trim_end().is_empty();
    }

    /// Takes away the own name as often as it stands there, as far as can be told.
    fn strip(&mut self) {
        loop {
            let rest = self.held.trim_start();
            let mut expected = self.prefix.chars();
            let mut given = rest.char_indices();
            let matched = loop {
                match (expected.next(), given.next()) {
                    (None, None) => break Some(rest.len()),
                    (None, Some((at, _))) => break Some(at),
                    // It may still become the name. Spaces before it are never kept, however many come.
                    (Some(_), None) => {
                        self.held = rest.to_owned();
                        return;
                    }
                    (Some(e), Some((_, g))) if g.to_lowercase().eq([e]) => {}
                    (Some(_), Some(_)) => break None,
                }
            };
            match matched.and_then(|at| rest.get(at..)) {
                Some(behind) => self.held = behind.to_owned(),
                None => {
                    let rest = rest.to_owned();
                    self.append(&rest);
                    self.held.clear();
                    self.begun = true;
                    return;
                }
            }
        }
    }

    /// Lets go of what was held back.
    fn release(&mut self) {
        if !self.begun {
            let held = std::mem::take(&mut self.held);
            self.append(held.trim_start());
            self.begun = !self.text.is_empty();
        }
    }

    /// What is to be sent next, with its offset; `None`: nothing.
    pub(super) fn take_chunk(&mut self) -> Option<(usize, String)> {
        let chunk = self.text.get(self.sent..).filter(|chunk| !chunk.is_empty())?.to_owned();
        let offset = std::mem::replace(&mut self.sent, self.text.len());
        Some((offset, chunk))
    }

    /// Whether anything waits to be sent.
    pub(super) fn has_chunk(&self) -> bool {
        self.sent < self.text.len()
    }

    /// No more follows.
    pub(super) fn finish(&mut self) {
        self.release();
    }

    /// Everything so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &str, deltas: &[&str]) -> String {
        let mut answer = AnswerText::new(name);
        let mut sent = String::new();
        let mut take = |answer: &mut AnswerText| {
            if let Some((offset, chunk)) = answer.take_chunk() {
                assert_eq!(offset, sent.len());
                sent.push_str(&chunk);
            }
        };
        for delta in deltas {
            assert!(answer.push(delta));
            take(&mut answer);
        }
        answer.finish();
        take(&mut answer);
        assert_eq!(sent, answer.text());
        sent
    }

    #[test]
    fn what_is_kept_is_what_was_sent_without_the_own_name() {
        assert_eq!(sent("Claude", &["Cla", "ude", ": he", "llo"]), "hello");
        assert_eq!(sent("Claude", &["claude: Claude: hello"]), "hello");
        assert_eq!(sent("Claude", &["Claude-4 is new"]), "Claude-4 is new");
        assert_eq!(sent("Claude", &["Claude", " is here"]), "Claude is here");
        assert_eq!(sent("Claude", &["\n\n", "hello ", "Claude: you"]), "hello Claude: you");
        assert_eq!(sent("Claude", &["Cla"]), "Cla");
        assert_eq!(sent("Claude", &["Claude:"]), "");
        assert_eq!(sent("小明", &["小", "明:", "你好"]), "你好");
        assert_eq!(sent("ÄÖ", &["äö: x"]), "x");
    }

    #[test]
    fn parts_are_paragraphs() {
        let mut answer = AnswerText::new("A");
        answer.push("let me look");
        answer.new_part();
        answer.push("done");
        answer.new_part();
        answer.finish();
        assert_eq!(answer.text(), "let me look\n\ndone");
    }

    #[test]
    fn an_answer_has_an_end() {
        let mut answer = AnswerText::new("A");
        assert!(answer.push(&"x".repeat(ANSWER_BYTES)));
        assert!(!answer.push("x"));
        assert_eq!(answer.text().len(), ANSWER_BYTES);
        // Cut between characters, and nothing follows the cut.
        for begin in ["", "y"] {
            let mut answer = AnswerText::new("A");
            answer.push(begin);
            assert!(!answer.push(&"é".repeat(ANSWER_BYTES)));
            answer.new_part();
            assert!(!answer.push("z"));
            answer.finish();
            assert!(answer.text().len() <= ANSWER_BYTES && answer.text().ends_with('é'));
        }
        let mut answer = AnswerText::new("A");
        assert!((0..9).all(|_| answer.push(&" ".repeat(99))));
        assert_eq!(answer.held, "");
    }
}
