//! What is in a schema, found before it is compiled.
//!
//! Pure. Owns which keywords hold further schemas, where references may lead, and which patterns are checked. It is
//! complete: what it does not reach cannot be reached by a reference either, so the bounds it sets hold for the whole.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::{PatternOptions, Regex};
use serde_json::{Map, Value, json};

/// Different targets of references; compiling a chain of them needs stack for each.
const TARGETS_MAX: usize = 128;
/// The longest pattern that is checked.
const PATTERN_BYTES: usize = 2048;
/// Patterns of one schema that are checked; finding out what each costs takes up to a few milliseconds.
const PATTERNS_MAX: usize = 50;
/// Memory in which patterns are tried to be compiled, the smallest first. The larger, the more states a byte of text
/// may lead through.
const PATTERN_SIZES: [usize; 6] = [1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10];
/// Steps that a byte of text costs at most, for each KiB of the pattern; measured with patterns that keep every set of
/// states apart, such as `[ab]*a[ab]{400}c`.
const STEPS_A_KIB: u64 = 10;
/// Memory that all patterns of a schema may take.
const PATTERNS_BYTES: usize = 512 << 10;
/// Memory in which a pattern is tried that is not going to be checked: whether it is one at all.
const UNCHECKED_BYTES: usize = 1 << 20;
/// Memory of what is made of a pattern while it is matched.
const PATTERN_CACHE_BYTES: usize = 256 << 10;

/// The patterns that are checked, with the steps that a byte of text costs.
pub(super) type Patterns = BTreeMap<String, u64>;

/// How patterns are compiled: the time of a match grows with the text and with the pattern, and no faster.
pub(super) fn pattern_options(bytes: usize) -> PatternOptions<Regex> {
    PatternOptions::regex().size_limit(bytes).dfa_size_limit(PATTERN_CACHE_BYTES)
}

/// The largest memory of a compiled pattern.
pub(super) fn pattern_bytes_max() -> usize {
    PATTERN_SIZES.into_iter().max().unwrap_or(0)
}

/// Where a schema is followed to: whatever `$ref` stands for in this schema.
pub(super) fn target(reference: &str) -> Option<String> {
    decoded(reference.strip_prefix('#')?)
}

/// Takes out of `schema` the patterns that are not checked here, and gives the others; or what keeps the schema from
/// being used.
pub(super) fn survey(schema: &mut Value) -> Result<Patterns, String> {
    let (mut places, mut targets) = (BTreeSet::new(), BTreeSet::new());
    let (mut patterns, mut names) = (BTreeSet::new(), BTreeSet::new());
    let (mut has_names, mut refused) = (false, None);
    each_schema(schema, "", &mut |at, schema| {
        places.insert(at.to_owned());
        let Value::Object(schema) = schema else { return };
        has_names |=
            !at.is_empty() && ["$id", "id"].iter().any(|key| schema.get(*key).is_some_and(Value::is_string));
        for key in ["$dynamicRef", "$recursiveRef"] {
            if schema.contains_key(key) {
                refused = Some(format!("{key} is not followed"));
            }
        }
        if let Some(Value::String(reference)) = schema.get("$ref") {
            match target(reference) {
                Some(target) => drop(targets.insert(target)),
                None => refused = Some(format!("{reference:?} leads out of it")),
            }
        }
        if let Some(Value::String(pattern)) = schema.get("pattern") {
            patterns.insert(pattern.clone());
        }
        if let Some(Value::Object(properties)) = schema.get("patternProperties") {
            names.extend(properties.keys().cloned());
        }
    });
    if let Some(refused) = refused {
        return Err(refused);
    }
    if targets.len() > TARGETS_MAX {
        return Err(format!("it refers to {} places, at most {TARGETS_MAX} are taken", targets.len()));
    }
    if let Some(target) = targets.iter().find(|target| !places.contains(*target)) {
        return Err(format!("there is no schema at {target:?}"));
    }
    if has_names && !targets.is_empty() {
        return Err("it gives names to its parts and refers to parts: what is meant cannot be told".into());
    }
    chosen(schema, &names, &patterns)
}

