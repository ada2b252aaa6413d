//! What members may do, over connections of two servers: who is removed, banned or muted on one of them is so on the
//! other as well, and so is what a room permits.

use salon::{
    llm::scripted::{ScriptedProvider, Step},
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};

use super::Pair;
use crate::harness::{
    Session, TestServer,
    session::{join, message},
};

async fn pair() -> Pair {
    let quiet = || ScriptedProvider::with("scripted", |_| Step::answer("Tea."));
    Pair::start(quiet(), quiet()).await
}

/// A room that ann has created and joined.
async fn room(server: &TestServer, settings: pb::RoomSettings) -> (String, Session) {
    let request = pb::CreateRoomRequest {
        name: "Room".into(),
        created_by: "ann".into(),
        llms: vec![crate::harness::llm("ada")],
        settings: Some(settings),
        ..Default::default()
    };
    let room = server.create(request).await;
    let ann = server.join(&room, "ann").await;
    (room, ann)
}

fn changed(payload: &Payload) -> Option<pb::MemberChanged> {
    match payload {
        Payload::MemberChanged(changed) => Some(changed.clone()),
        _ => None,
    }
}

fn permit(action: pb::Action, least_role: pb::Role) -> Say {
    let permission = pb::Permission { action: action.into(), least_role: least_role.into(), nobody: false };
    let settings = Some(pb::RoomSettings { permissions: vec![permission], ..Default::default() });
    Say::UpdateRoom(pb::UpdateRoom { settings, ..Default::default() })
}

#[tokio::test]
async fn who_is_removed_or_banned_on_one_server_is_gone_from_the_other_at_once() {
    let pair = pair().await;
    let (room, mut ann) = room(&pair.a, pb::RoomSettings::default()).await;
    for (user, ban, reason) in
        [("bob", false, pb::ClosingReason::Removed), ("cy", true, pb::ClosingReason::Banned)]
    {
        let mut there = pair.b.join(&room, user).await;
        let mut here = pair.a.join(&room, user).await;
        let remove = pb::RemoveMember { user_id: user.into(), ban, reason: "enough".into() };
        ann.command(Say::RemoveMember(remove)).await.unwrap();
        for session in [&mut there, &mut here] {
            let (closing, status) = session.end().await;
            assert_eq!(closing.unwrap().reason(), reason, "{user}");
            assert_eq!(status.unwrap_err().code(), tonic::Code::PermissionDenied);
        }
    }
    pair.end().await;
}

#[tokio::test]
async fn who_is_muted_on_one_server_can_only_read_on_the_other() {
    let pair = pair().await;
    let (room, mut ann) = room(&pair.a, pb::RoomSettings::default()).await;
    let mut bob = pair.b.join(&room, "bob").await;
    let typing = || Say::Typing(pb::TypingIndicator { is_typing: true });
    bob.command(typing()).await.unwrap();
    let mute = |duration_ms| {
        Say::MuteMember(pb::MuteMember { user_id: "bob".into(), duration_ms, reason: "enough".into() })
    };
    ann.command(mute(60_000)).await.unwrap();
    let is_muted = |payload: &Payload| {
        changed(payload)
            .filter(|changed| changed.member.as_ref().is_some_and(|member| member.muted_until.is_some()))
    };
    let told = bob.pick(is_muted).await;
    assert_eq!((told.by_id.as_str(), told.reason.as_str()), ("ann", "enough"));
    for command in [message("hello"), typing(), Say::Interrupt(pb::InterruptLlm::default())] {
        let shown = format!("{command:?}");
        let error = bob.command(command).await.expect_err(&shown);
        assert_eq!(error.code, "permission_denied", "{shown}");
        assert!((1..=60_001).contains(&error.retry_after_ms), "{shown}: {error:?}");
    }
    bob.command(Say::MarkRead(pb::MarkRead { seq: 1, ..Default::default() })).await.unwrap();
    // Who comes later sees it, on either server.
    let cy = pair.b.join(&room, "cy").await;
    let seen = cy.state.participants.iter().find(|participant| participant.id == "bob").unwrap();
    assert!(seen.muted_until.is_some());
    ann.command(mute(0)).await.unwrap();
    bob.pick(|payload| {
        changed(payload).filter(|c| c.member.as_ref().is_some_and(|m| m.muted_until.is_none()))
    })
    .await;
    bob.talk("hello").await;
    pair.end().await;
}

