//! Who is a member, and with which role.

use std::time::Duration;

use crate::{
    domain::{
        command::JoinProfile,
        decide::{Context, Decision, invitations, member},
        event::{Event, MemberChange},
        limits::{
            AVATAR_CHARS, DISPLAY_NAME_CHARS, MUTE, REASON_CHARS, TITLE_CHARS, check_chars, check_name,
        },
        permissions::{self, Action},
        rejection::{Code, Rejection},
        room::{Member, Role, Room, Status},
    },
    ids::UserId,
};

pub(super) fn join(
    room: &Room,
    user: &UserId,
    profile: JoinProfile,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    check_name("join.display_name", &profile.name, DISPLAY_NAME_CHARS)?;
    check_name("join.title", &profile.title, TITLE_CHARS)?;
    check_name("join.avatar", &profile.avatar, AVATAR_CHARS)?;
    if room.banned.contains(user) {
        return Err(Rejection::denied(format!("{user} is banned from this room")));
    }
    match room.members.get(user) {
        Some(member) => Ok(rejoin(member, profile, context)),
        None => first_join(room, user, profile, context),
    }
}

/// Who is a member already keeps the role the room has for them, whatever the client says; only a verified credential
/// raises it.
fn rejoin(member: &Member, profile: JoinProfile, context: &mut Context<'_>) -> Decision {
    let role = profile.granted.map_or(member.role, |granted| granted.max(member.role));
    // A name is something that is said.
    let is_muted = member.muted_until.is_some_and(|until| until > context.at) && role != Role::Admin;
    let profile = match is_muted {
        true => JoinProfile {
            name: member.name.clone(),
            title: member.title.clone(),
            avatar: member.avatar.clone(),
            ..profile
        },
        false => profile,
    };
    let now = Member {
        role,
        // An ADMIN is not muted.
        muted_until: member.muted_until.filter(|_| role != Role::Admin),
        name: if profile.name.trim().is_empty() { member.name.clone() } else { profile.name },
        title: profile.title,
        avatar: profile.avatar,
        ..member.clone()
    };
    if &now == member {
        return Decision::nothing();
    }
    Decision::fenced(vec![context.event(changed(now, MemberChange::Updated, None))])
}

fn first_join(
    room: &Room,
    user: &UserId,
    profile: JoinProfile,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let max = context.limits.members_per_room;
    // Roles of those who have gone are kept, so they count: joining and leaving under ever new names has an end.
    let only_mutes = room.former_mutes.keys().filter(|muted| !room.former_roles.contains_key(*muted));
    let kept = room.former_roles.len() - usize::from(room.former_roles.contains_key(user))
        + only_mutes.filter(|muted| *muted != user).count();
    if room.members.len() + kept >= max {
        return Err(Rejection::new(Code::ResourceExhausted, format!("a room has at most {max} members")));
    }
    let admission = invitations::admission(room, user, &profile, context)?;
    let role = first_role(room, user, admission.role, &profile);
    let member = Member {
        id: user.clone(),
        name: if profile.name.trim().is_empty() { user.to_string() } else { profile.name },
        role,
        title: profile.title,
        avatar: profile.avatar,
        joined_at: context.at,
        muted_until: room
            .former_mutes
            .get(user)
            .copied()
            .filter(|until| *until > context.at && role != Role::Admin),
    };
    let mut events = Vec::new();
    if room.status == Status::Waiting {
        events.push(context.event(Event::RoomActivated));
    }
    events.push(context.event(changed(member, MemberChange::Joined, None)));
    events.extend(admission.closed.map(|closed| context.event(closed)));
    Ok(Decision::fenced(events))
}

/// A client may ask for less than MEMBER, never for more; who has been here gets at most what they had, who comes with
/// an invitation what it says, and who comes for the first time with a verified credential the role that it grants. That
/// role is also the least that anybody gets: a credential raises, and lowers nobody.
fn first_role(room: &Room, user: &UserId, invited: Option<Role>, profile: &JoinProfile) -> Role {
    let fresh = room.fresh_role(user);
    let usual = invited.or(profile.granted).filter(|_| fresh != Role::Admin).unwrap_or(fresh);
    let most = room.former_roles.get(user).copied().unwrap_or(usual);
    let most = profile.granted.map_or(most, |granted| granted.max(most));
    match (most, profile.role) {
        (Role::Member, Some(Role::Viewer)) => Role::Viewer,
        // An ADMIN is wanted as one: without it nobody could change members or end the room.
        (role, _) => role,
    }
}

pub(super) fn leave(room: &Room, user: &UserId, context: &mut Context<'_>) -> Result<Decision, Rejection> {
    let member = member(room, user)?.clone();
    if is_only_admin(room, &member) && room.members.len() > 1 {
        return Err(Rejection::denied(format!(
            "{user} is the only ADMIN: make somebody else ADMIN or end the room first"
        )));
    }
    Ok(Decision::fenced(vec![context.event(changed(member, MemberChange::Left, None))]))
}

