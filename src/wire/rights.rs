//! Who may come and do what, as messages: permissions, join rules, invitations. In both directions.

use std::time::Duration;

use crate::{
    domain::{
        command::Command,
        event::Event,
        invitation::{Invitation, Secret, SecretHash},
        permissions::{Action, Least, Overrides},
        rejection::Rejection,
        room::{Member, Role, Room},
        settings::{JoinRule, Settings, SettingsPatch},
    },
    ids::{IdError, InvitationId, UserId},
    wire::{
        basic::{Corrupt, id, optional_id, time, timestamp},
        model::{role_from_pb, role_to_pb},
        pb::{
            room::v1::{self as pb, server_event::Payload},
            salon::log::v1 as log,
        },
    },
};

/// An action as a message field; `None`: it is the same in all rooms and has no name there.
pub fn action_to_pb(action: Action) -> Option<pb::Action> {
    Some(match action {
        Action::Read => return None,
        Action::Post => pb::Action::Post,
        Action::React => pb::Action::React,
        Action::ChangeOwn => pb::Action::ChangeOwn,
        Action::MentionLlms => pb::Action::MentionLlms,
        Action::RunTools => pb::Action::RunTools,
        Action::CreatePolls => pb::Action::CreatePolls,
        Action::Vote => pb::Action::Vote,
        Action::DirectLlms => pb::Action::DirectLlms,
        Action::ManageLlms => pb::Action::ManageLlms,
        Action::Describe => pb::Action::Describe,
        Action::Invite => pb::Action::Invite,
        Action::Kick => pb::Action::Kick,
        Action::Ban => pb::Action::Ban,
        Action::ModerateMessages => pb::Action::ModerateMessages,
        Action::EditOthers => pb::Action::EditOthers,
        Action::ClosePolls => pb::Action::ClosePolls,
        Action::ChangeRoles => pb::Action::ChangeRoles,
        Action::ChangeRoom => pb::Action::ChangeRoom,
        Action::EndRoom => pb::Action::EndRoom,
    })
}

/// The action in a message field; `None`: unspecified, or not known to this server.
fn action_from_pb(action: i32) -> Option<Action> {
    let action = pb::Action::try_from(action).ok()?;
    Action::ALL.into_iter().find(|known| action_to_pb(*known) == Some(action))
}

/// What a room sets differently.
pub(super) fn overrides_to_pb(overrides: &Overrides) -> Vec<pb::Permission> {
    let permission = |(action, least)| {
        let (least_role, nobody) = match least {
            Least::Role(role) => (role_to_pb(role), false),
            Least::Nobody => (pb::Role::Unspecified.into(), true),
        };
        Some(pb::Permission { action: action_to_pb(action)?.into(), least_role, nobody })
    };
    overrides.iter().filter_map(permission).collect()
}

/// Reads what was stored; an action that this server does not know is as it is on this server.
pub(super) fn overrides_from_pb(permissions: &[pb::Permission]) -> Overrides {
    let mut overrides = Overrides::default();
    for permission in permissions {
        if let (Some(action), Some(least)) = (action_from_pb(permission.action), least_from_pb(permission)) {
            overrides.set(action, Some(least));
        }
    }
    overrides
}

fn least_from_pb(permission: &pb::Permission) -> Option<Least> {
    if permission.nobody { Some(Least::Nobody) } else { role_from_pb(permission.least_role).map(Least::Role) }
}

/// Puts what is about rights into settings that are shown.
pub(super) fn settings_to_pb(settings: &Settings, shown: pb::RoomSettings) -> pb::RoomSettings {
    let join_rule = match settings.join_rule {
        None => pb::JoinRule::Unspecified,
        Some(JoinRule::Open) => pb::JoinRule::Open,
        Some(JoinRule::Invited) => pb::JoinRule::Invited,
    };
    let slow_mode_ms = u32::try_from(settings.slow_mode.as_millis()).unwrap_or(u32::MAX);
    pb::RoomSettings {
        permissions: overrides_to_pb(&settings.permissions),
        join_rule: join_rule.into(),
        slow_mode_ms: (slow_mode_ms > 0).then_some(slow_mode_ms),
        ..shown
    }
}

