//! What a call has come to, as the model is told it: a JSON object.
//!
//! Texts of others stand in it as JSON strings, which they cannot end.

use serde_json::{Map, Value, json};

/// What a call has come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answered {
    fields: Map<String, Value>,
    /// It was refused, or did not work.
    pub(super) has_failed: bool,
}

impl Answered {
    /// It was done; this is what came of it.
    pub(super) fn done(result: impl Into<Value>) -> Self {
        Self::with("result", result)
    }

    /// It was done, and gave something that has a name of its own.
    pub(super) fn with(name: &str, value: impl Into<Value>) -> Self {
        let fields = [("ok".to_owned(), json!(true)), (name.to_owned(), value.into())];
        Self { fields: fields.into_iter().collect(), has_failed: false }
    }

    /// It was not done, and why, in words that a model can act on.
    pub(super) fn failed(why: &str) -> Self {
        let fields = [("ok".to_owned(), json!(false)), ("error".to_owned(), json!(why))];
        Self { fields: fields.into_iter().collect(), has_failed: true }
    }

    /// Says more.
    pub(super) fn and(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Says something about the call itself.
    pub(super) fn note(&mut self, note: &str) {
        self.fields.insert("note".to_owned(), json!(note));
    }

    /// As the model reads it.
    pub(super) fn into_text(self) -> String {
        Value::Object(self.fields).to_string()
    }
}
