//! The section `llm.budgets`: what answers may take per user, per room, per namespace and in all, in a minute and in a day.
//!
//! Owns names, defaults and how money is written; the bounds are in `check`, the reasons in `config.yaml`. Money is a
//! decimal number that is taken as it is written, never rounded.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::units;

/// What answers may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    /// Of each user.
    pub user: Budget,
    /// Of each room.
    pub room: Budget,
    /// Of each namespace.
    pub namespace: Budget,
    /// Of all together.
    pub server: Budget,
}

/// What one scope allows; none: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Tokens in a minute.
    #[serde(deserialize_with = "optional_whole")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens in a day.
    #[serde(deserialize_with = "optional_whole")]
    pub tokens_per_day: Option<u64>,
    /// Money in a minute.
    pub money_per_minute: Option<Money>,
    /// Money in a day.
    pub money_per_day: Option<Money>,
}

fn optional_whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    units::whole(from).map(Some)
}

/// An amount of money in millionths of a currency that the price table names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money {
    /// Millionths.
    pub micros: u64,
}

impl Money {
    /// Digits behind the point.
    const PLACES: usize = 6;

    /// Reads `20`, `0.5` or `12.345678`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let ends_in_point = text.ends_with('.');
        if whole.is_empty() || ends_in_point || !digits(whole) || !digits(fraction) {
            return Err("must be an amount of money, a decimal number as in `12.50`".into());
        }
        if fraction.len() > Self::PLACES {
            return Err(format!("has more than {} digits behind the point", Self::PLACES));
        }
        let padded = format!("{whole}{fraction:0<width$}", width = Self::PLACES);
        padded.parse().map(|micros| Self { micros }).map_err(|_| "is too large for an amount of money".into())
    }
}

impl std::fmt::Display for Money {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, fraction) = (self.micros / 1_000_000, self.micros % 1_000_000);
        let text = format!("{whole}.{fraction:06}");
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = units::decimal(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_taken_exactly_as_it_is_written() {
        for (text, micros) in [
            ("20", 20_000_000),
            ("0.1", 100_000),
            ("0.000001", 1),
            ("12.345678", 12_345_678),
            ("007.50", 7_500_000),
            ("0", 0),
        ] {
            assert_eq!(Money::parse(text), Ok(Money { micros }), "{text}");
        }
        assert_eq!(Money { micros: 7_500_000 }.to_string(), "7.5");
        assert_eq!(Money { micros: 1 }.to_string(), "0.000001");
        assert_eq!(Money { micros: 20_000_000 }.to_string(), "20");
    }

    #[test]
    fn what_is_no_amount_of_money_is_refused() {
        for text in ["", ".", ".5", "5.", "-1", "+1", "1e3", "1,5", "$5", "0.0000001", "99999999999999999999"]
        {
            assert!(Money::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_of_the_file_are_taken_as_they_stand() {
        let read = |text: &str| serde_json::from_str::<Budget>(text);
        let budget = read(r#"{"money_per_day": 0.1, "money_per_minute": "2", "tokens_per_day": 5}"#).unwrap();
        assert_eq!(budget.money_per_day, Some(Money { micros: 100_000 }));
        assert_eq!(budget.money_per_minute, Some(Money { micros: 2_000_000 }));
        assert_eq!((budget.tokens_per_day, budget.tokens_per_minute), (Some(5), None));
        assert_eq!(
            read(r#"{"money_per_day": 123456789.123456}"#).unwrap().money_per_day.unwrap().micros,
            123_456_789_123_456
        );
        for text in [
            r#"{"money_per_day": true}"#,
            r#"{"money_per_day": -1}"#,
            r#"{"money_per_day": 12345678901.123456}"#,
            r#"{"tokens_per_day": 1.5}"#,
            r#"{"tokens_per_hour": 1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let full = Budget { tokens_per_minute: Some(1), ..budget };
        assert_eq!(read(&serde_json::to_string(&full).unwrap()).unwrap(), full);
    }
}
