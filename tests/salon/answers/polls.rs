//! Polls put to LLMs: they vote or opt out, and what they write beside it is not said in the room.

use std::sync::Arc;

use salon::llm::{
    Finish, Request,
    scripted::{ScriptedProvider, Step},
};
use serde_json::{Value, json};

use super::*;

/// A poll of two options, put to ada and bob by ann; returns how both ended, ada first, and the votes.
async fn poll(
    mandatory: bool,
    reply: impl Fn(&Request, &str, &Value) -> Vec<Step> + Send + Sync + 'static,
) -> ([Answer; 2], Vec<pb::PollVoted>, Vec<Request>) {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let provider = ScriptedProvider::with("scripted", move |request| {
        seen.lock().unwrap().push(request.clone());
        let vote = request.tools.iter().find(|tool| tool.name == "vote_on_poll");
        let poll =
            vote.map_or(Value::Null, |tool| tool.parameters["properties"]["poll_id"]["enum"][0].clone());
        reply(request, &request.display_name, &poll)
    });
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada", "bob"]).await;
    let mut ann = server.join(&room, "ann").await;
    let options =
        ["red", "green"].map(|text| pb::PollOptionInput { text: text.into(), ..Default::default() });
    let question = "Which?".into();
    let create = pb::CreatePoll { question, options: options.into(), mandatory, ..Default::default() };
    ann.command(Say::CreatePoll(create)).await.unwrap();
    let created = ann.pick(|p| if let Payload::PollCreated(c) = p { c.poll.clone() } else { None }).await;
    let mut answers = [follow(&mut ann).await, follow(&mut ann).await];
    answers.sort_by_key(|answer| answer.thinking.llm_id.clone());
    for (answer, llm) in answers.iter().zip(["ada", "bob"]) {
        assert_eq!(answer.thinking.llm_id, llm);
        assert_eq!((&answer.thinking.poll_id, &answer.done.poll_id), (&created.poll_id, &created.poll_id));
        assert_eq!((answer.chunks.len(), answer.text()), (0, ""), "nothing is said aloud");
    }
    all_ended_once(&server, &room).await;
    let voted = |event| if let Some(Payload::PollVoted(vote)) = event { Some(vote) } else { None };
    let votes = server.log(&room).await.into_iter().filter_map(|event| voted(event.payload)).collect();
    server.shutdown().await;
    let asked = asked.lock().unwrap().clone();
    (answers, votes, asked)
}

#[tokio::test]
async fn llms_vote_with_a_reason_or_opt_out_with_one() {
    let (answers, votes, _) = poll(false, |_, name, poll| match name {
        "ada" => vec![
            Step::text("I like green."),
            Step::tool(
                "1",
                "vote_on_poll",
                &json!({"poll_id": poll, "option_ids": ["2"], "reason": "leaves"}),
            ),
            Step::Done(Finish::ToolCalls),
        ],
        _ => vec![
            Step::text("Hm."),
            Step::tool("1", "opt_out", &json!({"reason": "colour-blind"})),
            Step::Done(Finish::ToolCalls),
        ],
    })
    .await;
    assert_eq!(answers[0].done.reason(), Reason::Completed);
    assert_eq!(answers[1].done.reason(), Reason::OptedOut);
    assert_eq!(answers[1].done.detail, "colour-blind");
    let [vote] = votes.as_slice() else { panic!("{votes:?}") };
    let by = vote.vote.as_ref().unwrap();
    assert_eq!((by.voter_id.as_str(), by.reason.as_str(), vote.option_id.as_str()), ("ada", "leaves", "2"));
}

#[tokio::test]
async fn who_only_talks_has_not_voted_and_is_asked_again_if_it_must() {
    for mandatory in [false, true] {
        let (answers, votes, asked) = poll(mandatory, |_, _, _| Step::answer("Green, I think.")).await;
        // Why somebody has abstained is told in its own words.
        let detail = if mandatory { "Green, I think." } else { "did not vote" };
        for answer in answers {
            assert_eq!((answer.done.reason(), answer.done.detail.as_str()), (Reason::OptedOut, detail));
        }
        assert_eq!(votes, []);
        assert_eq!(asked.len(), if mandatory { 4 } else { 2 }, "mandatory: {mandatory}");
        for request in &asked {
            let names: Vec<_> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
            let offered: &[&str] = if mandatory { &["vote_on_poll"] } else { &["vote_on_poll", "opt_out"] };
            assert_eq!(names, offered, "mandatory: {mandatory}");
        }
        let reminded = asked.iter().filter(|request| told(request).contains("You have not voted")).count();
        assert_eq!(reminded, if mandatory { 2 } else { 0 });
    }
}