fn is_only_admin(room: &Room, member: &Member) -> bool {
    let admins = room.members.values().filter(|m| m.role == Role::Admin).count();
    member.role == Role::Admin && admins == 1
}

pub(super) fn update(
    room: &Room,
    by: &UserId,
    user: &UserId,
    role: Role,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let by_whom = member(room, by)?;
    let Some(member) = room.members.get(user) else {
        return Err(Rejection::not_found("member", user));
    };
    permissions::check_not_above(by_whom, member)?;
    if role > by_whom.role {
        return Err(Rejection::denied(format!("nobody makes others more than they are: {:?}", by_whom.role)));
    }
    if member.role == role {
        return Ok(Decision::nothing());
    }
    if is_only_admin(room, member) {
        return Err(Rejection::denied(format!("{user} is the only ADMIN of the room")));
    }
    // An ADMIN is not muted.
    let muted_until = member.muted_until.filter(|_| role != Role::Admin);
    let now = Member { role, muted_until, ..member.clone() };
    Ok(Decision::fenced(vec![context.event(changed(now, MemberChange::Updated, Some(by.clone())))]))
}

/// Lets a member only read for some time, or write again.
pub(super) fn mute(
    room: &Room,
    by: &UserId,
    user: &UserId,
    duration: Duration,
    reason: String,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let by_whom = member(room, by)?;
    check_chars("mute_member.reason", &reason, REASON_CHARS)?;
    if duration > MUTE {
        let (max, ms) = (MUTE.as_millis(), duration.as_millis());
        return Err(Rejection::field(
            "mute_member.duration_ms",
            format_args!("must be at most {max}, is {ms}"),
        ));
    }
    if by == user {
        return Err(Rejection::field("mute_member.user_id", "is yourself"));
    }
    let Some(member) = room.members.get(user) else {
        return Err(Rejection::not_found("member", user));
    };
    permissions::check_not_above(by_whom, member)?;
    if member.role == Role::Admin {
        return Err(Rejection::denied(format!("{user} is ADMIN: change the role first")));
    }
    let muted_until = (!duration.is_zero()).then(|| context.at.plus(duration));
    let is_muted = member.muted_until.is_some_and(|until| until > context.at);
    if muted_until == member.muted_until || (muted_until.is_none() && !is_muted) {
        return Ok(Decision::nothing());
    }
    let now = Member { muted_until, ..member.clone() };
    let event = because(changed(now, MemberChange::Updated, Some(by.clone())), reason);
    Ok(Decision::fenced(vec![context.event(event)]))
}

pub(super) fn remove(
    room: &Room,
    by: &UserId,
    user: UserId,
    ban: bool,
    reason: String,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let by_whom = member(room, by)?;
    check_chars("remove_member.reason", &reason, REASON_CHARS)?;
    if by == &user {
        return Err(Rejection::field("remove_member.user_id", "is yourself: use leave"));
    }
    let banned = room.banned.contains(&user);
    let change = match (room.members.get(&user), ban) {
        (Some(_), true) => MemberChange::Banned,
        (Some(_), false) => MemberChange::Removed,
        (None, true) if banned => return Ok(Decision::nothing()),
        (None, true) => MemberChange::Banned,
        (None, false) if banned => MemberChange::Unbanned,
        (None, false) => return Err(Rejection::not_found("member", user)),
    };
    let needed = match change {
        MemberChange::Banned | MemberChange::Unbanned => Action::Ban,
        MemberChange::Removed | MemberChange::Joined | MemberChange::Updated | MemberChange::Left => {
            Action::Kick
        }
    };
    permissions::require(room, by, needed, context.at)?;
    if let Some(member) = room.members.get(&user) {
        permissions::check_not_above(by_whom, member)?;
    }
    // Bans are kept for ever and can be of anybody. They have a limit of their own: those who can join under ever new
    // names, and are banned each time, must not take the places of members.
    let max = context.limits.members_per_room;
    if change == MemberChange::Banned && room.banned.len() >= max {
        return Err(Rejection::new(
            Code::ResourceExhausted,
            format!("at most {max} users can be banned from a room: let somebody in again first"),
        ));
    }
    let member = room.members.get(&user).cloned().unwrap_or_else(|| stranger(user, context));
    let event = because(changed(member, change, Some(by.clone())), reason);
    Ok(Decision::fenced(vec![context.event(event)]))
}

/// Somebody who can be banned without ever having been here.
fn stranger(user: UserId, context: &Context<'_>) -> Member {
    Member {
        name: user.to_string(),
        id: user,
        role: Role::Viewer,
        title: String::new(),
        avatar: String::new(),
        joined_at: context.at,
        muted_until: None,
    }
}

/// The same change of a membership, with a reason.
fn because(event: Event, reason: String) -> Event {
    match event {
        Event::MemberChanged { member, change, by, .. } => {
            Event::MemberChanged { member, change, by, reason }
        }
        other => other,
    }
}

fn changed(member: Member, change: MemberChange, by: Option<UserId>) -> Event {
    Event::MemberChanged { member, change, by, reason: String::new() }
}
