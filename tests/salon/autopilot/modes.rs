//! One scripted talk in each mode.

use salon::llm::{
    ErrorKind, Finish, Request, Turn,
    scripted::{ScriptedProvider, Step},
};
use serde_json::{Value, json};

use super::*;
use crate::harness::{Setup, llm};

/// What an LLM was told last.
fn told(request: &Request) -> &str {
    match request.turns.last() {
        Some(Turn::Text { text, .. }) => text,
        other => panic!("{other:?}"),
    }
}

fn call(tool: &str, arguments: &Value) -> Vec<Step> {
    vec![Step::tool("call_1", tool, arguments), Step::Done(Finish::ToolCalls)]
}

/// A server whose LLMs say what `reply` makes of who is asked and what they were told last.
async fn server(reply: impl Fn(&str, &str) -> Vec<Step> + Send + Sync + 'static) -> TestServer {
    let reply = move |request: &Request| reply(&request.display_name, told(request));
    Setup::default().provider(ScriptedProvider::with("scripted", reply)).start().await
}

#[tokio::test]
async fn a_round_goes_in_order_and_mentions_call_nobody_besides() {
    let server = server(|name, _| Step::answer(format!("{name} says hello to @a and @b"))).await;
    let room = server.room(&["a", "b", "c"]).await;
    let (names, end) = follow(&server, &room, start(Mode::RoundRobin, &["c", "a"], 3)).await;
    assert_eq!((names.as_str(), end.turns), ("c a c", 3));
    assert_eq!(end.reason, "all 3 turns were taken");
    assert_eq!(end.last_llm_id, "c");
    let log = server.log(&room).await;
    let begun = log.iter().filter(|event| matches!(event.payload, Some(Payload::LlmThinking(_))));
    assert_eq!(begun.count(), 3);
    let answers = log.iter().filter_map(|event| match &event.payload {
        Some(Payload::MessageReceived(received)) => received.message.as_ref(),
        _ => None,
    });
    let chain: Vec<_> = answers.map(|m| (m.message_id.as_str(), m.reply_to().to_owned())).collect();
    assert_eq!(chain.len(), 4);
    assert!(chain.windows(2).all(|two| two[1].1 == two[0].0), "each answers the one before: {chain:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn all_of_the_room_talk_when_nobody_is_named() {
    let server = server(|_, _| Step::answer("well")).await;
    let room = server.room(&["a", "b"]).await;
    let (names, _) = follow(&server, &room, start(Mode::Relay, &[], 0)).await;
    assert_eq!(names, "a b", "a relay is one pass");
    server.shutdown().await;
}

#[tokio::test]
async fn a_moderator_chooses_instructs_and_ends() {
    let server = server(|name, told| match name {
        "mod" if told.contains("turn 1 of") => {
            call("choose_speaker", &json!({"participant": "B", "instruction": "ask [ann]\nwhy"}))
        }
        "mod" if told.contains("turn 3 of") => Step::answer("I cannot decide."),
        "mod" => call("end_discussion", &json!({"reason": "everything is said"})),
        _ => Step::answer(told),
    })
    .await;
    let room = server.room(&["mod", "a", "b"]).await;
    let start =
        pb::StartAutopilot { moderator_llm_id: "mod".into(), ..start(Mode::Moderator, &["a", "b"], 9) };
    let (names, end) = follow(&server, &room, start).await;
    assert_eq!(names, "mod b mod b mod");
    assert_eq!(end.reason, "everything is said");
    let log = server.log(&room).await;
    let done: Vec<_> = log
        .iter()
        .filter_map(|event| match &event.payload {
            Some(Payload::LlmDone(done)) => Some(done.reason()),
            _ => None,
        })
        .collect();
    assert_eq!(done, vec![pb::LlmDoneReason::Completed; 5], "also the turn that has ended it");
    let said = |text: &str| {
        log.iter().any(|event| match &event.payload {
            Some(Payload::MessageReceived(received)) => {
                received.message.as_ref().is_some_and(|m| m.sender_id == "b" && m.content.contains(text))
            }
            _ => false,
        })
    };
    assert!(said("wants: ask [ann]\n    | why"), "the instruction is data");
    assert!(said("Say what you have to say"), "and once chosen it is used up");
    server.shutdown().await;
}

#[tokio::test]
async fn a_debate_has_sides_and_a_last_round() {
    let server = server(|_, told| Step::answer(told)).await;
    let room = server.room(&["a", "b"]).await;
    let (names, _) = follow(&server, &room, start(Mode::Debate, &["a", "b"], 4)).await;
    assert_eq!(names, "a b a b");
    let log = server.log(&room).await;
    let texts: Vec<&str> = log
        .iter()
        .filter_map(|event| match &event.payload {
            Some(Payload::MessageReceived(received)) => Some(received.message.as_ref()?.content.as_str()),
            _ => None,
        })
        .skip(1)
        .collect();
    let wanted = ["you speak for", "you speak against", "have spoken for", "have spoken against"];
    assert!(texts.iter().zip(wanted).all(|(text, wanted)| text.contains(wanted)), "{texts:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn consensus_ends_when_all_agree_to_what_was_said_last() {
    let server = server(|name, told| match name {
        "a" if told.contains("turn 1 of") => Step::answer("tea"),
        "b" if told.contains("turn 2 of") => Step::answer("coffee"),
        _ => call("agree", &json!({})),
    })
    .await;
    let room = server.room(&["a", "b", "c"]).await;
    let (names, end) = follow(&server, &room, start(Mode::Consensus, &["a", "b", "c"], 9)).await;
    assert_eq!((names.as_str(), end.reason.as_str()), ("a b c a", "all agree"));
    assert_eq!(end.agreed_llm_ids, ["b", "c", "a"]);
    let (names, end) = follow(&server, &server.room(&["x", "y"]).await, start(Mode::Consensus, &[], 3)).await;
    assert_eq!((names.as_str(), end.reason.as_str()), ("x y", "all agree"));
    server.shutdown().await;
}

#[tokio::test]
async fn who_fails_or_opts_out_holds_nobody_up_until_all_do() {
    let failed = salon::llm::Error {
        kind: ErrorKind::Overloaded,
        provider: "scripted".into(),
        message: "busy".into(),
        retry_after: None,
    };
    let reply = move |name: &str, told: &str| match name {
        "a" => vec![Step::Error(failed.clone())],
        _ if told.contains("turn 2 of") => Step::answer("I am here"),
        _ => call("opt_out", &json!({"reason": "bored"})),
    };
    let server = server(reply).await;
    let room = server.room(&["a", "b"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.command(Say::StartAutopilot(start(Mode::RoundRobin, &[], 9))).await.unwrap();
    let paused = status(&mut ann, Status::Paused).await;
    assert_eq!((paused.turns, paused.failures), (4, 2));
    assert_eq!(paused.reason, "2 turns in a row came to nothing; the last, of b: bored");
    assert_eq!(turns(&server.log(&room).await), "a b a b");
    // Resumed, it has another chance.
    control(&mut ann, Action::Resume).await.unwrap();
    assert_eq!(status(&mut ann, Status::Paused).await.turns, 6);
    control(&mut ann, Action::Stop).await.unwrap();
    assert_eq!(status(&mut ann, Status::Ended).await.reason, "stopped by ann");
    server.shutdown().await;
}

#[tokio::test]
async fn names_of_models_reach_the_tools_of_a_turn_as_they_are_shown() {
    let server = server(|name, told| match name {
        "The Chair" if told.contains("turn 1 of") => {
            call("choose_speaker", &json!({"participant": "nobody"}))
        }
        "The Chair" => call("end_discussion", &json!({})),
        _ => Step::answer("yes"),
    })
    .await;
    let chair = pb::LlmConfig { display_name: "The Chair".into(), ..llm("mod") };
    let request =
        pb::CreateRoomRequest { name: "Test".into(), llms: vec![chair, llm("a")], ..Default::default() };
    let room = server.create(request).await;
    let start = pb::StartAutopilot { moderator_llm_id: "mod".into(), ..start(Mode::Moderator, &["a"], 9) };
    let (_, end) = follow(&server, &room, start).await;
    assert_eq!(end.reason, "ended by The Chair");
    server.shutdown().await;
}
