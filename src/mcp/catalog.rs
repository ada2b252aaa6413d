//! What a server offers, made fit for models: names, descriptions, schemas, and the operator's rules.
//!
//! Pure. What cannot be offered (a schema that is none, a name that is none, a tool too many) is left out and logged;
//! it never keeps the rest from being offered.

use std::{collections::BTreeMap, sync::Arc};

use rmcp::model::Tool;
use serde_json::Value;

use crate::{
    ids::is_disturbing,
    json_schema::Schema,
    mcp::{
        ToolInfo,
        config::{ANY_TOOL, Policy, Rule, ServerConfig},
        words,
    },
};

/// Between the names of the server and of the tool.
pub(super) const SEPARATOR: &str = "__";
/// Tools of one server; each costs tokens in every question.
pub(super) const TOOLS_MAX: usize = 128;
/// The longest name that every provider takes.
const NAME_CHARS: usize = 64;
/// The longest name a server may give to a tool.
const TOOL_NAME_CHARS: usize = 256;
/// The longest description, in characters.
const DESCRIPTION_CHARS: usize = 1024;

/// The longest text that describes an argument, in characters.
const ARGUMENT_CHARS: usize = 512;
/// The longest name of an argument, in characters.
const ARGUMENT_NAME_CHARS: usize = 128;
/// Characters of any other name in a schema: a pattern can be as long as one is checked.
const NAMED_CHARS: usize = 2048;

/// The tools of one server, by the names for models.
pub(super) type Catalog = BTreeMap<String, Arc<ToolInfo>>;

/// What of `listed` is offered; a schema that was in `before` is not compiled again.
///
/// Compiling may take long (a schema may be large, and have many patterns), so this is for a thread that may block.
pub(super) fn catalog(config: &ServerConfig, listed: Vec<Tool>, before: &Catalog) -> Catalog {
    let mut wanted: BTreeMap<String, (Tool, Policy)> = BTreeMap::new();
    for tool in listed {
        let name = tool.name.to_string();
        let Some(policy) = policy(config, &name) else { continue };
        if name.is_empty() || name.chars().count() > TOOL_NAME_CHARS {
            tracing::warn!(server = %config.name, "a tool has no usable name: it is not offered");
        } else if wanted.contains_key(&name) {
            tracing::warn!(server = %config.name, tool = ?name, "listed twice: the first one counts");
        } else if wanted.len() == TOOLS_MAX {
            tracing::warn!(server = %config.name, tool = ?name, "more than {TOOLS_MAX} tools: it is not offered");
        } else {
            wanted.insert(name, (tool, policy));
        }
    }
    for name in config.rules.keys().filter(|name| *name != ANY_TOOL && !wanted.contains_key(*name)) {
        if config.rules.get(name) != Some(&Rule::Hidden) {
            tracing::warn!(server = %config.name, tool = %name, "is configured and not there");
        }
    }
    // Names that need no change come first, so that none of them is taken by one that was changed.
    let (plain, odd): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|(name, _)| is_plain(&config.name, name));
    let mut catalog = Catalog::new();
    for (tool_name, (tool, policy)) in plain.into_iter().chain(odd) {
        let name = model_name(&config.name, &tool_name, |name| catalog.contains_key(name));
        match offer(config, name, tool_name, &tool, policy, before) {
            Ok(tool) => {
                catalog.insert(tool.name.clone(), Arc::new(tool));
            }
            Err((tool, error)) => {
                tracing::error!(server = %config.name, tool = ?tool, %error, "a tool is not offered");
            }
        }
    }
    catalog
}

fn policy(config: &ServerConfig, tool: &str) -> Option<Policy> {
    match config.rules.get(tool).or_else(|| config.rules.get(ANY_TOOL)) {
        Some(Rule::Offered(policy)) => Some(*policy),
        Some(Rule::Hidden) | None => None,
    }
}

fn offer(
    config: &ServerConfig,
    name: String,
    tool_name: String,
    tool: &Tool,
    policy: Policy,
    before: &Catalog,
) -> Result<ToolInfo, (String, crate::json_schema::Error)> {
    let mut source = Value::Object(tool.input_schema.as_ref().clone());
    if let Err(error) = clean(&mut source) {
        return Err((tool_name, error));
    }
    let known = before.values().find(|known| known.tool == tool_name && known.schema.is_of(&source));
    let schema = match known.map_or_else(|| Schema::compile(source), |known| Ok(known.schema.clone())) {
        Ok(schema) => schema,
        Err(error) => return Err((tool_name, error)),
    };
    let description = words::line(tool.description.as_deref().unwrap_or_default(), DESCRIPTION_CHARS);
    Ok(ToolInfo { name, server: config.name.clone(), tool: tool_name, description, schema, policy })
}

/// Cleans what a schema says to its reader, which is a model. Names cannot be changed: the server would not know them.
fn clean(schema: &mut Value) -> Result<(), crate::json_schema::Error> {
    let members = match schema {
        Value::Array(values) => return values.iter_mut().try_for_each(clean),
        Value::Object(members) => members,
        _ => return Ok(()),
    };
    for (name, value) in members {
        check_name(name, NAMED_CHARS)?;
        match (name.as_str(), value) {
            ("description" | "title" | "$comment", Value::String(text)) => {
                *text = words::line(text, ARGUMENT_CHARS);
            }
            // These are values, which have to stay as they are.
            ("enum" | "const" | "default" | "examples", _) => {}
            ("properties", Value::Object(arguments)) => {
                for (name, schema) in arguments {
                    check_name(name, ARGUMENT_NAME_CHARS)?;
                    clean(schema)?;
                }
            }
            (_, value) => clean(value)?,
        }
    }
    Ok(())
}

