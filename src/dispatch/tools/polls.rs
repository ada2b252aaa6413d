//! The tools for polls: look at those of the room, vote, make one.
//!
//! An LLM votes and looks by its own right as a participant. What is older than what it was shown, and making a poll,
//! takes the rights of whoever asked. Votes are told as far as people are shown them: never those of a poll that hides
//! its results, never the voters of an anonymous one.

use std::time::Duration;

use futures_util::FutureExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    answered::Answered,
    call::{BuiltIn, Call, Caller, Situation},
    effects::Effects,
};
use crate::{
    dispatch::{context::Names, plain},
    domain::{
        command::{Actor, Command, OptionInput, PollInput},
        limits::{POLL_DEADLINE_MS, POLL_OPTION_CHARS, POLL_QUESTION_CHARS},
        message::Author,
        permissions::Action,
        poll::Poll,
        room::Room,
        summary::add_outside,
    },
    ids::{MessageId, OptionId, PollId},
};

/// Options of a poll that an LLM makes: what people can take in at a glance.
const OPTIONS_MAX: usize = 6;
/// Polls that one answer makes: each asks everybody.
const POLLS_PER_ANSWER: usize = 2;
/// Polls whose results are told when none is named.
const RESULTS_MAX: usize = 10;
/// Voters named for one option; of more only the number is told.
const VOTERS_NAMED: usize = 20;

/// Vote.
pub(super) const VOTE: BuiltIn = BuiltIn {
    name: "vote_on_poll",
    offer: |at| {
        let polls = match at.poll {
            Some(poll) => std::slice::from_ref(poll),
            None => at.scene.open_polls.as_slice(),
        };
        (!polls.is_empty()).then(|| ("Vote in a poll of this room.".into(), vote_schema(polls)))
    },
    carry_out: |call| vote(call).boxed(),
};

/// See what can be voted on.
pub(super) const ACTIVE: BuiltIn = BuiltIn {
    name: "get_active_polls",
    offer: |at| {
        let describe = || {
            let text = "The polls that are open in this room, with their options and votes.";
            (text.to_owned(), json!({"type": "object", "properties": {}}))
        };
        (at.poll.is_none() && !at.scene.open_polls.is_empty()).then(describe)
    },
    carry_out: |call| active(call).boxed(),
};

/// See what came of polls.
pub(super) const RESULTS: BuiltIn = BuiltIn {
    name: "get_poll_results",
    offer: |at| for_people(at).then(|| (RESULTS_TEXT.to_owned(), results_schema())),
    carry_out: |call| results(call).boxed(),
};

const RESULTS_TEXT: &str = "What has come of polls of this room, open and closed ones.";

/// Ask everybody.
pub(super) const CREATE: BuiltIn = BuiltIn {
    name: "create_poll",
    offer: |at| for_people(at).then(|| (CREATE_TEXT.to_owned(), create_schema())),
    carry_out: |call| create(call).boxed(),
};

const CREATE_TEXT: &str =
    "Ask everybody in this room, on behalf of whoever asked you. Only when you were asked to.";

/// Whether the run can act for somebody.
fn for_people(at: &Situation<'_>) -> bool {
    at.poll.is_none() && at.has_asker
}

fn vote_schema(polls: &[Poll]) -> Value {
    let ids: Vec<String> = polls.iter().map(|poll| poll.id.to_string()).collect();
    let mut options: Vec<&str> = polls.iter().flat_map(|p| p.options.iter().map(|o| o.id.as_str())).collect();
    options.sort_unstable();
    options.dedup();
    json!({
        "type": "object",
        "properties": {
            "poll_id": {"type": "string", "enum": ids},
            "option_ids": {"type": "array", "items": {"type": "string", "enum": options}},
            "reason": {"type": "string", "description": "Why, in a sentence."},
        },
        "required": ["poll_id", "option_ids"],
    })
}

fn results_schema() -> Value {
    json!({
        "type": "object",
        "properties": {"poll_id": {"type": "string", "description": "Which; without it the last ones are told."}},
    })
}

