//! Namespaces and documents in a backup: all of them go into every other store, and are sound there.

use salon::{
    domain::{
        command::{Actor, Command, JoinProfile, MessageInput},
        event::NewRoom,
        room::{Profile, Visibility},
    },
    ids::{Namespace, RoomId, UserId},
    ops,
    store::{
        self, RoomFilter,
        documents::{Expect, Folder},
    },
};

use super::*;

/// Rooms and users of the same names in three namespaces, and credentials beside them.
async fn lived(config: &StoreConfig) {
    let (server, store) = serving(config).await;
    let rooms = &server.server.graph().rooms;
    for (n, name) in ["default", "acme", "acme-2"].into_iter().enumerate() {
        let namespace = Namespace::parse(name).unwrap();
        for (room, visibility) in [("room-0", Visibility::Public), ("room-1", Visibility::Private)] {
            let id = RoomId::parse(room).unwrap().within(&namespace);
            let profile = Profile {
                name: format!("{room} of {name}"),
                description: String::new(),
                visibility,
                settings: Default::default(),
            };
            let created_by = Some(UserId::parse("ann").unwrap());
            rooms.create(NewRoom { id: id.clone(), profile, created_by, llms: Vec::new() }).await.unwrap();
            for user in ["ann", "bob"] {
                let actor = || Actor::User(UserId::parse(user).unwrap());
                let profile = JoinProfile {
                    name: user.into(),
                    role: None,
                    title: String::new(),
                    avatar: String::new(),
                    invitation: None,
                    granted: None,
                };
                rooms.submit(&id, actor(), Command::Join(profile)).await.unwrap();
                for line in 0..=n {
                    let input = MessageInput {
                        content: format!("{name} {line}"),
                        content_type: String::new(),
                        reply_to: None,
                        mentions: Vec::new(),
                    };
                    rooms.submit(&id, actor(), Command::SendMessage(input)).await.unwrap();
                }
            }
        }
        let keys = Folder::new(&["keys", name]);
        for key in ["00aa", "Zo\u{eb}\0", &"k".repeat(256)] {
            let body = vec![n.to_le_bytes()[0] + 1; 1 << (8 * n)];
            for _ in 0..=n {
                assert!(store.put_document(&keys, key, Expect::Anything, body.clone().into()).await.unwrap());
            }
        }
    }
    server.shutdown().await;
}

/// Beside what `contents` has: the documents without their revisions, and what each namespace is listed and has taken.
async fn all_of(store: &dyn Store) -> Vec<String> {
    let mut all = contents(store).await;
    for item in listed(store, Inventory::Documents).await {
        let Item::Document { folder, document } = item else { panic!("{item:?}") };
        all.push(format!("{folder} {:?} {:?}", document.name, document.body));
    }
    for name in ["default", "acme", "acme-2"] {
        let namespace = Namespace::parse(name).unwrap();
        let user = UserId::parse("bob").unwrap();
        for filter in [RoomFilter::Public(namespace.clone()), RoomFilter::Of(namespace.clone(), user)] {
            let rooms = store.list_rooms(filter.clone(), u64::MAX, 99).await.unwrap();
            assert!(!rooms.is_empty(), "{filter:?}");
            let names: Vec<String> = rooms.iter().map(|listed| listed.room.to_string()).collect();
            all.push(format!("{filter:?} {names:?}"));
        }
        all.push(format!("{name} {:?}", store.namespace_usage(&namespace).await.unwrap()));
    }
    all.sort();
    all
}

/// From a file into the store of `config`, and from there into a file again.
async fn there_and_back(config: &StoreConfig) {
    let place = tempfile::tempdir().unwrap();
    let (source, file) = (sqlite(&place.path().join("salon.db")), place.path().join("b"));
    lived(&source).await;
    let source = store::open::open_to_read(&source).await.unwrap();
    let expected = all_of(source.as_ref()).await;
    let done = back_up(source.as_ref(), &file).await;
    assert_eq!((done.rooms, done.documents), (6, 9));
    source.close().await.unwrap();

    let target = store::open::open(config).await.unwrap();
    assert_eq!(ops::restore::run(target.as_ref(), &file, false).await.unwrap(), done);
    assert_eq!(all_of(target.as_ref()).await, expected);
    assert_eq!(verify(target.as_ref()).await.1, Vec::<String>::new());
    let back = place.path().join("back");
    assert_eq!(back_up(target.as_ref(), &back).await, done);
    target.close().await.unwrap();

    let again = store::open::open(&sqlite(&place.path().join("again.db"))).await.unwrap();
    ops::restore::run(again.as_ref(), &back, false).await.unwrap();
    assert_eq!(all_of(again.as_ref()).await, expected);
    assert_eq!(verify(again.as_ref()).await.1, Vec::<String>::new());
    again.close().await.unwrap();
}

#[tokio::test]
async fn namespaces_and_documents_are_restored_into_a_file() {
    let place = tempfile::tempdir().unwrap();
    there_and_back(&sqlite(&place.path().join("target.db"))).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn namespaces_and_documents_are_restored_into_postgres() {
    let Some(schema) = crate::store_conformance::postgres::Schema::new().await else { return };
    there_and_back(&schema.config()).await;
    schema.drop().await;
}

#[cfg(feature = "dynamodb")]
#[tokio::test]
async fn namespaces_and_documents_are_restored_into_dynamodb() {
    let Some(table) = crate::store_conformance::dynamodb::Table::new().await else { return };
    there_and_back(&table.config()).await;
    table.drop().await;
}

#[tokio::test]
async fn documents_of_others_are_not_overwritten_and_a_restore_can_be_gone_on_with() {
    let place = tempfile::tempdir().unwrap();
    let (source, file) = (sqlite(&place.path().join("salon.db")), place.path().join("b"));
    lived(&source).await;
    let source = store::open::open_to_read(&source).await.unwrap();
    back_up(source.as_ref(), &file).await;
    let (keys, expected) = (Folder::new(&["keys", "acme"]), all_of(source.as_ref()).await);
    source.close().await.unwrap();

    let target = store::memory::MemoryStore::new();
    let put = async |body: &'static [u8]| {
        assert!(target.put_document(&keys, "00aa", Expect::Anything, body.into()).await.unwrap());
    };
    put(b"theirs").await;
    let refused = ops::restore::run(&target, &file, false).await.unwrap_err().to_string();
    assert!(refused.contains("the document keys/acme/00aa") && refused.contains("--resume"), "{refused}");
    let refused = ops::restore::run(&target, &file, true).await.unwrap_err();
    let ops::Error::Partly { why } = refused else { panic!("{refused}") };
    assert!(why.to_string().contains("another document keys/acme/00aa"), "{why}");
    put(b"").await;
    ops::restore::run(&target, &file, true).await.unwrap();
    ops::restore::run(&target, &file, true).await.unwrap();
    assert_eq!(all_of(&target).await, expected);
}
