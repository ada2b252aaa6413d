//! `Router`: which provider and model answer, how often they are asked, and who is asked when they fail.
//!
//! Knows models and not rooms. Everything that can be tried again is tried before the first delta; from then on the
//! answer is the provider's, word for word: a stream that has yielded anything is never entered anew, because its
//! reader has said the beginning aloud already. It never waits beyond the deadline it is given, nor long for an answer
//! that has fallen silent.
//!
//! What happens by the kind of a failure:
//!
//! | failure | the same model again | the next one | counts against the model |
//! |---|---|---|---|
//! | rate limited, overloaded, unreachable, network, timeout, garbled | yes | then | yes |
//! | context too long, bad request, auth | no | yes | no |
//! | refused | no | no | no |
//!
//! A refusal is an answer: asking around until somebody does not refuse would defeat it, and would hand what was
//! refused to one more company. When everybody has failed, the error is that of the first who was asked, since that
//! is who was wanted; the others are in the log.

mod begun;
mod breaker;
mod plain;
mod retry;
mod target;
mod tried;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};

use crate::llm::{Delta, Deltas, Error, ErrorKind, Provider, Request};

use begun::Begun;
pub use breaker::BreakerSettings;
use breaker::Breakers;
use retry::is_transient;
pub use retry::{Jitter, RetrySettings};
use target::Names;
pub use target::{
    CONTEXT_TOKENS_UNKNOWN, ModelInfo, ModelSettings, NameError, NameSettings, Plan, Prices, Target,
};
use tried::Running;
pub use tried::{Payer, Tried};

/// What a router is made from, besides its providers.
#[derive(Debug)]
pub struct RouterSettings {
    /// What names mean.
    pub names: NameSettings,
    /// How often and how soon a model is asked again.
    pub retry: RetrySettings,
    /// When a model is left alone.
    pub breaker: BreakerSettings,
    /// How long an answer that has begun may be silent before it has failed.
    pub idle: Duration,
    /// Where random waits come from.
    pub jitter: Jitter,
}

impl Default for RouterSettings {
    /// No names, the usual limits, and waits that nobody can foresee.
    fn default() -> Self {
        let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self {
            names: NameSettings::default(),
            retry: RetrySettings::default(),
            breaker: BreakerSettings::default(),
            idle: Duration::from_secs(20),
            jitter: Jitter::seeded(seed),
        }
    }
}

/// How long an answer may take to begin.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// One attempt, from asking to the first delta.
    pub first_token: Duration,
    /// All of them, waits included.
    pub deadline: Instant,
}

impl Attempts {
    /// The time to the deadline. Waits are compared with it and never added to a time: a provider may ask for one that
    /// is longer than any clock.
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// An answer that has begun.
pub struct Answered {
    /// All of it, the first delta included.
    pub deltas: Deltas,
    /// Who answers.
    pub provider: String,
    /// With which model; empty: the provider's default, which only it knows.
    pub model: String,
    /// What is known of the model.
    pub info: ModelInfo,
    /// How many calls were made, this one included.
    pub attempts: u32,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answered")
            .field("provider", &self.provider)
            .field("model", &self.model)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Router {
    providers: BTreeMap<String, Arc<dyn Provider>>,
    names: Names,
    retry: RetrySettings,
    jitter: Jitter,
    idle: Duration,
    breakers: Arc<Breakers>,
}

/// What a target has come to.
enum Outcome {
    Answered(Deltas),
    /// Somebody else may be asked.
    Failed(Error),
    /// Nobody else may be asked.
    Final(Error),
    /// It is left alone for so long.
    LeftAlone(Duration),
    /// Nobody pays for another attempt behind this failure, or those of others.
    NotAdmitted(Option<Error>),
}

impl Router {
    /// A router over these providers; `default` is who answers for models without a provider.
    pub fn new(
        providers: BTreeMap<String, Arc<dyn Provider>>,
        default: &str,
        settings: RouterSettings,
    ) -> Result<Self, NameError> {
        let RouterSettings { names, retry, breaker, idle, jitter } = settings;
        let names = Names::new(providers.keys().cloned().collect(), default, names)?;
        Ok(Self { providers, names, retry, jitter, idle, breakers: Arc::new(Breakers::new(breaker)) })
    }