#[tokio::test]
async fn who_has_used_up_its_tools_gets_them_again_when_it_is_reminded() {
    let (answers, votes, asked) = poll(true, |request, _, poll| {
        let option = if told(request).contains("You have not voted") { "1" } else { "9" };
        let vote = json!({"poll_id": poll, "option_ids": [option]});
        vec![Step::tool("1", "vote_on_poll", &vote), Step::Done(Finish::ToolCalls)]
    })
    .await;
    assert!(answers.iter().all(|answer| answer.done.reason() == Reason::Completed), "{answers:?}");
    assert_eq!(votes.len(), 2);
    assert!(asked.iter().all(|request| !request.tools.is_empty()), "without tools nobody can vote");
    assert_eq!(asked.len(), 2 * (3 + 1), "each repeated itself before");
}

#[tokio::test]
async fn who_votes_when_asked_again_has_voted() {
    let (answers, votes, asked) = poll(true, |request, _, poll| {
        if told(request).contains("You have not voted") {
            let vote = json!({"poll_id": poll, "option_ids": ["1"]});
            return vec![Step::tool("1", "vote_on_poll", &vote), Step::Done(Finish::ToolCalls)];
        }
        Step::answer("Must I?")
    })
    .await;
    assert!(answers.iter().all(|answer| answer.done.reason() == Reason::Completed), "{answers:?}");
    assert_eq!((votes.len(), asked.len()), (2, 4));
}

#[tokio::test]
async fn nobody_opts_out_of_a_mandatory_poll() {
    let (answers, votes, _) = poll(true, |request, _, poll| {
        // Tries the tool that is not offered, is told so, and votes.
        let told = request.turns.iter().any(|turn| matches!(turn, salon::llm::Turn::ToolResult { .. }));
        let call = if told {
            Step::tool("2", "vote_on_poll", &json!({"poll_id": poll, "option_ids": ["1"]}))
        } else {
            Step::tool("1", "opt_out", &json!({}))
        };
        vec![call, Step::Done(Finish::ToolCalls)]
    })
    .await;
    assert!(answers.iter().all(|answer| answer.done.reason() == Reason::Completed), "{answers:?}");
    assert_eq!(votes.len(), 2);
}

#[tokio::test]
async fn closing_a_poll_stops_whoever_is_asked_and_asks_nobody_else() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let few = |config: &mut salon::config::Config| {
        config.llm.runs_per_room = 1;
        config.llm.max_tokens = 30;
    };
    let server = Setup::default().provider(provider).config(few).start().await;
    let room = server.room(&["ada", "bob"]).await;
    let mut ann = server.join(&room, "ann").await;
    let options =
        ["red", "green"].map(|text| pb::PollOptionInput { text: text.into(), ..Default::default() });
    let create = pb::CreatePoll { question: "Which?".into(), options: options.into(), ..Default::default() };
    ann.command(Say::CreatePoll(create)).await.unwrap();
    let created = ann.pick(|p| if let Payload::PollCreated(c) = p { c.poll.clone() } else { None }).await;
    let call = script.next_call().await.unwrap();
    assert_eq!(call.request.max_tokens, 30, "a vote is not longer than any answer may be");
    assert_eq!(server.run_count(), 2, "bob waits");
    ann.command(Say::ClosePoll(pb::ClosePoll { poll_id: created.poll_id })).await.unwrap();
    call.cancelled().await;
    let answer = follow(&mut ann).await;
    answer.assert_ended(Reason::Interrupted, "");
    assert_eq!(answer.done.detail, "the poll was closed");
    quiet(&server).await;
    let ended = all_ended_once(&server, &room).await;
    assert_eq!(ended.iter().map(|done| done.llm_id.as_str()).collect::<Vec<_>>(), ["ada"]);
    // An answer that is no vote goes on after that.
    ann.talk("@bob hello").await;
    assert_eq!(script.next_call().await.unwrap().request.display_name, "bob");
    server.shutdown().await;
}