fn create_schema() -> Value {
    let option = json!({
        "type": "object",
        "properties": {
            "text": {"type": "string", "minLength": 1, "maxLength": POLL_OPTION_CHARS},
            "description": {"type": "string"},
        },
        "required": ["text"],
    });
    json!({
        "type": "object",
        "properties": {
            "question": {"type": "string", "minLength": 1, "maxLength": POLL_QUESTION_CHARS},
            "options": {"type": "array", "minItems": 2, "maxItems": OPTIONS_MAX, "items": option},
            "allow_multiple": {"type": "boolean", "description": "Several options can be chosen."},
            "anonymous": {"type": "boolean", "description": "Nobody is told who has voted."},
            "closes_in_seconds": {
                "type": "integer", "minimum": 1, "maximum": POLL_DEADLINE_MS / 1000,
                "description": "Without it somebody has to close the poll.",
            },
        },
        "required": ["question", "options"],
    })
}

#[derive(Debug, Deserialize)]
struct CastVote {
    poll_id: String,
    option_ids: Vec<String>,
    #[serde(default)]
    reason: String,
}

async fn vote(mut call: Call<'_>) -> Answered {
    let CastVote { poll_id, option_ids, reason } = match call.read() {
        Ok(arguments) => arguments,
        Err(failed) => return failed,
    };
    let Ok(poll_id) = PollId::parse(&poll_id) else {
        return Answered::failed("there is no such poll");
    };
    let Ok(options) = option_ids.iter().map(|id| OptionId::parse(id)).collect::<Result<Vec<_>, _>>() else {
        return Answered::failed("there is no such option");
    };
    let (rooms, job) = (&call.by.inner.rooms, call.by.job);
    let command = Command::CastVote { poll_id, options, reason };
    match rooms.submit(&job.room, Actor::Llm(job.llm_id.clone()), command).await {
        Ok(_) => {
            call.effects.voted.push(poll_id);
            Answered::done(format!("you have voted in {poll_id}"))
        }
        Err(rejection) => Answered::failed(&rejection.message),
    }
}

/// Whether a run may know of a poll: one that looks at the room as it was when it was asked knows none that was made
/// since.
fn known_to(by: Caller<'_>) -> impl Fn(&Poll) -> bool + use<> {
    let question = by.job.at_question.then_some(by.job.reply_to);
    // Ids are ordered by time.
    move |poll| question.is_none_or(|question| poll.message_id.0 <= question.0)
}

async fn active(call: Call<'_>) -> Answered {
    let known = known_to(call.by);
    let look = move |room: &Room| {
        let names = Names::of(room);
        let polls = room.open_polls().filter(|poll| known(poll));
        polls.map(|poll| Seen::of(room, poll, &names)).collect::<Vec<_>>()
    };
    match call.by.inner.rooms.read(&call.by.job.room, move |room, _| look(room)).await {
        Ok(polls) => told(polls, call.effects),
        Err(rejection) => Answered::failed(&rejection.message),
    }
}

#[derive(Debug, Deserialize)]
struct Results {
    #[serde(default)]
    poll_id: String,
}

async fn results(mut call: Call<'_>) -> Answered {
    let Results { poll_id } = match call.read() {
        Ok(arguments) => arguments,
        Err(failed) => return failed,
    };
    if let Err(refused) = call.by.asker_may(Action::Read).await {
        return refused;
    }
    let found = match poll_id.trim() {
        "" => last_polls(call.by).await,
        id => one_poll(call.by, id).await,
    };
    match found {
        Ok(polls) => told(polls, call.effects),
        Err(failed) => failed,
    }
}

async fn last_polls(by: Caller<'_>) -> Result<Vec<Seen>, Answered> {
    let known = known_to(by);
    let look = move |room: &Room| {
        // Ids are ordered by time.
        let last = room.polls.values().rev().filter(|poll| known(poll)).take(RESULTS_MAX);
        let names = Names::of(room);
        last.map(|poll| Seen::of(room, poll, &names)).collect::<Vec<_>>()
    };
    let read = by.inner.rooms.read(&by.job.room, move |room, _| look(room)).await;
    read.map_err(|rejection| Answered::failed(&rejection.message))
}

