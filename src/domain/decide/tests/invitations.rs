//! Who may come: join rules, invitations, and what a credential grants.

use std::time::Duration;

use super::*;
use crate::domain::{
    event::MemberChange,
    invitation::{DEFAULT_LIFE, INVITATIONS, LONGEST_LIFE, SecretHash},
    permissions::{Action, Least},
    settings::JoinRule,
};

fn rule(join_rule: JoinRule) -> Command {
    settings(SettingsPatch { join_rule: Some(join_rule), ..SettingsPatch::default() })
}

fn settings(settings: SettingsPatch) -> Command {
    Command::UpdateRoom { name: None, description: None, visibility: None, settings }
}

fn invite(role: Role, for_user: Option<&str>) -> Command {
    Command::CreateInvitation { expires_in: None, role, for_user: for_user.map(user_id) }
}

fn come(invitation: Option<SecretHash>) -> Command {
    Command::Join(JoinProfile { invitation, ..JoinProfile::default() })
}

fn granted(role: Role) -> Command {
    Command::Join(JoinProfile { granted: Some(role), ..JoinProfile::default() })
}

/// Makes an invitation; gives what lets in.
#[track_caller]
fn invited(table: &mut Table, who: &str, command: Command) -> SecretHash {
    let made = table.ids;
    let event = table.one(who, command);
    let hash = secret(made).hash();
    assert!(matches!(event, Event::InvitationCreated(invitation) if invitation.hash == hash));
    hash
}

#[test]
fn a_room_by_invitation_lets_in_its_creator_its_members_and_who_is_invited() {
    let mut table = Table::empty(Some("ann"));
    table.ok("bob", join(None));
    table.ok("ann", join(None));
    table.ok("ann", rule(JoinRule::Invited));
    table.refused("cy", join(None), Code::PermissionDenied, "with an invitation only");
    table.nothing("bob", join(None));
    table.ok("bob", Command::Leave);
    table.refused("bob", join(None), Code::PermissionDenied, "with an invitation only");
    let key = invited(&mut table, "ann", invite(Role::Viewer, None));
    let events = table.ok("cy", come(Some(key)));
    assert!(matches!(
        &events[..],
        [
            Event::MemberChanged { change: MemberChange::Joined, .. },
            Event::InvitationClosed { used_by: Some(_), revoked_by: None, .. }
        ]
    ));
    assert_eq!(table.role("cy"), Role::Viewer);
    table.refused("di", come(Some(key)), Code::PermissionDenied, "lets you not in");
    // The creator needs none, also when they have gone.
    table.ok("ann", Command::UpdateMember { user_id: user_id("cy"), role: Role::Admin });
    table.ok("ann", Command::Leave);
    table.ok("ann", join(None));
    table.ok("ann", rule(JoinRule::Open));
    table.ok("bob", join(None));
}

#[test]
fn the_first_to_come_to_a_room_without_a_creator_needs_no_invitation() {
    let settings = Settings { join_rule: Some(JoinRule::Invited), ..Settings::default() };
    let mut table = Table::empty(None);
    table.room.profile.settings = settings;
    table.ok("bob", join(None));
    table.refused("cy", join(None), Code::PermissionDenied, "with an invitation only");
}

#[test]
fn private_rooms_are_by_invitation_where_the_server_says_so_and_the_room_nothing_else() {
    let mut table = Table::new();
    table.ok(
        "ann",
        Command::UpdateRoom {
            name: None,
            description: None,
            visibility: Some(Visibility::Private),
            settings: SettingsPatch::default(),
        },
    );
    table.ok("cy", join(None));
    table.limits.private_by_invitation = true;
    table.refused("di", join(None), Code::RoomNotFound, "there is no room");
    table.ok("ann", rule(JoinRule::Open));
    table.ok("di", join(None));
}

#[test]
fn an_invitation_lets_in_whom_it_is_for_until_its_time_has_passed() {
    let mut table = Table::new();
    let refused = |table: &mut Table, who: &str, key| {
        table.refused(who, come(Some(key)), Code::PermissionDenied, "lets you not in");
    };
    let for_cy = invited(&mut table, "bob", invite(Role::Member, Some("cy")));
    refused(&mut table, "di", for_cy);
    table.ok("cy", come(Some(for_cy)));
    let late = invited(&mut table, "bob", invite(Role::Member, None));
    table.at = table.at.plus(DEFAULT_LIFE);
    refused(&mut table, "di", late);
    refused(&mut table, "di", Secret::new([9; 32]).hash());
    // Of a member it is not looked at, and a ban is stronger.
    let key = invited(&mut table, "bob", invite(Role::Member, None));
    table.nothing("vic", come(Some(late)));
    let ban = Command::RemoveMember { user_id: user_id("di"), ban: true, reason: String::new() };
    table.ok("ann", ban);
    table.refused("di", come(Some(key)), Code::PermissionDenied, "banned");
    table.ok("eve", come(Some(key)));
}

