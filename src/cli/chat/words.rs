//! What commands are made of: words, numbers on the screen, and the rest of a line. Pure.

/// The rest of a line, if there is any.
pub(super) fn text(rest: &str) -> Option<String> {
    (!rest.is_empty()).then(|| rest.to_owned())
}

/// A number as it stands on the screen: from 1, with or without its `#`.
pub(super) fn number(word: &str) -> Option<usize> {
    word.trim_start_matches('#').parse().ok().filter(|number| *number > 0)
}

/// The first word, and what follows it.
pub(super) fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}
