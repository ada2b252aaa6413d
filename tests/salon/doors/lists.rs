//! To whom a private room is listed: to its creator until somebody has come in, and then to those who are in it.

use super::*;

async fn listed(server: &TestServer, shown: &Shown, user: &str) -> Vec<String> {
    let request = pb::ListRoomsRequest { user_id: Some(user.into()), ..Default::default() };
    let rooms = server.client().await.list_rooms(shown.on(request)).await.unwrap().into_inner().rooms;
    rooms.into_iter().map(|room| room.room_id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_private_room_is_not_listed_to_its_creator_who_has_left_or_was_banned() {
    let tenants = Tenants::in_virtual_time().await;
    tenants.tenant("acme").await;
    let server = tenants.setup().start_without_port().await;
    let ann = tenants.identity("acme", "ann").await.1;
    let mut as_admin = tenants.claims("acme", "bob");
    as_admin.grants.role = Some(Role::Admin);
    let bob = tenants.sign(&as_admin).1;
    for (room, ban) in [("left", false), ("banned", true)] {
        let request = pb::CreateRoomRequest {
            name: "Tea".into(),
            room_id: Some(room.into()),
            visibility: pb::RoomVisibility::Private.into(),
            ..Default::default()
        };
        server.client().await.create_room(ann.on(request)).await.unwrap();
        assert_eq!(listed(&server, &ann, "ann").await, [room], "nobody has come in yet");
        let mut creator = server.join_as(&ann, room, "ann").await;
        let mut other = server.join_as(&bob, room, "bob").await;
        assert_eq!(listed(&server, &ann, "ann").await, [room]);
        if ban {
            let role = pb::UpdateMember { user_id: "ann".into(), role: pb::Role::Member.into() };
            other.command(Say::UpdateMember(role)).await.unwrap();
            let remove = pb::RemoveMember { user_id: "ann".into(), ban: true, reason: String::new() };
            other.command(Say::RemoveMember(remove)).await.unwrap();
        } else {
            creator.say(Say::Leave(pb::LeaveRoom::default())).await;
        }
        drop(creator.end().await);
        assert_eq!(listed(&server, &ann, "ann").await, [""; 0], "{room}");
        assert!(listed(&server, &bob, "bob").await.contains(&room.to_owned()));
    }
    server.shutdown().await;
}
