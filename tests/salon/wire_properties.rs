//! What goes over the wire and into the store is what happened, and tells nobody what they must not know.
//!
//! The logs are those of the domain's random command sequences: what a room can come to, its bytes must carry.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::BytesMut;
use proptest::{prelude::*, test_runner::TestRunner};
use prost::Message as _;
use salon::{
    clock::Timestamp,
    domain::{
        apply,
        event::{DirectoryChange, Event, MemberChange, Recorded},
        message::Author,
        poll::Poll,
        room::{Presence, Room},
    },
    ids::{OptionId, Seq, UserId},
    rooms::replay::Replay,
    wire::{
        decode, encode,
        frame::{self, PREFIX},
        pb::room::v1::{self as pb, server_event::Payload},
        reply::{self, View},
        snapshot,
    },
};

use crate::domain_properties::{config, generators, play};

/// How often each thing was looked at: a property that meets nothing holds for nothing.
type Met = BTreeMap<&'static str, usize>;

#[test]
fn bytes_carry_the_log_and_keep_its_secrets() {
    let met = RefCell::new(Met::new());
    let strategy = (generators::opening(), prop::collection::vec(generators::step(), 1..350));
    // Each log is played and checked as a whole by the domain's own test: fewer will do.
    TestRunner::new(ProptestConfig { cases: 96, ..config() })
        .run(&strategy, |(opening, steps)| {
            check_log(play(&opening, steps).log(), &mut met.borrow_mut());
            Ok(())
        })
        .unwrap();
    let met = met.into_inner();
    let names: Vec<&str> = met.keys().copied().collect();
    let expected = [
        "anonymous poll closed with votes",
        "anonymous retraction",
        "anonymous vote",
        "ban of a stranger",
        "former role in a snapshot",
        "hidden retraction",
        "hidden vote",
        "open answer in a snapshot",
        "open vote",
    ];
    assert_eq!(names, expected, "{met:?}");
}

/// Replays a log as its bytes, beside the log itself.
fn check_log(log: &[Recorded], met: &mut Met) {
    let mut rooms: Option<(Room, Room)> = None;
    let (mut replay, mut members) = (Replay::default(), BTreeSet::new());
    for recorded in log {
        let before = rooms.as_ref().map(|(room, _)| room.clone());
        let after = step(before, recorded);
        let encoded = encode::event(&after, recorded);
        let decoded = decode::event(recorded.seq, &encoded.public, &encoded.private).unwrap();
        assert_eq!(&decoded, recorded, "an event reads back as it was");
        let read_back = step(rooms.map(|(_, room)| room), &decoded);
        assert_eq!(read_back, after, "the state that the bytes of the log leave behind");
        let replayed = replay.next(recorded.seq, &encoded.public, &encoded.private).unwrap();
        check_members(&after, recorded, replayed.directory, &mut members, met);
        check_snapshot(&after, met);
        check_position(&encoded.public, recorded);
        let shown = pb::ServerEvent::decode(&encoded.public[..]).unwrap();
        check_shown(&after, recorded, &encoded.public, shown.payload.unwrap(), met);
        check_room_state(&after);
        rooms = Some((after, read_back));
    }
}

fn step(before: Option<Room>, recorded: &Recorded) -> Room {
    match before {
        None => apply::create(recorded).unwrap(),
        Some(mut room) => {
            apply::apply(&mut room, recorded);
            room
        }
    }
}

/// Stores are told of each membership when it begins and when it ends, once: what they count is who is a member.
fn check_members(
    after: &Room,
    recorded: &Recorded,
    changes: Vec<DirectoryChange>,
    members: &mut BTreeSet<UserId>,
    met: &mut Met,
) {
    if let Event::MemberChanged { member, change: MemberChange::Banned, .. } = &recorded.event
        && !members.contains(&member.id)
    {
        meet(met, "ban of a stranger");
    }
    for change in changes {
        match change {
            DirectoryChange::Joined(user) => assert!(members.insert(user), "{recorded:?}"),
            DirectoryChange::Left(user) => assert!(members.remove(&user), "{recorded:?}"),
            DirectoryChange::Room { .. } | DirectoryChange::RunStarted(_) | DirectoryChange::RunEnded(_) => {}
        }
    }
    assert_eq!(*members, after.members.keys().cloned().collect(), "{recorded:?}");
}

