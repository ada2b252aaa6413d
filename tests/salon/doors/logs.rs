//! A log that is being read ends with what lets its reader in: nothing more of it is told.

use std::time::Duration;

use salon::wire::pb::room::v1::room_service_client::RoomServiceClient;
use tokio::time::sleep;
use tonic::Code;

use super::*;
use crate::harness::session::message;

/// Far more than a reader takes who stops: what is under way to it and what the server has ready for it.
const MESSAGES: usize = 200;
const BYTES: usize = 15_000;

/// What becomes of the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Revoked,
    Expired,
    Removed,
    Banned,
    /// Nothing: the test would see the whole log.
    Nothing,
}

/// How many events bob reads whose reading is held up while he ends, and with which code it ends.
async fn read_until(end: End) -> (usize, Code) {
    let tenants = Tenants::in_virtual_time().await;
    tenants.tenant("acme").await;
    let server = tenants.setup().start_without_port().await;
    let ann = tenants.identity("acme", "ann").await.1;
    let request =
        pb::CreateRoomRequest { name: "Tea".into(), room_id: Some("tea".into()), ..Default::default() };
    server.client().await.create_room(ann.on(request)).await.unwrap();
    let mut admin = server.join_as(&ann, "tea", "ann").await;
    for _ in 0..MESSAGES {
        admin.command(message(&"x".repeat(BYTES))).await.unwrap();
    }
    let (id, identity) = tenants.identity("acme", "bob").await;
    let shown = match end {
        End::Expired => {
            let mut claims = tenants.claims("acme", "bob");
            claims.lifetime = Duration::from_secs(5);
            tenants.sign(&claims).1
        }
        _ => identity,
    };
    drop(server.join_as(&shown, "tea", "bob").await);

    let mut client = RoomServiceClient::new(server.windowed(Some(65_535)).await);
    let request = pb::ReadLogRequest { room_id: "tea".into(), ..Default::default() };
    let mut log = client.read_log(shown.on(request)).await.unwrap().into_inner();
    let mut events = 0;
    while let Some(_event) = log.message().await.unwrap() {
        events += 1;
        if events == 10 {
            break;
        }
    }
    // Longer than it is remembered that a secret was revoked: the stream itself has to know.
    let held_up = match end {
        End::Revoked => {
            tenants.directory.revoke_identity(&namespace("acme"), &id).await.unwrap();
            Duration::from_secs(300)
        }
        End::Removed | End::Banned => {
            let ban = end == End::Banned;
            let remove = pb::RemoveMember { user_id: "bob".into(), ban, reason: String::new() };
            admin.command(Say::RemoveMember(remove)).await.unwrap();
            Duration::from_secs(1)
        }
        // Its time, and what is forgiven beyond it.
        End::Expired | End::Nothing => Duration::from_secs(40),
    };
    sleep(held_up).await;
    let code = loop {
        match log.message().await {
            Ok(Some(_)) => events += 1,
            Ok(None) => break Code::Ok,
            Err(status) => break status.code(),
        }
    };
    server.shutdown().await;
    (events, code)
}

#[tokio::test(start_paused = true)]
async fn whose_credential_ends_while_they_read_a_log_are_told_no_more_of_it() {
    let (whole, code) = read_until(End::Nothing).await;
    assert!(whole > MESSAGES && code == Code::Ok, "{whole} {code:?}");
    for end in [End::Revoked, End::Expired] {
        let (read, code) = read_until(end).await;
        assert_eq!(code, Code::Unauthenticated, "{end:?}");
        assert!(read < MESSAGES / 2, "{end:?}: {read}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_removed_or_banned_while_they_read_a_log_is_told_no_more_of_it() {
    for end in [End::Removed, End::Banned] {
        let (read, code) = read_until(end).await;
        assert_eq!(code, Code::PermissionDenied, "{end:?}");
        assert!(read < MESSAGES / 2, "{end:?}: {read}");
    }
}
