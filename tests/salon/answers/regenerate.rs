//! Another answer in the place of one: asked for, or because the question was edited.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use salon::llm::{
    ErrorKind, Finish, Request, Turn,
    scripted::{ScriptedProvider, Step},
};
use serde_json::json;

use super::*;

fn regenerate(message: &str, model: &str) -> Say {
    Say::Regenerate(pb::Regenerate { message_id: message.into(), model: model.into() })
}

fn edit(message: &str, content: &str) -> Say {
    let edit = pb::EditMessage { message_id: message.into(), content: content.into(), regenerate: true };
    Say::EditMessage(edit)
}

/// A server whose LLMs say `name 1`, `name 2`, …, and what they were asked.
async fn counting() -> (TestServer, String, Arc<Mutex<Vec<Request>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (seen, number) = (Arc::clone(&asked), AtomicUsize::new(0));
    let provider = ScriptedProvider::with("scripted", move |request| {
        seen.lock().unwrap().push(request.clone());
        let n = number.fetch_add(1, Ordering::SeqCst) + 1;
        Step::answer(format!("{} {n}", request.display_name))
    });
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada", "bob"]).await;
    (server, room, asked)
}

/// A message as the room has it now.
async fn now(server: &TestServer, room: &str, id: &str) -> pb::Message {
    let state = server.join(room, "reader").await.state;
    state.messages.into_iter().find(|message| message.message_id == id).unwrap()
}

