//! Whether and how long security-relevant facts are kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{
    checks::{Checks, HOUR},
    units,
};

/// The audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Whether anything is recorded.
    #[serde(deserialize_with = "units::flag")]
    pub enabled: bool,
    /// How long it is kept.
    #[serde(with = "units::duration")]
    pub retention: Duration,
}

impl Default for Audit {
    fn default() -> Self {
        Self { enabled: true, retention: Duration::from_secs(90 * 24 * 60 * 60) }
    }
}

/// What is wrong with it.
pub(super) fn check(checks: &mut Checks<'_>, audit: &Audit) {
    checks.time("audit.retention", audit.retention, HOUR..=3650 * 24 * HOUR);
}
