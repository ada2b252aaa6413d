//! What a provider's entry may add to requests: headers, and members of the body.
//!
//! Two things are looked after. Nothing that is a secret stands in the file, where `salon config` would show it; and
//! nothing is added that the server writes itself.

use serde_json::Value;

use crate::config::{ProviderEntry, checks::is_variable_name};

/// Headers that carry the exchange or its key.
const OWN_HEADERS: [&str; 7] =
    ["accept", "authorization", "connection", "content-length", "content-type", "host", "transfer-encoding"];
/// What the names of headers with secrets contain.
const SECRET_HEADERS: [&str; 7] = ["auth", "cookie", "credential", "key", "password", "secret", "token"];
/// How the names of members with secrets end.
const SECRET_MEMBERS: [&str; 6] = ["api_key", "apikey", "authorization", "credentials", "password", "secret"];
/// The members that the server writes, and `n`, which would make several answers of one.
const OWN_MEMBERS: [&str; 9] = [
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "response_format",
    "stream",
    "stream_options",
    "tools",
];

/// What is wrong with an entry's additions.
pub(super) struct Refused {
    /// The key below the entry.
    pub(super) key: String,
    /// The value, if it may be shown.
    pub(super) value: Option<String>,
    /// What is allowed.
    pub(super) rule: &'static str,
    /// What to do.
    pub(super) mend: &'static str,
}

/// Everything that is wrong with them.
pub(super) fn check(entry: &ProviderEntry) -> Vec<Refused> {
    let mut refused = Vec::new();
    for (name, value) in &entry.headers {
        refused.extend(header(name, value));
    }
    for (name, variable) in &entry.headers_env {
        refused.extend(secret_header(entry, name, variable));
    }
    let account = [("organization", &entry.organization), ("project", &entry.project)];
    for (key, value) in account.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))) {
        if !is_value(value) {
            let rule = "must be one line of printable ASCII";
            refused.push(Refused { key: key.into(), value: Some(value.into()), rule, mend: "mend it" });
        }
    }
    for name in entry.extra_body.keys().filter(|name| OWN_MEMBERS.contains(&name.as_str())) {
        refused.push(Refused {
            key: format!("extra_body.{name}"),
            value: None,
            rule: "is set by the server itself",
            mend: "leave it out",
        });
    }
    secrets_in("extra_body", &Value::Object(entry.extra_body.clone()), &mut refused);
    refused
}

fn header(name: &str, value: &str) -> Option<Refused> {
    let key = format!("headers.{name}");
    let refuse = |value, rule, mend| Some(Refused { key, value, rule, mend });
    let lower = name.to_lowercase();
    if OWN_HEADERS.contains(&lower.as_str()) {
        let mend = "leave it out; a key is named by `api_key_env` or `api_key_file`";
        return refuse(None, "is set by the server itself", mend);
    }
    if SECRET_HEADERS.iter().any(|part| lower.contains(part)) {
        let mend = "name the variable that holds it below `headers_env`";
        return refuse(None, "looks like a secret, which does not belong in the file", mend);
    }
    if !is_header(name) || !is_value(value) {
        return refuse(
            Some(value.into()),
            "must be the name of a header with one line of printable ASCII",
            "mend it",
        );
    }
    None
}

fn secret_header(entry: &ProviderEntry, name: &str, variable: &str) -> Option<Refused> {
    let key = format!("headers_env.{name}");
    let refuse = |rule, mend| Some(Refused { key, value: None, rule, mend });
    let lower = name.to_lowercase();
    let has_key = entry.api_key_env.is_some() || entry.api_key_file.is_some();
    if !is_header(name) || (OWN_HEADERS.contains(&lower.as_str()) && (lower != "authorization" || has_key)) {
        return refuse("is set by the server itself, or is no header", "leave it out");
    }
    if entry.headers.keys().any(|other| other.to_lowercase() == lower) {
        return refuse("is given twice", "leave it out here or in `headers`");
    }
    if !is_variable_name(variable) {
        let rule = "must be the name of a variable (A-Z, 0-9 and _), never the secret itself";
        return refuse(rule, "write for example `PROXY_TOKEN`");
    }
    None
}

fn secrets_in(path: &str, value: &Value, refused: &mut Vec<Refused>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{path}.{name}");
                let lower = name.to_lowercase().replace('-', "_");
                if SECRET_MEMBERS.iter().any(|end| lower.ends_with(end)) {
                    refused.push(Refused {
                        key: path,
                        value: None,
                        rule: "looks like a secret, which does not belong in the file",
                        mend: "send it as a header by `headers_env`, or as the key by `api_key_env`",
                    });
                } else {
                    secrets_in(&path, member, refused);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| secrets_in(path, item, refused)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_header(name: &str) -> bool {
    http::HeaderName::from_bytes(name.as_bytes()).is_ok()
}

fn is_value(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}
