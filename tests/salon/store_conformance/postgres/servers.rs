//! Two whole servers on one schema, with no bus between them: slower than with one, and no less right.

use std::{sync::Arc, time::Duration};

use salon::{
    llm::scripted::{ScriptedProvider, Step},
    store,
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};

use super::Schema;
use crate::harness::{Session, Setup, TestServer};

async fn server(schema: &Schema) -> TestServer {
    let store = store::open::open(&schema.config()).await.unwrap();
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

    // What was acknowledged here is read there, whether or not its rooms have heard of it.
    for n in 0..20 {
        let said = ann.talk(&format!("once more {n}")).await.seq;
        assert!(there.log(&room).await.iter().any(|event| event.seq == said), "{said} is not in the log");
    }

    let log = here.log(&room).await;
    assert!(log.iter().map(|event| event.seq).eq(1..=u64::try_from(log.len()).unwrap()));
    // The LLM may be voting still.
    assert!(there.log(&room).await.starts_with(&log), "two logs of one room");
    here.shutdown().await;
    there.shutdown().await;
    schema.drop().await;
}

/// With the real clock, and so with a short lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_that_is_gone_has_left_is_closed_by_the_other() {
    let Some(schema) = Schema::new().await else { return };
    let start = async |config| {
        let provider = ScriptedProvider::with("scripted", |_| vec![Step::text("Once"), Step::Stall]);
        let setup = Setup::default().store(store::open::open(&config).await.unwrap()).provider(provider);
        let setup = setup.config(|config| {
            config.store.lease = Duration::from_secs(1);
            config.llm.budgets.server.tokens_per_day = Some(1_000_000);
        });
        setup.start().await
    };
    let lives = start(schema.config()).await;
    let living = lives.room(&["ada"]).await;
    let mut bob = lives.join(&living, "bob").await;
    bob.talk("@ada what is it?").await;
    // All that the other does is done in a runtime of its own, which goes at once and in no order, like a process.
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dies = process.spawn(start(schema.config())).await.unwrap();
    let room = dies.room(&["ada"]).await;
    let mut ann = dies.join(&room, "ann").await;
    ann.talk("@ada what is it?").await;
    let watching = Arc::clone(lives.server.graph().rooms.store());
    let open = async |runs: usize, held: usize| {
        let both = async {
            while watching.open_runs().await.unwrap().len() != runs
                || watching.open_reservations().await.unwrap().len() != held
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(crate::harness::DEADLINE, both).await.expect("they are never as many");
    };
    open(2, 2).await;
    process.shutdown_background();
    open(1, 1).await;
    let ended = |log: Vec<pb::ServerEvent>| {
        log.into_iter().filter(|event| matches!(event.payload, Some(Payload::LlmDone(_)))).count()
    };
    assert_eq!(ended(lives.log(&room).await), 1);
    assert_eq!(ended(lives.log(&living).await), 0, "its own is left alone");
    let leases = watching.leases().await.unwrap();
    assert_eq!(
        leases.iter().map(|lease| lease.node).collect::<Vec<_>>(),
        [lives.server.graph().identity.now()]
    );
    lives.shutdown().await;
    schema.drop().await;
}
