//! A text as mentions compare it: letter case, width and the choice of separator taken away.
//!
//! Works one character at a time and gives at most one character for each, so that a position in the folded text
//! is a position in the text.

/// The folded characters of a text.
#[derive(Debug, Clone)]
pub(super) struct Folded<'a> {
    rest: &'a str,
}

impl<'a> Folded<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }
}

impl Iterator for Folded<'_> {
    type Item = char;

    /// The next character; a run of separators is one space.
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        if is_separator(c) {
            self.rest = self.rest.trim_start_matches(is_separator);
            return Some(' ');
        }
        let folded = fold(c);
        self.rest = chars.as_str().trim_start_matches(|c| is_ignored_after(folded, c));
        Some(folded)
    }
}

/// What may stand between the words of a name.
pub(super) fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '_' | '＿')
}

fn fold(c: char) -> char {
    let c = match c {
        // What an East Asian keyboard makes of ASCII.
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
        _ => c,
    };
    // `İ` is the only character with two lowercase ones, `i` and a combining dot: the dot is ignored below.
    match c.to_lowercase().next().unwrap_or(c) {
        // One letter, written in another way at the end of a word.
        'ς' => 'σ',
        lower => lower,
    }
}

/// Marks that change how a character is drawn and not which it is, and the dot of a lowercased `İ`.
fn is_ignored_after(folded: char, c: char) -> bool {
    matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}') || (folded == 'i' && c == '\u{307}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_character_gives_one_at_most() {
        // The claim that `fold` rests on, over all of Unicode.
        let longer: Vec<char> = (char::MIN..=char::MAX).filter(|c| c.to_lowercase().count() > 1).collect();
        assert_eq!(longer, ['İ']);
    }

    #[test]
    fn letter_case_width_and_separators_do_not_count() {
        let fold = |text: &str| Folded::new(text).collect::<String>();
        for (text, folded) in [
            ("Ada_Lovelace", "ada lovelace"),
            ("Ada  _\u{3000}Lovelace", "ada lovelace"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
            ("Οδυσσεύς", "οδυσσεύσ"),
            ("İNCİ", "inci"),
            ("i\u{307}nci", "inci"),
            ("STRAẞE", "straße"),
            ("ＧＰＴ－４", "gpt-4"),
            ("❤\u{FE0F}", "❤"),
        ] {
            assert_eq!(fold(text), folded, "{text:?}");
            assert_eq!(fold(folded), folded, "folding twice changes {folded:?}");
        }
    }
}
