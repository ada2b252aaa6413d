//! What went wrong on the way to and from an HTTP server: statuses, headers and the errors of the client.

use std::{error::Error as _, fmt::Write as _};

use async_openai::error::OpenAIError;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::llm::{
    Error, ErrorKind,
    fault::{Fault, Problem, Reporter},
    openai::fate::Fate,
    retry_after::retry_after,
};

/// Makes the errors of one provider.
#[derive(Debug)]
pub(super) struct Classifier {
    reporter: Reporter,
}

impl Classifier {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self { reporter }
    }

    pub(super) fn error(&self, problem: &Problem) -> Error {
        self.reporter.error(problem)
    }

    /// The server answered, but with something else than 2xx.
    pub(super) fn status(&self, status: StatusCode, headers: &HeaderMap, body: &str) -> Error {
        let fault = serde_json::from_str::<Value>(body).map_or_else(
            |_| Fault::from_value(&Value::String(body.to_owned())),
            |value| Fault::from_value(value.get("error").unwrap_or(&value)),
        );
        let kind = fault.kind(Some(status.as_u16()));
        let problem = Problem::told(kind, &format!("http status {}", status.as_u16()), fault);
        self.error(&Problem { retry_after: retry_after(headers, kind), ..problem })
    }

    /// The exchange itself failed.
    pub(super) fn exchange(&self, error: reqwest::Error) -> Error {
        let kind = if error.is_connect() {
            ErrorKind::Unreachable
        } else if error.is_timeout() {
            ErrorKind::Timeout
        } else if error.is_builder() {
            ErrorKind::BadRequest
        } else {
            ErrorKind::Network
        };
        // A URL can hold what nobody should read in a log.
        let error = error.without_url();
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let _ = write!(message, ": {cause}");
            source = cause.source();
        }
        self.error(&Problem::new(kind, message))
    }

    /// async-openai gave up the stream. `fate` knows more when the transport did first.
    pub(super) fn streamed(&self, error: OpenAIError, fate: &Fate) -> Error {
        if let Some(known) = fate.failure() {
            return known;
        }
        match error {
            OpenAIError::Reqwest(error) => self.exchange(error),
            // Without the text of the event, which is somebody's.
            OpenAIError::JSONDeserialize(..) => {
                self.error(&Problem::new(ErrorKind::Garbled, "an event cannot be read"))
            }
            other => self.error(&Problem::new(ErrorKind::Garbled, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use serde_json::json;

    use super::*;

    fn classified(status: u16, body: &str) -> Error {
        let classifier = Classifier::new(Reporter::new("test", vec![SecretString::from("sk-secret")]));
        classifier.status(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body)
    }

    #[test]
    fn every_status_has_its_kind() {
        let cases = [
            (301, ErrorKind::BadRequest),
            (400, ErrorKind::BadRequest),
            (401, ErrorKind::Auth),
            (402, ErrorKind::Auth),
            (403, ErrorKind::Auth),
            (404, ErrorKind::BadRequest),
            (408, ErrorKind::Timeout),
            (413, ErrorKind::ContextTooLong),
            (422, ErrorKind::BadRequest),
            (429, ErrorKind::RateLimited),
            (500, ErrorKind::Overloaded),
            (502, ErrorKind::Overloaded),
            (503, ErrorKind::Overloaded),
            (504, ErrorKind::Timeout),
            (529, ErrorKind::Overloaded),
        ];
        for (status, kind) in cases {
            for body in ["", "<html>", "{}", "[1]", r#"{"error":null}"#, r#"{"error":{"message":"no"}}"#] {
                assert_eq!(classified(status, body).kind, kind, "{status} {body}");
            }
        }
    }

    #[test]
    fn the_words_decide_where_the_status_is_not_enough() {
        let cases = [
            (400, r#"{"error":{"code":"context_length_exceeded"}}"#, ErrorKind::ContextTooLong),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens"}}"#,
                ErrorKind::ContextTooLong,
            ),
            (400, r#"{"error":{"type":"exceed_context_size_error","code":400}}"#, ErrorKind::ContextTooLong),
            (400, r#"{"error":{"code":"content_filter"}}"#, ErrorKind::Refused),
            (403, r#"{"error":{"code":"content_policy_violation"}}"#, ErrorKind::Refused),
            (400, r#"{"error":"unknown model"}"#, ErrorKind::BadRequest),
            (401, r#"{"error":{"code":"content_filter"}}"#, ErrorKind::Auth),
            (429, r#"{"error":{"code":"content_filter"}}"#, ErrorKind::RateLimited),
        ];
        for (status, body, kind) in cases {
            assert_eq!(classified(status, body).kind, kind, "{status} {body}");
        }
    }

    #[test]
    fn a_message_holds_names_and_nothing_else_that_a_server_wrote() {
        let refused =
            r#"{"error":{"message":"bad key\nsk-other","type":"auth_error","code":"bad sk-other"}}"#;
        assert_eq!(classified(401, refused).message, "http status 401: auth_error");
        assert_eq!(classified(429, r#"{"error":{"code":"quota"}}"#).message, "http status 429: quota");
        for body in ["sk-other", r#""sk-other""#, r#"{"detail":"sk-other"}"#, r#"["sk-other"]"#] {
            assert_eq!(classified(500, body).message, "http status 500", "{body}");
        }
        let name = |size: usize| json!({"error": {"code": "x".repeat(size)}}).to_string();
        assert_eq!(classified(500, &name(64)).message, format!("http status 500: {}", "x".repeat(64)));
        assert_eq!(classified(500, &name(65)).message, "http status 500");
    }
}
