//! Calls that nobody waits for any more.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt;
use salon::store::{Record, Store};

use super::support::{ALL, appended, assert_no_holes, created, keyed, log, message, plain, texts};

pub async fn a_dropped_append_is_whole_or_absent(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    for n in 0..200_usize {
        let text = n.to_string();
        let records = (0..3).map(|_| message("ann", &text)).collect();
        // Polled once, which hands the work over, and dropped before the answer can be looked at.
        let _ = store.append(&room, vec![keyed(plain(records), "ann", &text, 1)]).now_or_never();
    }
    appended(&store, &room, plain(vec![message("ann", "last")])).await;
    let counts = counted(&log(&store, &room).await);
    assert!(counts.iter().all(|(text, count)| *count == 3 || text == "last"), "{counts:?}");
    // What a repeat is told agrees with what is there. One that is not there yet may still be on its way.
    for n in 0..200_usize {
        let text = n.to_string();
        let records = (0..3).map(|_| message("ann", &text)).collect();
        let append = keyed(plain(records), "ann", &text, 1);
        let outcome = super::support::outcome(&store, &room, append).await;
        let repeated = matches!(outcome, salon::store::Outcome::Duplicate(_));
        assert!(repeated || !counts.contains_key(&text), "{text}");
    }
    // And never is there a second.
    let records = log(&store, &room).await;
    assert_no_holes(&records, 2 + 200 * 3);
    assert!(counted(&records).iter().all(|(text, count)| *count == 3 || text == "last"));
}

/// How often each text is there, behind the room's beginning.
fn counted(records: &[Record]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for text in texts(&records[1..]) {
        *counts.entry(text).or_insert(0) += 1;
    }
    counts
}

pub async fn a_dropped_read_harms_nobody(store: Arc<dyn Store>) {
    let room = created(&store, "r").await;
    for _ in 0..100 {
        let _ = store.read(&room, salon::ids::Seq::ZERO, ALL).now_or_never();
    }
    assert_eq!(log(&store, &room).await.len(), 1);
}
