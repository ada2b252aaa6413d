//! One word of a command: as it is written, or the variable that holds it.
//!
//! Secrets in words that are written out are shown by `salon config` and stand in the file; what looks like one is
//! refused. In the list of processes either is seen by everybody on the machine: `env` is the better place.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
    ser::SerializeMap as _,
};

/// Ends of names whose values are secrets.
const SECRET_NAMES: [&str; 8] =
    ["token", "secret", "password", "passwd", "api-key", "apikey", "access-key", "credentials"];

/// A program or an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum McpWord {
    /// The word itself.
    Text(String),
    /// The variable of ours that holds it.
    Variable(String),
}

impl From<&str> for McpWord {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl Serialize for McpWord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Variable(variable) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("env", variable)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for McpWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words)
    }
}

/// Numbers and flags are words as well: `--port`, 80.
struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = McpWord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word, or `{ env: VARIABLE }`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<McpWord, E> {
        Ok(McpWord::Text(text.into()))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<McpWord, E> {
        Ok(McpWord::Text(flag.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<McpWord, E> {
        Ok(McpWord::Text(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<McpWord, E> {
        Ok(McpWord::Text(number.to_string()))
    }

    /// 1.10 would become 1.1.
    fn visit_f64<E: Error>(self, _: f64) -> Result<McpWord, E> {
        Err(E::custom("a word with a number that has a point must be in quotes"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<McpWord, A::Error> {
        let first: Option<(String, String)> = map.next_entry()?;
        match (first, map.next_key::<String>()?) {
            (Some((key, variable)), None) if key == "env" => Ok(McpWord::Variable(variable)),
            _ => Err(A::Error::custom("a word that is no text must be `{ env: VARIABLE }`")),
        }
    }
}

/// Whether a secret is written out: `--token=x`, `--token x`, `API_KEY=x`, or a URL with a user.
pub(super) fn has_secret(command: &[McpWord]) -> bool {
    let text = |word: &McpWord| match word {
        McpWord::Text(text) => Some(text.clone()),
        McpWord::Variable(_) => None,
    };
    let is_inside = command.iter().filter_map(text).any(|word| {
        let has_value =
            word.split_once('=').is_some_and(|(name, value)| !value.is_empty() && is_secret(name));
        has_value || has_user(&word)
    });
    let is_next = command.windows(2).any(|pair| match pair {
        [McpWord::Text(name), McpWord::Text(value)] => {
            name.starts_with('-') && is_secret(name) && !value.starts_with('-')
        }
        _ => false,
    });
    is_inside || is_next
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    // `--max-token 5`: a number of tokens.
    if name.trim_start_matches('-').starts_with("max-") {
        return false;
    }
    SECRET_NAMES.iter().any(|end| name == **end || name.ends_with(&format!("-{end}")))
}

fn has_user(word: &str) -> bool {
    let after = word.split_once("://").map(|(_, after)| after);
    after
        .and_then(|after| after.split(['/', '?', '#']).next())
        // `git` is the user of everybody whose repositories are read by SSH.
        .and_then(|authority| authority.rsplit_once('@'))
        .is_some_and(|(user, _)| user != "git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_are_written_out_are_found() {
        for words in [
            &["a", "--token=x"][..],
            &["a", "--api-key", "x"],
            &["a", "-API_KEY", "x"],
            &["env", "GITHUB_TOKEN=x", "a"],
            &["a", "postgres://me:x@host/db"],
            &["a", "--db=postgres://me@host"],
        ] {
            let command: Vec<McpWord> = words.iter().map(|word| McpWord::from(*word)).collect();
            assert!(has_secret(&command), "{words:?}");
        }
        for words in [
            &["npx", "--yes", "@example/notes@1.2.3"][..],
            &["a", "--token-file", "/run/token"],
            &["a", "--token", "--verbose"],
            &["a", "--max-token", "5", "--max_tokens=6"],
            &["uvx", "--from", "git+ssh://git@host/notes", "notes"],
            &["a", "--keys=3", "https://host/@me", "max_tokens=5", "tokens"],
        ] {
            let command: Vec<McpWord> = words.iter().map(|word| McpWord::from(*word)).collect();
            assert!(!has_secret(&command), "{words:?}");
        }
        assert!(!has_secret(&["a".into(), "--token".into(), McpWord::Variable("X".into())]));
    }

    #[test]
    fn numbers_are_words_unless_they_would_be_written_otherwise() {
        let read = |json: &str| serde_json::from_str::<Vec<McpWord>>(json);
        assert_eq!(read(r#"["a", 80, true]"#).unwrap(), ["a", "80", "true"].map(McpWord::from));
        assert!(read(r#"["a", 1.10]"#).unwrap_err().to_string().contains("quotes"));
    }
}
