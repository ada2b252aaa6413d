//! Arguments of tools, checked against the JSON schema that the tool itself gives.
//!
//! Owns compiling a schema once and saying, in words that a model can act on, what is wrong with a value. Serves the
//! built-in tools and foreign ones alike, so it trusts no schema: it fetches nothing, follows only references within
//! the schema, bounds its size and what a pattern may cost. A schema that cannot be compiled is an error for whoever
//! offers the tool, never for whoever calls it.

use std::{fmt, sync::Arc};

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// The largest schema, as JSON text: every model is sent it with every question.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Steps a pattern may take on one value; patterns of people need a few thousand.
const PATTERN_STEPS: usize = 100_000;
/// Memory one compiled pattern may take.
const PATTERN_BYTES: usize = 1 << 20;
/// More would not help a model to mend its call.
const PROBLEMS_SHOWN: usize = 5;
/// The longest description of one problem, in characters: it repeats the value, which may be long.
const PROBLEM_CHARS: usize = 200;

/// Why a schema cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// Arguments of tools are objects; this schema does not describe one.
    #[error("the schema does not describe an object")]
    NotAnObject,
    /// It is longer than [`SCHEMA_BYTES_MAX`].
    #[error("the schema has {0} bytes, at most {SCHEMA_BYTES_MAX} are taken")]
    TooLarge(usize),
    /// It is no valid schema, or refers to something outside itself.
    #[error("the schema is not valid: {0}")]
    Invalid(String),
}

/// A compiled schema. Cheap to clone.
#[derive(Clone)]
pub struct Schema {
    value: Arc<Value>,
    validator: Arc<Validator>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.value).finish()
    }
}

impl Schema {
    /// Compiles the schema of a tool's arguments. What foreign servers leave out and models need is added: `type` and
    /// `properties`.
    pub fn compile(schema: Value) -> Result<Self, Error> {
        let Value::Object(mut schema) = schema else { return Err(Error::NotAnObject) };
        if schema.entry("type").or_insert_with(|| json!("object")) != "object" {
            return Err(Error::NotAnObject);
        }
        schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
        let mut value = Value::Object(schema);
        let bytes = value.to_string().len();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(Error::TooLarge(bytes));
        }
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(
                PatternOptions::fancy_regex()
                    .backtrack_limit(PATTERN_STEPS)
                    .size_limit(PATTERN_BYTES)
                    .dfa_size_limit(PATTERN_BYTES),
            )
            .build(&value)
            .map_err(|error| Error::Invalid(shortened(&error.to_string())))?;
        // Says which dialect it is written in: some providers refuse keys they do not know.
        if let Some(schema) = value.as_object_mut() {
            schema.remove("$schema");
        }
        Ok(Self { value: Arc::new(value), validator: Arc::new(validator) })
    }

    /// The schema as a model is shown it.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether `arguments` fit; otherwise where they do not, and why.
    pub fn check(&self, arguments: &Value) -> Result<(), String> {
        let mut problems = Vec::new();
        let mut errors = self.validator.iter_errors(arguments);
        for error in errors.by_ref().take(PROBLEMS_SHOWN) {
            let path = error.instance_path().to_string();
            let place = if path.is_empty() { "arguments".to_owned() } else { format!("arguments at {path}") };
            problems.push(shortened(&format!("{place}: {error}")));
        }
        if problems.is_empty() {
            return Ok(());
        }
        if errors.next().is_some() {
            problems.push("there is more".into());
        }
        Err(problems.join("; "))
    }
}

