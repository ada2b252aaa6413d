//! The text of an answer as it comes: what is kept is exactly what was sent.
//!
//! Models like to begin with their own name ("Claude: hello"), also in the way in which they are told who has said
//! something. It is taken away before anything is sent, by holding back the first characters until it is clear what
//! they are. Behind calls of tools a part begins anew, and so does this.

use crate::dispatch::plain::within;

/// The longest answer that is kept, whatever the model was told: 256 KiB.
pub(super) const ANSWER_BYTES: usize = 256 * 1024;

/// Collects an answer.
#[derive(Debug)]
pub(super) struct AnswerText {
    /// The ways to begin with the own name, in lower case.
    prefixes: Vec<Vec<char>>,
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
        Self {
            prefixes: prefixes(name),
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
        self.begun = false;
    }

    /// Takes away the own name as often as it stands there, as far as can be told.
    fn strip(&mut self) {
        loop {
            // Spaces before it are never kept, however many come.
            self.held = self.held.trim_start().to_owned();
            match begins(&self.prefixes, &self.held) {
                Begins::Perhaps(_) => return,
                Begins::With(bytes) => self.held = self.held.get(bytes..).unwrap_or_default().to_owned(),
                Begins::Otherwise => break,
            }
        }
        self.open();
    }

    /// Lets go of what was held back.
    fn release(&mut self) {
        if !self.begun {
            if let Begins::Perhaps(Some(bytes)) = begins(&self.prefixes, &self.held) {
                self.held = self.held.get(bytes..).unwrap_or_default().trim_start().to_owned();
            }
            self.open();
        }
    }

    /// What is held back is what the part begins with.
    fn open(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.begun = !held.is_empty();
        if self.begun {
            self.push(&held);
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

/// How a text begins, as far as it is there.
enum Begins {
    /// With the own name, which takes so many bytes.
    With(usize),
    /// That depends on what follows; if nothing does, with so many bytes of the own name.
    Perhaps(Option<usize>),
    Otherwise,
}

/// The ways to begin with a name: as people write them, and as the server does.
fn prefixes(name: &str) -> Vec<Vec<char>> {
    let mut all = Vec::new();
    for colon in [':', '：'] {
        all.push(format!("{name}{colon}"));
        for mark in ["**", "*", "__", "_"] {
            all.push(format!("{mark}{name}{colon}{mark}"));
            all.push(format!("{mark}{name}{mark}{colon}"));
        }
    }
    for name in
        [name.to_owned(), format!("\"{name}\""), format!("\"{name}\", llm"), format!("\"{name}\", you")]
    {
        // Without anything behind it, it is a link or a list.
        all.extend([":", " ", "\n"].map(|behind| format!("[{name}]{behind}")));
    }
    all.iter().map(|prefix| prefix.to_lowercase().chars().collect()).collect()
}

fn begins(prefixes: &[Vec<char>], text: &str) -> Begins {
    let mut whole = None;
    let mut is_open = false;
    for prefix in prefixes {
        match matched(prefix, text) {
            Some((bytes, true)) => whole = whole.max(Some(bytes)),
            Some((_, false)) => is_open = true,
            None => {}
        }
    }
    match whole {
        _ if is_open => Begins::Perhaps(whole),
        Some(bytes) => Begins::With(bytes),
        None => Begins::Otherwise,
    }
}

/// How far a text agrees with a prefix, and whether that is all of it; `None`: it does not.
fn matched(prefix: &[char], text: &str) -> Option<(usize, bool)> {
    let mut given = text.char_indices();
    for expected in prefix {
        match given.next() {
            None => return Some((text.len(), false)),
            Some((_, c)) if c.to_lowercase().eq([*expected]) => {}
            Some(_) => return None,
        }
    }
    Some((given.next().map_or(text.len(), |(at, _)| at), true))
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
    fn the_own_name_has_many_dresses() {
        for dressed in [
            "Claude：hello",
            "**Claude:** hello",
            "**claude**: hello",
            "**Claude**：hello",
            "*Claude*: hello",
            "__Claude:__ hello",
            "[Claude] hello",
            "[Claude]: hello",
            "[\"Claude\"] hello",
            "[\"Claude\", LLM] hello",
            "[\"Claude\"]\nhello",
            " \n **Claude:** Claude: [Claude] hello",
        ] {
            assert_eq!(sent("Claude", &[dressed]), "hello", "{dressed:?}");
            // However it is cut.
            let each: Vec<String> = dressed.chars().map(String::from).collect();
            let each: Vec<&str> = each.iter().map(String::as_str).collect();
            assert_eq!(sent("Claude", &each), "hello", "{dressed:?}");
        }
        for kept in [
            "[Claude](http://localhost) is a link",
            "[Claude]",
            "**Claude** is here",
            "**Claude",
            "*",
            "**",
            "Claude-4: new",
            "Claudette: hello",
            "GPT: hello",
            "\"Claude\": a name",
            "[Ann] hello",
        ] {
            assert_eq!(sent("Claude", &[kept]), kept);
            let each: Vec<String> = kept.chars().map(String::from).collect();
            assert_eq!(sent("Claude", &each.iter().map(String::as_str).collect::<Vec<_>>()), kept);
        }
        assert_eq!(sent("Claude", &["[Claude] "]), "");
        assert_eq!(sent("Claude", &["**Claude:**"]), "");
    }

    #[test]
    fn every_part_may_begin_with_the_own_name() {
        let mut answer = AnswerText::new("Claude");
        answer.push("Claude: let me look");
        answer.new_part();
        for delta in ["Clau", "de: ", "done"] {
            answer.push(delta);
        }
        answer.new_part();
        answer.push("Claude:");
        answer.finish();
        assert_eq!(answer.text(), "let me look\n\ndone");
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
