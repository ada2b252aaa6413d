//! What a real server can do to the provider that calls it.

use std::{
    error::Error as _,
    io,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use salon::llm::{
    Delta, Error, ErrorKind, Finish, Request, Turn,
    open::{ProviderConfig, ProviderKind, open},
};
use secrecy::SecretString;
use serde_json::{Map, json};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};

use super::{PATIENCE, answer, openai, openai_at, read, request, text_of, text_request};
use crate::fake_openai::{FakeOpenAi, Received, Reply};

async fn ask(reply: Reply) -> Result<Vec<Delta>, Error> {
    let server = FakeOpenAi::start(reply).await;
    answer(&openai(&server), text_request()).await
}

// What it sends.

#[tokio::test]
async fn a_request_carries_the_key_the_model_and_asks_for_a_stream_with_usage() {
    let server = FakeOpenAi::start(Reply::text("Hello, all.")).await;
    let deltas = answer(&openai(&server), request()).await.unwrap();
    let usage = Delta::Usage { prompt_tokens: 11, completion_tokens: 7 };
    let texts = [Delta::Text("Hello, ".into()), Delta::Text("all.".into())];
    assert_eq!(deltas[..2], texts);
    assert_eq!(deltas[2..], [usage, Delta::Done(Finish::Stop)]);
    let named = Request { model: "big-model".into(), ..text_request() };
    answer(&openai_at(&format!("{}/", server.base_url()), ""), named).await.unwrap();

    let requests = server.requests();
    assert_eq!(requests[0].authorization.as_deref(), Some("Bearer sk-test"));
    assert_eq!(requests[0].body["model"], "fake-model");
    assert_eq!(requests[0].body["stream"], true);
    assert_eq!(requests[0].body["stream_options"], json!({"include_usage": true}));
    assert_eq!(requests[0].body["tools"][0]["function"]["name"], "vote_on_poll");
    assert_eq!(requests[1].authorization, None);
    assert_eq!(requests[1].body["model"], "big-model");
    assert_eq!(requests[1].body.get("tools"), None);
}

#[tokio::test]
async fn a_server_that_refuses_to_report_usage_is_asked_without() {
    let server = FakeOpenAi::start(|request: &Received| {
        if request.body.get("stream_options").is_some() {
            Reply::status(400, "unknown field: stream_options")
        } else {
            Reply::stream().delta(&json!({"content": "Hi"})).finish("stop").event("[DONE]")
        }
    })
    .await;
    let provider = openai(&server);
    for _ in 0..2 {
        let deltas = answer(&provider, text_request()).await.unwrap();
        assert_eq!(deltas, [Delta::Text("Hi".into()), Delta::Done(Finish::Stop)]);
    }
    assert_eq!(server.requests().len(), 3, "refused once, then remembered");
}

#[tokio::test]
async fn a_refusal_that_only_names_the_usage_is_not_taken_for_one_of_it() {
    let echo = "no such model: {\"model\": \"m\", \"stream_options\": {}}";
    let server = FakeOpenAi::start(move |request: &Received| match request.number {
        0 | 1 => Reply::status(400, echo),
        _ => Reply::text("Hello."),
    })
    .await;
    let provider = openai(&server);
    let error = answer(&provider, text_request()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest);
    let deltas = answer(&provider, text_request()).await.unwrap();
    assert!(deltas.contains(&Delta::Usage { prompt_tokens: 11, completion_tokens: 7 }), "{deltas:?}");
    let asked = server.requests().into_iter().map(|request| request.body.get("stream_options").is_some());
    assert_eq!(asked.collect::<Vec<_>>(), [true, false, true]);
}

// What it understands.

