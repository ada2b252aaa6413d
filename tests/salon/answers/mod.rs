//! Answers of LLMs through the whole server: what the room sees from the question to `llm_done`.

mod approvals;
mod ballots;
mod chat_service;
mod chunks;
mod ends;
mod failures;
mod interrupts;
mod limits;
pub mod model;
mod once;
mod pace;
mod polls;
mod receipts;
mod regenerate;
mod routes;
mod summaries;
mod tools;
pub mod tools_outside;
mod tools_room;
mod turns;

use salon::{
    llm::open::{ProviderConfig, ProviderKind, open},
    wire::pb::room::v1::{
        self as pb, LlmDoneReason as Reason, client_message::Payload as Say, server_event::Payload,
    },
};
use secrecy::SecretString;

use crate::{
    fake_openai::{FakeOpenAi, Reply},
    harness::{Session, Setup, TestServer, until},
};

/// A server whose LLMs are models of `fake`, by the real provider.
fn over_the_wire(fake: &FakeOpenAi) -> Setup {
    let config = ProviderConfig {
        kind: ProviderKind::Openai,
        base_url: Some(fake.base_url()),
        api_key: Some(SecretString::from("sk-test-secret")),
        default_model: Some("fake-model".into()),
        ..ProviderConfig::default()
    };
    Setup { provider: open("openai", &config).unwrap(), ..Setup::default() }
}

/// One answer, as a session saw it.
#[derive(Debug)]
struct Answer {
    thinking: pb::LlmThinking,
    chunks: Vec<pb::LlmChunk>,
    message: Option<pb::Message>,
    done: pb::LlmDone,
}

impl Answer {
    fn text(&self) -> &str {
        self.message.as_ref().map_or("", |message| &message.content)
    }

    fn is_partial(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.partial)
    }

    #[track_caller]
    fn assert_ended(&self, reason: Reason, text: &str) {
        assert_eq!((self.done.reason(), self.text()), (reason, text), "{self:?}");
        let whole = matches!(reason, Reason::Completed | Reason::OptedOut);
        assert_eq!(self.is_partial(), !whole && !text.is_empty(), "{self:?}");
    }
}

/// The start of the next answer that was not taken yet.
async fn thinking(session: &mut Session) -> pb::LlmThinking {
    session
        .pick(|payload| match payload {
            Payload::LlmThinking(thinking) => Some(thinking.clone()),
            _ => None,
        })
        .await
}

/// The next chunk that was not taken yet.
async fn chunk(session: &mut Session) -> pb::LlmChunk {
    session
        .pick(|payload| match payload {
            Payload::LlmChunk(chunk) => Some(chunk.clone()),
            _ => None,
        })
        .await
}

/// The next answer from its beginning to its end.
async fn follow(session: &mut Session) -> Answer {
    let thinking = thinking(session).await;
    follow_from(session, thinking, Vec::new()).await
}

/// The rest of an answer of which these chunks were taken; they must make up its text.
async fn follow_from(
    session: &mut Session,
    thinking: pb::LlmThinking,
    mut chunks: Vec<pb::LlmChunk>,
) -> Answer {
    let id = thinking.message_id.clone();
    let of_answer = |payload: &Payload| match payload {
        Payload::LlmChunk(chunk) => chunk.message_id == id,
        Payload::MessageReceived(received) => received.message.as_ref().is_some_and(|m| m.message_id == id),
        Payload::LlmDone(done) => done.message_id == id,
        _ => false,
    };
    let mut message = None;
    let done = loop {
        match session.pick(|payload| of_answer(payload).then(|| payload.clone())).await {
            Payload::LlmChunk(chunk) => chunks.push(chunk),
            Payload::MessageReceived(received) => message = received.message,
            Payload::LlmDone(done) => break done,
            other => panic!("{other:?}"),
        }
    };
    let answer = Answer { thinking, chunks, message, done };
    if !answer.text().is_empty() {
        assert_eq!(concatenated(&answer.chunks, ""), answer.text());
    }
    answer
}

/// What chunks come to behind `before`; each must begin where the text so far ends.
#[track_caller]
fn concatenated(chunks: &[pb::LlmChunk], before: &str) -> String {
    let mut text = before.to_owned();
    for chunk in chunks {
        assert_eq!(chunk.offset, text.len() as u64, "a hole or an overlap: {chunk:?}");
        text.push_str(&chunk.content);
    }
    text
}

