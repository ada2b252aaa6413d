//! How messages that models are not given any more are summarised.

use serde::{Deserialize, Serialize};

use super::units;

/// The rolling summary of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Summary {
    /// The model that writes it; none: the default provider's own default.
    pub model: Option<String>,
    /// How many messages must have been left out since the last one; 0: none is ever written.
    #[serde(deserialize_with = "units::whole")]
    pub after: u32,
    /// The longest summary in tokens.
    #[serde(deserialize_with = "units::whole")]
    pub max_tokens: u32,
}

impl Default for Summary {
    fn default() -> Self {
        Self { model: None, after: 20, max_tokens: 500 }
    }
}
