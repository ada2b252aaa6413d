//! What is reserved for calls that go well and badly, and what they are settled with.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    budget::{Limits, Unit, Window},
    clock::SystemClock,
    dispatch::{
        answer::AnswerText,
        job::Stop,
        listen::{self, Progress},
        tools::Effects,
        whole,
    },
    domain::llm::{LiveAnswer, RunReport},
    ids::LlmId,
    llm::{
        Error, ErrorKind, Finish, Speaker, Turn,
        route::{Attempts, ModelSettings, NameSettings, Prices, RouterSettings},
        scripted::{ScriptedProvider, Step},
    },
    nodes::Identity,
    store::memory::MemoryStore,
};

/// A place where calls are paid for: everything is per server.
struct Table {
    budgets: Budgets,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Tokens and money of a day.
#[derive(Debug, PartialEq, Eq)]
struct Ledger {
    spent: (u64, u64),
    reserved: (u64, u64),
}

fn budgets(tokens: u64, tasks: &TaskTracker, stop: &CancellationToken) -> Budgets {
    let mut limits = Limits::default();
    limits.server.tokens_per_day = Some(tokens);
    Budgets::start(
        Arc::new(MemoryStore::new()),
        Arc::new(SystemClock),
        Identity::new(),
        limits,
        tasks,
        stop.clone(),
    )
}

fn settings(prices: Option<(u64, u64)>, max_output_tokens: Option<u32>) -> ModelSettings {
    let prices = prices.map(|(input, output)| Prices {
        input_micros_per_million: input * 1_000_000,
        output_micros_per_million: output * 1_000_000,
    });
    ModelSettings { prices, max_output_tokens, ..ModelSettings::default() }
}

impl Table {
    /// Models `cheap` (short answers), `dear` and `wild` (without a price), which all answer like this.
    fn new(reply: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let models = [
            ("cheap", settings(Some((1, 2)), Some(10))),
            ("cheaper", settings(Some((1, 1)), Some(10))),
            ("cheapest", settings(Some((0, 0)), Some(10))),
            ("dear", settings(Some((100, 200)), None)),
            ("wild", settings(None, None)),
        ];
        let models = models.map(|(name, settings)| (format!("p:{name}"), settings)).into();
        let provider: Arc<dyn crate::llm::Provider> = Arc::new(ScriptedProvider::with("p", reply));
        let mut settings =
            RouterSettings { names: NameSettings { models, ..Default::default() }, ..Default::default() };
        settings.retry.attempts = 1;
        let router = Router::new(BTreeMap::from([("p".to_owned(), provider)]), "p", settings).unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let budgets = budgets(1_000_000, &tasks, &stop);
        Self { budgets, router, tasks, stop }
    }

    /// So many tokens in a day.
    fn limit(&mut self, tokens: u64) {
        self.budgets = budgets(tokens, &self.tasks, &self.stop);
    }

    async fn begin(&self, models: &[&str]) -> Call {
        let run = MessageId(uuid::Uuid::from_u128(1));
        begin((&self.budgets, &self.router), run, &Scopes::default(), &self.plan(models), &request())
            .await
            .unwrap()
    }

    fn plan(&self, models: &[&str]) -> Plan {
        let fallbacks: Vec<String> = models[1..].iter().map(|name| format!("p:{name}")).collect();
        self.router.plan(&format!("p:{}", models[0]), &fallbacks)
    }

    async fn ask(&self, models: &[&str]) -> Result<whole::Whole, whole::Failure> {
        let (first_token, deadline) = (Duration::from_secs(5), Instant::now() + Duration::from_secs(9));
        let limits = Attempts { first_token, deadline };
        let parts = (&self.budgets, &self.router);
        whole::ask(parts, &Scopes::default(), &self.plan(models), request(), limits, 1000).await
    }

    async fn ledger(&self) -> Ledger {
        let day = self.budgets.usage(&Scopes::default()).await.unwrap();
        let of = |unit| day.iter().find(|b| b.budget.window == Window::Day && b.budget.unit == unit).unwrap();
        let (tokens, money) = (of(Unit::Tokens), of(Unit::Money));
        Ledger { spent: (tokens.spent, money.spent), reserved: (tokens.reserved, money.reserved) }
    }

    /// What is there when everything is paid.
    async fn paid(self) -> (u64, u64) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let ledger = self.ledger().await;
        assert_eq!(ledger.reserved, (0, 0));
        ledger.spent
    }
}

