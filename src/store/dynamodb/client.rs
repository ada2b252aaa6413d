//! Requests to the service: each is sent until it is known what became of it, never longer than `store.timeout`.
//!
//! A request that the service throttles or that meets another one's transaction is sent again, a little later each
//! time. One whose answer is lost is sent again, too: every write of this store is made so that its repeat finds what
//! the first has done, and says `doubted` where its caller has to look. The crate's own repeats are off: they would
//! not tell.

use std::{
    fmt,
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use aws_config::{BehaviorVersion, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::{
    Client,
    config::{ProvideCredentials as _, Region},
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        batch_get_item::BatchGetItemError, create_table::CreateTableError, delete_item::DeleteItemError,
        describe_table::DescribeTableError, describe_time_to_live::DescribeTimeToLiveError,
        get_item::GetItemError, put_item::PutItemError, query::QueryError, scan::ScanError,
        transact_write_items::TransactWriteItemsError, update_item::UpdateItemError,
        update_time_to_live::UpdateTimeToLiveError,
    },
    types::CancellationReason,
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use crate::store::{
    Error, ErrorKind,
    config::StoreConfig,
    dynamodb::{
        failure::{Fate, NO_CREDENTIALS, NO_TABLE, caused, closed, error, fate, fate_of},
        items::Item,
    },
};

/// The first pause before a throttled request is sent again; each later one is twice as long, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(25);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How many answers a call may wait for in vain before it fails: then a lost one does not use up all of its time.
const ATTEMPTS: u32 = 3;
/// How long connecting may take at most.
const CONNECT: Duration = Duration::from_secs(3);

/// The table, and how to reach it.
pub(super) struct Table {
    client: Client,
    name: String,
    patience: Duration,
    /// The calls that have begun.
    calls: TaskTracker,
    /// Whether the last request failed, so that a check must try to write.
    failing: AtomicBool,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a request was not carried out.
#[derive(Debug)]
pub(super) enum Failure {
    /// A condition of it did not hold.
    Condition {
        /// The item as it is, where it was asked for.
        found: Option<Item>,
        /// An earlier attempt of the same request may have been carried out, and be the reason.
        doubted: bool,
    },
    /// Conditions of a transaction did not hold.
    Cancelled {
        /// One for each action.
        reasons: Vec<CancellationReason>,
        /// An earlier attempt of the same request may have been carried out, and be the reason.
        doubted: bool,
    },
    /// There is no such table.
    NoTable(Error),
    /// It failed for good.
    Failed(Error),
}

impl Failure {
    /// For a request without a condition.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::NoTable(error) | Self::Failed(error) => error,
            Self::Condition { .. } | Self::Cancelled { .. } => {
                error(ErrorKind::Unavailable, "was told that a condition failed which nobody had set")
            }
        }
    }
}

/// What an error of an operation says beyond its code.
pub(super) trait Told {
    /// The item that did not meet the condition.
    fn found(&self) -> Option<Item> {
        None
    }
    /// Why a transaction was cancelled.
    fn reasons(&self) -> Option<Vec<CancellationReason>> {
        None
    }
}

macro_rules! told {
    (item: $($conditional:ident)+; nothing: $($plain:ident)+) => {
        $(impl Told for $conditional {
            fn found(&self) -> Option<Item> {
                match self {
                    Self::ConditionalCheckFailedException(failed) => failed.item.clone(),
                    _ => None,
                }
            }
        })+
        $(impl Told for $plain {})+
    };
}

told! {
    item: PutItemError UpdateItemError DeleteItemError;
    nothing: GetItemError BatchGetItemError QueryError ScanError DescribeTableError CreateTableError
        DescribeTimeToLiveError UpdateTimeToLiveError
}

impl Told for TransactWriteItemsError {
    fn reasons(&self) -> Option<Vec<CancellationReason>> {
        match self {
            Self::TransactionCanceledException(cancelled) => {
                Some(cancelled.cancellation_reasons.clone().unwrap_or_default())
            }
            _ => None,
        }
    }
}

impl Table {
    /// Finds the region and the credentials; nothing is asked of the service.
    pub(super) async fn new(config: &StoreConfig) -> Result<Self, Error> {
        let attempt = (config.timeout / ATTEMPTS).max(Duration::from_millis(50));
        let timeouts =
            TimeoutConfig::builder().connect_timeout(attempt.min(CONNECT)).operation_attempt_timeout(attempt);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts.build());
        if let Some(region) = &config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(url) = &config.url {
            loader = loader.endpoint_url(url.expose());
        }
        let found = Box::pin(loader.load()).await;
        if found.region().is_none() {
            let what = "knows no region: set store.region or AWS_REGION";
            return Err(error(ErrorKind::Unusable, what));
        }
        let Some(provider) = found.credentials_provider() else {
            return Err(error(ErrorKind::Unusable, NO_CREDENTIALS));
        };
        Box::pin(provider.provide_credentials())
            .await
            .map_err(|source| caused(ErrorKind::Unusable, NO_CREDENTIALS, source))?;
        Ok(Self {
            client: Client::new(&found),
            name: config.table.clone(),
            patience: config.timeout,
            calls: TaskTracker::new(),
            failing: AtomicBool::new(false),
        })
    }

    /// To make a request with.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The table's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the last request failed for lack of an answer.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// How long one request may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Refuses what comes once the store is closed.
    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.calls.is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// Waits for the requests that are on their way; no more are taken.
    pub(super) async fn close(&self) {
        self.calls.close();
        self.calls.wait().await;
    }

    /// Sends a request until it is known what became of it. The answer comes with whether an earlier attempt may have
    /// been carried out as well.
    pub(super) async fn send<T, E, R, Sending>(
        &self,
        doing: &str,
        request: impl FnMut() -> Sending,
    ) -> Result<T, Failure>
    where
        Sending: Future<Output = Result<T, SdkError<E, R>>>,
        E: Told + ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: fmt::Debug + Send + Sync + 'static,
    {
        let sent = self.send_until(doing, request).await;
        self.failing.store(matches!(sent, Err(Failure::Failed(_))), Ordering::Relaxed);
        sent
    }

    async fn send_until<T, E, R, Sending>(
        &self,
        doing: &str,
        mut request: impl FnMut() -> Sending,
    ) -> Result<T, Failure>
    where
        Sending: Future<Output = Result<T, SdkError<E, R>>>,
        E: Told + ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: fmt::Debug + Send + Sync + 'static,
    {
        self.check_open().map_err(Failure::Failed)?;
        let _call = self.calls.token();
        let deadline = Instant::now() + self.patience;
        let mut pauses = Pauses::default();
        let mut doubted = false;
        loop {
            let failed = match timeout_at(deadline, Box::pin(request())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failed)) => failed,
                Err(_) => {
                    let what = format!("could not {doing}: the service was silent for all of store.timeout");
                    return Err(Failure::Failed(error(ErrorKind::Unavailable, what)));
                }
            };
            let mut fate = fate(&failed);
            if let Some(reasons) = failed.as_service_error().and_then(Told::reasons) {
                fate = cancelled(&reasons);
            }
            match fate {
                Fate::Conditional => return Err(conditional(doing, failed, doubted)),
                Fate::Refused(kind, why) => {
                    let what = format!("could not {doing}: {why} (table {})", self.name);
                    let error = caused(kind, what, failed);
                    return Err(if why == NO_TABLE {
                        Failure::NoTable(error)
                    } else {
                        Failure::Failed(error)
                    });
                }
                Fate::Doubted => doubted = true,
                Fate::Throttled => {}
            }
            let pause = pauses.next();
            if Instant::now() + pause >= deadline {
                let why = if fate == Fate::Throttled {
                    "the service throttles the table, or others write to the same items without a pause"
                } else {
                    "the service cannot be reached or does not answer: see that store.url and store.region are right"
                };
                let what = format!("could not {doing}: {why}");
                return Err(Failure::Failed(caused(ErrorKind::Unavailable, what, failed)));
            }
            sleep(pause).await;
        }
    }
}

