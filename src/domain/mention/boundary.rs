//! Where a mention may begin and where a name may end.
//!
//! On the left, `@` stands at the beginning or behind something that is not part of an address: no letter, digit,
//! `_`, `.`, `-`, `+` or other `@`. On the right, a name does not go on: no letter, digit, combining mark or `_`
//! follows, and no `-` or `.` with a letter or digit behind it.
//!
//! Many scripts put no space between words, and Korean writes its particles onto the name. A letter of such a
//! script therefore neither glues an `@` that follows it nor continues a name that it follows, and a name that
//! ends in one is not continued by a letter of any script: `你好@小明你好` and `@claudeさん` call. Katakana behind
//! Katakana is the exception, because a run of it is one word. What this costs: without an LLM of that name,
//! `@小明明` calls `小明`; with one, the longest match decides.

/// Whether `c` begins a mention.
pub(super) fn is_at(c: char) -> bool {
    matches!(c, '@' | '＠')
}

/// Whether an `@` behind this character belongs to something else, such as an address.
pub(super) fn is_glued(before: Option<char>) -> bool {
    match before {
        None => false,
        Some('_' | '＿' | '.' | '-' | '+') => true,
        Some(c) if is_at(c) => true,
        Some(c) if is_unspaced(c) => c.is_numeric(),
        Some(c) => c.is_alphanumeric() || is_mark(c),
    }
}

/// Whether a name that ends in `last` goes on in `rest`.
pub(super) fn continues(last: char, rest: &str) -> bool {
    let mut chars = rest.chars();
    match chars.next() {
        None => false,
        Some('_' | '＿') => true,
        Some('-' | '.') => chars.next().is_some_and(char::is_alphanumeric),
        // An invisible joiner ties the name to what follows, if anything does.
        Some('\u{200C}' | '\u{200D}') => chars.next().is_some_and(|c| !c.is_whitespace()),
        Some(c) if is_mark(c) || c.is_numeric() => true,
        Some(c) if !c.is_alphabetic() => false,
        Some(c) if is_katakana(last) && is_katakana(c) => true,
        Some(c) => !is_unspaced(last) && !is_unspaced(c),
    }
}

/// Whether `c` is of a script whose words touch one another, or touch what is written onto a name.
fn is_unspaced(c: char) -> bool {
    matches!(
        c,
        '\u{0E00}'..='\u{0FFF}'       // Thai, Lao, Tibetan
            | '\u{1000}'..='\u{109F}' // Myanmar
            | '\u{1100}'..='\u{11FF}' // Hangul, by the letter
            | '\u{1780}'..='\u{17FF}' // Khmer
            | '\u{1950}'..='\u{19DF}' // Tai Le, New Tai Lue
            | '\u{1A20}'..='\u{1AAF}' // Tai Tham
            | '\u{2E80}'..='\u{2FDF}' // parts of Han characters
            | '\u{3005}'..='\u{3007}'
            | '\u{3040}'..='\u{31FF}' // Hiragana, Katakana, Bopomofo, Hangul for compatibility
            | '\u{3400}'..='\u{4DBF}' // Han
            | '\u{4E00}'..='\u{9FFF}'
            | '\u{A960}'..='\u{A97F}' // Hangul
            | '\u{A980}'..='\u{A9DF}' // Javanese
            | '\u{AC00}'..='\u{D7FF}' // Hangul
            | '\u{F900}'..='\u{FAFF}' // Han
            | '\u{FF66}'..='\u{FFDC}' // narrow Katakana and Hangul
            | '\u{1AFF0}'..='\u{1B16F}' // rare Kana
            | '\u{20000}'..='\u{3FFFF}' // rare Han
    )
}

fn is_katakana(c: char) -> bool {
    matches!(c, '\u{30A1}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{FF66}'..='\u{FF9F}')
}

/// Whether `c` changes the character before it, so that a name in front of it is cut short.
///
/// The standard library has no such class. These are the marks in use that are not letters to it, and those of
/// unspaced scripts; vowel signs of other scripts count as letters already.
fn is_mark(c: char) -> bool {
    matches!(
        c,
        '\u{0300}'..='\u{036F}' | '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20FF}'
            | '\u{FE20}'..='\u{FE2F}'
            | '\u{0483}'..='\u{0489}' // Cyrillic
            | '\u{0591}'..='\u{05BD}' | '\u{05BF}' | '\u{05C1}'..='\u{05C2}' | '\u{05C4}'..='\u{05C5}' // Hebrew
            | '\u{0610}'..='\u{061A}' | '\u{064B}'..='\u{065F}' | '\u{0670}' | '\u{06D6}'..='\u{06DC}' // Arabic
            | '\u{093C}' | '\u{094D}' | '\u{09BC}' | '\u{09CD}' | '\u{0A3C}' | '\u{0A4D}' | '\u{0ABC}' // Indic
            | '\u{0ACD}' | '\u{0B3C}' | '\u{0B4D}' | '\u{0BCD}' | '\u{0C4D}' | '\u{0CBC}' | '\u{0CCD}'
            | '\u{0D4D}' | '\u{0DCA}'
            | '\u{0E31}' | '\u{0E34}'..='\u{0E3A}' | '\u{0E47}'..='\u{0E4E}' // Thai
            | '\u{0EB1}' | '\u{0EB4}'..='\u{0EBC}' | '\u{0EC8}'..='\u{0ECE}' // Lao
            | '\u{0F71}'..='\u{0F84}' | '\u{102B}'..='\u{103E}' | '\u{17B4}'..='\u{17D3}' // Tibetan to Khmer
            | '\u{302A}'..='\u{302F}' | '\u{3099}'..='\u{309A}' // Han, Kana
            | '\u{1F3FB}'..='\u{1F3FF}' // the skin of an emoji
    )
}
