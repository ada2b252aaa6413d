//! Mutes, slow mode, permissions of a room, and what needs them beside the table.

use std::time::Duration;

use super::*;
use crate::domain::{
    limits::{MUTE, SLOW_MODE},
    permissions::{Action, Least},
};

const SECOND: Duration = Duration::from_secs(1);

fn mute(user: &str, duration: Duration) -> Command {
    Command::MuteMember { user_id: user_id(user), duration, reason: "enough".into() }
}

fn settings(settings: SettingsPatch) -> Command {
    Command::UpdateRoom { name: None, description: None, visibility: None, settings }
}

fn permit(action: Action, least: Option<Least>) -> Command {
    settings(SettingsPatch { permissions: vec![(action, least)], ..SettingsPatch::default() })
}

fn slow(slow_mode: Duration) -> Command {
    settings(SettingsPatch { slow_mode: Some(slow_mode), ..SettingsPatch::default() })
}

fn update(user: &str, role: Role) -> Command {
    Command::UpdateMember { user_id: user_id(user), role }
}

#[test]
fn who_is_muted_reads_until_the_time_has_passed() {
    let mut table = Table::new();
    let id = table.say("bob", "hello");
    let event = table.one("ann", mute("bob", 10 * SECOND));
    assert!(matches!(event, Event::MemberChanged { reason, by: Some(_), .. } if reason == "enough"));
    let rejection = table.decide("bob", send("x")).unwrap_err();
    check_refusal(&rejection, Code::PermissionDenied, "bob is muted for another 10000 ms", "send");
    assert_eq!(rejection.retry_after, Some(10 * SECOND));
    let react = Command::React { message_id: id, emoji: "+".into(), add: true };
    for command in [react, Command::CreatePoll(poll(&["a", "b"])), Command::DeleteMessage { message_id: id }]
    {
        table.refused("bob", command, Code::PermissionDenied, "muted");
    }
    table.refused("bob as ada", Command::CreatePoll(poll(&["a", "b"])), Code::PermissionDenied, "muted");
    // Leaving and coming back is no way around it.
    table.ok("bob", Command::Leave);
    table.ok("bob", join(None));
    table.refused("bob", send("x"), Code::PermissionDenied, "muted for another 10000 ms");
    table.at = table.at.plus(10 * SECOND);
    table.say("bob", "again");
}

#[test]
fn a_mute_ends_early_and_is_forgotten_late() {
    let mut table = Table::new();
    table.nothing("ann", mute("bob", Duration::ZERO));
    table.ok("ann", mute("bob", 10 * SECOND));
    table.ok("ann", mute("bob", Duration::ZERO));
    table.say("bob", "hello");
    table.ok("ann", mute("bob", SECOND));
    table.ok("bob", Command::Leave);
    assert_eq!(table.room.former_mutes.len(), 1);
    table.at = table.at.plus(SECOND);
    table.ok("vic", Command::Leave);
    assert!(table.room.former_mutes.is_empty(), "what has passed is not kept");
}

#[test]
fn who_may_be_muted_by_whom() {
    let mut table = Table::new();
    table.refused("bob", mute("vic", SECOND), Code::PermissionDenied, "needs the role Admin");
    table.refused("ann", mute("ann", SECOND), Code::InvalidArgument, "is yourself");
    table.refused("ann", mute("cy", SECOND), Code::NotFound, "no member cy");
    let long = MUTE + Duration::from_millis(1);
    table.refused("ann", mute("bob", long), Code::InvalidArgument, "at most 2592000000, is 2592000001");
    table.ok("ann", mute("bob", SECOND));
    table.ok("ann", update("bob", Role::Admin));
    table.say("bob", "an ADMIN is not muted");
    table.refused("ann", mute("bob", SECOND), Code::PermissionDenied, "bob is ADMIN");
}

#[test]
fn in_slow_mode_a_member_waits_exactly_as_long_as_said() {
    let mut table = Table::new();
    table.say("bob", "before");
    table.ok("ann", slow(30 * SECOND));
    table.say("bob", "first");
    table.at = table.at.plus(10 * SECOND);
    let rejection = table.decide("bob", send("x")).unwrap_err();
    check_refusal(&rejection, Code::RateLimited, "slow mode, with 30000 ms between", "send");
    assert_eq!(rejection.retry_after, Some(20 * SECOND));
    table.refused("bob", Command::CreatePoll(poll(&["a", "b"])), Code::RateLimited, "slow mode");
    table.say("ann", "an ADMIN does not wait");
    table.say("ann", "at all");
    table.ok("bob", Command::Leave);
    table.ok("bob", join(None));
    table.refused("bob", send("x"), Code::RateLimited, "slow mode");
    table.at = table.at.plus(20 * SECOND);
    table.say("bob", "second");
    table.ok("ann", slow(Duration::ZERO));
    table.say("bob", "third");
    assert!(table.room.last_posts.is_empty());
    table.refused("ann", slow(SLOW_MODE + SECOND), Code::InvalidArgument, "at most 21600000, is 21601000");
}

#[test]
fn in_slow_mode_an_edit_waits_like_a_message() {
    let mut table = Table::new();
    let edit = |message_id, content: &str| Command::EditMessage {
        message_id,
        content: content.into(),
        regenerate: false,
    };
    table.ok("ann", slow(30 * SECOND));
    let id = table.say("bob", "first");
    table.at = table.at.plus(10 * SECOND);
    let rejection = table.decide("bob", edit(id, "x")).unwrap_err();
    check_refusal(&rejection, Code::RateLimited, "slow mode", "edit");
    assert_eq!(rejection.retry_after, Some(20 * SECOND));
    table.at = table.at.plus(20 * SECOND);
    table.ok("bob", edit(id, "x"));
    table.refused("bob", edit(id, "y"), Code::RateLimited, "slow mode");
    table.at = table.at.plus(30 * SECOND);
    table.ok("bob", edit(id, "y"));
    let own = table.say("ann", "an ADMIN does not wait");
    table.ok("ann", edit(own, "at all"));
}

