//! The providers: the contract that all keep (`conformance.rs`), and what is special to each.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use salon::llm::{
    AnswerForm, Delta, Deltas, Error, ErrorKind, Finish, Provider, Request, Speaker, Tool, ToolCall, Turn,
    offline::OfflineProvider,
    open::{ProviderConfig, ProviderKind, open},
    scripted::{ScriptedProvider, Step},
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

use crate::fake_openai::{FakeOpenAi, Reply};

mod cancel;
mod chat_service;
mod conformance;
mod openai;

/// Long enough for the slowest machine; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn request() -> Request {
    let turn = |speaker, text: &str| Turn::Text { speaker, text: text.to_owned() };
    Request {
        model: String::new(),
        turns: vec![turn(Speaker::System, "You are Ada."), turn(Speaker::User, "Cy: please vote on the tea")],
        tools: vec![Tool {
            name: "vote_on_poll".into(),
            description: "votes".into(),
            parameters: json!({"type": "object", "properties": {
                "poll_id": {"type": "string", "enum": ["p1"]},
                "option_ids": {"type": "array", "items": {"type": "string", "enum": ["o1", "o2"]}},
                "reason": {"type": "string"}
            }, "required": ["poll_id", "option_ids"]}),
        }],
        form: None,
        max_tokens: 100,
        display_name: "Ada".into(),
    }
}

fn text_request() -> Request {
    Request { tools: Vec::new(), ..request() }
}

fn openai(server: &FakeOpenAi) -> Arc<dyn Provider> {
    openai_at(&server.base_url(), "sk-test")
}

fn openai_at(base_url: &str, key: &str) -> Arc<dyn Provider> {
    let config = ProviderConfig {
        kind: ProviderKind::Openai,
        base_url: Some(base_url.to_owned()),
        api_key: Some(SecretString::from(key)),
        default_model: Some("fake-model".into()),
        ..ProviderConfig::default()
    };
    open("openai", &config).unwrap()
}

/// Everything until the end, which must come.
async fn read(deltas: Deltas) -> Vec<Result<Delta, Error>> {
    timeout(PATIENCE, deltas.collect()).await.expect("the stream must end")
}

/// All of an answer but its signs of life.
async fn answer(provider: &Arc<dyn Provider>, request: Request) -> Result<Vec<Delta>, Error> {
    let items = read(provider.answer(request).await?).await.into_iter();
    items.filter(|item| !matches!(item, Ok(Delta::Progress))).collect()
}

fn text_of(deltas: &[Delta]) -> String {
    deltas
        .iter()
        .filter_map(|delta| if let Delta::Text(text) = delta { Some(&**text) } else { None })
        .collect()
}

// The contract.

/// One backend, and what it needs to be put into each situation.
struct Subject {
    /// Answers with a text, then calls `vote_on_poll`.
    works: Arc<dyn Provider>,
    /// Fails in the middle of an answer; `None` for a backend that cannot fail.
    fails: Option<Arc<dyn Provider>>,
    /// Ends without an end; `None` for a backend whose answer is known beforehand.
    breaks_off: Option<Arc<dyn Provider>>,
}

async fn conforms(subject: Subject) {
    let deltas = answer(&subject.works, request()).await.unwrap();
    let Some((last, before)) = deltas.split_last() else { panic!("no end") };
    assert_eq!(*last, Delta::Done(Finish::ToolCalls));
    assert!(!before.iter().any(|delta| matches!(delta, Delta::Done(_))), "one end");
    assert!(!deltas.contains(&Delta::Text(String::new())), "no empty text");
    let is_call = |delta: &Delta| matches!(delta, Delta::ToolCall(call) if call.name == "vote_on_poll");
    let call = before.iter().position(is_call).expect("a call");
    let text = before.iter().position(|delta| matches!(delta, Delta::Text(_))).expect("a text");
    assert!(text < call, "in the order of the model");
    let Delta::ToolCall(call) = &before[call] else { unreachable!() };
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
    assert_eq!(arguments["poll_id"], "p1");

    // A dropped future and a dropped stream leave a provider that works.
    drop(subject.works.answer(request()));
    let mut deltas = subject.works.answer(request()).await.unwrap();
    assert!(deltas.next().await.unwrap().is_ok());
    drop(deltas);
    answer(&subject.works, request()).await.unwrap();

    for (provider, kind) in [(subject.fails, ErrorKind::Garbled), (subject.breaks_off, ErrorKind::Network)] {
        let Some(provider) = provider else { continue };
        let items = read(provider.answer(request()).await.unwrap()).await;
        assert_eq!(items[0].as_ref().unwrap(), &Delta::Text("Half ".into()));
        let error = items[1].as_ref().unwrap_err();
        assert_eq!((error.kind, error.provider.as_str()), (kind, provider.name()));
        assert_eq!(items.len(), 2, "nothing behind an error");
    }
}

