//! A key set that changes while the server runs, kept in memory and read again.
//!
//! It is read again when it is old, while its keys go on being used, and when a token needs a key that it does not
//! have: that token waits for a reading that began after it came, so that an issuer may sign with a new key as soon as
//! its set has it. Readings follow one another, all that wait share one, and those that tokens ask for begin at most
//! once a second: whoever sends tokens with invented keys makes nothing but that. While readings fail, the last keys
//! are used, up to [`RefreshSettings::keep`]; then tokens are answered that nobody knows.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::auth::jwt::{
    error::TokenError,
    fetch::{FetchError, Source},
    jwk::KeySet,
};

/// Between the beginnings of two readings that tokens ask for.
const ASKED_GAP: Duration = Duration::from_secs(1);
/// Between the beginnings of two readings because of age, while they fail.
const AGE_GAP: Duration = Duration::from_secs(5);
/// Tokens that wait for a reading; more are told to come again.
const MOST_WAITING: usize = 1024;

/// How often a key set is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshSettings {
    /// How old it may become until it is read again.
    pub max_age: Duration,
    /// How long a reading may take.
    pub timeout: Duration,
    /// How long its keys are used while it cannot be read.
    pub keep: Duration,
}

impl Default for RefreshSettings {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(5 * 60),
            timeout: Duration::from_secs(5),
            keep: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What readings have found out.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The keys of the last reading that succeeded.
    keys: Option<Arc<KeySet>>,
    /// When that began.
    began: Option<Instant>,
    /// When the last reading began that failed.
    failed: Option<Instant>,
}

/// Which readings there are.
#[derive(Debug, Default)]
struct Readings {
    is_running: bool,
    last_began: Option<Instant>,
}

#[derive(Debug)]
struct Shared {
    /// The issuer, for the log.
    issuer: Arc<str>,
    source: Box<dyn Source>,
    settings: RefreshSettings,
    known: watch::Sender<Known>,
    readings: Mutex<Readings>,
}

/// A key set that is read again.
#[derive(Debug)]
pub(super) struct Refreshed {
    shared: Arc<Shared>,
    waiting: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Nobody waits for a reading when this is gone.
    _stop_readings: DropGuard,
}

impl Refreshed {
    /// Nothing is read until somebody asks.
    pub(super) fn new(issuer: Arc<str>, source: Box<dyn Source>, settings: RefreshSettings) -> Self {
        let (known, _) = watch::channel(Known::default());
        let stop = CancellationToken::new();
        Self {
            shared: Arc::new(Shared { issuer, source, settings, known, readings: Mutex::default() }),
            waiting: Semaphore::new(MOST_WAITING),
            tasks: TaskTracker::new(),
            _stop_readings: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Keys of which `fits` says that they can tell. [`TokenError::UnknownKey`] when a set that was read since has
    /// none.
    pub(super) async fn keys(&self, fits: impl Fn(&KeySet) -> bool) -> Result<Arc<KeySet>, TokenError> {
        let arrived = Instant::now();
        let mut news = self.shared.known.subscribe();
        let mut permit = None;
        loop {
            let known = news.borrow_and_update().clone();
            if let Some((keys, began)) = known.keys.zip(known.began)
                && began.elapsed() <= self.shared.settings.keep
            {
                if began.elapsed() > self.shared.settings.max_age {
                    self.begin(AGE_GAP);
                }
                if fits(&keys) {
                    return Ok(keys);
                }
                if began >= arrived {
                    return Err(TokenError::UnknownKey);
                }
            }
            if known.failed.is_some_and(|failed| failed >= arrived) {
                return Err(TokenError::Unavailable);
            }
            if permit.is_none() {
                permit = Some(self.waiting.try_acquire().map_err(|_| TokenError::Unavailable)?);
            }
            let next = self.begin(ASKED_GAP);
            tokio::select! {
                biased;
                // It cannot fail: the sender is ours.
                _ = news.changed() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// The keys that were read last and may still be used, without waiting; they are read again if they are old.
    pub(super) fn kept(&self) -> Option<Arc<KeySet>> {
        let known = self.shared.known.borrow().clone();
        let (keys, began) = known.keys.zip(known.began)?;
        if began.elapsed() > self.shared.settings.max_age {
            self.begin(AGE_GAP);
        }
        (began.elapsed() <= self.shared.settings.keep).then_some(keys)
    }

    /// Begins a reading, unless one is running or the last began less than `gap` ago: then it says when the next may.
    fn begin(&self, gap: Duration) -> Option<Instant> {
        let now = Instant::now();
        let mut readings = self.shared.readings.lock().unwrap_or_else(PoisonError::into_inner);
        if readings.is_running {
            return None;
        }
        if let Some(next) = readings.last_began.map(|began| began + gap).filter(|next| *next > now) {
            return Some(next);
        }
        *readings = Readings { is_running: true, last_began: Some(now) };
        drop(readings);
        let mut reading = Reading { shared: Arc::clone(&self.shared), began: now, found: None };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                result = reading.shared.read() => reading.found = Some(result),
            }
            drop(reading);
        });
        None
    }
}

impl Shared {
    async fn read(&self) -> Result<KeySet, FetchError> {
        let text =
            timeout(self.settings.timeout, self.source.fetch()).await.map_err(|_| FetchError::Timeout)??;
        Ok(KeySet::parse(&text, self.source.is_private())?)
    }
}

/// A reading that runs. However it ends, whoever waits is told.
struct Reading {
    shared: Arc<Shared>,
    began: Instant,
    found: Option<Result<KeySet, FetchError>>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        // The next may begin before anybody is told of this one, or who is told finds it still running.
        self.shared.readings.lock().unwrap_or_else(PoisonError::into_inner).is_running = false;
        let issuer = &self.shared.issuer;
        let keys = match self.found.take() {
            Some(Ok(keys)) => {
                tracing::debug!(%issuer, keys = keys.iter().count(), "keys of tokens read");
                Some(Arc::new(keys))
            }
            Some(Err(error)) => {
                tracing::warn!(%issuer, %error, "keys of tokens cannot be read; the last ones are used");
                None
            }
            None => None,
        };
        self.shared.known.send_modify(|known| match keys {
            Some(keys) => *known = Known { keys: Some(keys), began: Some(self.began), failed: None },
            None => known.failed = Some(self.began),
        });
    }
}

#[cfg(test)]
mod tests;
