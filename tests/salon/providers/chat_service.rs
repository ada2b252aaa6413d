//! What is special to the Chat Service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use salon::{
    config::load,
    llm::{
        Delta, Error, ErrorKind, Finish, Provider, Request, ToolCall, Turn,
        open::{ProviderConfig, ProviderKind, open},
        route::Attempts,
    },
    server::graph::router,
    wire::pb::{
        api::{ChatRequest, ChatResponse},
        shared::{self, MessageRole, content},
    },
};
use tempfile::TempDir;
use tokio::{
    net::TcpSocket,
    time::{Instant, timeout},
};
use tonic::Code;

use super::{PATIENCE, answer, conformance::chat_service, read, request, text_of, text_request};
use crate::fake_chat_service::{FakeChatService, Script};

async fn ask(script: Script) -> Result<Vec<Delta>, Error> {
    let server = FakeChatService::start(script).await;
    answer(&chat_service(&server.address()), text_request()).await
}

#[tokio::test]
async fn the_end_of_the_stream_is_the_end_of_the_answer() {
    let deltas = ask(Script::text("Hello, all.")).await.unwrap();
    let texts = [Delta::Text("Hello, ".into()), Delta::Text("all.".into())];
    assert_eq!(deltas, [&texts[..], &[Delta::Done(Finish::Stop)]].concat());
    let call = Script::new().tool("1", "mention", "{}").ok();
    assert_eq!(*ask(call).await.unwrap().last().unwrap(), Delta::Done(Finish::ToolCalls));
    // Behind the model's own end the service may take its time, or break.
    for rest in [Script::stall, Script::cut] {
        let deltas = ask(rest(Script::new().content("Hi").finish("stop"))).await.unwrap();
        assert_eq!(deltas, [Delta::Text("Hi".into()), Delta::Done(Finish::Stop)]);
    }
    assert_eq!(ask(Script::new().ok()).await.unwrap_err().kind, ErrorKind::Garbled, "no answer at all");
}

#[tokio::test]
async fn a_failure_that_is_written_as_text_is_never_text() {
    let told = "[provider-error] RateLimitError: Error code: 429 - slow down";
    let cases = [
        ("", Script::new().content(told).ok()),
        ("", Script::new().content("[").content("provider-").content(&told[10..]).ok()),
        ("Half ", Script::new().content("Half ").content(told).ok()),
        ("Half ", Script::new().content("Half ").content(&told[..3]).content(&told[3..]).stall()),
    ];
    for (before, script) in cases {
        let server = FakeChatService::start(script).await;
        let mut items = read(chat_service(&server.address()).answer(text_request()).await.unwrap()).await;
        let error = items.pop().unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::RateLimited, "{error}");
        let deltas: Vec<Delta> = items.into_iter().map(Result::unwrap).collect();
        assert_eq!(text_of(&deltas), before);
    }
    for (told, kind) in [
        ("[provider-error] RuntimeError: OpenRouter API key not set.", ErrorKind::Overloaded),
        ("[provider-error] ConnectError: All connection attempts failed", ErrorKind::Network),
        ("[provider-error] NotFoundError: 404 no such model", ErrorKind::BadRequest),
        ("[provider-error]", ErrorKind::Overloaded),
    ] {
        assert_eq!(ask(Script::new().content(told).ok()).await.unwrap_err().kind, kind, "{told}");
    }
    let harmless = ["The text", " [provider-error] means", " trouble.", "[", "1", "]", "[provider-err"];
    let script = harmless.into_iter().fold(Script::new(), Script::content).ok();
    assert_eq!(text_of(&ask(script).await.unwrap()), harmless.concat());
}

#[tokio::test]
async fn opting_out_is_a_call_of_the_tool() {
    let opted_out = shared::Delta { opted_out: true, ..shared::Delta::default() };
    let call = ToolCall { id: "opt_out".into(), name: "opt_out".into(), arguments: String::new() };
    for script in [Script::new().delta(opted_out.clone()).ok(), Script::new().delta(opted_out).stall()] {
        let deltas = ask(script).await.unwrap();
        assert_eq!(deltas, [Delta::ToolCall(call.clone()), Delta::Done(Finish::ToolCalls)]);
    }
}

