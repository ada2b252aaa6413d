//! Whether a model is worth asking: after several failures in a row it is left alone for a while, then tried once.
//!
//! While one tries, the others wait until its answer begins: an answer takes too long to wait for its end. From then on
//! all are let through, on trial: until one answer has come to its end, one failure is enough to be left alone again.
//!
//! Kept by provider and model, not by provider: rooms choose models freely, and one that is slow or broken must not
//! cut everybody off from the others behind the same key. When the whole provider is down, each of its models finds
//! out for itself, at the price of a few failed calls.
//!
//! Only models that have failed are remembered, at most `REMEMBERED_MAX` of them; the one that failed longest ago
//! is forgotten first, which costs no more than finding out again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Models whose failures are remembered: names come from rooms, so that their number needs a bound.
const REMEMBERED_MAX: usize = 1024;
/// When to come back while somebody else's probe is out: nobody knows how long that takes.
const PROBE_WAIT: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// When a model is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failures in a row; at least one.
    pub failures: u32,
    /// For so long.
    pub open: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open: Duration::from_secs(60) }
    }
}

impl BreakerSettings {
    /// The end of the time that begins now. One that no clock can tell is as good as a year.
    fn until(&self, now: Instant) -> Instant {
        now.checked_add(self.open).unwrap_or_else(|| now + YEAR)
    }
}

/// A provider and a model.
pub(super) type Key = (String, String);

/// A model that has failed; those that have not are not remembered.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    state: State,
    last_failure: Instant,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// It is asked; so many failures in a row.
    Closed(u32),
    /// It is left alone until then; behind that one may try.
    Open(Instant),
    /// One is trying.
    Probing,
}

#[derive(Debug)]
pub(super) struct Breakers {
    settings: BreakerSettings,
    troubled: Mutex<HashMap<Key, Trouble>>,
}

/// Leave to ask a model once. A probe that is dropped without a result lets the next one try.
#[derive(Debug)]
pub(super) struct Permit {
    breakers: Arc<Breakers>,
    key: Key,
    probe: bool,
}

impl Breakers {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self { settings, troubled: Mutex::default() }
    }

    fn troubled(&self) -> MutexGuard<'_, HashMap<Key, Trouble>> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many models are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.troubled().len()
    }

    /// Leave to ask, or how long it will not be given.
    pub(super) fn permit(self: &Arc<Self>, key: &Key) -> Result<Permit, Duration> {
        let mut troubled = self.troubled();
        let probe = match troubled.get_mut(key) {
            None => false,
            Some(trouble) => match trouble.state {
                State::Closed(_) => false,
                State::Probing => return Err(PROBE_WAIT),
                State::Open(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !left.is_zero() {
                        return Err(left);
                    }
                    trouble.state = State::Probing;
                    true
                }
            },
        };
        Ok(Permit { breakers: Arc::clone(self), key: key.clone(), probe })
    }

    /// An answer came to its end, so that failures before it were none in a row.
    pub(super) fn succeeded(&self, key: &Key) {
        let mut troubled = self.troubled();
        // Calls from before the failures may still end well: only a probe opens the way again.
        if troubled.get(key).is_some_and(|trouble| matches!(trouble.state, State::Closed(_))) {
            troubled.remove(key);
        }
    }

    /// A call failed that was no probe, or was one whose answer had begun. Returns whether the model may be asked again.
    pub(super) fn failed(&self, key: &Key) -> bool {
        let now = Instant::now();
        let mut troubled = self.troubled();
        if !troubled.contains_key(key) && troubled.len() >= REMEMBERED_MAX {
            forget_oldest(&mut troubled);
        }
        let trouble =
            troubled.entry(key.clone()).or_insert(Trouble { state: State::Closed(0), last_failure: now });
        // Calls that began before the way was closed must not keep it closed, nor disturb a probe.
        if let State::Closed(failures) = trouble.state {
            trouble.last_failure = now;
            trouble.state = if failures.saturating_add(1) >= self.settings.failures {
                tracing::warn!(provider = %key.0, model = %key.1, failures = failures + 1,
                    open = ?self.settings.open, "a model fails again and again; it is left alone for a while");
                State::Open(self.settings.until(now))
            } else {
                State::Closed(failures + 1)
            };
        }
        matches!(trouble.state, State::Closed(_))
    }
}

/// Linear, and rare: only when a thousand models are out of order.
fn forget_oldest(troubled: &mut HashMap<Key, Trouble>) {
    let idle = troubled.iter().filter(|(_, trouble)| !matches!(trouble.state, State::Probing));
    let oldest = idle.min_by_key(|(_, trouble)| trouble.last_failure).map(|(key, _)| key.clone());
    if let Some(key) = oldest {
        troubled.remove(&key);
    }
}

impl Permit {
    /// An answer has begun, which is no success yet: it may break off.
    pub(super) fn begun(mut self) {
        if !self.probe {
            return;
        }
        self.probe = false;
        tracing::info!(provider = %self.key.0, model = %self.key.1, "a model begins to answer again");
        if let Some(trouble) = self.breakers.troubled().get_mut(&self.key) {
            trouble.state = State::Closed(self.breakers.settings.failures.saturating_sub(1));
        }
    }

    /// The provider lives: it has said what is wrong with the request.
    pub(super) fn ended(mut self) {
        if self.probe {
            self.probe = false;
            self.breakers.troubled().remove(&self.key);
        } else {
            self.breakers.succeeded(&self.key);
        }
    }

    /// The provider is out of order. Returns whether it may be asked again.
    pub(super) fn failed(mut self) -> bool {
        if !self.probe {
            return self.breakers.failed(&self.key);
        }
        self.probe = false;
        let now = Instant::now();
        let state = State::Open(self.breakers.settings.until(now));
        self.breakers.troubled().insert(self.key.clone(), Trouble { state, last_failure: now });
        false
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probe
            && let Some(trouble) = self.breakers.troubled().get_mut(&self.key)
        {
            trouble.state = State::Open(Instant::now());
        }
    }
}
