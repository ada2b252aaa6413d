//! Text from the network, made safe for a terminal and for a reader.
//!
//! Owns the removal of terminal escapes and control characters and the showing of marks that reorder or hide text.
//! Everything a server sends passes through here before it is printed; nothing that cleans ever fails.

use unicode_width::UnicodeWidthStr as _;

use crate::ids::is_disturbing;

/// Cleans a text that arrives in pieces: an escape sequence may be cut in two between them.
#[derive(Debug, Default)]
pub struct Cleaner {
    state: State,
}

/// Where in an escape sequence the text is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// Within a control sequence (ESC [), up to its final byte.
    Control,
    /// Within a string (a title, a link, an image), up to its terminator.
    String,
    /// Within a string, behind ESC.
    StringEscape,
}

impl Cleaner {
    /// The printable part of the next piece. Line feeds are kept.
    pub fn push(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len());
        for c in piece.chars() {
            self.step(c, &mut out);
        }
        out
    }

    fn step(&mut self, c: char, out: &mut String) {
        // No sequence survives a line: an unterminated one would swallow the rest of the conversation.
        if c == '\n' {
            self.state = State::Text;
            out.push('\n');
            return;
        }
        self.state = match self.state {
            State::Text => return self.text(c, out),
            State::Escape => match c {
                '[' => State::Control,
                ']' | 'P' | 'X' | '^' | '_' => State::String,
                ' '..='/' | '\u{1b}' => State::Escape,
                _ => State::Text,
            },
            State::Control if ('@'..='~').contains(&c) => State::Text,
            State::Control if c == '\u{1b}' => State::Escape,
            State::Control => State::Control,
            State::String | State::StringEscape if matches!(c, '\u{7}' | '\u{9c}') => State::Text,
            State::StringEscape if c == '\\' => State::Text,
            State::String | State::StringEscape if c == '\u{1b}' => State::StringEscape,
            State::String | State::StringEscape => State::String,
        };
    }

    fn text(&mut self, c: char, out: &mut String) {
        match c {
            '\u{1b}' => self.state = State::Escape,
            '\u{9b}' => self.state = State::Control,
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => self.state = State::String,
            '\t' => out.push_str("    "),
            c if c.is_control() => {}
            // They join emoji and letters of many scripts, and neither move nor hide anything.
            '\u{200c}' | '\u{200d}' => out.push(c),
            c if is_disturbing(c) => out.push_str(&format!("<U+{:04X}>", u32::from(c))),
            c => out.push(c),
        }
    }
}

/// A text of several lines, made safe.
pub fn lines(text: &str) -> String {
    Cleaner::default().push(text)
}

/// A name or another short text on one line, made safe.
pub fn line(text: &str) -> String {
    lines(text).replace('\n', " ")
}

/// The beginning of a text, on one line and at most `max` characters long.
pub fn excerpt(text: &str, max: usize) -> String {
    let clean = line(text);
    match clean.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", clean.get(..at).unwrap_or_default().trim_end()),
        None => clean,
    }
}

/// Writes rows whose cells stand below one another, in any script.
pub fn columns<const N: usize>(rows: &[[String; N]], out: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.width())))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_controls_are_removed_and_the_text_around_them_stays() {
        for (given, clean) in [
            ("plain ünï 🦊", "plain ünï 🦊"),
            ("a\u{1b}[31;1mred\u{1b}[0mb", "aredb"),
            ("a\u{1b}]0;title\u{7}b", "ab"),
            ("a\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\b", "alinkb"),
            ("a\u{9b}2Jb", "ab"),
            ("a\u{1b}(Bb\u{1b}cd", "abd"),
            ("a\u{1b}P1$r\u{1b}\u{1b}\\b", "ab"),
            ("over\rwrite\u{8}\u{7}\u{0}", "overwrite"),
            ("a\tb", "a    b"),
        ] {
            assert_eq!(lines(given), clean, "{given:?}");
        }
    }

    #[test]
    fn marks_that_reorder_or_hide_text_are_shown() {
        assert_eq!(lines("a\u{202e}b\u{2066}c\u{feff}"), "a<U+202E>b<U+2066>c<U+FEFF>");
        assert_eq!(lines("👩\u{200d}🚀"), "👩\u{200d}🚀");
    }

    #[test]
    fn a_sequence_cut_in_two_is_still_removed() {
        let mut cleaner = Cleaner::default();
        let text: String =
            ["a\u{1b}", "[3", "1mb\u{1b}]0;ti", "tle\u{1b}", "\\c"].map(|p| cleaner.push(p)).concat();
        assert_eq!(text, "abc");
    }

    #[test]
    fn an_unterminated_sequence_ends_with_its_line() {
        assert_eq!(lines("a\u{1b}]0;never ends\nb"), "a\nb");
    }

    #[test]
    fn every_split_of_a_text_cleans_to_the_same() {
        let text = "x\u{1b}[1;2Hy\u{1b}]52;c;ZXZpbA==\u{7}z\u{202e}\u{9b}31mw\nend";
        let whole = lines(text);
        for (at, _) in text.char_indices() {
            let mut cleaner = Cleaner::default();
            let (left, right) = text.split_at(at);
            assert_eq!(cleaner.push(left) + &cleaner.push(right), whole, "split at {at}");
        }
        assert_eq!(whole, "xyz<U+202E>w\nend");
    }

    #[test]
    fn a_short_text_stays_on_one_line_and_is_cut_between_characters() {
        assert_eq!(line("a\nb"), "a b");
        assert_eq!(excerpt("äöüß", 4), "äöüß");
        assert_eq!(excerpt("äöü ßx", 4), "äöü…");
    }
}
