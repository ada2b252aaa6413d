//! Two servers with one store and one bus: whoever is on one of them stops, steers, approves and reads what is on the
//! other.

mod answers;
mod approvals;
mod autopilots;
mod hub;
mod interrupts;
mod observers;
mod reads;
mod rights;
mod rooms;
#[cfg(all(feature = "nats", feature = "postgres", feature = "redis"))]
mod servers;

use std::{sync::Arc, time::Duration};

use salon::{
    bus::BusMessage,
    llm::{
        Finish, Provider,
        scripted::{Call, Script, ScriptedProvider, Step},
    },
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};

use crate::harness::{Session, Setup, TestServer, gate::GatedStore};

use hub::Hub;

/// Two servers over one store.
struct Pair {
    a: TestServer,
    b: TestServer,
    store: Arc<GatedStore>,
    hub: Arc<Hub>,
}

impl Pair {
    /// A model for each.
    async fn start(a: impl Provider, b: impl Provider) -> Self {
        Self::of(Setup::default().provider(a), Setup::default().provider(b)).await
    }

    async fn of(a: Setup, b: Setup) -> Self {
        let (store, hub) = (Arc::new(GatedStore::shared()), Arc::new(Hub::default()));
        let (a, b) = (joined(a, &store, &hub), joined(b, &store, &hub));
        Self { a: a.start_without_port().await, b: b.start_without_port().await, store, hub }
    }

    /// A room with LLMs of these names.
    async fn room(&self, llms: &[&str]) -> String {
        self.a.room(llms).await
    }

    /// Nothing gets from one server to the other but by the store, and nobody looks at that.
    fn cut(&self) {
        self.hub.loses(|_| true);
    }

    async fn end(self) {
        self.a.shutdown().await;
        self.b.shutdown().await;
    }
}

fn joined(setup: Setup, store: &Arc<GatedStore>, hub: &Arc<Hub>) -> Setup {
    let setup = setup.store(Arc::clone(store) as _).shared_bus(hub.node());
    // What is found here must not have been found because some time has passed.
    setup.config(|config| config.bus.head_check = Duration::from_secs(60))
}

/// A model that must not be asked.
fn nobody() -> ScriptedProvider {
    ScriptedProvider::with("scripted", |request| panic!("it was asked: {request:?}"))
}

fn is_interrupt(message: &BusMessage) -> bool {
    matches!(message, BusMessage::Interrupt(_))
}

async fn thinking(session: &mut Session) -> pb::LlmThinking {
    session.pick(|p| if let Payload::LlmThinking(thinking) = p { Some(thinking.clone()) } else { None }).await
}

async fn done(session: &mut Session) -> pb::LlmDone {
    session.pick(|p| if let Payload::LlmDone(done) = p { Some(done.clone()) } else { None }).await
}

async fn chunk(session: &mut Session, content: &str) {
    session
        .find(|event| matches!(&event.payload, Some(Payload::LlmChunk(chunk)) if chunk.content == content))
        .await;
}

/// The next call, which has begun to be answered so.
async fn begins(script: &mut Script, text: &str) -> Call {
    let mut call = script.next_call().await.unwrap();
    assert!(call.text(text).await);
    call
}

fn interrupt(llm: &str, message: Option<&str>) -> Say {
    Say::Interrupt(pb::InterruptLlm { llm_id: llm.into(), message_id: message.map(str::to_owned) })
}

/// What a message has come to, by its id.
fn messages(log: &[pb::ServerEvent]) -> Vec<pb::Message> {
    let message = |event: &pb::ServerEvent| match &event.payload {
        Some(Payload::MessageReceived(received)) => received.message.clone(),
        _ => None,
    };
    log.iter().filter_map(message).collect()
}

/// Everything that a model was told.
fn told(call: &Call) -> String {
    format!("{:?}", call.request.turns)
}