#[test]
fn those_who_post_and_go_are_forgotten_in_the_end() {
    let mut table = Table::new();
    table.ok("ann", slow(30 * SECOND));
    for n in 0..100 {
        let user = format!("user{n}");
        table.ok(&user, join(None));
        table.say(&user, "hello");
        table.ok(&user, Command::Leave);
    }
    assert!(table.room.last_posts.len() <= 2 * 4 + 64, "{}", table.room.last_posts.len());
}

#[test]
fn whoever_may_not_call_llms_is_told_and_posts_all_the_same() {
    let mut table = Table::new();
    table.ok("ann", permit(Action::MentionLlms, Some(Least::Role(Role::Admin))));
    let decision = table.decide("bob", send("@ada and @bot, hello")).unwrap();
    let Event::MessagePosted(message) = &decision.events[0].event else { panic!("{decision:?}") };
    assert!(message.mentions.is_empty());
    let told: Vec<&Rejection> = decision
        .asides
        .iter()
        .map(|aside| match aside {
            Aside::Without(rejection) => rejection,
            Aside::Secret { .. } => panic!("{aside:?}"),
        })
        .collect();
    assert_eq!(told.len(), 2);
    check_refusal(told[0], Code::PermissionDenied, "the LLM ada was not asked: calling LLMs needs", "ada");
    let decision = table.decide("ann", send("@ada, hello")).unwrap();
    assert!(decision.asides.is_empty());
    assert!(matches!(&decision.events[0].event, Event::MessagePosted(m) if m.mentions == [llm_id("ada")]));
}

#[test]
fn tools_need_the_right_of_whoever_they_act_for() {
    let mut table = Table::new();
    table.ok("ann", permit(Action::RunTools, Some(Least::Role(Role::Admin))));
    let poll = || Command::CreatePoll(poll(&["a", "b"]));
    table.refused("bob as ada", poll(), Code::PermissionDenied, "having LLMs use tools needs the role Admin");
    table.ok("ann as ada", poll());
    table.ok("bob", poll());
}

#[test]
fn permissions_are_an_admins_and_leave_moderation_to_admins() {
    let mut table = Table::new();
    table.ok("ann", permit(Action::ChangeRoom, Some(Least::Role(Role::Member))));
    let name = Command::UpdateRoom {
        name: Some("New".into()),
        description: None,
        visibility: None,
        settings: SettingsPatch::default(),
    };
    table.ok("bob", name);
    for command in [permit(Action::Kick, Some(Least::Role(Role::Member))), slow(SECOND)] {
        table.refused("bob", command, Code::PermissionDenied, "changed by an ADMIN only");
    }
    for (action, least, words) in [
        (Action::Kick, Least::Nobody, "must leave removing and muting members to ADMINs"),
        (Action::ChangeRoom, Least::Nobody, "must leave changing the room to ADMINs"),
        (Action::Ban, Least::Role(Role::Viewer), "must have at least Member for banning"),
        (Action::Read, Least::Role(Role::Admin), "must not change reading"),
    ] {
        table.refused("ann", permit(action, Some(least)), Code::InvalidArgument, words);
    }
    table.ok("ann", permit(Action::Post, Some(Least::Nobody)));
    table.refused("ann", send("x"), Code::PermissionDenied, "writing is allowed to nobody");
    table.ok("ann", permit(Action::Post, None));
    table.say("ann", "hello");
}

#[test]
fn nobody_acts_on_those_above_or_makes_more_of_others_than_they_are() {
    let mut table = Table::new();
    table.ok("ann", permit(Action::ChangeRoles, Some(Least::Role(Role::Member))));
    table.ok("ann", permit(Action::Kick, Some(Least::Role(Role::Member))));
    table.refused("bob", update("vic", Role::Admin), Code::PermissionDenied, "more than they are");
    table.refused("bob", update("bob", Role::Admin), Code::PermissionDenied, "more than they are");
    table.refused(
        "bob",
        update("ann", Role::Viewer),
        Code::PermissionDenied,
        "ann is Admin, and you are Member",
    );
    let kick = |user: &str, ban| Command::RemoveMember { user_id: user_id(user), ban, reason: String::new() };
    table.refused("bob", kick("ann", false), Code::PermissionDenied, "ann is Admin");
    table.refused("bob", kick("vic", true), Code::PermissionDenied, "banning needs the role Admin");
    table.ok("bob", update("vic", Role::Member));
    table.ok("bob", kick("vic", false));
    table.ok("ann", kick("vic", true));
    table.refused("bob", kick("vic", false), Code::PermissionDenied, "banning needs the role Admin");
}

#[test]
fn a_room_may_let_its_admins_edit_what_other_people_wrote() {
    let mut table = Table::new();
    let id = table.say("bob", "hello");
    let edit = |regenerate| Command::EditMessage { message_id: id, content: "bye".into(), regenerate };
    table.refused("ann", edit(false), Code::PermissionDenied, "only its author");
    table.ok("ann", permit(Action::EditOthers, Some(Least::Role(Role::Admin))));
    table.refused("ann", edit(true), Code::PermissionDenied, "only its author");
    let event = table.one("ann", edit(false));
    assert!(matches!(event, Event::MessageEdited { by: Some(by), .. } if by == user_id("ann")));
    assert_eq!(table.message(id).content, "bye");
    table.ok("vic", Command::Leave);
}
