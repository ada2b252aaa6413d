//! What a provider can do wrong: the answer ends once, says what happened, and keeps what was said.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use salon::llm::{
    Delta, Deltas, Error, Finish, Provider, Request,
    scripted::{ScriptedProvider, Step},
};
use serde_json::json;

use super::*;

/// Everything a session gets to see of an answer that is asked for now.
async fn fail(fake: &FakeOpenAi) -> (Answer, TestServer, Session) {
    let short = |config: &mut salon::config::Config| {
        config.llm.first_token_timeout = Duration::from_millis(150);
        config.llm.idle_timeout = Duration::from_millis(150);
    };
    let server = over_the_wire(fake).config(short).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let answer = follow(&mut ann).await;
    assert_eq!(all_ended_once(&server, &room).await, std::slice::from_ref(&answer.done));
    // What the provider says can hold keys and prompts: none of it reaches the room.
    let told = format!("{answer:?} {:?} {:?}", ann.settle().await, server.log(&room).await);
    assert!(!told.contains("secret"), "{told}");
    (answer, server, ann)
}

fn half() -> Reply {
    Reply::stream().delta(&json!({"content": "Half an"})).delta(&json!({"content": " answer"}))
}

#[tokio::test]
async fn a_stall_ends_the_answer_as_timed_out() {
    for (reply, kept) in [(Reply::stream().stall(), ""), (half().stall(), "Half an answer")] {
        let fake = FakeOpenAi::start(reply).await;
        let (answer, server, mut ann) = fail(&fake).await;
        answer.assert_ended(Reason::TimedOut, kept);
        assert_eq!(answer.done.error_code, "timeout");
        assert_eq!(answer.done.error_message, "the model did not answer in time");
        fake.disconnected(1).await;
        ann.talk("is anybody here?").await;
        server.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_thinks_long_is_not_taken_for_a_silent_one() {
    let thinks = || [Step::Progress, Step::Pause(Duration::from_secs(15))];
    let before = (0..4).flat_map(|_| thinks()).chain([Step::text("Yes.")]);
    let steps: Vec<Step> = before.chain(thinks()).chain(thinks()).chain([Step::Done(Finish::Stop)]).collect();
    let model = ScriptedProvider::with("scripted", move |_| steps.clone());
    let server = Setup::default().provider(model).virtual_time().start_without_port().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.patience = Duration::from_secs(3600);
    ann.talk("@ada hello").await;
    let answer = follow(&mut ann).await;
    answer.assert_ended(Reason::Completed, "Yes.");
    assert!(answer.done.first_token_ms >= 60_000, "{:?}", answer.done);
    server.shutdown().await;
}

#[tokio::test]
async fn a_refusal_is_told_without_the_providers_words() {
    let words = "Incorrect API key provided: sk-test-secret, prompt: secret";
    for (status, code) in [(429, "rate_limited"), (401, "auth"), (500, "overloaded"), (404, "bad_request")] {
        let fake = FakeOpenAi::start(Reply::status(status, words).header("retry-after", "7")).await;
        let (answer, server, _ann) = fail(&fake).await;
        answer.assert_ended(Reason::Failed, "");
        assert_eq!(answer.done.error_code, code, "{status}");
        assert!(answer.done.error_message.starts_with("the model's provider"), "{:?}", answer.done);
        assert_eq!((answer.chunks.len(), fake.requests().len()), (0, 1), "{status}: asked once");
        server.shutdown().await;
    }
}

#[tokio::test]
async fn what_was_said_before_a_fault_is_kept() {
    let in_stream = json!({"error": {"code": "429", "message": "secret"}}).to_string();
    for (name, reply, code) in [
        ("broken json", half().event("{\"secret").event("[DONE]"), "garbled"),
        ("cut", half().cut(), "network"),
        ("no end", half(), "network"),
        ("an error in the stream", half().event(&in_stream), "rate_limited"),
    ] {
        let fake = FakeOpenAi::start(reply).await;
        let (answer, server, mut ann) = fail(&fake).await;
        answer.assert_ended(Reason::Failed, "Half an answer");
        assert_eq!(answer.done.error_code, code, "{name}");
        ann.talk("is anybody here?").await;
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_filtered_answer_is_a_refusal() {
    let fake = FakeOpenAi::start(half().end("content_filter")).await;
    let (answer, server, _ann) = fail(&fake).await;
    answer.assert_ended(Reason::Failed, "Half an answer");
    assert_eq!(answer.done.error_code, "refused");
    server.shutdown().await;
}

/// Panics at once, or in the middle of its answer.
#[derive(Debug)]
struct Panicking {
    says: Option<&'static str>,
}

#[async_trait]
impl Provider for Panicking {
    fn name(&self) -> &str {
        "panicking"
    }

    async fn answer(&self, _: Request) -> Result<Deltas, Error> {
        let said = self.says.expect("told to panic: secret");
        let deltas = stream::iter([said, ""]).map(|text| {
            assert_ne!(text, "", "told to panic: secret");
            Ok(Delta::Text(text.to_owned()))
        });
        Ok(deltas.boxed())
    }
}

#[tokio::test]
async fn a_providers_panic_ends_the_answer_and_nothing_else() {
    for says in [None, Some("Half an answer")] {
        let server = Setup::default().provider(Panicking { says }).start().await;
        let room = server.room(&["ada"]).await;
        let mut ann = server.join(&room, "ann").await;
        for question in ["@ada hello", "@ada again"] {
            ann.talk(question).await;
            let answer = follow(&mut ann).await;
            answer.assert_ended(Reason::Failed, says.unwrap_or_default());
            assert_eq!(answer.done.error_code, "internal");
            assert_eq!(answer.done.error_message, "the answer failed on the server");
        }
        assert_eq!(all_ended_once(&server, &room).await.len(), 2);
        quiet(&server).await;
        server.shutdown().await;
    }
}
