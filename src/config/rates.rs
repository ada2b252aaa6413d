//! The sections about rates and quotas: how often something may be done, and how much a namespace may have.
//!
//! Owns names, defaults, bounds and how rates are written; the reasons are in `config.yaml`.

use std::{fmt, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::config::{
    checks::{Checks, KIB, MIB},
    units,
};

/// The units of a rate with their periods.
const UNITS: [(&str, Duration); 3] =
    [("s", Duration::from_secs(1)), ("m", Duration::from_secs(60)), ("h", Duration::from_secs(3600))];
/// More than a server can do anyway.
const MOST: u32 = 1_000_000;
/// More than a store can count.
const MOST_THINGS: u64 = 1_000_000_000_000;

/// So many in a second, a minute or an hour, also all at once: `20/s`, `600/m`, `1000/h`; or `none`, no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateWord(pub Option<(NonZeroU32, Duration)>);

impl RateWord {
    /// No limit.
    pub const NONE: Self = Self(None);

    fn in_each(count: u32, seconds: u64) -> Self {
        Self(NonZeroU32::new(count).map(|count| (count, Duration::from_secs(seconds))))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "none" {
            return Ok(Self::NONE);
        }
        let rule = "must be a rate, as in `20/s`, `600/m` or `1000/h`, or `none`";
        let (count, unit) = text.split_once('/').ok_or(rule)?;
        let period = UNITS.iter().find(|(name, _)| *name == unit).ok_or(rule)?.1;
        let count: u64 = count.parse().map_err(|_| rule)?;
        let count = u32::try_from(count).ok().filter(|count| (1..=MOST).contains(count));
        match count.and_then(NonZeroU32::new) {
            Some(count) => Ok(Self(Some((count, period)))),
            None => Err(format!("must be from 1/{unit} to {MOST}/{unit}")),
        }
    }
}

impl fmt::Display for RateWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some((count, period)) => {
                let unit = UNITS.iter().find(|(_, known)| *known == period).map_or("s", |(unit, _)| unit);
                write!(f, "{count}/{unit}")
            }
        }
    }
}

impl Serialize for RateWord {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RateWord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&units::word(from)?).map_err(D::Error::custom)
    }
}

/// How often something may be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// By a user of a namespace, over all of their streams and calls.
    pub user: UserRates,
    /// With one credential, by all who show it.
    pub credential: CallerRates,
    /// From one address.
    pub peer: CallerRates,
    /// In a namespace, by all together; not in the default one.
    pub namespace: NamespaceRates,
    /// In the default namespace, by all together.
    pub default_namespace: NamespaceRates,
    /// Credentials from one address that were none.
    pub failed_sign_ins: RateWord,
}

/// What a user may do; messages and transient events have keys of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserRates {
    /// Joins of a session.
    pub joins: RateWord,
    /// Rooms that are created.
    pub rooms: RateWord,
    /// Answers that LLMs are asked for.
    pub llm_calls: RateWord,
    /// Calls that read.
    pub history: RateWord,
}

/// What all may do who show one credential, or come from one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallerRates {
    /// Commands that last.
    pub messages: RateWord,
    /// What is not kept.
    pub transients: RateWord,
    /// Joins of a session.
    pub joins: RateWord,
    /// Rooms that are created.
    pub rooms: RateWord,
    /// Calls that read.
    pub history: RateWord,
    /// Rooms that a model proposes.
    pub generations: RateWord,
    /// Calls of the administration.
    pub admin: RateWord,
}

