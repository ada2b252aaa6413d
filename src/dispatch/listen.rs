//! Listening to a model: one round of its answer, its text going out in chunks as it comes.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use crate::{
    budget::{Refused, Scopes},
    bus::{Audience, BusMessage, Transient, TransientContent},
    dispatch::{
        answer::{ANSWER_BYTES, AnswerText},
        context::Scene,
        ended::Ended,
        inner::Inner,
        job::{Job, Stop},
        plain::within,
        receipt, spend,
        tools::Effects,
    },
    domain::llm::{LiveAnswer, RunEnd, RunReport},
    llm::{
        Delta, Deltas, Error, ErrorKind, Finish, Request, Tool, ToolCall, Turn,
        route::{Answered, Attempts, Payer, Plan, Tried},
    },
    rooms::Used,
    wire::transient::{self, Receipt},
};

/// How long an answer that asks only for a vote may be, in tokens, if it may be as long at all.
const VOTE_TOKENS: u32 = 500;
/// The error code of an answer that no budget admits.
const OVER_BUDGET: &str = "over_budget";

/// The state of a run between the parts of its answer.
pub(super) struct Progress {
    pub(super) answer: AnswerText,
    pub(super) live: LiveAnswer,
    pub(super) effects: Effects,
    pub(super) report: RunReport,
    pub(super) started: Instant,
    /// When the next chunk may go out.
    pub(super) flush_at: Option<Instant>,
    pub(super) last_flush: Option<Instant>,
    pub(super) calls_left: usize,
    /// Whoever asked was told that the model has the question.
    pub(super) taken_up: bool,
    /// The call that is running, as the budgets know it.
    pub(super) call: Option<spend::Call>,
    /// What a voter has said last beside its vote: nobody has heard it.
    pub(super) aside: String,
    /// Who is told of what is used.
    pub(super) stop: Stop,
}

impl Progress {
    /// Tells whoever may end the room what was used so far, also by the call that is running.
    pub(super) fn note(&self) {
        let mut report = RunReport { tools: self.effects.uses.clone(), ..self.report.clone() };
        if let Some(call) = &self.call {
            add(&mut report, call.so_far());
        }
        self.stop.use_up(Used { report, outside: self.effects.outside.clone() });
    }
}

/// What a model has said in one round.
pub(super) struct Heard {
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) finish: Finish,
}

/// Asks once and listens to the end of the round.
pub(super) async fn ask(
    inner: &Inner,
    job: &Job,
    scene: &Scene,
    plan: &Plan,
    (turns, tools): (&[Turn], &[Tool]),
    progress: &mut Progress,
    deadline: Instant,
) -> Result<Heard, Ended> {
    let request = Request {
        // The plan says it.
        model: String::new(),
        turns: turns.to_vec(),
        tools: tools.to_vec(),
        form: None,
        max_tokens: match job.poll_id {
            Some(_) => inner.limits.max_tokens.min(VOTE_TOKENS),
            None => inner.limits.max_tokens,
        },
        display_name: scene.llm.display_name.clone(),
    };
    let scopes =
        Scopes { namespace: job.room.namespace(), user: job.asked_by.clone(), room: Some(job.room.clone()) };
    let call = spend::begin((&inner.budgets, &inner.router), job.message_id, &scopes, plan, &request).await;
    progress.call = Some(call.map_err(|refused| over_budget(progress, &refused))?);
    let heard = hear(inner, job, plan, request, progress, deadline).await;
    settle(progress).await;
    heard.map_err(Ended::failed)
}

/// No budget admits the call.
fn over_budget(progress: &mut Progress, refused: &Refused) -> Ended {
    progress.report.retry_at = refused.retry_at();
    let fault = Some((OVER_BUDGET.to_owned(), refused.to_string()));
    Ended { end: RunEnd::OverBudget, error: None, detail: String::new(), fault }
}

/// Settles the call that is open, if one is: also of an answer that was interrupted. Those of several rounds add up.
///
/// Dropped while it counts, it has done nothing; behind that, the report has what is being paid.
pub(super) async fn settle(progress: &mut Progress) {
    let Some(call) = &progress.call else {
        return;
    };
    let counted = call.count().await;
    if let Some(call) = progress.call.take() {
        add(&mut progress.report, counted.spent);
        progress.note();
        call.pay(counted).await;
    }
}

fn add(report: &mut RunReport, spent: spend::Spent) {
    report.prompt_tokens = report.prompt_tokens.saturating_add(spend::shown(spent.prompt));
    report.completion_tokens = report.completion_tokens.saturating_add(spend::shown(spent.completion));
    report.cost_micros = report.cost_micros.saturating_add(spent.micros);
}