#[tokio::test]
async fn what_a_room_permits_holds_on_both_servers() {
    let pair = pair().await;
    let (room, mut ann) = room(&pair.a, pb::RoomSettings::default()).await;
    let mut bob = pair.b.join(&room, "bob").await;
    ann.command(permit(pb::Action::Post, pb::Role::Admin)).await.unwrap();
    bob.pick(|payload| matches!(payload, Payload::RoomUpdated(_)).then_some(())).await;
    let typing = Say::Typing(pb::TypingIndicator { is_typing: true });
    for command in [message("hello"), typing] {
        assert_eq!(bob.command(command).await.unwrap_err().code, "permission_denied");
    }
    // Whoever comes to a server that has not heard the change is held to it as well.
    let mut cy = pair.b.join(&room, "cy").await;
    let signal = Say::Signal(pb::SendSignal { r#type: "x".into(), ..Default::default() });
    assert_eq!(cy.command(signal).await.unwrap_err().code, "permission_denied");
    let settings = cy.state.room.clone().unwrap().settings.unwrap();
    assert_eq!(settings.permissions.len(), 1);
    ann.command(permit(pb::Action::Post, pb::Role::Unspecified)).await.unwrap();
    bob.pick(|payload| matches!(payload, Payload::RoomUpdated(_)).then_some(())).await;
    bob.talk("hello").await;
    pair.end().await;
}

#[tokio::test]
async fn whoever_may_not_call_llms_is_told_and_no_llm_is_asked() {
    let pair = pair().await;
    let (room, mut ann) = room(&pair.a, pb::RoomSettings::default()).await;
    ann.command(permit(pb::Action::MentionLlms, pb::Role::Admin)).await.unwrap();
    let mut bob = pair.a.join(&room, "bob").await;
    let ack = bob.talk("@ada hello").await;
    let refused = bob.find(|event| matches!(event.payload, Some(Payload::Error(_)))).await;
    let Some(Payload::Error(error)) = refused.payload else { panic!("{refused:?}") };
    assert_eq!((error.code.as_str(), refused.request_id.as_str()), ("permission_denied", ""));
    assert!(error.message.starts_with("the LLM ada was not asked: calling LLMs needs"), "{error:?}");
    let log = pair.a.log(&room).await;
    assert_eq!(log.last().map(|event| event.seq), Some(ack.seq), "nobody thinks about it");
    pair.end().await;
}

/// Makes an invitation; gives its id and its secret.
async fn invite(session: &mut Session, request_id: &str) -> (String, String) {
    let say = pb::ClientMessage {
        payload: Some(Say::CreateInvitation(pb::CreateInvitation::default())),
        request_id: request_id.into(),
    };
    session.send(say).await;
    let told = session.find(|event| event.request_id == request_id).await;
    let Some(Payload::InvitationSecret(secret)) = told.payload else { panic!("{told:?}") };
    let ack = session.find(|event| event.request_id == request_id).await;
    assert!(matches!(ack.payload, Some(Payload::Ack(pb::Ack { duplicate: false, .. }))), "{ack:?}");
    (secret.invitation_id, secret.secret)
}

async fn come(server: &TestServer, room: &str, user: &str, invitation: &str) -> pb::ServerEvent {
    let mut session = Session::open(server.client().await).await;
    let invitation = invitation.to_owned();
    session.say(Say::Join(pb::JoinRoom { invitation, ..join(room, user) })).await;
    session.next().await
}

fn code(event: &pb::ServerEvent) -> &str {
    match &event.payload {
        Some(Payload::Error(error)) => &error.code,
        Some(Payload::RoomState(_)) => "room_state",
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_invitation_lets_one_in_once_on_whichever_server_and_its_secret_is_told_once() {
    let pair = pair().await;
    let settings = pb::RoomSettings { join_rule: pb::JoinRule::Invited.into(), ..Default::default() };
    let (room, mut ann) = room(&pair.a, settings).await;
    assert_eq!(code(&come(&pair.b, &room, "bob", "").await), "permission_denied");
    assert_eq!(code(&come(&pair.b, &room, "bob", &"0".repeat(64)).await), "permission_denied");
    assert_eq!(code(&come(&pair.b, &room, "bob", "x").await), "invalid_argument");
    let (id, secret) = invite(&mut ann, "once").await;
    let again = ann.command_as("once", Say::CreateInvitation(pb::CreateInvitation::default())).await.unwrap();
    assert!(again.duplicate, "a repeat tells no secret");
    let listed = |session: &Session| {
        let ids = session.state.invitations.iter().map(|invitation| invitation.invitation_id.clone());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(listed(&pair.b.join(&room, "ann").await), [id.as_str()]);
    assert_eq!(code(&come(&pair.b, &room, "bob", &secret).await), "room_state");
    assert_eq!(code(&come(&pair.a, &room, "cy", &secret).await), "permission_denied");
    // A member needs none.
    assert_eq!(code(&come(&pair.a, &room, "bob", "").await), "room_state");
    let (id, _) = invite(&mut ann, "twice").await;
    assert!(listed(&pair.a.join(&room, "bob").await).is_empty(), "only ADMINs see them");
    ann.command(Say::RevokeInvitation(pb::RevokeInvitation { invitation_id: id })).await.unwrap();
    assert!(listed(&pair.b.join(&room, "ann").await).is_empty());
    let log = format!("{:?}", pair.a.log(&room).await);
    assert!(log.contains("InvitationCreated") && log.contains("InvitationClosed"));
    assert!(!log.contains(&secret), "the log of a room tells no secret");
    pair.end().await;
}