fn check_name(name: &str, longest: usize) -> Result<(), crate::json_schema::Error> {
    if name.chars().any(is_disturbing) || name.chars().count() > longest {
        let name = words::line(name, ARGUMENT_NAME_CHARS);
        return Err(crate::json_schema::Error::Invalid(format!("{name:?} is no usable name")));
    }
    Ok(())
}

fn is_plain(server: &str, tool: &str) -> bool {
    server.len() + SEPARATOR.len() + tool.len() <= NAME_CHARS && tool.bytes().all(is_name_byte)
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}

/// `server__tool`, or what comes nearest to it, with a checksum of the real name.
fn model_name(server: &str, tool: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let plain = format!("{server}{SEPARATOR}{tool}");
    if is_plain(server, tool) && !is_taken(&plain) {
        return plain;
    }
    let mut salt = 0_u32;
    loop {
        let mut hash = crc32fast::Hasher::new();
        hash.update(tool.as_bytes());
        hash.update(&salt.to_le_bytes());
        let end = format!("_{:08x}", hash.finalize());
        let room = NAME_CHARS.saturating_sub(server.len() + SEPARATOR.len() + end.len());
        let begin: String = tool
            .chars()
            .map(|c| if u8::try_from(c).is_ok_and(is_name_byte) { c } else { '_' })
            .take(room)
            .collect();
        let name = format!("{server}{SEPARATOR}{begin}{end}");
        if !is_taken(&name) {
            return name;
        }
        salt = salt.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::config::{Endpoint, Pace};

    fn config() -> ServerConfig {
        let policy = Policy { approval: false, trusted_only: false };
        let second = std::time::Duration::from_secs(1);
        ServerConfig {
            name: "mine".into(),
            endpoint: Endpoint::Http {
                url: "http://localhost/".into(),
                is_url_secret: false,
                headers: BTreeMap::new(),
            },
            connect_timeout: second,
            call_timeout: second,
            max_result: 1024,
            rules: [(ANY_TOOL.to_owned(), Rule::Offered(policy))].into(),
            pace: Pace::default(),
        }
    }

    fn tool(name: &str, schema: &Value) -> Tool {
        let tool = json!({ "name": name, "inputSchema": schema });
        serde_json::from_value(tool).unwrap()
    }

    #[test]
    fn a_schema_is_compiled_once() {
        let list = |kind: &str| {
            let schema = json!({ "type": "object", "properties": { "a": { "type": kind } } });
            vec![tool("same", &json!({ "type": "object" })), tool("other", &schema)]
        };
        let first = catalog(&config(), list("string"), &Catalog::new());
        let second = catalog(&config(), list("integer"), &first);
        let value = |catalog: &Catalog, name: &str| std::ptr::from_ref(catalog[name].schema.value());
        assert_eq!(value(&first, "mine__same"), value(&second, "mine__same"));
        assert!(second["mine__other"].schema.check(&json!({ "a": 1 })).is_ok());
        assert!(first["mine__other"].schema.check(&json!({ "a": 1 })).is_err());
    }

    #[test]
    fn words_about_arguments_are_cleaned_too() {
        let schema = json!({
            "type": "object",
            "title": "a\u{202e}b",
            "properties": {
                "description": { "type": "string", "description": format!("x\n\u{1b}[2J{}", "y".repeat(1000)) },
                "only": { "const": { "title": "a\nb" } },
                "kind": { "enum": ["a\u{200b}b"], "prefixItems": [{ "title": "a\u{7}b" }] },
            },
        });
        let catalog = catalog(&config(), vec![tool("a", &schema)], &Catalog::new());
        let value = catalog["mine__a"].schema.value();
        assert_eq!(value["title"], "a b");
        let description = value["properties"]["description"]["description"].as_str().unwrap();
        assert!(description.starts_with("x [2Jyyy") && description.chars().count() == 513, "{description}");
        assert_eq!(value["properties"]["kind"]["enum"][0], "a\u{200b}b");
        assert_eq!(value["properties"]["only"]["const"]["title"], "a\nb");
        assert_eq!(value["properties"]["kind"]["prefixItems"][0]["title"], "a b");
    }

    #[test]
    fn names_of_arguments_that_cannot_be_shown_keep_a_tool_back() {
        let of = |name: &str| json!({ "type": "object", "properties": { name: { "type": "string" } } });
        let long = "x".repeat(129);
        let listed = vec![
            tool("a", &of("x\u{202e}y")),
            tool("b", &of(&long)),
            tool("c", &of("x y")),
            tool("d", &of("ä")),
            tool(
                "e",
                &json!({ "type": "object", "patternProperties": { (long.as_str()): { "type": "string" } } }),
            ),
        ];
        let catalog = catalog(&config(), listed, &Catalog::new());
        assert_eq!(catalog.keys().collect::<Vec<_>>(), ["mine__c", "mine__d", "mine__e"]);
    }
}