async fn superseded(session: &mut Session) -> (String, String) {
    session
        .pick(|p| match p {
            Payload::MessageSuperseded(s) => Some((s.message_id.clone(), s.by_message_id.clone())),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn another_answer_takes_the_place_of_one_and_keeps_it_as_a_version() {
    let (server, room, asked) = counting().await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    ann.talk("before").await;
    let question = ann.talk("@ada the question").await.event_id;
    let old = follow(&mut ann).await;
    ann.talk("behind").await;
    // By anybody who may direct LLMs, and of another model.
    bob.command(regenerate(&old.thinking.message_id, "other-model")).await.unwrap();
    let new = follow(&mut ann).await;
    assert_eq!((new.thinking.reply_to.as_str(), new.thinking.llm_id.as_str()), (question.as_str(), "ada"));
    assert_eq!((&new.thinking.replaces, new.thinking.chain_depth), (&old.thinking.message_id, 0));
    new.assert_ended(Reason::Completed, "ada 2");
    let message = new.message.as_ref().unwrap();
    assert_eq!((&message.replaces, message.version), (&old.thinking.message_id, 2));
    let ids = (old.thinking.message_id.clone(), message.message_id.clone());
    assert_eq!(superseded(&mut ann).await, ids);
    let kept = now(&server, &room, &ids.0).await;
    assert_eq!((kept.content.as_str(), kept.version, &kept.superseded_by), ("ada 1", 1, &ids.1));
    {
        let asked = asked.lock().unwrap();
        let told = told(&asked[1]);
        assert_eq!(asked[1].model, "other-model");
        assert!(told.contains("before") && told.ends_with("[\"ann\"] @ada the question"), "{told}");
    }
    // Who is asked afterwards is told of the new version only, and of what was said since.
    ann.talk("@bob and you?").await;
    follow(&mut ann).await;
    let told = told(&asked.lock().unwrap()[2]);
    assert!(told.contains("ada 2") && !told.contains("ada 1") && told.contains("behind"), "{told}");
    // Only the newest version can be replaced.
    let refused = ann.command(regenerate(&ids.0, "")).await.unwrap_err();
    assert!(refused.message.contains(&ids.1), "{refused:?}");
    all_ended_once(&server, &room).await;
    server.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_fails_before_it_has_a_text_replaces_nothing() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let mut call = script.next_call().await.unwrap();
    assert!(call.text("old").await && call.done(Finish::Stop).await);
    let old = follow(&mut ann).await;
    let id = &old.thinking.message_id;
    ann.command(regenerate(id, "")).await.unwrap();
    let call = script.next_call().await.unwrap();
    assert_eq!(ann.command(regenerate(id, "")).await.unwrap_err().code, "already_exists", "one at a time");
    assert!(call.fail_with(ErrorKind::Overloaded).await);
    follow(&mut ann).await.assert_ended(Reason::Failed, "");
    let kept = now(&server, &room, id).await;
    assert_eq!((kept.content.as_str(), kept.superseded_by.as_str()), ("old", ""));
    // It can be tried again; what was said before an interrupt is kept, and does not take the place of a whole answer.
    ann.command(regenerate(id, "")).await.unwrap();
    let mut call = script.next_call().await.unwrap();
    assert!(call.text("half").await);
    let begun = thinking(&mut ann).await;
    let heard = chunk(&mut ann).await;
    ann.command(interrupt("ada", None)).await.unwrap();
    let partial = follow_from(&mut ann, begun, vec![heard]).await;
    partial.assert_ended(Reason::Interrupted, "half");
    let fragment = partial.thinking.message_id;
    assert_eq!(superseded(&mut ann).await, (fragment.clone(), id.clone()));
    assert_eq!(now(&server, &room, id).await.superseded_by, "");
    assert_eq!(now(&server, &room, &fragment).await.superseded_by, *id);
    // Nor is it told, and the whole one can still be replaced.
    ann.command(regenerate(id, "")).await.unwrap();
    let mut call = script.next_call().await.unwrap();
    assert!(call.text("new").await);
    let (begun, heard) = (thinking(&mut ann).await, chunk(&mut ann).await);
    let question = &begun.reply_to;
    // Edited meanwhile: what has been said of the new one is a fragment, and what follows replaces the whole one.
    ann.command(edit(question, "@ada hello again")).await.unwrap();
    call.cancelled().await;
    follow_from(&mut ann, begun.clone(), vec![heard]).await.assert_ended(Reason::Interrupted, "new");
    let mut call = script.next_call().await.unwrap();
    let told = told(&call.request);
    assert!(!told.contains("half") && !told.contains("old"), "{told}");
    assert!(call.text("whole").await && call.done(Finish::Stop).await);
    let whole = follow(&mut ann).await;
    whole.assert_ended(Reason::Completed, "whole");
    assert_eq!((&whole.thinking.replaces, whole.message.unwrap().version), (id, 2));
    server.shutdown().await;
}

#[tokio::test]
async fn an_old_answer_is_read_from_the_log() {
    let (server, room, asked) = counting().await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("long ago").await;
    ann.talk("@ada the question").await;
    let old = follow(&mut ann).await;
    for n in 0..60 {
        ann.talk(&format!("filler {n}")).await;
    }
    ann.command(regenerate(&old.thinking.message_id, "")).await.unwrap();
    let new = follow(&mut ann).await;
    new.assert_ended(Reason::Completed, "ada 2");
    assert_eq!(new.message.unwrap().version, 2);
    let told = told(&asked.lock().unwrap()[1]);
    assert!(told.contains("long ago") && told.ends_with("[\"ann\"] @ada the question"), "{told}");
    assert!(!told.contains("filler"), "{told}");
    server.shutdown().await;
}

#[tokio::test]
async fn an_edit_makes_the_answers_anew_and_asks_whoever_is_called_only_now() {
    let (server, room, asked) = counting().await;
    let mut ann = server.join(&room, "ann").await;
    let question = ann.talk("@ada red?").await.event_id;
    let old = follow(&mut ann).await;
    ann.talk("thanks").await;
    ann.command(edit(&question, "@ada @bob green?")).await.unwrap();
    let mut answers = [follow(&mut ann).await, follow(&mut ann).await];
    answers.sort_by_key(|answer| answer.thinking.llm_id.clone());
    let replaces = answers.each_ref().map(|answer| answer.thinking.replaces.clone());
    assert_eq!(replaces, [old.thinking.message_id.clone(), String::new()]);
    assert!(answers.iter().all(|answer| answer.thinking.reply_to == question));
    for request in &asked.lock().unwrap()[1..] {
        let told = told(request);
        assert!(told.ends_with("[\"ann\", edited] @ada @bob green?") && !told.contains("red?"), "{told}");
        assert!(!told.contains("ada 1") && !told.contains("thanks"), "{told}");
    }
    // The same text once more: each newest version, and nobody twice.
    ann.command(edit(&question, "@ada @bob green?")).await.unwrap();
    let again = [follow(&mut ann).await, follow(&mut ann).await];
    for answer in &again {
        assert!(answers.iter().any(|old| old.thinking.message_id == answer.thinking.replaces), "{answer:?}");
    }
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 5);
    server.shutdown().await;
}

#[tokio::test]
async fn an_answer_to_a_text_that_is_edited_meanwhile_ends_and_begins_anew() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let question = ann.talk("@ada red?").await.event_id;
    let mut call = script.next_call().await.unwrap();
    let begun = thinking(&mut ann).await;
    assert!(call.text("Red is").await);
    let heard = chunk(&mut ann).await;
    ann.command(edit(&question, "@ada green?")).await.unwrap();
    call.cancelled().await;
    let partial = follow_from(&mut ann, begun, vec![heard]).await;
    partial.assert_ended(Reason::Interrupted, "Red is");
    assert_eq!(partial.done.detail, "the question was edited");
    let mut call = script.next_call().await.unwrap();
    let told = told(&call.request);
    assert!(told.ends_with("[\"ann\", edited] @ada green?") && !told.contains("Red is"), "{told}");
    assert!(call.text("Green.").await && call.done(Finish::Stop).await);
    let new = follow(&mut ann).await;
    new.assert_ended(Reason::Completed, "Green.");
    assert_eq!(new.thinking.replaces, partial.thinking.message_id);
    // Before it has said anything, there is nothing whose place could be taken.
    let question = ann.talk("@ada red?").await.event_id;
    let call = script.next_call().await.unwrap();
    ann.command(edit(&question, "@ada blue?")).await.unwrap();
    call.cancelled().await;
    let mut call = script.next_call().await.unwrap();
    assert!(call.text("Blue.").await && call.done(Finish::Stop).await);
    follow(&mut ann).await.assert_ended(Reason::Interrupted, "");
    let new = follow(&mut ann).await;
    assert_eq!((new.text(), new.thinking.replaces.as_str()), ("Blue.", ""));
    quiet(&server).await;
    all_ended_once(&server, &room).await;
    server.shutdown().await;
}

#[tokio::test]
async fn another_answer_finds_no_poll_that_was_made_behind_the_question() {
    let (told_of, late) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(String::new())));
    let (seen, named) = (Arc::clone(&told_of), Arc::clone(&late));
    let provider = ScriptedProvider::with("scripted", move |request| {
        let call = |id: &str, tool: &str, arguments| Step::tool(id, tool, &arguments);
        let mut steps = if !request.tools.iter().any(|tool| tool.name == "get_poll_results") {
            vec![call("1", "opt_out", json!({}))]
        } else if matches!(request.turns.last(), Some(Turn::ToolResult { .. })) {
            seen.lock().unwrap().push(told(request));
            return Step::answer("I have looked.");
        } else {
            vec![
                call("1", "get_active_polls", json!({})),
                call("2", "get_poll_results", json!({})),
                call("3", "get_poll_results", json!({"poll_id": named.lock().unwrap().as_str()})),
            ]
        };
        steps.push(Step::Done(Finish::ToolCalls));
        steps
    });
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut looked = None;
    for question in ["Early?", "Late?"] {
        let options =
            ["yes", "no"].map(|text| pb::PollOptionInput { text: text.into(), ..Default::default() });
        let create =
            pb::CreatePoll { question: question.into(), options: options.into(), ..Default::default() };
        ann.command(Say::CreatePoll(create)).await.unwrap();
        let made = ann.pick(|p| if let Payload::PollCreated(c) = p { c.poll.clone() } else { None }).await;
        *late.lock().unwrap() = made.poll_id;
        follow(&mut ann).await.assert_ended(Reason::OptedOut, "");
        match &looked {
            None => {
                ann.talk("@ada what do we ask?").await;
                looked = Some(follow(&mut ann).await);
            }
            Some(old) => {
                ann.command(regenerate(&old.thinking.message_id, "")).await.unwrap();
                follow(&mut ann).await.assert_ended(Reason::Completed, "I have looked.");
            }
        }
    }
    let told_of = told_of.lock().unwrap().clone();
    let [first, again] = told_of.as_slice() else { panic!("{told_of:?}") };
    assert!(first.contains("Early?") && !first.contains("no such poll"), "{first}");
    assert!(again.contains("Early?") && !again.contains("Late?"), "{again}");
    assert!(again.contains("there is no such poll"), "{again}");
    server.shutdown().await;
}
