//! What went wrong, told once: the only place that reads statuses, error codes and the words of providers.

use std::{error::Error as _, fmt::Write as _, time::Duration};

use async_openai::error::OpenAIError;
use http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::llm::{Error, ErrorKind, openai::fate::Fate};

/// How much of a provider's words goes to the log: enough to act on, too little to fill a disk.
const MESSAGE_CHARS_MAX: usize = 500;

/// A failure before it knows whose it is.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Makes the errors of one provider.
#[derive(Debug)]
pub(super) struct Classifier {
    provider: String,
    /// Taken out of messages: some servers repeat the key that they refuse.
    api_key: SecretString,
}

impl Classifier {
    pub(super) fn new(provider: &str, api_key: SecretString) -> Self {
        Self { provider: provider.to_owned(), api_key }
    }

    pub(super) fn error(&self, problem: &Problem) -> Error {
        Error {
            kind: problem.kind,
            provider: self.provider.clone(),
            message: self.printable(&problem.message),
            retry_after: None,
        }
    }

    /// The server answered, but with something else than 2xx.
    pub(super) fn status(&self, status: StatusCode, headers: &HeaderMap, body: &str) -> Error {
        let fault = serde_json::from_str::<Value>(body).map_or_else(
            |_| Fault { message: body.to_owned(), ..Fault::default() },
            |value| Fault::from_value(value.get("error").unwrap_or(&value)),
        );
        let message = format!("http status {}: {}", status.as_u16(), fault.describe());
        let problem = Problem::new(fault.kind(Some(status.as_u16())), message);
        Error { retry_after: retry_after(headers), ..self.error(&problem) }
    }

    /// The exchange itself failed.
    pub(super) fn exchange(&self, error: reqwest::Error) -> Error {
        let kind = if error.is_connect() {
            ErrorKind::Network
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

    fn printable(&self, message: &str) -> String {
        let key = self.api_key.expose_secret();
        let without_key = if key.is_empty() { message.to_owned() } else { message.replace(key, "[key]") };
        let mut printable: String = without_key
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MESSAGE_CHARS_MAX)
            .collect();
        if without_key.chars().nth(MESSAGE_CHARS_MAX).is_some() {
            printable.push('…');
        }
        printable
    }
}

/// An error as a server describes it; each has its own way.
#[derive(Debug, Default)]
pub(super) struct Fault {
    code: String,
    name: String,
    message: String,
}

impl Fault {
    /// Reads `{"code", "type", "message"}`, a plain text, or anything.
    pub(super) fn from_value(value: &Value) -> Self {
        let text = |key: &str| match value.get(key) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        match value {
            Value::Object(_) => Self { code: text("code"), name: text("type"), message: text("message") },
            Value::String(message) => Self { message: message.clone(), ..Self::default() },
            other => Self { message: other.to_string(), ..Self::default() },
        }
    }

    /// The fault of a stream that had begun with 200.
    pub(super) fn in_stream(&self) -> Problem {
        let status = self.code.parse().ok().filter(|code| (400..600).contains(code));
        Problem::new(self.kind(status), format!("reported in the stream: {}", self.describe()))
    }

    fn describe(&self) -> String {
        let parts = [self.code.as_str(), self.name.as_str(), self.message.as_str()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
    }

    fn kind(&self, status: Option<u16>) -> ErrorKind {
        match status {
            Some(401) => ErrorKind::Auth,
            // What a server declines it may say with 400 or 403, and a conversation that is too long with 400, 413
            // or 422: the words decide before the status does.
            None | Some(400..=428 | 430..=499) if self.is_refusal() => ErrorKind::Refused,
            None | Some(400 | 413 | 422 | 500) if self.is_too_long() => ErrorKind::ContextTooLong,
            Some(402 | 403) => ErrorKind::Auth,
            Some(408 | 504) => ErrorKind::Timeout,
            Some(413) => ErrorKind::ContextTooLong,
            Some(429) => ErrorKind::RateLimited,
            Some(500..) => ErrorKind::Overloaded,
            Some(_) => ErrorKind::BadRequest,
            None => self.kind_by_words(),
        }
    }

    /// Without a status only the words are left; a provider that stops with others has failed by itself.
    fn kind_by_words(&self) -> ErrorKind {
        if self.names(&["rate_limit", "insufficient_quota", "too_many_requests"]) {
            ErrorKind::RateLimited
        } else if self.names(&["api_key", "authentication", "permission"]) {
            ErrorKind::Auth
        } else if self.names(&["invalid_request", "not_found"]) {
            ErrorKind::BadRequest
        } else if self.names(&["timeout"]) {
            ErrorKind::Timeout
        } else {
            ErrorKind::Overloaded
        }
    }

    fn is_refusal(&self) -> bool {
        self.names(&["content_filter", "content_policy", "responsibleaipolicy", "moderation_blocked"])
    }

    fn is_too_long(&self) -> bool {
        let message = self.message.to_lowercase();
        self.names(&["context_length", "exceed_context_size", "context_window"])
            || ["maximum context length", "context window", "context size", "context length"]
                .iter()
                .any(|words| message.contains(words))
    }

    fn names(&self, needles: &[&str]) -> bool {
        let name = format!("{} {}", self.code, self.name).to_lowercase();
        needles.iter().any(|needle| name.contains(needle))
    }
}

/// When a server wants to be asked again. Only durations are read: a date would need the server's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn classified(status: u16, body: &str) -> Error {
        let classifier = Classifier::new("test", SecretString::from("sk-secret"));
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
    fn a_message_is_short_on_one_line_and_without_the_key() {
        let error = classified(401, r#"{"error":{"message":"bad key\nsk-secret"}}"#);
        assert_eq!(error.message, "http status 401: bad key [key]");
        let long = classified(500, &"é".repeat(10_000));
        assert_eq!(long.message.chars().count(), MESSAGE_CHARS_MAX + 1);
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_milliseconds() {
        let after = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            retry_after(&headers)
        };
        assert_eq!(after("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(after("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(after("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        for odd in ["-1", "nan", "inf", "1e300", "Wed, 21 Oct 2015 07:28:00 GMT", ""] {
            assert_eq!(after("retry-after", odd), None, "{odd}");
        }
    }
}
