//! What a real server records of what happens in its rooms.

use std::{sync::Arc, time::Duration};

use salon::{
    audit::Entry,
    ids::Namespace,
    store::{Store, documents::Folder, memory::MemoryStore},
    wire::pb::room::v1::{self as pb, client_message::Payload as Say},
};
use tokio::time::Instant;

use crate::harness::{DEADLINE, Setup, TestServer};

/// Waits until so many are kept.
async fn kept(server: &TestServer, count: usize) -> Vec<Entry> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let audit = &server.server.graph().audit;
        let entries = audit.read(&Namespace::default(), None, 1000).await.unwrap();
        if entries.len() >= count {
            return entries;
        }
        assert!(Instant::now() < deadline, "{entries:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn remove(user: &str, ban: bool) -> Say {
    Say::RemoveMember(pb::RemoveMember { user_id: user.into(), ban, reason: "because I say so".into() })
}

#[tokio::test]
async fn who_was_removed_banned_or_made_something_else_is_recorded_and_not_what_was_said() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
    let setup = || Setup::default().store(Arc::clone(&store));
    let (server, other) = (setup().start().await, setup().start().await);
    let room = server.room(&[]).await;
    let mut admin = server.join(&room, "admin").await;
    // On the other node the same is followed, and not recorded again.
    let mut watcher = other.join(&room, "watcher").await;
    for user in ["bob", "cid", "dan"] {
        server.join(&room, user).await.talk("my password is 12345").await;
    }
    let viewer = pb::UpdateMember { user_id: "bob".into(), role: pb::Role::Viewer.into() };
    admin.command(Say::UpdateMember(viewer)).await.unwrap();
    admin.command(remove("bob", false)).await.unwrap();
    admin.command(remove("cid", true)).await.unwrap();
    admin.command(remove("cid", false)).await.unwrap();
    // Who may not has done nothing.
    watcher.command(remove("dan", true)).await.unwrap_err();
    admin.command(Say::EndRoom(pb::EndRoom { reason: "over and out".into() })).await.unwrap();
    let entries = kept(&server, 5).await;
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| (entry.act.as_str(), entry.subject.as_str(), entry.detail.as_str()))
        .collect();
    let expected = [
        ("role_change", "bob", "VIEWER"),
        ("kick", "bob", ""),
        ("ban", "cid", ""),
        ("unban", "cid", ""),
        ("room_end", "", ""),
    ];
    assert_eq!(shown, expected);
    assert!(
        entries.iter().all(|e| e.actor == "admin" && e.room == room && e.outcome == "done"),
        "{entries:?}"
    );
    for document in store.documents(&Folder::new(&["audit", "default"]), None, 100).await.unwrap() {
        let text = String::from_utf8(document.body.to_vec()).unwrap();
        for never in ["password", "because I", "over and out"] {
            assert!(!text.contains(never), "{text}");
        }
    }
    server.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn where_it_is_switched_off_a_server_keeps_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
    let setup = Setup::default().store(Arc::clone(&store)).config(|config| config.audit.enabled = false);
    let server = setup.start().await;
    let room = server.room(&[]).await;
    let mut admin = server.join(&room, "admin").await;
    server.join(&room, "bob").await.talk("hello").await;
    admin.command(remove("bob", false)).await.unwrap();
    let entries = server.server.graph().audit.read(&Namespace::default(), None, 10).await.unwrap();
    assert_eq!(entries, []);
    server.shutdown().await;
}