    /// Whether names lead somewhere when these providers are there: what [`Router::new`] would say of them, before
    /// anything is opened. `used` are names that the configuration asks for elsewhere, each with its key.
    pub fn check_names<'a>(
        providers: impl IntoIterator<Item = String>,
        default: &str,
        names: NameSettings,
        used: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), NameError> {
        let names = Names::new(providers.into_iter().collect(), default, names)?;
        used.into_iter().try_for_each(|(key, model)| names.check_model(key.to_owned(), model))
    }

    /// Who answers for models without a provider.
    pub fn default_provider(&self) -> &str {
        self.names.default_provider()
    }

    /// Whom to ask for a model, by its name as rooms write it: an alias, `provider:model`, a model of the default
    /// provider, or nothing. A word before the first colon is a provider only if there is one of that name.
    /// `extra_fallbacks` come before the configured ones.
    pub fn plan(&self, model: &str, extra_fallbacks: &[String]) -> Plan {
        self.names.plan(model, extra_fallbacks)
    }

    /// Whether a model answers there, and not what only stands in for one and costs nothing.
    pub fn is_model(&self, target: &Target) -> bool {
        self.providers.get(&target.provider).is_some_and(|provider| provider.is_model())
    }

    /// Asks the targets in their order until one begins to answer. [`Request::model`] is the plan's business.
    ///
    /// Attempts that gave no answer and may be billed are told to `payer`, before the answer begins or nobody is left;
    /// the answer that is returned is not among them. Without its leave nothing more is tried, and the error is that of
    /// what was.
    ///
    /// **Cancel safety.** Dropping the future or the stream stops everything at once, and a model that was being
    /// tried can be tried by the next caller. `payer` knows a call that is dropped on its
    /// way.
    pub async fn answer(
        &self,
        plan: &Plan,
        request: Request,
        limits: Attempts,
        payer: &mut dyn Payer,
    ) -> Result<Answered, Error> {
        let mut attempts = 0;
        let mut failure = None;
        let mut left_alone: Option<(&Target, Duration)> = None;
        let mut targets = plan.targets().iter().peekable();
        while let Some(target) = targets.next() {
            let is_last = targets.peek().is_none();
            match self.ask_target(target, &request, limits, is_last, (&mut attempts, payer)).await {
                Outcome::Answered(deltas) => {
                    let Target { provider, model, info } = target.clone();
                    return Ok(Answered { deltas, provider, model, info, attempts });
                }
                Outcome::Final(error) => return Err(error),
                Outcome::Failed(error) => {
                    failure.get_or_insert(error);
                }
                Outcome::LeftAlone(left) if left_alone.is_none_or(|(_, least)| left < least) => {
                    left_alone = Some((target, left));
                }
                Outcome::LeftAlone(_) => {}
                Outcome::NotAdmitted(error) => {
                    failure = failure.or(error);
                    break;
                }
            }
            if Instant::now() >= limits.deadline {
                break;
            }
        }
        Err(failure.unwrap_or_else(|| match left_alone {
            Some((target, left)) => Error {
                retry_after: Some(left),
                ..error(target, ErrorKind::Overloaded, "every model failed again and again and is left alone")
            },
            // A plan is never empty.
            None => Error {
                kind: ErrorKind::BadRequest,
                provider: String::new(),
                message: "there is nobody to ask".into(),
                retry_after: None,
            },
        }))
    }

