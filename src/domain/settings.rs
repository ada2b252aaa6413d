//! How the LLMs of a room behave, and who may come and do what: chosen by its ADMINs, part of its profile.

use std::time::Duration;

use crate::domain::{
    limits::{SLOW_MODE, TOOL_PATTERN_CHARS, TOOL_PATTERNS, check_name},
    permissions::{Action, Least, Overrides},
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

/// Who may become a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinRule {
    /// Whoever knows the room's id.
    Open,
    /// Whoever has an invitation, and the room's creator.
    Invited,
}

/// How the LLMs of a room behave, and who may come and do what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// What happens when somebody asks while answers are being written.
    pub turns: TurnPolicy,
    /// Whom LLMs answer.
    pub responses: ResponsePolicy,
    /// Tools from outside that LLMs of this room may call at most, as patterns.
    pub allowed_tools: Vec<String>,
    /// Who may do what, where it is not the usual.
    pub permissions: Overrides,
    /// Who may become a member; `None`: as is usual on this server.
    pub join_rule: Option<JoinRule>,
    /// The least time between two messages of one member who is no ADMIN; zero: any.
    pub slow_mode: Duration,
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
    /// See [`Settings::permissions`]; `None` for an action: the usual again.
    pub permissions: Vec<(Action, Option<Least>)>,
    /// See [`Settings::join_rule`].
    pub join_rule: Option<JoinRule>,
    /// See [`Settings::slow_mode`].
    pub slow_mode: Option<Duration>,
}

impl SettingsPatch {
    /// Whether it changes who may come and do what: that is for ADMINs only.
    pub fn is_about_rights(&self) -> bool {
        !self.permissions.is_empty() || self.join_rule.is_some() || self.slow_mode.is_some()
    }
}

impl Settings {
    /// These settings with the changes of `patch`.
    pub fn patched(&self, patch: SettingsPatch) -> Self {
        let mut permissions = self.permissions.clone();
        for (action, least) in patch.permissions {
            permissions.set(action, least);
        }
        Self {
            permissions,
            join_rule: patch.join_rule.or(self.join_rule),
            slow_mode: patch.slow_mode.unwrap_or(self.slow_mode),
            turns: patch.turns.unwrap_or(self.turns),
            responses: patch.responses.unwrap_or(self.responses),
            allowed_tools: patch.allowed_tools.unwrap_or_else(|| self.allowed_tools.clone()),
        }
    }
}

/// Refuses settings that no room may have.
pub(super) fn check(settings: &Settings) -> Result<(), Rejection> {
    check_patterns("settings.allowed_tools", &settings.allowed_tools)?;
    settings.permissions.check()?;
    if settings.slow_mode > SLOW_MODE {
        let (max, ms) = (SLOW_MODE.as_millis(), settings.slow_mode.as_millis());
        return Err(Rejection::field(
            "settings.slow_mode_ms",
            format_args!("must be at most {max}, is {ms}"),
        ));
    }
    Ok(())
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