/// Listens to the end of the round.
async fn hear(
    inner: &Inner,
    job: &Job,
    plan: &Plan,
    request: Request,
    progress: &mut Progress,
    deadline: Instant,
) -> Result<Heard, Error> {
    let limits = Attempts { first_token: inner.limits.first_token, deadline };
    let mut unpaid: Vec<Tried> = Vec::new();
    let payer: &mut dyn Payer = match &mut progress.call {
        Some(call) => call,
        None => &mut unpaid,
    };
    let Answered { mut deltas, provider, model, .. } =
        inner.router.answer(plan, request, limits, payer).await?;
    if let Some(call) = &mut progress.call {
        call.answered_by(&provider, &model);
    }
    (progress.report.provider, progress.report.model) = (provider, model);
    progress.note();
    if !std::mem::replace(&mut progress.taken_up, true) {
        receipt::tell(inner, job, Receipt::TakenUp);
    }
    let mut heard = Heard { text: String::new(), calls: Vec::new(), finish: Finish::Stop };
    // Whatever a poll's voter writes is not said in the room.
    let aloud = job.poll_id.is_none();
    loop {
        let delta = next_delta(inner, job, &mut deltas, progress, deadline).await?;
        if progress.report.first_token_ms == 0 && matches!(delta, Delta::Text(_) | Delta::ToolCall(_)) {
            progress.report.first_token_ms = millis(progress.started.elapsed()).max(1);
            progress.note();
        }
        match delta {
            Delta::Text(text) => {
                let kept = within(&text, ANSWER_BYTES.saturating_sub(heard.text.len()));
                heard.text.push_str(kept);
                if let Some(call) = &mut progress.call {
                    call.heard(kept);
                }
                // What nobody hears has the same end.
                let fits = kept.len() == text.len();
                if (aloud && !progress.answer.push(&text)) || !fits {
                    heard.finish = Finish::Length;
                    return Ok(heard);
                }
                schedule_flush(inner, job, progress);
            }
            Delta::ToolCall(made) => {
                if let Some(call) = &mut progress.call {
                    call.heard_call(&made);
                }
                // More would not be carried out.
                if heard.calls.len() < progress.calls_left {
                    heard.calls.push(made);
                }
            }
            // It has set the time back, which is all it is for.
            Delta::Progress => {}
            Delta::Usage { prompt_tokens, completion_tokens } => {
                if let Some(call) = &mut progress.call {
                    call.told(prompt_tokens, completion_tokens);
                }
            }
            Delta::Done(finish) => {
                heard.finish = finish;
                return Ok(heard);
            }
        }
    }
}

/// Waits for the next part; chunks that are due go out meanwhile.
async fn next_delta(
    inner: &Inner,
    job: &Job,
    deltas: &mut Deltas,
    progress: &mut Progress,
    by: Instant,
) -> Result<Delta, Error> {
    loop {
        let flush_at = progress.flush_at;
        tokio::select! {
            biased;
            () = sleep_until(flush_at) => publish_chunk(inner, job, progress),
            delta = timeout_at(by, deltas.next()) => {
                return match delta {
                    Ok(Some(delta)) => delta,
                    Ok(None) => Err(Error {
                        kind: ErrorKind::Network,
                        provider: progress.report.provider.clone(),
                        message: "the answer ended without an end".into(),
                        retry_after: None,
                    }),
                    Err(_) => Err(late(&progress.report.provider)),
                };
            }
        }
    }
}

fn late(provider: &str) -> Error {
    Error {
        kind: ErrorKind::Timeout,
        provider: provider.to_owned(),
        message: "nothing came in time".into(),
        retry_after: None,
    }
}

/// The first text goes out at once, what follows once in a window.
fn schedule_flush(inner: &Inner, job: &Job, progress: &mut Progress) {
    if !progress.answer.has_chunk() {
        return;
    }
    // A session here may want it sooner; who wants it later is told later by the feed.
    let wanted = inner.rooms.registry().chunk_interval(&job.room);
    let window = wanted.map_or(inner.limits.chunk_window, |wanted| wanted.min(inner.limits.chunk_window));
    // Looked at with every part: a model that never pauses would keep a timer from being seen.
    let due = progress.last_flush.map(|last| last + window);
    match due {
        Some(due) if due > Instant::now() => progress.flush_at = Some(due),
        Some(_) | None => publish_chunk(inner, job, progress),
    }
}

/// Sends what has not been sent.
pub(super) fn publish_chunk(inner: &Inner, job: &Job, progress: &mut Progress) {
    progress.flush_at = None;
    let Some((offset, text)) = progress.answer.take_chunk() else {
        return;
    };
    progress.last_flush = Some(Instant::now());
    progress.note();
    let transient = Transient {
        frame: transient::chunk(&progress.live, offset, &text),
        audience: Audience::Room,
        content: TransientContent::Chunk { message_id: job.message_id, offset, text },
    };
    inner.rooms.registry().bus().publish(&job.room, BusMessage::Transient(transient));
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// For reports: whole milliseconds.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
