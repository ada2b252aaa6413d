//! What DynamoDB's errors mean to a caller of the store, in words an operator can act on. No credential is in any of
//! them.

use std::{error::Error as StdError, sync::Arc};

use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};

use crate::store::{Error, ErrorKind};

/// The backend's name.
pub(super) const NAME: &str = "dynamodb";

/// An error of this store that no error of DynamoDB has led to.
pub(super) fn error(kind: ErrorKind, what: impl Into<String>) -> Error {
    Error { kind, store: NAME, what: what.into(), source: None }
}

/// An error of this store, with what led to it.
pub(super) fn caused(
    kind: ErrorKind,
    what: impl Into<String>,
    source: impl StdError + Send + Sync + 'static,
) -> Error {
    Error { kind, store: NAME, what: what.into(), source: Some(Arc::new(source)) }
}

/// A request of which a part is missing is a defect of this module.
pub(super) fn incomplete(source: BuildError) -> Error {
    caused(ErrorKind::Unusable, "could not make a request", source)
}

/// The answer to every call after the store was closed.
pub(super) fn closed() -> Error {
    error(ErrorKind::Closed, "has been closed")
}

/// What an error says of a value that was never written.
pub(super) fn strange(what: &str) -> Error {
    let mend = "which was never written to it: restore the table from a backup";
    error(ErrorKind::Corrupt, format!("holds {what}, {mend}"))
}

/// What can be done about a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The service has refused it for now, and not carried it out: send it again, later.
    Throttled,
    /// Nobody knows whether it was carried out: send it again, which finds out.
    Doubted,
    /// It was not carried out, because of a condition of it.
    Conditional,
    /// It was not carried out and will not be.
    Refused(ErrorKind, &'static str),
}

/// What became of a request.
pub(super) fn fate<E, R>(failed: &SdkError<E, R>) -> Fate
where
    E: ProvideErrorMetadata + StdError + 'static,
    R: std::fmt::Debug,
{
    match failed {
        SdkError::ServiceError(answer) => fate_of(answer.err().code().unwrap_or_default()),
        SdkError::ConstructionFailure(_) => {
            Fate::Refused(ErrorKind::Unusable, "the request could not be made: see the log for why")
        }
        SdkError::DispatchFailure(dispatch) if dispatch.is_user() || dispatch.is_other() => {
            match dispatch.as_connector_error().map(|failed| has_no_credentials(failed)) {
                Some(true) => Fate::Refused(ErrorKind::Unusable, NO_CREDENTIALS),
                _ => Fate::Doubted,
            }
        }
        _ => Fate::Doubted,
    }
}

/// What there is to do about a lack of credentials.
pub(super) const NO_CREDENTIALS: &str = "there are no credentials: set AWS_ACCESS_KEY_ID and \
     AWS_SECRET_ACCESS_KEY, name a profile, or give the machine a role";

/// The crate tells where an error came from by types that it does not show.
fn has_no_credentials(failed: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(failed);
    while let Some(error) = cause {
        if error.to_string().contains("credential") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// By the code of an error that the service has answered with.
pub(super) fn fate_of(code: &str) -> Fate {
    use ErrorKind::{Unavailable, Unusable};
    match code {
        "ConditionalCheckFailedException" | "TransactionCanceledException" | "ResourceInUseException" => {
            Fate::Conditional
        }
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "TransactionConflictException"
        | "TransactionInProgressException"
        | "LimitExceededException" => Fate::Throttled,
        "ResourceNotFoundException" => Fate::Refused(Unusable, NO_TABLE),
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch" => Fate::Refused(
            Unusable,
            "the service refuses the credentials: see that they are right, and meant for this region",
        ),
        // A role's own are renewed: that may work later.
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => {
            Fate::Refused(Unavailable, "the credentials have expired, or this machine's clock is wrong")
        }
        "AccessDeniedException" => Fate::Refused(
            Unusable,
            "the credentials lack a right: docs/adr/0015-dynamodb-in-one-table.md names what Salon needs",
        ),
        "ValidationException" => Fate::Refused(
            Unusable,
            "the service does not take such a request: the table is not one that `salon setup` has made",
        ),
        // InternalServerError and ServiceUnavailable, and whatever a proxy between answers with.
        _ => Fate::Doubted,
    }
}

/// What there is to do about a table that does not exist.
pub(super) const NO_TABLE: &str = "there is no such table in this region: create it with `salon setup`, or correct store.table and store.region";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_is_told_from_the_others() {
        let refused = |code| match fate_of(code) {
            Fate::Refused(kind, _) => kind,
            other => panic!("{code}: {other:?}"),
        };
        assert_eq!(refused("ResourceNotFoundException"), ErrorKind::Unusable);
        assert_eq!(refused("UnrecognizedClientException"), ErrorKind::Unusable);
        assert_eq!(refused("AccessDeniedException"), ErrorKind::Unusable);
        assert_eq!(refused("ExpiredTokenException"), ErrorKind::Unavailable);
        assert_eq!(fate_of("TransactionCanceledException"), Fate::Conditional);
        assert_eq!(fate_of("ThrottlingException"), Fate::Throttled);
        assert_eq!(fate_of("TransactionInProgressException"), Fate::Throttled);
        for code in ["InternalServerError", "ServiceUnavailable", ""] {
            assert_eq!(fate_of(code), Fate::Doubted, "{code}");
        }
    }
}
