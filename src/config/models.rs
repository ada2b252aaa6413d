//! The sections about models: other names for them, what is known of them, who stands in for whom.
//!
//! Owns names, defaults and the writing of prices; whether a name leads anywhere is found out where names are
//! resolved, before a port is bound. The names of models come from elsewhere and may hold dots, colons and slashes,
//! so that variables of the environment cannot set what is below them.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::config::{Llm, units};

/// The keys whose values are not looked into by their names.
pub(super) const KEYS: [&str; 3] = ["llm.aliases", "llm.fallbacks", "llm.models"];
/// The longest name of a model or an alias, in bytes.
const NAME_BYTES: usize = 256;
/// The most names in a list of fallbacks: each may cost a whole timeout.
const FALLBACKS: usize = 8;
/// The parts of one unit of the currency that are told apart.
const MICROS: u64 = 1_000_000;

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelEntry {
    /// Whether it can call tools.
    #[serde(deserialize_with = "units::flag")]
    pub tools: bool,
    /// What fits into it, its answer included; none: what is known of the family, else 8192.
    pub context_tokens: Option<u32>,
    /// The longest answer it can give.
    pub max_output_tokens: Option<u32>,
    /// What it costs.
    pub prices: Option<PriceEntry>,
    /// Who is asked when it fails; none: the default chain.
    pub fallbacks: Option<Vec<String>>,
}

impl Default for ModelEntry {
    fn default() -> Self {
        Self { tools: true, context_tokens: None, max_output_tokens: None, prices: None, fallbacks: None }
    }
}

/// What a model costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceEntry {
    /// For a million tokens that it is given.
    pub input: Price,
    /// For a million tokens that it makes.
    pub output: Price,
}

/// An amount of money, in millionths of a unit of the currency: written as a decimal, and never held as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price(pub u64);

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micros) = (self.0 / MICROS, self.0 % MICROS);
        let fraction = format!("{micros:06}");
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            fraction => write!(f, "{whole}.{fraction}"),
        }
    }
}

impl Price {
    /// Reads `2`, `0.15` or `0.000001`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be an amount such as `0.15`, with at most six digits behind the point";
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 6 {
            return Err(RULE);
        }
        let whole: Option<u64> = whole.parse().ok();
        let micros: Option<u64> = format!("{fraction:0<6}").parse().ok();
        let sum = whole.and_then(|whole| whole.checked_mul(MICROS)?.checked_add(micros?));
        sum.map(Self).ok_or("is larger than any price")
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // The parser of the file has made a fraction of it already. Its shortest form is what was written, as long
        // as that had no more digits than a price may have.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(u64),
            Fraction(f64),
            Text(String),
        }
        let text = match Written::deserialize(from) {
            Ok(Written::Whole(whole)) => whole.to_string(),
            Ok(Written::Fraction(fraction)) => fraction.to_string(),
            Ok(Written::Text(text)) => text,
            Err(_) => {
                let rule = "must be an amount such as `0.15`; prices have both `input` and `output`";
                return Err(D::Error::custom(rule));
            }
        };
        Self::parse(text.trim()).map_err(D::Error::custom)
    }
}

/// How often and how soon a model is asked again before it has begun to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How often one model is asked at most, the first time included.
    #[serde(deserialize_with = "units::whole")]
    pub attempts: u32,
    /// The longest wait before the second attempt; doubles with each further one.
    #[serde(with = "units::duration")]
    pub base: Duration,
    /// The longest wait.
    #[serde(with = "units::duration")]
    pub max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, base: Duration::from_millis(500), max: Duration::from_secs(10) }
    }
}

/// When a model that fails again and again is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Failures in a row.
    #[serde(deserialize_with = "units::whole")]
    pub failures: u32,
    /// How long.
    #[serde(with = "units::duration")]
    pub open: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, open: Duration::from_secs(60) }
    }
}

/// What is wrong with names, lists and amounts: the key, the value, the rule, the mend.
pub(super) fn check(llm: &Llm) -> Vec<(String, String, &'static str, &'static str)> {
    const NAME: (&str, &str) =
        ("must be the name of a model, up to 256 bytes without spaces", "write `provider:model` or a model");
    let mut refused = Vec::new();
    let mut names: Vec<(String, &str)> = Vec::new();
    let mut lists: Vec<(String, &[String])> = vec![("llm.fallbacks".into(), &llm.fallbacks)];
    for (alias, model) in &llm.aliases {
        names.push((format!("llm.aliases.{alias}"), alias));
        names.push((format!("llm.aliases.{alias}"), model));
    }
    for (name, entry) in &llm.models {
        let key = format!("llm.models.{name}");
        names.push((key.clone(), name));
        for (field, tokens) in
            [("context_tokens", entry.context_tokens), ("max_output_tokens", entry.max_output_tokens)]
        {
            if let Some(tokens) = tokens.filter(|tokens| !(1..=100_000_000).contains(tokens)) {
                let rule = "must be from 1 to 100000000";
                refused.push((format!("{key}.{field}"), tokens.to_string(), rule, "mend it or leave it out"));
            }
        }
        lists.extend(entry.fallbacks.as_deref().map(|list| (format!("{key}.fallbacks"), list)));
    }
    for (key, list) in lists {
        if list.len() > FALLBACKS {
            let rule = "may name at most 8 models, since each costs time when it fails";
            refused.push((key.clone(), list.len().to_string(), rule, "name fewer"));
        }
        names.extend(list.iter().map(|name| (key.clone(), name.as_str())));
    }
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= NAME_BYTES
            && !name.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    let bad = names.into_iter().filter(|(_, name)| !is_name(name));
    refused.extend(bad.map(|(key, name)| (key, name.to_owned(), NAME.0, NAME.1)));
    refused
}

/// A list of names, or a text of names between commas, as a variable of the environment gives it.
pub(super) fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        List(Vec<String>),
        Text(String),
    }
    match Written::deserialize(from) {
        Ok(Written::List(names)) => Ok(names),
        Ok(Written::Text(text)) => Ok(text.split(',').map(|name| name.trim().to_owned()).collect()),
        Err(_) => Err(D::Error::custom("must be a list of models: [first, second]")),
    }
}

/// Models by their names.
pub type Models = BTreeMap<String, ModelEntry>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_and_written_exactly() {
        for (text, micros) in [
            ("0", 0),
            ("2", 2_000_000),
            ("0.15", 150_000),
            ("0.000001", 1),
            ("10.5", 10_500_000),
            ("18446744073709.551615", u64::MAX),
        ] {
            assert_eq!(Price::parse(text), Ok(Price(micros)), "{text}");
            assert_eq!(Price(micros).to_string(), text);
        }
        for text in ["", ".5", "5.", "-1", "1e3", "0.0000001", "1,5", "18446744073709.551616", "nan", "inf"] {
            assert!(Price::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_price_in_a_file_is_what_was_written() {
        for (written, micros) in [("0.15", 150_000), ("0.1", 100_000), ("3", 3_000_000), ("\"0.6\"", 600_000)]
        {
            assert_eq!(serde_json::from_str::<Price>(written).unwrap(), Price(micros), "{written}");
        }
        assert!(serde_json::from_str::<Price>("true").is_err());
        // Every amount of up to six digits behind the point survives being a fraction.
        for micros in (0..3_000_000).step_by(7).chain((0..1000).map(|n| 999_999_000_000 + n)) {
            let fraction: f64 = Price(micros).to_string().parse().unwrap();
            assert_eq!(Price::parse(&fraction.to_string()), Ok(Price(micros)));
        }
    }
}
