//! The rolling summary of a room: what its LLMs are not given any more, in few words.
//!
//! After an LLM has looked at its room, [`consider`] sees whether enough was left out that no summary stands for; if
//! so, a task reads those messages from the log, lets a model write, and has the room keep what it wrote. There is one
//! such task in a room and few on the node (`summaries` knows of them); nobody waits for it, and with the drain it ends
//! at once. When anything fails it is logged and tried again later, each time after twice the wait: answers go on
//! without a summary.
//!
//! What was edited or deleted meanwhile is in no summary: the room refuses the text (`domain/summaries.rs`), and the next
//! answer begins again from the last summary that the room still has. What no summary stands for is read from there on,
//! oldest first, and no more at once than a few thousand messages: what is behind them is left to the next answer.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    budget::Scopes,
    dispatch::{
        context::{self, LeftOut, Names},
        inner::Inner,
        model::Model,
        plain::within,
        summaries::Written,
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

/// The longest that is heard of a summary; of it [`SUMMARY_BYTES`] are kept.
const HEARD_BYTES: usize = 4 * SUMMARY_BYTES;
/// Messages read at once.
const PAGE: usize = 500;
/// How many pages are read at most.
const PAGES_MAX: usize = 8;

/// A message that was left out.
struct Left {
    seq: Seq,
    outside: Vec<String>,
    turn: Turn,
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
        // A panic is a failure like any other.
        let result = self.result.as_ref().and_then(|result| result.as_ref().ok());
        self.inner.summaries.end(&self.room, self.left_out.before, after, result);
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
    if events < after || !is_model() || !inner.summaries.begin(room, left_out.before) {
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
    let scopes = Scopes { namespace: room.namespace(), user: None, room: Some(room.clone()) };
    let deadline = Instant::now() + inner.limits.total;
    let limits = Attempts { first_token: inner.limits.first_token, deadline };
    let parts = (&inner.budgets, inner.router.as_ref());
    let whole = whole::ask(parts, &scopes, &model.plan, request, limits, HEARD_BYTES).await?;
    let text = within(whole.text.trim(), SUMMARY_BYTES).to_owned();
    if text.is_empty() { Err(Failure::Empty) } else { Ok((text, whole.model)) }
}