    /// Asks one target as often as it makes sense.
    async fn ask_target(
        &self,
        target: &Target,
        request: &Request,
        limits: Attempts,
        is_last: bool,
        (attempts, payer): (&mut u32, &mut dyn Payer),
    ) -> Outcome {
        let key = (target.provider.clone(), target.model.clone());
        let Some(provider) = self.providers.get(&target.provider) else {
            return Outcome::Failed(error(target, ErrorKind::BadRequest, "there is no such provider"));
        };
        let mut done = 0;
        let mut failure = None;
        loop {
            let permit = match self.breakers.permit(&key) {
                Ok(permit) => permit,
                // It was given up between two attempts.
                Err(left) => return failure.map_or(Outcome::LeftAlone(left), Outcome::Failed),
            };
            if !payer.tried().is_empty() && !payer.admits_another().await {
                return Outcome::NotAdmitted(failure);
            }
            *attempts += 1;
            done += 1;
            // Whoever is cut off by the deadline has not had its time, which says nothing about the model.
            let whole = limits.first_token <= limits.left();
            let running = Running::new(payer.tried(), self.attempt(target));
            let call = provider.answer(adapted(request, target));
            let failed = match begin(call, target, limits).await {
                Ok((first, rest)) => {
                    running.answered();
                    permit.begun();
                    let begun = Begun { breakers: Arc::clone(&self.breakers), key, idle: self.idle };
                    return Outcome::Answered(begun.deltas(first, rest));
                }
                Err(failed) => failed,
            };
            running.failed(&failed);
            tracing::warn!(provider = %target.provider, model = %target.model, kind = ?failed.kind, attempt = done,
                message = %failed.message, "a model did not begin to answer");
            if failed.kind == ErrorKind::Timeout && !whole && Instant::now() >= limits.deadline {
                return Outcome::Failed(failed);
            }
            if !is_transient(failed.kind) {
                permit.ended();
                let is_final = failed.kind == ErrorKind::Refused;
                return if is_final { Outcome::Final(failed) } else { Outcome::Failed(failed) };
            }
            let may_again = permit.failed() && done < self.retry.attempts;
            let wait = self.wait(&failed, done, is_last);
            let fits = wait.is_some_and(|wait| wait < limits.left());
            match wait {
                Some(wait) if fits && may_again => {
                    failure = Some(failed);
                    tokio::time::sleep(wait).await;
                }
                Some(_) | None => return Outcome::Failed(failed),
            }
        }
    }

    fn attempt(&self, target: &Target) -> Tried {
        let Target { provider, model, info } = target;
        let free = || (!self.is_model(target)).then(Prices::default);
        Tried { provider: provider.clone(), model: model.clone(), prices: info.prices.or_else(free) }
    }

    /// How long to wait before the same model is asked again. `None`: somebody else can be asked sooner than the
    /// provider wants to be.
    fn wait(&self, failed: &Error, done: u32, is_last: bool) -> Option<Duration> {
        match failed.retry_after {
            None => Some(self.retry.backoff(done, &self.jitter)),
            Some(asked) if asked > self.retry.max && !is_last => None,
            // Everybody was told the same moment.
            Some(asked) => Some(asked.saturating_add(self.jitter.up_to(self.retry.base))),
        }
    }
}

/// Waits for the first delta of a call.
async fn begin(
    call: impl Future<Output = Result<Deltas, Error>>,
    target: &Target,
    limits: Attempts,
) -> Result<(Delta, Deltas), Error> {
    let patience = limits.first_token.min(limits.left());
    let first = async {
        let mut deltas = call.await?;
        match deltas.next().await {
            Some(first) => Ok((first?, deltas)),
            None => Err(error(target, ErrorKind::Network, "the answer ended without a beginning")),
        }
    };
    let late = || error(target, ErrorKind::Timeout, "the model did not begin in time");
    timeout(patience, first).await.map_err(|_| late())?
}

/// The request as this target takes it.
fn adapted(request: &Request, target: &Target) -> Request {
    let mut request = Request { model: target.model.clone(), ..request.clone() };
    if let Some(most) = target.info.max_output_tokens {
        request.max_tokens = request.max_tokens.min(most);
    }
    if !target.info.tools {
        plain::without_tools(&mut request);
    }
    request
}

fn error(target: &Target, kind: ErrorKind, message: &str) -> Error {
    Error { kind, provider: target.provider.clone(), message: message.to_owned(), retry_after: None }
}

#[cfg(test)]
mod tests;
