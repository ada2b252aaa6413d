//! Polls: created, voted on, closed.

use std::time::Duration;

use super::{runs::run, *};
use crate::domain::{llm::Run, message::Author};

/// A room with a poll of bob's that has options 1 to 3.
fn with_poll(change: impl FnOnce(&mut PollInput)) -> (Table, PollId) {
    let mut table = Table::new();
    let mut input = poll(&["a", "b", "c"]);
    change(&mut input);
    table.ok("bob", Command::CreatePoll(input));
    let id = *table.room.polls.keys().next().unwrap();
    (table, id)
}

fn vote(poll_id: PollId, options: &[usize]) -> Command {
    let options = options.iter().map(|n| option(*n)).collect();
    Command::CastVote { poll_id, options, reason: String::new() }
}

/// The option of each event of a vote and what it took back; then the tallies and the number of voters.
type Voted = (Vec<(usize, Vec<usize>)>, Vec<u32>, u32);

/// Votes in the only poll.
#[track_caller]
fn votes(table: &mut Table, who: &str, command: Command) -> Voted {
    let number = |id: &OptionId| id.as_str().parse().unwrap();
    let of = |event: Event| {
        let Event::PollVoted(vote) = event else { panic!("{event:?}") };
        (number(&vote.option), vote.retracted.iter().map(number).collect())
    };
    let events = table.ok(who, command).into_iter().map(of).collect();
    let poll = table.room.polls.values().next().unwrap();
    (events, poll.tallies().iter().map(|(_, count)| *count).collect(), poll.ballot_count())
}

#[test]
fn a_poll_has_2_to_20_options() {
    let mut table = Table::new();
    let texts: Vec<String> = (0..21).map(|n| format!("Option {n}")).collect();
    let with = |count: usize| {
        let texts: Vec<&str> = texts[..count].iter().map(String::as_str).collect();
        Command::CreatePoll(poll(&texts))
    };
    for count in [2, 20] {
        table.ok("bob", with(count));
    }
    for count in [0, 1, 21] {
        table.refused("bob", with(count), Code::InvalidPoll, &format!("must be 2 to 20, are {count}"));
    }
}

#[test]
fn the_parts_of_a_poll_have_limits() {
    let mut table = Table::new();
    let with = |question: &str, text: &str, description: usize, closes_in: Option<u64>| {
        let mut input = poll(&["a", text]);
        input.question = question.into();
        input.options[0].description = "é".repeat(description);
        input.closes_in = closes_in.map(Duration::from_millis);
        Command::CreatePoll(input)
    };
    let month = 30 * 24 * 60 * 60 * 1000;
    table.ok("bob", with(&"é".repeat(1000), &"é".repeat(200), 500, Some(month)));
    table.ok("bob", with("?", "b", 0, Some(1000)));
    for (command, words) in [
        (with("", "b", 0, None), "create_poll.question must not be empty"),
        (with(&"é".repeat(1001), "b", 0, None), "create_poll.question must have at most 1000"),
        (with("?", " ", 0, None), "create_poll.options.text must not be empty"),
        (with("?", &"é".repeat(201), 0, None), "create_poll.options.text must have at most 200"),
        (with("?", "b", 501, None), "create_poll.options.description must have at most 500"),
        (with("?", " A ", 0, None), "\"A\" is there twice"),
        (with("?", "b", 0, Some(999)), "must be 1000 to 2592000000, is 999"),
        (with("?", "b", 0, Some(month + 1)), "is 2592000001"),
    ] {
        table.refused("bob", command, Code::InvalidPoll, words);
    }
}

