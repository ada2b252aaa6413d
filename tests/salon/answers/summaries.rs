//! What an LLM is not given any more is summarised: in the background, as part of the log, and never from what was
//! deleted.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use salon::{
    clock::Timestamp,
    domain::{
        command::{Actor, Command, RunOutcome},
        llm::{Run, RunEnd, RunReport},
    },
    ids::{LlmId, MessageId, RoomId},
    llm::{
        ErrorKind, Finish, Request, Turn,
        scripted::{ScriptedProvider, Step},
    },
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};
use tokio::time::{Duration, sleep, timeout};
use uuid::Uuid;

use crate::harness::{Session, Setup, TestServer, session::message, until};

/// The model that writes summaries.
const NOTES: &str = "notes";

/// LLMs are given ten messages; a summary is due when five more were left out.
fn short_memory(setup: Setup) -> Setup {
    setup.config(|config| {
        config.llm.history_messages = 10;
        config.llm.summary.after = 5;
        config.llm.summary.model = Some(NOTES.into());
    })
}

fn told(request: &Request) -> String {
    let text = |turn: &Turn| match turn {
        Turn::Text { text, .. } => format!("{text}\n"),
        Turn::ToolCalls { .. } | Turn::ToolResult { .. } => String::new(),
    };
    request.turns.iter().map(text).collect()
}

/// Asks, and waits for the end of the answer.
async fn ask(session: &mut Session, content: &str) {
    let asked = session.talk(content).await.event_id;
    let done = |payload: &Payload| match payload {
        Payload::LlmDone(done) if done.reply_to == asked => Some(()),
        _ => None,
    };
    session.pick(done).await;
}

async fn summarised(session: &mut Session) -> pb::ContextSummary {
    let pick = |payload: &Payload| match payload {
        Payload::ContextSummarised(summarised) => summarised.summary.clone(),
        _ => None,
    };
    session.pick(pick).await
}

#[tokio::test]
async fn what_is_left_out_is_summarised_and_told_and_forgotten_with_what_was_deleted() {
    let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
    let listener = Arc::clone(&asked);
    let provider = ScriptedProvider::with("scripted", move |request| {
        listener.lock().unwrap().push(request.clone());
        if request.model == NOTES {
            return vec![Step::text(" Tea was"), Step::text(" chosen. "), Step::Done(Finish::Stop)];
        }
        Step::answer("ok")
    });
    let server = short_memory(Setup::default()).provider(provider).start().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut said = Vec::new();
    for n in 1..=14 {
        said.push(ann.talk(&format!("word-{n}-")).await);
    }
    ask(&mut ann, "@bot well?").await;
    let summary = summarised(&mut ann).await;
    // Ten with the question: the first five were left out.
    assert_eq!((summary.text.as_str(), summary.up_to_seq), ("Tea was chosen.", said[4].last_seq));
    assert_eq!(summary.model, NOTES);
    let requests = std::mem::take(&mut *asked.lock().unwrap());
    let written = requests.iter().find(|request| request.model == NOTES).unwrap();
    let notes = told(written);
    assert!(notes.contains("[\"ann\"] word-1-\n") && notes.contains("word-5-"), "{notes}");
    assert!(!notes.contains("word-6-") && written.tools.is_empty(), "{notes}");

    ask(&mut ann, "@bot again?").await;
    let answered = asked.lock().unwrap().pop().unwrap();
    assert!(told(&answered).contains("written by a program that read it:\n    | Tea was chosen.\n"));

    let delete = pb::DeleteMessage { message_id: said[0].event_id.clone() };
    ann.command(Say::DeleteMessage(delete)).await.unwrap();
    asked.lock().unwrap().clear();
    ask(&mut ann, "@bot still?").await;
    let requests = |model: &str| -> Vec<String> {
        asked.lock().unwrap().iter().filter(|request| request.model == model).map(told).collect()
    };
    assert!(!requests("")[0].contains("Tea was chosen"), "it may hold what was deleted");
    summarised(&mut ann).await;
    let notes = requests(NOTES).concat();
    assert!(notes.contains("word-2-") && !notes.contains("word-1-") && !notes.contains("Tea was"), "{notes}");
    server.shutdown().await;
}

/// An answer of `bot` in which a tool had a part.
async fn said_from_outside(server: &TestServer, room: &str, reply_to: &str) {
    let (room, message_id) = (RoomId::parse(room).unwrap(), MessageId(Uuid::now_v7()));
    let run = Run {
        message_id,
        llm_id: LlmId::parse("bot").unwrap(),
        llm_name: String::new(),
        reply_to: MessageId(reply_to.parse().unwrap()),
        poll_id: None,
        chain_depth: 0,
        asked_by: None,
        started_at: Timestamp(0),
        replaces: None,
        turn: None,
        model: String::new(),
    };
    let outcome = RunOutcome {
        message_id,
        end: RunEnd::Completed,
        text: "The file says tea.".into(),
        mentions: Vec::new(),
        outside: vec!["files__read".into()],
        report: RunReport::default(),
    };
    let rooms = &server.server.graph().rooms;
    rooms.submit(&room, Actor::Server, Command::StartRun(run)).await.unwrap();
    rooms.submit(&room, Actor::Server, Command::FinishRun(outcome)).await.unwrap();
}