/// What a message changes of it, as far as this server understands it.
pub(super) fn patch_from_pb(settings: &pb::RoomSettings, patch: SettingsPatch) -> SettingsPatch {
    let change =
        |permission: &pb::Permission| Some((action_from_pb(permission.action)?, least_from_pb(permission)));
    SettingsPatch {
        permissions: settings.permissions.iter().filter_map(change).collect(),
        join_rule: match settings.join_rule() {
            pb::JoinRule::Unspecified => None,
            pb::JoinRule::Open => Some(JoinRule::Open),
            pb::JoinRule::Invited => Some(JoinRule::Invited),
        },
        slow_mode: settings.slow_mode_ms.map(|ms| Duration::from_millis(ms.into())),
        ..patch
    }
}

/// Refuses permissions of a client that would not do what it means.
pub(super) fn check(settings: &pb::RoomSettings) -> Result<(), Rejection> {
    let field = "settings.permissions";
    for (index, permission) in settings.permissions.iter().enumerate() {
        let Some(action) = action_from_pb(permission.action) else {
            let problem = format_args!("must name actions of this server, and {} is none", permission.action);
            return Err(Rejection::field(field, problem));
        };
        let role = role_from_pb(permission.least_role);
        let is_unspecified = permission.least_role == i32::from(pb::Role::Unspecified);
        if !is_unspecified && (role.is_none() || permission.nobody) {
            let problem = "must have ADMIN, MEMBER, VIEWER or `nobody` as the least role of each action";
            return Err(Rejection::field(field, problem));
        }
        let earlier = settings.permissions.iter().take(index);
        if earlier.into_iter().any(|other| other.action == permission.action) {
            return Err(Rejection::field(field, format_args!("must differ: {action:?} is there twice")));
        }
    }
    if pb::JoinRule::try_from(settings.join_rule).is_err() {
        return Err(Rejection::field("settings.join_rule", "must be OPEN or INVITED"));
    }
    Ok(())
}

/// Until when a member is muted.
pub(super) fn muted_to_pb(member: &Member) -> Option<prost_types::Timestamp> {
    member.muted_until.and_then(time)
}

/// An invitation as it is shown.
pub(super) fn invitation_to_pb(invitation: &Invitation) -> pb::Invitation {
    pb::Invitation {
        invitation_id: invitation.id.to_string(),
        role: role_to_pb(invitation.role),
        for_user_id: invitation.for_user.as_ref().map(ToString::to_string).unwrap_or_default(),
        created_by_id: invitation.created_by.to_string(),
        expires_at: time(invitation.expires_at),
    }
}

/// Reads one, with the hash that is kept beside it.
pub(super) fn invitation_from_pb(invitation: &pb::Invitation, hash: &[u8]) -> Result<Invitation, Corrupt> {
    let hash =
        SecretHash::from_bytes(hash).ok_or_else(|| Corrupt::new("invitation", "the hash of its secret"))?;
    Ok(Invitation {
        id: id("invitation id", &invitation.invitation_id)?,
        hash,
        role: role_from_pb(invitation.role).ok_or_else(|| Corrupt::new("invitation", "no role"))?,
        for_user: optional_id("user id", &invitation.for_user_id)?,
        created_by: id("user id", &invitation.created_by_id)?,
        expires_at: timestamp(invitation.expires_at.as_ref()),
    })
}

/// The invitations of a room as a snapshot keeps them.
pub(super) fn open_invitations(room: &Room) -> Vec<log::OpenInvitation> {
    let open = |invitation: &Invitation| log::OpenInvitation {
        invitation: Some(invitation_to_pb(invitation)),
        hash: invitation.hash.as_bytes().to_vec(),
    };
    room.invitations.values().map(open).collect()
}

