//! How the file writes numbers: durations and sizes with their unit, counts as whole numbers.
//!
//! Owns reading and writing single values, never their bounds. What is refused says what to write instead. A text
//! is taken wherever a number is, because a variable of the environment is always a text.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{Error as _, Visitor},
};

/// The units of a duration with their milliseconds, the largest first.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// The units of a size with their bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `250ms`, `10s`, `5m` or `24h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, "a duration", &DURATION_UNITS, "s").map(Duration::from_millis)
}

/// Writes a duration with the largest unit that needs no fraction.
pub fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 { "0s".into() } else { format_with(millis, &DURATION_UNITS) }
}

/// Reads `512B`, `16KiB`, `1MiB` or `2GiB`.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = parse(text, "a size", &SIZE_UNITS, "KiB")?;
    usize::try_from(bytes).map_err(|_| "is larger than this machine can address".into())
}

/// Writes a size with the largest unit that needs no fraction.
pub fn format_size(bytes: usize) -> String {
    if bytes == 0 { "0B".into() } else { format_with(u64::try_from(bytes).unwrap_or(u64::MAX), &SIZE_UNITS) }
}

fn parse(text: &str, what: &str, units: &[(&str, u64)], usual: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let known = units.iter().rev().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if digits.is_empty() {
        return Err(format!("must be {what}, a whole number with one of the units {known}"));
    }
    if unit.is_empty() {
        return Err(format!("has no unit: write `{digits}{usual}`, or another of the units {known}"));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("has the unknown unit {unit:?}: write one of {known}, as in `{digits}{usual}`"));
    };
    let number: Option<u64> = digits.parse().ok();
    number.and_then(|number| number.checked_mul(*factor)).ok_or_else(|| format!("is too large for {what}"))
}

fn format_with(value: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| value.is_multiple_of(*factor))
        .map_or_else(|| value.to_string(), |(name, factor)| format!("{}{name}", value / factor))
}

/// One value as it stands in the file, before its key says what it has to be.
enum Scalar {
    Flag(bool),
    Whole(i128),
    Text(String),
    Fraction(f64),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a single value")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Whole(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar::Whole(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Fraction(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.into()))
            }
        }
        from.deserialize_any(Any)
    }
}

impl Scalar {
    /// The value as a text with a unit; a number that has none is left to the unit's own complaint.
    fn with_unit(self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Text(text) => text,
            Self::Flag(_) | Self::Fraction(_) => String::new(),
        }
    }
}

/// A count: `5`, never `5.0`, `yes` or `-1`.
pub(super) fn whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(from: D) -> Result<T, D::Error> {
    let number = match Scalar::deserialize(from)? {
        Scalar::Whole(number) => Some(number),
        Scalar::Text(text) => text.trim().parse().ok(),
        Scalar::Flag(_) | Scalar::Fraction(_) => None,
    };
    let number = number.ok_or_else(|| D::Error::custom("must be a whole number"))?;
    T::try_from(number).map_err(|_| {
        let max = u128::MAX >> (128 - (8 * size_of::<T>()).clamp(1, 128));
        D::Error::custom(format_args!("must be a whole number from 0 to {max}"))
    })
}

/// A count that need not be given.
pub(super) fn some_whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    whole(from).map(Some)
}

/// What is written without being a number alone, as its text.
pub(super) fn word<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Scalar::deserialize(from).map(Scalar::with_unit)
}

/// Below this a number of the file with six digits behind the point is the one that was written: it has at most
/// fifteen digits, which a float keeps.
const EXACT_BELOW: f64 = 1e9;

/// A decimal number as its text, for what must not be rounded.
pub(super) fn decimal<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Scalar::deserialize(from)? {
        Scalar::Whole(number) => Ok(number.to_string()),
        Scalar::Text(text) => Ok(text),
        Scalar::Fraction(number) if number.abs() < EXACT_BELOW => Ok(number.to_string()),
        Scalar::Fraction(_) => Err(D::Error::custom("is too large to be read exactly: write it in quotes")),
        Scalar::Flag(_) => Err(D::Error::custom("must be a decimal number")),
    }
}

/// Yes or no, written `true` or `false`.
pub(super) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match Scalar::deserialize(from)? {
        Scalar::Flag(value) => Ok(value),
        Scalar::Text(text) if text == "true" => Ok(true),
        Scalar::Text(text) if text == "false" => Ok(false),
        Scalar::Text(_) | Scalar::Whole(_) | Scalar::Fraction(_) => {
            Err(D::Error::custom("must be `true` or `false`"))
        }
    }
}

/// Durations, for `#[serde(with)]`.
pub(super) mod duration {
    use super::{Deserialize, Deserializer, Duration, Scalar, Serializer, format_duration, parse_duration};
    use serde::de::Error as _;

    pub(in crate::config) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_duration(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parse_duration(&Scalar::deserialize(from)?.with_unit()).map_err(D::Error::custom)
    }
}

/// Sizes, for `#[serde(with)]`.
pub(super) mod size {
    use super::{Deserialize, Deserializer, Scalar, Serializer, format_size, parse_size};
    use serde::de::Error as _;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(in crate::config) fn serialize<S: Serializer>(value: &usize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_size(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        parse_size(&Scalar::deserialize(from)?.with_unit()).map_err(D::Error::custom)
    }
}

/// Durations that need not be given, for `#[serde(with)]`.
pub(super) mod optional_duration {
    use super::{Deserializer, Duration, Serializer, duration};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(time) => duration::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(from).map(Some)
    }
}

/// Sizes that need not be given, for `#[serde(with)]`.
pub(super) mod optional_size {
    use super::{Deserializer, Serializer, size};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Option<usize>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => size::serialize(bytes, to),
            None => to.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<usize>, D::Error> {
        size::deserialize(from).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_back() {
        for (text, millis) in [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("24h", 86_400_000)] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis));
            assert_eq!(format_duration(duration), text);
        }
        assert_eq!(format_duration(Duration::from_millis(90_000)), "90s");
        assert_eq!(format_duration(Duration::ZERO), "0s");
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn sizes_are_read_and_written_back() {
        for (text, bytes) in [("512B", 512), ("16KiB", 16 * 1024), ("1MiB", 1 << 20), ("3GiB", 3 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(format_size(1025), "1025B");
        assert_eq!(format_size(0), "0B");
    }

    #[test]
    fn a_number_without_a_unit_is_told_how_to_be_written() {
        assert!(parse_duration("30").unwrap_err().contains("write `30s`"));
        assert!(parse_size("30").unwrap_err().contains("write `30KiB`"));
    }

    #[test]
    fn what_is_no_duration_or_size_is_refused() {
        for text in
            ["", "s", "-1s", "1.5s", "1 s", "1S", "1d", "1s1s", "99999999999999999999s", "6000000000000000h"]
        {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in [
            "",
            "KiB",
            "-1B",
            "1.5KiB",
            "1KB",
            "1kib",
            "1M",
            "99999999999999999999B",
            "18446744073709551615GiB",
        ] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }
}
