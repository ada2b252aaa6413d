//! The form of an answer as OpenAI's servers, and those that pass it on to them, want it described.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::llm::AnswerForm;

/// A schema with its name, and whether the server is to enforce it.
#[derive(Debug, Serialize)]
pub(super) struct NamedSchema<'a> {
    name: &'a str,
    schema: &'a Value,
    /// Servers enforce only schemas that leave nothing open, and refuse to enforce others.
    strict: bool,
}

impl<'a> From<&'a AnswerForm> for NamedSchema<'a> {
    fn from(form: &'a AnswerForm) -> Self {
        Self { name: &form.name, schema: &form.schema, strict: is_closed(&form.schema) }
    }
}

/// Whether every object of the schema names all that it may hold, and requires all of it.
fn is_closed(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => is_closed_object(fields) && fields.values().all(is_closed),
        Value::Array(items) => items.iter().all(is_closed),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn is_closed_object(schema: &Map<String, Value>) -> bool {
    let is_object = schema.get("type").and_then(Value::as_str) == Some("object");
    if !is_object {
        return true;
    }
    let no_names = Map::new();
    let names = schema.get("properties").and_then(Value::as_object).unwrap_or(&no_names);
    let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    schema.get("additionalProperties") == Some(&Value::Bool(false))
        && names.keys().all(|name| required.iter().any(|required| required == name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_schema_that_leaves_nothing_open_is_enforced() {
        let closed = |schema: Value| is_closed(&schema);
        let inner = json!({"type": "object", "additionalProperties": false, "required": ["a"],
            "properties": {"a": {"type": "string", "enum": ["x"]}}});
        assert!(closed(inner.clone()));
        assert!(closed(json!({"type": "object", "additionalProperties": false, "required": ["list"],
            "properties": {"list": {"type": "array", "items": inner}}})));
        assert!(!closed(json!({"type": "object"})));
        assert!(!closed(json!({"type": "object", "additionalProperties": false, "properties": {"a": {}}})));
        assert!(!closed(json!({"type": "array", "items": {"type": "object"}})));
    }
}
