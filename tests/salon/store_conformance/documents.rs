//! Small records beside the logs.

use std::sync::Arc;

use bytes::Bytes;
use salon::store::{
    ErrorKind, Store,
    documents::{BODY_BYTES, Document, Expect, Folder, NAME_BYTES},
    inventory::{Inventory, Item},
};
use tokio::task::JoinSet;

fn folder(path: &str) -> Folder {
    Folder::new(&[path])
}

async fn put(store: &Arc<dyn Store>, folder: &Folder, name: &str, expect: Expect, body: &str) -> bool {
    store.put_document(folder, name, expect, body.to_owned().into()).await.unwrap()
}

/// Revision and body.
async fn found(store: &Arc<dyn Store>, folder: &Folder, name: &str) -> Option<(u64, String)> {
    let document = store.document(folder, name).await.unwrap()?;
    assert_eq!(document.name, name);
    Some((document.revision, String::from_utf8(document.body.to_vec()).unwrap()))
}

/// The names in a folder, by pages of this many.
async fn names(store: &Arc<dyn Store>, folder: &Folder, limit: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let page = store.documents(folder, all.last().map(String::as_str), limit).await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return all;
        }
        all.extend(page.into_iter().map(|document| document.name));
    }
}

fn some(revision: u64, body: &str) -> Option<(u64, String)> {
    Some((revision, body.to_owned()))
}

pub async fn a_document_has_a_revision_more_with_every_write(store: Arc<dyn Store>) {
    let f = folder("f");
    assert_eq!(found(&store, &f, "a").await, None);
    assert!(put(&store, &f, "a", Expect::Anything, "one").await);
    assert_eq!(found(&store, &f, "a").await, some(1, "one"));
    assert!(put(&store, &f, "a", Expect::Anything, "two").await);
    assert!(put(&store, &f, "a", Expect::Revision(2), "three").await);
    assert_eq!(found(&store, &f, "a").await, some(3, "three"));
    // The same bytes again are a write as well.
    assert!(put(&store, &f, "a", Expect::Anything, "three").await);
    assert_eq!(found(&store, &f, "a").await, some(4, "three"));
    assert!(put(&store, &f, "b", Expect::Nothing, "new").await);
    assert_eq!(found(&store, &f, "b").await, some(1, "new"));
}

pub async fn a_document_that_is_not_as_expected_is_left_alone(store: Arc<dyn Store>) {
    let f = folder("f");
    assert!(!put(&store, &f, "a", Expect::Revision(0), "x").await);
    assert!(!put(&store, &f, "a", Expect::Revision(1), "x").await);
    assert_eq!(found(&store, &f, "a").await, None);
    assert!(put(&store, &f, "a", Expect::Nothing, "one").await);
    for expect in [Expect::Nothing, Expect::Revision(0), Expect::Revision(2), Expect::Revision(u64::MAX)] {
        assert!(!put(&store, &f, "a", expect, "x").await, "{expect:?}");
        assert!(!put(&store, &f, "a", expect, "").await, "{expect:?}");
    }
    assert_eq!(found(&store, &f, "a").await, some(1, "one"));
}

pub async fn a_document_that_was_removed_begins_anew(store: Arc<dyn Store>) {
    let f = folder("f");
    for expect in [Expect::Revision(2), Expect::Anything] {
        put(&store, &f, "a", Expect::Nothing, "one").await;
        put(&store, &f, "a", Expect::Anything, "two").await;
        assert!(put(&store, &f, "a", expect, "").await);
        assert_eq!(found(&store, &f, "a").await, None, "{expect:?}");
        assert!(names(&store, &f, 9).await.is_empty());
    }
    // What is not there is removed already.
    assert!(put(&store, &f, "a", Expect::Anything, "").await);
    assert!(put(&store, &f, "a", Expect::Nothing, "").await);
    assert!(!put(&store, &f, "a", Expect::Revision(2), "").await);
    assert!(put(&store, &f, "a", Expect::Anything, "again").await);
    assert_eq!(found(&store, &f, "a").await, some(1, "again"));
}

/// Who of many writes of one document, each expecting the same, has succeeded.
pub async fn winners(stores: &[Arc<dyn Store>], expect: Expect) -> Vec<usize> {
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let store = Arc::clone(&stores[writer % stores.len()]);
        writers.spawn(async move {
            put(&store, &folder("raced"), "a", expect, &writer.to_string()).await.then_some(writer)
        });
    }
    writers.join_all().await.into_iter().flatten().collect()
}

pub async fn of_many_writes_that_expect_the_same_one_succeeds(store: Arc<dyn Store>) {
    race(&[store]).await;
}

/// Through each of these handles of one store.
pub async fn race(stores: &[Arc<dyn Store>]) {
    let f = folder("raced");
    for (expect, revision) in [(Expect::Nothing, 1), (Expect::Revision(1), 2), (Expect::Revision(2), 3)] {
        let winners = winners(stores, expect).await;
        assert_eq!(winners.len(), 1, "{expect:?}");
        for store in stores {
            assert_eq!(found(store, &f, "a").await, some(revision, &winners[0].to_string()));
        }
    }
    assert_eq!(winners(stores, Expect::Anything).await.len(), 16);
    assert_eq!(found(&stores[0], &f, "a").await.unwrap().0, 19, "each was a revision");
}