#[tokio::test]
async fn offline_keeps_the_contract() {
    let works = Arc::new(OfflineProvider::with_pause("offline", Duration::ZERO));
    conforms(Subject { works, fails: None, breaks_off: None }).await;
}

#[tokio::test]
async fn scripted_keeps_the_contract() {
    let works = ScriptedProvider::with("scripted", |_| {
        vec![
            Step::text("I "),
            Step::text(""),
            Step::text("vote."),
            Step::tool("1", "vote_on_poll", &json!({"poll_id": "p1"})),
            Step::Done(Finish::ToolCalls),
            Step::text("behind the end"),
        ]
    });
    let garbled = Error {
        kind: ErrorKind::Garbled,
        provider: "scripted".into(),
        message: "told to".into(),
        retry_after: None,
    };
    let fails = vec![Step::text("Half "), Step::Error(garbled), Step::Done(Finish::Stop)];
    conforms(Subject {
        works: Arc::new(works),
        fails: Some(Arc::new(ScriptedProvider::replies("scripted", vec![fails]))),
        breaks_off: Some(Arc::new(ScriptedProvider::replies("scripted", vec![vec![Step::text("Half ")]]))),
    })
    .await;
}

#[tokio::test]
async fn openai_keeps_the_contract() {
    let half = Reply::stream().delta(&json!({"content": "Half "}));
    let call = json!({"index": 0, "id": "1", "function": {"name": "vote_on_poll", "arguments": r#"{"poll_id":"p1"}"#}});
    let works = Reply::stream()
        .delta(&json!({"role": "assistant", "content": ""}))
        .delta(&json!({"content": "I vote."}))
        .tool(&call)
        .end("tool_calls");
    let works = FakeOpenAi::start(works).await;
    let fails = FakeOpenAi::start(half.clone().event("{broken")).await;
    let breaks_off = FakeOpenAi::start(half).await;
    conforms(Subject {
        works: openai(&works),
        fails: Some(openai(&fails)),
        breaks_off: Some(openai(&breaks_off)),
    })
    .await;
}

// Offline.

#[tokio::test(start_paused = true)]
async fn offline_writes_at_a_pace_that_people_can_see() {
    let provider = OfflineProvider::with_pause("offline", Duration::from_millis(15));
    let mut deltas = provider.answer(text_request()).await.unwrap();
    let start = tokio::time::Instant::now();
    assert!(matches!(deltas.next().await, Some(Ok(Delta::Text(_)))));
    assert_eq!(start.elapsed(), Duration::ZERO, "the first word at once");
    let words = deltas.filter(|delta| std::future::ready(matches!(delta, Ok(Delta::Text(_))))).count().await;
    assert!(words > 20);
    assert_eq!(start.elapsed(), Duration::from_millis(15) * u32::try_from(words).unwrap());
}

#[tokio::test]
async fn offline_finishes_after_its_vote() {
    let provider: Arc<dyn Provider> = Arc::new(OfflineProvider::with_pause("offline", Duration::ZERO));
    let mut request = request();
    let deltas = answer(&provider, request.clone()).await.unwrap();
    assert_eq!(answer(&provider, request.clone()).await.unwrap(), deltas, "deterministic");
    let call =
        deltas.iter().find_map(|delta| if let Delta::ToolCall(call) = delta { Some(call) } else { None });
    let call = call.unwrap().clone();
    request.turns.push(Turn::ToolCalls { text: text_of(&deltas), calls: vec![call.clone()] });
    request.turns.push(Turn::ToolResult { call_id: call.id, result: "vote recorded".into() });
    let deltas = answer(&provider, request).await.unwrap();
    assert_eq!(*deltas.last().unwrap(), Delta::Done(Finish::Stop));
    assert_eq!(
        text_of(&deltas),
        "Ada, written by Salon's offline stand-in, voted by a fixed rule. The result: \u{201c}vote recorded\u{201d}."
    );
}

#[tokio::test]
async fn offline_fills_a_form() {
    let provider: Arc<dyn Provider> = Arc::new(OfflineProvider::with_pause("offline", Duration::ZERO));
    let schema = json!({"type": "object", "required": ["name", "llms"], "properties": {
        "name": {"type": "string"},
        "llms": {"type": "array", "minItems": 1, "items": {"type": "integer"}}
    }});
    let form = Some(AnswerForm { name: "room".into(), schema });
    let deltas = answer(&provider, Request { form, max_tokens: 0, ..request() }).await.unwrap();
    let filled: Value = serde_json::from_str(&text_of(&deltas)).unwrap();
    assert!(filled["name"].as_str().unwrap().contains("offline"), "{filled}");
    assert_eq!(filled["llms"], json!([0]));
    assert_eq!(*deltas.last().unwrap(), Delta::Done(Finish::Stop));
}

// Scripted.

#[tokio::test]
async fn a_script_plays_a_call_and_sees_it_dropped() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut deltas = provider.answer(request()).await.unwrap();
        let first = deltas.next().await.unwrap().unwrap();
        drop(deltas);
        (first, provider)
    });
    let mut call = script.next_call().await.unwrap();
    assert_eq!(call.request, request());
    assert!(call.text("Hello").await);
    let (first, provider) = tasks.join_next().await.unwrap().unwrap();
    assert_eq!(first, Delta::Text("Hello".into()));
    timeout(PATIENCE, call.cancelled()).await.unwrap();
    assert!(!call.text("more").await);
    assert_eq!((provider.calls(), provider.cancelled()), (1, 1));
    drop(provider);
    assert!(script.next_call().await.is_none());
}

