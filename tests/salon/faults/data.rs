//! What calls and events contain, and who may ask for it and do it.

use salon::wire::pb::room::v1::{
    self as pb, client_message::Payload as Say, room_service_client::RoomServiceClient, server_event::Payload,
};
use tonic::{Code, transport::Channel};

use super::{create_poll, interrupt, poll, vote};
use crate::harness::{
    Session, Setup, TestServer, llm,
    session::{join, message},
};

#[tokio::test]
async fn fault_27_a_participant_is_told_whole() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = Session::open(server.client().await).await;
    bob.say(Say::Join(pb::JoinRoom {
        display_name: "Bob B.".into(),
        title: "Builder".into(),
        avatar: "https://example.org/bob.png".into(),
        ..join(&room, "bob")
    }))
    .await;
    bob.take_state().await;
    let joined = |payload: &Payload| match payload {
        Payload::UserJoined(joined) => joined.user.clone(),
        _ => None,
    };
    let told = ann.pick(joined).await;
    let request = pb::GetRoomRequest { room_id: room.clone() };
    let got = server.client().await.get_room(request).await.unwrap().into_inner();
    let listed = got.participants.iter().find(|participant| participant.id == "bob").unwrap();
    let in_state = bob.state.participants.iter().find(|participant| participant.id == "bob").unwrap();
    let you = bob.state.you.as_ref().unwrap();
    for shown in [&told, listed, in_state, you] {
        assert_eq!((shown.name.as_str(), shown.title.as_str()), ("Bob B.", "Builder"));
        assert_eq!((shown.avatar.as_str(), shown.is_online), ("https://example.org/bob.png", true));
        assert_eq!((shown.presence(), shown.role()), (pb::PresenceStatus::Online, pb::Role::Member));
        assert_eq!(shown.r#type(), pb::ParticipantType::Human);
        assert!(shown.joined_at.is_some());
    }
    server.shutdown().await;
}

fn history(room: &str) -> pb::LoadHistoryRequest {
    pb::LoadHistoryRequest { room_id: room.into(), ..Default::default() }
}

/// Follows the cursors to the end; returns the sizes of the pages and the messages, page by page.
async fn all_pages(
    client: &mut RoomServiceClient<Channel>,
    first: pb::LoadHistoryRequest,
) -> (Vec<usize>, Vec<Vec<String>>) {
    let (mut request, mut pages) = (first, Vec::new());
    loop {
        let page = client.load_history(request.clone()).await.unwrap().into_inner();
        pages.push(page.messages.into_iter().map(|message| message.content).collect::<Vec<_>>());
        match page.next_cursor {
            Some(cursor) => {
                request = pb::LoadHistoryRequest { cursor: Some(cursor), after_seq: None, ..request }
            }
            None => return (pages.iter().map(Vec::len).collect(), pages),
        }
    }
}

#[tokio::test]
async fn fault_28_history_is_checked_capped_and_whole() {
    let server = Setup::default().config(|config| config.limits.history_page = 10).start().await;
    let (room, other) = (server.room(&[]).await, server.room(&[]).await);
    let mut ann = server.join(&room, "ann").await;
    let mut elsewhere = server.join(&other, "ann").await;
    let said: Vec<String> = (0..25).map(|n| format!("message {n}")).collect();
    for text in &said {
        ann.talk(text).await;
        elsewhere.talk(text).await;
    }
    let mut client = server.client().await;

    // Capped, and each message once, in both directions.
    let (sizes, pages) =
        all_pages(&mut client, pb::LoadHistoryRequest { limit: u32::MAX, ..history(&room) }).await;
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(pages.iter().rev().flatten().collect::<Vec<_>>(), said.iter().collect::<Vec<_>>());
    let forth = pb::LoadHistoryRequest { limit: 7, after_seq: Some(0), ..history(&room) };
    let (sizes, pages) = all_pages(&mut client, forth).await;
    assert_eq!(sizes, [7, 7, 7, 4]);
    assert_eq!(pages.concat(), said);
    // A last page that is exactly full has nothing behind it.
    let (sizes, _) = all_pages(&mut client, pb::LoadHistoryRequest { limit: 5, ..history(&room) }).await;
    assert_eq!(sizes, [5; 5]);

    // A page does not move when more is said.
    let first = client.load_history(history(&room)).await.unwrap().into_inner();
    ann.talk("later").await;
    let second = pb::LoadHistoryRequest { cursor: first.next_cursor.clone(), ..history(&room) };
    let second = client.load_history(second).await.unwrap().into_inner();
    assert_eq!(second.messages.last().unwrap().content, "message 14");

    // A cursor of nobody, of another room, or changed.
    let good = first.next_cursor.unwrap();
    let of_other = client.load_history(history(&other)).await.unwrap().into_inner().next_cursor.unwrap();
    for bad in ["nonsense", "17", &of_other, &good[1..], &good.replace(&good[..1], "z")] {
        let request = pb::LoadHistoryRequest { cursor: Some(bad.to_owned()), ..history(&room) };
        let status = client.load_history(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bad}");
    }
    let both = pb::LoadHistoryRequest { cursor: Some(good), after_seq: Some(1), ..history(&room) };
    assert_eq!(client.load_history(both).await.unwrap_err().code(), Code::InvalidArgument);

    // Only members read, and only of rooms that are there.
    for (reader, code) in [("ann", Code::Ok), ("stranger", Code::PermissionDenied)] {
        let request = pb::LoadHistoryRequest { user_id: Some(reader.into()), ..history(&room) };
        let result = client.load_history(request).await.map(drop);
        assert_eq!(result.err().map_or(Code::Ok, |status| status.code()), code, "{reader}");
    }
    assert_eq!(client.load_history(history("nowhere")).await.unwrap_err().code(), Code::NotFound);
    server.shutdown().await;
}

