//! Who is a member, and with which role.

use crate::{
    domain::{
        command::JoinProfile,
        decide::{Context, Decision, require},
        event::{Event, MemberChange},
        limits::{AVATAR_CHARS, DISPLAY_NAME_CHARS, REASON_CHARS, TITLE_CHARS, check_chars, check_name},
        permissions::Action,
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

/// Who is a member already keeps the role the room has for them, whatever the client says.
fn rejoin(member: &Member, profile: JoinProfile, context: &mut Context<'_>) -> Decision {
    let now = Member {
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
    let kept = room.former_roles.len() - usize::from(room.former_roles.contains_key(user));
    if room.members.len() + kept >= max {
        return Err(Rejection::new(Code::ResourceExhausted, format!("a room has at most {max} members")));
    }
    let member = Member {
        id: user.clone(),
        name: if profile.name.trim().is_empty() { user.to_string() } else { profile.name },
        role: first_role(room, user, profile.role),
        title: profile.title,
        avatar: profile.avatar,
        joined_at: context.at,
    };
    let mut events = Vec::new();
    if room.status == Status::Waiting {
        events.push(context.event(Event::RoomActivated));
    }
    events.push(context.event(changed(member, MemberChange::Joined, None)));
    Ok(Decision::fenced(events))
}

/// A client may ask for less than MEMBER, never for more; who has been here gets at most what they had.
fn first_role(room: &Room, user: &UserId, asked: Option<Role>) -> Role {
    let most = room.former_roles.get(user).copied().unwrap_or_else(|| room.fresh_role(user));
    match (most, asked) {
        (Role::Member, Some(Role::Viewer)) => Role::Viewer,
        // An ADMIN is wanted as one: without it nobody could change members or end the room.
        (role, _) => role,
    }
}

pub(super) fn leave(room: &Room, user: &UserId, context: &mut Context<'_>) -> Result<Decision, Rejection> {
    let member = require(room, user, Action::Read)?.clone();
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
    require(room, by, Action::Moderate)?;
    let Some(member) = room.members.get(user) else {
        return Err(Rejection::not_found("member", user));
    };
    if member.role == role {
        return Ok(Decision::nothing());
    }
    if is_only_admin(room, member) {
        return Err(Rejection::denied(format!("{user} is the only ADMIN of the room")));
    }
    let now = Member { role, ..member.clone() };
    Ok(Decision::fenced(vec![context.event(changed(now, MemberChange::Updated, Some(by.clone())))]))
}

pub(super) fn remove(
    room: &Room,
    by: &UserId,
    user: UserId,
    ban: bool,
    reason: String,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    require(room, by, Action::Moderate)?;
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
    let mut event = changed(member, change, Some(by.clone()));
    if let Event::MemberChanged { reason: why, .. } = &mut event {
        *why = reason;
    }
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
    }
}

fn changed(member: Member, change: MemberChange, by: Option<UserId>) -> Event {
    Event::MemberChanged { member, change, by, reason: String::new() }
}
