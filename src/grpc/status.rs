//! The only place that makes a gRPC status.
//!
//! `Unavailable`: try this call again. `FailedPrecondition`: not before something has changed. `InvalidArgument`:
//! never as it is. Once a session stream is open, refusals travel in band and the status only tells why it ended.

use tonic::{
    Code as GrpcCode, Status,
    metadata::{MetadataMap, MetadataValue},
};

use crate::{
    domain::rejection::{Code, Rejection},
    wire::{reply::ClosingReason, retry},
};

/// What clients with a retry policy wait for before they try again, in milliseconds.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A refused call. When to come again is said twice: in a header that clients with a retry policy follow by themselves,
/// and in the details, as `google.rpc.RetryInfo`.
pub fn of(rejection: &Rejection) -> Status {
    let (code, message) = (code(rejection.code), rejection.message.as_str());
    let Some(after) = rejection.retry_after else {
        return Status::new(code, message);
    };
    let mut metadata = MetadataMap::new();
    let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    metadata.insert(PUSHBACK, MetadataValue::from(millis));
    let details = retry::details(code.into(), message, after);
    Status::with_details_and_metadata(code, message, details, metadata)
}

fn code(code: Code) -> GrpcCode {
    match code {
        Code::InvalidArgument | Code::InvalidPoll | Code::RequestIdReused => GrpcCode::InvalidArgument,
        Code::RoomNotFound | Code::NotFound => GrpcCode::NotFound,
        Code::NotJoined | Code::AlreadyJoined | Code::RoomEnded | Code::PollClosed => {
            GrpcCode::FailedPrecondition
        }
        Code::AlreadyExists => GrpcCode::AlreadyExists,
        Code::Unauthenticated => GrpcCode::Unauthenticated,
        Code::PermissionDenied => GrpcCode::PermissionDenied,
        Code::RateLimited | Code::ResourceExhausted => GrpcCode::ResourceExhausted,
        Code::Unsupported => GrpcCode::Unimplemented,
        Code::Unavailable => GrpcCode::Unavailable,
        Code::Internal => GrpcCode::Internal,
    }
}

/// The end of a session stream.
pub fn of_closing(reason: ClosingReason) -> Status {
    let (code, message) = match reason {
        ClosingReason::Left => (GrpcCode::Ok, ""),
        ClosingReason::RoomEnded => (GrpcCode::Ok, ""),
        ClosingReason::Removed => (GrpcCode::PermissionDenied, "removed from the room"),
        ClosingReason::Banned => (GrpcCode::PermissionDenied, "banned from the room"),
        ClosingReason::Draining => (GrpcCode::Unavailable, "the server is going away"),
        ClosingReason::JoinTimeout => (GrpcCode::DeadlineExceeded, "no join has come in time"),
        ClosingReason::TooManySessions => {
            (GrpcCode::ResourceExhausted, "too many streams of this user in this room")
        }
        ClosingReason::SlowConsumer => (GrpcCode::ResourceExhausted, "answers were not read"),
        ClosingReason::ProtocolError => (GrpcCode::InvalidArgument, "the stream cannot be read"),
        ClosingReason::Internal => (GrpcCode::Internal, "the session failed on the server"),
        ClosingReason::CredentialExpired => (GrpcCode::Unauthenticated, "the credential has expired"),
        ClosingReason::CredentialRevoked => (GrpcCode::Unauthenticated, "the credential was revoked"),
        ClosingReason::SessionAge => {
            (GrpcCode::Unavailable, "the stream is as old as one may be; join again")
        }
    };
    Status::new(code, message)
}

/// A new stream while the server is going away.
pub fn draining() -> Status {
    Status::new(GrpcCode::Unavailable, "the server is going away")
}
