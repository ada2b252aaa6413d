//! LLMs talking among themselves: started, steered, ended. What messages and answers do to them is in `turns`.

use crate::{
    domain::{
        autopilot::{Autopilot, AutopilotInput, Control, Mode, OnRestart, Status, Step},
        decide::{
            Context, Decision, check_pace, member, messages, runs,
            turns::{known, open},
        },
        event::Event,
        limits::{AUTOPILOT_TURNS, AUTOPILOT_TURNS_DEFAULT, REASON_CHARS, check_chars},
        llm::Run,
        message::{Author, Message},
        rejection::{Code, Rejection},
        room::Room,
        summary::add_outside,
    },
    ids::{AutopilotId, LlmId, MessageId, UserId},
};

pub(super) fn start(
    room: &Room,
    user: &UserId,
    input: AutopilotInput,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let member = member(room, user)?;
    if room.open_autopilot().is_some() {
        return Err(Rejection::new(
            Code::AlreadyExists,
            "the room has an autopilot already; stop it before another",
        ));
    }
    messages::check_content("start_autopilot.topic", &input.topic, context.limits.message_bytes)?;
    let llms = speakers(room, &input)?;
    let max_turns = match (input.max_turns, input.mode) {
        // One pass: the work is done when everybody has had it.
        (0, Mode::Relay) => u32::try_from(llms.len()).unwrap_or(AUTOPILOT_TURNS),
        (0, _) => AUTOPILOT_TURNS_DEFAULT,
        (turns, _) => turns,
    };
    if max_turns > AUTOPILOT_TURNS {
        return Err(Rejection::field(
            "start_autopilot.max_turns",
            format_args!("must be at most {AUTOPILOT_TURNS}, is {max_turns}"),
        ));
    }
    check_pace(room, member, context.at)?;
    let message_id = MessageId((context.new_id)());
    let author = Author::User(user.clone());
    // What is said to all of them calls none of them besides.
    let message = messages::plain(message_id, author, member.name.clone(), input.topic.clone(), context);
    let autopilot = Autopilot {
        id: AutopilotId((context.new_id)()),
        mode: input.mode,
        status: Status::Running,
        topic: input.topic,
        llms,
        moderator: input.moderator,
        max_turns,
        turns: 0,
        on_human: input.on_human,
        on_restart: input.on_restart,
        started_by: user.clone(),
        reason: String::new(),
        chosen: None,
        instruction: String::new(),
        outside: Vec::new(),
        agreed: Vec::new(),
        last: None,
        failures: 0,
        message_id,
    };
    let posted = messages::posted(message);
    Ok(Decision::fenced(vec![posted, context.event(Event::AutopilotChanged(autopilot))]))
}

/// Who takes part, checked.
fn speakers(room: &Room, input: &AutopilotInput) -> Result<Vec<LlmId>, Rejection> {
    let is_moderator = |id: &LlmId| input.moderator.as_ref() == Some(id);
    let llms = if input.llms.is_empty() {
        room.llms.iter().map(|llm| llm.id.clone()).filter(|id| !is_moderator(id)).collect()
    } else {
        input.llms.clone()
    };
    for id in llms.iter().chain(&input.moderator) {
        if room.llm(id).is_none() {
            return Err(Rejection::not_found("LLM", id));
        }
    }
    let field = "start_autopilot.llm_ids";
    for (index, id) in llms.iter().enumerate() {
        if llms.iter().skip(index + 1).any(|other| other == id) {
            return Err(Rejection::field(field, format_args!("must differ: {id} is there twice")));
        }
        if is_moderator(id) {
            return Err(Rejection::field(field, format_args!("must not name the moderator {id}")));
        }
    }
    let least = match input.mode {
        Mode::Debate | Mode::Consensus => 2,
        Mode::RoundRobin | Mode::Moderator | Mode::Relay => 1,
    };
    if llms.len() < least {
        let count = llms.len();
        return Err(Rejection::field(field, format_args!("must name at least {least}, are {count}")));
    }
    match (input.mode, &input.moderator) {
        (Mode::Moderator, None) => Err(Rejection::field(
            "start_autopilot.moderator_llm_id",
            "must name the LLM that chooses who speaks",
        )),
        (Mode::RoundRobin | Mode::Debate | Mode::Relay | Mode::Consensus, Some(_)) => Err(Rejection::field(
            "start_autopilot.moderator_llm_id",
            "must only be set with AUTOPILOT_MODE_MODERATOR",
        )),
        (Mode::Moderator, Some(_)) | (_, None) => Ok(llms),
    }
}

