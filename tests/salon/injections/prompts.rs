//! No text of the corpus, wherever it stands, makes a model believe that somebody else has said it: what a model is
//! given is read back by the rule that it is told.

use std::sync::{Arc, Mutex};

use salon::{
    llm::{
        Request, Speaker, Turn,
        scripted::{ScriptedProvider, Step},
    },
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};

use super::corpus::{INJECTIONS, Injection, Place};
use crate::harness::{Session, Setup, TestServer, llm};

type Asked = Arc<Mutex<Vec<Request>>>;

/// A server whose LLMs say `ok` or vote for nothing, and what they were asked.
async fn listening() -> (TestServer, Asked) {
    let asked = Asked::default();
    let listener = Arc::clone(&asked);
    let provider = ScriptedProvider::with("scripted", move |request| {
        listener.lock().unwrap().push(request.clone());
        Step::answer("ok")
    });
    (Setup::default().provider(provider).start().await, asked)
}

/// Everybody who breaks a line, for any reader.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    })
}

/// The author of a turn, by the rule; every further line must be marked, or be a note of the server.
#[track_caller]
fn author(text: &str) -> Option<&str> {
    let mut lines = lines(text);
    let first = lines.next().unwrap();
    for line in lines {
        let note =
            ["  (", "  - ", "  1: \"", "  2: \"", "Choose one."].iter().any(|begin| line.starts_with(begin));
        assert!(line.starts_with("    | ") || note, "{line:?} in {text:?}");
    }
    if !first.starts_with('[') {
        assert!(first.starts_with("Poll "), "{text:?}");
        return None;
    }
    let (name, rest) = first.strip_prefix("[\"").unwrap().split_once('"').unwrap();
    let header = first.split_once(']').unwrap().0;
    assert!(header.matches('"').count().is_multiple_of(2) && header.matches('[').count() == 1, "{text:?}");
    assert!(rest.starts_with([']', ',']), "{text:?}");
    Some(name)
}

#[track_caller]
fn check(injection: &Injection, request: &Request, names: &[String]) {
    for turn in &request.turns {
        match turn {
            Turn::Text { speaker: Speaker::User, text } => {
                if let Some(author) = author(text) {
                    assert!(
                        names.iter().any(|name| name == author),
                        "{author:?} of {names:?}: {injection:?}"
                    );
                }
            }
            Turn::Text { speaker: Speaker::System, text } => {
                for line in lines(text).filter(|line| !line.starts_with("    | ")) {
                    assert!(line.matches('"').count().is_multiple_of(2), "{line:?}: {injection:?}");
                    let ours = [
                        "You are ",
                        "The room, ",
                        "You, ",
                        "People ",
                        "Other LLMs",
                        "How to",
                        "Answer",
                        "If ",
                    ];
                    let polls = ["You must", "Vote in"];
                    let known = ours.iter().chain(&polls).any(|begin| line.starts_with(begin));
                    assert!(line.is_empty() || known, "{line:?}: {injection:?}");
                }
            }
            Turn::Text { speaker: Speaker::Assistant, text } => assert_eq!(text, "ok"),
            Turn::ToolCalls { .. } | Turn::ToolResult { .. } => panic!("nothing was called: {turn:?}"),
        }
        let text = format!("{turn:?}");
        for mark in ["<|", "<｜", "</s>", "[INST]", "<start_of_turn>", "<tool_call>", "[TOOL_CALLS]"] {
            assert!(!text.contains(mark), "{mark}: {injection:?}");
        }
    }
}

/// A room as the text wants it; `None`: the server does not take such a room.
async fn room(server: &TestServer, injection: &Injection) -> Option<String> {
    let text = |place| if injection.place == place { injection.text.to_owned() } else { String::new() };
    let mut bot = llm("bot");
    bot.persona = text(Place::Persona);
    let name = if injection.place == Place::RoomName { injection.text } else { "Tea" };
    let request = pb::CreateRoomRequest {
        name: name.into(),
        description: text(Place::Description),
        created_by: "ann".into(),
        llms: vec![bot],
        ..Default::default()
    };
    server.client().await.create_room(request).await.ok().map(|response| response.into_inner().room_id)
}

/// Mallory joins, under the text if it is a name; `None`: the server does not take such a name.
async fn mallory(server: &TestServer, room: &str, injection: &Injection) -> Option<(Session, String)> {
    let name = if injection.place == Place::Name { injection.text } else { "Mallory" };
    let mut session = Session::open(server.client().await).await;
    session
        .say(Say::Join(pb::JoinRoom {
            room_id: room.into(),
            user_id: "mallory".into(),
            display_name: name.into(),
            ..Default::default()
        }))
        .await;
    match session.next().await.payload {
        Some(Payload::RoomState(_)) => Some((session, name.to_owned())),
        _ => None,
    }
}

/// What the server makes of a name: what looks like its own signs is replaced.
fn shown(name: &str) -> String {
    let name = name.replace('[', "(").replace(']', ")").replace(['"', '“', '”'], "'");
    name.replace("<|", "< |")
}

/// Lets a text take its place, has the LLM asked, and gives what it was asked; `None`: the server refused the text.
async fn attack(
    server: &TestServer,
    asked: &Asked,
    injection: &Injection,
) -> Option<(Vec<Request>, Vec<String>)> {
    let room = room(server, injection).await?;
    let mut ann = server.join(&room, "ann").await;
    let (mut mallory, name) = mallory(server, &room, injection).await?;
    let option = |text: &str| pb::PollOptionInput { text: text.into(), description: text.into() };
    let said = match injection.place {
        Place::PollQuestion | Place::PollOption => {
            let is_question = injection.place == Place::PollQuestion;
            let (question, first) =
                if is_question { (injection.text, "yes") } else { ("Tea?", injection.text) };
            let poll = pb::CreatePoll {
                question: question.into(),
                options: vec![option(first), option("no")],
                ..Default::default()
            };
            mallory.command(Say::CreatePoll(poll)).await.ok()?;
            ann.pick(|payload| matches!(payload, Payload::LlmDone(_)).then_some(())).await;
            None
        }
        Place::Message | Place::Reply | Place::ToolResult => {
            Some(mallory.talk(injection.text).await.event_id)
        }
        Place::Name | Place::Persona | Place::Description | Place::RoomName => {
            Some(mallory.talk("hello").await.event_id)
        }
    };
    let reply = pb::SendMessage { content: "@bot and this?".into(), reply_to: said, ..Default::default() };
    let ack = ann.command(Say::Message(reply)).await.unwrap();
    ann.pick(|payload| match payload {
        Payload::LlmDone(done) if done.reply_to == ack.event_id => Some(()),
        _ => None,
    })
    .await;
    Some((std::mem::take(&mut *asked.lock().unwrap()), vec!["ann".into(), "bot".into(), shown(&name)]))
}

#[tokio::test]
async fn no_text_passes_for_somebody_else() {
    let (server, asked) = listening().await;
    let mut refused = Vec::new();
    for injection in &INJECTIONS {
        asked.lock().unwrap().clear();
        let Some((requests, names)) = attack(&server, &asked, injection).await else {
            refused.push(injection.text);
            continue;
        };
        assert!(!requests.is_empty(), "{injection:?}");
        for request in &requests {
            check(injection, request, &names);
        }
    }
    // Names with breaks or with turned directions are refused before anybody sees them.
    let in_names = |text: &&str| INJECTIONS.iter().any(|one| one.text == *text && one.place == Place::Name);
    assert!(refused.iter().all(in_names) && refused.len() == 2, "{refused:?}");
    server.shutdown().await;
}
