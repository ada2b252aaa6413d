//! The configuration in force as YAML, with the origin of every value behind it.
//!
//! What it prints can be read again as a config file. It prints the names of the variables that hold secrets and
//! never a secret.

use std::fmt::{self, Write as _};

use serde_json::Value as Json;

use crate::config::{HIDDEN, Loaded, ProviderSettings, Source, keys, providers};

/// The column at which the origins begin, where the values leave room for it.
const ORIGIN_COLUMN: usize = 44;

/// What `salon config` prints.
pub fn show(loaded: &Loaded) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut out, loaded);
    out
}

fn write_all(out: &mut String, loaded: &Loaded) -> fmt::Result {
    match loaded.sources.file() {
        Some(path) => writeln!(out, "# What is in force. The file is {:?}.", path.display().to_string())?,
        None => writeln!(out, "# What is in force. There is no config file.")?,
    }
    let tree = serde_json::to_value(&loaded.config).unwrap_or_default();
    write_section(out, loaded, &tree, "", 0)?;
    write_providers(out, loaded)
}

fn write_section(out: &mut String, loaded: &Loaded, tree: &Json, prefix: &str, depth: usize) -> fmt::Result {
    for (name, value) in tree.as_object().into_iter().flatten() {
        let key = keys::join(prefix, name);
        // Tools may be called anything: `*` as it is would be no YAML.
        let start = format!("{:1$}{2}:", "", depth * 2, scalar(&Json::String(name.clone())));
        match value {
            Json::Object(section) if !section.is_empty() && !keys::is_free(&key) => {
                writeln!(out, "{start}")?;
                write_section(out, loaded, value, &key, depth + 1)?;
            }
            leaf => {
                let origin = match loaded.sources.of(&key) {
                    Source::File(_) => "file".into(),
                    other => other.to_string(),
                };
                writeln!(out, "{:ORIGIN_COLUMN$} # {origin}", format!("{start} {}", scalar(leaf)))?;
            }
        }
    }
    Ok(())
}

/// A value as YAML reads it. Whatever is not plainly a word, a number or a path is quoted as in JSON, which YAML
/// includes.
fn scalar(value: &Json) -> String {
    let plain = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '/')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
            && text.parse::<f64>().is_err()
            && !["true", "false", "null", "yes", "no", "on", "off"].contains(&text.to_lowercase().as_str())
    };
    match value {
        Json::String(text) if plain(text) => text.clone(),
        other => other.to_string(),
    }
}

fn write_providers(out: &mut String, loaded: &Loaded) -> fmt::Result {
    let in_force = loaded.config.providers();
    writeln!(out, "# Providers in force; the default is {}.", in_force.default)?;
    for (name, settings) in &in_force.by_name {
        match settings {
            ProviderSettings::Offline => writeln!(out, "#   {name}: built in, not a model")?,
            ProviderSettings::ChatService { address, .. } => {
                writeln!(out, "#   {name}: chat service at {address}")?;
            }
            ProviderSettings::OpenAi { base_url, api_key, .. } => {
                let entry = loaded.config.llm.providers.get(name);
                let variable = entry.map_or(Some(providers::OPENAI_API_KEY), providers::key_variable);
                let file = entry.and_then(|entry| entry.api_key_file.as_deref());
                match (api_key, file.or(variable)) {
                    (Some(_), Some(origin)) => {
                        writeln!(out, "#   {name}: {base_url}, key {HIDDEN} from {origin}")?;
                    }
                    _ => writeln!(out, "#   {name}: {base_url}, no key")?,
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_yaml_would_read_as_something_else_is_quoted() {
        for (text, written) in [
            ("10s", "10s"),
            ("./data/salon.db", "./data/salon.db"),
            ("off", "\"off\""),
            ("1", "\"1\""),
            ("1e5", "\"1e5\""),
            ("a: b", "\"a: b\""),
            ("::1", "\"::1\""),
            ("", "\"\""),
            ("a\n# b", "\"a\\n# b\""),
        ] {
            assert_eq!(scalar(&Json::String(text.into())), written);
        }
    }
}
