//! Polls: created, voted on, closed.

use crate::{
    domain::{
        command::{Actor, OptionInput, PollInput},
        decide::{Context, Decision, NewEvent, check_pace, member, messages},
        event::{Event, Vote},
        limits::{
            OPEN_POLLS, POLL_DEADLINE_MS, POLL_OPTION_CHARS, POLL_OPTION_DESCRIPTION_CHARS, POLL_OPTIONS,
            POLL_QUESTION_CHARS, QUORUM, REASON_CHARS, check_chars, check_required,
        },
        message::{Author, Message},
        permissions::{self, Action},
        poll::{Abstention, Ballot, Poll, PollOption},
        rejection::{Code, Rejection},
        room::Room,
        summary::add_outside,
    },
    ids::{LlmId, MessageId, OptionId, PollId},
};

pub(super) fn create(
    room: &Room,
    actor: &Actor,
    input: PollInput,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let creator = match actor {
        // A poll asks everybody: an LLM makes one only for somebody who may.
        Actor::Llm(_) => return Err(Rejection::denied("an LLM creates polls on behalf of a person only")),
        Actor::User(_) | Actor::Tool { .. } | Actor::Server => voter(room, actor)?,
    };
    check(&input).map_err(|rejection| Rejection { code: Code::InvalidPoll, ..rejection })?;
    if room.open_polls().count() >= OPEN_POLLS {
        return Err(Rejection::new(
            Code::ResourceExhausted,
            format!("a room has at most {OPEN_POLLS} open polls"),
        ));
    }
    if let Actor::User(user) = actor {
        check_pace(room, member(room, user)?, context.at)?;
    }
    let creator_name = room.name_of(&creator).to_owned();
    let poll_id = PollId((context.new_id)());
    let message_id = MessageId((context.new_id)());
    let option = |(index, option): (usize, OptionInput)| PollOption {
        id: OptionId::at(index),
        text: option.text.trim().to_owned(),
        description: option.description,
    };
    let poll = Poll {
        id: poll_id,
        message_id,
        creator: creator.clone(),
        creator_name: creator_name.clone(),
        question: input.question.clone(),
        options: input.options.into_iter().enumerate().map(option).collect(),
        allow_multiple: input.allow_multiple,
        anonymous: input.anonymous,
        mandatory: input.mandatory,
        hide_results: input.hide_results,
        created_at: context.at,
        closes_at: input.closes_in.map(|wait| context.at.plus(wait)),
        closed_at: None,
        ballots: Default::default(),
        quorum: input.quorum,
        abstentions: Vec::new(),
        asked_by: match actor {
            Actor::Tool { asked_by, .. } => Some(asked_by.clone()),
            Actor::User(_) | Actor::Llm(_) | Actor::Server => None,
        },
    };
    let mut outside = Vec::new();
    add_outside(&mut outside, &input.outside);
    let message = Message {
        poll_id: Some(poll_id),
        outside,
        ..messages::plain(message_id, creator, creator_name, input.question, context)
    };
    let posted = messages::posted(message);
    let created = context.event(Event::PollCreated(poll));
    Ok(Decision::fenced(vec![posted, created]))
}