#[tokio::test]
async fn a_tool_is_called_and_its_result_returned() {
    let server = FakeOpenAi::start(|request: &Received| match request.number {
        0 => Reply::tool_call("call_1", "vote_on_poll", &json!({"poll_id": "p1"})),
        _ => Reply::text("I voted."),
    })
    .await;
    let provider = openai(&server);
    let mut request = request();
    let deltas = answer(&provider, request.clone()).await.unwrap();
    let Delta::ToolCall(call) = deltas[0].clone() else { panic!("{deltas:?}") };
    request.turns.push(Turn::ToolCalls { text: String::new(), calls: vec![call.clone()] });
    request.turns.push(Turn::ToolResult { call_id: call.id, result: "recorded".into() });
    assert_eq!(text_of(&answer(&provider, request).await.unwrap()), "I voted.");
    let messages = server.requests()[1].body["messages"].clone();
    assert_eq!(messages[2]["tool_calls"][0]["function"]["arguments"], r#"{"poll_id":"p1"}"#);
    assert_eq!(messages[3], json!({"role": "tool", "tool_call_id": "call_1", "content": "recorded"}));
}

#[tokio::test]
async fn bare_events_comments_and_other_line_ends_are_understood() {
    let reply = Reply::stream()
        .bytes(b": OPENROUTER PROCESSING\n\n")
        .bytes(b"event: message\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n")
        .event(r#"{"choices":[{"delta":{"content":"b","tool_calls":null}}],"usage":null,"more":[{}]}"#)
        .bytes(b"data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"c\"}\r\ndata:}]}\n\n")
        .event(r#"{"choices":[{"finish_reason":"eos"}]}"#)
        .event("[DONE]");
    assert_eq!(text_of(&ask(reply).await.unwrap()), "abc");
}

#[tokio::test]
async fn a_thought_is_a_sign_of_life_and_a_comment_is_none() {
    let keep = b": OPENROUTER PROCESSING\n\n";
    let reply = Reply::stream()
        .bytes(keep)
        .delta(&json!({"role": "assistant", "content": ""}))
        .delta(&json!({"reasoning_content": "hm"}))
        .bytes(keep)
        .delta(&json!({"content": "Hi"}))
        .finish("stop")
        .event("[DONE]");
    let server = FakeOpenAi::start(reply).await;
    let items = read(openai(&server).answer(text_request()).await.unwrap()).await;
    let deltas: Vec<Delta> = items.into_iter().map(Result::unwrap).collect();
    assert_eq!(deltas, [Delta::Progress, Delta::Text("Hi".into()), Delta::Done(Finish::Stop)]);
}

#[tokio::test]
async fn an_end_is_told_from_a_cut() {
    let hi = || Reply::stream().delta(&json!({"content": "Hi"}));
    let whole = [Delta::Text("Hi".into()), Delta::Done(Finish::Stop)];
    let ends = [
        ("no end mark", hi().finish("stop")),
        ("cut behind the reason", hi().finish("stop").cut()),
        ("garbage behind the reason", hi().finish("stop").event("{")),
        ("an end mark without a reason", hi().event("[DONE]")),
        ("an end mark without a line end", hi().finish("stop").bytes(b"data: [DONE]")),
        ("half an event behind the reason", hi().finish("stop").bytes(b"data: {\"cho")),
    ];
    for (name, reply) in ends {
        assert_eq!(ask(reply).await.unwrap(), whole, "{name}");
    }
    for (name, reply) in [
        ("no end at all", hi()),
        ("cut", hi().cut()),
        ("half an event", hi().bytes(b"data: {\"cho").cut()),
        ("half an event, then the end", hi().bytes(b"data: {\"cho")),
        ("nothing", Reply::stream()),
    ] {
        assert_eq!(ask(reply).await.unwrap_err().kind, ErrorKind::Network, "{name}");
    }
}

#[tokio::test]
async fn a_server_that_never_closes_the_stream_does_not_hold_up_a_whole_answer() {
    let server =
        FakeOpenAi::start(Reply::stream().delta(&json!({"content": "Hi"})).finish("length").stall()).await;
    let deltas = answer(&openai(&server), text_request()).await.unwrap();
    assert_eq!(deltas, [Delta::Text("Hi".into()), Delta::Done(Finish::Length)]);
    timeout(PATIENCE, server.disconnected(1)).await.unwrap();
}

#[tokio::test]
async fn what_is_no_answer_is_garbled() {
    let hi = || Reply::stream().delta(&json!({"content": "Hi"}));
    let megabyte = json!({ "padding": "x".repeat(1024 * 1024) }).to_string();
    let cases = [
        ("broken json", hi().event("{\"choices\":[")),
        ("another shape", hi().event("{\"choices\":7}")),
        ("bytes that are no text", hi().bytes(b"data: \xff\xfe\n\n").finish("stop")),
        ("an end mark only", Reply::stream().event("[DONE]")),
        ("a page", Reply::raw(200, "text/html", "<html>log in</html>")),
        ("not a stream", Reply::raw(200, "application/json", "{}")),
        ("a line without an end", hi().bytes(b"data: ").bytes(&vec![b'x'; 5 * 1024 * 1024]).finish("stop")),
        ("more lines than any answer", hi().bytes(&vec![b'\n'; 600_000]).finish("stop")),
        ("more than any answer", (0..17).fold(hi(), |reply, _| reply.event(&megabyte)).finish("stop")),
    ];
    for (name, reply) in cases {
        assert_eq!(ask(reply).await.unwrap_err().kind, ErrorKind::Garbled, "{name}");
    }
}

// What goes wrong.

#[tokio::test]
async fn each_refusal_is_classified_and_nothing_is_repeated() {
    let error =
        |code: &str| json!({"error": {"message": "no", "type": "invalid_request_error", "code": code}});
    let coded = |status, code| Reply::raw(status, "application/json", &error(code).to_string());
    let cases = [
        (Reply::status(401, "bad key"), ErrorKind::Auth),
        (Reply::status(403, "not you"), ErrorKind::Auth),
        (Reply::status(429, "slow down"), ErrorKind::RateLimited),
        (coded(429, "insufficient_quota"), ErrorKind::RateLimited),
        (coded(400, "context_length_exceeded"), ErrorKind::ContextTooLong),
        (coded(400, "content_filter"), ErrorKind::Refused),
        (Reply::status(400, "bad"), ErrorKind::BadRequest),
        (coded(404, "model_not_found"), ErrorKind::BadRequest),
        (Reply::status(422, "bad"), ErrorKind::BadRequest),
        (Reply::status(500, "oops"), ErrorKind::Overloaded),
        (Reply::raw(502, "text/html", "<html>Bad gateway</html>"), ErrorKind::Overloaded),
        (Reply::raw(503, "text/plain", ""), ErrorKind::Overloaded),
        (Reply::status(529, "overloaded"), ErrorKind::Overloaded),
        (Reply::raw(400, "text/plain", "what?").cut(), ErrorKind::BadRequest),
        (Reply::raw(302, "text/plain", "").header("location", "/elsewhere"), ErrorKind::BadRequest),
    ];
    for (reply, kind) in cases {
        let name = format!("{reply:?}");
        let server = FakeOpenAi::start(reply).await;
        let refused = openai(&server).answer(text_request()).await.err().expect("refused before it begins");
        assert_eq!(refused.kind, kind, "{name}: {refused}");
        assert_eq!((refused.provider.as_str(), refused.retry_after), ("openai", None), "{name}");
        assert_eq!(server.requests().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_refusal_whose_words_never_end_keeps_its_kind() {
    let server = FakeOpenAi::start(Reply::status(503, "wait").stall()).await;
    let refused = timeout(PATIENCE, openai(&server).answer(text_request())).await.unwrap();
    assert_eq!(refused.err().unwrap().kind, ErrorKind::Overloaded);
    timeout(PATIENCE, server.disconnected(1)).await.unwrap();
}

/// What is logged while it is the thread's subscriber.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn of_this_thread() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("debug,provider_words=trace")
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_a_server_says_of_a_failure_is_for_debugging_and_what_it_answers_for_nobody() {
    let (log, _guard) = Log::of_this_thread();
    let explained = [
        Reply::status(500, "hunter2"),
        Reply::raw(400, "text/plain", "hunter2"),
        Reply::raw(400, "application/json", r#"{"error":{"code":"hunter2: no","message":"hunter2"}}"#),
        Reply::stream().event(r#"{"error":"hunter2"}"#),
    ];
    let count = explained.len();
    let unexplained = [
        Reply::stream().delta(&json!({"content": "hunter2"})).event("hunter2"),
        Reply::stream().event(r#"{"choices":"hunter2"}"#),
        Reply::raw(429, "application/json", r#"{"hunter2":1}"#),
    ];
    for reply in explained.into_iter().chain(unexplained) {
        let error = ask(reply).await.unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let told = log.text();
    let lines: Vec<_> = told.lines().filter(|line| line.contains("hunter2")).collect();
    assert_eq!(lines.len(), count, "{told}");
    assert!(lines.iter().all(|line| line.contains("TRACE") && line.contains("provider_words")), "{told}");
}

#[tokio::test]
async fn when_to_come_back_is_kept_however_it_is_said() {
    let date = ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT");
    let cases = [
        (429, vec![("retry-after", "7")], Some(7_000)),
        (503, vec![("retry-after", "7")], Some(7_000)),
        (429, vec![("retry-after-ms", "1500"), ("retry-after", "2")], Some(1_500)),
        (429, vec![("date", "Wed, 21 Oct 2015 07:27:15 GMT"), date], Some(45_000)),
        (
            429,
            vec![("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")],
            Some(360_000),
        ),
        // It limits the rate, and has failed for another reason.
        (503, vec![("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")], None),
    ];
    for (status, headers, after) in cases {
        let reply = headers
            .iter()
            .fold(Reply::status(status, "later"), |reply, (name, value)| reply.header(name, value));
        let server = FakeOpenAi::start(reply).await;
        let error = openai(&server).answer(text_request()).await.err().unwrap();
        assert_eq!(error.retry_after, after.map(Duration::from_millis), "{headers:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn what_the_operator_adds_goes_with_every_request() {
    let server = FakeOpenAi::start(Reply::text("Hi.")).await;
    let secret = |text: &str| SecretString::from(text);
    let config = || ProviderConfig {
        kind: ProviderKind::Openai,
        base_url: Some(server.base_url()),
        api_key: Some(secret("sk-test")),
        headers: vec![
            ("OpenAI-Organization".into(), secret("org-1")),
            ("X-Account".into(), secret("account-secret")),
        ],
        extra_body: Map::from_iter([
            ("top_k".to_owned(), json!(5)),
            ("provider".to_owned(), json!({"sort": "price"})),
        ]),
        ..ProviderConfig::default()
    };
    let provider = open("mine", &config()).unwrap();
    answer(&provider, request()).await.unwrap();
    let sent = server.requests().remove(0);
    assert_eq!(sent.authorization.as_deref(), Some("Bearer sk-test"));
    assert_eq!(sent.headers["openai-organization"], "org-1");
    assert_eq!(sent.headers["x-account"], "account-secret");
    assert_eq!((&sent.body["top_k"], &sent.body["provider"]["sort"]), (&json!(5), &json!("price")));
    assert_eq!(sent.body["messages"].as_array().unwrap().len(), 2);
    assert!(!format!("{provider:?}").contains("account-secret"));

    for name in ["messages", "stream", "tools", "model", "max_tokens", "n"] {
        let added = ProviderConfig { extra_body: Map::from_iter([(name.to_owned(), json!(1))]), ..config() };
        let error = open("mine", &added).unwrap_err();
        let reason = error.source().unwrap().to_string();
        assert_eq!(reason, format!("extra_body must not hold {name}, which the server sets itself"));
    }

    // A server that repeats a secret in its refusal does not bring it into the log.
    let server = FakeOpenAi::start(Reply::status(401, "unknown account account-secret of sk-test")).await;
    let provider = open("mine", &ProviderConfig { base_url: Some(server.base_url()), ..config() }).unwrap();
    let (log, _guard) = Log::of_this_thread();
    let error = provider.answer(text_request()).await.err().unwrap();
    assert_eq!(error.message, "http status 401");
    let told = log.text();
    assert!(told.contains("unknown account [key] of [key]"), "{told}");
    assert!(!told.contains("account-secret") && !told.contains("sk-test"), "{told}");
}

#[tokio::test]
async fn an_error_within_the_stream_is_classified_too() {
    let half = || Reply::stream().delta(&json!({"content": "Half"}));
    let cases = [
        (r#"{"error":{"message":"x","type":"server_error"}}"#, ErrorKind::Overloaded),
        (r#"{"error":{"message":"x","code":"rate_limit_exceeded"}}"#, ErrorKind::RateLimited),
        (r#"{"error":{"message":"x","code":429},"choices":[]}"#, ErrorKind::RateLimited),
        (r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, ErrorKind::ContextTooLong),
        (r#"{"error":"it broke"}"#, ErrorKind::Overloaded),
    ];
    for (event, kind) in cases {
        let server = FakeOpenAi::start(half().event(event)).await;
        let items = read(openai(&server).answer(text_request()).await.unwrap()).await;
        assert_eq!(items.len(), 2, "{event}");
        assert_eq!(items[1].as_ref().unwrap_err().kind, kind, "{event}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error =
        openai_at(&format!("http://{address}/v1"), "sk-test").answer(text_request()).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(!error.message.contains(&address.to_string()) || !error.message.contains("http://"), "{error}");
}

#[tokio::test]
async fn no_certificates_on_the_machine_is_an_error_of_the_call_not_of_the_start() {
    // The variables are read when a provider is made, so the check runs in a process of its own.
    const INNER: &str = "SALON_TEST_WITHOUT_CERTIFICATES";
    if std::env::var_os(INNER).is_none() {
        let name = "no_certificates_on_the_machine_is_an_error_of_the_call_not_of_the_start";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("providers::openai::{name}")])
            .envs([(INNER, "1"), ("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&status.stdout);
        assert!(status.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(listener.accept().await.unwrap()) });
    let error =
        openai_at(&format!("https://{address}/v1"), "sk-test").answer(text_request()).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");

    let server = FakeOpenAi::start(Reply::text("Hello.")).await;
    assert!(answer(&openai(&server), text_request()).await.is_ok());
}

// Cancellation.

#[tokio::test]
async fn dropping_the_request_before_it_is_accepted_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = openai_at(&format!("http://{}/v1", listener.local_addr().unwrap()), "sk-test");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { provider.answer(text_request()).await.map(drop) });
    let (mut connection, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut byte = [0; 1];
    tokio::io::AsyncReadExt::read_exact(&mut connection, &mut byte).await.unwrap();
    tasks.abort_all();
    // Reading to the end works only once the other side has closed.
    let mut rest = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut rest);
    // A reset is an end as well.
    let _ = timeout(PATIENCE, closed).await.expect("the connection must be closed");
}
