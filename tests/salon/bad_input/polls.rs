//! Polls that cannot be, and votes that cannot be cast.

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};

use super::{Scene, refused};
use crate::harness::Session;

fn create(options: &[String]) -> pb::CreatePoll {
    let option = |text: &String| pb::PollOptionInput { text: text.clone(), ..Default::default() };
    pb::CreatePoll {
        question: "Where to?".into(),
        options: options.iter().map(option).collect(),
        ..Default::default()
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("option {n}")).collect()
}

fn vote(poll: &pb::Poll, options: &[&str]) -> Say {
    let option_ids = options.iter().map(|&id| id.to_owned()).collect();
    Say::CastVote(pb::CastVote { poll_id: poll.poll_id.clone(), option_ids, ..Default::default() })
}

/// Creates a poll and takes what everybody is told of it.
async fn created(session: &mut Session, poll: pb::CreatePoll) -> pb::Poll {
    session.command(Say::CreatePoll(poll)).await.unwrap();
    session
        .pick(|payload| match payload {
            Payload::PollCreated(created) => created.poll.clone(),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_poll_has_2_to_20_options_and_no_two_alike() {
    let scene = Scene::new().await;
    let mut asker = scene.join("asker").await;
    for count in [0, 1, 21, 1000] {
        let error = refused(asker.command(Say::CreatePoll(create(&numbered(count)))).await, "invalid_poll");
        assert_eq!(error.field, "create_poll.options");
        assert!(error.message.contains("2 to 20"), "{error:?}");
    }
    for twins in [["tea", "tea"], ["tea", " Tea "], ["ÉTÉ", "été"]] {
        let answer = asker.command(Say::CreatePoll(create(&twins.map(String::from)))).await;
        assert_eq!(refused(answer, "invalid_poll").field, "create_poll.options.text");
    }
    for bad in [
        create(&["tea".into(), " ".into()]),
        create(&["tea".into(), "x".repeat(201)]),
        pb::CreatePoll { question: " ".into(), ..create(&numbered(2)) },
        pb::CreatePoll { closes_in_ms: 999, ..create(&numbered(2)) },
        pb::CreatePoll { closes_in_ms: u64::MAX, ..create(&numbered(2)) },
    ] {
        refused(asker.command(Say::CreatePoll(bad)).await, "invalid_poll");
    }
    assert!(scene.server.join(&scene.room, "looker").await.state.polls.is_empty());
    for count in [2, 20] {
        assert_eq!(created(&mut asker, create(&numbered(count))).await.options.len(), count);
    }
    scene.unharmed().await;
}

#[tokio::test]
async fn a_ballot_names_options_of_its_poll_and_one_if_only_one_may_be_chosen() {
    let scene = Scene::new().await;
    let mut asker = scene.join("asker").await;
    let single = created(&mut asker, create(&numbered(3))).await;
    let several = created(&mut asker, pb::CreatePoll { allow_multiple: true, ..create(&numbered(3)) }).await;
    let ids: Vec<&str> = single.options.iter().map(|option| option.id.as_str()).collect();
    for wrong in [&[][..], &ids[..2]] {
        refused(asker.command(vote(&single, wrong)).await, "invalid_argument");
    }
    refused(asker.command(vote(&several, &[])).await, "invalid_argument");
    for poll in [&single, &several] {
        refused(asker.command(vote(poll, &["nothing"])).await, "not_found");
    }
    refused(asker.command(vote(&several, &[ids[0], "nothing"])).await, "not_found");
    asker.command(vote(&single, &ids[..1])).await.unwrap();
    asker.command(vote(&several, &ids[..2])).await.unwrap();
    let polls = scene.join("looker").await.state.polls;
    let counts = |poll: &pb::Poll| poll.options.iter().map(|option| option.vote_count).collect::<Vec<_>>();
    assert_eq!(polls.iter().map(counts).collect::<Vec<_>>(), [[1, 0, 0], [1, 1, 0]]);
    scene.unharmed().await;
}

#[tokio::test]
async fn a_poll_of_another_room_cannot_be_touched() {
    let scene = Scene::new().await;
    let other = scene.server.room(&[]).await;
    let mut there = scene.server.join(&other, "writer").await;
    let poll = created(&mut there, create(&numbered(2))).await;
    let mut here = scene.join("writer").await;
    refused(here.command(vote(&poll, &[&poll.options[0].id])).await, "not_found");
    let id = poll.poll_id.clone();
    refused(here.command(Say::RetractVote(pb::RetractVote { poll_id: id.clone() })).await, "not_found");
    refused(here.command(Say::ClosePoll(pb::ClosePoll { poll_id: id })).await, "not_found");
    for unknown in ["", "no id", &uuid::Uuid::from_u128(7).to_string()] {
        let poll = pb::Poll { poll_id: unknown.into(), ..Default::default() };
        refused(here.command(vote(&poll, &["1"])).await, "not_found");
    }
    let seen = &scene.server.join(&other, "looker").await.state.polls;
    assert_eq!((seen.len(), seen[0].ballot_count, seen[0].status()), (1, 0, pb::PollStatus::PollOpen));
    scene.unharmed().await;
}

#[tokio::test]
async fn a_closed_poll_stays_as_it_is() {
    let scene = Scene::new().await;
    let mut asker = scene.join("asker").await;
    let poll = created(&mut asker, create(&numbered(2))).await;
    let (first, second) = (poll.options[0].id.as_str(), poll.options[1].id.as_str());
    asker.command(vote(&poll, &[first])).await.unwrap();
    let close = || Say::ClosePoll(pb::ClosePoll { poll_id: poll.poll_id.clone() });
    asker.command(close()).await.unwrap();
    for late in
        [vote(&poll, &[second]), Say::RetractVote(pb::RetractVote { poll_id: poll.poll_id.clone() }), close()]
    {
        refused(asker.command(late).await, "poll_closed");
    }
    let closings = scene.server.log(&scene.room).await;
    let closings: Vec<_> =
        closings.iter().filter(|event| matches!(event.payload, Some(Payload::PollClosed(_)))).collect();
    assert_eq!(closings.len(), 1);
    let polls = scene.join("looker").await.state.polls;
    assert_eq!((polls[0].options[0].vote_count, polls[0].options[1].vote_count), (1, 0));
    scene.unharmed().await;
}
