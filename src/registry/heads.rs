//! Looks at the heads of logs, so that what the bus has lost is noticed although nothing follows it.
//!
//! From time to time; of one room when its subscription has come into force; of all rooms when the bus was away. A
//! store that fails is asked again the next time.

use std::sync::{Arc, Weak};

use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::{
    registry::{HandlerRegistry, feed::Feed},
    store::Store,
};

/// Heads that are looked at together: a store that is behind a network takes as long for one as for several.
const TOGETHER: usize = 16;

/// Looks at all heads, until `stop`.
pub(super) async fn check(registry: Weak<HandlerRegistry>, stop: CancellationToken) {
    let Some((interval, now)) =
        registry.upgrade().map(|registry| (registry.limits.head_check, Arc::clone(&registry.look_at_heads)))
    else {
        return;
    };
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = now.notified() => {}
            _ = tick.tick() => {}
        }
        let Some(registry) = registry.upgrade() else {
            return;
        };
        let looks = stream::iter(registry.all()).for_each_concurrent(TOGETHER, |feed| {
            let registry = Arc::clone(&registry);
            async move {
                if is_behind(&feed, registry.store.as_ref()).await {
                    registry.fill(&feed);
                }
            }
        });
        if stop.run_until_cancelled(looks).await.is_none() {
            return;
        }
    }
}

impl HandlerRegistry {
    /// Looks at the head of one room's log, once.
    pub(super) fn look_at_head(&self, feed: Arc<Feed>) {
        let (store, stop) = (Arc::clone(&self.store), self.stop.clone());
        self.tasks.spawn(async move {
            let look = async {
                if is_behind(&feed, store.as_ref()).await && feed.begin_fill() {
                    feed.fill(store.as_ref()).await;
                }
            };
            stop.run_until_cancelled(look).await
        });
    }
}

async fn is_behind(feed: &Feed, store: &dyn Store) -> bool {
    match store.head(feed.room()).await {
        Ok(Some(head)) => feed.reaches(head.seq),
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(room = %feed.room(), %error, "cannot look at the head of a log");
            false
        }
    }
}
