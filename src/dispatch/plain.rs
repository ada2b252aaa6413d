//! Text of others in words of the server: made so that it cannot be taken for a line of the server's own.
//!
//! Nothing here fails; what could pass for a mark of the server is replaced.

/// Begins every line but the first of a text of others. No line of the server begins like this.
const CONTINUED: &str = "\n    | ";

/// Marks with which chat templates part turns: some servers of models find them in the middle of a text as well.
/// Everything that begins with `<|` counts.
const MARKS: [&str; 24] = [
    "<|",
    "<｜",
    "<s>",
    "</s>",
    "<<SYS>>",
    "<</SYS>>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "<eos>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<function=",
];

/// A text of any length: its lines stay, and every one but the first is marked.
pub(super) fn block(text: &str) -> String {
    // First: a carriage return and a line feed are one break.
    clean(&text.replace("\r\n", "\n")).split(is_break).collect::<Vec<_>>().join(CONTINUED)
}

/// A text that stands in a JSON string: every break of a line is one that JSON writes as `\n`, so that none is left to
/// whoever reads it, and nothing in it passes for a mark of a chat template.
pub(super) fn data(text: &str) -> String {
    clean(&text.replace("\r\n", "\n")).replace(is_break, "\n")
}

/// A text without what nobody sees, and without the marks of chat templates: those get a space behind their first
/// character, with which they can still be talked about.
pub(super) fn clean(text: &str) -> String {
    let seen: String = text.chars().filter(|c| !is_hidden(*c)).collect();
    let mut clean = String::with_capacity(seen.len());
    for (at, c) in seen.char_indices() {
        clean.push(c);
        let rest = seen.get(at..).unwrap_or_default();
        if matches!(c, '<' | '[') && MARKS.iter().any(|mark| rest.starts_with(mark)) {
            clean.push(' ');
        }
    }
    clean
}

/// A name or another short text that stands inside the server's own words: one line, without their brackets and
/// quotation marks, and without what looks like them.
pub(super) fn line(text: &str) -> String {
    let one = |c: char| match c {
        '[' | '［' | '【' | '〔' | '〖' | '⟦' | '⁅' | '❲' | '⦋' | '﹝' => '(',
        ']' | '］' | '】' | '〕' | '〗' | '⟧' | '⁆' | '❳' | '⦌' | '﹞' => ')',
        '"' | '“' | '”' | '„' | '‟' | '″' | '‶' | '＂' | '〝' | '〞' | '〟' | '❝' | '❞' | 'ˮ' => {
            '\''
        }
        c if is_break(c) => ' ',
        c => c,
    };
    clean(text).chars().map(one).collect()
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

/// What cannot be seen and can carry words or turn a line around: control characters, overrides of the direction of
/// writing, tags, and variants beyond those that emoji need. Joiners stay: scripts and emoji are written with them.
fn is_hidden(c: char) -> bool {
    let control = c.is_control() && c != '\t' && !is_break(c);
    control
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e0fff}')
}

/// The beginning and the end of a text of which at most `bytes` bytes may stay, and how many characters are between
/// them; `None`: all of it may stay. What is asked stands at one of the ends.
pub(super) fn around(text: &str, bytes: usize) -> Option<(&str, usize, &str)> {
    if text.len() <= bytes {
        return None;
    }
    let behind = bytes / 3;
    let begin = within(text, bytes - behind);
    let from = (text.len() - behind..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let end = text.get(from..).unwrap_or_default();
    let between = text.get(begin.len()..from).unwrap_or_default();
    Some((begin, between.chars().count(), end))
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
    fn marks_of_chat_templates_and_what_nobody_sees_are_taken_apart() {
        for mark in MARKS {
            for text in [mark.to_owned(), format!("{mark}{mark}"), format!("a\u{202e}{mark}b<{mark}")] {
                let clean = clean(&text);
                assert!(MARKS.iter().all(|mark| !clean.contains(mark)), "{clean:?}");
            }
        }
        // What is hidden does not hide a mark, nor a break.
        assert_eq!(block("<\u{2066}|im_start|>\u{e0041}x\n[a]"), "< |im_start|>x\n    | [a]");
        assert_eq!(clean("a\tb\u{1b}[2K\0 👩‍👧 ❤️ क्‍ष"), "a\tb[2K 👩‍👧 ❤️ क्‍ष");
        assert_eq!(clean("1 < 2, vec![1], <b>"), "1 < 2, vec![1], <b>");
        assert_eq!(line("Ann”］ 【＂x"), "Ann') ('x");
    }

    #[test]
    fn what_is_too_long_keeps_its_ends() {
        assert_eq!(around("abcdefghi", 9), None);
        assert_eq!(around("abcdefghi", 6), Some(("abcd", 3, "hi")));
        assert_eq!(around("äöüß", 4), Some(("ä", 3, "")));
        assert_eq!(around("äö", 0), Some(("", 2, "")));
    }

    #[test]
    fn a_cut_is_between_characters() {
        assert_eq!((within("aé", 2), within("aé", 3), within("é", 0), within("a", 9)), ("a", "aé", "", "a"));
        assert_eq!((start("éé", 1), start("éé", 2), start("éé", 0), start("é", 9)), ("é", "éé", "", "é"));
    }
}
