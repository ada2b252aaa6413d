//! What can be said on a stream, by every credential.

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;
use salon::wire::pb::{DESCRIPTORS, room::v1::server_event::Payload};
use tonic::Code;

use super::*;
use crate::harness::session::{join, message};

const DENIED: &str = "permission_denied";
/// It is done, or nothing is in its way but that there is nothing to do it to.
const DONE: &str = "";
const ABSENT: &str = "not_found";

/// The names of what can be said, as they are declared.
fn declared() -> BTreeSet<String> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let message = pool.get_message_by_name("room.v1.ClientMessage").unwrap();
    let payload = message.oneofs().find(|oneof| oneof.name() == "payload").unwrap();
    payload.fields().map(|field| field.name().to_owned()).collect()
}

/// What is in a room to be changed.
struct Things {
    room: String,
    message: String,
    poll: String,
    option: String,
    invitation: String,
    /// What the first ADMIN shows.
    credential: String,
}

impl Things {
    async fn new(world: &World, room: &str, admin: &mut Session) -> Self {
        admin.talk("hello").await;
        let message = admin
            .pick(|payload| match payload {
                Payload::MessageReceived(received) => received.message.as_ref().map(|m| m.message_id.clone()),
                _ => None,
            })
            .await;
        admin.command(create_poll()).await.unwrap();
        let poll = admin
            .pick(|payload| match payload {
                Payload::PollCreated(created) => created.poll.clone(),
                _ => None,
            })
            .await;
        let (poll, option) = (poll.poll_id, poll.options[0].id.clone());
        admin.command(vote(&poll, &option)).await.unwrap();
        assert_eq!(admin.answer(Say::CreateInvitation(pb::CreateInvitation::default())).await, DONE);
        let invitation = admin
            .pick(|payload| match payload {
                Payload::InvitationCreated(made) => made.invitation.as_ref().map(|i| i.invitation_id.clone()),
                _ => None,
            })
            .await;
        let credential = world.shown(Who::Admin).text();
        Self { room: room.into(), message, poll, option, invitation, credential }
    }
}

fn create_poll() -> Say {
    let option = |text: &str| pb::PollOptionInput { text: text.into(), description: String::new() };
    let options = vec![option("yes"), option("no")];
    Say::CreatePoll(pb::CreatePoll { question: "Tea?".into(), options, ..Default::default() })
}

fn vote(poll: &str, option: &str) -> Say {
    let (poll_id, option_ids) = (poll.to_owned(), vec![option.to_owned()]);
    Say::CastVote(pb::CastVote { poll_id, option_ids, reason: String::new() })
}

