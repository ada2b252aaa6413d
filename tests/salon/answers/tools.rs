//! The tools of an LLM over the wire: their results reach the model, their effects the room.

use salon::llm::{
    Finish,
    scripted::{ScriptedProvider, Step},
};
use serde_json::{Value, json};

use super::*;
use crate::fake_openai::Received;

/// What the model was told of its calls, in order, in this request.
fn results(request: &Received) -> Vec<Value> {
    let messages = request.body["messages"].as_array().unwrap();
    let results = messages.iter().filter(|message| message["role"] == "tool");
    results.map(|result| serde_json::from_str(result["content"].as_str().unwrap()).unwrap()).collect()
}

/// One turn of the model: a text and calls of tools with these arguments, as written.
fn turn(text: &str, calls: &[(&str, &str)]) -> Reply {
    let mut reply = Reply::stream();
    if !text.is_empty() {
        reply = reply.delta(&json!({ "content": text }));
    }
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let function = json!({"name": name, "arguments": arguments});
        let id = format!("call_{index}");
        reply = reply.tool(&json!({"index": index, "id": id, "type": "function", "function": function}));
    }
    reply.end(if calls.is_empty() { "stop" } else { "tool_calls" })
}

/// The turns of a model, one a request; the last for all that follow.
fn turns(turns: Vec<Reply>) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    move |request| turns[request.number.min(turns.len() - 1)].clone()
}

