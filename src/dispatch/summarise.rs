//! The rolling summary of a room: what its LLMs are not given any more, in few words.
//!
//! After an LLM has looked at its room, [`consider`] sees whether enough was left out that no summary stands for; if
//! so, a task reads those messages from the log, lets a model write, and has the room keep what it wrote. There is one
//! such task in a room and few on the node; nobody waits for it, and with the drain it ends at once. When anything
//! fails it is logged and tried again later, each time after twice the wait: answers go on without a summary.
//!
//! What was edited or deleted meanwhile is in no summary: the room refuses the text (`domain/summary.rs`), and the next
//! answer begins again from the last summary that the room still has. What no summary stands for is read from there on,
//! oldest first, and no more at once than a few thousand messages: what is behind them is left to the next answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    budget::Scopes,
    dispatch::{
        Inner,
        context::{self, LeftOut, Names},
        look::Model,
        plain::within,
        whole,
    },
    domain::{
        command::{Actor, Command},
        limits::SUMMARY_BYTES,
        rejection::{Code, Rejection},
        room::Room,
        summary::{Summary, add_outside},
    },
    ids::{RoomId, Seq},
    llm::{Request, Turn, route::Attempts},
    rooms::Rooms,
    store::Direction,
};

/// Summaries written at the same time on this node: nobody waits for one, and answers need the providers.
const TASKS_MAX: usize = 4;
/// The longest that is heard of a summary; of it [`SUMMARY_BYTES`] are kept.
const HEARD_BYTES: usize = 4 * SUMMARY_BYTES;
/// Messages read at once.
const PAGE: usize = 500;
/// How many pages are read at most.
const PAGES_MAX: usize = 8;
/// After the first failure nothing is tried in that room for so long; after each further one twice as long, up to
/// the most.
const RETRY: Duration = Duration::from_secs(30);
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// Rooms of which something is remembered. One that is forgotten is only looked at once more.
const KNOWN_MAX: usize = 4096;

/// What is known of the rooms, and which of them are being summarised.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    rooms: Mutex<HashMap<RoomId, Known>>,
    stopped: CancellationToken,
}

#[derive(Debug, Default)]
struct Known {
    running: bool,
    failures: u32,
    not_before: Option<Instant>,
    /// Before this position there is too little to be summarised.
    enough_at: u64,
}

/// A message that was left out.
struct Left {
    seq: Seq,
    outside: Vec<String>,
    turn: Turn,
}

/// What a task has come to.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    /// Everything that was read has a summary.
    All,
    /// So many messages have none, which is too few.
    TooFew(u64),
    /// Something that was read has changed, or the server is going away: the next answer begins again.
    GivenUp,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the room cannot be read or written: {0}")]
    Room(#[from] Rejection),
    #[error("no summary was written")]
    Model(#[from] whole::Failure),
    #[error("the summary is empty")]
    Empty,
}

impl Summaries {
    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, Known>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what is being written, and begins nothing more.
    pub(super) fn stop(&self) {
        self.stopped.cancel();
    }

    /// Whether a task may begin; then it has begun.
    fn begin(&self, room: &RoomId, left_out: &LeftOut) -> bool {
        let mut rooms = self.rooms();
        if self.stopped.is_cancelled() || rooms.values().filter(|known| known.running).count() >= TASKS_MAX {
            return false;
        }
        if rooms.len() >= KNOWN_MAX && !rooms.contains_key(room) {
            rooms.retain(|_, known| known.running);
        }
        let known = rooms.entry(room.clone()).or_default();
        let waits = known.not_before.is_some_and(|until| Instant::now() < until);
        if known.running || waits || left_out.before.0 < known.enough_at {
            return false;
        }
        known.running = true;
        true
    }

    fn end(&self, room: &RoomId, left_out: &LeftOut, after: u64, result: Option<&Result<Written, Failure>>) {
        let mut rooms = self.rooms();
        let Some(known) = rooms.get_mut(room) else { return };
        known.running = false;
        match result {
            Some(Ok(Written::TooFew(found))) => {
                *known =
                    Known { enough_at: left_out.before.0 + after.saturating_sub(*found), ..Known::default() };
            }
            Some(Ok(Written::All | Written::GivenUp)) => {
                rooms.remove(room);
            }
            // A panic is a failure like any other.
            Some(Err(_)) | None => {
                let wait = RETRY.saturating_mul(1 << known.failures.min(16)).min(RETRY_MAX);
                known.failures = known.failures.saturating_add(1);
                known.not_before = Some(Instant::now() + wait);
            }
        }
    }
}

/// Ends the task in the books, whatever becomes of it.
struct Running {
    inner: Arc<Inner>,
    room: RoomId,
    left_out: LeftOut,
    result: Option<Result<Written, Failure>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let after = u64::from(self.inner.limits.summary.after);
        self.inner.summaries.end(&self.room, &self.left_out, after, self.result.as_ref());
    }
}