#[tokio::test]
async fn calls_without_ids_in_one_message_are_told_apart() {
    let call =
        |name: &str| shared::ToolCall { name: name.into(), arguments: "{}".into(), ..Default::default() };
    let delta = shared::Delta { tool_calls: vec![call("one"), call("two")], ..Default::default() };
    let deltas = ask(Script::new().delta(delta).ok()).await.unwrap();
    let names: Vec<_> = deltas
        .iter()
        .filter_map(
            |delta| if let Delta::ToolCall(call) = delta { Some((&*call.id, &*call.name)) } else { None },
        )
        .collect();
    assert_eq!(names, [("call_0", "one"), ("call_1", "two")]);
}

#[tokio::test]
async fn tools_and_their_results_are_told_in_words() {
    let server = FakeChatService::start(|request: &ChatRequest| {
        if request.messages.len() == 2 {
            Script::new().tool("c1", "vote_on_poll", r#"{"poll_id":"p1"}"#).ok()
        } else {
            Script::text("I voted.")
        }
    })
    .await;
    let provider = chat_service(&server.address());
    let mut request = request();
    let deltas = answer(&provider, request.clone()).await.unwrap();
    let Delta::ToolCall(call) = deltas[0].clone() else { panic!("{deltas:?}") };
    request.turns.push(Turn::ToolCalls { text: String::new(), calls: vec![call.clone()] });
    request.turns.push(Turn::ToolResult { call_id: call.id, result: "recorded".into() });
    assert_eq!(text_of(&answer(&provider, request).await.unwrap()), "I voted.");

    let asked = server.requests();
    assert_eq!(asked[0].models, ["fake"]);
    assert_eq!(asked[0].max_tokens, Some(100));
    assert_eq!(asked[0].tools[0].name, "vote_on_poll");
    assert_eq!(asked[0].messages[0].role(), MessageRole::System);
    let last = asked[1].messages.last().unwrap();
    let told = r#"You called vote_on_poll({"poll_id":"p1"}). It returned: recorded"#;
    assert_eq!(last.contents[0].content, Some(content::Content::Text(told.into())));
}

/// A provider that leaves the model to the service.
async fn without_default(script: Script) -> (FakeChatService, Arc<dyn Provider>) {
    let server = FakeChatService::start(script).await;
    let config = ProviderConfig {
        kind: ProviderKind::ChatService,
        address: Some(server.address()),
        ..ProviderConfig::default()
    };
    let provider = open("chat", &config).unwrap();
    (server, provider)
}

#[tokio::test]
async fn of_several_models_the_first_is_heard() {
    let part = |model: &str, content: &str| ChatResponse {
        model: model.into(),
        delta: Some(shared::Delta { content: content.into(), ..Default::default() }),
        ..ChatResponse::default()
    };
    let script = Script::new()
        .response(&part("a", "Hello "))
        .response(&part("b", "Good day "))
        .response(&part("a", "all."))
        .ok();
    let (server, unnamed) = without_default(script).await;
    assert_eq!(text_of(&answer(&unnamed, text_request()).await.unwrap()), "Hello all.");
    assert_eq!(server.requests()[0].models.len(), 0, "the service's own choice");
    // A name that comes late hides nothing, and a part without one belongs to the answer.
    let late = [part("", "Hel"), part("a", "lo "), part("b", "Good day "), part("", "all.")];
    let script = late.iter().fold(Script::new(), Script::response).ok();
    let (_server, latecomer) = without_default(script).await;
    assert_eq!(text_of(&answer(&latecomer, text_request()).await.unwrap()), "Hello all.");
    // A model that was named may call itself what it likes.
    let named = Request { model: "a".into(), ..text_request() };
    assert_eq!(text_of(&answer(&unnamed, named).await.unwrap()), "Hello Good day all.");
}

#[tokio::test]
async fn a_status_in_the_middle_says_when_to_come_back() {
    let script = Script::new().content("Half ").trailers(
        Code::ResourceExhausted,
        "slow down",
        &[("grpc-retry-pushback-ms", "1500")],
    );
    let server = FakeChatService::start(script).await;
    let items = read(chat_service(&server.address()).answer(text_request()).await.unwrap()).await;
    let error = items[1].as_ref().unwrap_err();
    assert_eq!(error.kind, ErrorKind::RateLimited);
    assert_eq!(error.retry_after, Some(Duration::from_millis(1500)));
}

#[tokio::test]
async fn more_than_any_answer_is_garbled() {
    let megabyte = "x".repeat(1024 * 1024);
    let endless = (0..17).fold(Script::new(), |script, _| script.content(&megabyte)).ok();
    assert_eq!(ask(endless).await.unwrap_err().kind, ErrorKind::Garbled);
    let message = Script::new().content(&"x".repeat(5 * 1024 * 1024)).ok();
    assert_eq!(ask(message).await.unwrap_err().kind, ErrorKind::Garbled);
    // Frames that claim to be compressed, or that are no frames at all.
    for bytes in [&b"\x01\0\0\0\x01x"[..], b"<html>log in</html>"] {
        let error = ask(Script::new().content("Hi").bytes(bytes).ok()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Garbled, "{error}");
    }
}

#[tokio::test]
async fn a_service_that_is_down_fails_calls_until_it_is_up() {
    // A port that is taken and that nobody listens at refuses connections, and nobody else can get it.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let provider = chat_service(&socket.local_addr().unwrap().to_string());
    for _ in 0..2 {
        let error = timeout(PATIENCE, provider.answer(text_request())).await.unwrap().err().unwrap();
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    }
    let asked = AtomicUsize::new(0);
    let server = FakeChatService::listen(socket.listen(16).unwrap(), move |_: &ChatRequest| {
        match asked.fetch_add(1, Ordering::SeqCst) {
            1 => Script::new().content("Half ").cut(),
            _ => Script::text("Back."),
        }
    });
    assert_eq!(text_of(&answer(&provider, text_request()).await.unwrap()), "Back.");
    assert_eq!(answer(&provider, text_request()).await.unwrap_err().kind, ErrorKind::Network);
    assert_eq!(text_of(&answer(&provider, text_request()).await.unwrap()), "Back.");
    assert_eq!(server.connections(), 2, "connected anew after the cut");
}

#[tokio::test]
async fn an_address_makes_it_the_default_and_a_service_that_is_down_does_not_hold_up_the_start() {
    let server = FakeChatService::start(Script::text("From the service.")).await;
    let nowhere = TempDir::new().unwrap();
    let config = |address: &str| {
        let environment = [("CHAT_SERVICE_ADDRESS", address), ("OPENAI_API_KEY", "sk-test")];
        load(None, nowhere.path(), environment).unwrap().config
    };
    let opened = router(&config(&server.address())).unwrap();
    assert_eq!(opened.default_provider(), "chat_service");
    let asked = |model: &str| opened.plan(model, &[]).targets()[0].provider.clone();
    assert_eq!(["", "offline:m", "openai:m"].map(asked), ["chat_service", "offline", "openai"]);
    let attempts = Attempts { first_token: PATIENCE, deadline: Instant::now() + PATIENCE };
    let (plan, mut tried) = (opened.plan("", &[]), Vec::new());
    let deltas = opened.answer(&plan, text_request(), attempts, &mut tried).await.unwrap().deltas;
    let text: Vec<_> = deltas.map(Result::unwrap).collect().await;
    assert_eq!(text_of(&text), "From the service.");
    assert!(router(&config("127.0.0.1:9")).is_ok());
}