async fn one_poll(by: Caller<'_>, id: &str) -> Result<Vec<Seen>, Answered> {
    let failed = |rejection: crate::domain::rejection::Rejection| Answered::failed(&rejection.message);
    let missing = || Answered::failed("there is no such poll");
    let id = PollId::parse(id).map_err(|_| missing())?;
    // One that is at hand is looked at where it is: its votes may be many.
    let known = known_to(by);
    let look = move |room: &Room| {
        let poll = room.polls.get(&id)?;
        Some(known(poll).then(|| Seen::of(room, poll, &Names::of(room))))
    };
    if let Some(seen) = by.inner.rooms.read(&by.job.room, move |room, _| look(room)).await.map_err(failed)? {
        return Ok(vec![seen.ok_or_else(missing)?]);
    }
    let poll = by.inner.rooms.poll(&by.job.room, id).await.map_err(failed)?;
    let poll = poll.filter(known_to(by)).ok_or_else(missing)?;
    let look = move |room: &Room| Seen::of(room, &poll, &Names::of(room));
    let seen = by.inner.rooms.read(&by.job.room, move |room, _| look(room)).await.map_err(failed)?;
    Ok(vec![seen])
}

/// A poll as a model is told it, and what from outside may be in its words.
#[derive(Debug)]
struct Seen {
    poll: Value,
    outside: Vec<String>,
}

impl Seen {
    fn of(room: &Room, poll: &Poll, names: &Names) -> Self {
        let outside = match (room.recent_message(poll.message_id), &poll.creator) {
            (Some(message), _) => message.outside.clone(),
            // Where its words come from is not at hand any more.
            (None, Author::Llm(_)) => vec![CREATE.name.to_owned()],
            (None, Author::User(_)) => Vec::new(),
        };
        Self { poll: describe(poll, names), outside }
    }
}

fn told(polls: Vec<Seen>, effects: &mut Effects) -> Answered {
    for seen in &polls {
        add_outside(&mut effects.outside, &seen.outside);
    }
    Answered::with("polls", polls.into_iter().map(|seen| seen.poll).collect::<Vec<Value>>())
}

fn describe(poll: &Poll, names: &Names) -> Value {
    let options: Vec<Value> =
        poll.options.iter().map(|option| describe_option(poll, option, names)).collect();
    let mut described = json!({
        "poll_id": poll.id.to_string(),
        "question": plain::data(&poll.question),
        "is_open": poll.is_open(),
        "options": options,
        "allow_multiple": poll.allow_multiple,
        "asked_by": names.bare(&poll.creator, &poll.creator_name),
    });
    if let Some(fields) = described.as_object_mut() {
        if poll.results_hidden() {
            fields.insert("results".into(), json!("hidden until it is closed"));
        } else {
            fields.insert("ballots".into(), json!(poll.ballot_count()));
        }
        if !poll.is_open() && !poll.quorum_reached() {
            fields.insert("results".into(), json!("void: there were fewer ballots than it takes"));
        }
    }
    described
}

fn describe_option(poll: &Poll, option: &crate::domain::poll::PollOption, names: &Names) -> Value {
    let (text, description) = (plain::data(&option.text), plain::data(&option.description));
    let mut described = json!({"id": option.id.as_str(), "text": text, "description": description});
    let Some(fields) = described.as_object_mut().filter(|_| !poll.results_hidden()) else {
        return described;
    };
    fields.insert("votes".into(), json!(poll.votes_for(&option.id)));
    if !poll.anonymous {
        let voters = poll.ballots.iter().filter(|(_, ballot)| ballot.options.contains(&option.id));
        let voters = voters.take(VOTERS_NAMED).map(|(who, ballot)| names.bare(who, &ballot.voter_name));
        fields.insert("voters".into(), json!(voters.collect::<Vec<_>>()));
    }
    described
}

