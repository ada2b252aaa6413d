//! What a call of a model may cost, reserved before it, and what it did cost, settled behind it.
//!
//! The reservation is the most that the call can come to. A call that is dropped is settled by what is known of it;
//! if even that is lost, the budget counts all of it as spent.

use crate::{
    budget::{self, Budgets, Cost, Hold, Refused, Scopes},
    ids::MessageId,
    llm::{
        Request,
        route::{Plan, Router, Target, Tried},
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
    hold: Hold,
    /// Whoever may answer, with what they cost.
    all: Vec<(Target, Option<budget::Prices>)>,
    prices: Option<budget::Prices>,
    tokenizer: Tokenizer,
    /// What the prompt was counted to.
    prompt: u64,
    /// What the provider said.
    told: Option<(u64, u64)>,
    /// What came of the answer, as far as it was heard.
    heard: String,
    /// The attempts before the one that answered.
    tried: Vec<Tried>,
}

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent {
    /// In millionths; `None`: nobody knows the price.
    pub(super) micros: Option<u64>,
}

/// Reserves the most that this request can cost at whoever of the plan is the dearest.
pub(super) async fn begin(
    (budgets, router): (&Budgets, &Router),
    run: MessageId,
    scopes: &Scopes,
    plan: &Plan,
    request: &Request,
) -> Result<Call, Refused> {
    let model = plan.targets().first().map_or("", |target| target.model.as_str());
    let prompt = tokens::count_request(model, request).await;
    let tokenizer = Tokenizer::of(model);
    let most = match tokenizer {
        Tokenizer::Estimate => prompt.saturating_mul(ESTIMATE_FACTOR),
        Tokenizer::O200k | Tokenizer::Cl100k => prompt.saturating_add(prompt.div_ceil(EXACT_MARGIN)),
    };
    let answer = u64::from(request.max_tokens);
    let micros =
        plan.targets().iter().map(|target| Some(budget::cost(prices(router, target)?, most, answer)));
    // One that nobody knows the price of makes the whole unknown.
    let micros = micros.collect::<Option<Vec<u64>>>().map(|all| all.into_iter().max().unwrap_or(0));
    let worst = Cost { tokens: most.saturating_add(answer), micros };
    let hold = budgets.reserve(run, scopes, worst).await?;
    let all = plan.targets().iter().map(|target| (target.clone(), prices(router, target))).collect();
    let prices = plan.targets().first().and_then(|target| prices(router, target));
    Ok(Call { hold, all, prices, tokenizer, prompt, told: None, heard: String::new(), tried: Vec::new() })
}

/// What a model costs; what is built in costs nothing.
fn prices(router: &Router, target: &Target) -> Option<budget::Prices> {
    match target.info.prices {
        Some(prices) => Some(budget::Prices {
            input_per_million: prices.input_micros_per_million,
            output_per_million: prices.output_micros_per_million,
        }),
        None if !router.is_model(target) => {
            Some(budget::Prices { input_per_million: 0, output_per_million: 0 })
        }
        None => None,
    }
}

impl Call {
    /// This one of the plan answers.
    pub(super) fn answered_by(&mut self, provider: &str, model: &str) {
        let found = self.all.iter().find(|(target, _)| target.provider == provider && target.model == model);
        self.prices = found.and_then(|(_, prices)| *prices);
        self.tokenizer = Tokenizer::of(model);
    }

    /// Where attempts go that may be billed; kept up to date while the call is under way.
    pub(super) fn tried(&mut self) -> &mut Vec<Tried> {
        &mut self.tried
    }

    /// More of the answer has come.
    pub(super) fn heard(&mut self, text: &str) {
        self.heard.push_str(text);
    }

    /// The provider has counted.
    pub(super) fn told(&mut self, prompt: u32, completion: u32) {
        self.told = Some((prompt.into(), completion.into()));
    }

    /// The call was refused before anything was made of it: it costs nothing.
    pub(super) async fn settle_unused(self) {
        self.hold.settle(Cost { tokens: 0, micros: Some(0) }).await;
    }

    /// The call has ended, or was ended.
    pub(super) async fn settle(self) -> Spent {
        let counted = || (self.prompt, self.tokenizer.count(&self.heard));
        let (prompt, completion) = self.told.unwrap_or_else(counted);
        let micros = self.prices.map(|prices| budget::cost(prices, prompt, completion));
        self.hold.settle(Cost { tokens: prompt.saturating_add(completion), micros }).await;
        Spent { micros }
    }
}
