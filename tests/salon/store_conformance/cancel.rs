//! Calls that nobody waits for any more.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt;
use salon::store::Store;

use super::support::{ALL, appended, assert_no_holes, created, keyed, log, message, plain, texts};

pub async fn a_dropped_append_is_whole_or_absent(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    for n in 0..200_usize {
        let text = n.to_string();
        let records = (0..3).map(|_| message("ann", &text)).collect();
        // Polled once, which hands the work over, and dropped before the answer can be looked at.
        let _ = store.append(&room, vec![keyed(plain(records), "ann", &text, 1)]).now_or_never();
    }
    let last = appended(&store, &room, plain(vec![message("ann", "last")])).await.last;
    let records = log(&store, &room).await;
    assert_no_holes(&records, last.0);
    let mut counts = BTreeMap::new();
    for text in texts(&records[1..records.len() - 1]) {
        *counts.entry(text).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count == 3), "{counts:?}");
    // What a repeat is told agrees with what is there.
    for n in 0..200_usize {
        let text = n.to_string();
        let records = (0..3).map(|_| message("ann", &text)).collect();
        let append = keyed(plain(records), "ann", &text, 1);
        let outcome = super::support::outcome(&store, &room, append).await;
        let repeated = matches!(outcome, salon::store::Outcome::Duplicate(_));
        assert_eq!(repeated, counts.contains_key(&text), "{text}");
    }
}

pub async fn a_dropped_read_harms_nobody(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    for _ in 0..100 {
        let _ = store.read(&room, salon::ids::Seq::ZERO, ALL).now_or_never();
    }
    assert_eq!(log(&store, &room).await.len(), 1);
}