#[tokio::test]
async fn a_script_ends_fails_and_refuses() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let provider = Arc::new(provider);
    let mut tasks = JoinSet::new();
    let counter = Arc::clone(&provider);
    tasks.spawn(async move {
        let provider: Arc<dyn Provider> = provider;
        let mut results = Vec::new();
        for _ in 0..4 {
            results.push(answer(&provider, request()).await);
        }
        results
    });
    let mut call = script.next_call().await.unwrap();
    call.tool("1", "opt_out", &json!({"reason": "shy"})).await;
    call.usage(3, 4).await;
    assert!(call.done(Finish::ToolCalls).await);
    assert!(script.next_call().await.unwrap().fail_with(ErrorKind::RateLimited).await);
    let mut call = script.next_call().await.unwrap();
    call.accept();
    assert!(call.fail_with(ErrorKind::Timeout).await);
    drop(script.next_call().await.unwrap());
    let results = tasks.join_next().await.unwrap().unwrap();
    let call = ToolCall { id: "1".into(), name: "opt_out".into(), arguments: r#"{"reason":"shy"}"#.into() };
    let usage = Delta::Usage { prompt_tokens: 3, completion_tokens: 4 };
    let whole = [Delta::ToolCall(call), usage, Delta::Done(Finish::ToolCalls)];
    assert_eq!(*results[0].as_ref().unwrap(), whole);
    let kinds: Vec<_> = results[1..].iter().map(|result| result.as_ref().unwrap_err().kind).collect();
    assert_eq!(kinds, [ErrorKind::RateLimited, ErrorKind::Timeout, ErrorKind::Network]);
    assert_eq!((counter.calls(), counter.cancelled()), (4, 0), "an answer that ended was not cancelled");
}

#[tokio::test(start_paused = true)]
async fn replies_pause_stall_and_run_out() {
    let provider = ScriptedProvider::replies(
        "scripted",
        vec![vec![Step::Pause(Duration::from_secs(9)), Step::text("late"), Step::Stall]],
    );
    let start = tokio::time::Instant::now();
    let mut deltas = provider.answer(request()).await.unwrap();
    assert_eq!(deltas.next().await.unwrap().unwrap(), Delta::Text("late".into()));
    assert_eq!(start.elapsed(), Duration::from_secs(9));
    assert!(timeout(Duration::from_secs(3600), deltas.next()).await.is_err());
    drop(deltas);
    assert_eq!(provider.cancelled(), 1);
    assert_eq!(provider.answer(request()).await.err().unwrap().kind, ErrorKind::BadRequest);
}
