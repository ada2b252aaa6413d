//! What a VIEWER may not do, and what nobody but an ADMIN may.

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};

use super::{Scene, refused};
use crate::harness::{
    Session, Setup, llm,
    session::{is_lasting, join, message},
};

async fn join_as(scene: &Scene, user: &str, role: pb::Role) -> Session {
    let mut session = Session::open(scene.server.client().await).await;
    session.say(Say::Join(pb::JoinRoom { role: role.into(), ..join(&scene.room, user) })).await;
    session.take_state().await;
    session.user = user.into();
    session
}

fn option(text: &str) -> pb::PollOptionInput {
    pb::PollOptionInput { text: text.into(), ..Default::default() }
}

/// What needs the role MEMBER, about a message and a poll that are there.
fn writing(message_id: &str, poll: &pb::Poll) -> Vec<Say> {
    let (message_id, poll_id) = (message_id.to_owned(), poll.poll_id.clone());
    vec![
        message("hello"),
        message("@bot hello"),
        Say::React(pb::React { message_id: message_id.clone(), emoji: "+".into(), remove: false }),
        Say::EditMessage(pb::EditMessage {
            message_id: message_id.clone(),
            content: "mine".into(),
            ..Default::default()
        }),
        Say::DeleteMessage(pb::DeleteMessage { message_id }),
        Say::CreatePoll(pb::CreatePoll {
            question: "May I?".into(),
            options: vec![option("yes"), option("no")],
            ..Default::default()
        }),
        Say::CastVote(pb::CastVote {
            poll_id: poll_id.clone(),
            option_ids: vec![poll.options[0].id.clone()],
            ..Default::default()
        }),
        Say::RetractVote(pb::RetractVote { poll_id: poll_id.clone() }),
        Say::ClosePoll(pb::ClosePoll { poll_id }),
        Say::AddLlm(pb::AddLlm { llm: Some(llm("mine")) }),
        Say::UpdateLlm(pb::UpdateLlm {
            llm_id: "bot".into(),
            persona: Some("obey me".into()),
            ..Default::default()
        }),
        Say::RemoveLlm(pb::RemoveLlm { llm_id: "bot".into() }),
        Say::Interrupt(pb::InterruptLlm::default()),
        Say::UpdateRoomDescription(pb::UpdateRoomDescription { description: "mine".into() }),
        Say::Typing(pb::TypingIndicator { is_typing: true }),
        Say::Signal(pb::SendSignal { r#type: "x".into(), ..Default::default() }),
    ]
}

/// What needs the role ADMIN.
fn ruling() -> Vec<Say> {
    let user_id = "bystander".to_owned();
    vec![
        Say::UpdateMember(pb::UpdateMember { user_id: user_id.clone(), role: pb::Role::Viewer.into() }),
        Say::RemoveMember(pb::RemoveMember { user_id, ban: true, ..Default::default() }),
        Say::UpdateRoom(pb::UpdateRoom { name: Some("mine".into()), ..Default::default() }),
        Say::EndRoom(pb::EndRoom::default()),
    ]
}

#[tokio::test]
async fn a_viewer_reads_and_does_nothing_else() {
    let mut scene = Scene::with(Setup::default(), &["bot"]).await;
    let message_id = scene.bystander.talk("hello").await.event_id;
    let mut asker = scene.join("asker").await;
    let question = pb::CreatePoll {
        question: "Well?".into(),
        options: vec![option("yes"), option("no")],
        ..Default::default()
    };
    asker.command(Say::CreatePoll(question)).await.unwrap();
    let poll = asker
        .pick(|payload| match payload {
            Payload::PollCreated(created) => created.poll.clone(),
            _ => None,
        })
        .await;
    // The LLM votes and is done: from here on nothing happens by itself.
    asker.find(|event| matches!(event.payload, Some(Payload::LlmDone(_)))).await;
    let mut viewer = join_as(&scene, "viewer", pb::Role::Viewer).await;
    assert_eq!(viewer.state.you.as_ref().unwrap().role(), pb::Role::Viewer);
    let before = scene.server.log(&scene.room).await.len();
    for (n, command) in writing(&message_id, &poll).into_iter().chain(ruling()).enumerate() {
        let shown = format!("{n}: {command:?}");
        let error = viewer.command(command).await.expect_err(&shown);
        assert_eq!(error.code, "permission_denied", "{shown}: {error:?}");
    }
    assert_eq!(scene.server.log(&scene.room).await.len(), before, "nothing has happened");
    let shown = asker.settle().await;
    assert!(shown.iter().all(|event| {
        !matches!(event.payload, Some(Payload::UserTyping(_) | Payload::Signal(_)))
            && (!is_lasting(event) || event.seq <= u64::try_from(before).unwrap())
    }));
    // Reading is what a viewer is for.
    viewer.command(Say::MarkRead(pb::MarkRead { seq: 2, ..Default::default() })).await.unwrap();
    let away = pb::SetPresence { status: pb::PresenceStatus::Away.into() };
    viewer.command(Say::SetPresence(away)).await.unwrap();
    viewer.settle().await;
    scene.unharmed().await;
}

#[tokio::test]
async fn a_member_writes_and_does_not_rule() {
    let scene = Scene::new().await;
    let mut member = scene.join("member").await;
    for command in ruling() {
        let shown = format!("{command:?}");
        assert_eq!(member.command(command).await.expect_err(&shown).code, "permission_denied", "{shown}");
    }
    // Nor does it help to ask for the role on joining.
    let mut climber = join_as(&scene, "climber", pb::Role::Admin).await;
    assert_ne!(climber.state.you.as_ref().unwrap().role(), pb::Role::Admin);
    refused(climber.command(Say::EndRoom(pb::EndRoom::default())).await, "permission_denied");
    scene.unharmed().await;
}

#[tokio::test]
async fn the_messages_of_others_are_not_to_be_changed() {
    let mut scene = Scene::new().await;
    let message_id = scene.bystander.talk("mine").await.event_id;
    let mut other = scene.join("other").await;
    let edit = Say::EditMessage(pb::EditMessage {
        message_id: message_id.clone(),
        content: "not".into(),
        ..Default::default()
    });
    refused(other.command(edit).await, "permission_denied");
    refused(other.command(Say::DeleteMessage(pb::DeleteMessage { message_id })).await, "permission_denied");
    for emoji in ["", &"x".repeat(33)] {
        let react = pb::React {
            message_id: uuid::Uuid::from_u128(7).to_string(),
            emoji: emoji.into(),
            remove: false,
        };
        other.command(Say::React(react)).await.unwrap_err();
    }
    let signal =
        pb::SendSignal { r#type: "x".into(), data: vec![0; 8 * 1024 + 1].into(), ..Default::default() };
    refused(other.command(Say::Signal(signal)).await, "invalid_argument");
    scene.unharmed().await;
}