pub async fn documents_are_paged_in_the_order_of_their_bytes(store: Arc<dyn Store>) {
    let f = folder("f");
    assert!(names(&store, &f, 3).await.is_empty());
    let longest = "é".repeat(NAME_BYTES / 2);
    let odd = [
        " ",
        "a",
        "B",
        "a b",
        "a/b",
        "a\nb",
        "a\0b",
        "ab",
        "b",
        "é",
        "e\u{301}",
        "z",
        "\u{10FFFF}",
        "\u{FFFD}",
        "'\";--",
        "%_",
        "../x",
        "🦊",
        &longest,
    ];
    for name in odd {
        assert!(put(&store, &f, name, Expect::Nothing, name).await, "{name:?}");
        assert_eq!(found(&store, &f, name).await, some(1, name));
    }
    let mut sorted: Vec<_> = odd.map(str::to_owned).to_vec();
    sorted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    for limit in [1, 3, 100] {
        assert_eq!(names(&store, &f, limit).await, sorted);
    }
    let behind = async |after: &str| {
        let page = store.documents(&f, Some(after), 1).await.unwrap();
        page.into_iter().next().map(|document| document.name)
    };
    assert_eq!(behind("aa").await.as_deref(), Some("ab"), "a name that is not there");
    assert_eq!(behind(&"a".repeat(5000)).await.as_deref(), Some("ab"), "nor can be");
    assert_eq!(behind("").await, sorted.first().cloned());
    assert_eq!(behind(&"\u{10FFFF}".repeat(2)).await, None);
    assert_eq!(store.documents(&f, None, 0).await.unwrap(), []);
}

pub async fn folders_have_nothing_to_do_with_one_another(store: Arc<dyn Store>) {
    let folders = [Folder::new(&["a"]), Folder::new(&["a", "b"]), Folder::new(&["ab"]), Folder::new(&["A"])];
    for (n, folder) in folders.iter().enumerate() {
        assert!(put(&store, folder, "x", Expect::Nothing, &n.to_string()).await);
        assert!(put(&store, folder, &n.to_string(), Expect::Nothing, "own").await);
    }
    for (n, folder) in folders.iter().enumerate() {
        assert_eq!(found(&store, folder, "x").await, some(1, &n.to_string()));
        assert_eq!(names(&store, folder, 9).await, [n.to_string(), "x".to_owned()]);
    }
    assert!(names(&store, &Folder::new(&["b"]), 9).await.is_empty());
    assert!(put(&store, &folders[1], "x", Expect::Anything, "").await);
    assert_eq!(found(&store, &folders[0], "x").await, some(1, "0"));
}

pub async fn a_document_may_have_its_size_and_no_more(store: Arc<dyn Store>) {
    let f = folder("f");
    let refused = async |folder: &Folder, name: &str, body: usize| {
        let body = Bytes::from(vec![7; body]);
        let error = store.put_document(folder, name, Expect::Anything, body).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unusable, "{error}");
    };
    let (longest, too_long) = ("n".repeat(NAME_BYTES), "n".repeat(NAME_BYTES + 1));
    refused(&f, "", 1).await;
    refused(&f, &too_long, 1).await;
    refused(&f, "a", BODY_BYTES + 1).await;
    refused(&folder(&"f".repeat(129)), "a", 1).await;
    // Nothing has such a name, and asking for it is no mistake: it may come from a client.
    for name in ["", &too_long, &"🦊".repeat(1000)] {
        assert_eq!(store.document(&f, name).await.unwrap(), None);
    }
    assert!(names(&store, &f, 9).await.is_empty());

    let body: Bytes = (0..BODY_BYTES).map(|n| n.to_le_bytes()[0]).collect();
    let long = folder(&"f".repeat(128));
    for n in 0..20 {
        let name = format!("{n:02}{}", &longest[2..]);
        assert!(store.put_document(&long, &name, Expect::Nothing, body.clone()).await.unwrap());
    }
    let mut all: Vec<Document> = Vec::new();
    // A page may end before its limit, but is empty only at the end.
    loop {
        let after = all.last().map(|document| document.name.clone());
        let page = store.documents(&long, after.as_deref(), 100).await.unwrap();
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|document| document.body == body && document.revision == 1));
}

pub async fn documents_are_listed_over_all_folders(store: Arc<dyn Store>) {
    let mut expected = Vec::new();
    for (path, name) in [("b", "1"), ("a", "2"), ("a", "1"), ("c", "é"), ("b", "2")] {
        put(&store, &folder(path), name, Expect::Nothing, "x").await;
        put(&store, &folder(path), name, Expect::Anything, name).await;
        expected.push((path.to_owned(), name.to_owned()));
    }
    put(&store, &folder("gone"), "1", Expect::Nothing, "x").await;
    put(&store, &folder("gone"), "1", Expect::Anything, "").await;
    let mut listed: Vec<Item> = Vec::new();
    loop {
        let page = store.inventory(&Inventory::Documents, listed.last(), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    let mut listed: Vec<_> = listed
        .into_iter()
        .map(|item| match item {
            Item::Document { folder, document } => {
                assert_eq!((document.revision, &*document.body), (2, document.name.as_bytes()));
                (folder.to_string(), document.name)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
}