fn check_snapshot(room: &Room, met: &mut Met) {
    assert_eq!(&snapshot::decode(&snapshot::encode(room)).unwrap(), room, "a snapshot is the state");
    if !room.former_roles.is_empty() {
        meet(met, "former role in a snapshot");
    }
    if !room.runs.is_empty() {
        meet(met, "open answer in a snapshot");
    }
}

/// The store's position goes on last, and changes nothing else.
fn check_position(stored: &[u8], recorded: &Recorded) {
    let mut framed = BytesMut::new();
    frame::put_stored(&mut framed, stored, recorded.seq);
    let placed = pb::ServerEvent::decode(&framed[PREFIX..]).unwrap();
    assert_eq!(placed.seq, recorded.seq.0);
    assert_eq!(placed.event_id, recorded.event_id.to_string());
    assert_eq!(pb::ServerEvent { seq: 0, ..placed }, pb::ServerEvent::decode(stored).unwrap());
}

/// Votes show what their poll allows, and with it the state's own tallies.
fn check_shown(after: &Room, recorded: &Recorded, public: &[u8], shown: Payload, met: &mut Met) {
    match (&recorded.event, shown) {
        (Event::PollVoted(vote), Payload::PollVoted(shown)) => {
            let poll = &after.polls[&vote.poll_id];
            check_tallies(poll, &shown.tallies, shown.ballot_count);
            let who = shown.vote.unwrap();
            if poll.results_hidden() {
                meet(met, "hidden vote");
                assert_eq!((shown.option_id.as_str(), who.reason.as_str()), ("", ""));
                assert!(shown.option_ids.is_empty() && shown.retracted_option_ids.is_empty());
            } else if !poll.anonymous {
                meet(met, "open vote");
                assert_eq!((who.voter_id.as_str(), &who.reason), (vote.voter.as_str(), &vote.ballot.reason));
                assert_eq!(shown.option_ids, texts(&vote.ballot.options));
            }
            if poll.anonymous {
                meet(met, "anonymous vote");
                assert!(shown.option_ids.is_empty(), "a ballot can tell whose it is");
                check_nobody(public);
            }
            check_secret(after, recorded, public);
        }
        (Event::VoteRetracted { poll_id, .. }, Payload::VoteRetracted(shown)) => {
            let poll = &after.polls[poll_id];
            check_tallies(poll, &shown.tallies, shown.ballot_count);
            if poll.results_hidden() {
                meet(met, "hidden retraction");
                assert!(shown.option_ids.is_empty());
            }
            if poll.anonymous {
                meet(met, "anonymous retraction");
                check_nobody(public);
            }
            check_secret(after, recorded, public);
        }
        (Event::PollClosed { poll, .. }, Payload::PollClosed(shown)) => {
            let results = shown.poll.unwrap();
            let counts: Vec<u32> = results.options.iter().map(|option| option.vote_count).collect();
            assert_eq!(counts, poll.tallies().into_iter().map(|(_, count)| count).collect::<Vec<_>>());
            assert_eq!(results.ballot_count, poll.ballot_count());
            if poll.anonymous {
                assert!(results.options.iter().all(|option| option.votes.is_empty()), "an anonymous voter");
                if !poll.ballots.is_empty() {
                    meet(met, "anonymous poll closed with votes");
                }
            }
            check_secret(after, recorded, public);
        }
        _ => {}
    }
}

fn check_tallies(poll: &Poll, shown: &[pb::OptionTally], ballot_count: u32) {
    assert_eq!(ballot_count, poll.ballot_count());
    if poll.results_hidden() {
        assert_eq!(shown, []);
        return;
    }
    let shown: Vec<_> = shown.iter().map(|tally| (tally.option_id.clone(), tally.vote_count)).collect();
    let counted: Vec<_> = poll.tallies().into_iter().map(|(id, count)| (id.to_string(), count)).collect();
    assert_eq!(shown, counted, "what is told is what the state counts");
}

/// No id, no name and no reason of anybody: each begins with one of these.
fn check_nobody(public: &[u8]) {
    for trace in ["user", "llm", "Name", "Bot", "because"] {
        let found = public.windows(trace.len()).any(|window| window == trace.as_bytes());
        assert!(!found, "{trace:?} is in the bytes of an anonymous vote");
    }
}

