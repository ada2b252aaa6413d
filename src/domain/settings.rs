//! How the LLMs of a room behave: chosen by its ADMINs, part of its profile.

use crate::domain::{
    limits::{TOOL_PATTERN_CHARS, TOOL_PATTERNS, check_name},
    rejection::Rejection,
};

/// What happens when somebody asks while answers are being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TurnPolicy {
    /// Answers are written side by side.
    #[default]
    Parallel,
    /// One after the other, in the order in which they were called.
    Sequential,
    /// A new question of a person interrupts the answers to older ones.
    LatestWins,
}

/// Whom LLMs answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResponsePolicy {
    /// People, and LLMs that mention them.
    #[default]
    AgentChain,
    /// People only.
    AddressedOnly,
}

/// How the LLMs of a room behave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// What happens when somebody asks while answers are being written.
    pub turns: TurnPolicy,
    /// Whom LLMs answer.
    pub responses: ResponsePolicy,
    /// Tools from outside that LLMs of this room may call at most, as patterns.
    pub allowed_tools: Vec<String>,
}

/// What of [`Settings`] a command changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettingsPatch {
    /// See [`Settings::turns`].
    pub turns: Option<TurnPolicy>,
    /// See [`Settings::responses`].
    pub responses: Option<ResponsePolicy>,
    /// See [`Settings::allowed_tools`].
    pub allowed_tools: Option<Vec<String>>,
}

impl Settings {
    /// These settings with the changes of `patch`.
    pub fn patched(&self, patch: SettingsPatch) -> Self {
        Self {
            turns: patch.turns.unwrap_or(self.turns),
            responses: patch.responses.unwrap_or(self.responses),
            allowed_tools: patch.allowed_tools.unwrap_or_else(|| self.allowed_tools.clone()),
        }
    }
}

/// Whether one of `patterns` names this tool: as it is, by its beginning (`server__*`), or as one of all (`*`).
pub fn names_tool(patterns: &[String], tool: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => tool.starts_with(beginning),
        None => pattern == tool,
    })
}

/// Refuses lists that are too long, and patterns that can name no tool.
pub(super) fn check_patterns(field: &'static str, patterns: &[String]) -> Result<(), Rejection> {
    let len = patterns.len();
    if len > TOOL_PATTERNS {
        return Err(Rejection::field(
            field,
            format_args!("must have at most {TOOL_PATTERNS} entries, has {len}"),
        ));
    }
    for pattern in patterns {
        check_name(field, pattern, TOOL_PATTERN_CHARS)?;
        let name = pattern.strip_suffix('*').unwrap_or(pattern);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if pattern.is_empty() || !name.chars().all(allowed) {
            let problem = format_args!(
                "must have letters, digits, '_' and '-', and perhaps a '*' at the end: {pattern:?}"
            );
            return Err(Rejection::field(field, problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_one_tool_or_those_with_its_beginning() {
        let patterns = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(names_tool(&patterns(&["*"]), "any__thing"));
        assert!(names_tool(&patterns(&["files__*"]), "files__read"));
        assert!(!names_tool(&patterns(&["files__*"]), "mail__read"));
        assert!(names_tool(&patterns(&["a__b", "c__d"]), "c__d"));
        assert!(!names_tool(&patterns(&["c__d"]), "c__de"));
        assert!(!names_tool(&[], "c__d"));
    }

    #[test]
    fn what_can_name_no_tool_is_refused() {
        for bad in ["", "a b", "a*b", "ü", "**", &"a".repeat(129)] {
            assert!(check_patterns("f", &[bad.to_owned()]).is_err(), "{bad:?}");
        }
        assert!(check_patterns("f", &["*".into(), "a__*".into(), "a__b-c".into()]).is_ok());
        assert!(check_patterns("f", &vec!["*".to_owned(); 65]).is_err());
    }
}
