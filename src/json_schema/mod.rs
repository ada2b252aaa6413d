//! Arguments of tools, checked against the JSON schema that the tool itself gives.
//!
//! Owns compiling a schema once and saying, in words that a model can act on, what is wrong with a value. Serves the
//! built-in tools and foreign ones alike, so it trusts no schema: it fetches nothing, follows only references within
//! the schema, and bounds its size and what a check may cost, which is counted before it is made: no check takes longer
//! than some milliseconds, so none needs a thread of its own. A pattern that only an engine can match that goes back
//! again and again is not checked here: whoever carries out the call may. A schema that cannot be compiled is an error
//! for whoever offers the tool, never for whoever calls it.

mod survey;
mod work;

use std::{fmt, sync::Arc};

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::json_schema::{
    survey::{Patterns, pattern_bytes_max, pattern_options, survey},
    work::work,
};

/// The largest schema, as JSON text: every model is sent it with every question.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Steps up to which it is said where arguments do not fit: each place that is found is kept until all are.
const TOLD_WORK_MAX: u64 = 50_000;
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
    compiled: Arc<Compiled>,
}

struct Compiled {
    /// What was given.
    source: Value,
    /// What is checked: the schema without the patterns that are not.
    checked: Value,
    patterns: Patterns,
    validator: Validator,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.value).finish()
    }
}

impl Schema {
    /// Compiles the schema of a tool's arguments. What foreign servers leave out and models need is added: `type` and
    /// `properties`.
    pub fn compile(source: Value) -> Result<Self, Error> {
        let Value::Object(mut schema) = source.clone() else { return Err(Error::NotAnObject) };
        if schema.entry("type").or_insert_with(|| json!("object")) != "object" {
            return Err(Error::NotAnObject);
        }
        schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
        let mut value = Value::Object(schema);
        let bytes = value.to_string().len();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(Error::TooLarge(bytes));
        }
        let mut checked = value.clone();
        let patterns = survey(&mut checked).map_err(|why| Error::Invalid(shortened(&why)))?;
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(pattern_options(pattern_bytes_max()))
            .build(&checked)
            .map_err(|error| Error::Invalid(shortened(&error.to_string())))?;
        // Says which dialect it is written in: some providers refuse keys they do not know.
        if let Some(schema) = value.as_object_mut() {
            schema.remove("$schema");
        }
        Ok(Self {
            value: Arc::new(value),
            compiled: Arc::new(Compiled { source, checked, patterns, validator }),
        })
    }

    /// Whether this is what was compiled: it need not be again.
    pub fn is_of(&self, source: &Value) -> bool {
        self.compiled.source == *source
    }

    /// The schema as a model is shown it.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether `arguments` fit; otherwise where they do not, and why.
    pub fn check(&self, arguments: &Value) -> Result<(), String> {
        let Compiled { checked, patterns, validator, .. } = self.compiled.as_ref();
        let work = work(checked, patterns, arguments)
            .ok_or("the arguments are too large or too intricate to be checked: say it with fewer")?;
        if validator.is_valid(arguments) {
            return Ok(());
        }
        if work > TOLD_WORK_MAX {
            return Err("the arguments do not fit the schema, and are too many to say where".into());
        }
        let mut problems = Vec::new();
        let mut errors = validator.iter_errors(arguments);
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
                "city": { "type": "string", "minLength": 2, "pattern": "^[a-wy-z][a-z]+$" },
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
            json!({ "properties": { "a": { "$dynamicRef": "#" } } }),
            json!({ "properties": { "a": { "$id": "b", "$ref": "#" } } }),
            json!({ "properties": { "a": { "patternProperties": { "(?=b)": {} } } } }),
            // It is there, and no schema.
            json!({ "properties": { "a": { "default": {}, "$ref": "#/properties/a/default" } } }),
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
    fn a_part_is_found_by_any_spelling_of_its_place() {
        let schema = json!({
            "properties": { "a": { "$ref": "#/definitions/List%3Ca~1b%3E" } },
            "definitions": { "List<a/b>": { "type": "array" } },
        });
        let schema = Schema::compile(schema).unwrap();
        schema.check(&json!({ "a": [] })).unwrap();
        schema.check(&json!({ "a": 1 })).unwrap_err();
    }

    #[test]
    fn too_many_places_that_are_referred_to_are_refused() {
        let chain = |n: usize| {
            let defs: Map<String, Value> = (0..n)
                .map(|i| (format!("d{i}"), json!({ "$ref": format!("#/$defs/d{}", i + 1) })))
                .chain([(format!("d{n}"), json!({ "type": "integer" }))])
                .collect();
            Schema::compile(json!({ "properties": { "a": { "$ref": "#/$defs/d0" } }, "$defs": defs }))
        };
        chain(120).unwrap().check(&json!({ "a": 1 })).unwrap();
        assert!(matches!(chain(1000).unwrap_err(), Error::Invalid(_)));
    }

    #[test]
    fn a_pattern_that_goes_back_is_shown_and_not_checked() {
        for pattern in ["^(?!x)a+$", "^(a+)+\\1b$", "^.{1,1000}$"] {
            let schema = json!({ "properties": { "a": { "pattern": pattern, "maxLength": 9 } } });
            let schema = Schema::compile(schema).unwrap();
            assert_eq!(schema.value()["properties"]["a"]["pattern"], pattern);
            schema.check(&json!({ "a": "xyz" })).unwrap();
            schema.check(&json!({ "a": "a".repeat(10) })).unwrap_err();
        }
        let large = json!({ "properties": { "a": { "pattern": "((a{1000}){1000}){1000}" } } });
        assert!(matches!(Schema::compile(large).unwrap_err(), Error::Invalid(_)));
    }

    #[test]
    fn more_patterns_than_are_checked_are_left() {
        let many: Map<String, Value> =
            (0..100).map(|n| (format!("p{n:03}"), json!({ "pattern": format!("^a{n:03}") }))).collect();
        let schema = Schema::compile(json!({ "properties": many })).unwrap();
        schema.check(&json!({ "p000": "b" })).unwrap_err();
        schema.check(&json!({ "p099": "b" })).unwrap();
    }

    #[test]
    fn many_problems_are_told_in_short() {
        let schema = json!({ "properties": { "a": { "items": { "type": "integer" } } } });
        let schema = Schema::compile(schema).unwrap();
        let said = schema.check(&json!({ "a": vec!["x"; 20_000] })).unwrap_err();
        assert!(said.contains("too many to say where"), "{said}");
    }
}
