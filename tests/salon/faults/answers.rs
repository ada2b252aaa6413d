//! Answers of LLMs: what of them is told, kept and thrown away.

use std::{collections::BTreeMap, time::Duration};

use salon::llm::{
    Error, ErrorKind, Finish, Turn,
    scripted::{ScriptedProvider, Step},
};
use serde_json::json;

use super::{
    any_done, begun, chunk, conversation, create_poll, done, driven, ended, messages, poll, quiet, received,
    shared, thinking,
};
use crate::harness::{Session, Setup, session::is_lasting};
use salon::wire::pb::room::v1::{self as pb, LlmDoneReason as Reason, server_event::Payload};

fn overloaded() -> Error {
    let message = "key sk-secret of tenant 17 is over its quota".to_owned();
    Error { kind: ErrorKind::Overloaded, provider: "scripted".into(), message, retry_after: None }
}

#[tokio::test]
async fn fault_01_the_final_text_of_an_answer_is_broadcast_before_it_is_done() {
    let (server, mut model) = driven().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let asked = ann.talk("@bot hello?").await;
    let mut call = model.call().await;
    assert!(call.text("Hello ").await);
    assert!(call.text("Ann.").await);
    assert!(call.done(Finish::Stop).await);
    for session in [&mut ann, &mut bob] {
        let answer = thinking(session, "bot").await.message_id;
        let end = session.find(|event| matches!(event.payload, Some(Payload::LlmDone(_)))).await;
        let said = session.find(|event| event.event_id == answer).await;
        assert!(is_lasting(&said) && said.seq < end.seq, "{said:?} {end:?}");
        let Some(Payload::MessageReceived(said)) = said.payload else { panic!("{said:?}") };
        let said = said.message.unwrap();
        let reply_to = said.reply_to.as_deref();
        assert_eq!((said.content.as_str(), said.sender_id.as_str()), ("Hello Ann.", "bot"));
        assert_eq!(reply_to, Some(asked.event_id.as_str()));
        assert_eq!((said.sender_type(), said.partial), (pb::ParticipantType::Llm, false));
        let Some(Payload::LlmDone(end)) = end.payload else { panic!("{end:?}") };
        assert_eq!((end.message_id.as_str(), end.reason()), (answer.as_str(), Reason::Completed));
    }
    server.shutdown().await;
}

#[tokio::test]
async fn fault_02_who_joins_in_the_middle_of_an_answer_gets_its_beginning() {
    let (server, mut model) = driven().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    let asked = ann.talk("@bot count").await;
    let mut call = model.call().await;
    let answer = thinking(&mut ann, "bot").await.message_id;
    assert!(call.text("eins zwei über ").await);
    assert_eq!(chunk(&mut ann, &answer).await.content, "eins zwei über ");

    let mut bob = server.join(&room, "bob").await;
    let mut again = Session::resume(server.client().await, &room, "ann", asked.seq).await;
    let Some(Payload::Resumed(resumed)) = again.next().await.payload else { panic!("no resumed") };
    for active in [bob.state.active_answers.as_slice(), resumed.active_answers.as_slice()] {
        let [active] = active else { panic!("{active:?}") };
        assert_eq!((active.message_id.as_str(), active.llm_id.as_str()), (answer.as_str(), "bot"));
        assert_eq!((active.content.as_str(), &active.reply_to), ("eins zwei über ", &asked.event_id));
    }

    assert!(call.text("drei").await);
    for session in [&mut bob, &mut again] {
        let tail = chunk(session, &answer).await;
        assert_eq!((tail.content.as_str(), tail.offset), ("drei", 16));
    }
    assert!(call.done(Finish::Stop).await);
    assert_eq!(received(&mut bob, &answer).await.content, "eins zwei über drei");
    let late = server.join(&room, "late").await;
    done(&mut bob, &answer).await;
    assert!(server.join(&room, "later").await.state.active_answers.is_empty());
    drop(late);
    server.shutdown().await;
}

