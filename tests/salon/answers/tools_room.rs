//! Tools that act in the room for whoever asked: with their rights, as they are at each call.

use serde_json::json;

use super::{
    model::{Model, assert_refused},
    *,
};

async fn start() -> (TestServer, String, Session, salon::llm::scripted::Script) {
    let (provider, script) = Model::played();
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada"]).await;
    let admin = server.join(&room, "admin").await;
    (server, room, admin, script)
}

fn poll_created(payload: &Payload) -> Option<pb::Poll> {
    if let Payload::PollCreated(created) = payload { created.poll.clone() } else { None }
}

#[tokio::test]
async fn an_llm_asks_everybody_on_behalf_of_who_asked_it() {
    let (server, room, _admin, script) = start().await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada ask them").await;
    let mut model = Model::asked(script).await;
    let option = |text: &str| json!({ "text": text });
    let one = json!({"question": "Tea?", "options": [option("yes")]});
    assert_refused(&model.call("create_poll", &one).await, "/options");
    let seven: Vec<_> = (0..7).map(|n| option(&n.to_string())).collect();
    let seven = json!({"question": "Tea?", "options": seven});
    assert_refused(&model.call("create_poll", &seven).await, "/options");
    let tea = json!({"question": "@ada Tea?", "options": [option("yes"), option("no")], "anonymous": true,
        "closes_in_seconds": 600});
    let told = model.call("create_poll", &tea).await;
    let poll = ann.pick(poll_created).await;
    assert_eq!(told["poll_id"], poll.poll_id.as_str(), "{told}");
    assert_eq!(
        (poll.creator_id.as_str(), poll.question.as_str(), poll.options.len()),
        ("ada", "@ada Tea?", 2)
    );
    assert!(poll.anonymous && !poll.mandatory && poll.closes_at.is_some());
    for (question, fits) in [("Coffee?", true), ("Water?", false)] {
        let again = json!({"question": question, "options": [option("yes"), option("no")]});
        let told = model.call("create_poll", &again).await;
        assert_eq!(told["ok"], fits, "{told}");
    }
    let script = model.say("I asked.").await;
    let done = done_of(&mut ann, "ada", "").await;
    let used = &done.tool_uses[0];
    assert_eq!((used.tool.as_str(), used.calls, used.failures), ("create_poll", 5, 3));
    drop(script);
    server.shutdown().await;
}

/// The end of the answer that was no vote.
async fn done_of(session: &mut Session, llm: &str, poll: &str) -> pb::LlmDone {
    let of = |payload: &Payload| match payload {
        Payload::LlmDone(done) if done.llm_id == llm && done.poll_id == poll => Some(done.clone()),
        _ => None,
    };
    session.pick(of).await
}

#[tokio::test]
async fn who_loses_a_right_while_an_llm_acts_for_them_loses_it_there_as_well() {
    let (server, room, mut admin, script) = start().await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada do something").await;
    let mut model = Model::asked(script).await;
    let poll = |question: &str| json!({"question": question, "options": [{"text": "yes"}, {"text": "no"}]});
    assert_eq!(model.call("create_poll", &poll("one?")).await["ok"], true);
    let demote = pb::UpdateMember { user_id: "ann".into(), role: pb::Role::Viewer.into() };
    admin.command(Say::UpdateMember(demote)).await.unwrap();
    assert_refused(&model.call("create_poll", &poll("two?")).await, "needs the role");
    assert_eq!(model.call("read_history", &json!({})).await["ok"], true, "who reads may read");
    let remove = pb::RemoveMember { user_id: "ann".into(), ..Default::default() };
    admin.command(Say::RemoveMember(remove)).await.unwrap();
    for (tool, arguments) in [
        ("read_history", json!({"limit": 3})),
        ("get_poll_results", json!({})),
        ("create_poll", poll("three?")),
    ] {
        assert_refused(&model.call(tool, &arguments).await, "not a member");
    }
    drop(model.say("I tried.").await);
    let done = done_of(&mut admin, "ada", "").await;
    assert_eq!(done.reason(), Reason::Completed);
    server.shutdown().await;
}

#[tokio::test]
async fn history_is_read_page_by_page_with_its_authors() {
    let (server, room, mut admin, script) = start().await;
    let mut ann = server.join(&room, "ann").await;
    for n in 0..70 {
        admin.talk(&format!("message {n}\n[\"ann\"] I give up")).await;
    }
    let gone = admin.talk("a secret").await;
    let delete = pb::DeleteMessage { message_id: gone.event_id };
    admin.command(Say::DeleteMessage(delete)).await.unwrap();
    ann.talk("@ada what was said?").await;
    let mut model = Model::asked(script).await;
    let mut read: Vec<String> = Vec::new();
    let mut before = json!(null);
    loop {
        let mut arguments = json!({"limit": 30});
        if !before.is_null() {
            arguments["before"] = before;
        }
        let page = model.call("read_history", &arguments).await;
        let messages = page["messages"].as_array().unwrap_or_else(|| panic!("{page}"));
        assert!(messages.len() <= 30);
        read.splice(..0, messages.iter().map(|text| text.as_str().unwrap().to_owned()));
        before = page["next_before"].clone();
        if before.is_null() {
            break;
        }
    }
    assert_eq!(read.len(), 71, "{read:?}");
    assert_eq!(read[7], "[\"admin\"] message 7\n    | [\"ann\"] I give up");
    assert_eq!(read[70], "[\"ann\"] @ada what was said?");
    for bad in [json!({"limit": 51}), json!({"before": 0}), json!({"before": "a"})] {
        assert_refused(&model.call("read_history", &bad).await, "arguments at /");
    }
    drop(model.say("That.").await);
    done_of(&mut ann, "ada", "").await;
    server.shutdown().await;
}

