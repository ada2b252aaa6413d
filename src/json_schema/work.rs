//! What a check costs at most, counted before it is made.
//!
//! Pure. Walks a schema and a value as a validator does, but compares nothing, so it takes every branch: what it
//! counts is no less than what a validator does, and counting ends when there is too much of it. A schema whose parts
//! refer to each other can ask for more steps than there are atoms, of a value of a few bytes.

use serde_json::{Map, Value};

use crate::json_schema::survey::{self, Patterns};

/// The most that is counted, in steps of up to 50 ns: 10 ms, which is short enough for a thread that others use.
pub(super) const WORK_MAX: u64 = 200_000;
/// How deep schemas and values may lead into each other; the validator needs stack for each level.
const DEPTH_MAX: u32 = 400;
/// Bytes of text that are looked at in one step.
const BYTES_A_STEP: usize = 16;
/// Elements up to which a validator compares each with each; more are hashed.
const PAIRWISE_MAX: usize = 15;

/// The steps of checking `value`; `None`: more than [`WORK_MAX`], or too deep.
pub(super) fn work(schema: &Value, patterns: &Patterns, value: &Value) -> Option<u64> {
    let mut count = Count { root: schema, patterns, left: WORK_MAX };
    count.visit(schema, value, Place { depth: 0, repeats: 1 })?;
    Some(WORK_MAX - count.left)
}

struct Count<'a> {
    root: &'a Value,
    patterns: &'a Patterns,
    left: u64,
}

#[derive(Clone, Copy)]
struct Place {
    depth: u32,
    /// How often it is looked at: whoever says why nothing of a choice fits looks once whether and once why.
    repeats: u64,
}

