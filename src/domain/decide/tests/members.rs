//! Joining, leaving, roles, removals and bans.

use super::*;
use crate::domain::event::MemberChange;

fn named(name: &str) -> Command {
    Command::Join(JoinProfile { name: name.into(), ..JoinProfile::default() })
}

fn update(user: &str, role: Role) -> Command {
    Command::UpdateMember { user_id: user_id(user), role }
}

fn remove(user: &str, ban: bool, reason: &str) -> Command {
    Command::RemoveMember { user_id: user_id(user), ban, reason: reason.into() }
}

#[track_caller]
fn check_change(event: &Event, user: &str, change: MemberChange, by: Option<&str>) {
    let Event::MemberChanged { member, change: happened, by: who, .. } = event else { panic!("{event:?}") };
    let who = who.as_ref().map(UserId::as_str);
    assert_eq!((member.id.as_str(), *happened, who), (user, change, by));
}

#[test]
fn the_creator_is_admin_and_nobody_else_by_asking() {
    let mut table = Table::empty(Some("ann"));
    for (user, asked, role) in [
        ("bob", Some(Role::Admin), Role::Member),
        ("cy", None, Role::Member),
        ("vic", Some(Role::Viewer), Role::Viewer),
        ("mo", Some(Role::Member), Role::Member),
        ("ann", Some(Role::Viewer), Role::Admin),
    ] {
        table.ok(user, join(asked));
        assert_eq!(table.room.members[&user_id(user)].role, role, "{user}");
    }
}

#[test]
fn without_a_creator_the_first_to_come_is_admin() {
    let mut table = Table::empty(None);
    let events = table.ok("bob", join(None));
    assert!(matches!(&events[..], [Event::RoomActivated, Event::MemberChanged { .. }]));
    table.ok("ann", join(Some(Role::Admin)));
    assert_eq!(table.room.members[&user_id("bob")].role, Role::Admin);
    assert_eq!(table.room.members[&user_id("ann")].role, Role::Member);
}

#[test]
fn who_comes_back_keeps_name_and_role() {
    let mut table = Table::new();
    check_change(&table.one("bob", named("Bobby")), "bob", MemberChange::Updated, None);
    table.nothing("bob", named("Bobby"));
    table.nothing("bob", named(""));
    table.nothing("bob", named("  "));
    table.nothing("vic", join(Some(Role::Admin)));
    assert_eq!(table.room.members[&user_id("vic")].role, Role::Viewer);
    assert_eq!(table.room.members[&user_id("bob")].name, "Bobby");
    table.ok("cy", named(" "));
    assert_eq!(table.room.members[&user_id("cy")].name, "cy", "a blank name is no name");
}

#[test]
fn a_profile_has_limits() {
    let mut table = Table::new();
    let profile = |name: usize, title: usize, avatar: usize| {
        Command::Join(JoinProfile {
            name: "é".repeat(name),
            role: None,
            title: "é".repeat(title),
            avatar: "é".repeat(avatar),
            ..JoinProfile::default()
        })
    };
    table.ok("cy", profile(100, 200, 500));
    table.refused("di", profile(101, 0, 0), Code::InvalidArgument, "join.display_name must have at most 100");
    table.refused("di", profile(0, 201, 0), Code::InvalidArgument, "join.title must have at most 200");
    table.refused("di", profile(0, 0, 501), Code::InvalidArgument, "join.avatar must have at most 500");
    table.refused("di", named("a\nb"), Code::InvalidArgument, "join.display_name must not contain '\\n'");
    table.refused("ada", join(None), Code::PermissionDenied, "only people");
    table.refused("server", join(None), Code::PermissionDenied, "only people");
}

#[test]
fn a_room_has_a_limit_of_members() {
    let mut table = Table::new();
    table.limits.members_per_room = 4;
    table.ok("cy", join(None));
    table.refused("di", join(None), Code::ResourceExhausted, "at most 4 members");
    table.nothing("bob", join(None));
    // A VIEWER who has gone is remembered and keeps the place, one who was a MEMBER does not.
    table.ok("vic", Command::Leave);
    table.refused("di", join(None), Code::ResourceExhausted, "at most 4 members");
    table.ok("vic", join(None));
    table.ok("cy", Command::Leave);
    table.ok("di", join(None));
}

#[test]
fn leaving_is_for_members() {
    let mut table = Table::new();
    check_change(&table.one("vic", Command::Leave), "vic", MemberChange::Left, None);
    table.refused("vic", Command::Leave, Code::PermissionDenied, "not a member");
}

#[test]
fn the_only_admin_leaves_last() {
    let mut table = Table::new();
    table.refused("ann", Command::Leave, Code::PermissionDenied, "ann is the only ADMIN: make somebody else");
    table.ok("ann", update("bob", Role::Admin));
    table.ok("ann", Command::Leave);
    table.refused("bob", Command::Leave, Code::PermissionDenied, "only ADMIN");
    table.ok("vic", Command::Leave);
    table.ok("bob", Command::Leave);
    assert!(table.room.members.is_empty());
    // The room is not lost: who was its ADMIN can still be.
    table.ok("cy", join(None));
    table.ok("bob", join(None));
    assert_eq!((table.role("cy"), table.role("bob")), (Role::Member, Role::Admin));
}

