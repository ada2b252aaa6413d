//! Colours, or none. Pure.
//!
//! Colours never carry meaning alone: everything can be read without them, as `NO_COLOR` and pipes do.

use owo_colors::{OwoColorize, XtermColors};

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set or the terminal is a dumb one.
    #[default]
    Auto,
    /// Always, whatever the environment says.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    /// Whether to use colours, asking the environment through `variable`.
    pub fn resolve(self, terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                terminal
                    && variable("NO_COLOR").is_none_or(|value| value.is_empty())
                    && variable("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// How lines are painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether there are colours at all.
    pub color: bool,
}

/// Colours of the 256 that can be told apart and read on black and on white.
const PALETTE: [u8; 12] = [33, 35, 70, 98, 130, 133, 161, 166, 172, 63, 37, 168];

impl Style {
    /// A participant's name in the colour of its id, the same in every session.
    pub fn name(self, id: &str, name: &str) -> String {
        if !self.color {
            return name.to_owned();
        }
        let color = PALETTE.iter().cycle().nth(usize::from(hash(id))).copied().unwrap_or(33);
        name.color(XtermColors::from(color)).bold().to_string()
    }

    /// What matters less: stamps, numbers, comings and goings.
    pub fn dim(self, text: &str) -> String {
        if self.color { text.dimmed().to_string() } else { text.to_owned() }
    }

    /// What went wrong.
    pub fn wrong(self, text: &str) -> String {
        if self.color { text.red().to_string() } else { text.to_owned() }
    }
}

/// FNV-1a, folded to one byte: stable over versions and machines, unlike the standard library's hasher.
fn hash(id: &str) -> u8 {
    let hash =
        id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.to_le_bytes().into_iter().fold(0, |folded, byte| folded ^ byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_obey_the_choice_then_the_environment() {
        let none = |_: &str| None;
        let no_color = |name: &str| (name == "NO_COLOR").then(|| "1".to_owned());
        let empty = |name: &str| (name == "NO_COLOR").then(String::new);
        let dumb = |name: &str| (name == "TERM").then(|| "dumb".to_owned());
        assert!(ColorChoice::Auto.resolve(true, none));
        assert!(ColorChoice::Auto.resolve(true, empty));
        assert!(!ColorChoice::Auto.resolve(false, none));
        assert!(!ColorChoice::Auto.resolve(true, no_color));
        assert!(!ColorChoice::Auto.resolve(true, dumb));
        assert!(ColorChoice::Always.resolve(false, no_color));
        assert!(!ColorChoice::Never.resolve(true, none));
    }

    #[test]
    fn a_colour_belongs_to_the_id_and_not_to_the_name() {
        let style = Style { color: true };
        let color = |id: &str, name: &str| style.name(id, name).replace(name, "");
        assert_eq!(color("ann", "Ann"), color("ann", "Anna"));
        let colors: std::collections::HashSet<String> =
            (0..100).map(|user| color(&format!("user-{user}"), "x")).collect();
        assert_eq!(colors.len(), PALETTE.len(), "every colour is used");
        assert_eq!(Style { color: false }.name("ann", "Ann"), "Ann");
    }
}