#[test]
fn an_invitation_is_void_when_its_maker_has_gone_or_may_invite_no_more() {
    let mut table = Table::new();
    let key = invited(&mut table, "bob", invite(Role::Member, None));
    let demote = |role| Command::UpdateMember { user_id: user_id("bob"), role };
    table.ok("ann", demote(Role::Viewer));
    table.refused("cy", come(Some(key)), Code::PermissionDenied, "lets you not in");
    table.ok("ann", demote(Role::Member));
    let kick = Command::RemoveMember { user_id: user_id("bob"), ban: false, reason: String::new() };
    table.ok("ann", kick);
    assert!(table.room.invitations.is_empty(), "whoever was sent away cannot come back by what they made");
    table.refused("bob", come(Some(key)), Code::PermissionDenied, "lets you not in");
}

#[test]
fn who_invites_has_limits() {
    let mut table = Table::new();
    let live = |life: Duration| Command::CreateInvitation {
        expires_in: Some(life),
        role: Role::Member,
        for_user: None,
    };
    table.refused("bob", live(Duration::from_millis(999)), Code::InvalidArgument, "must be 1000 to");
    let long = LONGEST_LIFE + Duration::from_millis(1);
    table.refused("bob", live(long), Code::InvalidArgument, "must be 1000 to 2592000000, is 2592000001");
    table.refused("ann", invite(Role::Admin, None), Code::InvalidArgument, "at most Member");
    table.refused(
        "vic",
        invite(Role::Viewer, None),
        Code::PermissionDenied,
        "inviting needs the role Member",
    );
    table.ok(
        "ann",
        settings(SettingsPatch {
            permissions: vec![(Action::Invite, Some(Least::Role(Role::Admin)))],
            ..SettingsPatch::default()
        }),
    );
    table.refused("bob", invite(Role::Viewer, None), Code::PermissionDenied, "inviting needs the role Admin");
    for _ in 0..INVITATIONS {
        table.ok("ann", invite(Role::Viewer, None));
    }
    table.refused("ann", invite(Role::Viewer, None), Code::ResourceExhausted, "at most 100 invitations");
    table.at = table.at.plus(DEFAULT_LIFE);
    table.ok("ann", invite(Role::Viewer, None));
    assert_eq!(table.room.invitations.len(), 1, "those that have expired are forgotten");
}

#[test]
fn who_made_an_invitation_or_removes_members_revokes_it() {
    let mut table = Table::new();
    let revoke = |key: SecretHash| Command::RevokeInvitation(key.id());
    let key = invited(&mut table, "bob", invite(Role::Member, None));
    table.ok("cy", join(None));
    table.refused(
        "cy",
        revoke(key),
        Code::PermissionDenied,
        "removing and muting members needs the role Admin",
    );
    table.refused("vic", revoke(key), Code::PermissionDenied, "inviting needs");
    table.ok("bob", revoke(key));
    table.refused("bob", revoke(key), Code::NotFound, "no invitation");
    table.refused("di", come(Some(key)), Code::PermissionDenied, "lets you not in");
    let other = invited(&mut table, "bob", invite(Role::Member, None));
    let event = table.one("ann", revoke(other));
    assert!(
        matches!(event, Event::InvitationClosed { used_by: None, revoked_by: Some(by), .. } if by == user_id("ann"))
    );
}

#[test]
fn an_invitation_makes_nobody_more_than_they_were() {
    let mut table = Table::new();
    table.ok("vic", Command::Leave);
    let key = invited(&mut table, "ann", invite(Role::Member, None));
    table.ok("vic", come(Some(key)));
    assert_eq!(table.role("vic"), Role::Viewer);
    let key = invited(&mut table, "ann", invite(Role::Viewer, None));
    table.ok("bob", Command::Leave);
    table.ok("bob", come(Some(key)));
    assert_eq!(table.role("bob"), Role::Viewer);
}

#[test]
fn a_credential_grants_a_role_and_raises_but_never_lowers() {
    let mut table = Table::new();
    table.ok("ann", rule(JoinRule::Invited));
    table.ok("cy", granted(Role::Admin));
    assert_eq!(table.role("cy"), Role::Admin, "what an operator grants is an invitation as well");
    table.ok("vic", granted(Role::Member));
    assert_eq!(table.role("vic"), Role::Member);
    table.nothing("ann", granted(Role::Viewer));
    assert_eq!(table.role("ann"), Role::Admin);
    table.ok("dee", granted(Role::Viewer));
    assert_eq!(table.role("dee"), Role::Viewer, "whoever is to watch only is no MEMBER");
    table.ok("dee", Command::Leave);
    let key = invited(&mut table, "ann", invite(Role::Member, None));
    let invited =
        JoinProfile { invitation: Some(key), granted: Some(Role::Viewer), ..JoinProfile::default() };
    table.ok("eli", Command::Join(invited));
    assert_eq!(table.role("eli"), Role::Member, "an invitation may say more");
    let ban = Command::RemoveMember { user_id: user_id("bob"), ban: true, reason: String::new() };
    table.ok("ann", ban);
    table.refused("bob", granted(Role::Admin), Code::PermissionDenied, "banned");
}
