//! Foreign words, before anybody reads them: cleaned, cut, and without our own secrets.

use secrecy::{ExposeSecret as _, SecretString};

use crate::ids::is_disturbing;

/// What stands where a secret was.
const HIDDEN: &str = "***";
/// Shorter values (`1`, `on`) are no secrets, and hiding them would spoil every text.
const SECRET_CHARS_MIN: usize = 6;

/// The secrets that a server was given, which nothing it says may repeat.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets(Vec<SecretString>);

impl Secrets {
    pub(super) fn new(secrets: Vec<SecretString>) -> Self {
        let mut secrets = secrets;
        // `Bearer x` is written as a whole, and servers repeat the token alone.
        let tokens: Vec<SecretString> = secrets
            .iter()
            .filter_map(|secret| secret.expose_secret().rsplit_once(' '))
            .map(|(_, token)| SecretString::from(token))
            .collect();
        secrets.extend(tokens);
        secrets.retain(|secret| secret.expose_secret().chars().count() >= SECRET_CHARS_MIN);
        // The longer first, so that no rest of it remains when another is a part of it.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
        Self(secrets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `text` without them.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.expose_secret()) {
                text = text.replace(secret.expose_secret(), HIDDEN);
            }
        }
        text
    }

    /// One line of at most `max` characters.
    pub(super) fn line(&self, text: &str, max: usize) -> String {
        line(&self.hide(text), max)
    }
}

/// One line of at most `max` characters, and a mark if there was more.
pub(super) fn line(text: &str, max: usize) -> String {
    let mut words =
        text.split(|c: char| c.is_whitespace() || is_disturbing(c)).filter(|word| !word.is_empty());
    let mut line = String::new();
    let mut chars = 0;
    for word in words.by_ref() {
        for c in (chars > 0).then_some(' ').into_iter().chain(word.chars()) {
            if chars == max {
                line.push('…');
                return line;
            }
            line.push(c);
            chars += 1;
        }
    }
    line
}

/// A text of several lines, without what could disturb its reader.
pub(super) fn text(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !is_disturbing(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_breaks_and_an_end() {
        assert_eq!(line(" a\r\n\u{1b}[1mb\t\u{202e}c ", 100), "a [1mb c");
        assert_eq!(line("abcdef", 6), "abcdef");
        assert_eq!(line("abcdefg", 6), "abcdef…");
        assert_eq!(line("ab cd", 3), "ab …");
        assert_eq!(text("a\r\n\tb\u{0}c\u{200b}"), "a\n\tbc");
    }

    #[test]
    fn secrets_are_not_repeated() {
        let secrets =
            Secrets::new(["Bearer tok-12345", "tok-12345-long", "short"].map(SecretString::from).into());
        assert_eq!(secrets.hide("got Bearer tok-12345"), "got ***");
        assert_eq!(secrets.hide("got tok-12345-long and tok-12345 short"), "got *** and *** short");
        assert_eq!(secrets.line("x\ntok-12345", 100), "x ***");
        assert!(!format!("{secrets:?}").contains("tok-"));
    }
}
