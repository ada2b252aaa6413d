//! What went wrong at a provider, in the words that all of them share: the only place that reads error codes and
//! descriptions.
//!
//! The words of a provider can hold keys and prompts. They are logged here, for who asks for `provider_words` at
//! trace, short, on one line and without the provider's secrets, and go no further: the message of an error holds only what it is called.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::llm::{Error, ErrorKind};

/// How much of a provider's words goes to the log: enough to act on, too little to fill a disk.
const MESSAGE_CHARS_MAX: usize = 500;

/// The longest of the names that servers have for faults, and some more.
const NAME_CHARS_MAX: usize = 64;
/// Where a failure was told behind a 200.
pub(super) const IN_STREAM: &str = "reported in the stream";

/// A failure before it knows whose it is.
#[derive(Debug)]
pub(super) struct Problem {
    /// What a caller can act on.
    pub(super) kind: ErrorKind,
    /// What happened, in our words.
    pub(super) message: String,
    /// In the provider's; may be empty.
    pub(super) words: String,
    /// Not before this time has passed.
    pub(super) retry_after: Option<Duration>,
}

impl Problem {
    /// A failure that says nothing of when to come back.
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), words: String::new(), retry_after: None }
    }

    /// A failure of which the provider says this, where that happened.
    pub(super) fn told(kind: ErrorKind, place: &str, fault: Fault) -> Self {
        let message = format!("{place}{}", fault.names_for_log());
        Self { words: fault.message, ..Self::new(kind, message) }
    }
}

/// Makes the errors of one provider. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    provider: Arc<str>,
    /// Taken out of messages: some servers repeat the key that they refuse.
    secrets: Arc<[SecretString]>,
}

impl Reporter {
    /// Errors of `provider`, without these secrets.
    pub(super) fn new(provider: &str, secrets: Vec<SecretString>) -> Self {
        Self { provider: provider.into(), secrets: secrets.into() }
    }

    /// The error that a problem is for the caller. What the provider says of it is logged and forgotten.
    pub(super) fn error(&self, problem: &Problem) -> Error {
        if !problem.words.is_empty() {
            // Outside of `salon`, so that nobody gets it who has not asked for it.
            tracing::trace!(target: "provider_words", provider = %self.provider, kind = ?problem.kind,
                words = self.printable(&problem.words), "a provider explains a failure");
        }
        Error {
            kind: problem.kind,
            provider: self.provider.as_ref().to_owned(),
            message: self.printable(&problem.message),
            retry_after: problem.retry_after,
        }
    }

    fn printable(&self, message: &str) -> String {
        let mut safe = message.to_owned();
        for secret in self.secrets.iter().map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty())
        {
            safe = safe.replace(secret, "[key]");
        }
        let mut printable: String =
            safe.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_MAX).collect();
        if safe.chars().nth(MESSAGE_CHARS_MAX).is_some() {
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

    /// Reads what an exception says of itself: `RateLimitError: Error code: 429 - slow down`.
    pub(super) fn from_exception(text: &str) -> Self {
        let (name, message) = match text.split_once(": ") {
            Some((name, message)) if name.chars().all(|c| c.is_alphanumeric() || "._".contains(c)) => {
                (name, message)
            }
            Some(_) | None => ("", text),
        };
        let is_status = |word: &&str| word.len() == 3 && matches!(word.parse(), Ok(400_u16..=599));
        let code = message.split(|c: char| !c.is_ascii_digit()).find(is_status).unwrap_or_default();
        Self { code: code.to_owned(), name: name.to_owned(), message: message.to_owned() }
    }

    /// The kind of a fault that only an exception tells of.
    pub(super) fn kind_of_exception(&self) -> ErrorKind {
        let said = format!("{} {}", self.name, self.message).to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
        let status = self.code.parse().ok();
        match self.kind(status) {
            // No status, and none of the words that servers use: those of the languages' own exceptions are left.
            ErrorKind::Overloaded if status.is_none() && says(&["ratelimit", "rate limit"]) => {
                ErrorKind::RateLimited
            }
            ErrorKind::Overloaded if status.is_none() && says(&["timeout", "timed out"]) => {
                ErrorKind::Timeout
            }
            ErrorKind::Overloaded if status.is_none() && says(&["unauthorized", "forbidden"]) => {
                ErrorKind::Auth
            }
            ErrorKind::Overloaded if status.is_none() && says(&["badrequest", "notfound", "not found"]) => {
                ErrorKind::BadRequest
            }
            ErrorKind::Overloaded if status.is_none() && says(&["connection", "connecterror"]) => {
                ErrorKind::Network
            }
            kind => kind,
        }
    }

    /// The fault of a stream that had begun with 200.
    pub(super) fn in_stream(self) -> Problem {
        let status = self.code.parse().ok().filter(|code| (400..600).contains(code));
        Problem::told(self.kind(status), IN_STREAM, self)
    }

    /// What the fault is called, behind a colon, if that is a name and no text.
    fn names_for_log(&self) -> String {
        let is_name = |part: &&str| {
            let letters = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            (1..=NAME_CHARS_MAX).contains(&part.len()) && part.chars().all(letters)
        };
        let names = [self.code.as_str(), self.name.as_str()].into_iter().filter(is_name);
        names
            .enumerate()
            .fold(String::new(), |told, (at, name)| told + if at == 0 { ": " } else { " · " } + name)
    }

    /// What a caller can do about it. The status, where there is one, decides what it can.
    pub(super) fn kind(&self, status: Option<u16>) -> ErrorKind {
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

    /// Whether the provider declined because of what was said.
    pub(super) fn is_refusal(&self) -> bool {
        self.names(&["content_filter", "content_policy", "responsibleaipolicy", "moderation_blocked"])
    }

    /// Whether the conversation is longer than the model can read.
    pub(super) fn is_too_long(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_understood_by_its_status_its_name_and_its_words() {
        for (text, kind) in [
            ("RateLimitError: slow down", ErrorKind::RateLimited),
            ("SDKError: API error occurred: Status 429\nBody: {}", ErrorKind::RateLimited),
            ("UnauthorizedResponseError: User not found.", ErrorKind::Auth),
            ("AuthenticationError: bad key", ErrorKind::Auth),
            ("BadRequestResponseError: x is not a valid model ID", ErrorKind::BadRequest),
            ("APIStatusError: Error code: 404 - no such model", ErrorKind::BadRequest),
            ("BadRequestError: 400 maximum context length is 8192 tokens", ErrorKind::ContextTooLong),
            ("ContentFilterError: code content_filter", ErrorKind::Overloaded),
            ("TimeoutError: ", ErrorKind::Timeout),
            ("ReadTimeout: The read operation timed out", ErrorKind::Timeout),
            ("ConnectError: All connection attempts failed", ErrorKind::Network),
            ("ServiceUnavailable: 503", ErrorKind::Overloaded),
            ("something else: it broke", ErrorKind::Overloaded),
            ("", ErrorKind::Overloaded),
            // A number that is no status.
            ("ValueError: 4290 of 40000", ErrorKind::Overloaded),
        ] {
            assert_eq!(Fault::from_exception(text).kind_of_exception(), kind, "{text}");
        }
    }

    #[test]
    fn no_secret_is_repeated() {
        let reporter = Reporter::new("p", vec![SecretString::from("one"), SecretString::from("")]);
        let error = reporter.error(&Problem::new(ErrorKind::Auth, "not\none"));
        assert_eq!(error.message, "not [key]");
        let long = reporter.printable(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), MESSAGE_CHARS_MAX + 1);
        assert!(!format!("{reporter:?}").contains("one\""));
    }
}