async fn rooms_of(server: &TestServer, user: Option<&str>, limit: u32) -> Vec<Vec<String>> {
    let mut client = server.client().await;
    let mut request = pb::ListRoomsRequest { user_id: user.map(str::to_owned), limit, ..Default::default() };
    let mut pages = Vec::new();
    loop {
        let page = client.list_rooms(request.clone()).await.unwrap().into_inner();
        pages.push(page.rooms.into_iter().map(|room| room.room_id).collect());
        match page.next_cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn fault_29_rooms_are_listed_by_membership_and_the_last_page_says_so() {
    let server = TestServer::start().await;
    let mut rooms = Vec::new();
    for n in 0..4 {
        let id = format!("room-{n}");
        rooms.push(id.clone());
        server
            .create(pb::CreateRoomRequest {
                name: id.clone(),
                room_id: Some(id),
                created_by: "ann".into(),
                visibility: pb::RoomVisibility::Private.into(),
                ..Default::default()
            })
            .await;
    }
    rooms.reverse();
    let open = server.room(&[]).await;
    // A creator who has not joined yet; a member who came by link; somebody else.
    assert_eq!(rooms_of(&server, Some("ann"), 0).await, std::slice::from_ref(&rooms));
    let mut bob = server.join("room-2", "bob").await;
    assert_eq!(rooms_of(&server, Some("bob"), 0).await, [["room-2"]]);
    assert_eq!(rooms_of(&server, Some("carl"), 0).await, [Vec::<String>::new()]);
    assert_eq!(rooms_of(&server, None, 0).await, [[open]]);
    // Pages that end where the list does.
    for (limit, pages) in
        [(2, vec![&rooms[..2], &rooms[2..]]), (3, vec![&rooms[..3], &rooms[3..]]), (4, vec![&rooms[..]])]
    {
        assert_eq!(rooms_of(&server, Some("ann"), limit).await, pages, "{limit}");
    }
    // Whoever has left does not find it any more; whoever has only closed the stream does.
    bob.say(Say::Leave(pb::LeaveRoom { keep_membership: true })).await;
    assert!(bob.end().await.0.is_some());
    assert_eq!(rooms_of(&server, Some("bob"), 0).await, [["room-2"]]);
    let mut bob = server.join("room-2", "bob").await;
    bob.say(Say::Leave(pb::LeaveRoom { keep_membership: false })).await;
    assert!(bob.end().await.0.is_some());
    assert_eq!(rooms_of(&server, Some("bob"), 0).await, [Vec::<String>::new()]);
    server.shutdown().await;
}

async fn join_as(server: &TestServer, room: &str, user: &str, role: pb::Role) -> Session {
    let mut session = Session::open(server.client().await).await;
    session.say(Say::Join(pb::JoinRoom { role: role.into(), ..join(room, user) })).await;
    session.take_state().await;
    session.user = user.to_owned();
    session
}

/// What needs more than to be a VIEWER.
fn writes(message_id: &str, poll_id: &str) -> Vec<Say> {
    let id = || message_id.to_owned();
    vec![
        message("hello"),
        Say::Typing(pb::TypingIndicator { is_typing: true }),
        Say::Signal(pb::SendSignal { r#type: "wave".into(), ..Default::default() }),
        Say::React(pb::React { message_id: id(), emoji: "👍".into(), remove: false }),
        Say::AddLlm(pb::AddLlm { llm: Some(llm("new")) }),
        Say::UpdateLlm(pb::UpdateLlm { llm_id: "bot".into(), title: Some("x".into()), ..Default::default() }),
        Say::RemoveLlm(pb::RemoveLlm { llm_id: "bot".into() }),
        interrupt("bot", None),
        Say::CreatePoll(poll("Who?", &["a", "b"])),
        vote(poll_id, &["1"]),
        Say::RetractVote(pb::RetractVote { poll_id: poll_id.to_owned() }),
        Say::UpdateRoomDescription(pb::UpdateRoomDescription { description: "mine".into() }),
    ]
}

/// What needs to be an ADMIN, when it is about others.
fn moderations(message_id: &str, poll_id: &str) -> Vec<Say> {
    vec![
        Say::DeleteMessage(pb::DeleteMessage { message_id: message_id.to_owned() }),
        Say::EditMessage(pb::EditMessage {
            message_id: message_id.to_owned(),
            content: "x".into(),
            ..Default::default()
        }),
        Say::ClosePoll(pb::ClosePoll { poll_id: poll_id.to_owned() }),
        Say::UpdateMember(pb::UpdateMember { user_id: "admin".into(), role: pb::Role::Viewer.into() }),
        Say::UpdateMember(pb::UpdateMember { user_id: "viewer".into(), role: pb::Role::Admin.into() }),
        Say::RemoveMember(pb::RemoveMember { user_id: "admin".into(), ban: true, reason: String::new() }),
        Say::UpdateRoom(pb::UpdateRoom { name: Some("mine".into()), ..Default::default() }),
        Say::EndRoom(pb::EndRoom { reason: String::new() }),
    ]
}

#[tokio::test]
async fn fault_30_roles_are_the_rooms_and_are_enforced() {
    let server = TestServer::start().await;
    let room = server.room(&["bot"]).await;
    let mut admin = server.join(&room, "admin").await;
    assert_eq!(admin.state.you.as_ref().unwrap().role(), pb::Role::Admin, "the creator");
    let said = admin.talk("hello").await.event_id;
    let asked = create_poll(&mut admin, poll("Lunch?", &["pizza", "sushi"])).await;
    super::quiet(&server, &room).await;
    let mut member = join_as(&server, &room, "member", pb::Role::Admin).await;
    assert_eq!(member.state.you.as_ref().unwrap().role(), pb::Role::Member, "not what a client wants to be");
    let mut viewer = join_as(&server, &room, "viewer", pb::Role::Viewer).await;
    assert_eq!(viewer.state.you.as_ref().unwrap().role(), pb::Role::Viewer);

    let before = server.log(&room).await.len();
    let all = writes(&said, &asked.poll_id).into_iter().chain(moderations(&said, &asked.poll_id));
    for say in all {
        let error = viewer.command(say.clone()).await.unwrap_err();
        assert_eq!(error.code, "permission_denied", "{say:?}");
    }
    for say in moderations(&said, &asked.poll_id) {
        let error = member.command(say.clone()).await.unwrap_err();
        assert_eq!(error.code, "permission_denied", "{say:?}");
    }
    // Reading is everybody's.
    for say in [
        Say::MarkRead(pb::MarkRead { seq: 1, ..Default::default() }),
        Say::SetPresence(pb::SetPresence { status: pb::PresenceStatus::Away.into() }),
    ] {
        viewer.command(say).await.unwrap();
    }
    assert_eq!(server.log(&room).await.len(), before, "nothing of it happened");

    // A change of the role counts at once, on streams that are open; and it stays over leaving.
    let demote = pb::UpdateMember { user_id: "member".into(), role: pb::Role::Viewer.into() };
    admin.command(Say::UpdateMember(demote)).await.unwrap();
    for say in writes(&said, &asked.poll_id) {
        assert_eq!(member.command(say).await.unwrap_err().code, "permission_denied");
    }
    member.say(Say::Leave(pb::LeaveRoom { keep_membership: false })).await;
    assert!(member.end().await.0.is_some());
    let back = join_as(&server, &room, "member", pb::Role::Member).await;
    assert_eq!(back.state.you.as_ref().unwrap().role(), pb::Role::Viewer);
    let promote = pb::UpdateMember { user_id: "viewer".into(), role: pb::Role::Member.into() };
    admin.command(Say::UpdateMember(promote)).await.unwrap();
    viewer.talk("hello").await;
    server.shutdown().await;
}
