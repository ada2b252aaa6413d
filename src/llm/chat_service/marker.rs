//! Finds the failures that a Chat Service writes where the answer should be.
//!
//! Holds back what may be the beginning of the marker, and no longer than until that is decided; an answer that merely
//! mentions the marker in the middle of a sentence stays one.

/// How such a failure begins.
const MARKER: &str = "[provider-error]";

/// What a piece of content turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Text of the answer; empty while it is not decided.
    Text(String),
    /// The marker was there, and behind it this.
    Failure(String),
}

/// Looks at the beginning of every piece.
#[derive(Debug, Default)]
pub(super) struct Marker {
    /// The beginning of the marker, if that is all that has come since a piece began.
    held: String,
}

impl Marker {
    /// Takes the next piece of content.
    pub(super) fn hear(&mut self, content: String) -> Heard {
        if content.is_empty() {
            return Heard::Text(content);
        }
        let mut text = std::mem::take(&mut self.held);
        text.push_str(&content);
        if let Some(told) = text.strip_prefix(MARKER) {
            return Heard::Failure(told.to_owned());
        }
        if MARKER.starts_with(&text) {
            self.held = text;
            return Heard::Text(String::new());
        }
        // What was held is the answer's after all; the new piece may itself be a beginning.
        if text.len() > content.len() {
            if let Some(told) = content.strip_prefix(MARKER) {
                return Heard::Failure(told.to_owned());
            }
            if MARKER.starts_with(&content) {
                text.truncate(text.len() - content.len());
                self.held = content;
            }
        }
        Heard::Text(text)
    }

    /// What is held, when nothing follows that could complete it.
    pub(super) fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text until the end or the failure, and what the failure says.
    fn hear(pieces: &[&str]) -> (String, Option<String>) {
        let mut marker = Marker::default();
        let mut heard = String::new();
        for piece in pieces {
            match marker.hear((*piece).to_owned()) {
                Heard::Text(text) => heard.push_str(&text),
                Heard::Failure(told) => return (heard, Some(told)),
            }
        }
        heard.push_str(&marker.rest());
        (heard, None)
    }

    #[test]
    fn a_failure_is_found_however_it_is_cut() {
        let failure = Some(" X: 1".to_owned());
        assert_eq!(hear(&["[provider-error] X: 1"]), (String::new(), failure.clone()));
        assert_eq!(hear(&["Half ", "[provider-error] X: 1"]), ("Half ".into(), failure.clone()));
        for cut in 1..MARKER.len() {
            let (start, rest) = MARKER.split_at(cut);
            let rest = format!("{rest} X: 1");
            assert_eq!(hear(&[start, "", &rest]), (String::new(), failure.clone()), "{cut}");
            assert_eq!(hear(&["Half ", start, &rest]), ("Half ".into(), failure.clone()), "{cut}");
        }
        let letters: Vec<String> = "[provider-error]".chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(hear(&letters), (String::new(), Some(String::new())));
        assert_eq!(hear(&["[", "[provider-error] X: 1"]), (String::new(), failure));
    }

    #[test]
    fn all_other_text_stays_whole() {
        for pieces in [
            &["[", "1] first"][..],
            &["[provider", "s] are"],
            &["see [provider-error]"],
            &["[provider-error"],
            &["[", "[", "["],
            &["", "a", ""],
            &["[Provider-Error] x"],
        ] {
            assert_eq!(hear(pieces), (pieces.concat(), None), "{pieces:?}");
        }
    }
}
