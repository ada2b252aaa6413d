//! A room's beginning, its changes and its end.

use super::*;
use crate::domain::{llm::RunEnd, message::Author, settings::JoinRule};

#[test]
fn a_room_is_created_within_its_limits() {
    let named = |name: &str, description: &str| NewRoom {
        profile: Profile {
            name: name.into(),
            description: description.into(),
            visibility: Visibility::Private,
            settings: Settings::default(),
        },
        ..new_room()
    };
    let limits = Limits::default();
    let create = |new| create_with(new, &limits, &mut 0);
    for name in ["x", &"é".repeat(200)] {
        assert!(create(named(name, &"é".repeat(2000))).is_ok());
    }
    for (new, words) in [
        (named("", ""), "name must not be empty"),
        (named(" \u{3000}", ""), "name must not be empty"),
        (named(&"é".repeat(201), ""), "name must have at most 200 characters, has 201"),
        (named("a\u{202E}b", ""), "name must not contain"),
        (named("x", &"é".repeat(2001)), "description must have at most 2000 characters, has 2001"),
    ] {
        check_refusal(&create(new).unwrap_err(), Code::InvalidArgument, words, "create");
    }
    let created = create(new_room()).unwrap();
    assert!(created.fenced);
    assert!(
        matches!(&created.events[..], [NewEvent { event: Event::RoomCreated(new), .. }] if *new == new_room())
    );
}

#[test]
fn a_private_room_is_listed_to_its_people_and_to_nobody_unknown() {
    let mut table = Table::new();
    let limits = Limits::default();
    let listed =
        |table: &Table, user: Option<&str>| table.room.is_listed_to(user.map(user_id).as_ref(), &limits);
    for (visibility, expected) in
        [(Visibility::Public, [true; 3]), (Visibility::Private, [true, false, false])]
    {
        table.room.profile.visibility = visibility;
        table.room.profile.settings.join_rule = Some(JoinRule::Invited);
        assert_eq!([Some("bob"), Some("eve"), None].map(|user| listed(&table, user)), expected);
    }
}

#[test]
fn only_a_creation_begins_a_room_and_only_once() {
    let (limits, facts) = (Limits::default(), Facts::default());
    let new_id = &mut unknown;
    let mut context = Context { at: Timestamp(0), limits: &limits, facts: &facts, new_id, secret: None };
    let rejection = create(send("a secret"), &mut context).unwrap_err();
    check_refusal(&rejection, Code::RoomNotFound, "no such room", "send");
    assert!(!rejection.message.contains("secret"));
    Table::new().refused("ann", Command::CreateRoom(new_room()), Code::AlreadyExists, "room room exists");
}

#[test]
fn a_room_is_changed_field_by_field() {
    let mut table = Table::new();
    let update = |name: Option<&str>, description: Option<&str>, visibility| Command::UpdateRoom {
        name: name.map(Into::into),
        description: description.map(Into::into),
        visibility,
        settings: SettingsPatch::default(),
    };
    // A MEMBER may describe; name and visibility are an ADMIN's.
    table.ok("bob", update(None, Some("About"), None));
    table.refused("bob", update(Some("X"), None, None), Code::PermissionDenied, "changing the room");
    table.refused("bob", update(None, None, Some(Visibility::Private)), Code::PermissionDenied, "Admin");
    table.refused("vic", update(None, Some("X"), None), Code::PermissionDenied, "Member");
    table.refused("eve", update(None, Some("X"), None), Code::PermissionDenied, "not a member");
    table.ok("ann", update(Some("New"), None, Some(Visibility::Private)));
    let now = Profile {
        name: "New".into(),
        description: "About".into(),
        visibility: Visibility::Private,
        settings: Settings::default(),
    };
    assert_eq!(table.room.profile, now);
    table.nothing("ann", update(None, None, None));
    table.nothing("ann", update(Some("New"), Some("About"), Some(Visibility::Private)));
    table.refused("ann", update(Some(""), None, None), Code::InvalidArgument, "name must not be empty");
    let long = "x".repeat(2001);
    table.refused("bob", update(None, Some(&long), None), Code::InvalidArgument, "description");
}

#[test]
fn the_end_closes_answers_and_polls_and_is_the_last() {
    let mut table = Table::new();
    let asked = table.say("bob", "@all");
    table.ok("server", runs::start(asked, "ada", 1));
    table.ok("bob", Command::CreatePoll(poll(&["a", "b"])));
    let end = |reason: &str| Command::EndRoom { reason: reason.into() };
    table.refused("bob", end(""), Code::PermissionDenied, "ending the room");
    table.refused("server", end(""), Code::PermissionDenied, "only people");
    table.refused("ann", end(&"x".repeat(1001)), Code::InvalidArgument, "reason");

    table.at = Timestamp(table.at.0 + 1500);
    let events = table.ok("ann", end(&"x".repeat(1000)));
    let [
        Event::RunEnded { end: RunEnd::Interrupted, report, .. },
        Event::PollClosed { by: Some(Author::User(by)), by_name, .. },
        Event::RoomEnded { .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((report.duration_ms, by.as_str(), by_name.as_str()), (1500, "ann", "ann"));
    assert!(table.room.has_ended() && table.room.runs.is_empty());

    for command in [join(None), send("x"), Command::Leave, end(""), Command::CreateRoom(new_room())] {
        table.refused("ann", command, Code::RoomEnded, "ended");
    }
    table.refused("server", runs::start(asked, "ada", 2), Code::RoomEnded, "ended");
}

#[test]
fn what_the_state_lacks_is_looked_up() {
    let mut table = Table::new();
    let known = table.say("bob", "hi");
    let old = MessageId(unknown());
    let lookup = |command: Command| lookup(&table.room, &command);
    let reply = |to| Command::SendMessage(MessageInput { reply_to: Some(to), ..input("x") });
    assert_eq!(lookup(reply(old)), Some(Lookup::Message(old)));
    assert_eq!(lookup(reply(known)), None);
    assert_eq!(lookup(send("x")), None);
    assert_eq!(lookup(Command::DeleteMessage { message_id: old }), Some(Lookup::Message(old)));
    assert_eq!(lookup(Command::DeleteMessage { message_id: known }), None);
    let poll = PollId(unknown());
    assert_eq!(lookup(Command::ClosePoll(poll)), Some(Lookup::Poll(poll)));
    assert_eq!(lookup(Command::Leave), None);
}
