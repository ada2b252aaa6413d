//! Who answers when, by the room's policy and in turn with other rooms; and whom LLMs answer.

use salon::llm::{
    Finish,
    scripted::{Call, Script, ScriptedProvider, Step},
};

use super::*;

/// A server whose model the script plays, and a room in it that takes turns like this.
async fn taking(policy: pb::TurnPolicy, llms: &[&str]) -> (TestServer, String, Script) {
    let (provider, script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).start().await;
    let room = room(&server, policy, llms).await;
    (server, room, script)
}

async fn room(server: &TestServer, policy: pb::TurnPolicy, llms: &[&str]) -> String {
    server
        .create(pb::CreateRoomRequest {
            name: "Test".into(),
            created_by: "admin".into(),
            llms: llms.iter().map(|id| crate::harness::llm(id)).collect(),
            settings: Some(pb::RoomSettings { turn_policy: policy.into(), ..Default::default() }),
            ..Default::default()
        })
        .await
}

async fn next(script: &mut Script) -> Call {
    tokio::time::timeout(crate::harness::DEADLINE, script.next_call())
        .await
        .expect("nobody is asked")
        .unwrap()
}

async fn say(mut call: Call, text: &str) {
    assert!(call.text(text).await && call.done(Finish::Stop).await);
}

#[tokio::test]
async fn one_after_the_other_each_reads_the_answer_before() {
    let (server, room, mut script) = taking(pb::TurnPolicy::Sequential, &["ada", "bob", "eve"]).await;
    let mut ann = server.join(&room, "ann").await;
    // In the order of the text, not of the room.
    ann.talk("@eve @ada what do you think?").await;
    ann.talk("@bob and you?").await;
    assert_eq!(server.run_count(), 3);
    let mut answers = Vec::new();
    for (name, before) in [("eve", 0), ("ada", 1), ("bob", 2)] {
        let call = next(&mut script).await;
        assert_eq!(call.request.display_name, name);
        let told = told(&call.request);
        for answer in 0..3 {
            assert_eq!(
                told.contains(&format!("answer {answer}")),
                answer < before,
                "{name} was told: {told}"
            );
        }
        // Nobody else has begun: the log would say so.
        let begun = server
            .log(&room)
            .await
            .into_iter()
            .filter(|event| matches!(event.payload, Some(Payload::LlmThinking(_))));
        assert_eq!(begun.count(), before + 1);
        say(call, &format!("answer {before}")).await;
        answers.push(follow(&mut ann).await);
    }
    assert!(answers.iter().all(|answer| answer.done.reason() == Reason::Completed));
    assert_eq!(all_ended_once(&server, &room).await.len(), 3);
    server.shutdown().await;
}

