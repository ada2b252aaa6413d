//! Sending, editing, deleting, reacting.

use super::*;
use crate::domain::limits::RECENT_MESSAGES;

fn edit(message_id: MessageId, content: &str) -> Command {
    Command::EditMessage { message_id, content: content.into(), regenerate: false }
}

fn delete(message_id: MessageId) -> Command {
    Command::DeleteMessage { message_id }
}

fn react(message_id: MessageId, emoji: &str, add: bool) -> Command {
    Command::React { message_id, emoji: emoji.into(), add }
}

fn mentions(table: &Table, id: MessageId) -> Vec<&str> {
    table.message(id).mentions.iter().map(LlmId::as_str).collect()
}

#[test]
fn a_message_has_one_id_and_no_fence() {
    let mut table = Table::new();
    let fence = table.room.fence;
    let decision = table.decide("bob", send("hi")).unwrap();
    let [NewEvent { event_id, event: Event::MessagePosted(message) }] = &decision.events[..] else {
        panic!("{decision:?}")
    };
    assert!(!decision.fenced);
    assert_eq!(*event_id, EventId::from(message.id));
    assert_eq!((message.author_name.as_str(), message.content_type.as_str()), ("bob", "text/plain"));
    let id = table.say("bob", "hi");
    assert_eq!(table.room.fence, fence);
    assert_eq!(table.message(id).seq, table.room.seq);
}

#[test]
fn content_has_a_limit_in_bytes() {
    let mut table = Table::new();
    table.limits.message_bytes = 10;
    table.ok("bob", send("12345678é"));
    table.refused("bob", send("123456789é"), Code::InvalidArgument, "at most 10 bytes, has 11");
    table.refused("bob", send(""), Code::InvalidArgument, "message.content must not be empty");
    table.refused("bob", send(" \n\u{3000}"), Code::InvalidArgument, "must not be empty");
    table.limits.message_bytes = Limits::default().message_bytes;
    table.ok("bob", send(&"x".repeat(16 * 1024)));
    table.refused("bob", send(&"x".repeat(16 * 1024 + 1)), Code::InvalidArgument, "16384 bytes");
}

#[test]
fn only_members_who_may_write() {
    let mut table = Table::new();
    let id = table.say("bob", "hi");
    for who in ["vic", "eve"] {
        for command in [send("x"), edit(id, "x"), delete(id), react(id, "👍", true)] {
            table.refused(who, command, Code::PermissionDenied, who);
        }
    }
    table.refused("ada", send("x"), Code::PermissionDenied, "only people");
    table.refused("server", send("x"), Code::PermissionDenied, "only people");
}

#[test]
fn mentions_are_text_then_names_and_limited() {
    let mut table = Table::new();
    let named = |content_type: &str, names: Vec<&str>| {
        let mentions = names.into_iter().map(Into::into).collect();
        Command::SendMessage(MessageInput { content_type: content_type.into(), mentions, ..input("@Bot_1?") })
    };
    for (content_type, names, expected) in [
        ("", vec!["ada lovelace", "nobody"], vec!["bot", "ada"]),
        ("text/markdown", vec![], vec!["bot"]),
        ("application/json", vec![], vec![]),
        ("application/json", vec!["@ada"], vec!["ada"]),
    ] {
        table.ok("bob", named(content_type, names));
        let id = table.room.recent.back().unwrap().id;
        assert_eq!(mentions(&table, id), expected, "{content_type}");
    }
    table.ok("bob", named("", vec!["x"; 32]));
    table.refused("bob", named("", vec!["x"; 33]), Code::InvalidArgument, "at most 32 names, has 33");
    table.ok("bob", named(&"x".repeat(100), vec![]));
    table.refused("bob", named(&"x".repeat(101), vec![]), Code::InvalidArgument, "message.content_type");
    table.refused("bob", named("text/\r\n", vec![]), Code::InvalidArgument, "must not contain '\\r'");
}

#[test]
fn a_reply_is_to_a_message_of_this_room() {
    let mut table = Table::new();
    let id = table.say("bob", "hi");
    let reply = |to| Command::SendMessage(MessageInput { reply_to: Some(to), ..input("x") });
    table.ok("ann", reply(id));
    table.ok("bob", delete(id));
    table.refused("ann", reply(id), Code::NotFound, "no message");
    let old = Message { id: MessageId(unknown()), deleted: false, ..table.message(id).clone() };
    table.refused("ann", reply(old.id), Code::NotFound, "no message");
    // Read from the store, because the state has forgotten it.
    table.facts.message = Some(old.clone());
    table.ok("ann", reply(old.id));
    table.refused("ann", reply(MessageId(Uuid::nil())), Code::NotFound, "no message");
}