#[tokio::test]
async fn what_is_made_of_text_from_outside_stays_so_also_by_way_of_a_summary() {
    let provider = ScriptedProvider::with("scripted", |_| Step::answer("so it is"));
    let server = short_memory(Setup::default()).provider(provider).start().await;
    let room = server.room(&["bot", "ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let sources = |payload: &Payload| match payload {
        Payload::MessageReceived(received) => {
            let message = received.message.as_ref().unwrap();
            (message.sender_id == "ada").then(|| message.outside_sources.clone())
        }
        _ => None,
    };
    let first = ann.talk("@ada clean?").await.event_id;
    assert_eq!(ann.pick(sources).await, Vec::<String>::new());
    said_from_outside(&server, &room, &first).await;
    ask(&mut ann, "@ada read this").await;
    assert_eq!(ann.pick(sources).await, ["files__read"]);
    // Far enough that neither the answer of the tool nor what was made of it is given any more.
    for n in 0..20 {
        ann.talk(&format!("{n}")).await;
    }
    ask(&mut ann, "@ada forgotten?").await;
    assert_eq!(ann.pick(sources).await, Vec::<String>::new(), "nothing of it was given");
    assert_eq!(summarised(&mut ann).await.outside_sources, ["files__read"]);
    ask(&mut ann, "@ada remembered?").await;
    assert_eq!(ann.pick(sources).await, ["files__read"]);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_summary_that_fails_is_tried_again_later_and_answers_go_on() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let provider = ScriptedProvider::with("scripted", move |request| {
        if request.model != NOTES {
            return Step::answer("ok");
        }
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => vec![Step::Error(salon::llm::Error {
                kind: ErrorKind::Overloaded,
                provider: "scripted".into(),
                message: "busy".into(),
                retry_after: None,
            })],
            _ => Step::answer("Notes."),
        }
    });
    let setup = short_memory(Setup::default().virtual_time()).provider(provider);
    let server = setup.start_without_port().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    for n in 1..=20 {
        ann.talk(&format!("{n}")).await;
    }
    ask(&mut ann, "@bot one").await;
    until("the first try", || tries.load(Ordering::SeqCst) == 1).await;
    sleep(Duration::from_secs(10)).await;
    ask(&mut ann, "@bot two").await;
    sleep(Duration::from_secs(15)).await;
    assert_eq!(tries.load(Ordering::SeqCst), 1, "not yet");
    sleep(Duration::from_secs(10)).await;
    ask(&mut ann, "@bot three").await;
    assert_eq!(summarised(&mut ann).await.text, "Notes.");
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    server.shutdown().await;
}

/// Asks `bot`, and plays both its answer and the summary that is begun by it, up to where `meanwhile` comes in.
async fn played(
    session: &mut Session,
    script: &mut salon::llm::scripted::Script,
    change: Option<Say>,
) -> String {
    let mut notes = None;
    // While the last one is being put away no other is begun.
    while notes.is_none() {
        session.say(message("@bot well?")).await;
        let mut answered = false;
        while !answered || notes.is_none() {
            let Ok(call) = timeout(Duration::from_secs(1), script.next_call()).await else { break };
            let mut call = call.unwrap();
            if call.request.model == NOTES {
                notes = Some(call);
            } else {
                call.text("ok").await;
                answered = call.done(Finish::Stop).await;
            }
        }
    }
    let mut notes = notes.unwrap();
    if let Some(change) = change {
        session.command(change).await.unwrap();
    }
    let given = told(&notes.request);
    notes.text("Tea.").await;
    notes.done(Finish::Stop).await;
    given
}

#[tokio::test]
async fn a_text_is_thrown_away_only_if_what_it_was_made_of_has_changed() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = short_memory(Setup::default()).provider(provider).start().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut said = Vec::new();
    for n in 1..=14 {
        said.push(ann.talk(&format!("word-{n}-")).await);
    }
    let edit = |ack: &pb::Ack, content: &str| {
        let (message_id, content) = (ack.event_id.clone(), content.to_owned());
        Some(Say::EditMessage(pb::EditMessage { message_id, content, ..Default::default() }))
    };
    let given = played(&mut ann, &mut script, edit(&said[0], "changed-1-")).await;
    assert!(given.contains("word-1-"), "{given}");
    // The next one is made of the new text, and what nobody has summarised may change meanwhile.
    let given = played(&mut ann, &mut script, edit(&said[13], "changed-14-")).await;
    assert!(given.contains("changed-1-") && !given.contains("word-1-"), "{given}");
    let first = summarised(&mut ann).await;
    let log = server.log(&room).await;
    let count = log.iter().filter(|e| matches!(e.payload, Some(Payload::ContextSummarised(_)))).count();
    assert_eq!(count, 1, "the first text is in no log");

    for n in 15..=21 {
        said.push(ann.talk(&format!("word-{n}-")).await);
    }
    played(&mut ann, &mut script, None).await;
    assert!(summarised(&mut ann).await.up_to_seq > first.up_to_seq);
    // Behind the first summary: it stays, and only what follows it is read again.
    let delete = pb::DeleteMessage { message_id: said[10].event_id.clone() };
    ann.command(Say::DeleteMessage(delete)).await.unwrap();
    let given = played(&mut ann, &mut script, None).await;
    assert!(given.contains("The notes so far:") && given.contains("word-10-"), "{given}");
    assert!(!given.contains("word-11-") && !given.contains("word-2-"), "{given}");
    server.shutdown().await;
}