/// What the reasons for which a transaction was cancelled come to.
fn cancelled(reasons: &[CancellationReason]) -> Fate {
    let codes = || reasons.iter().filter_map(CancellationReason::code).filter(|code| *code != "None");
    if codes().any(|code| code == "ConditionalCheckFailed") {
        return Fate::Conditional;
    }
    // Of what else there is, all but these is about the request itself.
    let passing = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];
    if codes().all(|code| passing.contains(&code)) { Fate::Throttled } else { fate_of("ValidationException") }
}

/// A condition that did not hold.
fn conditional<E, R>(doing: &str, failed: SdkError<E, R>, doubted: bool) -> Failure
where
    E: Told + ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    match failed.as_service_error().map(|told| (told.reasons(), told.found())) {
        Some((Some(reasons), _)) => Failure::Cancelled { reasons, doubted },
        Some((None, found)) => Failure::Condition { found, doubted },
        None => Failure::Failed(caused(ErrorKind::Unavailable, format!("could not {doing}"), failed)),
    }
}

/// How long to wait before the next attempt: longer each time, and never as long as others wait.
#[derive(Debug, Default)]
pub(super) struct Pauses(u32);

impl Pauses {
    /// The next one.
    pub(super) fn next(&mut self) -> Duration {
        let longest = PAUSE.saturating_mul(2_u32.saturating_pow(self.0)).min(PAUSE_MAX);
        self.0 = self.0.saturating_add(1);
        longest.mul_f64(0.5 + jitter() / 2.0)
    }
}

/// A number from 0 to 1. It is for nothing but keeping two processes from meeting again and again.
fn jitter() -> f64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from(u16::try_from(high >> 48).unwrap_or_default()) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(codes: &[&str]) -> Vec<CancellationReason> {
        codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect()
    }

    #[test]
    fn a_cancelled_transaction_is_repeated_unless_a_condition_failed() {
        for (codes, expected) in [
            (&["None", "ConditionalCheckFailed"][..], Fate::Conditional),
            (&["TransactionConflict", "ConditionalCheckFailed"], Fate::Conditional),
            (&["None", "TransactionConflict"], Fate::Throttled),
            (&["ThrottlingError", "ProvisionedThroughputExceeded"], Fate::Throttled),
        ] {
            assert_eq!(cancelled(&reasons(codes)), expected, "{codes:?}");
        }
        assert!(matches!(cancelled(&reasons(&["None", "ValidationError"])), Fate::Refused(..)));
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        let mut pauses = Pauses::default();
        let all: Vec<Duration> = (0..40).map(|_| pauses.next()).collect();
        assert!(all[0] >= PAUSE / 2 && all[0] <= PAUSE, "{all:?}");
        assert!(all[39] >= PAUSE_MAX / 2 && all[39] <= PAUSE_MAX, "{all:?}");
    }
}