/// What is said, and how it is answered to each of: a viewer, who is muted, an ADMIN whose token lets them be there and
/// no more, an ADMIN.
#[expect(clippy::too_many_lines, reason = "it is one table")]
fn row(name: &str, things: &Things) -> (Say, [&'static str; 4]) {
    let own = [DENIED, DENIED, DENIED, DONE];
    let everybodys = [DONE; 4];
    let absent = [DENIED, DENIED, DENIED, ABSENT];
    let (message_id, poll_id) = (things.message.clone(), things.poll.clone());
    let (bot, eve) = (|| "bot".to_owned(), || "eve".to_owned());
    match name {
        "join" => (Say::Join(join(&things.room, "ann")), ["already_joined"; 4]),
        "message" => (message("hello"), own),
        "typing" => (Say::Typing(pb::TypingIndicator { is_typing: true }), own),
        "interrupt" => (Say::Interrupt(pb::InterruptLlm { llm_id: bot(), message_id: None }), absent),
        "ping" => (Say::Ping(pb::Ping {}), everybodys),
        "add_llm" => (Say::AddLlm(pb::AddLlm { llm: Some(crate::harness::llm("new")) }), own),
        "update_llm" => {
            let title = Some("Guest".into());
            (Say::UpdateLlm(pb::UpdateLlm { llm_id: bot(), title, ..Default::default() }), own)
        }
        "create_poll" => (create_poll(), own),
        "cast_vote" => (vote(&things.poll, &things.option), own),
        "close_poll" => (Say::ClosePoll(pb::ClosePoll { poll_id }), own),
        "remove_llm" => (Say::RemoveLlm(pb::RemoveLlm { llm_id: bot() }), own),
        "update_room_description" => {
            let description = "About".into();
            (Say::UpdateRoomDescription(pb::UpdateRoomDescription { description }), own)
        }
        "leave" => (Say::Leave(pb::LeaveRoom { keep_membership: false }), everybodys),
        "edit_message" => {
            let (content, regenerate) = ("bye".into(), false);
            (Say::EditMessage(pb::EditMessage { message_id, content, regenerate }), own)
        }
        "delete_message" => (Say::DeleteMessage(pb::DeleteMessage { message_id }), own),
        "react" => (Say::React(pb::React { message_id, emoji: "+".into(), remove: false }), own),
        "mark_read" => (Say::MarkRead(pb::MarkRead { seq: 1, message_id: String::new() }), everybodys),
        "set_presence" => {
            let status = pb::PresenceStatus::Away.into();
            (Say::SetPresence(pb::SetPresence { status }), everybodys)
        }
        "signal" => (Say::Signal(pb::SendSignal { r#type: "wave".into(), ..Default::default() }), own),
        "retract_vote" => (Say::RetractVote(pb::RetractVote { poll_id }), own),
        "update_member" => {
            (Say::UpdateMember(pb::UpdateMember { user_id: eve(), role: pb::Role::Viewer.into() }), own)
        }
        "remove_member" => {
            (Say::RemoveMember(pb::RemoveMember { user_id: eve(), ..Default::default() }), own)
        }
        "update_room" => {
            (Say::UpdateRoom(pb::UpdateRoom { name: Some("Milk".into()), ..Default::default() }), own)
        }
        "end_room" => (Say::EndRoom(pb::EndRoom::default()), own),
        "regenerate" => {
            let message_id = uuid::Uuid::nil().to_string();
            (Say::Regenerate(pb::Regenerate { message_id, model: String::new() }), absent)
        }
        "decide_approval" => {
            let approval_id = uuid::Uuid::nil().to_string();
            let decide = pb::DecideApproval { approval_id, approve: true, reason: String::new() };
            (Say::DecideApproval(decide), absent)
        }
        "start_autopilot" => {
            let mode = pb::AutopilotMode::RoundRobin.into();
            let (topic, llm_ids) = ("Tea".into(), vec![bot(), "two".into()]);
            (Say::StartAutopilot(pb::StartAutopilot { mode, topic, llm_ids, ..Default::default() }), own)
        }
        "control_autopilot" => {
            let action = pb::AutopilotAction::Stop.into();
            (Say::ControlAutopilot(pb::ControlAutopilot { action, reason: String::new() }), absent)
        }
        // It is another's, but for the last.
        "authenticate" => {
            let credential = things.credential.clone();
            (Say::Authenticate(pb::Authenticate { credential }), own)
        }
        "create_invitation" => (Say::CreateInvitation(pb::CreateInvitation::default()), own),
        "revoke_invitation" => {
            let invitation_id = things.invitation.clone();
            (Say::RevokeInvitation(pb::RevokeInvitation { invitation_id }), own)
        }
        "mute_member" => {
            let mute = pb::MuteMember { user_id: eve(), duration_ms: 60_000, reason: String::new() };
            (Say::MuteMember(mute), own)
        }
        other => panic!("a new command needs a row here: {other}"),
    }
}

/// How the join of those is answered who do not come in.
fn refused_join(who: Who) -> Option<&'static str> {
    match who {
        Who::Elsewhere | Who::OtherRoom | Who::Stranger => Some("room_not_found"),
        Who::Banned | Who::Ungranted => Some(DENIED),
        _ => None,
    }
}

#[tokio::test]
async fn everything_that_can_be_said_is_answered_to_those_who_may() {
    let world = World::new().await;
    let mut done = 0;
    for name in declared() {
        let room = name.replace('_', "-");
        let mut admin = world.room(&room).await;
        if name == "start_autopilot" {
            admin.command(Say::AddLlm(pb::AddLlm { llm: Some(crate::harness::llm("two")) })).await.unwrap();
        }
        let things = Things::new(&world, &room, &mut admin).await;
        drop(admin);
        let (say, codes) = row(&name, &things);
        for who in Who::ALL {
            let what = format!("{name} by {who:?}");
            let before = world.tenants.kept("acme", &room).await;
            let opened = world.server.open_as(world.shown(who)).await;
            if who.is_unknown() {
                assert_eq!(opened.err().map(|status| status.code()), Some(Code::Unauthenticated), "{what}");
                continue;
            }
            let mut session = opened.unwrap();
            session.user = format!("{who:?}");
            // Nobody may say anything before they have come in.
            if !["join", "ping"].contains(&name.as_str()) {
                assert_eq!(session.answer(say.clone()).await, "not_joined", "{what}");
            }
            let answer = session.answer(Say::Join(join(&room, who.user()))).await;
            assert_eq!(answer, refused_join(who).unwrap_or(DONE), "the join of {what}");
            assert_eq!(world.tenants.kept("acme", &room).await, before, "the join of {what}");
            if refused_join(who).is_some() {
                continue;
            }
            let at = [Who::Viewer, Who::Muted, Who::Reader, Who::Admin].iter().position(|one| *one == who);
            let expected = codes[at.unwrap()];
            assert_eq!(session.answer(say.clone()).await, expected, "{what}");
            match expected {
                DONE => done += 1,
                _ => assert_eq!(world.tenants.kept("acme", &room).await, before, "{what}"),
            }
        }
    }
    assert!(done > 20, "the table refuses everything: {done}");
    world.server.shutdown().await;
}