/// What a namespace may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamespaceRates {
    /// Commands that last.
    pub messages: RateWord,
    /// What is not kept.
    pub transients: RateWord,
    /// Joins of a session.
    pub joins: RateWord,
    /// Rooms that are created.
    pub rooms: RateWord,
    /// Answers that LLMs are asked for.
    pub llm_calls: RateWord,
    /// Calls that read.
    pub history: RateWord,
    /// Rooms that a model proposes.
    pub generations: RateWord,
    /// Calls of the administration.
    pub admin: RateWord,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            user: UserRates::default(),
            credential: CallerRates { admin: RateWord::in_each(600, 60), ..CallerRates::default() },
            peer: CallerRates::default(),
            namespace: NamespaceRates {
                messages: RateWord::in_each(2000, 1),
                transients: RateWord::in_each(4000, 1),
                joins: RateWord::in_each(500, 1),
                rooms: RateWord::in_each(50, 1),
                llm_calls: RateWord::in_each(50, 1),
                history: RateWord::in_each(500, 1),
                generations: RateWord::in_each(60, 60),
                admin: RateWord::in_each(20, 1),
            },
            default_namespace: NamespaceRates::default(),
            failed_sign_ins: RateWord::in_each(30, 60),
        }
    }
}

impl Default for UserRates {
    fn default() -> Self {
        Self {
            joins: RateWord::in_each(600, 60),
            rooms: RateWord::in_each(300, 60),
            llm_calls: RateWord::in_each(300, 60),
            history: RateWord::in_each(1200, 60),
        }
    }
}

impl Default for CallerRates {
    fn default() -> Self {
        Self {
            messages: RateWord::NONE,
            transients: RateWord::NONE,
            joins: RateWord::NONE,
            rooms: RateWord::NONE,
            history: RateWord::NONE,
            generations: RateWord::NONE,
            admin: RateWord::NONE,
        }
    }
}

impl Default for NamespaceRates {
    fn default() -> Self {
        Self {
            messages: RateWord::NONE,
            transients: RateWord::NONE,
            joins: RateWord::NONE,
            rooms: RateWord::NONE,
            llm_calls: RateWord::NONE,
            history: RateWord::NONE,
            generations: RateWord::NONE,
            admin: RateWord::NONE,
        }
    }
}

/// How much namespaces may have, if they were given nothing of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Each but the default one.
    pub namespace: Quota,
    /// The default one.
    pub default_namespace: Quota,
}

impl Default for Quotas {
    fn default() -> Self {
        let namespace = Quota {
            rooms: Some(10_000),
            members: Some(1_000_000),
            stored_bytes: Some(10 << 30),
            runs: Some(100),
            streams: Some(10_000),
        };
        Self { namespace, default_namespace: Quota::default() }
    }
}

/// How much one namespace may have; what is left out is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Rooms, those that have ended included.
    #[serde(deserialize_with = "units::some_whole")]
    pub rooms: Option<u64>,
    /// Memberships: a member of three rooms counts three.
    #[serde(deserialize_with = "units::some_whole")]
    pub members: Option<u64>,
    /// Bytes of its rooms' logs.
    #[serde(with = "units::optional_size")]
    pub stored_bytes: Option<usize>,
    /// Answers that are written or wait, on this server.
    #[serde(deserialize_with = "units::some_whole")]
    pub runs: Option<u64>,
    /// Streams that have joined, on this server.
    #[serde(deserialize_with = "units::some_whole")]
    pub streams: Option<u64>,
}

/// The bounds of quotas; those of rates are looked at when they are read.
pub(super) fn check(checks: &mut Checks<'_>, quotas: &Quotas) {
    for (section, quota) in
        [("namespace", &quotas.namespace), ("default_namespace", &quotas.default_namespace)]
    {
        let counts = [
            ("rooms", quota.rooms),
            ("members", quota.members),
            ("runs", quota.runs),
            ("streams", quota.streams),
        ];
        for (name, count) in counts.into_iter().filter_map(|(name, count)| Some((name, count?))) {
            checks.count(&format!("limits.quotas.{section}.{name}"), count, 1..=MOST_THINGS);
        }
        if let Some(bytes) = quota.stored_bytes {
            let key = format!("limits.quotas.{section}.stored_bytes");
            checks.size(&key, bytes, 64 * KIB..=1024 * 1024 * MIB);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_with_their_period() {
        for text in ["1/s", "600/m", "1000000/h", "none"] {
            assert_eq!(RateWord::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["", "10", "0/s", "1000001/s", "10/d", "-1/s", "1.5/s", "/s", "10/", "99999999999999999999/s"]
        {
            assert!(RateWord::parse(text).is_err(), "{text}");
        }
    }
}