#[test]
fn only_its_author_edits_a_message() {
    let mut table = Table::new();
    let id = table.say("bob", "hi");
    table.refused("ann", edit(id, "x"), Code::PermissionDenied, "only its author");
    table.ok("bob", edit(id, "@Ada Lovelace"));
    assert_eq!(mentions(&table, id), ["ada"]);
    assert_eq!(table.message(id).edited_at, Some(table.at));
    table.nothing("bob", edit(id, "@Ada Lovelace"));
    table.refused("bob", edit(id, " "), Code::InvalidArgument, "edit_message.content must not be empty");
    let long = "x".repeat(16 * 1024 + 1);
    table.refused("bob", edit(id, &long), Code::InvalidArgument, "16384 bytes");
    table.refused("bob", edit(MessageId(unknown()), "x"), Code::NotFound, "no message");
    table.ok("bob", delete(id));
    table.refused("bob", edit(id, "x"), Code::NotFound, "no message");
}

#[test]
fn its_author_or_an_admin_deletes_a_message() {
    let mut table = Table::new();
    table.ok("cy", join(None));
    let (one, two) = (table.say("bob", "hi @all"), table.say("bob", "ho"));
    table.refused("cy", delete(one), Code::PermissionDenied, "its author or an ADMIN");
    table.ok("bob", delete(one));
    table.ok("ann", delete(two));
    table.nothing("bob", delete(one));
    let message = table.message(one);
    assert!(message.deleted && message.content.is_empty() && message.mentions.is_empty());
    table.refused("ann", delete(MessageId(unknown())), Code::NotFound, "no message");
}

#[test]
fn a_poll_is_neither_edited_nor_deleted() {
    let mut table = Table::new();
    table.ok("bob", Command::CreatePoll(poll(&["a", "b"])));
    let id = table.room.recent.back().unwrap().id;
    table.refused("bob", edit(id, "x"), Code::InvalidArgument, "cannot be edited");
    table.refused("ann", delete(id), Code::InvalidArgument, "close it instead");
}

#[test]
fn a_reaction_counts_once() {
    let mut table = Table::new();
    let id = table.say("bob", "hi");
    table.nothing("bob", react(id, "👍", false));
    table.ok("bob", react(id, "👍", true));
    table.nothing("bob", react(id, "👍", true));
    table.ok("ann", react(id, "👍", true));
    assert_eq!(table.message(id).reactions[0].users, [user_id("bob"), user_id("ann")]);
    table.ok("bob", react(id, "👍", false));
    table.ok("ann", react(id, "👍", false));
    assert_eq!(table.message(id).reactions, []);
    table.ok("bob", delete(id));
    table.refused("bob", react(id, "👍", true), Code::NotFound, "no message");
    table.refused("bob", react(MessageId(unknown()), "👍", true), Code::NotFound, "no message");
}

#[test]
fn emoji_are_short_and_few() {
    let mut table = Table::new();
    let id = table.say("bob", "hi");
    table.refused("bob", react(id, "", true), Code::InvalidArgument, "1 to 32 bytes, has 0");
    table.refused("bob", react(id, &"x".repeat(33), true), Code::InvalidArgument, "1 to 32 bytes, has 33");
    table.refused("bob", react(id, "a b", true), Code::InvalidArgument, "must not contain ' '");
    table.refused("bob", react(id, "\u{7}", true), Code::InvalidArgument, "must not contain");
    table.ok("bob", react(id, &"x".repeat(32), true));
    table.ok("bob", react(id, "👩\u{200D}👩\u{200D}👧", true));
    for n in 2..20 {
        table.ok("bob", react(id, &n.to_string(), true));
    }
    table.refused("bob", react(id, "20", true), Code::ResourceExhausted, "at most 20 different emoji");
    // One that is there already is no new one.
    table.ok("ann", react(id, "19", true));
}

#[test]
fn a_message_is_changed_a_thousand_times_at_most() {
    let mut table = Table::new();
    let id = table.say("bob", "hi");
    table.ok("bob", edit(id, "ho"));
    table.ok("ann", react(id, "👍", true));
    for n in 2..1000 {
        table.ok("bob", react(id, "🎉", n % 2 == 0));
    }
    let full = |table: &mut Table| {
        table.refused("bob", react(id, "🎉", true), Code::ResourceExhausted, "at most 1000 edits");
        table.refused("bob", edit(id, "hi"), Code::ResourceExhausted, "at most 1000 edits");
        table.nothing("ann", react(id, "👍", true));
    };
    full(&mut table);
    // The same once it has left the state and is read from the log.
    table.facts.message = Some(table.message(id).clone());
    for _ in 0..RECENT_MESSAGES {
        table.say("ann", "x");
    }
    assert_eq!(table.room.recent_message(id), None);
    full(&mut table);
    table.ok("ann", react(id, "👍", false));
    table.ok("bob", delete(id));
}
