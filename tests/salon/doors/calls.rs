//! The calls, by every credential.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_reflect::DescriptorPool;
use salon::wire::pb::DESCRIPTORS;
use tonic::{
    Code::{self, InvalidArgument, NotFound, Ok as Fine, PermissionDenied as Denied, Unauthenticated},
    transport::Channel,
};

use super::*;
use crate::harness::raw;

/// The calls of a service, as they are declared.
fn declared(service: &str) -> BTreeSet<String> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let service = pool.get_service_by_name(&format!("room.v1.{service}")).unwrap();
    service.methods().map(|method| method.name().to_owned()).collect()
}

/// Calls with these bytes; the status.
async fn call(channel: Channel, path: &str, request: &[u8], shown: &Shown) -> Code {
    let header = shown.header();
    let headers: Vec<(&str, &str)> = header.iter().map(|(name, value)| (*name, value.as_str())).collect();
    raw::unary(channel, path, &headers, request).await
}

/// What a call of `RoomService` is sent with, and what it is answered to each of: elsewhere, a stranger, who is banned,
/// a viewer, who is muted, a reader, who is granted nothing, who has another room's token, an ADMIN.
fn row(method: &str, room: &str) -> (Vec<u8>, [Code; 9]) {
    let (room_id, ann) = (room.to_owned(), || "ann".to_owned());
    // To whom a private room is not listed, it is not there.
    let of_members = [NotFound, NotFound, NotFound, Fine, Fine, Fine, Denied, NotFound, Fine];
    match method {
        "CreateRoom" => {
            let (room_id, created_by) = (Some(format!("{room}-new")), ann());
            let request =
                pb::CreateRoomRequest { name: "New".into(), room_id, created_by, ..Default::default() };
            let codes = [Fine, Denied, Denied, Denied, Denied, Denied, Denied, NotFound, Fine];
            (request.encode_to_vec(), codes)
        }
        // Of a private room nobody else is told that it is there.
        "GetRoom" => (
            pb::GetRoomRequest { room_id }.encode_to_vec(),
            [NotFound, NotFound, NotFound, Fine, Fine, Fine, Denied, NotFound, Fine],
        ),
        "ListRooms" => (
            pb::ListRoomsRequest { user_id: Some(ann()), ..Default::default() }.encode_to_vec(),
            [Fine, Denied, Denied, Denied, Denied, Denied, Denied, Denied, Fine],
        ),
        "LoadHistory" => {
            (pb::LoadHistoryRequest { room_id, ..Default::default() }.encode_to_vec(), of_members)
        }
        "ListMembers" => {
            (pb::ListMembersRequest { room_id, ..Default::default() }.encode_to_vec(), of_members)
        }
        "ReadLog" => (pb::ReadLogRequest { room_id, ..Default::default() }.encode_to_vec(), of_members),
        "GetUsage" => {
            (pb::GetUsageRequest { user_id: None, room_id: Some(room_id) }.encode_to_vec(), of_members)
        }
        "GenerateRoom" => (
            pb::GenerateRoomRequest { prompt: "Tea".into(), user_id: Some(ann()) }.encode_to_vec(),
            [Fine, Denied, Denied, Denied, Denied, Denied, Denied, Denied, Fine],
        ),
        // What is said on it is another table's.
        "RoomSession" => (pb::ClientMessage::default().encode_to_vec(), [Fine; 9]),
        other => panic!("a new call needs a row here: {other}"),
    }
}

#[tokio::test]
async fn every_call_is_answered_to_those_it_is_for() {
    let world = World::new().await;
    let channel = world.server.channel().await;
    for method in declared("RoomService") {
        let room = method.to_lowercase();
        drop(world.room(&room).await);
        let (request, codes) = row(&method, &room);
        let known = Who::ALL.into_iter().filter(|who| !who.is_unknown());
        let expected: BTreeMap<Who, Code> = known.zip(codes).collect();
        for who in Who::ALL {
            let expected = expected.get(&who).copied().unwrap_or(Unauthenticated);
            let before = world.tenants.kept("acme", &room).await;
            let path = format!("/room.v1.RoomService/{method}");
            let code = call(channel.clone(), &path, &request, world.shown(who)).await;
            assert_eq!(code, expected, "{method} by {who:?}");
            if expected != Fine || method != "CreateRoom" {
                assert_eq!(world.tenants.kept("acme", &room).await, before, "{method} by {who:?}");
            }
        }
    }
    world.server.shutdown().await;
}