/// Begins a summary if enough was left out. Never waits.
pub(super) fn consider(inner: &Arc<Inner>, room: &RoomId, left_out: Option<LeftOut>) {
    let after = u64::from(inner.limits.summary.after);
    let Some(left_out) = left_out.filter(|_| after > 0) else {
        return;
    };
    // There are at least as many events as messages: most rooms need not be read to be seen to have too few.
    let events = left_out.before.0.saturating_sub(left_out.summarised.0.saturating_add(1));
    let is_model = || model(inner).plan.targets().first().is_some_and(|target| inner.router.is_model(target));
    if events < after || !is_model() || !inner.summaries.begin(room, &left_out) {
        return;
    }
    let mut running = Running { inner: Arc::clone(inner), room: room.clone(), left_out, result: None };
    inner.tasks.spawn(async move {
        let stopped = running.inner.summaries.stopped.clone();
        let result = stopped.run_until_cancelled(summarise(&running.inner, &running.room, left_out)).await;
        let result = result.unwrap_or(Ok(Written::GivenUp));
        if let Err(failure) = &result {
            let error: &(dyn std::error::Error + 'static) = failure;
            tracing::warn!(room = %running.room, error, "a room could not be summarised; it is tried again later");
        }
        running.result = Some(result);
        drop(running);
    });
}

/// Has summaries written until one stands for everything that was left out. Each is kept at once: what comes behind
/// it may fail.
async fn summarise(inner: &Inner, room: &RoomId, left_out: LeftOut) -> Result<Written, Failure> {
    let look = |room: &Room, _: &Arc<_>| (room.profile.name.clone(), room.summary.clone(), room.seq);
    let (name, mut last, read_at) = inner.rooms.read(room, look).await?;
    let known = last.as_ref().map_or(Seq::ZERO, |summary| summary.up_to);
    let messages = unsummarised(&inner.rooms, room, known, left_out.before).await?;
    let found = u64::try_from(messages.len()).unwrap_or(u64::MAX);
    if found < u64::from(inner.limits.summary.after) {
        return Ok(Written::TooFew(found));
    }
    let tokens = inner.limits.summary.max_tokens;
    let model = model(inner);
    let mut rest = messages.as_slice();
    while !rest.is_empty() {
        let frame = context::summary_turns(&name, last.as_ref(), &[], tokens);
        let (chunk, behind) = rest.split_at(fitting(&model, tokens, frame, rest).await);
        rest = behind;
        let given: Vec<Turn> = chunk.iter().map(|left| left.turn.clone()).collect();
        let request = Request {
            // The plan says it.
            model: String::new(),
            turns: context::summary_turns(&name, last.as_ref(), &given, tokens),
            tools: Vec::new(),
            form: None,
            max_tokens: tokens,
            display_name: String::new(),
        };
        let (text, by) = write(inner, room, &model, request).await?;
        let mut outside = last.map(|summary| summary.outside).unwrap_or_default();
        for left in chunk {
            add_outside(&mut outside, &left.outside);
        }
        let up_to = chunk.last().map_or(known, |left| left.seq);
        let summary = Summary { text, up_to, model: by, outside };
        let command = Command::RecordSummary { summary: summary.clone(), read_at };
        match inner.rooms.submit(room, Actor::Server, command).await {
            Ok(_) => last = Some(summary),
            Err(Rejection { code: Code::NotFound, .. }) => return Ok(Written::GivenUp),
            Err(rejection) => return Err(rejection.into()),
        }
    }
    Ok(Written::All)
}

/// How many of these messages the model may be given at once, besides `frame`; at least one. Counted where nobody waits.
async fn fitting(model: &Model, tokens: u32, frame: Vec<Turn>, messages: &[Left]) -> usize {
    let (tokenizer, window) = (model.tokenizer, model.window);
    let turns: Vec<Turn> = messages.iter().map(|left| left.turn.clone()).collect();
    let counting = tokio::task::spawn_blocking(move || {
        let count = move |text: &str| tokenizer.count(text);
        let limit = context::summary_space(window, tokens, &frame, &count);
        context::summary_chunk(turns.iter(), limit, &count)
    });
    // It fails only by a fault of the library; one is always taken.
    counting.await.unwrap_or(1).min(messages.len())
}

/// The messages behind `known` and before `before` that LLMs may be given, oldest first, each as it is told. Of very
/// many only the first.
async fn unsummarised(rooms: &Rooms, room: &RoomId, known: Seq, before: Seq) -> Result<Vec<Left>, Rejection> {
    let mut found = Vec::new();
    let mut after = known;
    let mut names = rooms.read(room, |room, _| Names::of(room)).await?;
    for _ in 0..PAGES_MAX {
        let page = rooms.history(room, Direction::After(after), PAGE).await?;
        let Some(last) = page.messages.last().map(|message| message.seq) else { break };
        names = names.and_of(&page.messages);
        for message in page.messages {
            let counts = message.seq < before && !message.deleted && message.superseded_by.is_none();
            if counts {
                let poll = page.polls.iter().find(|poll| Some(poll.id) == message.poll_id);
                let turn = context::for_summary(&message, poll, &names);
                found.push(Left { seq: message.seq, outside: message.outside, turn });
            }
        }
        if !page.more || last >= before {
            break;
        }
        after = last;
    }
    Ok(found)
}

/// The model that writes.
fn model(inner: &Inner) -> Model {
    Model::of(&inner.router, &inner.limits.summary.model, &[], inner.limits.context_tokens)
}

/// Lets a model write; gives its text and its name. The room pays for it, and the server.
async fn write(
    inner: &Inner,
    room: &RoomId,
    model: &Model,
    request: Request,
) -> Result<(String, String), Failure> {
    let scopes = Scopes { user: None, room: Some(room.clone()) };
    let deadline = Instant::now() + inner.limits.total;
    let limits = Attempts { first_token: inner.limits.first_token, deadline };
    let parts = (&inner.budgets, inner.router.as_ref());
    let whole = whole::ask(parts, &scopes, &model.plan, request, limits, HEARD_BYTES).await?;
    let text = within(whole.text.trim(), SUMMARY_BYTES).to_owned();
    if text.is_empty() { Err(Failure::Empty) } else { Ok((text, whole.model)) }
}