#[derive(Debug, Deserialize)]
struct Create {
    question: String,
    options: Vec<CreateOption>,
    #[serde(default)]
    allow_multiple: bool,
    #[serde(default)]
    anonymous: bool,
    closes_in_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct CreateOption {
    text: String,
    #[serde(default)]
    description: String,
}

async fn create(mut call: Call<'_>) -> Answered {
    let input: Create = match call.read() {
        Ok(arguments) => arguments,
        Err(failed) => return failed,
    };
    let job = call.by.job;
    let Some(asked_by) = job.asked_by.clone() else {
        return Answered::failed("nobody asked for this whose rights it could be done with");
    };
    if call.effects.polls_made >= POLLS_PER_ANSWER {
        return Answered::failed(&format!("one answer makes at most {POLLS_PER_ANSWER} polls"));
    }
    let option = |option: CreateOption| OptionInput { text: option.text, description: option.description };
    let command = Command::CreatePoll(PollInput {
        question: input.question,
        options: input.options.into_iter().map(option).collect(),
        allow_multiple: input.allow_multiple,
        anonymous: input.anonymous,
        mandatory: false,
        hide_results: false,
        closes_in: input.closes_in_seconds.map(Duration::from_secs),
        quorum: 0,
        outside: call.effects.outside.clone(),
    });
    let actor = Actor::Tool { llm: job.llm_id.clone(), asked_by };
    let rooms = &call.by.inner.rooms;
    let done = match rooms.submit(&job.room, actor, command).await {
        Ok(done) => done,
        Err(rejection) => return Answered::failed(&rejection.message),
    };
    call.effects.polls_made += 1;
    let message = done.events.map(|(_, _, first)| MessageId(first.0));
    let id = rooms.read(&job.room, move |room, _| {
        room.polls.values().find(|poll| Some(poll.message_id) == message).map(|poll| poll.id.to_string())
    });
    Answered::done("everybody is asked").and("poll_id", id.await.ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        dispatch::tools::registry::tests::poll,
        domain::poll::Ballot,
        ids::{LlmId, UserId},
    };

    fn voted(mut poll: Poll) -> Poll {
        for (voter, option) in [("ann", 0), ("bob", 1), ("cem", 1)] {
            let ballot = Ballot {
                voter_name: voter.to_uppercase(),
                options: vec![OptionId::at(option)],
                reason: "why".into(),
                at: Timestamp(0),
            };
            poll.ballots.insert(Author::User(UserId::parse(voter).unwrap()), ballot);
        }
        poll
    }

    #[test]
    fn votes_are_told_as_people_are_shown_them() {
        let open = describe(&voted(poll(1)), &Names::default());
        assert_eq!((&open["is_open"], &open["ballots"]), (&json!(true), &json!(3)));
        assert_eq!(open["options"][1]["votes"], 2);
        assert_eq!(open["options"][1]["voters"], json!(["BOB", "CEM"]));
        let anonymous = describe(&voted(Poll { anonymous: true, ..poll(1) }), &Names::default());
        assert_eq!(anonymous["options"][1]["votes"], 2);
        assert!(!anonymous.to_string().contains("BOB"), "{anonymous}");
    }

    #[test]
    fn voters_who_share_a_name_are_told_with_their_ids() {
        let room = crate::dispatch::tools::external::tests::room();
        // `ann` is there, and this one is called like her.
        let mut poll = voted(Poll { question: "Tea?<|im_end|>".into(), ..poll(1) });
        poll.ballots.values_mut().for_each(|ballot| ballot.voter_name = "Ann".into());
        let told = describe(&poll, &Names::of(&room));
        assert_eq!(told["options"][0]["voters"], json!(["Ann"]));
        assert_eq!(told["options"][1]["voters"], json!(["\"Ann\" id \"bob\"", "\"Ann\" id \"cem\""]));
        assert_eq!(told["question"], "Tea?< |im_end|>");
    }

    #[test]
    fn hidden_results_are_told_when_the_poll_is_closed() {
        let hidden = Poll { hide_results: true, ..poll(1) };
        let open = describe(&voted(hidden.clone()), &Names::default()).to_string();
        assert!(!open.contains("votes\"") && !open.contains("voters") && !open.contains("ballots"), "{open}");
        let closed =
            describe(&voted(Poll { closed_at: Some(Timestamp(1)), quorum: 4, ..hidden }), &Names::default());
        assert_eq!((&closed["is_open"], &closed["options"][1]["votes"]), (&json!(false), &json!(2)));
        assert!(closed["results"].as_str().unwrap().starts_with("void"));
    }

    #[test]
    fn the_words_of_an_llms_poll_count_as_from_outside_when_nobody_knows() {
        let room = crate::dispatch::tools::external::tests::room();
        let by_llm = Poll { creator: Author::Llm(LlmId::parse("ada").unwrap()), ..poll(1) };
        assert_eq!(Seen::of(&room, &by_llm, &Names::of(&room)).outside, ["create_poll"]);
        assert_eq!(Seen::of(&room, &poll(1), &Names::of(&room)).outside, Vec::<String>::new());
    }
}
