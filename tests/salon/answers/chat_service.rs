//! A room whose LLMs are behind the original's Chat Service, through the whole server.

use salon::wire::pb::{api::ChatRequest, shared};

use super::*;
use crate::fake_chat_service::{FakeChatService, Script};

fn behind(service: &FakeChatService) -> Setup {
    let config = ProviderConfig {
        kind: ProviderKind::ChatService,
        address: Some(service.address()),
        default_model: Some("fake-model".into()),
        ..ProviderConfig::default()
    };
    Setup { provider: open("chat_service", &config).unwrap(), ..Setup::default() }
}

/// What a session gets to see of the one answer that is asked for.
async fn answered(script: Script) -> Answer {
    let service = FakeChatService::start(script).await;
    let server = behind(&service).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let answer = follow(&mut ann).await;
    assert_eq!(all_ended_once(&server, &room).await, std::slice::from_ref(&answer.done));
    assert_eq!(service.requests()[0].models, ["fake-model"]);
    server.shutdown().await;
    answer
}

#[tokio::test]
async fn an_answer_of_the_service_is_kept() {
    let answer = answered(Script::text("Grüße aus 東京.")).await;
    answer.assert_ended(Reason::Completed, "Grüße aus 東京.");
    assert_eq!(answer.done.provider, "chat_service");
}

#[tokio::test]
async fn a_failure_that_is_written_as_text_is_no_message() {
    let told = "[provider-error] RateLimitError: Error code: 429 - prompt: secret";
    for (kept, script) in [
        ("", Script::new().content(told).ok()),
        ("Half an answer", Script::new().content("Half an answer").content(told).ok()),
    ] {
        let answer = answered(script).await;
        answer.assert_ended(Reason::Failed, kept);
        assert_eq!(answer.done.error_code, "rate_limited");
        assert!(!format!("{answer:?}").contains("secret"), "{answer:?}");
    }
}

#[tokio::test]
async fn opting_out_says_nothing() {
    let opted_out = shared::Delta { opted_out: true, ..shared::Delta::default() };
    let answer = answered(Script::new().delta(opted_out).ok()).await;
    answer.assert_ended(Reason::OptedOut, "");
}

#[tokio::test]
async fn a_vote_by_the_service_counts_and_its_answer_goes_on() {
    let service = FakeChatService::start(|request: &ChatRequest| {
        let of_poll = request.tools.iter().find(|tool| tool.name == "vote_on_poll");
        match of_poll {
            Some(tool) if request.messages.len() < 4 => {
                let schema: serde_json::Value = serde_json::from_str(&tool.parameters_json).unwrap();
                let choice = |pointer| schema.pointer(pointer).unwrap()[0].clone();
                let arguments = serde_json::json!({
                    "poll_id": choice("/properties/poll_id/enum"),
                    "option_ids": [choice("/properties/option_ids/items/enum")],
                    "reason": "it is hot",
                });
                Script::new().tool("call_1", "vote_on_poll", &arguments.to_string()).ok()
            }
            _ => Script::text("Done."),
        }
    })
    .await;
    let server = behind(&service).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let options =
        ["Tea", "Coffee"].map(|text| pb::PollOptionInput { text: text.into(), ..Default::default() });
    let poll = pb::CreatePoll { question: "What?".into(), options: options.into(), ..Default::default() };
    ann.command(Say::CreatePoll(poll)).await.unwrap();
    let vote = ann
        .pick(|payload| match payload {
            Payload::PollVoted(voted) => voted.vote.clone(),
            _ => None,
        })
        .await;
    assert_eq!((vote.voter_id.as_str(), vote.reason.as_str()), ("ada", "it is hot"));
    let done = ann
        .pick(|payload| match payload {
            Payload::LlmDone(done) => Some(done.clone()),
            _ => None,
        })
        .await;
    assert_eq!((done.reason(), done.error_code.as_str()), (Reason::Completed, ""));
    server.shutdown().await;
}

#[tokio::test]
async fn an_interrupt_cancels_the_call() {
    let service = FakeChatService::start(Script::new().content("For ever").stall()).await;
    let server = behind(&service).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let thinking = thinking(&mut ann).await;
    let first = chunk(&mut ann).await;
    ann.command(interrupt("ada", None)).await.unwrap();
    follow_from(&mut ann, thinking, vec![first]).await.assert_ended(Reason::Interrupted, "For ever");
    service.disconnected(1).await;
    server.shutdown().await;
}
