//! Two tenants side by side, with the same rooms and the same users: nothing of one is seen by the other.

use salon::wire::pb::room::v1::server_event::Payload;
use tonic::Code;

use super::*;
use crate::harness::{
    session::{join, message},
    tenants::user,
};

/// What a tenant has seen, and what of it others must not be able to use.
struct Seen {
    /// All of it, as text.
    text: String,
    message: String,
    poll: String,
    option: String,
    cursor: String,
    invitation: String,
    ann: Session,
    bob: Session,
}

/// A room with everything in it; what is said in it has the tenant's `mark`.
async fn live(world: &World, of: &str, mark: &str) -> Seen {
    let ann = world.tenants.identity(of, "anna").await.1;
    let bob = world.tenants.identity(of, "bob").await.1;
    let mut client = world.server.client().await;
    let request = pb::CreateRoomRequest {
        name: format!("Tea of {mark}"),
        room_id: Some("tea".into()),
        visibility: pb::RoomVisibility::Private.into(),
        ..Default::default()
    };
    let mut text = format!("{:?}", client.create_room(ann.on(request)).await.unwrap().into_inner());
    let mut one = world.server.join_as(&ann, "tea", "anna").await;
    let say = Say::CreateInvitation(pb::CreateInvitation::default());
    one.send(pb::ClientMessage { payload: Some(say), request_id: "invite".into() }).await;
    let invitation = match one.find(|event| event.request_id == "invite").await.payload {
        Some(Payload::InvitationSecret(made)) => made.secret,
        other => panic!("{other:?}"),
    };
    let mut two = world.server.open_as(&bob).await.unwrap();
    two.user = "bob".into();
    let come = pb::JoinRoom { invitation: invitation.clone(), ..join("tea", "bob") };
    two.say(Say::Join(come)).await;
    two.take_state().await;
    two.command(message(&format!("said in {mark}"))).await.unwrap();
    let said = one
        .pick(|payload| match payload {
            Payload::MessageReceived(received) => received.message.clone(),
            _ => None,
        })
        .await;
    let option =
        |word: &str| pb::PollOptionInput { text: format!("{word} {mark}"), description: String::new() };
    let options = vec![option("yes"), option("no")];
    let question = format!("asked in {mark}?");
    one.command(Say::CreatePoll(pb::CreatePoll { question, options, ..Default::default() })).await.unwrap();
    let poll = two
        .pick(|payload| match payload {
            Payload::PollCreated(created) => created.poll.clone(),
            _ => None,
        })
        .await;
    let (poll, option) = (poll.poll_id.clone(), poll.options[0].id.clone());
    let (poll_id, option_ids) = (poll.clone(), vec![option.clone()]);
    let vote = pb::CastVote { poll_id, option_ids, reason: format!("because {mark}") };
    two.command(Say::CastVote(vote)).await.unwrap();
    let status = pb::PresenceStatus::Away.into();
    two.command(Say::SetPresence(pb::SetPresence { status })).await.unwrap();
    let data = format!("signal of {mark}").into();
    let signal = pb::SendSignal { r#type: mark.into(), data, to: Vec::new() };
    two.command(Say::Signal(signal)).await.unwrap();
    one.pick(|payload| match payload {
        Payload::Signal(signal) => (signal.r#type == mark).then_some(()),
        _ => None,
    })
    .await;
    let read = pb::MarkRead { seq: 0, message_id: said.message_id.clone() };
    two.command(Say::MarkRead(read)).await.unwrap();

    let (read, cursor) = read_all(world, &ann, &bob, mark).await;
    text += &read;
    let message = said.message_id;
    Seen { text, message, poll, option, cursor, invitation, ann: one, bob: two }
}

/// Reads everything that can be read of it; what came, and where a page of history ends.
async fn read_all(world: &World, ann: &Shown, bob: &Shown, mark: &str) -> (String, String) {
    let (mut client, mut text) = (world.server.client().await, String::new());
    let room_id = || "tea".to_owned();
    let again = pb::LoadHistoryRequest { room_id: room_id(), limit: 1, ..Default::default() };
    let history = client.load_history(ann.on(again)).await.unwrap().into_inner();
    let all = pb::LoadHistoryRequest { room_id: room_id(), ..Default::default() };
    let whole = client.load_history(ann.on(all)).await.unwrap().into_inner();
    text += &format!("{whole:?}");
    // What bob has said, and the poll.
    let history_len = whole.messages.len();
    assert_eq!(history_len, 2, "{whole:?}");
    let log = pb::ReadLogRequest { room_id: room_id(), ..Default::default() };
    let mut log = client.read_log(ann.on(log)).await.unwrap().into_inner();
    while let Some(event) = log.message().await.unwrap() {
        text += &format!("{event:?}");
    }
    let members = pb::ListMembersRequest { room_id: room_id(), ..Default::default() };
    let members = client.list_members(ann.on(members)).await.unwrap().into_inner().members;
    assert_eq!(members.iter().map(|member| member.id.as_str()).collect::<Vec<_>>(), ["anna", "bob"]);
    let list = pb::ListRoomsRequest { user_id: Some("anna".into()), ..Default::default() };
    let rooms = client.list_rooms(ann.on(list)).await.unwrap().into_inner().rooms;
    assert_eq!(rooms.iter().map(|room| room.name.clone()).collect::<Vec<_>>(), [format!("Tea of {mark}")]);
    let usage = pb::GetUsageRequest { user_id: None, room_id: Some(room_id()) };
    text += &format!("{:?}", client.get_usage(ann.on(usage)).await.unwrap().into_inner());
    let room = client.get_room(ann.on(pb::GetRoomRequest { room_id: room_id() })).await.unwrap().into_inner();
    assert_eq!(room.participants.len(), 2, "{room:?}");
    text += &format!("{room:?} {rooms:?} {members:?}");
    // Where bob has read to is his own.
    let state = world.server.join_as(bob, "tea", "bob").await.state;
    assert!(state.read_seq > 0 && state.messages.len() == history_len, "{state:?}");
    text += &format!("{state:?}");
    (text, history.next_cursor.unwrap())
}

#[tokio::test]
async fn two_tenants_with_the_same_rooms_and_users_share_nothing() {
    let world = World::new().await;
    let (mut red, mut blue) =
        tokio::join!(live(&world, "acme", "red-one"), live(&world, "other", "blue-one"));
    for session in [&mut red.ann, &mut red.bob] {
        red.text += &format!("{:?}", session.settle().await);
    }
    for session in [&mut blue.ann, &mut blue.bob] {
        blue.text += &format!("{:?}", session.settle().await);
    }
    assert!(red.text.contains("said in red-one") && blue.text.contains("said in blue-one"));
    assert!(!red.text.contains("blue-one") && !red.text.contains(&blue.message), "{}", red.text);
    assert!(!blue.text.contains("red-one") && !blue.text.contains(&red.message), "{}", blue.text);

    // What one has is nothing to the other.
    let before = world.tenants.kept("acme", "tea").await;
    let (poll_id, option_ids) = (red.poll.clone(), vec![red.option.clone()]);
    let vote = Say::CastVote(pb::CastVote { poll_id, option_ids, reason: String::new() });
    let message_id = red.message.clone();
    let react = Say::React(pb::React { message_id: message_id.clone(), emoji: "+".into(), remove: false });
    let delete = Say::DeleteMessage(pb::DeleteMessage { message_id });
    for say in [vote, react, delete] {
        assert_eq!(blue.ann.answer(say.clone()).await, "not_found", "{say:?}");
    }
    let sam = world.tenants.identity("other", "sam").await.1;
    let mut stranger = world.server.open_as(&sam).await.unwrap();
    let come = pb::JoinRoom { invitation: red.invitation.clone(), ..join("tea", "sam") };
    assert_eq!(stranger.answer(Say::Join(come)).await, "permission_denied");
    let again = pb::LoadHistoryRequest {
        room_id: "tea".into(),
        cursor: Some(red.cursor.clone()),
        ..Default::default()
    };
    let key = world.tenants.key("other", &[Scope::RoomsRead], None).await.1;
    let refused = world.server.client().await.load_history(key.on(again)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert_eq!(world.tenants.kept("acme", "tea").await.0, before.0);
    // What is revoked here is nothing there.
    let revocations = world.tenants.directory.revocations();
    revocations.revoke_user(&namespace("acme"), &user("bob")).await.unwrap();
    let (closing, _) = red.bob.end().await;
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::CredentialRevoked);
    blue.bob.talk("still here").await;
    world.server.shutdown().await;
}

/// The words of a refusal, without the room's name.
fn words(status: &tonic::Status, room: &str) -> String {
    assert!(status.message().contains(room), "{status:?}");
    let headers = status.metadata().clone().into_headers();
    let names: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
    let details = status.details();
    format!("{:?} {} {details:?} {names:?}", status.code(), status.message().replace(room, "*"))
}

#[tokio::test]
async fn a_foreign_room_is_answered_as_one_that_is_not_there() {
    let world = World::new().await;
    let owner = world.tenants.identity("other", "zoe").await.1;
    for visibility in [pb::RoomVisibility::Public, pb::RoomVisibility::Private] {
        let name = format!("there-{}", visibility as i32);
        let request = pb::CreateRoomRequest {
            name: "Tea".into(),
            room_id: Some(name.clone()),
            visibility: visibility.into(),
            ..Default::default()
        };
        world.server.client().await.create_room(owner.on(request)).await.unwrap();
        let absent = format!("absent-{}", visibility as i32);
        let mut own = world.tenants.claims("acme", "ann");
        own.room = Some(salon::ids::RoomId::parse("milk").unwrap().within(&namespace("acme")));
        let bound = world.tenants.sign(&own).1;
        let key = world.key(&[Scope::RoomsRead, Scope::RoomsWrite]).await;
        for shown in [world.shown(Who::Admin), &key, &bound] {
            let mut answers = Vec::new();
            for room in [&name, &absent] {
                let mut client = world.server.client().await;
                let room_id = room.clone();
                let get = client.get_room(shown.on(pb::GetRoomRequest { room_id: room_id.clone() })).await;
                let history = pb::LoadHistoryRequest { room_id: room_id.clone(), ..Default::default() };
                let history = client.load_history(shown.on(history)).await;
                let members = pb::ListMembersRequest { room_id: room_id.clone(), ..Default::default() };
                let members = client.list_members(shown.on(members)).await;
                let log = pb::ReadLogRequest { room_id: room_id.clone(), ..Default::default() };
                let log = client.read_log(shown.on(log)).await;
                let usage = pb::GetUsageRequest { user_id: None, room_id: Some(room_id.clone()) };
                let usage = client.get_usage(shown.on(usage)).await;
                let refused = [
                    get.unwrap_err(),
                    history.unwrap_err(),
                    members.unwrap_err(),
                    log.err().unwrap(),
                    usage.unwrap_err(),
                ];
                assert!(refused.iter().all(|status| status.code() == Code::NotFound), "{refused:?}");
                let mut session = world.server.open_as(shown).await.unwrap();
                session
                    .send(pb::ClientMessage {
                        payload: Some(Say::Join(join(room, "ann"))),
                        request_id: "join".into(),
                    })
                    .await;
                let event = session.find(|event| event.request_id == "join").await;
                let Some(Payload::Error(error)) = event.payload else { panic!("{event:?}") };
                let all: Vec<String> = refused.iter().map(|status| words(status, room)).collect();
                answers.push((all, format!("{error:?}").replace(room.as_str(), "*")));
            }
            assert_eq!(answers[0], answers[1]);
            assert!(answers[0].1.contains("room_not_found"), "{answers:?}");
        }
    }
    world.server.shutdown().await;
}
