//! The tree of keys: which there are, which were written, and what a typo was meant to be.
//!
//! The keys are read off the default [`Config`], so a new field is known here without a second list. Unknown keys are
//! taken out of the tree one by one, so that one typo does not hide the next.

use ::config::{Map, Value, ValueKind};
use serde_json::Value as Json;

use crate::config::{
    Config, McpServer, McpTool, ProviderEntry, ProviderKind, Source, Sources, TokenIssuer,
    error::{HIDDEN, Problem},
    models,
};

/// Stands in the tree for the name of a provider.
const ANY_NAME: &str = "*";
/// Stands in the tree for whatever somebody else's server wants: names are not known here.
const FREE: &str = "**";
/// The sections of a provider whose names are another server's.
const FREE_SECTIONS: [&str; 3] = ["extra_body", "headers", "headers_env"];
/// The longest name of a provider, in characters.
const NAME_CHARS: usize = 64;
/// The longest value that an error repeats, in characters.
const SHOWN_CHARS: usize = 80;

/// The default of every key, in its section.
pub(super) fn tree() -> Json {
    let mut tree = serde_json::to_value(Config::default()).unwrap_or_default();
    if let Some(providers) = tree.pointer_mut("/llm/providers") {
        // A provider's kind has no default: every entry says what it is.
        let mut entry = serde_json::to_value(ProviderEntry::new(ProviderKind::Offline)).unwrap_or_default();
        if let Some(kind) = entry.get_mut("kind") {
            *kind = Json::Null;
        }
        for name in FREE_SECTIONS {
            if let Some(section) = entry.get_mut(name) {
                *section = serde_json::json!({ FREE: null });
            }
        }
        *providers = serde_json::json!({ ANY_NAME: entry });
    }
    if let Some(servers) = tree.pointer_mut("/mcp/servers") {
        let mut entry = serde_json::to_value(McpServer::default()).unwrap_or_default();
        if let Some(entry) = entry.as_object_mut() {
            let tool = serde_json::to_value(McpTool::default()).unwrap_or_default();
            entry.insert("tools".into(), serde_json::json!({ ANY_NAME: tool }));
            for names in ["env", "headers"] {
                entry.insert(names.into(), serde_json::json!({ ANY_NAME: null }));
            }
        }
        *servers = serde_json::json!({ ANY_NAME: entry });
    }
    if let Some(issuers) = tree.pointer_mut("/auth/tokens/issuers") {
        let mut entry = serde_json::to_value(TokenIssuer::default()).unwrap_or_default();
        if let Some(roles) = entry.get_mut("roles") {
            *roles = serde_json::json!({ ANY_NAME: null });
        }
        *issuers = serde_json::json!({ ANY_NAME: entry });
    }
    tree
}

/// Whether the names below `key` are another server's.
pub(super) fn is_free(key: &str) -> bool {
    key.starts_with("llm.providers.")
        && key.matches('.').count() == 3
        && FREE_SECTIONS.iter().any(|name| key.rsplit('.').next() == Some(name))
}

/// Every key with its default, as `section.key`; a provider's name is `*`.
pub(super) fn all() -> Vec<(String, Json)> {
    fn collect(prefix: &str, tree: Json, into: &mut Vec<(String, Json)>) {
        match tree {
            Json::Object(section) => {
                section.into_iter().for_each(|(name, tree)| collect(&join(prefix, &name), tree, into));
            }
            leaf => into.push((prefix.to_owned(), leaf)),
        }
    }
    let mut keys = Vec::new();
    collect("", tree(), &mut keys);
    keys
}

pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.into() } else { format!("{prefix}.{name}") }
}

/// A value as an error may show it.
pub(super) fn shown(key: &str, value: &str) -> String {
    // Somebody may write the key itself where its variable or its file is asked for, or a password into a URL.
    let in_mcp = |of: &str| key.starts_with("mcp.servers.") && key.contains(of);
    let secret = key.ends_with(".api_key_env")
        || ["store.url", "store.url_file"].contains(&key)
        || key == "bus.url"
        || key.ends_with(".api_key_file")
        || (key.starts_with("auth.tokens.") && (key.ends_with("key_env") || key.ends_with("key_file")))
        || (key == "tls.key" && value.contains("BEGIN"))
        || in_mcp(".env.")
        || in_mcp(".headers.")
        || in_mcp(".url_env")
        || ((key.ends_with("_url") || in_mcp(".url")) && value.contains(['@', '?', '#']));
    if secret {
        return HIDDEN.into();
    }
    let mut chars = value.chars();
    let start: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() { format!("{start:?}…") } else { format!("{start:?}") }
}

/// What to write instead when a value was refused.
pub(super) fn mend(key: &str) -> String {
    let known = all();
    let default = known.iter().find(|(name, _)| matches(name, key)).map(|(_, default)| default);
    match default {
        Some(Json::Null) if key.ends_with(".kind") => "write for example `kind: openai`".into(),
        None | Some(Json::Null) => "mend it or leave it out".into(),
        Some(Json::String(text)) => format!("the default is `{text}`"),
        Some(other) => format!("the default is `{other}`"),
    }
}

fn matches(pattern: &str, key: &str) -> bool {
    pattern == key
        || pattern
            .split_once(ANY_NAME)
            .is_some_and(|(before, after)| key.starts_with(before) && key.ends_with(after))
}

