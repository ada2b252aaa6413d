//! Invitations: made, revoked, used.

use std::time::Duration;

use crate::{
    domain::{
        command::JoinProfile,
        decide::{Aside, Context, Decision, member},
        event::Event,
        invitation::{DEFAULT_LIFE, INVITATIONS, Invitation, LONGEST_LIFE},
        permissions::{self, Action},
        rejection::{Code, Rejection},
        room::{Role, Room, Visibility},
        settings::JoinRule,
    },
    ids::{InvitationId, UserId},
};

pub(super) fn create(
    room: &Room,
    user: &UserId,
    expires_in: Option<Duration>,
    role: Role,
    for_user: Option<UserId>,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let by = member(room, user)?;
    if role > by.role.min(Role::Member) {
        let most = by.role.min(Role::Member);
        let problem = format_args!("must be at most {most:?} in an invitation of yours, is {role:?}");
        return Err(Rejection::field("create_invitation.role", problem));
    }
    let life = expires_in.unwrap_or(DEFAULT_LIFE);
    if life < Duration::from_secs(1) || life > LONGEST_LIFE {
        let (max, ms) = (LONGEST_LIFE.as_millis(), life.as_millis());
        return Err(Rejection::field(
            "create_invitation.expires_in_ms",
            format_args!("must be 1000 to {max}, is {ms}"),
        ));
    }
    if room.invitations.values().filter(|invitation| invitation.is_open(context.at)).count() >= INVITATIONS {
        return Err(Rejection::new(
            Code::ResourceExhausted,
            format!("a room has at most {INVITATIONS} invitations at one time: revoke one first"),
        ));
    }
    let Some(secret) = context.secret.take() else {
        return Err(Rejection::new(Code::Internal, "there is no secret to make an invitation of"));
    };
    let hash = secret.hash();
    let expires_at = context.at.plus(life);
    let id = hash.id();
    let invitation =
        Invitation { id: id.clone(), hash, role, for_user, created_by: user.clone(), expires_at };
    let created = context.event(Event::InvitationCreated(invitation));
    Ok(Decision { asides: vec![Aside::Secret { id, secret }], ..Decision::fenced(vec![created]) })
}

pub(super) fn revoke(
    room: &Room,
    user: &UserId,
    id: InvitationId,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let invitation = room.invitations.get(&id).filter(|invitation| invitation.is_open(context.at));
    let invitation = invitation.ok_or_else(|| Rejection::not_found("invitation", &id))?;
    let needed = if &invitation.created_by == user { Action::Invite } else { Action::Kick };
    // Whoever may remove members revokes also what they have made themselves.
    if permissions::require(room, user, Action::Kick, context.at).is_err() {
        permissions::require(room, user, needed, context.at)?;
    }
    let closed = Event::InvitationClosed { id, used_by: None, revoked_by: Some(user.clone()) };
    Ok(Decision::fenced(vec![context.event(closed)]))
}

/// What lets somebody in who is no member.
pub(super) struct Admission {
    /// The role of the invitation they come with.
    pub(super) role: Option<Role>,
    /// Said behind their coming: the invitation is used up.
    pub(super) closed: Option<Event>,
}

/// Whether somebody who is no member may come in, and by what.
pub(super) fn admission(
    room: &Room,
    user: &UserId,
    profile: &JoinProfile,
    context: &Context<'_>,
) -> Result<Admission, Rejection> {
    let Some(hash) = profile.invitation else {
        // Who is to have a role here has it of an operator: that is an invitation as well.
        let invited = room.fresh_role(user) == Role::Admin || profile.granted.is_some();
        return match room.join_rule(context.limits) {
            // To whom it is not listed, it is not there either.
            JoinRule::Invited
                if !invited
                    && context.limits.private_by_invitation
                    && room.profile.visibility == Visibility::Private =>
            {
                Err(Rejection::no_room(&room.id))
            }
            JoinRule::Invited if !invited => {
                Err(Rejection::denied("this room can be joined with an invitation only"))
            }
            JoinRule::Invited | JoinRule::Open => Ok(Admission { role: None, closed: None }),
        };
    };
    let known = room.invitations.get(&hash.id()).filter(|invitation| {
        invitation.hash.is(&hash)
            && invitation.is_open(context.at)
            && invitation.for_user.as_ref().is_none_or(|only| only == user)
            // Who may not invite any more has let nobody in.
            && permissions::require_role(room, &invitation.created_by, Action::Invite).is_ok()
    });
    // Which of these it is would tell a stranger more than they need.
    let invitation = known.ok_or_else(|| {
        Rejection::denied(
            "this invitation lets you not in: it is unknown, was used or revoked, has expired, or is for another user",
        )
    })?;
    let role = invitation.role;
    let closed =
        Event::InvitationClosed { id: invitation.id.clone(), used_by: Some(user.clone()), revoked_by: None };
    Ok(Admission { role: Some(role), closed: Some(closed) })
}
