//! How a run ended: by itself, or because something failed, at a provider or on this server.
//!
//! Whoever takes part in an answer can say so; `run` records it, and nothing is recorded here. Nothing here fails.

use crate::{
    domain::{
        llm::RunEnd,
        rejection::{Code, Rejection},
    },
    llm::{Error, ErrorKind},
};

/// How a run ended, before it is recorded.
pub(super) struct Ended {
    pub(super) end: RunEnd,
    pub(super) error: Option<Error>,
    pub(super) detail: String,
    /// What went wrong on this server: an error code and what the room is told.
    pub(super) fault: Option<(String, String)>,
}

impl Ended {
    pub(super) fn crashed() -> Self {
        Self { end: RunEnd::Failed, error: None, detail: String::new(), fault: Some(crash()) }
    }

    /// The room cannot be seen: nobody knows what to ask.
    pub(super) fn blind(rejection: Rejection) -> Self {
        let fault = Some((rejection.code.as_str().to_owned(), rejection.message));
        Self { end: RunEnd::Failed, error: None, detail: String::new(), fault }
    }

    pub(super) fn by_itself(end: RunEnd, detail: impl Into<String>) -> Self {
        Self { end, error: None, detail: detail.into(), fault: None }
    }

    pub(super) fn failed(error: Error) -> Self {
        let end = if error.kind == ErrorKind::Timeout { RunEnd::TimedOut } else { RunEnd::Failed };
        Self { end, error: Some(error), detail: String::new(), fault: None }
    }
}

/// The name of a panic, and what the room is told of it.
pub(super) fn crash() -> (String, String) {
    (Code::Internal.as_str().into(), "the answer failed on the server".into())
}
