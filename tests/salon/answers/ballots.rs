//! Polls and the LLMs that vote in them, as everybody sees it: who comes late, who abstains, what is kept secret.

use std::{sync::Arc, time::Duration};

use salon::{
    llm::{
        Finish, Request,
        scripted::{Script, ScriptedProvider, Step},
    },
    store::{
        self, Store,
        config::{Durability, StoreConfig},
        memory::MemoryStore,
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;

/// A server whose LLMs vote for the first option, but for one that is called mute.
async fn voting() -> TestServer {
    let provider = ScriptedProvider::with("scripted", votes_for_the_first);
    Setup::default().provider(provider).start().await
}

fn votes_for_the_first(request: &Request) -> Vec<Step> {
    let tool = request.tools.iter().find(|tool| tool.name == "vote_on_poll");
    let poll = tool.map_or(Value::Null, |tool| tool.parameters["properties"]["poll_id"]["enum"][0].clone());
    if request.display_name == "mute" || poll.is_null() {
        return Step::answer("I say nothing of use.");
    }
    let vote = json!({"poll_id": poll, "option_ids": ["1"], "reason": "why not"});
    vec![Step::tool("1", "vote_on_poll", &vote), Step::Done(Finish::ToolCalls)]
}

fn create(poll: &pb::CreatePoll) -> Say {
    let options = ["red", "green"].map(|t| pb::PollOptionInput { text: t.into(), ..Default::default() });
    Say::CreatePoll(pb::CreatePoll { question: "Which?".into(), options: options.into(), ..poll.clone() })
}

async fn created(session: &mut Session) -> pb::Poll {
    session.pick(|p| if let Payload::PollCreated(c) = p { c.poll.clone() } else { None }).await
}

async fn closed(session: &mut Session) -> pb::Poll {
    session.pick(|p| if let Payload::PollClosed(c) = p { c.poll.clone() } else { None }).await
}

fn vote(poll: &pb::Poll, option: &str) -> Say {
    let option_ids = vec![option.to_owned()];
    Say::CastVote(pb::CastVote { poll_id: poll.poll_id.clone(), option_ids, ..Default::default() })
}

fn close(poll: &pb::Poll) -> Say {
    Say::ClosePoll(pb::ClosePoll { poll_id: poll.poll_id.clone() })
}

fn add(id: &str) -> Say {
    Say::AddLlm(pb::AddLlm { llm: Some(crate::harness::llm(id)) })
}

#[tokio::test]
async fn an_llm_that_comes_while_polls_are_open_votes_in_them_once() {
    let server = voting().await;
    let room = server.room(&[]).await;
    let mut admin = server.join(&room, "admin").await;
    for _ in 0..2 {
        admin.command(create(&pb::CreatePoll::default())).await.unwrap();
    }
    let (one, two) = (created(&mut admin).await, created(&mut admin).await);
    admin.command(close(&one)).await.unwrap();
    admin.command(add("ada")).await.unwrap();
    let answer = follow(&mut admin).await;
    assert_eq!((&answer.thinking.poll_id, answer.done.reason()), (&two.poll_id, Reason::Completed));
    quiet(&server).await;
    // Who goes and comes back has voted already.
    admin.command(Say::RemoveLlm(pb::RemoveLlm { llm_id: "ada".into() })).await.unwrap();
    admin.command(add("ada")).await.unwrap();
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn who_must_vote_and_does_not_has_abstained_for_everybody_to_see() {
    let server = voting().await;
    let room = server.room(&["ada", "mute"]).await;
    let mut admin = server.join(&room, "admin").await;
    admin.command(create(&pb::CreatePoll { mandatory: true, ..Default::default() })).await.unwrap();
    let poll = created(&mut admin).await;
    let abstained =
        admin.pick(|p| if let Payload::VoteAbstained(a) = p { Some(a.clone()) } else { None }).await;
    let abstention = abstained.abstention.unwrap();
    assert_eq!((abstained.poll_id.as_str(), abstention.llm_id.as_str()), (poll.poll_id.as_str(), "mute"));
    assert_eq!(abstention.reason, "I say nothing of use.", "in its own words");
    quiet(&server).await;
    let state = server.join(&room, "bob").await.state;
    assert_eq!(state.polls[0].abstentions, std::slice::from_ref(&abstention));
    admin.command(close(&poll)).await.unwrap();
    let result = closed(&mut admin).await;
    assert_eq!((result.ballot_count, &result.abstentions), (1, &vec![abstention]));
    // Where nobody is to know who has chosen what, its words could tell.
    let secret = pb::CreatePoll { mandatory: true, anonymous: true, ..Default::default() };
    admin.command(create(&secret)).await.unwrap();
    let poll = created(&mut admin).await;
    let abstained =
        admin.pick(|p| if let Payload::VoteAbstained(a) = p { a.abstention.clone() } else { None }).await;
    assert_eq!(abstained.reason, "did not vote, although it was asked twice");
    admin.command(close(&poll)).await.unwrap();
    closed(&mut admin).await;
    // In a poll in which nobody must, silence is no abstention.
    admin.command(create(&pb::CreatePoll::default())).await.unwrap();
    let poll = created(&mut admin).await;
    quiet(&server).await;
    admin.command(close(&poll)).await.unwrap();
    assert_eq!(closed(&mut admin).await.abstentions, []);
    all_ended_once(&server, &room).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_quorum_is_reached_by_ballots_of_people_and_llms() {
    let server = voting().await;
    let room = server.room(&["ada"]).await;
    let mut admin = server.join(&room, "admin").await;
    let mut bob = server.join(&room, "bob").await;
    for reached in [false, true] {
        admin.command(create(&pb::CreatePoll { quorum: 3, ..Default::default() })).await.unwrap();
        let poll = created(&mut admin).await;
        assert_eq!((poll.quorum, poll.quorum_reached), (3, false));
        quiet(&server).await;
        admin.command(vote(&poll, "2")).await.unwrap();
        if reached {
            bob.command(vote(&poll, "2")).await.unwrap();
        }
        admin.command(close(&poll)).await.unwrap();
        let result = closed(&mut admin).await;
        assert_eq!((result.ballot_count, result.quorum_reached), (if reached { 3 } else { 2 }, reached));
    }
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_vote_of_whoever_is_still_thinking() {
    let provider = ScriptedProvider::with("scripted", |_| vec![Step::Stall]);
    let patient =
        |config: &mut salon::config::Config| config.llm.first_token_timeout = Duration::from_secs(60);
    let setup = Setup::default().provider(provider).config(patient).virtual_time();
    let server = setup.start_without_port().await;
    let room = server.room(&["ada"]).await;
    let mut admin = server.join(&room, "admin").await;
    admin.patience = Duration::from_secs(3600);
    let poll = pb::CreatePoll { closes_in_ms: 30_000, quorum: 2, ..Default::default() };
    admin.command(create(&poll)).await.unwrap();
    let poll = created(&mut admin).await;
    admin.command(vote(&poll, "1")).await.unwrap();
    let begun = Instant::now();
    let result = closed(&mut admin).await;
    assert!(begun.elapsed().abs_diff(Duration::from_secs(30)) < Duration::from_millis(100));
    assert_eq!((result.ballot_count, result.quorum_reached), (1, false));
    let answer = follow(&mut admin).await;
    answer.assert_ended(Reason::Interrupted, "");
    assert_eq!(answer.done.detail, "the poll was closed");
    assert_eq!(admin.command(vote(&poll, "2")).await.unwrap_err().code, "poll_closed");
    server.shutdown().await;
}

/// Checks that nothing in what a stream was told says who voted what, or before the end how many votes an option has.
#[track_caller]
fn assert_secret(event: &pb::ServerEvent) {
    let poll = match event.payload.as_ref().unwrap() {
        Payload::PollVoted(voted) => {
            let vote = voted.vote.clone().unwrap_or_default();
            let (voter, name) = (vote.voter_id.as_str(), vote.voter_name.as_str());
            assert_eq!((voter, name, voted.option_id.as_str()), ("", "", ""), "{voted:?}");
            assert!(voted.option_ids.is_empty() && voted.retracted_option_ids.is_empty(), "{voted:?}");
            assert!(voted.tallies.iter().all(|tally| tally.vote_count == 0), "{voted:?}");
            return;
        }
        Payload::PollCreated(created) => created.poll.as_ref().unwrap(),
        Payload::PollClosed(closed) => closed.poll.as_ref().unwrap(),
        _ => return,
    };
    for option in &poll.options {
        assert!(option.votes.iter().all(|vote| vote.voter_id.is_empty() && vote.voter_name.is_empty()));
        assert!(poll.status() == pb::PollStatus::PollClosed || option.vote_count == 0, "{poll:?}");
    }
}

#[tokio::test]
async fn a_secret_ballot_shows_nothing_before_its_end_and_no_voter_behind_it() {
    let server = voting().await;
    let room = server.room(&["ada"]).await;
    let mut admin = server.join(&room, "admin").await;
    let mut bob = server.join(&room, "bob").await;
    admin.command(create(&pb::CreatePoll { secret_ballot: true, ..Default::default() })).await.unwrap();
    let poll = created(&mut admin).await;
    assert!(poll.anonymous && poll.hide_results_until_closed);
    quiet(&server).await;
    admin.command(vote(&poll, "1")).await.unwrap();
    bob.command(vote(&poll, "1")).await.unwrap();
    bob.command(vote(&poll, "2")).await.unwrap();
    let open = server.join(&room, "eve").await.state.polls.remove(0);
    assert_eq!(open.ballot_count, 3);
    assert!(open.options.iter().all(|option| option.vote_count == 0 && option.votes.is_empty()), "{open:?}");
    admin.command(close(&poll)).await.unwrap();
    let result = closed(&mut admin).await;
    assert_eq!(result.options.iter().map(|option| option.vote_count).collect::<Vec<_>>(), [2, 1]);
    let (log, seen) = (server.log(&room).await, bob.settle().await);
    for event in log.iter().chain(&seen) {
        assert_secret(event);
    }
    let votes = log.iter().filter(|e| matches!(e.payload, Some(Payload::PollVoted(_)))).count();
    assert_eq!(votes, 4, "each is told of, and says nothing");
    server.shutdown().await;
}

/// A server on which whoever is asked first holds the only place of its room.
async fn narrow(queue: usize) -> (TestServer, Script) {
    let (provider, script) = ScriptedProvider::new("scripted");
    let setup = Setup::default().provider(provider).config(|config| {
        config.llm.runs_per_room = 1;
        config.llm.queue_per_room = queue;
        config.limits.drain = Duration::from_millis(200);
    });
    (setup.start().await, script)
}

fn mandatory() -> Say {
    create(&pb::CreatePoll { mandatory: true, ..Default::default() })
}

/// The next abstention that was not taken yet: who, and why.
async fn abstention(session: &mut Session) -> (String, String) {
    let abstained =
        session.pick(|p| if let Payload::VoteAbstained(a) = p { a.abstention.clone() } else { None }).await;
    (abstained.llm_id, abstained.reason)
}

#[tokio::test]
async fn who_cannot_be_asked_for_its_vote_or_is_stopped_before_has_abstained() {
    let (server, mut script) = narrow(1).await;
    let room = server.room(&["ada", "bob", "cem"]).await;
    let mut admin = server.join(&room, "admin").await;
    admin.command(mandatory()).await.unwrap();
    let _ada = script.next_call().await.unwrap();
    let full = ("cem".to_owned(), "1 answers are waiting in this room already".to_owned());
    assert_eq!(abstention(&mut admin).await, full);
    admin.command(interrupt("bob", None)).await.unwrap();
    assert_eq!(abstention(&mut admin).await, ("bob".into(), "interrupted by admin".into()));
    server.shutdown().await;
}

#[tokio::test]
async fn who_waits_to_vote_when_the_server_goes_away_is_asked_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("salon.db");
    let file = StoreConfig { path, durability: Durability::Os, ..StoreConfig::default() };
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let leaving =
        Setup::default().provider(provider).store(store::open::open(&file).await.unwrap()).config(|config| {
            config.llm.runs_per_room = 1;
            config.limits.drain = Duration::from_millis(200);
        });
    let leaving = leaving.start().await;
    let room = leaving.room(&["ada", "bob"]).await;
    let mut admin = leaving.join(&room, "admin").await;
    admin.command(mandatory()).await.unwrap();
    let _ada = script.next_call().await.unwrap();
    let drained = tokio::spawn(async move { leaving.shutdown().await });
    assert_eq!(abstention(&mut admin).await, ("ada".into(), "the server is going away".into()));
    drained.await.unwrap();
    let provider = ScriptedProvider::with("scripted", votes_for_the_first);
    let next =
        Setup::default().provider(provider).store(store::open::open(&file).await.unwrap()).start().await;
    next.join(&room, "admin").await;
    quiet(&next).await;
    let poll = next.join(&room, "admin").await.state.polls.remove(0);
    assert_eq!((poll.ballot_count, poll.abstentions.len()), (1, 1), "{poll:?}");
    next.shutdown().await;
}

#[tokio::test]
async fn who_was_to_vote_when_the_process_died_is_asked_by_the_next() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let one = |config: &mut salon::config::Config| config.llm.runs_per_node = 1;
    let dead = Setup::default().provider(provider).store(Arc::clone(&store)).config(one).start().await;
    let (first, second) = (dead.room(&["ada", "bob"]).await, dead.room(&["ada", "bob"]).await);
    for room in [&first, &second] {
        let mut admin = dead.join(room, "admin").await;
        admin.command(mandatory()).await.unwrap();
        created(&mut admin).await;
    }
    let _ada = script.next_call().await.unwrap();
    // For the log, the first one is dead as soon as the second one starts.
    let provider = ScriptedProvider::with("scripted", votes_for_the_first);
    let next = Setup::default().provider(provider).store(store).start().await;
    let poll = async |room: &str| next.join(room, "admin").await.state.polls.remove(0);
    // Whose vote was begun has abstained; the others had not begun, in the second room nobody had.
    for (room, voters) in [(&first, 1), (&second, 2)] {
        poll(room).await;
        quiet(&next).await;
        let poll = poll(room).await;
        assert_eq!((poll.ballot_count, poll.abstentions.len()), (voters, 2 - voters as usize), "{poll:?}");
    }
    all_ended_once(&next, &first).await;
    next.shutdown().await;
}
