//! Two whole servers on one schema, with no bus between them: slower than with one, and no less right.

use std::time::Duration;

use salon::{
    store,
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};

use super::Schema;
use crate::harness::{Session, Setup, TestServer};

async fn server(schema: &Schema) -> TestServer {
    let store = store::open(&schema.config()).await.unwrap();
    let setup = Setup::default().store(store);
    setup.config(|config| config.bus.head_check = Duration::from_millis(100)).start().await
}

/// Waits until this has been said; returns its position.
async fn hears(session: &mut Session, text: &str) -> u64 {
    let said = |event: &pb::ServerEvent| match &event.payload {
        Some(Payload::MessageReceived(received)) => {
            received.message.as_ref().is_some_and(|m| m.content == text)
        }
        _ => false,
    };
    session.find(said).await.seq
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_at_one_server_is_heard_and_known_at_the_other() {
    let Some(schema) = Schema::new().await else { return };
    let (here, there) = (server(&schema).await, server(&schema).await);
    let room = here.room(&[]).await;
    let mut ann = here.join(&room, "ann").await;
    let mut bob = there.join(&room, "bob").await;
    for n in 0..5 {
        let (ours, theirs) = (format!("ann {n}"), format!("bob {n}"));
        let said = ann.talk(&ours).await.seq;
        assert_eq!(hears(&mut bob, &ours).await, said);
        let said = bob.talk(&theirs).await.seq;
        assert_eq!(hears(&mut ann, &theirs).await, said);
    }

    // A message needs no fence: whom the other has added is known before it is decided whom it calls.
    let mut admin = here.join(&room, "admin").await;
    let added = Say::AddLlm(pb::AddLlm { llm: Some(crate::harness::llm("ada")) });
    let added = admin.command(added).await.unwrap().seq;
    bob.find(|event| event.seq >= added).await;
    bob.talk("@ada what do you think?").await;
    let thinks = |payload: &Payload| match payload {
        Payload::LlmThinking(thinking) => Some(thinking.llm_id.clone()),
        _ => None,
    };
    assert_eq!(bob.pick(thinks).await, "ada");
    let done = |payload: &Payload| matches!(payload, Payload::LlmDone(_)).then_some(());
    bob.pick(done).await;

    // Both decide at once on a state that the other changes: what is decided on the old one is decided again.
    let poll = pb::CreatePoll {
        question: "tea?".into(),
        options: ["yes", "no"]
            .map(|text| pb::PollOptionInput { text: text.into(), ..Default::default() })
            .to_vec(),
        ..Default::default()
    };
    let (ours, theirs) =
        tokio::join!(ann.command(Say::CreatePoll(poll.clone())), bob.command(Say::CreatePoll(poll)));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_ne!(ours.seq, theirs.seq);

    let log = here.log(&room).await;
    assert!(log.iter().map(|event| event.seq).eq(1..=u64::try_from(log.len()).unwrap()));
    // The LLM may be voting still.
    assert!(there.log(&room).await.starts_with(&log), "two logs of one room");
    here.shutdown().await;
    there.shutdown().await;
    schema.drop().await;
}