fn request() -> Request {
    Request {
        model: String::new(),
        turns: vec![Turn::Text { speaker: Speaker::User, text: "what is the time".into() }],
        tools: Vec::new(),
        form: None,
        max_tokens: 100,
        display_name: String::new(),
    }
}

async fn prompt() -> u64 {
    tokens::count_request("cheap", &request()).await
}

fn failing(kind: ErrorKind) -> Step {
    Step::Error(Error { kind, provider: "p".into(), message: String::new(), retry_after: None })
}

#[tokio::test]
async fn the_most_is_that_of_whoever_of_the_plan_is_the_dearest() {
    let most = 2 * prompt().await;
    for models in [["cheap", "dear"], ["dear", "cheap"]] {
        let table = Table::new(|_| Step::answer("noon"));
        let call = table.begin(&models).await;
        let reserved = (most + 100, most * 100 + 100 * 200);
        assert_eq!(table.ledger().await, Ledger { spent: (0, 0), reserved }, "{models:?}");
        call.settle().await;
        assert_eq!(table.paid().await, (0, 0), "nobody was asked");
    }
    let table = Table::new(|_| Step::answer("noon"));
    let call = table.begin(&["cheap"]).await;
    assert_eq!(table.ledger().await.reserved, (most + 10, most + 20), "it makes no more than ten");
    drop(call);
}

#[tokio::test]
async fn what_the_provider_does_not_count_is_counted_here_with_calls_of_tools() {
    let given = prompt().await;
    let table = Table::new(|_| Step::answer("noon"));
    let mut call = table.begin(&["cheap"]).await;
    call.answered_by("p", "cheap");
    call.heard("abc");
    let spent = Spent { prompt: given, completion: 1, micros: given + 2 };
    assert_eq!(call.spent(tokens::estimate(&call.heard)), spent);
    let arguments = "x".repeat(300);
    call.heard_call(&ToolCall { id: "1".into(), name: "look".into(), arguments });
    let spent = call.settle().await;
    assert_eq!(spent.completion, tokens::estimate(&"x".repeat(307)));
    assert_eq!(table.paid().await, (given + spent.completion, given + 2 * spent.completion));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_takes_what_was_heard_of_it_and_not_the_most() {
    let given = prompt().await;
    let table = Table::new(|_| Step::answer("noon"));
    let mut call = table.begin(&["cheap"]).await;
    call.answered_by("p", "cheap");
    call.heard("six letters");
    let heard = tokens::estimate("six letters");
    drop(call);
    drop(table.begin(&["cheap"]).await);
    assert_eq!(table.paid().await, (given + heard, given + 2 * heard));

    // Given up while the model is writing.
    let table = Table::new(|_| vec![Step::text("six letters"), Step::Stall]);
    let asking = tokio::time::timeout(Duration::from_millis(50), table.ask(&["cheap"]));
    assert!(asking.await.is_err());
    assert_eq!(table.paid().await, (given + heard, given + 2 * heard));
}

/// A run that has this call open.
fn progress(call: Call) -> Progress {
    let message_id = MessageId(uuid::Uuid::from_u128(1));
    Progress {
        answer: AnswerText::new("Ada"),
        live: LiveAnswer {
            message_id,
            llm_id: LlmId::parse("ada").unwrap(),
            reply_to: message_id,
            text: String::new(),
            started_at: crate::clock::Timestamp(0),
        },
        effects: Effects::default(),
        report: RunReport { completion_tokens: 5, ..RunReport::default() },
        started: Instant::now(),
        flush_at: None,
        last_flush: None,
        calls_left: 0,
        taken_up: true,
        call: Some(call),
        aside: String::new(),
        stop: Stop::default(),
    }
}

#[test]
fn who_is_interrupted_while_a_call_is_counted_has_used_it() {
    // One thread counts, and can be kept busy.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(interrupted_while_it_counts());
}

async fn interrupted_while_it_counts() {
    let table = Table::new(|_| Vec::new());
    // Its vocabulary is known: it is counted on that thread.
    let mut call = table.begin(&["gpt-4o"]).await;
    call.answered_by("p", "gpt-4o");
    call.heard(&"some words ".repeat(1000));
    let mut progress = progress(call);
    progress.note();
    let used = progress.stop.used().report;
    assert!(used.prompt_tokens > 0 && used.completion_tokens > 5 + 1000, "{used:?}");
    let (go_on, busy) = std::sync::mpsc::sync_channel::<()>(0);
    let kept = tokio::task::spawn_blocking(move || busy.recv().is_err());
    assert_eq!(futures_util::FutureExt::now_or_never(listen::settle(&mut progress)), None);
    drop(go_on);
    assert!(kept.await.unwrap());
    listen::settle(&mut progress).await;
    let (told, report) = (progress.stop.used().report, progress.report);
    assert_eq!(told, report);
    let (given, made) = (u64::from(report.prompt_tokens), u64::from(report.completion_tokens) - 5);
    assert!(given > 0 && made >= 2000, "{given} {made}");
    assert_eq!(table.paid().await.0, given + made);
}

#[tokio::test]
async fn attempts_that_may_be_billed_are_paid_and_others_are_not() {
    let given = prompt().await;
    for (kind, paid) in [(ErrorKind::Auth, 0), (ErrorKind::Overloaded, 0), (ErrorKind::Network, given)] {
        let table = Table::new(move |_| vec![failing(kind)]);
        assert!(table.ask(&["cheap"]).await.is_err());
        assert_eq!(table.paid().await, (paid, paid), "{kind:?}");
    }
}

#[tokio::test]
async fn another_attempt_is_reserved_for_or_not_made() {
    let (given, most) = (prompt().await, 2 * prompt().await);
    // Room for one call, and then for so many attempts besides that came to nothing.
    for (room, asked) in [(0, 1), (most - 1, 1), (most, 2), (2 * most, 3), (100 * most, 3)] {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let mut table = Table::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            vec![failing(ErrorKind::Network)]
        });
        table.limit(most + 10 + room);
        assert!(table.ask(&["cheap", "cheaper", "cheapest"]).await.is_err());
        assert_eq!((calls.load(Ordering::Relaxed), table.paid().await.0), (asked, asked * given), "{room}");
    }
    // One that answers in the end is paid besides.
    let table = Table::new(|request| match request.model.as_str() {
        "cheap" => vec![failing(ErrorKind::Network)],
        _ => vec![
            Step::text("noon"),
            Step::Usage { prompt_tokens: 7, completion_tokens: 3 },
            Step::Done(Finish::Stop),
        ],
    });
    assert_eq!(table.ask(&["cheap", "cheaper"]).await.unwrap().completion_tokens, 3);
    assert_eq!(table.paid().await.0, given + 10);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_paid_as_far_as_it_came() {
    let given = prompt().await;
    let table = Table::new(|_| vec![Step::text("x".repeat(3000)), Step::Stall]);
    assert!(table.ask(&["cheap"]).await.is_err());
    assert_eq!(table.paid().await, (given + 1000, given + 2000));
}

