//! Answers of LLMs: begun by the server, ended exactly once.

use crate::{
    domain::{
        command::RunOutcome,
        decide::{Context, Decision, messages},
        event::Event,
        llm::{Run, RunEnd},
        mention,
        message::{Author, Message},
        rejection::{Code, Rejection},
        room::Room,
    },
    ids::LlmId,
};

pub(super) fn start(room: &Room, run: Run, context: &mut Context<'_>) -> Result<Decision, Rejection> {
    let Some(llm) = room.llm(&run.llm_id) else {
        return Err(Rejection::not_found("LLM", run.llm_id));
    };
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
    let mut events = Vec::new();
    if !outcome.text.trim().is_empty() {
        let mut mentions = mention::resolve(&room.llms, &outcome.text, &[]);
        mentions.extend(outcome.mentions.into_iter().filter(|id| room.llm(id).is_some()));
        let mentions = distinct_others(mentions, &run.llm_id);
        let author = Author::Llm(run.llm_id.clone());
        let name = run.llm_name.clone();
        events.push(messages::posted(Message {
            reply_to: Some(run.reply_to),
            mentions,
            partial: outcome.end != RunEnd::Completed,
            chain_depth: run.chain_depth,
            from_run: true,
            ..messages::plain(run.message_id, author, name, outcome.text, context)
        }));
    }
    let ended = Event::RunEnded { run, end: outcome.end, report: Box::new(outcome.report) };
    events.push(context.event(ended));
    Ok(Decision::fenced(events))
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
