//! What a client says becomes what it means, and whatever cannot be names its field and keeps its request id.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use salon::{
    domain::{
        command::{Command, JoinProfile, MessageInput, OptionInput, PollInput},
        llm::{ChatStyle, LlmConfig, LlmPatch},
        rejection::{Code, Rejection},
        room::{Presence, Role, Visibility},
    },
    ids::{LlmId, MessageId, OptionId, PollId, RequestId, RoomId, Seq, UserId},
    wire::{
        command::{Inbound, ReadUpTo, Request, Unreadable, new_room, read},
        join::{ChunkWish, JoinWish},
        pb::room::v1::{self as pb, client_message::Payload},
    },
};
use uuid::Uuid;

use crate::domain_properties::config;

const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn uuid() -> Uuid {
    Uuid::try_parse(UUID).unwrap()
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn llm(id: &str) -> LlmId {
    LlmId::parse(id).unwrap()
}

fn bytes(payload: Option<Payload>, request_id: &str) -> Bytes {
    pb::ClientMessage { payload, request_id: request_id.into() }.encode_to_vec().into()
}

#[track_caller]
fn request(payload: Payload) -> Request {
    let what = format!("{payload:?}");
    let Inbound { request_id, request, .. } =
        read(&bytes(Some(payload), "r-1")).unwrap_or_else(|unreadable| panic!("{what}: {unreadable:?}"));
    assert_eq!(request_id, Some(RequestId::parse("r-1").unwrap()), "{what}");
    request
}

#[track_caller]
fn command(payload: Payload) -> Command {
    match request(payload) {
        Request::Command(command) => command,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(payload: Option<Payload>) -> Rejection {
    let what = format!("{payload:?}");
    let Unreadable { request_id, rejection } = read(&bytes(payload, "r-1")).unwrap_err();
    assert_eq!(request_id, Some(RequestId::parse("r-1").unwrap()), "{what}");
    rejection
}

fn join(room_id: &str, user_id: &str) -> pb::JoinRoom {
    pb::JoinRoom { room_id: room_id.into(), user_id: user_id.into(), ..Default::default() }
}

#[test]
fn how_to_be_told_of_answers() {
    let asked = |chunk_interval_ms, compact_answers| {
        Payload::Join(pb::JoinRoom { chunk_interval_ms, compact_answers, ..join("room", "ann") })
    };
    let wish = |payload| match request(payload) {
        Request::Join(join) => join.chunks,
        other => panic!("{other:?}"),
    };
    assert_eq!(wish(asked(None, false)), ChunkWish::default());
    for ms in [0, 1, 500] {
        let interval = Some(std::time::Duration::from_millis(ms.into()));
        assert_eq!(wish(asked(Some(ms), true)), ChunkWish { interval, compact: true });
    }
    for ms in [501, u32::MAX] {
        let refused = refused(Some(asked(Some(ms), false)));
        assert_eq!((refused.code, refused.field), (Code::InvalidArgument, Some("join.chunk_interval_ms")));
        assert!(refused.message.contains(&format!("must be at most 500, is {ms}")), "{refused:?}");
    }
}

#[test]
fn what_is_for_the_session() {
    let full = pb::JoinRoom {
        display_name: " Ann ".into(),
        role: pb::Role::Viewer.into(),
        title: "T".into(),
        avatar: "A".into(),
        after_seq: Some(0),
        ..join("room", "ann")
    };
    let profile = |name: &str, role, title: &str, avatar: &str| JoinProfile {
        name: name.into(),
        role,
        title: title.into(),
        avatar: avatar.into(),
        ..JoinProfile::default()
    };
    let read_join = |profile, after| {
        let chunks = ChunkWish::default();
        let (room_id, user_id) = (RoomId::parse("room").unwrap(), Some(user("ann")));
        Request::Join(JoinWish { room_id, user_id, profile, after, chunks })
    };
    let signal = pb::SendSignal { r#type: "x".into(), data: vec![0, 255].into(), to: vec!["bob".into()] };
    let interrupt = |llm_id: &str, message_id: Option<&str>| {
        Payload::Interrupt(pb::InterruptLlm { llm_id: llm_id.into(), message_id: message_id.map(Into::into) })
    };
    let all = Request::Interrupt { llm_id: None, message_id: None };
    let one = Request::Interrupt { llm_id: Some(llm("ada")), message_id: Some(MessageId(uuid())) };
    let mark = |seq, message_id: &str| Payload::MarkRead(pb::MarkRead { seq, message_id: message_id.into() });
    let presence =
        |status: pb::PresenceStatus| Payload::SetPresence(pb::SetPresence { status: status.into() });
    for (payload, expected) in [
        (Payload::Join(full), read_join(profile("Ann", Some(Role::Viewer), "T", "A"), Some(Seq(0)))),
        (Payload::Join(join("room", "ann")), read_join(profile("", None, "", ""), None)),
        (Payload::Ping(pb::Ping {}), Request::Ping),
        (Payload::Leave(pb::LeaveRoom::default()), Request::Leave { keep_membership: false }),
        (Payload::Leave(pb::LeaveRoom { keep_membership: true }), Request::Leave { keep_membership: true }),
        (Payload::Typing(pb::TypingIndicator { is_typing: true }), Request::Typing(true)),
        (Payload::Typing(pb::TypingIndicator { is_typing: false }), Request::Typing(false)),
        (interrupt("", None), all.clone()),
        (interrupt("", Some("")), all),
        (interrupt("ada", Some(UUID)), one),
        (mark(7, ""), Request::MarkRead(ReadUpTo::Seq(Seq(7)))),
        (mark(7, UUID), Request::MarkRead(ReadUpTo::Seq(Seq(7)))),
        (mark(0, UUID), Request::MarkRead(ReadUpTo::Message(MessageId(uuid())))),
        (presence(pb::PresenceStatus::Online), Request::SetPresence(Presence::Online)),
        (presence(pb::PresenceStatus::Away), Request::SetPresence(Presence::Away)),
        (presence(pb::PresenceStatus::Offline), Request::SetPresence(Presence::Offline)),
        (
            Payload::Signal(signal),
            Request::Signal { kind: "x".into(), data: vec![0, 255].into(), to: vec![user("bob")] },
        ),
    ] {
        assert_eq!(request(payload), expected);
    }
}

#[test]
fn messages() {
    let sent = pb::SendMessage {
        content: " hi ".into(),
        mentions: vec!["Ada Lovelace".into()],
        reply_to: Some(UUID.into()),
        content_type: "text/markdown".into(),
    };
    let id = MessageId(uuid());
    let input = MessageInput {
        content: " hi ".into(),
        content_type: "text/markdown".into(),
        reply_to: Some(id),
        mentions: vec!["Ada Lovelace".into()],
    };
    let react = |remove| pb::React { message_id: UUID.into(), emoji: "👍".into(), remove };
    let reacted = |add| Command::React { message_id: id, emoji: "👍".into(), add };
    for (payload, expected) in [
        (Payload::Message(sent), Command::SendMessage(input)),
        (
            Payload::EditMessage(pb::EditMessage {
                message_id: UUID.into(),
                content: "x".into(),
                ..Default::default()
            }),
            Command::EditMessage { message_id: id, content: "x".into(), regenerate: false },
        ),
        (
            Payload::DeleteMessage(pb::DeleteMessage { message_id: UUID.into() }),
            Command::DeleteMessage { message_id: id },
        ),
        (Payload::React(react(false)), reacted(true)),
        (Payload::React(react(true)), reacted(false)),
    ] {
        assert_eq!(command(payload), expected);
    }
}

fn ada() -> pb::LlmConfig {
    pb::LlmConfig {
        id: "ada".into(),
        model: "m".into(),
        persona: "p".into(),
        display_name: " Ada ".into(),
        title: "t".into(),
        chat_style: pb::ChatStyle::Bullet.into(),
        avatar: "a".into(),
        allowed_tools: vec!["files__*".into()],
        fallback_models: vec!["local:small".into()],
    }
}

fn read_ada(display_name: &str) -> LlmConfig {
    LlmConfig {
        id: llm("ada"),
        model: "m".into(),
        persona: "p".into(),
        display_name: display_name.into(),
        title: "t".into(),
        chat_style: ChatStyle::Bullet,
        avatar: "a".into(),
        allowed_tools: vec!["files__*".into()],
        fallback_models: vec!["local:small".into()],
    }
}

#[test]
fn llms() {
    let update = pb::UpdateLlm {
        llm_id: "ada".into(),
        model: Some("m".into()),
        persona: Some(String::new()),
        display_name: Some(" Ada ".into()),
        title: Some("t".into()),
        chat_style: Some(pb::ChatStyle::Detailed.into()),
        avatar: Some("a".into()),
        allowed_tools: Some(pb::StringList { values: Vec::new() }),
        fallback_models: Some(pb::StringList { values: vec!["local:small".into()] }),
    };
    let patch = LlmPatch {
        model: Some("m".into()),
        persona: Some(String::new()),
        display_name: Some("Ada".into()),
        title: Some("t".into()),
        chat_style: Some(ChatStyle::Detailed),
        avatar: Some("a".into()),
        allowed_tools: Some(Vec::new()),
        fallback_models: Some(vec!["local:small".into()]),
    };
    let add = |llm| Payload::AddLlm(pb::AddLlm { llm: Some(llm) });
    let nothing = pb::UpdateLlm { llm_id: "ada".into(), ..Default::default() };
    for (payload, expected) in [
        (add(ada()), Command::AddLlm(read_ada("Ada"))),
        (add(pb::LlmConfig { display_name: String::new(), ..ada() }), Command::AddLlm(read_ada("ada"))),
        (Payload::UpdateLlm(update), Command::UpdateLlm { llm_id: llm("ada"), patch }),
        (Payload::UpdateLlm(nothing), Command::UpdateLlm { llm_id: llm("ada"), patch: LlmPatch::default() }),
        (Payload::RemoveLlm(pb::RemoveLlm { llm_id: "ada".into() }), Command::RemoveLlm(llm("ada"))),
    ] {
        assert_eq!(command(payload), expected);
    }
}

#[test]
fn polls() {
    let option = |text: &str| pb::PollOptionInput { text: text.into(), description: format!("{text}!") };
    let read_option = |text: &str| OptionInput { text: text.into(), description: format!("{text}!") };
    // Each flag alone, so that none is taken for another.
    for flag in 0..5 {
        for closes_in_ms in [0, 1500] {
            let create = pb::CreatePoll {
                question: "?".into(),
                options: vec![option("a"), option("b")],
                allow_multiple: flag == 0,
                anonymous: flag == 1,
                mandatory: flag == 2,
                hide_results_until_closed: flag == 3,
                secret_ballot: flag == 4,
                quorum: 7 * flag,
                closes_in_ms,
            };
            let expected = PollInput {
                question: "?".into(),
                options: vec![read_option("a"), read_option("b")],
                allow_multiple: flag == 0,
                anonymous: flag == 1 || flag == 4,
                mandatory: flag == 2,
                quorum: 7 * flag,
                outside: Vec::new(),
                hide_results: flag == 3 || flag == 4,
                closes_in: (closes_in_ms > 0).then(|| Duration::from_millis(closes_in_ms)),
            };
            assert_eq!(command(Payload::CreatePoll(create)), Command::CreatePoll(expected));
        }
    }
    let poll_id = PollId(uuid());
    let cast =
        pb::CastVote { poll_id: UUID.into(), option_ids: vec!["2".into(), "1".into()], reason: "why".into() };
    let options = vec![OptionId::at(1), OptionId::at(0)];
    for (payload, expected) in [
        (Payload::CastVote(cast), Command::CastVote { poll_id, options, reason: "why".into() }),
        (Payload::RetractVote(pb::RetractVote { poll_id: UUID.into() }), Command::RetractVote(poll_id)),
        (Payload::ClosePoll(pb::ClosePoll { poll_id: UUID.into() }), Command::ClosePoll(poll_id)),
    ] {
        assert_eq!(command(payload), expected);
    }
}

#[test]
fn rooms_and_members() {
    let described = pb::UpdateRoomDescription { description: "d".into() };
    let update = |name: Option<&str>, visibility: pb::RoomVisibility| pb::UpdateRoom {
        name: name.map(Into::into),
        description: None,
        visibility: visibility.into(),
        ..Default::default()
    };
    let updated = |name: Option<&str>, description: Option<&str>, visibility| Command::UpdateRoom {
        name: name.map(Into::into),
        description: description.map(Into::into),
        visibility,
        settings: Default::default(),
    };
    let private = Some(Visibility::Private);
    let remove = pb::RemoveMember { user_id: "bob".into(), ban: true, reason: "r".into() };
    for (payload, expected) in [
        (Payload::UpdateRoomDescription(described), updated(None, Some("d"), None)),
        (
            Payload::UpdateRoom(update(Some(" n "), pb::RoomVisibility::Private)),
            updated(Some("n"), None, private),
        ),
        (
            Payload::UpdateRoom(update(None, pb::RoomVisibility::Public)),
            updated(None, None, Some(Visibility::Public)),
        ),
        (Payload::UpdateRoom(update(None, pb::RoomVisibility::Unspecified)), updated(None, None, None)),
        (
            Payload::RemoveMember(remove),
            Command::RemoveMember { user_id: user("bob"), ban: true, reason: "r".into() },
        ),
        (Payload::EndRoom(pb::EndRoom { reason: "r".into() }), Command::EndRoom { reason: "r".into() }),
    ] {
        assert_eq!(command(payload), expected);
    }
    for (role, expected) in
        [(pb::Role::Admin, Role::Admin), (pb::Role::Member, Role::Member), (pb::Role::Viewer, Role::Viewer)]
    {
        let update = pb::UpdateMember { user_id: "bob".into(), role: role.into() };
        let expected = Command::UpdateMember { user_id: user("bob"), role: expected };
        assert_eq!(command(Payload::UpdateMember(update)), expected);
    }
}

#[test]
fn a_field_that_cannot_be_is_named() {
    let add = |id: &str| Payload::AddLlm(pb::AddLlm { llm: Some(pb::LlmConfig { id: id.into(), ..ada() }) });
    let signal = |kind: &str, data: usize, to: Vec<String>| {
        Payload::Signal(pb::SendSignal { r#type: kind.into(), data: vec![0; data].into(), to })
    };
    let member =
        |user_id: &str, role: i32| Payload::UpdateMember(pb::UpdateMember { user_id: user_id.into(), role });
    let presence = |status: i32| Payload::SetPresence(pb::SetPresence { status });
    let update = |id: &str| pb::UpdateLlm { llm_id: id.into(), ..Default::default() };
    let remove = |id: &str| pb::RemoveMember { user_id: id.into(), ..Default::default() };
    let interrupt = |id: &str| pb::InterruptLlm { llm_id: id.into(), message_id: None };
    let long = "u".repeat(129);
    let shown = |len: usize| Payload::Authenticate(pb::Authenticate { credential: "c".repeat(len) });
    for (payload, field, words) in [
        (shown(0), "authenticate.credential", "must not be empty"),
        (shown(8193), "authenticate.credential", "at most 8192 bytes, has 8193"),
        (Payload::Join(join("room", &long)), "join.user_id", "at most 128 characters, has 129"),
        (Payload::Join(join("room", "a\u{202E}b")), "join.user_id", "must not contain"),
        (Payload::AddLlm(pb::AddLlm { llm: None }), "add_llm.llm", "must be set"),
        (add(""), "llm.id", "must not be empty"),
        (add("a b"), "llm.id", "must not contain ' '"),
        (add(&"a".repeat(65)), "llm.id", "at most 64"),
        (Payload::UpdateLlm(update("")), "update_llm.llm_id", "must not be empty"),
        (Payload::RemoveLlm(pb::RemoveLlm::default()), "remove_llm.llm_id", "must not be empty"),
        (Payload::Interrupt(interrupt("a b")), "interrupt.llm_id", "must not contain"),
        (Payload::MarkRead(pb::MarkRead::default()), "mark_read", "must have a seq or a message_id"),
        (presence(0), "set_presence.status", "must be ONLINE"),
        (presence(99), "set_presence.status", "must be ONLINE"),
        (member("", 1), "update_member.user_id", "must not be empty"),
        (member("bob", 0), "update_member.role", "must be ADMIN"),
        (member("bob", 99), "update_member.role", "must be ADMIN"),
        (Payload::RemoveMember(remove("")), "remove_member.user_id", "must not be empty"),
        (signal(" ", 0, vec![]), "signal.type", "must not be empty"),
        (signal(&"x".repeat(65), 0, vec![]), "signal.type", "at most 64 characters"),
        (signal("a\nb", 0, vec![]), "signal.type", "must not contain"),
        (signal("x", 8193, vec![]), "signal.data", "at most 8192 bytes, has 8193"),
        (signal("x", 0, vec!["u".into(); 65]), "signal.to", "at most 64 users, has 65"),
        (signal("x", 0, vec![String::new()]), "signal.to", "must not be empty"),
    ] {
        let what = format!("{payload:?}");
        let rejection = refused(Some(payload));
        assert_eq!((rejection.code, rejection.field), (Code::InvalidArgument, Some(field)), "{what}");
        assert!(rejection.message.contains(words), "{what}: {rejection:?}");
    }
    // At the limit it may be.
    request(signal(&"é".repeat(64), 8192, vec!["u".into(); 64]));
    request(Payload::Join(join(&"r".repeat(64), &"é".repeat(128))));
}

#[test]
fn what_no_id_can_name_does_not_exist() {
    let room = refused(Some(Payload::Join(join(&"/".repeat(100), "ann"))));
    assert_eq!((room.code, room.field), (Code::RoomNotFound, Some("join.room_id")));
    assert!(room.message.len() < 200, "a wrong id is cut short: {}", room.message);

    let message = |reply_to: &str| pb::SendMessage {
        content: "x".into(),
        reply_to: Some(reply_to.into()),
        ..Default::default()
    };
    let cast = |poll_id: &str, option: &str| {
        Payload::CastVote(pb::CastVote {
            poll_id: poll_id.into(),
            option_ids: vec![option.into()],
            reason: String::new(),
        })
    };
    let id = || "nonsense".to_owned();
    let interrupt = pb::InterruptLlm { llm_id: String::new(), message_id: Some(id()) };
    for (payload, words) in [
        (Payload::Message(message("nonsense")), "no message \"nonsense\""),
        (Payload::Message(message("")), "no message"),
        (
            Payload::EditMessage(pb::EditMessage {
                message_id: id(),
                content: "x".into(),
                ..Default::default()
            }),
            "no message",
        ),
        (Payload::DeleteMessage(pb::DeleteMessage { message_id: id() }), "no message"),
        (Payload::React(pb::React { message_id: id(), emoji: "x".into(), remove: false }), "no message"),
        (Payload::MarkRead(pb::MarkRead { seq: 0, message_id: id() }), "no message"),
        (Payload::Interrupt(interrupt), "no running answer"),
        (cast("nonsense", "1"), "no poll"),
        (cast(UUID, "not/an option"), "no option"),
        (Payload::RetractVote(pb::RetractVote { poll_id: id() }), "no poll"),
        (Payload::ClosePoll(pb::ClosePoll { poll_id: id() }), "no poll"),
    ] {
        let what = format!("{payload:?}");
        let rejection = refused(Some(payload));
        assert_eq!(rejection.code, Code::NotFound, "{what}");
        assert!(rejection.message.contains(words), "{what}: {rejection:?}");
    }
}

#[test]
fn what_is_not_known_is_unsupported() {
    assert_eq!(refused(None).code, Code::Unsupported);
    // A command of a newer contract: field 99, an empty message; then the request id.
    let mut newer = vec![0x9a, 0x06, 0x00];
    newer.extend_from_slice(&bytes(None, "r-9"));
    let unreadable = read(&newer.into()).unwrap_err();
    assert_eq!(unreadable.rejection.code, Code::Unsupported);
    assert_eq!(unreadable.request_id, Some(RequestId::parse("r-9").unwrap()));
}

#[test]
fn a_request_id_is_kept_when_the_rest_is_broken() {
    let hello = pb::SendMessage { content: "hello".into(), ..Default::default() };
    let whole = bytes(Some(Payload::Message(hello)), "r-1").to_vec();
    let at = whole.windows(5).position(|window| window == b"hello").unwrap();
    let mut broken = whole;
    broken[at] = 0xff;
    let unreadable = read(&broken.into()).unwrap_err();
    assert_eq!(unreadable.request_id, Some(RequestId::parse("r-1").unwrap()));
    assert_eq!(unreadable.rejection.code, Code::InvalidArgument);
    assert!(unreadable.rejection.message.contains("content"), "{}", unreadable.rejection);

    // One that cannot be a request id is none.
    for request_id in ["x".repeat(129), "a\nb".into()] {
        let unreadable = read(&bytes(Some(Payload::Ping(pb::Ping {})), &request_id)).unwrap_err();
        assert_eq!((unreadable.request_id, unreadable.rejection.field), (None, Some("request_id")));
    }
    let without = read(&bytes(Some(Payload::Ping(pb::Ping {})), "")).unwrap();
    assert_eq!((without.request_id, without.request), (None, Request::Ping));
}

#[test]
fn a_repeat_has_the_same_digest_and_a_reuse_another() {
    let digest = |content: &str, request_id: &str| {
        let message = pb::SendMessage { content: content.into(), ..Default::default() };
        read(&bytes(Some(Payload::Message(message)), request_id)).unwrap().body_hash
    };
    assert_eq!(digest("hello", "r-1"), digest("hello", "r-2"), "the request id is no part of what is asked");
    assert_ne!(digest("hello", "r-1"), digest("hellp", "r-1"));
    assert_ne!(digest("hello", "r-1"), digest("hello ", "r-1"));
}

#[test]
fn a_new_room_is_read() {
    let request = pb::CreateRoomRequest {
        name: " Room ".into(),
        llms: vec![ada()],
        created_by: "ann".into(),
        description: "d".into(),
        visibility: pb::RoomVisibility::Private.into(),
        room_id: Some("chosen".into()),
        settings: None,
    };
    let new = new_room(request.clone()).unwrap();
    assert_eq!((new.id.as_str(), new.profile.name.as_str()), ("chosen", "Room"));
    assert_eq!((new.profile.description.as_str(), new.profile.visibility), ("d", Visibility::Private));
    assert_eq!((new.created_by, new.llms), (Some(user("ann")), vec![read_ada("Ada")]));

    let bare = new_room(pb::CreateRoomRequest::default()).unwrap();
    assert_eq!((bare.id.as_str().len(), bare.created_by), (12, None));
    assert_eq!(bare.profile.visibility, Visibility::Public);

    let wrong = |change: fn(&mut pb::CreateRoomRequest)| {
        let mut request = request.clone();
        change(&mut request);
        new_room(request).unwrap_err().field
    };
    assert_eq!(wrong(|r| r.room_id = Some("a/b".into())), Some("room_id"));
    assert_eq!(wrong(|r| r.created_by = "a\nb".into()), Some("created_by"));
    assert_eq!(wrong(|r| r.llms[0].id = "a b".into()), Some("llm.id"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..config() })]

    /// Whatever comes, there is an answer.
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes.into());
    }

    /// Nearly right is the harder half: one byte of a message is another, and its end may be missing.
    #[test]
    fn no_damage_is_too_subtle(
        which in 0..4_usize,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let payload = match which {
            0 => Payload::Join(pb::JoinRoom { after_seq: Some(300), ..join("room", "ann") }),
            1 => Payload::AddLlm(pb::AddLlm { llm: Some(ada()) }),
            2 => Payload::CastVote(pb::CastVote {
                poll_id: UUID.into(),
                option_ids: vec!["1".into(), "2".into()],
                reason: "why".into(),
            }),
            _ => Payload::Signal(pb::SendSignal {
                r#type: "x".into(),
                data: vec![1; 20].into(),
                to: vec!["bob".into()],
            }),
        };
        let mut message = bytes(Some(payload), "r-1").to_vec();
        let index = at.index(message.len());
        message[index] = byte;
        if let Some(cut) = cut {
            message.truncate(cut.index(message.len()));
        }
        let message = Bytes::from(message);
        // Reading twice gives the same: a repeat of a command is known by its digest.
        prop_assert_eq!(read(&message), read(&message));
    }
}
