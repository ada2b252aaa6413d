//! Unary calls with cursors that were tampered with and pages of any size.

use salon::wire::pb::room::v1 as pb;
use tonic::Code;

use super::Scene;
use crate::harness::Setup;

fn history(room: &str, limit: u32, cursor: Option<&str>) -> pb::LoadHistoryRequest {
    pb::LoadHistoryRequest {
        room_id: room.into(),
        limit,
        cursor: cursor.map(str::to_owned),
        ..Default::default()
    }
}

/// Everything that `cursor` could be turned into by changing it a little, and some that never were one.
fn tampered(cursor: &str) -> Vec<String> {
    let mut all: Vec<String> =
        ["x", "0", "00", "AAAA", "'; drop table events; --", "🙂", " "].map(String::from).into();
    all.extend([format!("{cursor}0"), format!("{cursor}00"), cursor.to_uppercase(), cursor[2..].into()]);
    all.push("f".repeat(100_000));
    for at in 0..cursor.len() {
        let mut changed = cursor.as_bytes().to_vec();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        all.push(String::from_utf8(changed).unwrap());
        all.push(cursor[..at].into());
    }
    // Without one the list begins anew.
    all.retain(|text| text != cursor && !text.is_empty());
    all
}

#[tokio::test]
async fn a_cursor_that_was_tampered_with_is_refused() {
    let mut scene = Scene::new().await;
    for n in 0..10 {
        scene.bystander.talk(&n.to_string()).await;
        scene.join(&format!("user-{n}")).await;
    }
    for _ in 0..3 {
        scene.server.room(&[]).await;
    }
    let other = scene.server.room(&[]).await;
    let mut client = scene.server.client().await;
    let page = client.load_history(history(&scene.room, 3, None)).await.unwrap().into_inner();
    let of_history = page.next_cursor.unwrap();
    for cursor in tampered(&of_history) {
        let status = client.load_history(history(&scene.room, 3, Some(&cursor))).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{cursor}");
        assert!(status.message().len() < 1000);
    }
    let elsewhere = client.load_history(history(&other, 3, Some(&of_history))).await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::InvalidArgument);
    let both = pb::LoadHistoryRequest { after_seq: Some(1), ..history(&scene.room, 3, Some(&of_history)) };
    assert_eq!(client.load_history(both).await.unwrap_err().code(), Code::InvalidArgument);

    let members = |cursor| pb::ListMembersRequest { room_id: scene.room.clone(), limit: 3, cursor };
    let of_members = client.list_members(members(None)).await.unwrap().into_inner().next_cursor.unwrap();
    for cursor in tampered(&of_members).into_iter().chain([of_history.clone()]) {
        let status = client.list_members(members(Some(cursor.clone()))).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{cursor}");
    }
    let rooms = |cursor| pb::ListRoomsRequest { limit: 2, cursor, ..Default::default() };
    let of_rooms = client.list_rooms(rooms(None)).await.unwrap().into_inner().next_cursor.unwrap();
    for cursor in tampered(&of_rooms).into_iter().chain([of_history.clone(), of_members.clone()]) {
        let status = client.list_rooms(rooms(Some(cursor.clone()))).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{cursor}");
    }
    // And untouched they are good.
    client.load_history(history(&scene.room, 3, Some(&of_history))).await.unwrap();
    client.list_members(members(Some(of_members))).await.unwrap();
    client.list_rooms(rooms(Some(of_rooms))).await.unwrap();
    scene.unharmed().await;
}

#[tokio::test]
async fn pages_of_0_and_of_4_billion_are_of_a_sensible_size() {
    let setup = Setup::default().config(|config| config.limits.history_page = 60);
    let mut scene = Scene::with(setup, &[]).await;
    for n in 0..65 {
        scene.bystander.talk(&n.to_string()).await;
    }
    for _ in 0..25 {
        scene.server.room(&[]).await;
    }
    let mut client = scene.server.client().await;
    for (limit, expected) in [(0, 50), (1, 1), (59, 59), (60, 60), (61, 60), (u32::MAX, 60)] {
        let page = client.load_history(history(&scene.room, limit, None)).await.unwrap().into_inner();
        assert_eq!((page.messages.len(), page.next_cursor.is_some()), (expected, true), "{limit}");
        let forwards = pb::LoadHistoryRequest { after_seq: Some(0), ..history(&scene.room, limit, None) };
        let page = client.load_history(forwards).await.unwrap().into_inner();
        assert_eq!(page.messages.len(), expected);
    }
    for (limit, expected) in [(0, 20), (u32::MAX, 26)] {
        let rooms = pb::ListRoomsRequest { limit, ..Default::default() };
        assert_eq!(client.list_rooms(rooms).await.unwrap().into_inner().rooms.len(), expected);
        let members = pb::ListMembersRequest { room_id: scene.room.clone(), limit, ..Default::default() };
        assert_eq!(client.list_members(members).await.unwrap().into_inner().members.len(), 1);
    }
    let behind = pb::LoadHistoryRequest { after_seq: Some(u64::MAX), ..history(&scene.room, 0, None) };
    assert!(client.load_history(behind).await.unwrap().into_inner().messages.is_empty());
    scene.unharmed().await;
}

#[tokio::test]
async fn a_log_is_read_from_and_to_any_number() {
    let mut scene = Scene::new().await;
    let last = scene.bystander.talk("hello").await.seq;
    let mut client = scene.server.client().await;
    for (after_seq, limit, expected) in [
        (0, 0, last),
        (0, u64::MAX, last),
        (1, u64::MAX, last - 1),
        (1, 1, 1),
        (u64::MAX, u64::MAX, 0),
        (u64::MAX, 0, 0),
    ] {
        let request =
            pb::ReadLogRequest { room_id: scene.room.clone(), after_seq, limit, ..Default::default() };
        let mut stream = client.read_log(request).await.unwrap().into_inner();
        let mut events = 0;
        while stream.message().await.unwrap().is_some() {
            events += 1;
        }
        assert_eq!(events, expected, "after {after_seq}, at most {limit}");
    }
    scene.unharmed().await;
}

#[tokio::test]
async fn calls_about_nothing_say_so() {
    let scene = Scene::new().await;
    let mut client = scene.server.client().await;
    for room in ["", "no-such-room", "a b", &"x".repeat(5000)] {
        let status = client.load_history(history(room, 0, None)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{room}");
        assert!(status.message().len() < 1000);
        let request = pb::GetRoomRequest { room_id: room.into() };
        assert_eq!(client.get_room(request).await.unwrap_err().code(), Code::NotFound);
        let request = pb::ReadLogRequest { room_id: room.into(), ..Default::default() };
        assert_eq!(client.read_log(request).await.unwrap_err().code(), Code::NotFound);
    }
    let stranger =
        pb::LoadHistoryRequest { user_id: Some("stranger".into()), ..history(&scene.room, 0, None) };
    assert_eq!(client.load_history(stranger).await.unwrap_err().code(), Code::PermissionDenied);
    for name in ["", " ", &"x".repeat(201)] {
        let request = pb::CreateRoomRequest { name: name.into(), ..Default::default() };
        assert_eq!(client.create_room(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let taken = pb::CreateRoomRequest {
        name: "Again".into(),
        room_id: Some(scene.room.clone()),
        ..Default::default()
    };
    assert_eq!(client.create_room(taken).await.unwrap_err().code(), Code::AlreadyExists);
    scene.unharmed().await;
}
