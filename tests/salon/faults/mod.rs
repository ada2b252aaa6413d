//! The faults of the system that Salon took over from: one test, or a few, for each, named after its number in the
//! list and the better behaviour.
//!
//! | Numbers | Where |
//! |---|---|
//! | 1-3, 7, 9, 10 | `answers` |
//! | 4-6, 8 | `interrupts` |
//! | 11-16 | `mentions` |
//! | 17, 18 | `polls` |
//! | 19-22, 25, 26 | `session` |
//! | 23, 24, 31 | `delivery` |
//! | 27-30 | `data` |
//!
//! The 32nd is about a gateway, which is not part of this program.

mod answers;
mod data;
mod delivery;
mod interrupts;
mod mentions;
mod polls;
mod session;

use std::sync::Arc;

use salon::{
    config::Config,
    ids::RoomId,
    llm::{
        Request, Speaker, Turn,
        scripted::{Call, Script, ScriptedProvider},
    },
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};
use tokio::time::timeout;

use crate::harness::{DEADLINE, Session, Setup, TestServer};

/// A server whose LLMs say what the test tells them, one step after the other.
async fn driven() -> (TestServer, Model) {
    driven_with(|_| {}).await
}

/// [`driven`], configured.
async fn driven_with(change: impl FnOnce(&mut Config)) -> (TestServer, Model) {
    let (provider, script) = ScriptedProvider::new("scripted");
    let server = Setup::default().config(change).provider(provider).start().await;
    (server, Model(script))
}

/// Plays every LLM.
struct Model(Script);

impl Model {
    /// The next call, of whichever LLM.
    async fn call(&mut self) -> Call {
        timeout(DEADLINE, self.0.next_call()).await.expect("no LLM was asked").unwrap()
    }
}

/// What an LLM was given, as one text: every turn in a line of its own.
fn conversation(request: &Request) -> String {
    let line = |turn: &Turn| match turn {
        Turn::Text { speaker, text } => format!("{speaker:?}: {text}\n"),
        Turn::ToolCalls { text, calls } => format!("Calls: {text} {calls:?}\n"),
        Turn::ToolResult { call_id, result } => format!("Result of {call_id}: {result}\n"),
    };
    request.turns.iter().map(line).collect()
}

/// The last thing that was said to an LLM.
fn question(request: &Request) -> String {
    let asked = request.turns.iter().rev().find_map(|turn| match turn {
        Turn::Text { speaker: Speaker::User, text } => Some(text.clone()),
        _ => None,
    });
    asked.unwrap()
}

/// A provider that is shared with the test, which counts its calls.
fn shared(provider: ScriptedProvider) -> (Setup, Arc<ScriptedProvider>) {
    let provider = Arc::new(provider);
    let setup = Setup { provider: Arc::<ScriptedProvider>::clone(&provider), ..Setup::default() };
    (setup, provider)
}

/// Waits until no LLM of the room is asked or about to be: what was committed has been looked at, and what came of it
/// has ended.
async fn quiet(server: &TestServer, room: &str) {
    let graph = server.server.graph();
    let room = RoomId::parse(room).unwrap();
    let ended = async {
        loop {
            // Between two commands of the room the dispatcher knows what was committed.
            let looked = graph.rooms.read(&room, |_, _| ()).await;
            if looked.is_ok() && graph.services.dispatcher.run_count() == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, ended).await.expect("answers go on");
}

/// Waits for an `llm_thinking` of this LLM.
async fn thinking(session: &mut Session, llm: &str) -> pb::LlmThinking {
    let pick = |payload: &Payload| match payload {
        Payload::LlmThinking(thinking) if thinking.llm_id == llm => Some(thinking.clone()),
        _ => None,
    };
    session.pick(pick).await
}

/// Waits for the `llm_done` of this answer.
async fn done(session: &mut Session, answer: &str) -> pb::LlmDone {
    let pick = |payload: &Payload| match payload {
        Payload::LlmDone(done) if done.message_id == answer => Some(done.clone()),
        _ => None,
    };
    session.pick(pick).await
}

/// Waits for any `llm_done`.
async fn any_done(session: &mut Session) -> pb::LlmDone {
    let pick = |payload: &Payload| match payload {
        Payload::LlmDone(done) => Some(done.clone()),
        _ => None,
    };
    session.pick(pick).await
}

/// Waits for the next chunk of this answer.
async fn chunk(session: &mut Session, answer: &str) -> pb::LlmChunk {
    let pick = |payload: &Payload| match payload {
        Payload::LlmChunk(chunk) if chunk.message_id == answer => Some(chunk.clone()),
        _ => None,
    };
    session.pick(pick).await
}

/// Waits for this message.
async fn received(session: &mut Session, message_id: &str) -> pb::Message {
    let event = session.find(|event| event.event_id == message_id).await;
    match event.payload {
        Some(Payload::MessageReceived(received)) => received.message.unwrap(),
        other => panic!("not a message: {other:?}"),
    }
}

/// The messages among events.
fn messages(events: &[pb::ServerEvent]) -> Vec<pb::Message> {
    let message = |event: &pb::ServerEvent| match &event.payload {
        Some(Payload::MessageReceived(received)) => received.message.clone(),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

/// The answers that began among events.
fn begun(events: &[pb::ServerEvent]) -> Vec<pb::LlmThinking> {
    let thinking = |event: &pb::ServerEvent| match &event.payload {
        Some(Payload::LlmThinking(thinking)) => Some(thinking.clone()),
        _ => None,
    };
    events.iter().filter_map(thinking).collect()
}

/// The answers that ended among events.
fn ended(events: &[pb::ServerEvent]) -> Vec<pb::LlmDone> {
    let done = |event: &pb::ServerEvent| match &event.payload {
        Some(Payload::LlmDone(done)) => Some(done.clone()),
        _ => None,
    };
    events.iter().filter_map(done).collect()
}

/// A poll with these options.
fn poll(question: &str, options: &[&str]) -> pb::CreatePoll {
    let option = |text: &&str| pb::PollOptionInput { text: (*text).to_owned(), description: String::new() };
    pb::CreatePoll {
        question: question.into(),
        options: options.iter().map(option).collect(),
        ..Default::default()
    }
}

/// Creates a poll and returns it as it was announced to its creator.
async fn create_poll(session: &mut Session, poll: pb::CreatePoll) -> pb::Poll {
    let ack = session.command(Say::CreatePoll(poll)).await.unwrap();
    let event = session.find(|event| event.seq == ack.last_seq).await;
    match event.payload {
        Some(Payload::PollCreated(created)) => created.poll.unwrap(),
        other => panic!("not a poll: {other:?}"),
    }
}

/// A vote for these options.
fn vote(poll: &str, options: &[&str]) -> Say {
    let option_ids = options.iter().map(|id| (*id).to_owned()).collect();
    Say::CastVote(pb::CastVote { poll_id: poll.into(), option_ids, reason: String::new() })
}

/// An interrupt of these answers.
fn interrupt(llm: &str, answer: Option<&str>) -> Say {
    Say::Interrupt(pb::InterruptLlm { llm_id: llm.into(), message_id: answer.map(str::to_owned) })
}

/// An LLM to be added, whose name is its id.
fn add_llm(id: &str) -> Say {
    Say::AddLlm(pb::AddLlm { llm: Some(crate::harness::llm(id)) })
}