/// Reads them back.
pub(super) fn invitations_from_pb(
    open: &[log::OpenInvitation],
) -> Result<std::collections::BTreeMap<InvitationId, Invitation>, Corrupt> {
    let read = |open: &log::OpenInvitation| {
        let shown = open.invitation.as_ref().ok_or_else(|| Corrupt::new("invitation", "it is empty"))?;
        let invitation = invitation_from_pb(shown, &open.hash)?;
        Ok((invitation.id.clone(), invitation))
    };
    open.iter().map(read).collect()
}

/// An invitation was made; what its secret comes to stays here.
pub(super) fn invitation_created(invitation: &Invitation, private: &mut log::EventPrivate) -> Payload {
    private.invitation_hash = invitation.hash.as_bytes().to_vec();
    Payload::InvitationCreated(pb::InvitationCreated { invitation: Some(invitation_to_pb(invitation)) })
}

/// An invitation was used or revoked.
pub(super) fn invitation_closed(
    id: &InvitationId,
    used_by: Option<&UserId>,
    revoked_by: Option<&UserId>,
) -> Payload {
    Payload::InvitationClosed(pb::InvitationClosed {
        invitation_id: id.to_string(),
        used_by_id: used_by.map(ToString::to_string).unwrap_or_default(),
        revoked_by_id: revoked_by.map(ToString::to_string).unwrap_or_default(),
    })
}

/// Reads what was stored of it.
pub(super) fn closed_from_pb(closed: &pb::InvitationClosed) -> Result<Event, Corrupt> {
    Ok(Event::InvitationClosed {
        id: id("invitation id", &closed.invitation_id)?,
        used_by: optional_id("user id", &closed.used_by_id)?,
        revoked_by: optional_id("user id", &closed.revoked_by_id)?,
    })
}

/// What lets somebody in, as whoever joins tells it: only its hash goes further.
pub(super) fn read_secret(text: &str) -> Result<Option<SecretHash>, Rejection> {
    if text.is_empty() {
        return Ok(None);
    }
    let secret = Secret::parse(text).ok_or_else(|| {
        Rejection::field("join.invitation", "must be the 64 hexadecimal digits of a secret")
    })?;
    Ok(Some(secret.hash()))
}

/// Reads the command that makes an invitation.
pub(super) fn read_create(create: &pb::CreateInvitation) -> Result<Command, Rejection> {
    let role = match (create.role, role_from_pb(create.role)) {
        (0, _) => Role::Member,
        (_, Some(role)) => role,
        (_, None) => return Err(Rejection::field("create_invitation.role", "must be MEMBER or VIEWER")),
    };
    let for_user = match create.for_user_id.as_str() {
        "" => None,
        text => Some(
            text.parse().map_err(|error: IdError| Rejection::id("create_invitation.for_user_id", &error))?,
        ),
    };
    let expires_in = (create.expires_in_ms > 0).then(|| Duration::from_millis(create.expires_in_ms));
    Ok(Command::CreateInvitation { expires_in, role, for_user })
}

/// Reads the command that revokes one.
pub(super) fn read_revoke(revoke: &pb::RevokeInvitation) -> Result<Command, Rejection> {
    let id = revoke.invitation_id.parse().map_err(|_: IdError| {
        let shown: String = revoke.invitation_id.chars().take(64).collect();
        Rejection::not_found("invitation", format_args!("{shown:?}"))
    })?;
    Ok(Command::RevokeInvitation(id))
}

/// Reads the command that mutes somebody.
pub(super) fn read_mute(mute: pb::MuteMember) -> Result<Command, Rejection> {
    Ok(Command::MuteMember {
        user_id: mute
            .user_id
            .parse()
            .map_err(|error: IdError| Rejection::id("mute_member.user_id", &error))?,
        duration: Duration::from_millis(mute.duration_ms),
        reason: mute.reason,
    })
}
