//! Which events of a room are facts of the audit.
//!
//! Who was removed, banned, muted, invited or made something else, and that a room was ended. Never why: reasons are written by people.

use crate::{
    audit::{Act, Fact},
    domain::{
        event::{Event, MemberChange, Recorded},
        message::Author,
        room::{Role, Room},
    },
};

/// The fact of an event, if it is one.
pub fn fact(room: &Room, recorded: &Recorded) -> Option<Fact> {
    let new = |act| Fact::new(room.id.namespace(), act).within(room.id.clone());
    match &recorded.event {
        Event::MemberChanged { member, change, by, .. } => {
            let is_muted = member.muted_until.is_some_and(|until| until > recorded.at);
            let act = match change {
                MemberChange::Removed => Act::Kick,
                MemberChange::Banned => Act::Ban,
                MemberChange::Unbanned => Act::Unban,
                // Who changes themselves changes a name.
                MemberChange::Updated if is_muted && by.is_some() => Act::Mute,
                MemberChange::Updated if by.as_ref().is_some_and(|by| *by != member.id) => Act::RoleChange,
                _ => return None,
            };
            let fact = new(act).to(member.id.as_str());
            let fact = if act == Act::RoleChange { fact.detail(role(member.role)) } else { fact };
            Some(match by {
                Some(by) => fact.by(by.clone()),
                None => fact,
            })
        }
        Event::InvitationCreated(invitation) => {
            Some(new(Act::InvitationCreate).to(invitation.id.to_string()).by(invitation.created_by.clone()))
        }
        Event::InvitationClosed { id, used_by, revoked_by } => {
            let act = if used_by.is_some() { Act::InvitationUse } else { Act::InvitationRevoke };
            let fact = new(act).to(id.to_string());
            Some(match used_by.as_ref().or(revoked_by.as_ref()) {
                Some(by) => fact.by(by.clone()),
                None => fact,
            })
        }
        Event::RoomEnded { by: Author::User(by), .. } => Some(new(Act::RoomEnd).by(by.clone())),
        Event::RoomEnded { by: Author::Llm(by), .. } => Some(new(Act::RoomEnd).detail(format!("LLM {by}"))),
        _ => None,
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Viewer => "VIEWER",
        Role::Member => "MEMBER",
        Role::Admin => "ADMIN",
    }
}