/// Takes out of `table` whatever no key of `known` is, and notes where the rest came from.
pub(super) fn prune(
    table: &mut Map<String, Value>,
    known: &Json,
    prefix: &str,
    sources: &mut Sources,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut names: Vec<String> = table.keys().cloned().collect();
    names.sort();
    for name in names {
        let key = join(prefix, &name);
        let Some(value) = table.get_mut(&name) else { continue };
        let source = source_of(value, sources);
        let complain = |rule: String, mend: String| Problem {
            key: key.clone(),
            value: None,
            source: source.clone(),
            rule,
            mend,
        };
        let refused = match (known.get(&name).or_else(|| known.get(ANY_NAME)), &mut value.kind) {
            (None, _) => Some(complain("is no key of this server".into(), suggest(known, prefix, &name))),
            // A key without a value, `grpc:`, says nothing: the default stays.
            (Some(_), ValueKind::Nil) => {
                table.remove(&name);
                continue;
            }
            (Some(_), _) if known.get(&name).is_none() && !is_foreign(prefix) && !is_name(&name) => {
                Some(complain(
                    "is no name of a provider or a server".into(),
                    format!("use at most {NAME_CHARS} of the characters a-z, 0-9, - and _"),
                ))
            }
            (Some(Json::Object(section)), ValueKind::Table(_)) if section.contains_key(FREE) => {
                sources.insert(key.clone(), source.clone());
                None
            }
            // Models are named by others; what is below their names is looked at when it is read.
            (Some(_), _) if models::KEYS.contains(&key.as_str()) => {
                sources.insert(key.clone(), source.clone());
                None
            }
            (Some(Json::Array(_)), ValueKind::Array(_)) => {
                sources.insert(key.clone(), source.clone());
                None
            }
            (Some(section @ Json::Object(_)), ValueKind::Table(inner)) => {
                problems.extend(prune(inner, section, &key, sources));
                None
            }
            (Some(section @ Json::Object(_)), _) => Some(complain(
                "must be a section with keys of its own".into(),
                format!("write one of them below it: {}", children(section)),
            )),
            (Some(_), ValueKind::Table(_) | ValueKind::Array(_)) => {
                Some(complain("must be a single value".into(), mend(&key)))
            }
            (Some(_), _) => {
                sources.insert(key.clone(), source.clone());
                None
            }
        };
        if let Some(problem) = refused {
            table.remove(&name);
            problems.push(problem);
        }
    }
    problems
}

/// Values of the environment carry their variable; those of the file carry nothing.
fn source_of(value: &Value, sources: &Sources) -> Source {
    // A section may hold values of both: the first of its values stands for it.
    let origin = match (&value.kind, value.origin()) {
        (ValueKind::Table(table), None) => table.values().find_map(Value::origin),
        (_, origin) => origin,
    };
    match (origin, sources.file()) {
        (Some(variable), _) => Source::Variable(variable.into()),
        (None, Some(path)) => Source::File(path.into()),
        (None, None) => Source::Default,
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_CHARS
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// Whether the names below `prefix` are given by others: tools, headers and variables.
fn is_foreign(prefix: &str) -> bool {
    let in_mcp = prefix.starts_with("mcp.servers.")
        && [".tools", ".headers", ".env"].iter().any(|end| prefix.ends_with(end));
    // An issuer's words for roles.
    in_mcp || (prefix.starts_with("auth.tokens.issuers.") && prefix.ends_with(".roles"))
}

fn children(section: &Json) -> String {
    section
        .as_object()
        .map(|keys| keys.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
        .unwrap_or_default()
}

fn suggest(known: &Json, prefix: &str, name: &str) -> String {
    let siblings = known.as_object().into_iter().flat_map(|section| section.keys());
    let near =
        siblings.map(|key| (distance(key, name), key)).min().filter(|(far, key)| *far <= 1 + key.len() / 4);
    if let Some((_, key)) = near {
        return format!("did you mean `{}`?", join(prefix, key));
    }
    let elsewhere = all().into_iter().find(|(key, _)| key.rsplit('.').next() == Some(name));
    if let Some((key, _)) = elsewhere {
        return format!("did you mean `{}`?", key.replace(ANY_NAME, "<name>"));
    }
    format!("remove it, or use one of: {}", children(known))
}

/// How many characters have to be put in, taken out or replaced to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().take(SHOWN_CHARS).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((b, above), diagonal) in to.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or_default();
            next.push((diagonal + usize::from(a != *b)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_edits() {
        for (from, to, edits) in
            [("port", "port", 0), ("port", "prot", 2), ("host", "hst", 1), ("", "abc", 3)]
        {
            assert_eq!(distance(from, to), edits, "{from} {to}");
        }
    }

    #[test]
    fn what_could_be_a_secret_is_hidden() {
        assert_eq!(shown("llm.providers.x.api_key_env", "sk-123"), HIDDEN);
        assert_eq!(shown("llm.providers.x.base_url", "https://me:pw@host"), HIDDEN);
        assert_eq!(shown("tls.key", "-----BEGIN PRIVATE KEY-----\nabc"), HIDDEN);
        assert_eq!(shown("llm.providers.x.base_url", "https://host"), "\"https://host\"");
        assert_eq!(shown("log.level", "a\n\u{1b}[1m"), r#""a\n\u{1b}[1m""#);
        assert_eq!(shown("log.level", &"x".repeat(500)).chars().count(), SHOWN_CHARS + 3);
    }
}
