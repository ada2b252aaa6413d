//! What a gRPC status means to who asked for an answer.
//!
//! A status that came from the service is told from one that the client made itself: that one has a source, or words
//! that only the client uses.

use std::{error::Error as _, fmt::Write as _};

use tonic::{Code, ConnectError, Status};

use crate::llm::{
    ErrorKind,
    fault::{Fault, Problem},
    retry_after::retry_after,
};

/// How the client begins when the stream ended without a status, as it does when a proxy gives it up.
const WITHOUT_STATUS: &str = "protocol error: missing grpc-status";
/// How the client begins when bytes are no message. The suite of the providers notices when these words change.
const NO_MESSAGE: [&str; 4] = [
    "failed to decode Protobuf message",
    "protocol error: received message",
    "Error, decoded message length too large",
    "Unexpected EOF decoding stream",
];

/// The failure that `status` is.
pub(super) fn problem(status: &Status) -> Problem {
    let kind = kind(status);
    let mut message = format!("grpc status {:?}", status.code());
    let mut source = status.source();
    while let Some(cause) = source {
        let _ = write!(message, ": {cause}");
        source = cause.source();
    }
    let headers = status.metadata().clone().into_headers();
    let words = status.message().to_owned();
    Problem { words, retry_after: retry_after(&headers, kind), ..Problem::new(kind, message) }
}

/// Whether the client had no connection to ask over.
fn is_unconnected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(cause) = source {
        if cause.is::<ConnectError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

fn kind(status: &Status) -> ErrorKind {
    let said = status.message();
    if NO_MESSAGE.iter().any(|words| said.starts_with(words)) {
        return ErrorKind::Garbled;
    }
    if is_unconnected(status) {
        return ErrorKind::Unreachable;
    }
    if status.source().is_some() || said.starts_with(WITHOUT_STATUS) {
        return ErrorKind::Network;
    }
    let fault = Fault::from_exception(said);
    match status.code() {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Unknown
            if fault.is_too_long() =>
        {
            ErrorKind::ContextTooLong
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied if fault.is_refusal() => {
            ErrorKind::Refused
        }
        Code::ResourceExhausted => ErrorKind::RateLimited,
        Code::Unauthenticated | Code::PermissionDenied => ErrorKind::Auth,
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Unimplemented => ErrorKind::BadRequest,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        // The service ends, or somebody between us does.
        Code::Cancelled => ErrorKind::Network,
        Code::DataLoss => ErrorKind::Garbled,
        Code::Ok | Code::Unknown | Code::Aborted | Code::Internal | Code::Unavailable => {
            ErrorKind::Overloaded
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tonic::metadata::MetadataMap;

    use super::*;

    #[test]
    fn every_code_has_its_kind() {
        let cases = [
            (Code::Cancelled, ErrorKind::Network),
            (Code::Unknown, ErrorKind::Overloaded),
            (Code::InvalidArgument, ErrorKind::BadRequest),
            (Code::DeadlineExceeded, ErrorKind::Timeout),
            (Code::NotFound, ErrorKind::BadRequest),
            (Code::AlreadyExists, ErrorKind::BadRequest),
            (Code::PermissionDenied, ErrorKind::Auth),
            (Code::ResourceExhausted, ErrorKind::RateLimited),
            (Code::FailedPrecondition, ErrorKind::BadRequest),
            (Code::Aborted, ErrorKind::Overloaded),
            (Code::OutOfRange, ErrorKind::BadRequest),
            (Code::Unimplemented, ErrorKind::BadRequest),
            (Code::Internal, ErrorKind::Overloaded),
            (Code::Unavailable, ErrorKind::Overloaded),
            (Code::DataLoss, ErrorKind::Garbled),
            (Code::Unauthenticated, ErrorKind::Auth),
        ];
        for (code, kind) in cases {
            assert_eq!(problem(&Status::new(code, "no")).kind, kind, "{code:?}");
        }
    }

    #[test]
    fn the_words_decide_where_the_code_is_not_enough() {
        let too_long = "maximum context length is 8192 tokens";
        assert_eq!(problem(&Status::invalid_argument(too_long)).kind, ErrorKind::ContextTooLong);
        assert_eq!(problem(&Status::unknown(too_long)).kind, ErrorKind::ContextTooLong);
        assert_eq!(problem(&Status::permission_denied(too_long)).kind, ErrorKind::Auth);
    }

    #[test]
    fn what_has_a_source_happened_on_the_way() {
        let mut status = Status::unavailable("transport error");
        status.set_source(Arc::new(std::io::Error::other("refused")));
        let problem = problem(&status);
        assert_eq!(problem.kind, ErrorKind::Network);
        assert_eq!(problem.message, "grpc status Unavailable: refused");
    }

    #[test]
    fn the_trailers_say_when_to_come_back() {
        let mut trailers = MetadataMap::new();
        trailers.insert("retry-after", "7".parse().unwrap());
        let status = Status::with_metadata(Code::ResourceExhausted, "slow down", trailers);
        assert_eq!(problem(&status).retry_after, Some(Duration::from_secs(7)));
        assert_eq!(problem(&Status::resource_exhausted("slow down")).retry_after, None);
    }
}
