//! Calls of tools that wait for a person: asked for, approved, denied, expired.

use crate::{
    domain::{
        approval::{Approval, Decided},
        decide::{Context, Decision, NewEvent},
        event::Event,
        limits::{PENDING_APPROVALS, REASON_CHARS, check_chars},
        permissions,
        rejection::{Code, Rejection},
        room::Room,
    },
    ids::{ApprovalId, MessageId, UserId},
};

pub(super) fn request(
    room: &Room,
    approval: Approval,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    if !room.runs.contains_key(&approval.message_id) {
        return Err(Rejection::not_found("running answer", approval.message_id));
    }
    if room.approvals.len() >= PENDING_APPROVALS {
        return Err(Rejection::new(
            Code::ResourceExhausted,
            format!("at most {PENDING_APPROVALS} calls of tools wait for a decision in a room"),
        ));
    }
    Ok(Decision::fenced(vec![context.event(Event::ApprovalRequested(approval))]))
}

pub(super) fn decide(
    room: &Room,
    user: &UserId,
    id: ApprovalId,
    approve: bool,
    reason: String,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    check_chars("decide_approval.reason", &reason, REASON_CHARS)?;
    let approval = waiting(room, id)?;
    permissions::may_decide(room, approval, user, context.at)?;
    if context.at >= approval.expires_at {
        return Err(Rejection::new(Code::NotFound, "the time to decide this has passed"));
    }
    let decided = if approve { Decided::Approved } else { Decided::Denied };
    let event = Event::ApprovalDecided { id, decided, by: Some(user.clone()), reason };
    Ok(Decision::fenced(vec![context.event(event)]))
}

pub(super) fn expire(room: &Room, id: ApprovalId, context: &mut Context<'_>) -> Result<Decision, Rejection> {
    waiting(room, id)?;
    let (decided, reason) = (Decided::Expired, "nobody decided in time".to_owned());
    let event = Event::ApprovalDecided { id, decided, by: None, reason };
    Ok(Decision::fenced(vec![context.event(event)]))
}

/// Closes what an answer that ends has left open.
pub(super) fn cancel_of(room: &Room, run: MessageId, context: &mut Context<'_>) -> Vec<NewEvent> {
    let waiting = room.approvals.values().filter(|approval| approval.message_id == run);
    waiting
        .map(|approval| {
            let (decided, reason) = (Decided::Cancelled, "the answer ended".to_owned());
            context.event(Event::ApprovalDecided { id: approval.id, decided, by: None, reason })
        })
        .collect()
}

fn waiting(room: &Room, id: ApprovalId) -> Result<&Approval, Rejection> {
    room.approvals.get(&id).ok_or_else(|| Rejection::not_found("call that waits for a decision", id))
}