#[test]
fn nobody_gets_a_better_role_by_coming_back() {
    let mut table = Table::new();
    let coming_back = |table: &mut Table, user: &str, asked: Option<Role>| {
        table.ok(user, join(asked));
        assert!(!table.room.former_roles.contains_key(&user_id(user)), "{user} is here again");
        table.role(user)
    };
    // What anybody gets is not remembered.
    for (user, role) in [("bob", Role::Member), ("vic", Role::Viewer)] {
        table.ok(user, Command::Leave);
        assert_eq!(table.room.former_roles.len(), usize::from(user == "vic"));
        assert_eq!(coming_back(&mut table, user, Some(Role::Admin)), role);
    }
    table.ok("ann", update("bob", Role::Viewer));
    table.ok("bob", Command::Leave);
    assert_eq!(coming_back(&mut table, "bob", None), Role::Viewer);

    // The creator comes back as ADMIN after leaving as one, but not once that was taken away.
    table.ok("ann", update("bob", Role::Admin));
    table.ok("ann", Command::Leave);
    assert_eq!(coming_back(&mut table, "ann", None), Role::Admin);
    table.ok("bob", update("ann", Role::Member));
    table.ok("ann", Command::Leave);
    assert_eq!(coming_back(&mut table, "ann", None), Role::Member);
    table.ok("ann", Command::Leave);
    assert_eq!(coming_back(&mut table, "ann", Some(Role::Viewer)), Role::Viewer);
}

#[test]
fn who_was_sent_away_comes_back_as_member_at_most() {
    let mut table = Table::new();
    table.ok("ann", update("bob", Role::Admin));
    table.ok("bob", remove("ann", false, ""));
    table.ok("ann", join(Some(Role::Admin)));
    assert_eq!(table.role("ann"), Role::Member);

    table.ok("bob", update("ann", Role::Admin));
    table.ok("ann", Command::Leave);
    // Banned while away, and let in again.
    table.ok("bob", remove("ann", true, ""));
    table.ok("bob", remove("ann", false, ""));
    table.ok("ann", join(None));
    assert_eq!(table.role("ann"), Role::Member);

    for ban in [true, false] {
        table.ok("bob", remove("vic", ban, ""));
    }
    table.ok("vic", join(Some(Role::Member)));
    assert_eq!(table.role("vic"), Role::Viewer);
}

#[test]
fn an_admin_changes_roles_and_one_always_stays() {
    let mut table = Table::new();
    table.refused("bob", update("vic", Role::Member), Code::PermissionDenied, "changing roles");
    table.refused("ann", update("eve", Role::Member), Code::NotFound, "no member eve");
    table.nothing("ann", update("bob", Role::Member));
    table.refused("ann", update("ann", Role::Member), Code::PermissionDenied, "only ADMIN");
    check_change(&table.one("ann", update("bob", Role::Admin)), "bob", MemberChange::Updated, Some("ann"));
    table.ok("bob", update("ann", Role::Viewer));
    table.refused("ann", update("bob", Role::Member), Code::PermissionDenied, "needs the role Admin");
    table.refused("bob", update("bob", Role::Viewer), Code::PermissionDenied, "only ADMIN");
}

#[test]
fn members_are_removed_banned_and_let_in_again() {
    let mut table = Table::new();
    table.refused("bob", remove("vic", false, ""), Code::PermissionDenied, "removing");
    table.refused("ann", remove("ann", true, ""), Code::InvalidArgument, "use leave");
    table.refused("ann", remove("eve", false, ""), Code::NotFound, "no member eve");
    table.refused("ann", remove("bob", false, &"x".repeat(1001)), Code::InvalidArgument, "reason");

    let removed = table.one("ann", remove("bob", false, "why"));
    check_change(&removed, "bob", MemberChange::Removed, Some("ann"));
    assert!(matches!(removed, Event::MemberChanged { reason, .. } if reason == "why"));
    table.ok("bob", join(None));

    check_change(&table.one("ann", remove("bob", true, "")), "bob", MemberChange::Banned, Some("ann"));
    table.refused("bob", join(None), Code::PermissionDenied, "bob is banned");
    table.refused("bob", send("x"), Code::PermissionDenied, "not a member");
    table.nothing("ann", remove("bob", true, ""));
    check_change(&table.one("ann", remove("bob", false, "")), "bob", MemberChange::Unbanned, Some("ann"));
    table.refused("ann", remove("bob", false, ""), Code::NotFound, "no member bob");
    table.ok("bob", join(None));

    // Somebody who has never been here.
    check_change(&table.one("ann", remove("eve", true, "")), "eve", MemberChange::Banned, Some("ann"));
    table.refused("eve", join(None), Code::PermissionDenied, "eve is banned");
}

#[test]
fn bans_have_a_limit_too() {
    let mut table = Table::new();
    table.limits.members_per_room = 3;
    for name in ["eve", "mallory", "vic"] {
        table.ok("ann", remove(name, true, ""));
    }
    for name in ["bob", "trudy"] {
        table.refused(
            "ann",
            remove(name, true, ""),
            Code::ResourceExhausted,
            "at most 3 users can be banned",
        );
    }
    // They can still be sent away; who is banned already needs no place; and one who is let in again leaves one.
    table.nothing("ann", remove("eve", true, ""));
    table.ok("ann", remove("bob", false, ""));
    table.ok("ann", remove("eve", false, ""));
    table.ok("ann", remove("bob", true, ""));
    assert_eq!(table.room.banned.len(), 3);
}