pub(super) fn control(
    room: &Room,
    user: &UserId,
    control: Control,
    reason: String,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let member = member(room, user)?;
    check_chars("control_autopilot.reason", &reason, REASON_CHARS)?;
    let autopilot = open(room)?;
    let status = match control {
        Control::Stop => Status::Ended,
        Control::Pause => Status::Paused,
        Control::Resume => Status::Running,
    };
    if autopilot.status == status {
        return Ok(Decision::nothing());
    }
    let reason = match (control, reason.is_empty()) {
        (Control::Resume, _) => String::new(),
        (Control::Stop, true) => format!("stopped by {}", member.name),
        (Control::Pause, true) => format!("paused by {}", member.name),
        (Control::Stop | Control::Pause, false) => reason,
    };
    // Whoever resumes it gives it another chance.
    let failures = if control == Control::Resume { 0 } else { autopilot.failures };
    Ok(changed(Autopilot { status, reason, failures, ..autopilot.clone() }, context))
}

/// Begins a turn of this autopilot and of no other: meanwhile there may be another one, at the same turn.
pub(super) fn start_turn(
    room: &Room,
    id: AutopilotId,
    run: Run,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    known(room, id)?;
    runs::start(room, run, context)
}

pub(super) fn step(
    room: &Room,
    id: AutopilotId,
    step: Step,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let autopilot = known(room, id)?;
    let next = match step {
        Step::Choose { llm, instruction, outside } => {
            if !autopilot.llms.contains(&llm) {
                return Err(Rejection::not_found("LLM in this autopilot", llm));
            }
            let mut kept = Vec::new();
            add_outside(&mut kept, &outside);
            Autopilot { chosen: Some(llm), instruction, outside: kept, ..autopilot.clone() }
        }
        Step::Agree(_) if unheard(room) => return Ok(Decision::nothing()),
        Step::Agree(llm) => {
            let mut agreed = autopilot.agreed.clone();
            if !agreed.contains(&llm) {
                agreed.push(llm);
            }
            Autopilot { agreed, ..autopilot.clone() }
        }
        Step::Pause { reason } => Autopilot { status: Status::Paused, reason, ..autopilot.clone() },
        Step::End { reason } => Autopilot { status: Status::Ended, reason, ..autopilot.clone() },
        Step::Restarted => match autopilot.on_restart {
            // Recorded although nothing is another: whoever records it is who goes on with it.
            OnRestart::Continue => return Ok(changed(autopilot.clone(), context)),
            OnRestart::Stop => {
                let reason = "the server was restarted".into();
                Autopilot { status: Status::Ended, reason, ..autopilot.clone() }
            }
        },
    };
    if &next == autopilot {
        return Ok(Decision::nothing());
    }
    Ok(changed(next, context))
}

/// Whether somebody has said something that the LLM whose turn it is may not have read.
fn unheard(room: &Room) -> bool {
    let Some(turn) = room.runs.values().find(|run| run.turn.is_some()) else {
        return false;
    };
    let by_person = |message: &&Message| matches!(message.author, Author::User(_));
    room.recent.iter().rev().find(by_person).is_some_and(|message| message.at > turn.started_at)
}

fn changed(autopilot: Autopilot, context: &mut Context<'_>) -> Decision {
    Decision::fenced(vec![context.event(Event::AutopilotChanged(autopilot))])
}