/// Checks in the log that every answer that has begun has exactly one end, with its text right before it.
async fn all_ended_once(server: &TestServer, room: &str) -> Vec<pb::LlmDone> {
    let log = server.log(room).await;
    let (mut open, mut ended) = (Vec::new(), Vec::new());
    for (index, event) in log.iter().enumerate() {
        match event.payload.as_ref().unwrap() {
            Payload::LlmThinking(thinking) => open.push(thinking.message_id.clone()),
            Payload::LlmDone(done) => {
                let at = open.iter().position(|id| *id == done.message_id);
                open.remove(at.unwrap_or_else(|| panic!("no beginning, or a second end: {done:?}")));
                ended.push(done.clone());
            }
            Payload::MessageReceived(received) => {
                let message = received.message.as_ref().unwrap();
                if message.sender_type() == pb::ParticipantType::Llm && message.poll_id.is_none() {
                    let superseded =
                        |e: &&pb::ServerEvent| matches!(e.payload, Some(Payload::MessageSuperseded(_)));
                    let behind = log[index + 1..].iter().find(|event| !superseded(event)).unwrap();
                    let Some(Payload::LlmDone(done)) = &behind.payload else { panic!("{message:?}") };
                    assert_eq!(done.message_id, message.message_id);
                }
            }
            _ => {}
        }
    }
    assert_eq!(open, Vec::<String>::new(), "answers without an end");
    ended
}

/// Waits until no answer is running or waiting.
async fn quiet(server: &TestServer) {
    until("the end of all answers", || server.run_count() == 0).await;
}

/// What a model was told, as one text.
fn told(request: &salon::llm::Request) -> String {
    let text = |turn: &salon::llm::Turn| match turn {
        salon::llm::Turn::Text { text, .. } => text.clone(),
        other => format!("{other:?}"),
    };
    request.turns.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// The next refusal to ask an LLM.
async fn refusal(session: &mut Session) -> pb::Error {
    session.pick(|p| if let Payload::Error(error) = p { Some(error.clone()) } else { None }).await
}

/// Changes how the room takes turns.
fn turns(policy: pb::TurnPolicy) -> Say {
    let settings = pb::RoomSettings { turn_policy: policy.into(), ..Default::default() };
    Say::UpdateRoom(pb::UpdateRoom { settings: Some(settings), ..Default::default() })
}

fn interrupt(llm: &str, message: Option<&str>) -> Say {
    Say::Interrupt(pb::InterruptLlm { llm_id: llm.into(), message_id: message.map(str::to_owned) })
}

#[tokio::test]
async fn an_answer_streams_to_everybody_and_is_kept() {
    let text = "Grüße aus 東京, wie geht es euch allen heute?";
    let fake = FakeOpenAi::start(Reply::text(text)).await;
    let server = over_the_wire(&fake).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let ack = ann.talk("@ada hello").await;
    for session in [&mut ann, &mut bob] {
        let answer = follow(session).await;
        answer.assert_ended(Reason::Completed, text);
        assert_eq!((answer.thinking.llm_id.as_str(), answer.thinking.chain_depth), ("ada", 0));
        assert_eq!(answer.thinking.reply_to, ack.event_id);
        let message = answer.message.unwrap();
        assert_eq!((message.sender_id.as_str(), message.reply_to()), ("ada", ack.event_id.as_str()));
        let done = answer.done;
        assert_eq!(
            done.usage.unwrap(),
            pb::TokenUsage { prompt_tokens: 11, completion_tokens: 7, ..Default::default() }
        );
        assert_eq!((done.provider.as_str(), done.error_code.as_str()), ("openai", ""));
        assert!(done.first_token_ms > 0 && done.duration_ms >= done.first_token_ms, "{done:?}");
    }
    assert_eq!(all_ended_once(&server, &room).await.len(), 1);
    let body = &fake.requests()[0].body;
    assert_eq!(body["messages"].as_array().unwrap().last().unwrap()["content"], "[\"ann\"] @ada hello");
    server.shutdown().await;
}
