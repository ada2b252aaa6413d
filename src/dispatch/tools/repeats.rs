//! Models that ask for the same thing again and again.
//!
//! The second of two calls that are alike is carried out and noted; the third is not carried out, and from then on
//! the model has no tools and must say something. So it is with a tool that fails three times with the same words,
//! whatever it was asked. A tool that says "done" to different calls is used, not repeated: the number of calls is
//! bounded anyway.

use std::collections::HashMap;

use serde_json::Value;

use super::answered::Answered;

/// The call, or the failure, that is one too many.
const TOO_MANY: u32 = 3;

/// What a run has called, and what has failed.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    calls: HashMap<(String, String), u32>,
    failures: HashMap<(String, String), u32>,
    is_stuck: bool,
}

impl Repeats {
    /// Whether the model gets no more tools.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Counts a call, and says whether it is carried out.
    pub(super) fn may_call(&mut self, tool: &str, arguments: &str) -> bool {
        let count = self.calls.entry((tool.to_owned(), arguments.to_owned())).or_default();
        *count += 1;
        self.is_stuck |= *count >= TOO_MANY;
        !self.is_stuck
    }

    /// Counts what a call has come to, and says what the model should know of it.
    pub(super) fn answered(
        &mut self,
        tool: &str,
        arguments: &str,
        answered: &Answered,
    ) -> Option<&'static str> {
        if self.is_stuck {
            return None;
        }
        let mut failures = 0;
        if answered.has_failed {
            let key = (tool.to_owned(), answered.clone().into_text());
            let count = self.failures.entry(key).or_default();
            *count += 1;
            failures = *count;
        }
        if failures >= TOO_MANY {
            self.is_stuck = true;
            return Some("this has failed in the same way too often; there are no more tools in this answer");
        }
        if self.calls.get(&(tool.to_owned(), arguments.to_owned())).is_some_and(|count| *count > 1) {
            return Some("you have made this very call before; do not make it again");
        }
        (failures > 1).then_some("this has failed in the same way before; try something else")
    }
}

/// Arguments that mean the same in the same words: compact, with the names of every object in order.
pub(super) fn normalised(arguments: &Value) -> String {
    match arguments {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            let field = |name: &String| {
                let value = fields.get(name).map(normalised).unwrap_or_default();
                format!("{}:{value}", Value::from(name.as_str()))
            };
            format!("{{{}}}", names.into_iter().map(field).collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(normalised).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => arguments.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_means_the_same_is_the_same() {
        let one: Value = serde_json::from_str(r#"{ "b": [1, {"y": "ü", "x": null}], "a": true }"#).unwrap();
        assert_eq!(normalised(&one), r#"{"a":true,"b":[1,{"x":null,"y":"ü"}]}"#);
        assert_ne!(normalised(&json!({"a": 1})), normalised(&json!({"a": "1"})));
    }

    #[test]
    fn the_third_of_three_calls_is_one_too_many() {
        let mut repeats = Repeats::default();
        let fine = Answered::done("fine");
        assert!(repeats.may_call("t", "{}"));
        assert_eq!(repeats.answered("t", "{}", &fine), None);
        assert!(repeats.may_call("u", "{}"), "another tool");
        assert_eq!(repeats.answered("u", "{}", &fine), None);
        assert!(repeats.may_call("t", "{}"));
        assert!(repeats.answered("t", "{}", &fine).unwrap().contains("very call"));
        assert!(!repeats.is_stuck());
        assert!(!repeats.may_call("t", "{}"));
        assert!(repeats.is_stuck());
        assert!(!repeats.may_call("v", "{}"), "nothing is called any more");
    }

    #[test]
    fn failing_in_the_same_way_is_repetition_and_success_is_not() {
        let mut repeats = Repeats::default();
        let notes: Vec<_> = (0..3)
            .map(|n| {
                assert!(repeats.may_call("t", &n.to_string()));
                repeats.answered("t", &n.to_string(), &Answered::failed("not found")).is_some()
            })
            .collect();
        assert_eq!((notes, repeats.is_stuck()), (vec![false, true, true], true));
        let mut repeats = Repeats::default();
        for n in 0..10 {
            assert!(repeats.may_call("t", &n.to_string()));
            assert_eq!(repeats.answered("t", &n.to_string(), &Answered::done("done")), None);
        }
        assert!(!repeats.is_stuck());
    }
}