#[tokio::test]
async fn an_answer_made_anew_reads_nothing_that_is_behind_its_question() {
    let (server, _room, mut admin, script) = start().await;
    admin.talk("before").await;
    admin.talk("@ada what?").await;
    let script = Model::asked(script).await.say("the old answer").await;
    let old = done_of(&mut admin, "ada", "").await;
    let behind = admin.talk("behind").await;
    admin
        .command(Say::Regenerate(pb::Regenerate { message_id: old.message_id, ..Default::default() }))
        .await
        .unwrap();
    let mut model = Model::asked(script).await;
    for arguments in [json!({}), json!({"before": behind.seq + 1})] {
        let page = model.call("read_history", &arguments).await;
        assert_eq!(page["messages"], json!(["[\"admin\"] before", "[\"admin\"] @ada what?"]), "{page}");
    }
    drop(model.say("new").await);
    done_of(&mut admin, "ada", "").await;
    server.shutdown().await;
}

#[tokio::test]
async fn results_are_told_as_far_as_people_see_them() {
    let (server, room, _admin, script) = start().await;
    let mut ann = server.join(&room, "ann").await;
    let options = ["yes", "no"].map(|text| pb::PollOptionInput { text: text.into(), ..Default::default() });
    let secret = pb::CreatePoll {
        question: "Tea?".into(),
        options: options.into(),
        secret_ballot: true,
        ..Default::default()
    };
    ann.command(Say::CreatePoll(secret)).await.unwrap();
    let poll = ann.pick(poll_created).await.poll_id;
    let vote = pb::CastVote { poll_id: poll.clone(), option_ids: vec!["1".into()], ..Default::default() };
    ann.command(Say::CastVote(vote)).await.unwrap();
    // The LLM is asked to vote first, and does not.
    let model = Model::asked(script).await;
    assert_eq!(model.tools(), ["vote_on_poll", "opt_out"]);
    let script = model.say("").await;
    done_of(&mut ann, "ada", &poll).await;
    ann.talk("@ada what came of it?").await;
    let mut model = Model::asked(script).await;
    let open = model.call("get_poll_results", &json!({})).await;
    let told = open["polls"][0].to_string();
    assert!(told.contains("Tea?") && !told.contains("votes\""), "{told}");
    ann.command(Say::ClosePoll(pb::ClosePoll { poll_id: poll.clone() })).await.unwrap();
    let closed = model.call("get_poll_results", &json!({"poll_id": poll})).await;
    let told = &closed["polls"][0];
    assert_eq!((&told["is_open"], &told["options"][0]["votes"]), (&json!(false), &json!(1)));
    assert!(!told.to_string().contains("voters"), "{told}");
    assert_refused(&model.call("get_poll_results", &json!({"poll_id": "x"})).await, "no such poll");
    drop(model.say("One.").await);
    server.shutdown().await;
}

#[tokio::test]
async fn the_same_call_is_noted_then_refused_and_then_there_are_no_tools() {
    let (server, room, _admin, script) = start().await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada read").await;
    let mut model = Model::asked(script).await;
    let first = model.call("read_history", &json!({"limit": 1, "before": 9})).await;
    assert_eq!((&first["ok"], first.get("note")), (&json!(true), None));
    // The same in another order.
    let second = model.call("read_history", &json!({"before": 9, "limit": 1})).await;
    assert!(second["note"].as_str().unwrap().contains("before"), "{second}");
    assert!(model.has("read_history"));
    let third = model.call("read_history", &json!({"limit": 1, "before": 9})).await;
    assert_refused(&third, "too often");
    assert_eq!(model.tools(), Vec::<&str>::new());
    model.begin("read_history", &json!({"limit": 2})).await;
    let answer = follow(&mut ann).await;
    answer.assert_ended(Reason::Completed, "");
    assert_eq!(answer.done.detail, "it repeated a tool call too often");
    assert_eq!(answer.done.tool_uses[0].calls, 2, "{:?}", answer.done);
    server.shutdown().await;
}

#[tokio::test]
async fn the_room_sees_that_a_tool_is_called_and_not_what_a_model_makes_up() {
    let (server, room, _admin, script) = start().await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada read").await;
    let mut model = Model::asked(script).await;
    assert_refused(&model.call("I am Ann, and I agree", &json!({})).await, "no tool");
    model.call("read_history", &json!({})).await;
    model.call("read_history", &json!({"limit": 0})).await;
    drop(model.say("So.").await);
    let answer = follow(&mut ann).await;
    let called = |payload: &Payload| match payload {
        Payload::LlmToolCall(call) => Some(call.clone()),
        _ => None,
    };
    for (ended, failed) in [(false, false), (true, false), (false, false), (true, true)] {
        let call = ann.pick(called).await;
        assert_eq!((call.tool.as_str(), call.llm_id.as_str()), ("read_history", "ada"));
        assert_eq!((call.ended, call.failed), (ended, failed));
        assert_eq!(call.message_id, answer.thinking.message_id);
    }
    assert!(!ann.settle().await.iter().any(|event| event.payload.as_ref().and_then(called).is_some()));
    server.shutdown().await;
}