/// Asks `ada`, beside whom `bob` is, and follows the answer.
async fn ask(fake: &FakeOpenAi) -> (Answer, TestServer, String, Session) {
    let setup = over_the_wire(fake).config(|config| {
        config.llm.tool_rounds = 3;
        config.llm.tool_calls = 5;
    });
    let server = setup.start().await;
    let room = server.room(&["ada", "bob"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let answer = follow(&mut ann).await;
    (answer, server, room, ann)
}

#[tokio::test]
async fn opting_out_says_nothing_and_why() {
    let fake = FakeOpenAi::start(turn("", &[("opt_out", r#"{"reason": "not for me"}"#)])).await;
    let (answer, server, room, _ann) = ask(&fake).await;
    answer.assert_ended(Reason::OptedOut, "");
    assert_eq!((answer.done.detail.as_str(), answer.chunks.len()), ("not for me", 0));
    assert_eq!(fake.requests().len(), 1, "it is not asked again");
    all_ended_once(&server, &room).await;
    server.shutdown().await;
}

#[tokio::test]
async fn what_a_model_gives_its_tools_is_cut_to_what_the_room_takes() {
    let long = "é".repeat(5000);
    let kept = "é".repeat(1000);
    let fake = FakeOpenAi::start(turn("", &[("opt_out", &json!({ "reason": long }).to_string())])).await;
    let (answer, server, ..) = ask(&fake).await;
    answer.assert_ended(Reason::OptedOut, "");
    assert_eq!(answer.done.detail, kept);
    server.shutdown().await;
    let mention = json!({"participant": "bob", "context": long}).to_string();
    let fake = FakeOpenAi::start(turns(vec![turn("", &[("mention", &mention)]), turn("", &[])])).await;
    let (answer, server, ..) = ask(&fake).await;
    answer.assert_ended(Reason::Completed, &format!("@bob {kept}"));
    server.shutdown().await;
}

#[tokio::test]
async fn opting_out_behind_a_text_keeps_the_text() {
    let fake = FakeOpenAi::start(turn("I had rather not.", &[("opt_out", "")])).await;
    let (answer, server, ..) = ask(&fake).await;
    answer.assert_ended(Reason::Completed, "I had rather not.");
    server.shutdown().await;
}

#[tokio::test]
async fn opting_out_beside_other_calls_lets_them_count() {
    let mention = r#"{"participant": "bob", "context": "you know better"}"#;
    let fake = FakeOpenAi::start(turns(vec![
        turn("", &[("opt_out", "{}"), ("mention", mention)]),
        turn("I do.", &[]),
    ]))
    .await;
    let (answer, server, room, mut ann) = ask(&fake).await;
    answer.assert_ended(Reason::Completed, "@bob you know better");
    let bob = follow(&mut ann).await;
    bob.assert_ended(Reason::Completed, "I do.");
    assert_eq!((bob.thinking.llm_id.as_str(), bob.thinking.chain_depth), ("bob", 1));
    assert_eq!(all_ended_once(&server, &room).await.len(), 2);
    server.shutdown().await;
}

#[tokio::test]
async fn a_mention_by_tool_asks_the_other_with_or_without_a_text() {
    let mention = r#"{"participant": "Bob", "context": "look at this"}"#;
    for (before, after, text) in [
        ("", "", "@bob look at this"),
        ("Let me ask.", "", "Let me ask.\n\n@bob look at this"),
        ("Let me ask.", "Done.", "Let me ask.\n\nDone.\n\n@bob look at this"),
        ("", "Done.", "Done.\n\n@bob look at this"),
    ] {
        let fake = FakeOpenAi::start(turns(vec![
            turn(before, &[("mention", mention), ("mention", mention)]),
            turn(after, &[]),
            turn("I see.", &[]),
        ]))
        .await;
        let (answer, server, room, mut ann) = ask(&fake).await;
        answer.assert_ended(Reason::Completed, text);
        assert_eq!(answer.message.as_ref().unwrap().mentions, ["bob"]);
        let bob = follow(&mut ann).await;
        bob.assert_ended(Reason::Completed, "I see.");
        assert_eq!(bob.thinking.reply_to, answer.thinking.message_id);
        assert_eq!(results(&fake.requests()[1])[0]["ok"], true);
        assert_eq!(all_ended_once(&server, &room).await.len(), 2, "bob is asked once");
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_wrong_call_is_told_to_the_model_and_not_to_the_room() {
    let calls = [
        ("launch_rockets", "{}"),
        ("opt_out", "{\"reason\": "),
        ("mention", r#"{"participant": "nobody"}"#),
        ("vote_on_poll", r#"{"poll_id": "x", "option_ids": []}"#),
    ];
    let fake = FakeOpenAi::start(turns(vec![turn("", &calls), turn("Sorry.", &[])])).await;
    let (answer, server, room, mut ann) = ask(&fake).await;
    answer.assert_ended(Reason::Completed, "Sorry.");
    let told = results(&fake.requests()[1]);
    assert_eq!(told.len(), calls.len());
    for (result, problem) in told.iter().zip(["no tool", "EOF", "no LLM", "no tool"]) {
        assert_eq!(result["ok"], false);
        assert!(result["error"].as_str().unwrap().contains(problem), "{result}");
    }
    assert_eq!(all_ended_once(&server, &room).await.len(), 1);
    let errors = ann.settle().await.into_iter().filter(|e| matches!(e.payload, Some(Payload::Error(_))));
    assert_eq!(errors.count(), 0);
    server.shutdown().await;
}

#[tokio::test]
async fn a_model_that_calls_for_ever_is_stopped_by_rounds_and_by_calls() {
    for (calls, requests, executed) in [(1, 4, 3), (2, 4, 5), (9, 2, 5)] {
        // Never the same call twice: that would be stopped sooner.
        let fake = FakeOpenAi::start(move |request: &Received| {
            let name = |index| format!("launch_rocket_{}_{index}", request.number);
            let names: Vec<String> = (0..calls).map(name).collect();
            turn("", &names.iter().map(|name| (name.as_str(), "{}")).collect::<Vec<_>>())
        })
        .await;
        let (answer, server, room, _ann) = ask(&fake).await;
        answer.assert_ended(Reason::Completed, "");
        assert!(answer.done.detail.starts_with("no more"), "{:?}", answer.done);
        let asked = fake.requests();
        assert_eq!(asked.len(), requests, "{calls} calls a turn");
        let last = results(asked.last().unwrap()).len();
        assert!(last <= executed, "{last} of at most {executed}");
        // In the last round allowed there is nothing left to call.
        assert_eq!(asked.get(3).map(|last| last.body.get("tools").is_none()), asked.get(3).map(|_| true));
        all_ended_once(&server, &room).await;
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_model_that_has_used_up_its_calls_ends_with_an_answer() {
    let fake = FakeOpenAi::start(|request: &Received| match request.body.get("tools") {
        Some(_) => {
            let names: Vec<String> = (0..9).map(|index| format!("launch_rocket_{index}")).collect();
            turn("", &names.iter().map(|name| (name.as_str(), "{}")).collect::<Vec<_>>())
        }
        None => turn("Nothing was launched.", &[]),
    })
    .await;
    let (answer, server, ..) = ask(&fake).await;
    answer.assert_ended(Reason::Completed, "Nothing was launched.");
    assert_eq!(fake.requests().len(), 2);
    server.shutdown().await;
}

#[tokio::test]
async fn a_model_looks_at_the_polls_and_votes() {
    let fake = FakeOpenAi::start(|request: &Received| {
        // The question of the poll itself, put to both, is left out.
        let messages = request.body["messages"].as_array().unwrap();
        if messages[0]["content"].as_str().unwrap().contains("poll below") {
            return turn("", &[("opt_out", "{}")]);
        }
        match results(request).as_slice() {
            [] => turn("Let me see.", &[("get_active_polls", "")]),
            [listed] => {
                let poll = &listed["polls"][0];
                let vote = json!({"poll_id": poll["poll_id"], "option_ids": [poll["options"][1]["id"]],
                    "reason": "green"});
                turn("", &[("vote_on_poll", &vote.to_string())])
            }
            [_, voted] => turn(if voted["ok"] == true { "I voted." } else { "I could not." }, &[]),
            more => panic!("{more:?}"),
        }
    })
    .await;
    let server = over_the_wire(&fake).start().await;
    let room = server.room(&["ada", "bob"]).await;
    let mut ann = server.join(&room, "ann").await;
    let options =
        ["red", "green"].map(|text| pb::PollOptionInput { text: text.into(), ..Default::default() });
    let poll = pb::CreatePoll { question: "Which?".into(), options: options.into(), ..Default::default() };
    ann.command(Say::CreatePoll(poll)).await.unwrap();
    for _ in 0..2 {
        follow(&mut ann).await.assert_ended(Reason::OptedOut, "");
    }
    ann.talk("@ada what about the poll?").await;
    let vote = ann.pick(|p| if let Payload::PollVoted(v) = p { Some(v.clone()) } else { None }).await;
    let by = vote.vote.unwrap();
    assert_eq!((by.voter_id.as_str(), by.reason.as_str(), vote.option_id.as_str()), ("ada", "green", "2"));
    follow(&mut ann).await.assert_ended(Reason::Completed, "Let me see.\n\nI voted.");
    all_ended_once(&server, &room).await;
    server.shutdown().await;
}

#[tokio::test]
async fn where_the_provider_does_not_count_the_server_does() {
    let provider = ScriptedProvider::with("scripted", |_| Step::answer("a b c d"));
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada begin").await;
    let usage = follow(&mut ann).await.done.usage.unwrap();
    assert!(usage.prompt_tokens > 10 && usage.completion_tokens == 3, "{usage:?}");
    let asked = pb::GetUsageRequest { user_id: Some("ann".into()), room_id: None };
    let budgets = server.client().await.get_usage(asked).await.unwrap().into_inner().budgets;
    assert_eq!(budgets[0].spent, u64::from(usage.prompt_tokens + usage.completion_tokens), "they agree");
    server.shutdown().await;
}

#[tokio::test]
async fn the_rounds_of_an_answer_are_paid_for_together_and_each_once() {
    let usage = |prompt_tokens, completion_tokens| Step::Usage { prompt_tokens, completion_tokens };
    let call = Step::tool("1", "launch_rockets", &json!({}));
    // Some servers count again with every part: the last count is that of the round.
    let first = vec![usage(10, 1), call, usage(10, 5), Step::Done(Finish::ToolCalls)];
    let second = vec![usage(20, 1), Step::text("Sorry."), usage(20, 3), Step::Done(Finish::Stop)];
    let provider = ScriptedProvider::replies("scripted", vec![first, second]);
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let answer = follow(&mut ann).await;
    answer.assert_ended(Reason::Completed, "Sorry.");
    assert_eq!(
        answer.done.usage.unwrap(),
        pb::TokenUsage { prompt_tokens: 30, completion_tokens: 8, ..Default::default() }
    );
    server.shutdown().await;
}