/// Who calls the administration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// As in the other table; all of them are users, and no more.
    User(Who),
    /// A key that is over.
    ExpiredKey,
    /// A key for everything but this.
    OtherKey,
    /// The owner of another tenant.
    ForeignOwner,
    Owner,
    Root,
}

/// What there is to be administered.
struct Things {
    identity: String,
    key: String,
}

/// Whose affair a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// The tenant's, `acme`.
    Acme,
    /// Another tenant's, `old`.
    Old,
    /// The server's.
    Server,
}

/// What a call of `AdminService` is sent with, and whose affair that is.
#[expect(clippy::too_many_lines, reason = "it is one table")]
fn admin_row(method: &str, things: &Things) -> (Vec<u8>, Of) {
    let namespace = || "acme".to_owned();
    let identity_id = || things.identity.clone();
    let overlap_ms = 60_000;
    match method {
        "CreateNamespace" => (
            pb::CreateNamespaceRequest { namespace: "fresh".into(), ..Default::default() }.encode_to_vec(),
            Of::Server,
        ),
        "ListNamespaces" => (pb::ListNamespacesRequest::default().encode_to_vec(), Of::Server),
        "GetNamespace" => (pb::GetNamespaceRequest { namespace: namespace() }.encode_to_vec(), Of::Acme),
        "UpdateNamespace" => {
            let display_name = Some("Acme".into());
            let request = pb::UpdateNamespaceRequest { namespace: namespace(), display_name, quotas: None };
            (request.encode_to_vec(), Of::Acme)
        }
        "ArchiveNamespace" => {
            (pb::ArchiveNamespaceRequest { namespace: "old".into() }.encode_to_vec(), Of::Old)
        }
        "UnarchiveNamespace" => {
            (pb::UnarchiveNamespaceRequest { namespace: "old".into() }.encode_to_vec(), Of::Server)
        }
        "RotateNamespaceSecret" => (
            pb::RotateNamespaceSecretRequest { namespace: namespace(), overlap_ms }.encode_to_vec(),
            Of::Acme,
        ),
        "CreateIdentity" => (
            pb::CreateIdentityRequest { namespace: namespace(), ..Default::default() }.encode_to_vec(),
            Of::Acme,
        ),
        "ListIdentities" => (
            pb::ListIdentitiesRequest { namespace: namespace(), ..Default::default() }.encode_to_vec(),
            Of::Acme,
        ),
        "GetIdentity" => {
            let request = pb::GetIdentityRequest { namespace: namespace(), identity_id: identity_id() };
            (request.encode_to_vec(), Of::Acme)
        }
        "UpdateIdentity" => {
            let (display_name, metadata) = (Some("Gil".into()), None);
            let (namespace, identity_id) = (namespace(), identity_id());
            let request = pb::UpdateIdentityRequest { namespace, identity_id, display_name, metadata };
            (request.encode_to_vec(), Of::Acme)
        }
        "RotateIdentitySecret" => {
            let (namespace, identity_id) = (namespace(), identity_id());
            let request = pb::RotateIdentitySecretRequest { namespace, identity_id, overlap_ms };
            (request.encode_to_vec(), Of::Acme)
        }
        "RevokeIdentity" => {
            let request = pb::RevokeIdentityRequest { namespace: namespace(), identity_id: identity_id() };
            (request.encode_to_vec(), Of::Acme)
        }
        "CreateApiKey" => {
            let (label, scopes) = ("new".into(), vec!["audit".into()]);
            let request =
                pb::CreateApiKeyRequest { namespace: namespace(), label, scopes, ..Default::default() };
            (request.encode_to_vec(), Of::Acme)
        }
        "ListApiKeys" => (
            pb::ListApiKeysRequest { namespace: namespace(), ..Default::default() }.encode_to_vec(),
            Of::Acme,
        ),
        "RevokeApiKey" => {
            let key_id = things.key.clone();
            let request = pb::RevokeApiKeyRequest { namespace: namespace(), server: false, key_id };
            (request.encode_to_vec(), Of::Acme)
        }
        "CreateJoinToken" => {
            let (namespace, user_id) = (namespace(), "gil".into());
            let request =
                pb::CreateJoinTokenRequest { namespace, user_id, lifetime_ms: 60_000, ..Default::default() };
            (request.encode_to_vec(), Of::Acme)
        }
        "RevokeToken" => (
            pb::RevokeTokenRequest { namespace: namespace(), token_id: "t".into() }.encode_to_vec(),
            Of::Acme,
        ),
        "RevokeUser" => (
            pb::RevokeUserRequest { namespace: namespace(), user_id: "gil".into() }.encode_to_vec(),
            Of::Acme,
        ),
        "RevokeCertificate" => {
            let fingerprint = "0a".repeat(32);
            let request = pb::RevokeCertificateRequest { namespace: namespace(), fingerprint };
            (request.encode_to_vec(), Of::Acme)
        }
        "ReadAudit" => {
            (pb::ReadAuditRequest { namespace: namespace(), ..Default::default() }.encode_to_vec(), Of::Acme)
        }
        other => panic!("a new call needs a row here: {other}"),
    }
}