#[test]
fn a_poll_is_announced_by_a_message() {
    let mut table = Table::new();
    let events =
        table.ok("bob as ada", Command::CreatePoll(PollInput { anonymous: true, ..poll(&[" a ", "b"]) }));
    let [Event::MessagePosted(message), Event::PollCreated(poll)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((message.id, message.poll_id), (poll.message_id, Some(poll.id)));
    assert_eq!((poll.creator_name.as_str(), poll.anonymous), ("Ada Lovelace", true));
    assert_eq!(poll.options[0].text, "a");
    assert_eq!((&poll.options[0].id, &poll.options[1].id), (&option(1), &option(2)));
    assert_eq!(poll.asked_by, Some(user_id("bob")));
    for (who, words) in [
        ("vic", "polls"),
        ("eve", "not a member"),
        ("server", "take part in polls"),
        ("ada", "on behalf of a person"),
        ("vic as ada", "use tools"),
        ("eve as ada", "not a member"),
    ] {
        table.refused(who, Command::CreatePoll(super::poll(&["a", "b"])), Code::PermissionDenied, words);
    }
    table.refused(
        "bob as ghost",
        Command::CreatePoll(super::poll(&["a", "b"])),
        Code::NotFound,
        "no LLM ghost",
    );
}

#[test]
fn a_room_has_at_most_32_open_polls() {
    let mut table = Table::new();
    for _ in 0..32 {
        table.ok("bob", Command::CreatePoll(poll(&["a", "b"])));
    }
    table.refused(
        "bob",
        Command::CreatePoll(poll(&["a", "b"])),
        Code::ResourceExhausted,
        "at most 32 open polls",
    );
    let id = *table.room.polls.keys().next().unwrap();
    table.ok("bob", Command::ClosePoll(id));
    table.ok("bob", Command::CreatePoll(poll(&["a", "b"])));
}

#[test]
fn a_vote_in_a_single_choice_moves() {
    let (mut table, id) = with_poll(|_| {});
    assert_eq!(votes(&mut table, "bob", vote(id, &[1])), (vec![(1, vec![])], vec![1, 0, 0], 1));
    assert_eq!(votes(&mut table, "ada", vote(id, &[1])), (vec![(1, vec![])], vec![2, 0, 0], 2));
    assert_eq!(votes(&mut table, "bob", vote(id, &[3])), (vec![(3, vec![1])], vec![1, 0, 1], 2));
    table.nothing("bob", vote(id, &[3]));
    let reasoned = |reason: String| Command::CastVote { poll_id: id, options: vec![option(3)], reason };
    assert_eq!(votes(&mut table, "bob", reasoned("why".into())), (vec![(3, vec![])], vec![1, 0, 1], 2));
    table.nothing("bob", reasoned("why".into()));
    table.ok("bob", reasoned("é".repeat(1000)));
    table.refused("bob", reasoned("é".repeat(1001)), Code::InvalidArgument, "cast_vote.reason");
}

#[test]
fn a_ballot_with_several_options_is_set_as_a_whole() {
    let (mut table, id) = with_poll(|input| input.allow_multiple = true);
    let both = vec![(1, vec![]), (2, vec![])];
    assert_eq!(votes(&mut table, "bob", vote(id, &[1, 2])), (both, vec![1, 1, 0], 1));
    assert_eq!(votes(&mut table, "bob", vote(id, &[2, 3])), (vec![(3, vec![1])], vec![0, 1, 1], 1));
    assert_eq!(votes(&mut table, "bob", vote(id, &[3])), (vec![(3, vec![2])], vec![0, 0, 1], 1));
    table.nothing("bob", vote(id, &[3]));
}

#[test]
fn a_hidden_ballot_is_one_event_whatever_it_holds() {
    let (mut table, id) = with_poll(|input| (input.allow_multiple, input.hide_results) = (true, true));
    assert_eq!(votes(&mut table, "bob", vote(id, &[1, 2, 3])), (vec![(1, vec![])], vec![1, 1, 1], 1));
    assert_eq!(votes(&mut table, "bob", vote(id, &[2])), (vec![(2, vec![1, 3])], vec![0, 1, 0], 1));
}

#[test]
fn a_ballot_that_cannot_be_is_refused() {
    let (mut table, id) = with_poll(|_| {});
    table.refused("bob", vote(id, &[]), Code::InvalidArgument, "must name an option");
    table.refused("bob", vote(id, &[1, 2]), Code::InvalidArgument, "a single choice");
    table.refused("bob", vote(id, &[1, 1]), Code::InvalidArgument, "1 is there twice");
    table.refused("bob", vote(id, &[4]), Code::NotFound, "no option 4");
    table.refused("bob", vote(PollId(unknown()), &[1]), Code::NotFound, "no poll");
    table.refused("vic", vote(id, &[1]), Code::PermissionDenied, "voting");
    table.refused("eve", vote(id, &[1]), Code::PermissionDenied, "not a member");
    table.refused("ghost", vote(id, &[1]), Code::NotFound, "no LLM ghost");
    table.refused("server", vote(id, &[1]), Code::PermissionDenied, "take part in polls");
}

#[test]
fn a_vote_is_taken_back_once() {
    let (mut table, id) = with_poll(|input| input.hide_results = true);
    table.refused("bob", Command::RetractVote(id), Code::NotFound, "no vote of yours");
    table.ok("bob", vote(id, &[2]));
    let event = table.one("bob", Command::RetractVote(id));
    let Event::VoteRetracted { options, .. } = event else { panic!("{event:?}") };
    assert_eq!(options, [option(2)]);
    let poll = &table.room.polls[&id];
    assert_eq!((poll.ballot_count(), poll.votes_for(&option(2))), (0, 0));
    table.refused("bob", Command::RetractVote(id), Code::NotFound, "no vote of yours");
    table.refused("bob", Command::RetractVote(PollId(unknown())), Code::NotFound, "no poll");
}

#[test]
fn a_poll_is_closed_once_by_who_may() {
    let (mut table, id) = with_poll(|_| {});
    table.ok("cy", join(None));
    table.ok("ada", vote(id, &[1]));
    for who in ["cy", "ada"] {
        table.refused(who, Command::ClosePoll(id), Code::PermissionDenied, "its creator or an ADMIN");
    }
    table.refused("vic", Command::ClosePoll(id), Code::PermissionDenied, "polls");
    table.refused("ann", Command::ClosePoll(PollId(unknown())), Code::NotFound, "no poll");
    let event = table.one("ann", Command::ClosePoll(id));
    let Event::PollClosed { poll, by, by_name } = event else { panic!("{event:?}") };
    assert_eq!((by, by_name.as_str()), (Some(Author::User(user_id("ann"))), "ann"));
    assert_eq!((poll.closed_at, poll.votes_for(&option(1))), (Some(table.at), 1));
    table.refused("bob", Command::ClosePoll(id), Code::PollClosed, "closed");
    table.refused("server", Command::ClosePoll(id), Code::PollClosed, "closed");
    table.refused("bob", vote(id, &[1]), Code::PollClosed, "closed");
    table.refused("ada", Command::RetractVote(id), Code::PollClosed, "closed");
}

#[test]
fn its_creator_or_the_server_closes_a_poll_too() {
    let (mut table, id) = with_poll(|_| {});
    table.ok("bob", Command::ClosePoll(id));
    let (mut table, id) = with_poll(|_| {});
    let event = table.one("server", Command::ClosePoll(id));
    assert!(matches!(event, Event::PollClosed { by: None, by_name, .. } if by_name.is_empty()));
}

#[test]
fn a_closed_poll_that_the_state_has_forgotten_stays_closed() {
    let (mut table, id) = with_poll(|_| {});
    let mut old = table.room.polls[&id].clone();
    old.id = PollId(unknown());
    old.closed_at = Some(table.at);
    table.refused("bob", vote(old.id, &[1]), Code::NotFound, "no poll");
    table.facts.poll = Some(old.clone());
    table.refused("bob", vote(old.id, &[1]), Code::PollClosed, "closed");
    table.refused("bob", vote(PollId(Uuid::nil()), &[1]), Code::NotFound, "no poll");
}

#[test]
fn no_vote_counts_after_the_deadline() {
    let (mut table, id) = with_poll(|input| input.closes_in = Some(Duration::from_secs(20)));
    table.at = table.at.plus(Duration::from_millis(19_999));
    table.ok("bob", vote(id, &[1]));
    table.at = table.at.plus(Duration::from_millis(1));
    table.refused("ann", vote(id, &[1]), Code::PollClosed, "deadline");
    table.refused("bob", Command::RetractVote(id), Code::PollClosed, "deadline");
    table.ok("server", Command::ClosePoll(id));
}

#[test]
fn nobody_begins_to_vote_in_a_poll_that_takes_no_votes() {
    let ask = |id, llm, n| {
        let of_poll = Run { poll_id: Some(id), ..run(MessageId(unknown()), llm, n, 0) };
        Command::StartRun(of_poll)
    };
    let (mut table, id) = with_poll(|input| input.closes_in = Some(Duration::from_secs(20)));
    table.ok("server", ask(id, "ada", 1));
    table.refused("server", ask(PollId(unknown()), "bot", 2), Code::NotFound, "no poll");
    table.limits.open_runs_per_room = 1;
    table.at = table.at.plus(Duration::from_secs(20));
    table.refused("server", ask(id, "bot", 2), Code::PollClosed, "deadline");
    table.ok("server", Command::ClosePoll(id));
    table.refused("server", ask(id, "bot", 2), Code::PollClosed, "closed");
}

#[test]
fn the_result_of_a_poll_says_of_every_llm_that_had_to_vote_what_it_did() {
    let abstained = |events: &[Event]| -> Vec<(String, String)> {
        let of = |event: &Event| match event {
            Event::VoteAbstained { abstention, .. } => {
                Some((abstention.llm_name.clone(), abstention.reason.clone()))
            }
            _ => None,
        };
        events.iter().filter_map(of).collect()
    };
    for (who, end, why) in [
        ("bob", None, "the poll was closed before it voted"),
        ("server", None, "the poll's deadline passed"),
        ("ann", Some(Command::EndRoom { reason: String::new() }), "the room ended"),
    ] {
        let (mut table, id) = with_poll(|input| input.mandatory = true);
        table.ok("ada", vote(id, &[1]));
        let events = table.ok(who, end.unwrap_or(Command::ClosePoll(id)));
        assert_eq!(abstained(&events), [("Bot 1".to_owned(), why.to_owned())]);
        let closed = events.iter().find_map(|event| match event {
            Event::PollClosed { poll, .. } => Some(poll.clone()),
            _ => None,
        });
        let closed = closed.unwrap();
        assert_eq!((closed.abstentions.len(), closed.ballot_count()), (1, 1));
        assert_eq!(table.room.polls[&id], closed);
    }
    let (mut table, id) = with_poll(|_| {});
    assert_eq!(table.ok("bob", Command::ClosePoll(id)).len(), 1, "who need not vote has not abstained");
}

#[test]
fn who_owes_a_vote_and_is_not_heard_has_abstained_once() {
    let (mut table, id) = with_poll(|input| input.mandatory = true);
    let abstain = |llm: &str, reason: &str| Command::Abstain {
        poll_id: id,
        llm_id: llm_id(llm),
        reason: reason.into(),
    };
    table.ok("ada", vote(id, &[1]));
    table.nothing("server", abstain("ada", "late"));
    table.nothing("server", abstain("ghost", "gone"));
    let Event::VoteAbstained { abstention, .. } = table.one("server", abstain("bot", &"é".repeat(1001)))
    else {
        panic!()
    };
    assert_eq!((abstention.llm_name.as_str(), abstention.reason.chars().count()), ("Bot 1", 1000));
    table.nothing("server", abstain("bot", "again"));
    table.refused("ann", abstain("bot", ""), Code::PermissionDenied, "only the server");
    table.ok("bot", vote(id, &[2]));
    table.ok("bob", Command::ClosePoll(id));
    table.nothing("server", abstain("bot", "closed"));
    let (mut table, id) = with_poll(|_| {});
    let free = Command::Abstain { poll_id: id, llm_id: llm_id("bot"), reason: String::new() };
    table.nothing("server", free);
}

#[test]
fn an_llm_is_asked_for_its_vote_once() {
    let (mut table, id) = with_poll(|_| {});
    let message = table.room.polls[&id].message_id;
    let ask = |llm: &str, n: u128| Command::StartRun(Run { poll_id: Some(id), ..run(message, llm, n, 0) });
    table.ok("server", ask("ada", 1));
    table.refused("server", ask("ada", 2), Code::AlreadyExists, "this vote is being given");
    table.ok("server", ask("bot", 3));
    table.ok("ada", vote(id, &[1]));
    table.ok("server", super::runs::finish(1, crate::domain::llm::RunEnd::Completed, ""));
    table.refused("server", ask("ada", 4), Code::AlreadyExists, "this vote is being given");
    // Who was asked and has said nothing may be asked again.
    table.ok("server", super::runs::finish(3, crate::domain::llm::RunEnd::Failed, ""));
    table.ok("server", ask("bot", 5));
}
