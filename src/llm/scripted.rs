//! A provider that says what it is told to: for tests and benchmarks.
//!
//! Two ways to drive it. A [`Script`] hands each call to a task that plays the model step by step. A function makes
//! the whole answer of a call at once, for runs that come in any order.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::llm::{Delta, Deltas, Error, ErrorKind, Finish, Provider, Request, ToolCall};

/// Calls that wait for a [`Script`]; further ones wait in [`Provider::answer`].
const CALLS_MAX: usize = 64;
/// Deltas that wait for their reader; a step beyond waits.
const DELTAS_MAX: usize = 16;

/// A part of an answer that is told beforehand.
#[derive(Debug, Clone)]
pub enum Step {
    /// Yields text.
    Text(String),
    /// Yields a tool call.
    Tool(ToolCall),
    /// Yields usage.
    Usage {
        /// Given to the model.
        prompt_tokens: u32,
        /// Made by the model.
        completion_tokens: u32,
    },
    /// Yields a sign of life.
    Progress,
    /// Says nothing for this long.
    Pause(Duration),
    /// Says nothing any more, until it is dropped.
    Stall,
    /// Fails; as the first step it refuses the request.
    Error(Error),
    /// Ends.
    Done(Finish),
}

impl Step {
    /// [`Step::Text`].
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// [`Step::Tool`].
    pub fn tool(id: &str, name: &str, arguments: &serde_json::Value) -> Self {
        Self::Tool(tool_call(id, name, arguments))
    }

    /// An answer of one text that ends well.
    pub fn answer(text: impl Into<String>) -> Vec<Self> {
        vec![Self::text(text), Self::Done(Finish::Stop)]
    }
}

type Reply = dyn Fn(&Request) -> Vec<Step> + Send + Sync;

enum Mode {
    Driven(mpsc::Sender<Call>),
    Replies(Box<Reply>),
}

/// See the module.
pub struct ScriptedProvider {
    name: String,
    mode: Mode,
    calls: AtomicUsize,
    cancelled: Arc<AtomicUsize>,
}

impl ScriptedProvider {
    /// A provider whose calls `Script` plays.
    pub fn new(name: &str) -> (Self, Script) {
        let (calls, script) = mpsc::channel(CALLS_MAX);
        (Self::with_mode(name, Mode::Driven(calls)), Script { calls: script })
    }

    /// A provider whose answers `reply` makes.
    pub fn with(name: &str, reply: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::with_mode(name, Mode::Replies(Box::new(reply)))
    }

    /// A provider that gives these answers one after the other, and refuses what comes behind them.
    pub fn replies(name: &str, replies: Vec<Vec<Step>>) -> Self {
        let next = AtomicUsize::new(0);
        let provider = name.to_owned();
        Self::with(name, move |_| {
            let over = || vec![Step::Error(error(&provider, ErrorKind::BadRequest, "the script is over"))];
            replies.get(next.fetch_add(1, Ordering::SeqCst)).cloned().unwrap_or_else(over)
        })
    }

    /// How often an answer was asked for.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many answers were dropped before they ended.
    pub fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }

    fn with_mode(name: &str, mode: Mode) -> Self {
        let (calls, cancelled) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        Self { name: name.to_owned(), mode, calls, cancelled }
    }

    async fn driven(
        &self,
        script: &mpsc::Sender<Call>,
        request: Request,
        ending: Ending,
    ) -> Result<Deltas, Error> {
        let gone = || error(&self.name, ErrorKind::Network, "the script is gone");
        let (accept, accepted) = oneshot::channel();
        let (deltas, receiver) = mpsc::channel(DELTAS_MAX);
        let cancelled = ending.token.clone();
        let call = Call { request, provider: self.name.clone(), accept: Some(accept), deltas, cancelled };
        let opened = match script.send(call).await {
            Ok(()) => accepted.await.unwrap_or_else(|_| Err(gone())),
            Err(_) => Err(gone()),
        };
        if let Err(error) = opened {
            ending.disarm();
            return Err(error);
        }
        let state = Some((receiver, ending, gone()));
        let deltas = stream::unfold(state, |state| async move {
            let (mut receiver, ending, gone) = state?;
            let item = receiver.recv().await.unwrap_or(Err(gone.clone()));
            Some(ending.pass(item, |ending| (receiver, ending, gone)))
        });
        Ok(deltas.boxed())
    }

    fn replied(&self, steps: Vec<Step>, ending: Ending) -> Result<Deltas, Error> {
        let steps = VecDeque::from(steps);
        if let Some(Step::Error(error)) = steps.front() {
            ending.disarm();
            return Err(error.clone());
        }
        let short = error(&self.name, ErrorKind::Network, "the script has no end");
        let state = Some((steps, ending, short));
        let deltas = stream::unfold(state, |state| async move {
            let (mut steps, ending, short) = state?;
            let item = loop {
                break match steps.pop_front() {
                    None => Err(short.clone()),
                    Some(Step::Text(text)) if text.is_empty() => continue,
                    Some(Step::Text(text)) => Ok(Delta::Text(text)),
                    Some(Step::Tool(call)) => Ok(Delta::ToolCall(call)),
                    Some(Step::Usage { prompt_tokens, completion_tokens }) => {
                        Ok(Delta::Usage { prompt_tokens, completion_tokens })
                    }
                    Some(Step::Progress) => Ok(Delta::Progress),
                    Some(Step::Done(finish)) => Ok(Delta::Done(finish)),
                    Some(Step::Error(error)) => Err(error),
                    Some(Step::Stall) => std::future::pending().await,
                    Some(Step::Pause(pause)) => {
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                };
            };
            Some(ending.pass(item, |ending| (steps, ending, short)))
        });
        Ok(deltas.boxed())
    }
}

