//! What a call of a model may cost, reserved before it, and what it did cost, settled behind it.
//!
//! The reservation is the most that the call can come to at whoever of the plan is the dearest. An attempt that came to
//! nothing may be billed all the same: before another one its prompt is reserved besides, and where no budget admits
//! that nobody else is asked. What is settled is what the answer took, as the provider counts it or else as it is
//! counted here, and the prompts of those attempts. Where nobody has begun to answer and no attempt may be billed that is
//! nothing. A call that is dropped is settled by the same rule.
//!
//! A model without a price adds nothing to what the others have cost; where there is a budget of money it is not asked.

use std::{collections::HashMap, slice};

use async_trait::async_trait;
use futures_util::future::join_all;

use crate::{
    budget::{self, Budgets, Cost, Hold, Refused, Scopes},
    ids::MessageId,
    llm::{
        Request, ToolCall,
        route::{self, Payer, Plan, Router, Target, Tried},
        tokens::{self, Tokenizer},
    },
};

/// The share by which a prompt may be longer than it was counted, where the vocabulary is known: providers put their
/// own words around it.
const EXACT_MARGIN: u64 = 20;
/// Where tokens are only estimated, a prompt may have twice as many; see [`tokens`].
const ESTIMATE_FACTOR: u64 = 2;

/// A call that has begun and is not settled.
#[derive(Debug)]
pub(super) struct Call {
    /// `None`: it is settled.
    hold: Option<Hold>,
    /// Whoever may answer.
    quotes: Vec<Quote>,
    /// Who has begun to answer: one of `quotes`.
    answering: Option<usize>,
    /// What the provider said.
    told: Option<(u64, u64)>,
    /// What came of the answer, as far as it was heard: its text and its calls of tools.
    heard: String,
    /// What that is in sixths of a token, by the estimate.
    sixths: u64,
    /// The attempts before the one that answered.
    tried: Vec<Tried>,
    /// What is held for the first ones of `tried`; the last may have taken what was held for the answer.
    held: Vec<Hold>,
    budgets: Budgets,
    run: MessageId,
    scopes: Scopes,
}

/// What it means to ask one of a plan.
#[derive(Debug)]
struct Quote {
    provider: String,
    model: String,
    prices: Option<budget::Prices>,
    tokenizer: Tokenizer,
    /// What the prompt was counted to.
    prompt: u64,
    /// The longest answer it is asked for.
    answer: u64,
}

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Spent {
    /// Tokens that models were given.
    pub(super) prompt: u64,
    /// Tokens that models made.
    pub(super) completion: u64,
    /// In millionths, as far as prices are known.
    pub(super) micros: u64,
}

/// For reports: tokens.
pub(super) fn shown(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// A call whose answer is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    /// What was heard, in tokens.
    made: u64,
    pub(super) spent: Spent,
}

/// Reserves the most that this request can cost at whoever of the plan is the dearest.
pub(super) async fn begin(
    (budgets, router): (&Budgets, &Router),
    run: MessageId,
    scopes: &Scopes,
    plan: &Plan,
    request: &Request,
) -> Result<Call, Refused> {
    let quotes = quotes(router, plan, request).await;
    if quotes.iter().any(|quote| quote.prices.is_none()) {
        budgets.check_unpriced(scopes)?;
    }
    let worst = Cost {
        tokens: quotes.iter().map(|quote| quote.most().saturating_add(quote.answer)).max().unwrap_or(0),
        micros: quotes.iter().filter_map(|quote| quote.cost(quote.most(), quote.answer)).max(),
    };
    let hold = Some(budgets.reserve(run, scopes, worst).await?);
    Ok(Call {
        hold,
        quotes,
        answering: None,
        told: None,
        heard: String::new(),
        sixths: 0,
        tried: Vec::new(),
        held: Vec::new(),
        budgets: budgets.clone(),
        run,
        scopes: scopes.clone(),
    })
}

async fn quotes(router: &Router, plan: &Plan, request: &Request) -> Vec<Quote> {
    let mut counted: HashMap<Tokenizer, u64> = HashMap::new();
    let mut quotes = Vec::new();
    for target in plan.targets() {
        let tokenizer = Tokenizer::of(&target.model);
        let prompt = match counted.get(&tokenizer) {
            Some(known) => *known,
            None => tokens::count_request(&target.model, request).await,
        };
        counted.insert(tokenizer, prompt);
        let longest = target.info.max_output_tokens.unwrap_or(u32::MAX);
        quotes.push(Quote {
            provider: target.provider.clone(),
            model: target.model.clone(),
            prices: prices(router, target),
            tokenizer,
            prompt,
            answer: request.max_tokens.min(longest).into(),
        });
    }
    quotes
}

/// What a model costs; what is built in costs nothing.
fn prices(router: &Router, target: &Target) -> Option<budget::Prices> {
    match target.info.prices {
        Some(prices) => Some(as_budgets_know(prices)),
        None if !router.is_model(target) => {
            Some(budget::Prices { input_per_million: 0, output_per_million: 0 })
        }
        None => None,
    }
}

fn as_budgets_know(prices: route::Prices) -> budget::Prices {
    budget::Prices {
        input_per_million: prices.input_micros_per_million,
        output_per_million: prices.output_micros_per_million,
    }
}

impl Quote {
    /// The most that the provider may count the prompt to.
    fn most(&self) -> u64 {
        match self.tokenizer {
            Tokenizer::Estimate => self.prompt.saturating_mul(ESTIMATE_FACTOR),
            Tokenizer::O200k | Tokenizer::Cl100k => {
                self.prompt.saturating_add(self.prompt.div_ceil(EXACT_MARGIN))
            }
        }
    }

