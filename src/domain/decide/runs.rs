//! Answers of LLMs: begun by the server, ended exactly once.

use crate::{
    domain::{
        autopilot::Status,
        command::RunOutcome,
        decide::{Context, Decision, approvals, messages, polls, turns},
        event::Event,
        limits::REASON_CHARS,
        llm::{Run, RunEnd, RunReport},
        mention,
        message::{Author, Message},
        poll::Abstention,
        rejection::{Code, Rejection},
        room::Room,
        summaries,
        summary::{Summary, add_outside},
    },
    ids::{LlmId, Seq},
};

pub(super) fn start(room: &Room, run: Run, context: &mut Context<'_>) -> Result<Decision, Rejection> {
    let Some(llm) = room.llm(&run.llm_id) else {
        return Err(Rejection::not_found("LLM", run.llm_id));
    };
    if let Some(id) = run.poll_id {
        // Between the question and the beginning a poll can end, also by a deadline that nobody was there to keep.
        let poll = polls::votable_poll(room, id, context)?;
        // Two nodes may find at the same time that a vote is owed: it is asked for once.
        let is_asked = room.runs.values().any(|open| open.poll_id == Some(id) && open.llm_id == run.llm_id);
        let is_given = poll.ballots.contains_key(&Author::Llm(run.llm_id.clone()));
        let is_owed = !poll.mandatory || poll.owing(&room.llms).any(|owing| owing.id == run.llm_id);
        if is_asked || is_given || !is_owed {
            return Err(Rejection::new(Code::AlreadyExists, "this vote is being given or was given"));
        }
    }
    let max = context.limits.chain_depth;
    if run.chain_depth > max {
        return Err(Rejection::new(
            Code::ResourceExhausted,
            format!("LLMs may ask one another at most {max} times"),
        ));
    }
    let max = context.limits.open_runs_per_room;
    if room.runs.len() >= max {
        return Err(Rejection::new(
            Code::ResourceExhausted,
            format!("at most {max} answers run or wait in a room"),
        ));
    }
    // The id becomes the message's: one that a message has already would give two events the same id.
    if room.runs.contains_key(&run.message_id) || room.recent_message(run.message_id).is_some() {
        return Err(Rejection::new(Code::AlreadyExists, format!("the answer {} has begun", run.message_id)));
    }
    if let Some(id) = run.replaces {
        messages::replaceable(room, messages::living_target(room, id, context)?)?;
    }
    if let Some(turn) = run.turn {
        let open = room.open_autopilot().filter(|autopilot| autopilot.status == Status::Running);
        if open.is_none_or(|autopilot| turn != autopilot.turns + 1) {
            return Err(Rejection::new(Code::NotFound, "it is nobody's turn"));
        }
        if room.runs.values().any(|run| run.turn.is_some()) {
            return Err(Rejection::new(Code::NotFound, "the turn is being taken already"));
        }
    }
    let run = Run { llm_name: llm.display_name.clone(), started_at: context.at, ..run };
    Ok(Decision::fenced(vec![context.event(Event::RunStarted(run))]))
}

pub(super) fn finish(
    room: &Room,
    outcome: RunOutcome,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let Some(run) = room.runs.get(&outcome.message_id).cloned() else {
        return Err(Rejection::not_found("running answer", outcome.message_id));
    };
    let mut events = approvals::cancel_of(room, run.message_id, context);
    let after_turn = turns::after_turn(room, &run, &outcome, context);
    if !outcome.text.trim().is_empty() {
        let mut mentions = mention::resolve(&room.llms, &outcome.text, &[]);
        mentions.extend(outcome.mentions.into_iter().filter(|id| room.llm(id).is_some()));
        // Whose turn it is next is not for the one who speaks to say.
        let mentions = if run.turn.is_some() { Vec::new() } else { distinct_others(mentions, &run.llm_id) };
        let author = Author::Llm(run.llm_id.clone());
        let name = run.llm_name.clone();
        let replaced = run.replaces.and_then(|id| messages::living_target(room, id, context).ok());
        let partial = outcome.end != RunEnd::Completed;
        // A fragment does not take the place of a whole answer: that stays, and stands for the fragment as well.
        let (replaced, kept) = replaced.map_or((None, None), |old| {
            if partial && !old.partial { (None, Some(old.id)) } else { (Some(old), None) }
        });
        let version = replaced.map_or(1, |old| old.version.saturating_add(1));
        let replaces = replaced.map(|old| old.id);
        let replaced = replaced.map(|old| (old.id, old.seq));
        let mut outside = Vec::new();
        add_outside(&mut outside, &outcome.outside);
        let said_at = room.seq.plus(u64::try_from(events.len()).unwrap_or(u64::MAX)).next();
        events.push(messages::posted(Message {
            version,
            replaces,
            outside,
            reply_to: Some(run.reply_to),
            mentions,
            partial,
            chain_depth: run.chain_depth,
            from_run: true,
            ..messages::plain(run.message_id, author, name, outcome.text, context)
        }));
        let superseded = match (replaced, kept) {
            (Some((old, of)), _) => Some((old, of, run.message_id)),
            (None, kept) => kept.map(|old| (run.message_id, said_at, old)),
        };
        events.extend(
            superseded
                .map(|(message_id, of, by)| context.event(Event::MessageSuperseded { message_id, of, by })),
        );
    }
    events.extend(abstained(room, &run, outcome.end, &outcome.report).map(|event| context.event(event)));
    let ended = Event::RunEnded { run, end: outcome.end, report: Box::new(outcome.report) };
    events.push(context.event(ended));
    events.extend(after_turn);
    Ok(Decision::fenced(events))
}

/// An LLM that had to vote and did not: why, for everybody to see.
fn abstained(room: &Room, run: &Run, end: RunEnd, report: &RunReport) -> Option<Event> {
    let poll = room.polls.get(&run.poll_id?).filter(|poll| poll.is_open() && poll.mandatory)?;
    let voter = Author::Llm(run.llm_id.clone());
    if poll.ballots.contains_key(&voter) {
        return None;
    }
    let said = [&report.detail, &report.error_message].into_iter().find(|text| !text.is_empty());
    let reason = match (said, end) {
        (Some(said), _) => said.chars().take(REASON_CHARS).collect(),
        (None, RunEnd::TimedOut) => "it did not answer in time".to_owned(),
        (None, RunEnd::OverBudget) => "a budget was used up".to_owned(),
        (None, RunEnd::Completed | RunEnd::OptedOut | RunEnd::Interrupted | RunEnd::Failed) => {
            "it did not vote".to_owned()
        }
    };
    let abstention = Abstention { llm_id: run.llm_id.clone(), llm_name: run.llm_name.clone(), reason };
    Some(Event::VoteAbstained { poll_id: poll.id, abstention })
}

/// Keeps a summary of what is too old to be given to an LLM.
pub(super) fn summarised(
    room: &Room,
    summary: Summary,
    read_at: Seq,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    summaries::check(room, &summary, read_at)?;
    Ok(Decision::free(vec![context.event(Event::ContextSummarised(summary))]))
}

/// An LLM does not call itself, and calls nobody twice.
fn distinct_others(mentions: Vec<LlmId>, own: &LlmId) -> Vec<LlmId> {
    let mut distinct: Vec<LlmId> = Vec::new();
    for id in mentions {
        if &id != own && !distinct.contains(&id) {
            distinct.push(id);
        }
    }
    distinct
}
