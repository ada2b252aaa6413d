//! Polls: who may vote where, what the votes tell, and that closed ones do not get lost.

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};

use super::{create_poll, poll, vote};
use crate::harness::{Session, TestServer};

/// The events that tell of votes, of taking them back and of the end.
fn poll_events(events: &[pb::ServerEvent]) -> Vec<Payload> {
    let about_polls = |payload: &Payload| {
        matches!(payload, Payload::PollVoted(_) | Payload::VoteRetracted(_) | Payload::PollClosed(_))
    };
    events.iter().filter_map(|event| event.payload.clone()).filter(about_polls).collect()
}

fn tallies(tallies: &[pb::OptionTally]) -> Vec<(&str, u32)> {
    tallies.iter().map(|tally| (tally.option_id.as_str(), tally.vote_count)).collect()
}

async fn history(server: &TestServer, room: &str) -> pb::LoadHistoryResponse {
    let request = pb::LoadHistoryRequest { room_id: room.into(), limit: 1000, ..Default::default() };
    server.client().await.load_history(request).await.unwrap().into_inner()
}

fn close(poll: &pb::Poll) -> Say {
    Say::ClosePoll(pb::ClosePoll { poll_id: poll.poll_id.clone() })
}

#[tokio::test]
async fn fault_17_no_voter_of_an_anonymous_poll_leaves_the_server() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let question = pb::CreatePoll { anonymous: true, ..poll("Who pays?", &["one", "two"]) };
    let asked = create_poll(&mut ann, question).await;
    let mut mole = server.join(&room, "the-mole").await;
    for (option, reason) in [("1", "I am the-mole"), ("2", "")] {
        let option_ids = vec![option.to_owned()];
        let cast = pb::CastVote { poll_id: asked.poll_id.clone(), option_ids, reason: reason.into() };
        mole.command(Say::CastVote(cast)).await.unwrap();
    }
    mole.command(Say::RetractVote(pb::RetractVote { poll_id: asked.poll_id.clone() })).await.unwrap();
    mole.command(vote(&asked.poll_id, &["2"])).await.unwrap();

    let before = server.join(&room, "before").await.state.polls;
    ann.command(close(&asked)).await.unwrap();
    let after = server.join(&room, "after").await.state.polls;
    let paged = history(&server, &room).await.polls;
    for shown in [&before, &after, &paged] {
        let [shown] = shown.as_slice() else { panic!("{shown:?}") };
        assert_eq!((shown.options[0].vote_count, shown.options[1].vote_count, shown.ballot_count), (0, 1, 1));
        assert!(!format!("{shown:?}").contains("mole"), "{shown:?}");
    }
    // Live, to whoever asked, and in the log for everybody.
    let live = poll_events(&ann.settle().await);
    let logged = poll_events(&server.log(&room).await);
    assert_eq!((live.len(), &live), (5, &logged));
    assert!(!format!("{live:?}").contains("mole"), "{live:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn fault_17_a_moved_vote_is_told_in_one_event_with_the_whole_ballot() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let asked = create_poll(&mut ann, poll("Lunch?", &["pizza", "sushi"])).await;
    bob.command(vote(&asked.poll_id, &["1"])).await.unwrap();
    let moved = bob.command(vote(&asked.poll_id, &["2"])).await.unwrap();
    assert_eq!(moved.seq, moved.last_seq, "one event");
    let event = ann.find(|event| event.seq == moved.seq).await;
    let Some(Payload::PollVoted(voted)) = event.payload else { panic!("{event:?}") };
    assert_eq!((voted.option_id.as_str(), voted.vote.unwrap().voter_id.as_str()), ("2", "bob"));
    assert_eq!((voted.option_ids, voted.retracted_option_ids), (vec!["2".to_owned()], vec!["1".to_owned()]));
    assert_eq!((tallies(&voted.tallies), voted.ballot_count), (vec![("1", 0), ("2", 1)], 1));

    let retract = Say::RetractVote(pb::RetractVote { poll_id: asked.poll_id.clone() });
    let seq = bob.command(retract.clone()).await.unwrap().seq;
    let event = ann.find(|event| event.seq == seq).await;
    let Some(Payload::VoteRetracted(back)) = event.payload else { panic!("{event:?}") };
    assert_eq!((back.voter_id.as_str(), back.option_ids), ("bob", vec!["2".to_owned()]));
    assert_eq!((tallies(&back.tallies), back.ballot_count), (vec![("1", 0), ("2", 0)], 0));
    assert_eq!(bob.command(retract).await.unwrap_err().code, "not_found");

    // Several options where one is allowed: refused, and nobody is told anything.
    let error = bob.command(vote(&asked.poll_id, &["1", "2"])).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.field.as_str()), ("invalid_argument", "cast_vote.option_ids"));
    // Where several are allowed, the events carry the whole ballot, too.
    let many = pb::CreatePoll { allow_multiple: true, ..poll("Days?", &["mo", "tu", "we"]) };
    let many = create_poll(&mut ann, many).await;
    bob.command(vote(&many.poll_id, &["1", "2"])).await.unwrap();
    let seq = bob.command(vote(&many.poll_id, &["2", "3"])).await.unwrap().last_seq;
    let event = ann.find(|event| event.seq == seq).await;
    let Some(Payload::PollVoted(voted)) = event.payload else { panic!("{event:?}") };
    assert_eq!(
        (voted.option_ids, voted.retracted_option_ids),
        (vec!["2".to_owned(), "3".into()], vec!["1".to_owned()])
    );
    assert_eq!(tallies(&voted.tallies), [("1", 0), ("2", 1), ("3", 1)]);
    let log = poll_events(&server.log(&room).await);
    assert_eq!(log.len(), 2 + 1 + 2 + 1, "{log:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn fault_17_a_poll_is_closed_once_and_by_whom_it_may_be() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let asked = create_poll(&mut ann, poll("Lunch?", &["pizza", "sushi"])).await;
    bob.command(vote(&asked.poll_id, &["1"])).await.unwrap();
    assert_eq!(bob.command(close(&asked)).await.unwrap_err().code, "permission_denied");
    let seq = ann.command(close(&asked)).await.unwrap().seq;
    let event = bob.find(|event| event.seq == seq).await;
    let Some(Payload::PollClosed(closed)) = event.payload else { panic!("{event:?}") };
    assert_eq!((closed.closed_by_id.as_str(), closed.closed_by_name.as_str()), ("ann", "ann"));
    let results = closed.poll.unwrap();
    assert_eq!(
        (results.status(), results.options[0].votes[0].voter_id.as_str()),
        (pb::PollStatus::PollClosed, "bob")
    );

    for (session, again) in [(&mut ann, close(&asked)), (&mut bob, vote(&asked.poll_id, &["2"]))] {
        assert_eq!(session.command(again).await.unwrap_err().code, "poll_closed");
    }
    let retract = Say::RetractVote(pb::RetractVote { poll_id: asked.poll_id.clone() });
    assert_eq!(bob.command(retract).await.unwrap_err().code, "poll_closed");
    let log = poll_events(&server.log(&room).await);
    assert_eq!(log.len(), 2, "{log:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn fault_17_a_poll_is_voted_on_in_its_own_room_only() {
    let server = TestServer::start().await;
    let (mine, other) = (server.room(&[]).await, server.room(&[]).await);
    let mut ann = server.join(&mine, "ann").await;
    let asked = create_poll(&mut ann, poll("Lunch?", &["pizza", "sushi"])).await;
    let mut eve = server.join(&other, "eve").await;
    let before = server.log(&other).await.len();
    for say in [
        vote(&asked.poll_id, &["1"]),
        close(&asked),
        Say::RetractVote(pb::RetractVote { poll_id: asked.poll_id.clone() }),
    ] {
        assert_eq!(eve.command(say).await.unwrap_err().code, "not_found");
    }
    assert_eq!(server.log(&other).await.len(), before, "nothing is told to the other room");
    assert!(poll_events(&server.log(&mine).await).is_empty());

    // Nor by somebody whose membership has ended.
    let mut bob = server.join(&mine, "bob").await;
    bob.say(Say::Leave(pb::LeaveRoom { keep_membership: false })).await;
    bob.say(vote(&asked.poll_id, &["1"])).await;
    assert_eq!(bob.end().await.0.unwrap().reason(), pb::ClosingReason::Left);
    ann.settle().await;
    assert!(poll_events(&server.log(&mine).await).is_empty());
    server.shutdown().await;
}

#[tokio::test]
async fn fault_18_a_closed_poll_comes_with_the_message_that_announced_it() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let asked = create_poll(&mut ann, poll("Lunch?", &["pizza", "sushi"])).await;
    ann.command(vote(&asked.poll_id, &["2"])).await.unwrap();
    ann.command(close(&asked)).await.unwrap();

    let check = |messages: &[pb::Message], polls: &[pb::Poll]| {
        let announced: Vec<&str> = messages.iter().filter_map(|m| m.poll_id.as_deref()).collect();
        assert_eq!(announced, [asked.poll_id.as_str()]);
        let [shown] = polls else { panic!("{polls:?}") };
        assert_eq!((&shown.poll_id, shown.status()), (&asked.poll_id, pb::PollStatus::PollClosed));
        assert_eq!((shown.options[1].vote_count, shown.options[1].votes[0].voter_id.as_str()), (1, "ann"));
    };
    let bob = server.join(&room, "bob").await;
    check(&bob.state.messages, &bob.state.polls);
    let page = history(&server, &room).await;
    check(&page.messages, &page.polls);

    // Long after, when the state of the room has forgotten it.
    for n in 0..60 {
        ann.talk(&format!("message {n}")).await;
    }
    let carl: Session = server.join(&room, "carl").await;
    assert!(carl.state.messages.iter().all(|m| m.poll_id.is_none()) && carl.state.polls.is_empty());
    let page = history(&server, &room).await;
    check(&page.messages, &page.polls);
    server.shutdown().await;
}
