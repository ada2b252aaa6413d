//! What happens in a room, as the autopilot in it takes it: somebody's message, the end of a turn.

use crate::{
    domain::{
        autopilot::{Autopilot, Next, OnHuman, Status, Taken},
        command::RunOutcome,
        decide::{Context, NewEvent},
        event::Event,
        llm::Run,
        rejection::{Code, Rejection},
        room::Room,
    },
    ids::AutopilotId,
};

/// What somebody's message does to a running autopilot.
pub(super) fn interrupted_by(room: &Room, name: &str, context: &mut Context<'_>) -> Option<NewEvent> {
    let autopilot = room.open_autopilot().filter(|autopilot| autopilot.status == Status::Running)?;
    let next = match autopilot.on_human {
        OnHuman::Pause => {
            let reason = format!("{name} said something");
            Autopilot { status: Status::Paused, reason, ..autopilot.clone() }
        }
        // What was agreed to is not what was said last any more.
        OnHuman::Steer => Autopilot { agreed: Vec::new(), ..autopilot.clone() },
    };
    (&next != autopilot).then(|| context.event(Event::AutopilotChanged(next)))
}

/// How an autopilot stands behind one of its turns: it may pause or end by that.
pub(super) fn after_turn(
    room: &Room,
    run: &Run,
    outcome: &RunOutcome,
    context: &mut Context<'_>,
) -> Option<NewEvent> {
    let (autopilot, turn) = (room.open_autopilot()?, run.turn?);
    let report = &outcome.report;
    let whys = [&report.error_message, &report.detail];
    let after = autopilot.after(&Taken {
        llm: &run.llm_id,
        name: &run.llm_name,
        turn,
        end: outcome.end,
        has_spoken: !outcome.text.trim().is_empty(),
        why: whys.into_iter().find(|why| !why.is_empty()).map_or("", String::as_str),
    });
    let after = match after.next(room) {
        Next::Over(reason) => Autopilot { status: Status::Ended, reason, ..after },
        Next::Turn(_) | Next::Wait => after,
    };
    Some(context.event(Event::AutopilotChanged(after)))
}

/// The autopilot that is not over.
pub(super) fn open(room: &Room) -> Result<&Autopilot, Rejection> {
    room.open_autopilot()
        .ok_or_else(|| Rejection::new(Code::NotFound, "there is no autopilot in this room that is not over"))
}

/// The open autopilot, if it is this one.
pub(super) fn known(room: &Room, id: AutopilotId) -> Result<&Autopilot, Rejection> {
    let autopilot = open(room)?;
    if autopilot.id == id {
        return Ok(autopilot);
    }
    Err(Rejection::new(Code::NotFound, "that autopilot is over, and this is another one"))
}
