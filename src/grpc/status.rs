//! The only place that makes a gRPC status.
//!
//! `Unavailable`: try this call again. `FailedPrecondition`: not before something has changed. `InvalidArgument`:
//! never as it is. Once a session stream is open, refusals travel in band and the status only tells why it ended.

use tonic::{Code as GrpcCode, Status};

use crate::{
    domain::rejection::{Code, Rejection},
    wire::reply::ClosingReason,
};

/// A refused call.
pub fn of(rejection: &Rejection) -> Status {
    Status::new(code(rejection.code), rejection.message.clone())
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
