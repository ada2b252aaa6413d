//! How the offline provider fills a form: the smallest value that the schema allows, which says that it is offline
//! wherever a text is free.

use std::cell::Cell;

use serde_json::{Map, Number, Value};

/// Stands wherever the schema leaves a text open.
const TEXT: &str = "Written by Salon's offline stand-in: no model is connected.";
/// A schema that leads into itself is not followed further.
const DEPTH_MAX: usize = 16;
/// A schema that leads into itself in several places is not followed for ever.
const VALUES_MAX: u32 = 10_000;
/// A list that must be longer than this gets no more.
const ITEMS_MAX: u64 = 100;

/// The text of a value that fits `schema`, as far as its plain keywords say.
pub(super) fn fill(schema: &Value) -> String {
    Filler { root: schema, values: Cell::new(0) }.value(schema, 0).to_string()
}

struct Filler<'a> {
    root: &'a Value,
    /// How many were made.
    values: Cell<u32>,
}

impl Filler<'_> {
    fn value(&self, schema: &Value, depth: usize) -> Value {
        let values = self.values.replace(self.values.get().saturating_add(1));
        if depth > DEPTH_MAX || values > VALUES_MAX {
            return Value::Null;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|path| self.root.pointer(path));
            return found.map_or(Value::Null, |found| self.value(found, depth + 1));
        }
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(first) = schema.get("enum").and_then(|all| all.get(0)) {
            return first.clone();
        }
        let choices = ["anyOf", "oneOf", "allOf"].iter().find_map(|name| schema.get(name));
        if let Some(first) = choices.and_then(|all| all.get(0)) {
            return self.value(first, depth + 1);
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "string" => string(schema),
            "integer" | "number" => number(schema),
            "boolean" => Value::Bool(false),
            _ => Value::Null,
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let nothing = Value::Null;
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let names = required.filter_map(Value::as_str);
        let member = |name: &str| schema.get("properties").and_then(|all| all.get(name)).unwrap_or(&nothing);
        let members = names.map(|name| (name.to_owned(), self.value(member(name), depth + 1)));
        Value::Object(members.collect::<Map<_, _>>())
    }

    fn array(&self, schema: &Value, depth: usize) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(ITEMS_MAX);
        let item = schema.get("items").unwrap_or(&Value::Null);
        Value::Array((0..least).map(|_| self.value(item, depth + 1)).collect())
    }
}

/// The type; of several the first that holds something.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ => "string",
    }
}

fn string(schema: &Value) -> Value {
    let length = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let mut text: String = TEXT.chars().take(length("maxLength").unwrap_or(usize::MAX)).collect();
    let missing = length("minLength").unwrap_or(0).saturating_sub(text.chars().count());
    text.extend(std::iter::repeat_n('.', missing.min(TEXT.len() * 100)));
    Value::String(text)
}

fn number(schema: &Value) -> Value {
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
    let least = bound("minimum").or(bound("exclusiveMinimum").map(|below| below.saturating_add(1)));
    let most = bound("maximum").or(bound("exclusiveMaximum").map(|above| above.saturating_sub(1)));
    let number = least.unwrap_or(0).min(most.unwrap_or(i64::MAX));
    Value::Number(Number::from(number.max(least.unwrap_or(i64::MIN))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(schema: &Value) -> Value {
        serde_json::from_str(&fill(schema)).unwrap()
    }

    #[test]
    fn a_form_is_filled_with_what_it_requires() {
        let schema = json!({
            "type": "object",
            "required": ["name", "mood", "llms", "size", "private", "version", "note"],
            "properties": {
                "name": {"type": "string", "maxLength": 10},
                "mood": {"enum": ["calm", "wild"]},
                "llms": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/llm"}},
                "size": {"type": "integer", "minimum": 3, "maximum": 9},
                "private": {"type": "boolean"},
                "version": {"const": 1},
                "note": {"type": ["string", "null"]},
                "left_out": {"type": "string"}
            },
            "$defs": {"llm": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}}
        });
        assert_eq!(
            filled(&schema),
            json!({"name": "Written by", "mood": "calm", "llms": [{"id": TEXT}, {"id": TEXT}], "size": 3,
                "private": false, "version": 1, "note": TEXT})
        );
        assert_eq!(fill(&schema), fill(&schema), "deterministic");
    }

    #[test]
    fn odd_schemas_end() {
        let endless = json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}});
        assert!(filled(&endless).is_object());
        let again = json!({"$ref": "#"});
        let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let members: Map<String, Value> = names.iter().map(|name| (name.clone(), again.clone())).collect();
        assert!(filled(&json!({"type": "object", "required": names, "properties": members})).is_object());
        let wide = json!({"type": "array", "minItems": 4_000_000_000_u64, "items": {"type": "null"}});
        assert_eq!(filled(&wide).as_array().unwrap().len(), 100);
        assert_eq!(filled(&json!({})), json!(TEXT));
        assert_eq!(
            filled(&json!({"type": "string", "minLength": 100})).as_str().unwrap().chars().count(),
            100
        );
        assert_eq!(filled(&json!({"type": "integer", "maximum": -2})), json!(-2));
        assert_eq!(filled(&json!({"anyOf": [{"type": "boolean"}, {"type": "string"}]})), json!(false));
        assert_eq!(filled(&json!({"$ref": "#/nowhere"})), Value::Null);
    }
}