/// The bytes are the same whoever voted anonymously and whatever is hidden: so nothing can be read out of them.
fn check_secret(after: &Room, recorded: &Recorded, public: &[u8]) {
    let mut recorded = recorded.clone();
    match &mut recorded.event {
        Event::PollVoted(vote) => {
            let poll = &after.polls[&vote.poll_id];
            if poll.anonymous {
                vote.voter = stranger(0);
                vote.ballot.voter_name = "Somebody else".into();
                vote.ballot.reason = "for another reason".into();
            }
            if poll.results_hidden() {
                vote.option = other(poll, &vote.option);
                vote.ballot.options = vec![vote.option.clone()];
                vote.ballot.reason = "for another reason".into();
                vote.retracted = vec![other(poll, &vote.option)];
            }
        }
        Event::VoteRetracted { poll_id, voter, options } => {
            let poll = &after.polls[poll_id];
            if poll.anonymous {
                *voter = stranger(0);
            }
            if poll.results_hidden() {
                *options = options.iter().map(|option| other(poll, option)).collect();
            }
        }
        Event::PollClosed { poll, .. } => swap_secrets(poll),
        event => unreachable!("{event:?} has no secret"),
    }
    assert_eq!(&encode::event(&swapped(after), &recorded).public[..], public, "{:?}", recorded.event);
}

/// Nothing secret is in a `room_state` either.
fn check_room_state(room: &Room) {
    let state = state_of(room);
    let other = swapped(room);
    assert_eq!(state_of(&other), state, "a secret of a poll changes the room's state as it is shown");
    let Some(Payload::RoomState(state)) = state.payload else { panic!("{state:?}") };
    assert_eq!(state.messages.len(), room.recent.len());
    for poll in state.polls {
        let of_room = room.polls.values().find(|p| p.id.to_string() == poll.poll_id).unwrap();
        assert_eq!(poll.ballot_count, of_room.ballot_count());
        for (option, (_, count)) in poll.options.iter().zip(of_room.tallies()) {
            let (votes, voters) = (option.vote_count, u32::try_from(option.votes.len()).unwrap());
            let named = if of_room.anonymous { 0 } else { count };
            let expected = if of_room.results_hidden() { (0, 0) } else { (count, named) };
            assert_eq!((votes, voters), expected, "{of_room:?}");
        }
    }
}

fn state_of(room: &Room) -> pb::ServerEvent {
    let online: Vec<_> = room.members.keys().map(|user| (user.clone(), Presence::Online)).collect();
    let you = UserId::parse("user0").unwrap();
    let view = View {
        online: &online,
        online_count: online.len(),
        answers: &[],
        you: &you,
        read: Seq(3),
        unread: 4,
        heartbeat: Duration::from_secs(20),
        participants_shown: 200,
        at: Timestamp::default(),
    };
    let framed = reply::room_state(room, &view, None);
    let state = pb::ServerEvent::decode(&framed.frame[PREFIX..]).unwrap();
    assert_eq!(state.seq, room.seq.0, "the position it speaks for");
    state
}

/// The room as it could be as well for all that may be known of its polls.
fn swapped(room: &Room) -> Room {
    let mut room = room.clone();
    room.polls.values_mut().for_each(swap_secrets);
    room
}

fn swap_secrets(poll: &mut Poll) {
    let ballots = std::mem::take(&mut poll.ballots);
    for (index, (mut voter, mut ballot)) in ballots.into_iter().enumerate() {
        if poll.anonymous {
            voter = stranger(index);
            ballot.voter_name = "Somebody else".into();
            ballot.reason = "for another reason".into();
        }
        if poll.results_hidden() {
            ballot.options = vec![other(poll, &ballot.options[0])];
            ballot.reason = "for another reason".into();
        }
        poll.ballots.insert(voter, ballot);
    }
}

fn stranger(index: usize) -> Author {
    Author::User(UserId::parse(&format!("stranger{index}")).unwrap())
}

fn other(poll: &Poll, option: &OptionId) -> OptionId {
    poll.options.iter().map(|o| o.id.clone()).find(|id| id != option).unwrap()
}

fn texts(ids: &[OptionId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn meet(met: &mut Met, what: &'static str) {
    *met.entry(what).or_default() += 1;
}