impl fmt::Debug for ScriptedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedProvider").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for ScriptedProvider {
    fn name(&self) -> &str {
        &self.name
    }

    async fn answer(&self, request: Request) -> Result<Deltas, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let ending = Ending::new(Arc::clone(&self.cancelled));
        match &self.mode {
            Mode::Driven(script) => self.driven(script, request, ending).await,
            Mode::Replies(reply) => self.replied(reply(&request), ending),
        }
    }
}

/// Plays the model.
#[derive(Debug)]
pub struct Script {
    calls: mpsc::Receiver<Call>,
}

impl Script {
    /// Waits for the next call. `None`: the provider is gone. Cancel-safe.
    pub async fn next_call(&mut self) -> Option<Call> {
        self.calls.recv().await
    }
}

/// One call, to be answered step by step. The first step accepts the request. Dropping it without an end cuts the
/// answer.
///
/// Each step waits while the reader is far behind, and returns whether the answer is still wanted.
#[derive(Debug)]
pub struct Call {
    /// What was asked.
    pub request: Request,
    provider: String,
    accept: Option<oneshot::Sender<Result<(), Error>>>,
    deltas: mpsc::Sender<Result<Delta, Error>>,
    cancelled: CancellationToken,
}

impl Call {
    /// Accepts the request, and says nothing yet.
    pub fn accept(&mut self) {
        if let Some(accept) = self.accept.take() {
            // Nobody waits for it: the caller is gone, which `cancelled` tells.
            let _ = accept.send(Ok(()));
        }
    }

    /// Yields text; an empty one is left out.
    pub async fn text(&mut self, text: impl Into<String>) -> bool {
        let text = text.into();
        self.accept();
        if text.is_empty() { !self.is_cancelled() } else { self.step(Ok(Delta::Text(text))).await }
    }

    /// Yields a tool call.
    pub async fn tool(&mut self, id: &str, name: &str, arguments: &serde_json::Value) -> bool {
        self.step(Ok(Delta::ToolCall(tool_call(id, name, arguments)))).await
    }

    /// Yields usage.
    pub async fn usage(&mut self, prompt_tokens: u32, completion_tokens: u32) -> bool {
        self.step(Ok(Delta::Usage { prompt_tokens, completion_tokens })).await
    }

    /// Ends the answer.
    pub async fn done(mut self, finish: Finish) -> bool {
        self.step(Ok(Delta::Done(finish))).await
    }

    /// Fails. Before any other step it refuses the request.
    pub async fn fail(mut self, error: Error) -> bool {
        match self.accept.take() {
            Some(accept) => accept.send(Err(error)).is_ok(),
            None => self.step(Err(error)).await,
        }
    }

    /// Fails with an error of this kind, named after the provider.
    pub async fn fail_with(self, kind: ErrorKind) -> bool {
        let error = error(&self.provider, kind, "told to fail");
        self.fail(error).await
    }

    /// Whether the answer was dropped before its end.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Waits until the answer is dropped before its end. Cancel-safe.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    async fn step(&mut self, item: Result<Delta, Error>) -> bool {
        self.accept();
        self.deltas.send(item).await.is_ok()
    }
}

/// Tells whether an answer was dropped before its end: dropping it unless disarmed says so.
struct Ending {
    token: CancellationToken,
    guard: Option<(DropGuard, Arc<AtomicUsize>)>,
}

impl Ending {
    fn new(cancelled: Arc<AtomicUsize>) -> Self {
        let token = CancellationToken::new();
        Self { guard: Some((token.clone().drop_guard(), cancelled)), token }
    }

    fn disarm(mut self) {
        if let Some((guard, _)) = self.guard.take() {
            guard.disarm();
        }
    }

    /// Pairs an item with the state behind it: none, if the item is the last.
    fn pass<S>(
        self,
        item: Result<Delta, Error>,
        state: impl FnOnce(Self) -> S,
    ) -> (Result<Delta, Error>, Option<S>) {
        if matches!(item, Err(_) | Ok(Delta::Done(_))) {
            self.disarm();
            (item, None)
        } else {
            (item, Some(state(self)))
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some((_, cancelled)) = &self.guard {
            cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn tool_call(id: &str, name: &str, arguments: &serde_json::Value) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_string() }
}

fn error(provider: &str, kind: ErrorKind, message: &str) -> Error {
    Error { kind, provider: provider.to_owned(), message: message.to_owned(), retry_after: None }
}
