//! How much of everything a namespace may have.
//!
//! Owns the words and how two sets of them are combined. Never counts: whoever does asks here what the limit is. Pure:
//! nothing here fails.

use serde::{Deserialize, Serialize};

/// How much a namespace may have. What is left out is not said here: in a namespace's own quotas the server's default
/// is meant, and in the server's default no limit. A word that is not known (from a newer server) is passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// Rooms, those that have ended included: their logs are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<u64>,
    /// Memberships: a member of three rooms counts three, also where these have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<u64>,
    /// Bytes of its rooms' logs, as the store counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
    /// Answers of LLMs that are written or wait for their turn, on one server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
    /// Streams that have joined, on one server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u64>,
}

impl Quotas {
    /// These, and what they do not say from `defaults`.
    #[must_use]
    pub fn or(self, defaults: Self) -> Self {
        Self {
            rooms: self.rooms.or(defaults.rooms),
            members: self.members.or(defaults.members),
            stored_bytes: self.stored_bytes.or(defaults.stored_bytes),
            runs: self.runs.or(defaults.runs),
            streams: self.streams.or(defaults.streams),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_the_default() {
        let own = Quotas { rooms: Some(0), runs: Some(9), ..Quotas::default() };
        let (members, stored_bytes) = (Some(6), Some(7));
        let defaults = Quotas { rooms: Some(5), members, stored_bytes, runs: None, streams: None };
        let both = Quotas { rooms: Some(0), members, stored_bytes, runs: Some(9), streams: None };
        assert_eq!(own.or(defaults), both);
    }

    #[test]
    fn documents_of_older_and_newer_servers_are_read() {
        let quotas: Quotas = serde_json::from_str(r#"{"rooms": 3, "planets": 9}"#).unwrap();
        assert_eq!(quotas, Quotas { rooms: Some(3), ..Quotas::default() });
        assert_eq!(serde_json::to_string(&quotas).unwrap(), r#"{"rooms":3}"#);
        assert_eq!(serde_json::from_str::<Quotas>("{}").unwrap(), Quotas::default());
    }
}
