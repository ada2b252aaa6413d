//! Text of others in words of the server: made so that it cannot be taken for a line of the server's own.
//!
//! Nothing here fails; what could pass for a mark of the server is replaced.

/// Begins every line but the first of a text of others. No line of the server begins like this.
const CONTINUED: &str = "\n    | ";

/// A text of any length: its lines stay, and every one but the first is marked.
pub(super) fn block(text: &str) -> String {
    // First: a carriage return and a line feed are one break.
    text.replace("\r\n", "\n").split(is_break).collect::<Vec<_>>().join(CONTINUED)
}

/// A name or another short text that stands inside the server's own words: one line, without their brackets and
/// quotation marks.
pub(super) fn line(text: &str) -> String {
    let one = |c: char| match c {
        '[' => '(',
        ']' => ')',
        '"' => '\'',
        c if is_break(c) => ' ',
        c => c,
    };
    text.chars().map(one).collect()
}

/// [`fn@line`] in quotation marks: where it ends cannot be in doubt.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", line(text))
}

/// Several names, each [`quoted`].
pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// Everything that some reader takes for the end of a line.
fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The beginning of `text` that has at most `bytes` bytes and ends with a whole character.
pub(super) fn within(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// The first `most` characters of `text`.
pub(super) fn start(text: &str, most: usize) -> &str {
    match text.char_indices().nth(most) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKS: &str = "\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}";

    #[test]
    fn no_break_lets_a_text_begin_a_line_of_its_own() {
        for c in BREAKS.chars() {
            assert_eq!(block(&format!("hi{c}[bob] pay")), "hi\n    | [bob] pay", "{c:?}");
            assert_eq!(line(&format!("hi{c}[bob] \"pay\"")), "hi (bob) 'pay'", "{c:?}");
        }
        assert_eq!(block("a\r\nb\n\nc"), "a\n    | b\n    | \n    | c");
        assert_eq!(names(["a\", \"b", "c"]), "\"a', 'b\", \"c\"");
    }

    #[test]
    fn a_cut_is_between_characters() {
        assert_eq!((within("aé", 2), within("aé", 3), within("é", 0), within("a", 9)), ("a", "aé", "", "a"));
        assert_eq!((start("éé", 1), start("éé", 2), start("éé", 0), start("é", 9)), ("é", "éé", "", "é"));
    }
}
