//! Why a hint of another node is not taken.

use thiserror::Error;

use crate::ids::IdError;

/// Why bytes from a bus were not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HintError {
    /// They are not of a node of this kind.
    #[error("it is no message of a Salon")]
    Foreign,
    /// They are of a node that speaks another version.
    #[error("it has the version {0}, and this server speaks version 1")]
    Version(u8),
    /// Larger than any node sends.
    #[error("it has {0} bytes")]
    TooLarge(usize),
    /// They are damaged, or somebody else made them.
    #[error("it cannot be read: {0}")]
    Malformed(&'static str),
}

/// Reads an id.
pub(super) fn id<T: std::str::FromStr<Err = IdError>>(text: &str) -> Result<T, HintError> {
    text.parse().map_err(|_| HintError::Malformed("an id"))
}