#[tokio::test]
async fn a_vote_takes_no_turn() {
    let (server, room, mut script) = taking(pb::TurnPolicy::Sequential, &["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada think").await;
    let answer = next(&mut script).await;
    let options = ["red", "green"].map(|t| pb::PollOptionInput { text: t.into(), ..Default::default() });
    let poll = pb::CreatePoll { question: "Which?".into(), options: options.into(), ..Default::default() };
    ann.command(Say::CreatePoll(poll)).await.unwrap();
    let vote = next(&mut script).await;
    assert!(told(&vote.request).contains("vote_on_poll"));
    assert!(!answer.is_cancelled());
    say(answer, "thought").await;
    assert_eq!(follow(&mut ann).await.text(), "thought");
    assert!(!vote.is_cancelled());
    say(vote, "no").await;
    quiet(&server).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_newer_question_of_a_person_ends_the_answers_to_older_ones() {
    let (server, room, mut script) = taking(pb::TurnPolicy::LatestWins, &["ada", "bob"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let first = ann.talk("@ada @bob first").await.event_id;
    let (mut one, mut two) = (next(&mut script).await, next(&mut script).await);
    assert!(one.text("Half").await && two.text("Half").await);
    let begun = [thinking(&mut ann).await, thinking(&mut ann).await];
    assert!(begun.iter().all(|thinking| thinking.reply_to == first), "they do not end each other");
    // Both are heard before the next question, so that both have something to keep.
    let heard = [chunk(&mut ann).await, chunk(&mut ann).await];
    // A remark that calls nobody ends nothing.
    bob.talk("interesting").await;
    assert!(!one.is_cancelled() && !two.is_cancelled());
    let second = bob.talk("@ada second").await.event_id;
    one.cancelled().await;
    two.cancelled().await;
    for thinking in begun {
        let chunks = heard.iter().filter(|chunk| chunk.message_id == thinking.message_id).cloned().collect();
        let answer = follow_from(&mut ann, thinking, chunks).await;
        answer.assert_ended(Reason::Interrupted, "Half");
        assert_eq!(answer.done.detail, "a newer question came");
    }
    let third = next(&mut script).await;
    say(third, "@bob what do you say?").await;
    let answer = follow(&mut ann).await;
    assert_eq!((&answer.thinking.reply_to, answer.done.reason()), (&second, Reason::Completed));
    // What an LLM asks is no question of a person: it ends nothing. The next one of a person ends it.
    let chained = next(&mut script).await;
    assert_eq!(chained.request.display_name, "bob");
    ann.talk("@ada third").await;
    chained.cancelled().await;
    say(next(&mut script).await, "done").await;
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 5);
    server.shutdown().await;
}

#[tokio::test]
async fn what_waits_for_an_older_question_is_dropped_and_told_and_votes_go_on() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).config(|c| c.llm.runs_per_room = 2).start().await;
    let room = room(&server, pb::TurnPolicy::LatestWins, &["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    // Two votes take all the places that the room has.
    let mut votes = Vec::new();
    for _ in 0..2 {
        let options = ["red", "green"].map(|t| pb::PollOptionInput { text: t.into(), ..Default::default() });
        let poll =
            pb::CreatePoll { question: "Which?".into(), options: options.into(), ..Default::default() };
        ann.command(Say::CreatePoll(poll)).await.unwrap();
        votes.push(next(&mut script).await);
    }
    ann.talk("@ada first").await;
    bob.talk("@ada second").await;
    let refused = refusal(&mut ann).await;
    assert_eq!(refused.code, "resource_exhausted");
    assert_eq!(refused.message, "the LLM ada was not asked: a newer question came");
    assert!(votes.iter().all(|vote| !vote.is_cancelled()), "a vote is no answer to a question");
    for vote in votes {
        say(vote, "").await;
    }
    let second = next(&mut script).await;
    assert!(told(&second.request).ends_with("[\"bob\"] @ada second"));
    say(second, "yes").await;
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 3, "the first has not begun");
    let told = bob.settle().await.into_iter().filter(|e| matches!(e.payload, Some(Payload::Error(_))));
    assert_eq!(told.count(), 0, "bob is answered");
    server.shutdown().await;
}

#[tokio::test]
async fn another_policy_holds_from_the_next_question_on() {
    let (server, room, mut script) = taking(pb::TurnPolicy::Parallel, &["ada", "bob", "eve"]).await;
    let mut admin = server.join(&room, "admin").await;
    admin.talk("@ada @bob one").await;
    let mut calls = [next(&mut script).await, next(&mut script).await];
    // Either may have come to ask first.
    let begun = thinking(&mut admin).await;
    calls.sort_by_key(|call| call.request.display_name != begun.llm_id);
    let [one, two] = calls;
    admin.command(turns(pb::TurnPolicy::Sequential)).await.unwrap();
    admin.talk("@eve two").await;
    say(one, "first").await;
    assert_eq!(follow_from(&mut admin, begun, Vec::new()).await.text(), "first");
    // Its place is given back behind its end.
    until("one has gone and eve waits for both", || server.run_count() == 2).await;
    say(two, "second").await;
    let eve = next(&mut script).await;
    assert!(told(&eve.request).contains("second"));
    admin.command(turns(pb::TurnPolicy::Parallel)).await.unwrap();
    admin.talk("@ada three").await;
    let ada = next(&mut script).await;
    assert!(!eve.is_cancelled(), "nothing is ended by a change");
    say(ada, "third").await;
    say(eve, "fourth").await;
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 4);
    server.shutdown().await;
}

#[tokio::test]
async fn where_only_people_are_answered_llms_call_nobody() {
    let provider = ScriptedProvider::with("scripted", |request| match request.display_name.as_str() {
        "ada" => Step::answer("@bob what do you say?"),
        _ => Step::answer("nothing"),
    });
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada", "bob"]).await;
    let mut admin = server.join(&room, "admin").await;
    let settings =
        pb::RoomSettings { response_policy: pb::ResponsePolicy::AddressedOnly.into(), ..Default::default() };
    let update = pb::UpdateRoom { settings: Some(settings), ..Default::default() };
    admin.command(Say::UpdateRoom(update)).await.unwrap();
    admin.talk("@ada hello").await;
    let answer = follow(&mut admin).await;
    assert_eq!(answer.message.unwrap().mentions, ["bob"], "a mention is one, whatever comes of it");
    admin.talk("@bob hello").await;
    assert_eq!(follow(&mut admin).await.thinking.llm_id, "bob");
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 2);
    server.shutdown().await;
}

#[tokio::test]
async fn a_room_that_asks_most_gets_no_more_than_its_turn() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let few = |config: &mut salon::config::Config| {
        config.llm.runs_per_node = 2;
        config.llm.runs_per_room = 2;
        config.llm.queue_per_room = 100;
    };
    let server = Setup::default().provider(provider).config(few).start().await;
    let greedy = server.room(&["ada"]).await;
    let mut ann = server.join(&greedy, "ann").await;
    for n in 0..60 {
        ann.talk(&format!("@ada greedy {n}")).await;
    }
    let mut others = Vec::new();
    for n in 0..5 {
        let room = server.room(&["ada"]).await;
        let mut session = server.join(&room, "bob").await;
        session.talk(&format!("@ada modest {n}")).await;
        others.push(session);
    }
    assert_eq!(server.run_count(), 65);
    let mut modest_at = Vec::new();
    for at in 0..65 {
        let call = next(&mut script).await;
        if told(&call.request).contains("modest") {
            modest_at.push(at);
        }
        say(call, "yes").await;
    }
    // Two ran when they came, and the greedy room stood in the line before them once more.
    assert_eq!(modest_at.len(), 5);
    assert!(modest_at.iter().all(|at| *at <= 8), "they began at {modest_at:?} of 65");
    for mut session in others {
        follow(&mut session).await.assert_ended(Reason::Completed, "yes");
    }
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &greedy).await.len(), 60);
    server.shutdown().await;
}