fn shortened(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let start: String = chars.by_ref().take(PROBLEM_CHARS).collect();
    if chars.next().is_some() { format!("{start}…") } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::compile(json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "properties": {
                "city": { "type": "string", "minLength": 2, "pattern": "^(?!x)[a-z]+$" },
                "days": { "type": "integer", "minimum": 1, "maximum": 7 },
                "unit": { "$ref": "#/$defs/unit" },
            },
            "required": ["city"],
            "additionalProperties": false,
            "$defs": { "unit": { "enum": ["C", "F"] } },
        }))
        .unwrap()
    }

    #[test]
    fn what_fits_passes() {
        schema().check(&json!({ "city": "rome", "days": 7, "unit": "C" })).unwrap();
        schema().check(&json!({ "city": "rome" })).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        for (arguments, words) in [
            (json!({}), ["arguments:", "\"city\" is a required"]),
            (json!({ "city": 1 }), ["at /city", "not of type \"string\""]),
            (json!({ "city": "xyz" }), ["at /city", "does not match"]),
            (json!({ "city": "rome", "days": 8 }), ["at /days", "maximum of 7"]),
            (json!({ "city": "rome", "unit": "K" }), ["at /unit", "\"K\" is not one of"]),
            (json!({ "city": "rome", "when": 1 }), ["arguments:", "'when'"]),
            (json!([]), ["arguments:", "not of type \"object\""]),
        ] {
            let said = schema().check(&arguments).unwrap_err();
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }

    #[test]
    fn what_is_told_is_short() {
        let said = schema().check(&json!({ "city": "X".repeat(100_000) })).unwrap_err();
        assert!(said.chars().count() <= PROBLEM_CHARS + 1, "{}", said.len());
        let many: Map<String, Value> =
            (0..100).map(|n| (format!("p{n}"), json!({ "type": "string" }))).collect();
        let wrong: Map<String, Value> = many.keys().map(|name| (name.clone(), json!(1))).collect();
        let schema = Schema::compile(json!({ "type": "object", "properties": many })).unwrap();
        let said = schema.check(&Value::Object(wrong)).unwrap_err();
        assert_eq!(said.split("; ").count(), PROBLEMS_SHOWN + 1, "{said}");
        assert!(said.ends_with("there is more"), "{said}");
    }

    #[test]
    fn a_model_is_shown_an_object_with_properties() {
        assert_eq!(
            Schema::compile(json!({})).unwrap().value(),
            &json!({ "type": "object", "properties": {} })
        );
        assert_eq!(schema().value().get("$schema"), None);
    }

    #[test]
    fn what_is_no_schema_of_an_object_is_refused() {
        for other in [json!(null), json!(true), json!([]), json!({ "type": "string" }), json!({ "type": 7 })]
        {
            assert_eq!(Schema::compile(other).unwrap_err(), Error::NotAnObject);
        }
        let large = json!({ "description": "x".repeat(SCHEMA_BYTES_MAX) });
        assert!(matches!(Schema::compile(large).unwrap_err(), Error::TooLarge(_)));
        for invalid in [
            json!({ "properties": { "a": { "type": "strnig" } } }),
            json!({ "properties": { "a": { "pattern": "(" } } }),
            json!({ "properties": { "a": { "$ref": "#/$defs/nowhere" } } }),
        ] {
            assert!(matches!(Schema::compile(invalid).unwrap_err(), Error::Invalid(_)));
        }
    }

    #[test]
    fn nothing_outside_the_schema_is_read() {
        for reference in ["file:///etc/passwd", "http://127.0.0.1:9/schema", "/etc/passwd", "other.json"] {
            let schema = json!({ "properties": { "a": { "$ref": reference } } });
            assert!(matches!(Schema::compile(schema).unwrap_err(), Error::Invalid(_)), "{reference}");
        }
    }

    #[test]
    fn a_pattern_cannot_run_for_ever() {
        // Backtracks without end without the limit: it holds a reference to its own group.
        let schema = json!({ "properties": { "a": { "pattern": "^(a+)+\\1b$" } } });
        let schema = Schema::compile(schema).unwrap();
        assert!(schema.check(&json!({ "a": "a".repeat(5000) })).is_err());
        let large = json!({ "properties": { "a": { "pattern": "((a{1000}){1000}){1000}" } } });
        assert!(matches!(Schema::compile(large).unwrap_err(), Error::Invalid(_)));
    }
}