impl Count<'_> {
    fn spend(&mut self, steps: usize, place: Place) -> Option<()> {
        let steps = u64::try_from(steps).ok()?.checked_mul(place.repeats)?;
        self.left = self.left.checked_sub(steps)?;
        Some(())
    }

    fn visit(&mut self, schema: &Value, value: &Value, place: Place) -> Option<()> {
        let Value::Object(schema) = schema else { return self.spend(1, place) };
        let place = Place { depth: place.depth + 1, ..place };
        if place.depth > DEPTH_MAX {
            return None;
        }
        self.spend(1 + schema.len(), place)?;
        self.same_value(schema, value, place)?;
        if schema.contains_key("unevaluatedProperties") || schema.contains_key("unevaluatedItems") {
            // Finding what the others have evaluated means to ask them again, and whether they fit as well.
            self.same_value(schema, value, place)?;
            self.same_value(schema, value, place)?;
        }
        for key in ["enum", "const"] {
            if let Some(known) = schema.get(key) {
                self.compare(known, value, place)?;
            }
        }
        match value {
            Value::Object(members) => self.members(schema, members, place),
            Value::Array(elements) => self.elements(schema, value, elements, place),
            Value::String(text) => self.text(schema, text, place),
            _ => Some(()),
        }
    }

    /// The schemas that the same value has to fit.
    fn same_value(&mut self, schema: &Map<String, Value>, value: &Value, place: Place) -> Option<()> {
        let again = Place { repeats: place.repeats + 1, ..place };
        for (key, schema) in schema {
            let place = match key.as_str() {
                "anyOf" | "oneOf" | "not" | "if" => again,
                "allOf" | "then" | "else" => place,
                "$ref" => {
                    let target = survey::target(schema.as_str().unwrap_or_default())?;
                    self.visit(self.root.pointer(&target)?, value, place)?;
                    continue;
                }
                "dependentSchemas" | "dependencies" => {
                    let schemas = schema.as_object().into_iter().flatten();
                    for (_, schema) in schemas.filter(|(name, _)| value.get(name.as_str()).is_some()) {
                        self.visit(schema, value, place)?;
                    }
                    continue;
                }
                _ => continue,
            };
            match schema {
                Value::Array(schemas) => {
                    schemas.iter().try_for_each(|schema| self.visit(schema, value, place))?;
                }
                schema => self.visit(schema, value, place)?,
            }
        }
        Some(())
    }

    fn members(
        &mut self,
        schema: &Map<String, Value>,
        members: &Map<String, Value>,
        place: Place,
    ) -> Option<()> {
        let len = |key: &str| {
            schema.get(key).map_or(0, |value| match value {
                Value::Object(members) => members.len(),
                Value::Array(elements) => elements.len(),
                _ => 0,
            })
        };
        self.spend(members.len() + len("properties") + len("required"), place)?;
        for key in ["dependentRequired", "dependencies"] {
            schema.get(key).map_or(Some(()), |value| self.weigh(value, 1, place))?;
        }
        let known = schema.get("properties").and_then(Value::as_object);
        let by_pattern = schema.get("patternProperties").and_then(Value::as_object);
        for (name, value) in members {
            if let Some(schema) = known.and_then(|known| known.get(name)) {
                self.visit(schema, value, place)?;
            }
            for (pattern, schema) in by_pattern.into_iter().flatten() {
                self.matching(pattern, name, place)?;
                self.visit(schema, value, place)?;
            }
            for key in ["additionalProperties", "unevaluatedProperties"] {
                schema.get(key).map_or(Some(()), |schema| self.visit(schema, value, place))?;
            }
            if let Some(schema) = schema.get("propertyNames") {
                self.visit(schema, &Value::String(name.clone()), place)?;
            }
        }
        Some(())
    }

    fn elements(
        &mut self,
        schema: &Map<String, Value>,
        array: &Value,
        elements: &[Value],
        place: Place,
    ) -> Option<()> {
        self.spend(elements.len(), place)?;
        if schema.contains_key("uniqueItems") {
            let times = if elements.len() > PAIRWISE_MAX { 2 } else { elements.len() };
            self.weigh(array, times, place)?;
        }
        for key in ["items", "prefixItems", "additionalItems", "unevaluatedItems", "contains"] {
            match schema.get(key) {
                Some(Value::Array(schemas)) => {
                    let pairs = schemas.iter().zip(elements);
                    pairs.into_iter().try_for_each(|(schema, value)| self.visit(schema, value, place))?;
                }
                Some(schema) => elements.iter().try_for_each(|value| self.visit(schema, value, place))?,
                None => {}
            }
        }
        Some(())
    }

    fn text(&mut self, schema: &Map<String, Value>, text: &str, place: Place) -> Option<()> {
        self.spend(text.len() / BYTES_A_STEP, place)?;
        match schema.get("pattern") {
            Some(Value::String(pattern)) => self.matching(pattern, text, place),
            _ => Some(()),
        }
    }

    fn matching(&mut self, pattern: &str, text: &str, place: Place) -> Option<()> {
        let steps = self.patterns.get(pattern)?.checked_mul(u64::try_from(text.len()).ok()?)?;
        self.spend(usize::try_from(steps).ok()?.saturating_add(1), place)
    }

    /// Two values are compared until they differ, which is soon unless both are deep.
    fn compare(&mut self, known: &Value, value: &Value, place: Place) -> Option<()> {
        match (known, value) {
            (_, Value::Array(_) | Value::Object(_)) => self.weigh(known, 1, place),
            (Value::Array(known), _) => self.spend(known.len() / 4, place),
            _ => Some(()),
        }
    }

    /// All of it is looked at, `times` times.
    fn weigh(&mut self, value: &Value, times: usize, place: Place) -> Option<()> {
        match value {
            Value::Array(elements) => {
                self.spend(times, place)?;
                elements.iter().try_for_each(|element| self.weigh(element, times, place))
            }
            Value::Object(members) => {
                self.spend(times, place)?;
                members.iter().try_for_each(|(name, member)| {
                    self.spend(times * (1 + name.len() / BYTES_A_STEP), place)?;
                    self.weigh(member, times, place)
                })
            }
            Value::String(text) => self.spend(times * (1 + text.len() / BYTES_A_STEP), place),
            _ => self.spend(times, place),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::json_schema::Schema;

    fn of(schema: Value, value: &Value) -> Option<u64> {
        let schema = Schema::compile(schema).unwrap();
        work(&schema.compiled.checked, &schema.compiled.patterns, value)
    }

    /// Each of `n` definitions chooses twice the next one.
    fn doubling(n: usize) -> Value {
        let next = |i: usize| json!({ "$ref": format!("#/$defs/d{}", i + 1) });
        let mut defs: Map<String, Value> =
            (0..n).map(|i| (format!("d{i}"), json!({ "anyOf": [next(i), next(i)] }))).collect();
        defs.insert(format!("d{n}"), json!({ "type": "integer" }));
        json!({ "properties": { "a": { "$ref": "#/$defs/d0" } }, "$defs": defs })
    }

    #[test]
    fn choices_between_choices_end() {
        let value = json!({ "a": "x" });
        assert!(of(doubling(5), &value).unwrap() > 32 * 5);
        assert_eq!(of(doubling(60), &value), None);
        let refused = Schema::compile(doubling(60)).unwrap().check(&value).unwrap_err();
        assert!(refused.contains("too intricate"), "{refused}");
    }

    #[test]
    fn every_keyword_that_asks_again_is_counted() {
        let asks = |keyword: &str, inner: Value| match keyword {
            "allOf" | "anyOf" | "oneOf" => json!({ keyword: [inner.clone(), inner] }),
            "if" => json!({ "if": inner, "then": inner }),
            "dependentSchemas" => json!({ keyword: { "x": inner, "y": inner } }),
            "not" => json!({ "not": inner, "allOf": [inner] }),
            _ => json!({ "allOf": [inner], keyword: false }),
        };
        let keywords = ["allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas", "unevaluatedProperties"];
        for keyword in keywords {
            let next = |n| json!({ "$ref": format!("#/$defs/d{}", n + 1) });
            let mut defs: Map<String, Value> =
                (0..20).map(|n| (format!("d{n}"), asks(keyword, next(n)))).collect();
            defs.insert("d20".into(), json!({ "type": "integer" }));
            let schema = json!({ "properties": { "a": { "$ref": "#/$defs/d0" } }, "$defs": defs });
            assert_eq!(of(schema, &json!({ "a": { "x": 1, "y": [1] } })), None, "{keyword}");
        }
    }

    #[test]
    fn a_value_that_is_deep_doubles_nothing_unless_the_schema_does() {
        let tree = |keyword: &str, n| {
            let children = json!({ "properties": { "x": { "$ref": "#/$defs/t" } } });
            let t = json!({ keyword: vec![children; n], "type": "object" });
            json!({ "properties": { "t": { "$ref": "#/$defs/t" } }, "$defs": { "t": t } })
        };
        let deep = |n| json!({ "t": (0..n).fold(json!({}), |value, _| json!({ "x": value })) });
        assert!(of(tree("allOf", 1), &deep(60)).is_some());
        assert_eq!(of(tree("allOf", 2), &deep(60)), None);
    }

    #[test]
    fn what_leads_back_to_itself_ends() {
        assert_eq!(of(json!({ "allOf": [{ "$ref": "#" }] }), &json!({})), None);
    }

    #[test]
    fn usual_arguments_are_far_below_the_bound() {
        let schema = json!({
            "properties": {
                "title": { "type": "string", "minLength": 1, "pattern": "\\S" },
                "text": { "type": "string", "pattern": "^[\\s\\S]*$" },
                "when": { "anyOf": [{ "type": "null" }, { "pattern": "^\\d{4}-\\d{2}-\\d{2}$" }] },
                "tags": { "type": "array", "items": { "type": "string" }, "uniqueItems": true },
            },
            "required": ["title"],
        });
        let small = json!({ "title": "a", "text": "b", "when": "2026-11-21", "tags": ["a", "b"] });
        assert!(of(schema.clone(), &small).unwrap() < 1000);
        let large = json!({ "title": "a", "text": "b".repeat(30_000), "tags": vec!["a"; 5000] });
        assert!(of(schema, &large).is_some());
    }

    #[test]
    fn long_texts_and_large_patterns_count_together() {
        let schema = json!({ "properties": { "a": { "pattern": "[ab]*a[ab]{400}c" } } });
        let of = |n| of(schema.clone(), &json!({ "a": "a".repeat(n) }));
        assert!(of(100).is_some());
        assert_eq!(of(20_000), None);
    }
}