/// What it is answered.
fn admin_code(caller: Caller, of: Of) -> Code {
    match caller {
        Caller::User(who) if who.is_unknown() => Unauthenticated,
        Caller::ExpiredKey => Unauthenticated,
        Caller::Root => Fine,
        _ if of == Of::Server => Denied,
        // A tenant that is another's reads as one that is not there.
        _ if of == Of::Old => NotFound,
        Caller::User(Who::Elsewhere) | Caller::ForeignOwner => NotFound,
        Caller::User(_) | Caller::OtherKey => Denied,
        Caller::Owner => Fine,
    }
}

#[tokio::test]
async fn every_call_of_the_administration_is_answered_to_those_it_is_for() {
    let world = World::new().await;
    world.tenants.tenant("old").await;
    let over = world.tenants.key("acme", &[Scope::Admin], Some(Duration::from_millis(1))).await.1;
    let other = world.key(&[Scope::RoomsRead, Scope::RoomsWrite]).await;
    let channel = world.server.channel().await;
    let callers: Vec<(Caller, &Shown)> = Who::ALL
        .into_iter()
        .map(|who| (Caller::User(who), world.shown(who)))
        .chain([
            (Caller::ExpiredKey, &over),
            (Caller::OtherKey, &other),
            (Caller::ForeignOwner, &world.foreign_owner),
            (Caller::Owner, &world.owner),
            (Caller::Root, &world.tenants.root),
        ])
        .collect();
    for method in declared("AdminService") {
        let things = Things {
            identity: world.tenants.identity("acme", &format!("gil-{}", method.to_lowercase())).await.0,
            key: world.tenants.key("acme", &[Scope::Audit], None).await.0,
        };
        let (request, of) = admin_row(&method, &things);
        for (caller, shown) in &callers {
            let expected = admin_code(*caller, of);
            let before = world.tenants.kept("acme", "none").await;
            let path = format!("/room.v1.AdminService/{method}");
            let code = call(channel.clone(), &path, &request, shown).await;
            assert_eq!(code, expected, "{method} by {caller:?}");
            if code != Fine {
                assert_eq!(world.tenants.kept("acme", "none").await, before, "{method} by {caller:?}");
            }
        }
    }
    world.server.shutdown().await;
}

#[tokio::test]
async fn a_key_reads_and_writes_as_far_as_its_scopes_go() {
    let world = World::new().await;
    drop(world.room("tea").await);
    let (channel, path) =
        (world.server.channel().await, |method: &str| format!("/room.v1.RoomService/{method}"));
    for (scopes, reads, writes) in [
        (&[Scope::RoomsRead][..], Fine, Denied),
        (&[Scope::RoomsWrite], Fine, Fine),
        (&[Scope::Identities, Scope::Tokens, Scope::Audit], Denied, Denied),
    ] {
        let key = world.key(scopes).await;
        for method in ["GetRoom", "LoadHistory", "ListMembers", "ReadLog", "GetUsage"] {
            let code = call(channel.clone(), &path(method), &row(method, "tea").0, &key).await;
            assert_eq!(code, reads, "{method} by {scopes:?}");
        }
        let code = call(channel.clone(), &path("CreateRoom"), &row("CreateRoom", "tea").0, &key).await;
        assert_eq!(code, writes, "CreateRoom by {scopes:?}");
    }
    // The same call without a room's name is no call for any room.
    let nameless = pb::GetRoomRequest::default().encode_to_vec();
    let code = call(channel, &path("GetRoom"), &nameless, world.shown(Who::Admin)).await;
    assert!([NotFound, InvalidArgument].contains(&code), "{code:?}");
    world.server.shutdown().await;
}