#[tokio::test]
async fn fault_03_what_is_stored_is_what_was_streamed_without_the_own_name() {
    let (server, mut model) = driven().await;
    let room = server.room(&["Bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    for (deltas, text) in [
        (vec!["Bo", "t", ": hel", "lo"], "hello"),
        (vec!["\n bot: Bot: hi Bot: you"], "hi Bot: you"),
        (vec!["Bo", "tany is fun"], "Botany is fun"),
        (vec!["Bot"], "Bot"),
    ] {
        ann.talk("@bot speak").await;
        let mut call = model.call().await;
        let answer = thinking(&mut ann, "Bot").await.message_id;
        for delta in &deltas {
            assert!(call.text(*delta).await);
        }
        assert!(call.done(Finish::Stop).await);
        let end = ann.find(|event| matches!(event.payload, Some(Payload::LlmDone(_)))).await;
        let mut streamed = String::new();
        while streamed.len() < text.len() {
            let next = chunk(&mut ann, &answer).await;
            assert_eq!(next.offset, streamed.len() as u64);
            streamed.push_str(&next.content);
        }
        let stored = received(&mut ann, &answer).await;
        assert!(end.seq > 0);
        assert_eq!((streamed.as_str(), stored.content.as_str()), (text, text), "{deltas:?}");
    }
    let request = pb::LoadHistoryRequest { room_id: room, ..Default::default() };
    let history = server.client().await.load_history(request).await.unwrap().into_inner().messages;
    let kept: Vec<&str> =
        history.iter().filter(|m| m.sender_id == "Bot").map(|m| m.content.as_str()).collect();
    assert_eq!(kept, ["hello", "hi Bot: you", "Botany is fun", "Bot"]);
    server.shutdown().await;
}

/// One LLM for each way to end, and how an answer and a poll's vote of it end.
const WAYS: [(&str, Reason, Reason); 8] = [
    ("answers", Reason::Completed, Reason::OptedOut),
    ("is-silent", Reason::OptedOut, Reason::OptedOut),
    ("opts-out", Reason::OptedOut, Reason::OptedOut),
    ("refuses", Reason::Failed, Reason::Failed),
    ("breaks", Reason::Failed, Reason::Failed),
    ("is-cut", Reason::Failed, Reason::Failed),
    ("stalls", Reason::TimedOut, Reason::TimedOut),
    ("panics", Reason::Failed, Reason::Failed),
];

#[tokio::test]
async fn fault_07_every_thinking_is_closed_by_exactly_one_done() {
    let provider = ScriptedProvider::with("scripted", |request| match request.display_name.as_str() {
        "answers" => Step::answer("here you are"),
        "is-silent" => vec![Step::Done(Finish::Stop)],
        "opts-out" => vec![Step::tool("1", "opt_out", &json!({})), Step::Done(Finish::ToolCalls)],
        "refuses" => vec![Step::Error(overloaded())],
        "breaks" => vec![Step::text("half a "), Step::Error(overloaded())],
        "is-cut" => vec![Step::text("half a ")],
        "stalls" => vec![Step::text("half a "), Step::Stall],
        other => panic!("told to, as {other}"),
    });
    let setup = Setup::default().config(|config| {
        config.llm.idle_timeout = Duration::from_millis(200);
        // So many fail that, in some orders, the model would be left alone.
        config.llm.breaker.failures = 1000;
    });
    let server = setup.provider(provider).start().await;
    let room = server.room(&WAYS.map(|(name, ..)| name)).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@all what do you say?").await;
    for _ in WAYS {
        any_done(&mut ann).await;
    }
    create_poll(&mut ann, poll("And you?", &["yes", "no"])).await;
    for _ in WAYS {
        any_done(&mut ann).await;
    }
    quiet(&server, &room).await;

    let log = server.log(&room).await;
    let (begun, ended) = (begun(&log), ended(&log));
    assert_eq!((begun.len(), ended.len()), (2 * WAYS.len(), 2 * WAYS.len()));
    let mut reasons: BTreeMap<(&str, bool), Reason> = BTreeMap::new();
    for begin in &begun {
        let ends: Vec<&pb::LlmDone> = ended.iter().filter(|end| end.message_id == begin.message_id).collect();
        let [end] = ends.as_slice() else { panic!("{begin:?}: {ends:?}") };
        assert_eq!((&end.llm_id, &end.poll_id), (&begin.llm_id, &begin.poll_id));
        reasons.insert((begin.llm_id.as_str(), begin.poll_id.is_empty()), end.reason());
    }
    for (name, answer, vote) in WAYS {
        assert_eq!((reasons[&(name, true)], reasons[&(name, false)]), (answer, vote), "{name}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn fault_09_an_error_of_a_provider_is_told_as_one_and_never_said_or_stored() {
    let (server, mut model) = driven().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@bot hello?").await;
    assert!(model.call().await.fail(overloaded()).await);
    let end = any_done(&mut ann).await;
    assert_eq!((end.reason(), end.error_code.as_str()), (Reason::Failed, "overloaded"));
    assert!(!end.error_message.is_empty());

    let log = server.log(&room).await;
    assert_eq!(messages(&log).iter().map(|m| m.sender_id.as_str()).collect::<Vec<_>>(), ["ann"]);
    assert!(!format!("{log:?}").contains("sk-secret"), "what the provider says is for the server's log only");

    ann.talk("@bot again?").await;
    let call = model.call().await;
    let told = conversation(&call.request);
    assert!(told.contains("again?") && !told.contains("overloaded") && !told.contains("sk-secret"), "{told}");
    assert!(call.done(Finish::Stop).await);
    any_done(&mut ann).await;
    server.shutdown().await;
}

#[tokio::test]
async fn fault_10_tools_return_their_results_to_the_model_which_goes_on() {
    let (server, mut model) = driven().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let lunch = create_poll(&mut ann, poll("Lunch?", &["pizza", "sushi"])).await;
    ann.command(super::vote(&lunch.poll_id, &["2"])).await.unwrap();
    ann.command(super::add_llm("bot")).await.unwrap();
    // Whoever comes while a poll is open is asked to vote, and may say nothing.
    assert!(model.call().await.done(Finish::Stop).await);
    any_done(&mut ann).await;
    ann.talk("@bot what is for lunch?").await;

    let mut call = model.call().await;
    call.tool("a", "get_active_polls", &json!({})).await;
    call.tool("b", "fly", &json!({})).await;
    call.done(Finish::ToolCalls).await;
    let mut call = model.call().await;
    let results: BTreeMap<&str, &str> = call
        .request
        .turns
        .iter()
        .filter_map(|turn| match turn {
            Turn::ToolResult { call_id, result } => Some((call_id.as_str(), result.as_str())),
            _ => None,
        })
        .collect();
    assert!(results["a"].contains(&lunch.poll_id) && results["a"].contains("sushi"), "{results:?}");
    assert!(results["b"].contains("no tool"), "{results:?}");
    call.text("Sushi.").await;
    call.done(Finish::Stop).await;
    let end = any_done(&mut ann).await;
    assert_eq!(end.reason(), Reason::Completed);
    assert_eq!(received(&mut ann, &end.message_id).await.content, "Sushi.");
    server.shutdown().await;
}

#[tokio::test]
async fn fault_10_a_model_that_calls_tools_for_ever_is_stopped() {
    let again = |_: &_| vec![Step::tool("1", "get_active_polls", &json!({})), Step::Done(Finish::ToolCalls)];
    let (setup, provider) = shared(ScriptedProvider::with("scripted", again));
    let server = setup.config(|config| config.llm.tool_rounds = 3).start().await;
    let room = server.room(&["bot"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@bot hello?").await;
    any_done(&mut ann).await;
    assert_eq!(provider.calls(), 4, "the first call and three with results");
    server.shutdown().await;
}

#[tokio::test]
async fn fault_10_opting_out_keeps_the_other_calls_of_the_turn_and_its_reason() {
    let (server, mut model) = driven().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let lunch = create_poll(&mut ann, poll("Lunch?", &["pizza", "sushi"])).await;
    ann.command(super::add_llm("bot")).await.unwrap();
    // Whoever comes while a poll is open is asked to vote, and may say nothing.
    assert!(model.call().await.done(Finish::Stop).await);
    any_done(&mut ann).await;
    ann.talk("@bot vote, please").await;
    let mut call = model.call().await;
    call.tool("a", "opt_out", &json!({"reason": "nothing to add"})).await;
    call.tool("b", "vote_on_poll", &json!({"poll_id": lunch.poll_id, "option_ids": ["1"]})).await;
    call.done(Finish::ToolCalls).await;
    let end = any_done(&mut ann).await;
    assert_eq!((end.reason(), end.detail.as_str()), (Reason::OptedOut, "nothing to add"));
    let voted = |payload: &Payload| match payload {
        Payload::PollVoted(voted) => Some(voted.clone()),
        _ => None,
    };
    let voted = ann.pick(voted).await;
    assert_eq!((voted.vote.unwrap().voter_id.as_str(), voted.option_id.as_str()), ("bot", "1"));
    assert!(messages(&server.log(&room).await).iter().all(|message| message.sender_id != "bot"));
    server.shutdown().await;
}

#[tokio::test]
async fn fault_10_calling_another_llm_without_a_text_is_not_lost() {
    let (server, mut model) = driven().await;
    let room = server.room(&["one", "two"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@one who knows?").await;
    let mut call = model.call().await;
    call.tool("a", "mention", &json!({"participant": "two", "context": "the weather"})).await;
    call.done(Finish::ToolCalls).await;
    // The result of the tool goes back; there is nothing more to say.
    assert!(model.call().await.done(Finish::Stop).await);
    let first = any_done(&mut ann).await;
    assert_eq!(first.reason(), Reason::Completed);
    let said = received(&mut ann, &first.message_id).await;
    assert_eq!(
        (said.content.as_str(), said.mentions.as_slice()),
        ("@two the weather", &["two".to_owned()][..])
    );

    let call = model.call().await;
    assert_eq!(call.request.display_name, "two");
    assert!(conversation(&call.request).contains("the weather"));
    assert!(call.done(Finish::Stop).await);
    assert_eq!(any_done(&mut ann).await.reply_to, first.message_id);
    server.shutdown().await;
}
