//! A server that is restarted under load: a cluster of this test's own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use salon::{
    ids::RoomId,
    store::{self, Append, ErrorKind, Outcome, Store},
};
use tokio::{sync::Notify, task::JoinSet};

use super::engine::Cluster;
use crate::store_conformance::support::{
    assert_no_holes, created, keyed, log, message, outcome, plain, texts,
};

/// Counts what was acknowledged, for whoever waits for so many.
#[derive(Default)]
struct Acknowledged(AtomicUsize, Notify);

impl Acknowledged {
    fn one(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.notify_waiters();
    }

    /// Waits for `more`.
    async fn more(&self, more: usize) {
        let enough = self.0.load(Ordering::SeqCst) + more;
        loop {
            let next = self.1.notified();
            if self.0.load(Ordering::SeqCst) >= enough {
                return;
            }
            next.await;
        }
    }
}

/// Says one thing after the other; returns each with whether it was acknowledged.
async fn talk(
    store: Arc<dyn Store>,
    room: RoomId,
    speaker: usize,
    acknowledged: Arc<Acknowledged>,
    end: Arc<AtomicUsize>,
) -> BTreeMap<String, bool> {
    let mut said = BTreeMap::new();
    for n in 0.. {
        if end.load(Ordering::SeqCst) > 0 {
            break;
        }
        let text = format!("{speaker} {n}");
        match store.append(&room, vec![saying(&text)]).await {
            Ok(_) => {
                acknowledged.one();
                said.insert(text, true);
            }
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
                said.insert(text, false);
                // As a client does; the server is away.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    said
}

fn saying(text: &str) -> Append {
    keyed(plain(vec![message("ann", text)]), "ann", text, 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_restarted_and_crashes_under_load_loses_nothing_acknowledged() {
    let Some(cluster) = Cluster::start().await else { return };
    let store = store::open::open(&cluster.config()).await.unwrap();
    let here = created(&store, "r").await;
    let (acknowledged, end) = (Arc::<Acknowledged>::default(), Arc::<AtomicUsize>::default());
    let mut speakers = JoinSet::new();
    for speaker in 0..6 {
        let (store, room) = (Arc::clone(&store), here.clone());
        speakers.spawn(talk(store, room, speaker, Arc::clone(&acknowledged), Arc::clone(&end)));
    }
    for mode in ["fast", "immediate"] {
        acknowledged.more(100).await;
        cluster.restart(mode).await;
        // Without a restart of the store.
        acknowledged.more(100).await;
    }
    end.store(1, Ordering::SeqCst);
    let said: BTreeMap<String, bool> = speakers.join_all().await.into_iter().flatten().collect();
    let failed = said.values().filter(|acknowledged| !**acknowledged).count();
    assert!(failed > 0, "nobody noticed");

    let count = |texts: &[String], text: &str| texts.iter().filter(|found| *found == text).count();
    let found = texts(&log(&store, &here).await);
    for (text, acknowledged) in &said {
        let times = count(&found, text);
        assert!(times == 1 || (times == 0 && !acknowledged), "{text}: {times}, {acknowledged}");
        let again = outcome(&store, &here, saying(text)).await;
        assert_eq!(matches!(again, Outcome::Duplicate(_)), times == 1, "{text}: {again:?}");
    }
    let records = log(&store, &here).await;
    assert_no_holes(&records, 1 + u64::try_from(said.len()).unwrap());
    store.check().await.unwrap();
    store.close().await.unwrap();
    cluster.stop().await;
}
