//! What every provider promises (`# Contract` in `llm/mod.rs`), one suite for all that have something behind them.
//!
//! A play says what the other side does, in no one's dialect; each backend's server plays it in its own.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use salon::{
    llm::{
        AnswerForm, Delta, Error, ErrorKind, Finish, Provider, Request, ToolCall,
        open::{ProviderConfig, ProviderKind, open},
        scripted::{ScriptedProvider, Step},
    },
    wire::pb,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Code;

use super::{PATIENCE, answer, openai, read, request, text_of, text_request};
use crate::{
    fake_chat_service::{FakeChatService, Script},
    fake_openai::{FakeOpenAi, Reply},
};

/// A part of what the other side does.
#[derive(Debug, Clone)]
enum Say {
    Text(String),
    /// The beginning of a call: its id, its name and the first of its arguments.
    Call(&'static str, &'static str, &'static str),
    /// More arguments of the call that began last: its place and its id.
    More(u32, &'static str, String),
    Usage(u32, u32),
    Finish(&'static str),
    /// A whole end, after which nothing is owed.
    End,
    Stall,
    Cut,
    Garbage,
    /// A failure in the middle of the answer.
    Fault,
}

/// Why a request is not accepted.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    BadRequest,
    TooLong,
    Auth,
    RateLimited,
    Broken,
    Overloaded,
}

#[derive(Debug, Clone)]
enum Play {
    Answer(Vec<Say>),
    /// The same, with the bytes cut into pieces of this size.
    Pieces(usize, Vec<Say>),
    /// Perhaps with the time after which to come back, in seconds.
    Refuse(Refusal, Option<&'static str>),
    /// Takes the request and says nothing.
    Silent,
}

fn text(text: &str) -> Say {
    Say::Text(text.to_owned())
}

fn hi() -> Vec<Say> {
    vec![text("Hello, "), text("all."), Say::Usage(11, 7), Say::Finish("stop"), Say::End]
}

/// The backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    OpenAi,
    ChatService,
    Scripted,
}

/// A provider with what is behind it.
struct Stage {
    provider: Arc<dyn Provider>,
    server: Server,
}

enum Server {
    OpenAi(FakeOpenAi),
    ChatService(FakeChatService),
    Scripted(Arc<ScriptedProvider>),
}

impl Backend {
    async fn plays(self, play: Play) -> Stage {
        match self {
            Self::OpenAi => {
                let server = FakeOpenAi::start(openai_reply(&play)).await;
                Stage { provider: openai(&server), server: Server::OpenAi(server) }
            }
            Self::ChatService => {
                let server = FakeChatService::start(chat_script(&play)).await;
                Stage { provider: chat_service(&server.address()), server: Server::ChatService(server) }
            }
            Self::Scripted => {
                let provider = Arc::new(ScriptedProvider::with("scripted", move |_| scripted_steps(&play)));
                Stage { provider: Arc::clone(&provider) as _, server: Server::Scripted(provider) }
            }
        }
    }

    async fn answers(self, says: Vec<Say>) -> Result<Vec<Delta>, Error> {
        answer(&self.plays(Play::Answer(says)).await.provider, request()).await
    }
}

impl Stage {
    fn calls(&self) -> usize {
        match &self.server {
            Server::OpenAi(server) => server.requests().len(),
            Server::ChatService(server) => server.requests().len(),
            Server::Scripted(provider) => provider.calls(),
        }
    }

    async fn called(&self, count: usize) {
        let called = async {
            while self.calls() < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, called).await.expect("the other side must be asked");
    }

    /// Waits until the other side has seen so many answers given up.
    async fn given_up(&self, count: usize) {
        let seen = async {
            match &self.server {
                Server::OpenAi(server) => server.disconnected(count).await,
                Server::ChatService(server) => server.disconnected(count).await,
                Server::Scripted(provider) => {
                    while provider.cancelled() < count {
                        tokio::task::yield_now().await;
                    }
                }
            }
        };
        timeout(PATIENCE, seen).await.expect("the other side must see it");
    }
}

pub(super) fn chat_service(address: &str) -> Arc<dyn Provider> {
    let config = ProviderConfig {
        kind: ProviderKind::ChatService,
        address: Some(address.to_owned()),
        default_model: Some("fake".into()),
        ..ProviderConfig::default()
    };
    open("chat_service", &config).unwrap()
}

fn openai_reply(play: &Play) -> Reply {
    let reply = |says: &[Say]| {
        let mut calls = 0;
        says.iter().fold(Reply::stream(), |reply, say| match say {
            Say::Text(text) => reply.delta(&json!({ "content": text })),
            Say::Call(id, name, arguments) => {
                calls += 1;
                let function = json!({"name": name, "arguments": arguments});
                reply.tool(&json!({"index": calls - 1, "id": id, "type": "function", "function": function}))
            }
            Say::More(index, _, piece) => {
                reply.tool(&json!({"index": index, "function": {"arguments": piece}}))
            }
            Say::Usage(prompt, made) => reply.chunk(
                &json!({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": made}}),
            ),
            Say::Finish(reason) => reply.finish(reason),
            Say::End => reply.event("[DONE]"),
            Say::Stall => reply.stall(),
            Say::Cut => reply.cut(),
            Say::Garbage => reply.event("{\"choices\":[\u{fffd}"),
            Say::Fault => reply.event(r#"{"error":{"message":"slow down","code":429}}"#),
        })
    };
    match play {
        Play::Answer(says) => reply(says),
        Play::Pieces(size, says) => reply(says).in_pieces_of(*size),
        Play::Silent => Reply::silent(),
        Play::Refuse(refusal, retry_after) => {
            let reply = match refusal {
                Refusal::BadRequest => Reply::status(400, "no such model"),
                Refusal::TooLong => Reply::status(400, "maximum context length is 8192 tokens"),
                Refusal::Auth => Reply::status(401, "who are you"),
                Refusal::RateLimited => Reply::status(429, "slow down"),
                Refusal::Broken => Reply::status(500, "oops"),
                Refusal::Overloaded => Reply::status(503, "later"),
            };
            retry_after.iter().fold(reply, |reply, seconds| reply.header("retry-after", seconds))
        }
    }
}

fn chat_script(play: &Play) -> Script {
    let script = |says: &[Say]| {
        says.iter().fold(Script::new(), |script, say| match say {
            Say::Text(text) => script.content(text),
            Say::Call(id, name, arguments) => script.tool(id, name, arguments),
            Say::More(_, id, piece) => script.tool(id, "", piece),
            Say::Usage(prompt, made) => script.usage(*prompt, *made),
            Say::Finish(reason) => script.finish(reason),
            Say::End => script.ok(),
            Say::Stall => script.stall(),
            Say::Cut => script.cut(),
            Say::Garbage => script.message(b"\xff\xff\xff\xff"),
            Say::Fault => script.content("[provider-error] RateLimitError: slow down").ok(),
        })
    };
    match play {
        Play::Answer(says) => script(says),
        Play::Pieces(size, says) => script(says).in_pieces_of(*size),
        Play::Silent => Script::silent(),
        Play::Refuse(refusal, retry_after) => {
            let (code, message) = match refusal {
                Refusal::BadRequest => (Code::InvalidArgument, "no such model"),
                Refusal::TooLong => (Code::InvalidArgument, "maximum context length is 8192 tokens"),
                Refusal::Auth => (Code::Unauthenticated, "who are you"),
                Refusal::RateLimited => (Code::ResourceExhausted, "slow down"),
                Refusal::Broken => (Code::Internal, "oops"),
                Refusal::Overloaded => (Code::Unavailable, "later"),
            };
            let retry_after: Vec<_> = retry_after.iter().map(|seconds| ("retry-after", *seconds)).collect();
            Script::new().trailers(code, message, &retry_after)
        }
    }
}

fn scripted_steps(play: &Play) -> Vec<Step> {
    let error = |kind, seconds: Option<u64>| {
        Step::Error(Error {
            kind,
            provider: "scripted".into(),
            message: "told to".into(),
            retry_after: seconds.map(Duration::from_secs),
        })
    };
    let says = match play {
        Play::Answer(says) | Play::Pieces(_, says) => says,
        Play::Silent => return vec![Step::Stall],
        Play::Refuse(refusal, retry_after) => {
            return vec![error(kind_of(*refusal), retry_after.map(|seconds| seconds.parse().unwrap()))];
        }
    };
    let mut calls: Vec<ToolCall> = Vec::new();
    let mut steps = Vec::new();
    for say in says {
        match say {
            Say::Text(text) => steps.push(Step::text(text)),
            Say::Call(id, name, arguments) => {
                calls.push(ToolCall {
                    id: (*id).to_owned(),
                    name: (*name).to_owned(),
                    arguments: (*arguments).to_owned(),
                });
                steps.push(Step::Progress);
            }
            Say::More(index, _, piece) => {
                calls[usize::try_from(*index).unwrap()].arguments.push_str(piece);
                steps.push(Step::Progress);
            }
            Say::Usage(prompt_tokens, completion_tokens) => {
                steps.push(Step::Usage {
                    prompt_tokens: *prompt_tokens,
                    completion_tokens: *completion_tokens,
                });
            }
            Say::Finish(reason) => {
                steps.extend(calls.drain(..).map(Step::Tool));
                steps.push(Step::Done(match *reason {
                    "length" => Finish::Length,
                    "content_filter" => Finish::Filtered,
                    "tool_calls" => Finish::ToolCalls,
                    _ => Finish::Stop,
                }));
            }
            Say::End | Say::Cut => break,
            Say::Stall => steps.push(Step::Stall),
            Say::Garbage => steps.push(error(ErrorKind::Garbled, None)),
            Say::Fault => steps.push(error(ErrorKind::RateLimited, None)),
        }
    }
    steps
}

fn kind_of(refusal: Refusal) -> ErrorKind {
    match refusal {
        Refusal::BadRequest => ErrorKind::BadRequest,
        Refusal::TooLong => ErrorKind::ContextTooLong,
        Refusal::Auth => ErrorKind::Auth,
        Refusal::RateLimited => ErrorKind::RateLimited,
        Refusal::Broken | Refusal::Overloaded => ErrorKind::Overloaded,
    }
}

// The suite.

async fn text_usage_and_end_come_in_order(backend: Backend) {
    let deltas = backend.answers(hi()).await.unwrap();
    let usage = Delta::Usage { prompt_tokens: 11, completion_tokens: 7 };
    let whole = [Delta::Text("Hello, ".into()), Delta::Text("all.".into()), usage, Delta::Done(Finish::Stop)];
    assert_eq!(deltas, whole);
}

async fn bytes_may_be_cut_anywhere(backend: Backend) {
    let said = "Grüße 👋🏽 aus 東京 \u{1F1E9}\u{1F1EA}";
    let arguments = "{\"poll_id\":\"p1\",\"reason\":\"schön 🎉\"}";
    for size in [1, 2, 3, 7, 64] {
        let says =
            vec![text(said), Say::Call("c1", "vote_on_poll", arguments), Say::Finish("tool_calls"), Say::End];
        let stage = backend.plays(Play::Pieces(size, says)).await;
        let deltas = answer(&stage.provider, request()).await.unwrap();
        assert_eq!(text_of(&deltas), said, "pieces of {size}");
        let call = ToolCall { id: "c1".into(), name: "vote_on_poll".into(), arguments: arguments.into() };
        assert!(deltas.contains(&Delta::ToolCall(call)), "pieces of {size}: {deltas:?}");
    }
}

async fn a_call_in_pieces_is_yielded_whole(backend: Backend) {
    let arguments = json!({"poll_id": "p1", "reason": "weil es \u{201c}schön\u{201d} ist 🎉"}).to_string();
    let mut says = vec![text("Well."), Say::Call("c1", "vote_on_poll", "")];
    says.extend(arguments.chars().map(|c| Say::More(0, "c1", c.to_string())));
    says.push(Say::Call("c2", "opt_out", "{"));
    says.push(Say::More(1, "c2", "}".into()));
    says.extend([Say::Finish("tool_calls"), Say::End]);
    let deltas = backend.answers(says).await.unwrap();
    let call = |id: &str, name: &str, arguments: &str| {
        Delta::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
    };
    let whole = [
        Delta::Text("Well.".into()),
        call("c1", "vote_on_poll", &arguments),
        call("c2", "opt_out", "{}"),
        Delta::Done(Finish::ToolCalls),
    ];
    assert_eq!(deltas, whole);
}

async fn a_call_that_is_held_back_is_seen_to_grow(backend: Backend) {
    let says = vec![Say::Call("c1", "opt_out", "{"), Say::More(0, "c1", "}".into()), Say::Stall];
    let stage = backend.plays(Play::Answer(says)).await;
    let mut deltas = stage.provider.answer(request()).await.unwrap();
    for _ in 0..2 {
        let delta = timeout(PATIENCE, deltas.next()).await.expect("the model is at work");
        assert_eq!(delta.unwrap().unwrap(), Delta::Progress);
    }
    assert!(deltas.next().now_or_never().is_none(), "it stalls");
}

async fn why_a_model_stopped_is_told(backend: Backend) {
    for (word, finish) in
        [("stop", Finish::Stop), ("length", Finish::Length), ("content_filter", Finish::Filtered)]
    {
        let deltas = backend.answers(vec![text("Hi"), Say::Finish(word), Say::End]).await.unwrap();
        assert_eq!(deltas, [Delta::Text("Hi".into()), Delta::Done(finish)], "{word}");
    }
}

async fn refusals_have_their_kind_and_are_not_repeated(backend: Backend) {
    for refusal in [
        Refusal::BadRequest,
        Refusal::TooLong,
        Refusal::Auth,
        Refusal::RateLimited,
        Refusal::Broken,
        Refusal::Overloaded,
    ] {
        for (told, kept) in [(None, None), (Some("7"), Some(Duration::from_secs(7)))] {
            let stage = backend.plays(Play::Refuse(refusal, told)).await;
            let error = stage.provider.answer(text_request()).await.err().expect("refused before it begins");
            assert_eq!((error.kind, error.retry_after), (kind_of(refusal), kept), "{refusal:?}: {error}");
            assert_eq!(error.provider, stage.provider.name());
            assert_eq!(stage.calls(), 1, "{refusal:?}");
        }
    }
}

async fn a_silent_server_sees_the_request_given_up(backend: Backend) {
    let stage = backend.plays(Play::Silent).await;
    {
        // The scripted provider accepts at once and stalls in the stream.
        let waiting = async {
            let mut deltas = stage.provider.answer(text_request()).await.unwrap();
            deltas.next().await
        };
        tokio::select! {
            biased;
            item = waiting => panic!("an answer of silence: {item:?}"),
            () = stage.called(1) => {}
        }
    }
    stage.given_up(1).await;
}

async fn a_stall_before_or_between_tokens_can_be_given_up(backend: Backend) {
    for says in [vec![Say::Stall], vec![text("Hi"), Say::Stall]] {
        let texts = says.len() - 1;
        let stage = backend.plays(Play::Answer(says)).await;
        for round in 1..=3 {
            let opening = stage.provider.answer(text_request());
            tokio::pin!(opening);
            // A server may send its headers with the first token only.
            let opened = tokio::select! {
                biased;
                opened = &mut opening => Some(opened.unwrap()),
                () = stage.called(round), if texts == 0 => None,
            };
            if let Some(mut deltas) = opened {
                for _ in 0..texts {
                    assert_eq!(deltas.next().await.unwrap().unwrap(), Delta::Text("Hi".into()));
                }
                assert!(deltas.next().now_or_never().is_none(), "it stalls");
                stage.called(round).await;
            }
        }
        stage.given_up(3).await;
    }
}

async fn a_connection_that_is_cut_is_a_network_error(backend: Backend) {
    for says in [vec![text("Half "), Say::Cut], vec![text("Half ")]] {
        let name = format!("{says:?}");
        let stage = backend.plays(Play::Answer(says)).await;
        let items = read(stage.provider.answer(text_request()).await.unwrap()).await;
        assert_eq!(items.len(), 2, "{name}: {items:?}");
        assert_eq!(*items[0].as_ref().unwrap(), Delta::Text("Half ".into()), "{name}");
        assert_eq!(items[1].as_ref().unwrap_err().kind, ErrorKind::Network, "{name}: {items:?}");
    }
}

async fn what_makes_no_sense_is_garbled(backend: Backend) {
    let stage = backend.plays(Play::Answer(vec![text("Half "), Say::Garbage, text("more"), Say::End])).await;
    let items = read(stage.provider.answer(text_request()).await.unwrap()).await;
    assert_eq!(items.len(), 2, "nothing behind an error: {items:?}");
    assert_eq!(items[1].as_ref().unwrap_err().kind, ErrorKind::Garbled, "{items:?}");
}

async fn a_failure_in_the_middle_is_classified(backend: Backend) {
    let stage = backend.plays(Play::Answer(vec![text("Half "), Say::Fault])).await;
    let items = read(stage.provider.answer(text_request()).await.unwrap()).await;
    assert_eq!(items.len(), 2, "{items:?}");
    assert_eq!(items[1].as_ref().unwrap_err().kind, ErrorKind::RateLimited, "{items:?}");
}

async fn large_answers_arrive_whole(backend: Backend) {
    let megabyte = "ä".repeat(512 * 1024);
    let deltas = backend.answers(vec![text(&megabyte), Say::Finish("stop"), Say::End]).await.unwrap();
    assert!(text_of(&deltas) == megabyte);

    let letters = "abcdefghij".repeat(1000);
    let mut says: Vec<Say> = letters.chars().map(|c| Say::Text(c.to_string())).collect();
    says.extend([Say::Finish("stop"), Say::End]);
    let deltas = backend.answers(says).await.unwrap();
    assert_eq!(deltas.len(), 10_000 + 1, "each as it came");
    assert!(text_of(&deltas) == letters);
}

async fn many_answers_at_once_do_not_mix(backend: Backend) {
    let mut says: Vec<Say> = (0..50).map(|n| text(&format!("{n} "))).collect();
    says.extend([Say::Finish("stop"), Say::End]);
    let stage = backend.plays(Play::Answer(says)).await;
    let asked = (0..32).map(|_| answer(&stage.provider, text_request()));
    let answers = timeout(PATIENCE, futures_util::future::join_all(asked)).await.unwrap();
    let wanted: String = (0..50).map(|n| format!("{n} ")).collect();
    for answer in answers {
        assert_eq!(text_of(&answer.unwrap()), wanted);
    }
    if let Server::ChatService(server) = &stage.server {
        assert_eq!(server.connections(), 1, "one channel for all");
    }
}

async fn an_answer_that_nobody_reads_holds_up_no_other(backend: Backend) {
    let mut says: Vec<Say> = (0..64).map(|_| text(&"x".repeat(16 * 1024))).collect();
    says.extend([Say::Finish("stop"), Say::End]);
    let stage = backend.plays(Play::Answer(says)).await;
    let mut unread = Vec::new();
    for _ in 0..16 {
        let mut deltas = stage.provider.answer(text_request()).await.unwrap();
        assert!(deltas.next().await.unwrap().is_ok());
        unread.push(deltas);
    }
    let deltas = answer(&stage.provider, text_request()).await.unwrap();
    assert_eq!(text_of(&deltas).len(), 1024 * 1024);
    drop(unread);
    assert!(answer(&stage.provider, text_request()).await.is_ok());
}

async fn a_form_is_passed_on(backend: Backend) {
    let form = AnswerForm { name: "room".into(), schema: json!({"type": "object"}) };
    let stage = backend.plays(Play::Answer(hi())).await;
    let asked = Request { form: Some(form), ..text_request() };
    answer(&stage.provider, asked).await.unwrap();
    let seen = match &stage.server {
        Server::OpenAi(server) => server.requests()[0].body["response_format"]["json_schema"].clone(),
        Server::ChatService(server) => {
            let pb::api::ChatRequest { response_format, .. } = server.requests().remove(0);
            serde_json::from_str::<Value>(response_format.unwrap().json_schema()).unwrap()
        }
        Server::Scripted(_) => return,
    };
    assert_eq!(seen, json!({"name": "room", "schema": {"type": "object"}, "strict": false}));
}

/// Runs every case for one backend.
macro_rules! suite {
    ($backend:ident: $name:ident: $($case:ident)+) => {
        mod $name {
            use super::Backend;

            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(Backend::$backend).await;
                }
            )+
        }
    };
    ($($backend:ident as $name:ident)+) => {
        $(suite! { $backend: $name:
            text_usage_and_end_come_in_order
            bytes_may_be_cut_anywhere
            a_call_in_pieces_is_yielded_whole
            a_call_that_is_held_back_is_seen_to_grow
            why_a_model_stopped_is_told
            refusals_have_their_kind_and_are_not_repeated
            a_silent_server_sees_the_request_given_up
            a_stall_before_or_between_tokens_can_be_given_up
            a_connection_that_is_cut_is_a_network_error
            what_makes_no_sense_is_garbled
            a_failure_in_the_middle_is_classified
            large_answers_arrive_whole
            many_answers_at_once_do_not_mix
            an_answer_that_nobody_reads_holds_up_no_other
            a_form_is_passed_on
        })+
    };
}

suite! { OpenAi as by_openai ChatService as by_chat_service Scripted as by_scripted }
