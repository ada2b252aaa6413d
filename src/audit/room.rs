//! Which events of a room are facts of the audit.
//!
//! Who was removed, banned, muted, invited or made something else, how a room was changed, and that it was ended. Never
//! why: reasons are written by people. Only what an event leaves behind is known here, not what was before: that a member
//! may write again is told as a change of the role, and each change that an ADMIN who has not created the room makes to
//! themselves is told with the role, because the one that came with it looks the same.

use crate::{
    audit::{Act, Fact},
    domain::{
        event::{Event, MemberChange, Recorded},
        message::Author,
        room::{Member, Profile, Role, Room, Visibility},
        settings::JoinRule,
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
                MemberChange::Joined | MemberChange::Updated if is_admin_by_grant(room, member) => {
                    Act::RoleChange
                }
                _ => return None,
            };
            let fact = new(act).to(member.id.as_str());
            let fact = match (act, by) {
                (Act::RoleChange, Some(by)) if *by != member.id => fact.detail(role(member.role)),
                (Act::RoleChange, _) => fact.detail(format!("{} by themselves", role(member.role))),
                _ => fact,
            };
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
        // Who it was stands in no event.
        Event::RoomUpdated(profile) => Some(new(Act::RoomUpdate).detail(held(profile))),
        Event::RoomEnded { by: Author::User(by), .. } => Some(new(Act::RoomEnd).by(by.clone())),
        Event::RoomEnded { by: Author::Llm(by), .. } => Some(new(Act::RoomEnd).detail(format!("LLM {by}"))),
        _ => None,
    }
}

/// Whether somebody is ADMIN whom neither the room's creation nor, as far as this event tells, another ADMIN made one.
fn is_admin_by_grant(room: &Room, member: &Member) -> bool {
    member.role == Role::Admin
        && match &room.created_by {
            Some(creator) => *creator != member.id,
            // Where nobody is named the first who joins is ADMIN.
            None => room
                .members
                .values()
                .any(|other| other.id != member.id && other.joined_at <= member.joined_at),
        }
}

/// Who may see a room and join it, and how many of its permissions are its own.
fn held(profile: &Profile) -> String {
    let visibility = match profile.visibility {
        Visibility::Public => "PUBLIC",
        Visibility::Private => "PRIVATE",
    };
    let join_rule = match profile.settings.join_rule {
        Some(JoinRule::Open) => "OPEN",
        Some(JoinRule::Invited) => "INVITED",
        None => "as visible",
    };
    let own = profile.settings.permissions.iter().map(|(action, least)| format!("{action:?}: {least:?}"));
    let own = own.collect::<Vec<_>>().join(", ");
    format!("{visibility}, join {join_rule}, permissions [{own}]")
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Viewer => "VIEWER",
        Role::Member => "MEMBER",
        Role::Admin => "ADMIN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        domain::{apply, event::NewRoom, settings::Settings},
        ids::{EventId, RoomId, Seq, UserId},
    };

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn recorded(at: i64, event: Event) -> Recorded {
        let seq = Seq(u64::try_from(at).unwrap());
        let event_id = EventId::parse("00000000-0000-7000-8000-000000000001").unwrap();
        Recorded { seq, event_id, at: Timestamp(at), event }
    }

    fn changed(id: &str, role: Role, change: MemberChange, by: Option<&str>, at: i64) -> Recorded {
        let member = Member {
            id: user(id),
            name: id.into(),
            title: String::new(),
            avatar: String::new(),
            role,
            joined_at: Timestamp(at),
            muted_until: None,
        };
        recorded(at, Event::MemberChanged { member, change, by: by.map(user), reason: String::new() })
    }

    fn profile(visibility: Visibility) -> Profile {
        let (name, description) = ("Tea".into(), String::new());
        let settings = Settings { join_rule: Some(JoinRule::Invited), ..Settings::default() };
        Profile { name, description, visibility, settings }
    }

    fn room(created_by: Option<&str>) -> Room {
        let id = RoomId::parse("tea").unwrap();
        let created_by = created_by.map(user);
        let new = NewRoom { id, profile: profile(Visibility::Private), created_by, llms: Vec::new() };
        apply::create(&recorded(1, Event::RoomCreated(new))).unwrap()
    }

    /// The detail of a change of a role that is told of this.
    fn told(room: &mut Room, recorded: &Recorded) -> Option<String> {
        apply::apply(room, recorded);
        let fact = fact(room, recorded)?;
        assert_eq!(fact.act, Act::RoleChange);
        Some(fact.detail)
    }

    #[test]
    fn whoever_becomes_admin_by_a_credential_is_told() {
        use MemberChange::{Joined, Updated};
        let by_themselves = Some("ADMIN by themselves".to_owned());
        let mut room = room(Some("ann"));
        assert_eq!(told(&mut room, &changed("ann", Role::Admin, Joined, None, 2)), None, "it is hers");
        assert_eq!(told(&mut room, &changed("bob", Role::Member, Joined, None, 3)), None);
        assert_eq!(told(&mut room, &changed("eve", Role::Admin, Joined, None, 4)), by_themselves);
        assert_eq!(told(&mut room, &changed("bob", Role::Admin, Updated, None, 5)), by_themselves);
        assert_eq!(
            told(&mut room, &changed("bob", Role::Viewer, Updated, Some("ann"), 6)),
            Some("VIEWER".into())
        );
    }

    #[test]
    fn where_nobody_is_named_only_the_first_is_admin_without_a_credential() {
        let mut room = room(None);
        assert_eq!(told(&mut room, &changed("ann", Role::Admin, MemberChange::Joined, None, 2)), None);
        let eve = changed("eve", Role::Admin, MemberChange::Joined, None, 3);
        assert_eq!(told(&mut room, &eve), Some("ADMIN by themselves".into()));
    }

    #[test]
    fn what_holds_in_a_room_is_told_when_it_changes() {
        let room = room(Some("ann"));
        let updated = recorded(2, Event::RoomUpdated(profile(Visibility::Public)));
        let fact = fact(&room, &updated).unwrap();
        assert_eq!(
            (fact.act, fact.detail.as_str()),
            (Act::RoomUpdate, "PUBLIC, join INVITED, permissions []")
        );
        assert_eq!(fact.room, Some(room.id));
    }
}