    fn cost(&self, prompt: u64, completion: u64) -> Option<u64> {
        Some(budget::cost(self.prices?, prompt, completion))
    }
}

impl Spent {
    fn add(&mut self, prompt: u64, completion: u64, micros: Option<u64>) {
        self.prompt = self.prompt.saturating_add(prompt);
        self.completion = self.completion.saturating_add(completion);
        self.micros = self.micros.saturating_add(micros.unwrap_or(0));
    }

    fn and(mut self, more: Self) -> Self {
        self.add(more.prompt, more.completion, Some(more.micros));
        self
    }

    fn cost(self) -> Cost {
        Cost { tokens: self.prompt.saturating_add(self.completion), micros: Some(self.micros) }
    }
}

impl Call {
    /// This one of the plan answers.
    pub(super) fn answered_by(&mut self, provider: &str, model: &str) {
        self.answering = self.position(provider, model);
    }

    /// More of the answer has come.
    pub(super) fn heard(&mut self, text: &str) {
        self.heard.push_str(text);
        self.sixths = self.sixths.saturating_add(tokens::sixths(text));
    }

    /// A call of a tool has come, which the model has written as well.
    pub(super) fn heard_call(&mut self, call: &ToolCall) {
        self.heard(&call.name);
        self.heard(&call.arguments);
    }

    /// The provider has counted.
    pub(super) fn told(&mut self, prompt: u32, completion: u32) {
        self.told = Some((prompt.into(), completion.into()));
    }

    /// What it has come to so far, as far as that is known without counting.
    pub(super) fn so_far(&self) -> Spent {
        self.spent(self.estimate())
    }

    /// The call has ended, or was ended: what was heard is counted. Whoever drops this meanwhile has heard it all the
    /// same.
    pub(super) async fn count(&self) -> Counted {
        let made = match self.answering() {
            Some(quote) if self.told.is_none() => tokens::count_text(quote.tokenizer, &self.heard).await,
            Some(_) | None => 0,
        };
        Counted { made, spent: self.spent(made) }
    }

    /// Pays what was counted. At once: each is known with the first step, and if nobody waits for the end it is paid in
    /// the background.
    pub(super) async fn pay(mut self, counted: Counted) {
        join_all(self.owed(counted.made).into_iter().map(|(hold, cost)| hold.settle(cost))).await;
    }

    /// Counts and pays.
    pub(super) async fn settle(self) -> Spent {
        let counted = self.count().await;
        self.pay(counted).await;
        counted.spent
    }

    fn estimate(&self) -> u64 {
        self.sixths.div_ceil(6)
    }

    fn position(&self, provider: &str, model: &str) -> Option<usize> {
        self.quotes.iter().position(|quote| quote.provider == provider && quote.model == model)
    }

    fn answering(&self) -> Option<&Quote> {
        self.quotes.get(self.answering?)
    }

    /// What there is to pay, if `made` is what was heard in tokens.
    fn spent(&self, made: u64) -> Spent {
        self.attempts(&self.tried).and(self.answer(made))
    }

    /// What the answer has taken.
    fn answer(&self, made: u64) -> Spent {
        let mut spent = Spent::default();
        if let Some(quote) = self.answering() {
            let (prompt, completion) = self.told.unwrap_or((quote.prompt, made));
            spent.add(prompt, completion, quote.cost(prompt, completion));
        }
        spent
    }

    /// What attempts that came to nothing have taken.
    fn attempts(&self, tried: &[Tried]) -> Spent {
        let mut spent = Spent::default();
        for tried in tried {
            let prompt = self.quote(tried).map_or(0, |quote| quote.prompt);
            let cost = tried.prices.map(|prices| budget::cost(as_budgets_know(prices), prompt, 0));
            spent.add(prompt, 0, cost);
        }
        spent
    }

    fn quote(&self, tried: &Tried) -> Option<&Quote> {
        self.quotes.get(self.position(&tried.provider, &tried.model)?)
    }

    /// What is held, each with what is to be paid of it.
    fn owed(&mut self, made: u64) -> Vec<(Hold, Cost)> {
        let (apart, rest) = self.tried.split_at(self.held.len().min(self.tried.len()));
        let mut costs: Vec<Cost> =
            apart.iter().map(|one| self.attempts(slice::from_ref(one)).cost()).collect();
        costs.push(self.attempts(rest).and(self.answer(made)).cost());
        self.held.drain(..).chain(self.hold.take()).zip(costs).collect()
    }
}

#[async_trait]
impl Payer for Call {
    fn tried(&mut self) -> &mut Vec<Tried> {
        &mut self.tried
    }

    async fn admits_another(&mut self) -> bool {
        while let Some(tried) = self.tried.get(self.held.len()) {
            let most = self.quote(tried).map_or(0, Quote::most);
            let micros = tried.prices.map(|prices| budget::cost(as_budgets_know(prices), most, 0));
            match self.budgets.reserve(self.run, &self.scopes, Cost { tokens: most, micros }).await {
                Ok(hold) => self.held.push(hold),
                Err(refused) => {
                    tracing::debug!(run = %self.run, %refused, "no budget admits another attempt");
                    return false;
                }
            }
        }
        true
    }
}

/// Whoever waited for it is gone: it is paid in the background, and an answer that nobody counted by an estimate,
/// because nothing may take its time here.
impl Drop for Call {
    fn drop(&mut self) {
        if self.hold.is_some() {
            let made = self.estimate();
            for (hold, cost) in self.owed(made) {
                hold.settle_later(cost);
            }
        }
    }
}

#[cfg(test)]
mod tests;