/// The names of properties cannot be left unchecked, so they come first.
fn chosen(
    schema: &mut Value,
    names: &BTreeSet<String>,
    patterns: &BTreeSet<String>,
) -> Result<Patterns, String> {
    let (mut chosen, mut left) = (Patterns::new(), PATTERNS_BYTES);
    let mut choose = |pattern: &String| {
        let has_room = chosen.len() < PATTERNS_MAX && pattern.len() <= PATTERN_BYTES;
        let bytes = if has_room { measured(pattern, left) } else { None };
        let Some(bytes) = bytes else { return false };
        left -= bytes;
        chosen.insert(pattern.clone(), steps(pattern, bytes));
        true
    };
    if let Some(name) = names.iter().find(|name| !choose(name)) {
        return Err(format!("the pattern {name:?} of names cannot be used"));
    }
    let mut unchecked = BTreeSet::new();
    for pattern in patterns.iter().filter(|pattern| !names.contains(*pattern)) {
        if !choose(pattern) {
            // Trying takes time, too.
            if unchecked.len() < PATTERNS_MAX && pattern.len() <= PATTERN_BYTES && !is_pattern(pattern) {
                return Err(format!("{pattern:?} is no pattern, or too large"));
            }
            unchecked.insert(pattern.clone());
        }
    }
    each_schema(schema, "", &mut |_, schema| {
        let Value::Object(schema) = schema else { return };
        if schema.get("pattern").and_then(Value::as_str).is_some_and(|pattern| unchecked.contains(pattern)) {
            schema.remove("pattern");
        }
    });
    Ok(chosen)
}

/// The memory that suffices for it; `None`: it needs more, or an engine that goes back.
fn measured(pattern: &str, left: usize) -> Option<usize> {
    let schema = json!({ "pattern": pattern });
    PATTERN_SIZES.into_iter().filter(|bytes| *bytes <= left).find(|bytes| {
        let options = jsonschema::options().offline().with_pattern_options(pattern_options(*bytes));
        options.build(&schema).is_ok()
    })
}

/// What a byte of text costs. Without counted repetitions a pattern stands at no more places at once than it has
/// characters, however large its sets of characters are.
fn steps(pattern: &str, bytes: usize) -> u64 {
    let by_size = u64::try_from(bytes / 1024).unwrap_or(u64::MAX).saturating_mul(STEPS_A_KIB);
    if pattern.contains('{') {
        return by_size;
    }
    by_size.min(u64::try_from(pattern.len() / 2 + 1).unwrap_or(u64::MAX))
}

fn is_pattern(pattern: &str) -> bool {
    let options =
        PatternOptions::fancy_regex().size_limit(UNCHECKED_BYTES).dfa_size_limit(PATTERN_CACHE_BYTES);
    jsonschema::options()
        .offline()
        .with_pattern_options(options)
        .build(&json!({ "pattern": pattern }))
        .is_ok()
}

/// Every schema within `schema`, itself first, each with the JSON pointer to it.
fn each_schema(schema: &mut Value, at: &str, visit: &mut dyn FnMut(&str, &mut Value)) {
    visit(at, schema);
    let Value::Object(keywords) = schema else { return };
    for (keyword, value) in keywords {
        let at = format!("{at}/{}", escaped(keyword));
        match keyword.as_str() {
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas"
            | "dependencies" => {
                each_member(value, &at, visit);
            }
            "allOf"
            | "anyOf"
            | "oneOf"
            | "not"
            | "if"
            | "then"
            | "else"
            | "items"
            | "prefixItems"
            | "additionalItems"
            | "unevaluatedItems"
            | "contains"
            | "additionalProperties"
            | "unevaluatedProperties"
            | "propertyNames" => match value {
                Value::Array(schemas) => {
                    for (n, schema) in schemas.iter_mut().enumerate() {
                        each_schema(schema, &format!("{at}/{n}"), visit);
                    }
                }
                schema => each_schema(schema, &at, visit),
            },
            _ => {}
        }
    }
}

fn each_member(schemas: &mut Value, at: &str, visit: &mut dyn FnMut(&str, &mut Value)) {
    let members: Option<&mut Map<_, _>> = schemas.as_object_mut();
    for (name, schema) in members.into_iter().flatten() {
        each_schema(schema, &format!("{at}/{}", escaped(name)), visit);
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// `%3C` and the like; in a fragment, anything that is no letter may be written so.
fn decoded(fragment: &str) -> Option<String> {
    let mut parts = fragment.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}