#[tokio::test]
async fn a_fallback_without_a_price_keeps_what_the_one_before_has_cost() {
    let given = prompt().await;
    let table = Table::new(|request| match request.model.as_str() {
        "dear" => vec![failing(ErrorKind::Network)],
        _ => vec![
            Step::text("noon"),
            Step::Usage { prompt_tokens: 7, completion_tokens: 3 },
            Step::Done(Finish::Stop),
        ],
    });
    let whole = table.ask(&["dear", "wild"]).await.unwrap();
    assert_eq!((whole.model.as_str(), whole.completion_tokens), ("wild", 3));
    assert_eq!((u64::from(whole.prompt_tokens), whole.cost_micros), (given + 7, given * 100));
    assert_eq!(table.paid().await, (given + 10, given * 100));
}

#[tokio::test]
async fn where_money_is_limited_nobody_without_a_price_is_asked() {
    let mut table = Table::new(|_| Step::answer("noon"));
    let mut limits = Limits::default();
    limits.room.money_per_day = Some(1_000_000);
    let store = Arc::new(MemoryStore::new());
    table.budgets = Budgets::start(
        store,
        Arc::new(SystemClock),
        Identity::new(),
        limits,
        &table.tasks,
        table.stop.clone(),
    );
    let plan = table.plan(&["cheap", "wild"]);
    let ask = async |room: Option<&str>| {
        let room = room.map(|room| crate::ids::RoomId::parse(room).unwrap());
        let scopes = Scopes { room, ..Scopes::default() };
        let run = MessageId(uuid::Uuid::from_u128(1));
        begin((&table.budgets, &table.router), run, &scopes, &plan, &request()).await.map(drop)
    };
    assert!(matches!(ask(Some("r")).await, Err(Refused::Unpriced { .. })));
    assert_eq!(ask(None).await, Ok(()));
}
