//! A whole answer at once: for what the server itself asks of a model, with its price.

use futures_util::StreamExt as _;
use tokio::time::timeout_at;

use crate::{
    budget::{Budgets, Refused, Scopes},
    dispatch::spend,
    ids::MessageId,
    llm::{
        self, Delta, ErrorKind, Request,
        route::{Answered, Attempts, Plan, Router},
    },
};

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) text: String,
    /// Who gave it: the model, or its provider where that names none.
    pub(super) model: String,
    pub(super) prompt_tokens: u32,
    pub(super) completion_tokens: u32,
    /// Millionths of the currency; 0 without a price.
    pub(super) cost_micros: u64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No budget admits it.
    #[error("there is no budget for it: {0}")]
    Budget(#[from] Refused),
    /// The model, or its provider, failed.
    #[error("no answer came")]
    Model(#[from] llm::Error),
}

/// Asks once and hears the answer out; one of more than `longest` bytes is no answer.
pub(super) async fn ask(
    (budgets, router): (&Budgets, &Router),
    scopes: &Scopes,
    plan: &Plan,
    request: Request,
    limits: Attempts,
    longest: usize,
) -> Result<Whole, Failure> {
    let run = MessageId(uuid::Uuid::now_v7());
    let mut call = spend::begin((budgets, router), run, scopes, plan, &request).await?;
    let mut whole = Whole {
        text: String::new(),
        model: String::new(),
        prompt_tokens: 0,
        completion_tokens: 0,
        cost_micros: 0,
    };
    let late = || failed(ErrorKind::Timeout, "no whole answer came in time");
    let heard =
        timeout_at(limits.deadline, hear(router, plan, request, limits, longest, &mut call, &mut whole));
    let heard = heard.await.unwrap_or_else(|_| Err(late()));
    let spent = call.settle().await;
    heard?;
    whole.prompt_tokens = spend::shown(spent.prompt);
    whole.completion_tokens = spend::shown(spent.completion);
    whole.cost_micros = spent.micros;
    Ok(whole)
}

async fn hear(
    router: &Router,
    plan: &Plan,
    request: Request,
    limits: Attempts,
    longest: usize,
    call: &mut spend::Call,
    whole: &mut Whole,
) -> Result<(), llm::Error> {
    let Answered { mut deltas, provider, model, .. } = router.answer(plan, request, limits, call).await?;
    call.answered_by(&provider, &model);
    whole.model = if model.is_empty() { provider } else { model };
    while let Some(delta) = deltas.next().await {
        match delta? {
            Delta::Text(text) => {
                call.heard(&text);
                if whole.text.len() + text.len() > longest {
                    return Err(failed(ErrorKind::Garbled, "the answer is too long"));
                }
                whole.text.push_str(&text);
            }
            Delta::Usage { prompt_tokens, completion_tokens } => {
                call.told(prompt_tokens, completion_tokens);
            }
            Delta::Done(_) => return Ok(()),
            // It was offered no tools; what it has made of them was made all the same.
            Delta::ToolCall(made) => call.heard_call(&made),
            // Only the whole is waited for.
            Delta::Progress => {}
        }
    }
    Err(failed(ErrorKind::Network, "the answer ended without an end"))
}

fn failed(kind: ErrorKind, message: &str) -> llm::Error {
    llm::Error { kind, provider: String::new(), message: message.to_owned(), retry_after: None }
}