fn check(input: &PollInput) -> Result<(), Rejection> {
    check_required("create_poll.question", &input.question, POLL_QUESTION_CHARS)?;
    let count = input.options.len();
    if !POLL_OPTIONS.contains(&count) {
        let (min, max) = (POLL_OPTIONS.start(), POLL_OPTIONS.end());
        return Err(Rejection::field(
            "create_poll.options",
            format_args!("must be {min} to {max}, are {count}"),
        ));
    }
    let mut seen = std::collections::BTreeSet::new();
    for option in &input.options {
        check_required("create_poll.options.text", &option.text, POLL_OPTION_CHARS)?;
        check_chars("create_poll.options.description", &option.description, POLL_OPTION_DESCRIPTION_CHARS)?;
        if !seen.insert(option.text.trim().to_lowercase()) {
            let problem = format_args!("must differ: {:?} is there twice", option.text.trim());
            return Err(Rejection::field("create_poll.options.text", problem));
        }
    }
    if input.quorum > QUORUM {
        let problem = format_args!("must be at most {QUORUM}, is {}", input.quorum);
        return Err(Rejection::field("create_poll.quorum", problem));
    }
    match input.closes_in.map(|wait| wait.as_millis()) {
        Some(ms) if ms < 1000 || ms > u128::from(POLL_DEADLINE_MS) => Err(Rejection::field(
            "create_poll.closes_in_ms",
            format_args!("must be 1000 to {POLL_DEADLINE_MS}, is {ms}"),
        )),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn vote(
    room: &Room,
    actor: &Actor,
    poll_id: PollId,
    options: &[OptionId],
    reason: String,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let voter = voter(room, actor)?;
    check_chars("cast_vote.reason", &reason, REASON_CHARS)?;
    let poll = votable_poll(room, poll_id, context)?;
    check_ballot(poll, options)?;
    // In the order of the poll, so that the same choice is always the same ballot.
    let options: Vec<OptionId> =
        poll.options.iter().filter(|o| options.contains(&o.id)).map(|o| o.id.clone()).collect();
    let before: &[OptionId] = poll.ballots.get(&voter).map(|b| b.options.as_slice()).unwrap_or_default();
    let retracted: Vec<OptionId> = before.iter().filter(|o| !options.contains(o)).cloned().collect();
    let mut chosen: Vec<OptionId> = options.iter().filter(|o| !before.contains(o)).cloned().collect();
    if chosen.is_empty() {
        let same_reason = poll.ballots.get(&voter).is_some_and(|b| b.reason == reason);
        if retracted.is_empty() && same_reason {
            return Ok(Decision::nothing());
        }
        chosen.extend(options.first().cloned());
    }
    if poll.results_hidden() {
        // The number of events would tell how many options were chosen; each carries the whole ballot anyway.
        chosen.truncate(1);
    }
    let ballot = Ballot { voter_name: room.name_of(&voter).to_owned(), options, reason, at: context.at };
    let vote = |option| Vote {
        poll_id,
        voter: voter.clone(),
        ballot: ballot.clone(),
        option,
        retracted: retracted.clone(),
    };
    let events = chosen.into_iter().map(|option| context.event(Event::PollVoted(vote(option)))).collect();
    Ok(Decision::fenced(events))
}

fn check_ballot(poll: &Poll, options: &[OptionId]) -> Result<(), Rejection> {
    if options.is_empty() {
        return Err(Rejection::field(
            "cast_vote.option_ids",
            "must name an option; to take a vote back use retract_vote",
        ));
    }
    for (index, id) in options.iter().enumerate() {
        if poll.option(id).is_none() {
            return Err(Rejection::not_found("option", id));
        }
        if options.iter().skip(index + 1).any(|other| other == id) {
            return Err(Rejection::field(
                "cast_vote.option_ids",
                format_args!("must differ: {id} is there twice"),
            ));
        }
    }
    if options.len() > 1 && !poll.allow_multiple {
        return Err(Rejection::field(
            "cast_vote.option_ids",
            "must be one: this poll allows a single choice",
        ));
    }
    Ok(())
}

pub(super) fn retract(
    room: &Room,
    actor: &Actor,
    poll_id: PollId,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let voter = voter(room, actor)?;
    let poll = votable_poll(room, poll_id, context)?;
    let Some(ballot) = poll.ballots.get(&voter) else {
        return Err(Rejection::new(Code::NotFound, "there is no vote of yours in this poll"));
    };
    let options = ballot.options.clone();
    Ok(Decision::fenced(vec![context.event(Event::VoteRetracted { poll_id, voter, options })]))
}

pub(super) fn close(
    room: &Room,
    actor: &Actor,
    poll_id: PollId,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let by = match actor {
        Actor::Server => None,
        Actor::User(_) | Actor::Llm(_) | Actor::Tool { .. } => Some(voter(room, actor)?),
    };
    let poll = open_poll(room, poll_id, context)?;
    if let Some(by) = &by {
        let others = |user| permissions::require(room, user, Action::ClosePolls, context.at);
        if by.user().is_none_or(|user| others(user).is_err()) {
            if by != &poll.creator {
                let who = messages::least_name(room, Action::ClosePolls);
                return Err(Rejection::denied(format!("only its creator or {who} may close a poll")));
            }
            if let Author::User(user) = by {
                permissions::require(room, user, Action::CreatePolls, context.at)?;
            }
        }
    }
    let by_name = by.as_ref().map(|by| room.name_of(by).to_owned()).unwrap_or_default();
    let why = if by.is_some() { "the poll was closed before it voted" } else { "the poll's deadline passed" };
    let poll = poll.clone();
    Ok(Decision::fenced(closing(room, poll, (by, by_name), why, context)))
}

/// Closes a poll: whoever had to vote and did not has abstained, so that the result says of everybody what they did.
pub(super) fn closing(
    room: &Room,
    mut poll: Poll,
    (by, by_name): (Option<Author>, String),
    why: &str,
    context: &mut Context<'_>,
) -> Vec<NewEvent> {
    let owing: Vec<LlmId> = poll.owing(&room.llms).map(|llm| llm.id.clone()).collect();
    let mut events = Vec::new();
    for llm in owing {
        let abstention = abstention(room, llm, why);
        poll.abstentions.push(abstention.clone());
        events.push(context.event(Event::VoteAbstained { poll_id: poll.id, abstention }));
    }
    poll.closed_at = Some(context.at);
    events.push(context.event(Event::PollClosed { poll, by, by_name }));
    events
}

/// An LLM that was asked to vote will not, for a reason that the server knows. Whoever does not owe a vote has not
/// abstained.
pub(super) fn abstain(
    room: &Room,
    poll_id: PollId,
    llm: LlmId,
    why: &str,
    context: &mut Context<'_>,
) -> Decision {
    let owes =
        room.polls.get(&poll_id).is_some_and(|poll| poll.owing(&room.llms).any(|owing| owing.id == llm));
    if !owes {
        return Decision::nothing();
    }
    let abstention = abstention(room, llm, why);
    Decision::fenced(vec![context.event(Event::VoteAbstained { poll_id, abstention })])
}

fn abstention(room: &Room, llm_id: LlmId, why: &str) -> Abstention {
    let llm_name = room.name_of(&Author::Llm(llm_id.clone())).to_owned();
    Abstention { llm_id, llm_name, reason: why.chars().take(REASON_CHARS).collect() }
}

/// Who takes part in polls: members, who were admitted, and the LLMs of the room.
fn voter(room: &Room, actor: &Actor) -> Result<Author, Rejection> {
    match actor {
        Actor::User(id) => Ok(Author::User(id.clone())),
        Actor::Llm(id) => {
            room.llm(id).ok_or_else(|| Rejection::not_found("LLM", id))?;
            Ok(Author::Llm(id.clone()))
        }
        Actor::Tool { llm, asked_by: _ } => {
            room.llm(llm).ok_or_else(|| Rejection::not_found("LLM", llm))?;
            Ok(Author::Llm(llm.clone()))
        }
        Actor::Server => Err(Rejection::denied("the server does not take part in polls")),
    }
}

/// A poll of this room that takes votes. One of another room is not found: polls are looked up by room.
fn open_poll<'a>(room: &'a Room, id: PollId, context: &'a Context<'_>) -> Result<&'a Poll, Rejection> {
    let poll = room
        .polls
        .get(&id)
        .or(context.facts.poll.as_ref().filter(|p| p.id == id))
        .ok_or_else(|| Rejection::not_found("poll", id))?;
    if poll.is_open() { Ok(poll) } else { Err(Rejection::new(Code::PollClosed, "the poll is closed")) }
}

/// An open poll whose deadline has not passed: the server may have been down when it should have closed it.
pub(super) fn votable_poll<'a>(
    room: &'a Room,
    id: PollId,
    context: &'a Context<'_>,
) -> Result<&'a Poll, Rejection> {
    let poll = open_poll(room, id, context)?;
    match poll.closes_at {
        Some(deadline) if context.at >= deadline => {
            Err(Rejection::new(Code::PollClosed, "the poll's deadline has passed"))
        }
        Some(_) | None => Ok(poll),
    }
}
