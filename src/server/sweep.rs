//! Living among other servers of one store, and closing what those that are gone have left open.
//!
//! Two tasks. `Life` says that this server lives, and nothing else, so that no work holds it up. `Sweeper` looks
//! who is dead, takes their leases away, and closes what belongs to nobody who lives: at the start, before anything is
//! served, and from then on as long as others may die. What is open is read before the leases are: so a server that
//! has just come is never taken for a dead one. Closing is done beside the looks, many rooms at once: neither a room that
//! cannot be written to nor a long list keeps anybody from finding the next who is dead. What cannot be closed, or was
//! begun by a server that did not know yet that it had lost its lease, is found by the next look.
//!
//! A store that is not shared has one server: there, everything open at the start is of a process that is gone, and
//! when it is closed there is nothing more to look for.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    dispatch::LlmDispatcher,
    ids::NodeId,
    nodes::{Beat, Heart, Identity, LeaseSettings, Pulse, Watch},
    server::{
        closing::{Closing, Ended},
        graph::Graph,
    },
    store::{self, Store},
};

/// How long giving back the lease may take; without it the others wait until it is over.
const RELEASE_PATIENCE: Duration = Duration::from_secs(1);

/// The lease of this server, kept by a task until it ends.
#[derive(Debug)]
pub(super) struct Life {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Life {
    /// Takes a lease, and keeps it from now on.
    pub(super) async fn begin(
        store: &Arc<dyn Store>,
        graph: &Graph,
        settings: LeaseSettings,
    ) -> Result<(Self, Pulse), store::Error> {
        let heart = Heart::begin(Arc::clone(store), graph.identity.clone()).await?;
        let (pulse, stop, tasks) = (heart.pulse(), CancellationToken::new(), TaskTracker::new());
        tasks.spawn(beat(heart, settings.every, graph.services.dispatcher.clone(), stop.clone()));
        Ok((Self { stop, tasks }, pulse))
    }

    /// Gives the lease back. To be called when nothing is being done any more.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn beat(mut heart: Heart, every: Duration, dispatcher: LlmDispatcher, stop: CancellationToken) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match stop.run_until_cancelled(heart.beat()).await {
            Some(Ok(Beat::Kept)) => {}
            Some(Ok(Beat::Lost { was })) => {
                tracing::warn!(%was, "this server was out of reach for too long: others close what it had begun");
                dispatcher.give_up();
            }
            Some(Err(error)) => tracing::warn!(%error, "this server cannot say that it lives"),
            None => break,
        }
    }
    match tokio::time::timeout(RELEASE_PATIENCE, heart.end()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the lease was not given back; others wait until it is over");
        }
        Err(_) => tracing::warn!("the lease was not given back in time; others wait until it is over"),
    }
}

/// Finds what dead servers have left open, and has it closed.
#[derive(Debug)]
pub(super) struct Sweeper {
    store: Arc<dyn Store>,
    closing: Closing,
    identity: Identity,
    settings: LeaseSettings,
    /// `None`: the store is this server's alone.
    others: Option<Others>,
}

/// The servers that share the store.
#[derive(Debug)]
struct Others {
    watch: Watch,
    pulse: Pulse,
    /// As the last look has found them.
    living: HashSet<NodeId>,
}

impl Sweeper {
    /// One that has not looked yet. `pulse`: of this server's own lease, if the store is shared.
    pub(super) fn new(
        store: Arc<dyn Store>,
        graph: &Graph,
        settings: LeaseSettings,
        pulse: Option<Pulse>,
    ) -> Self {
        let others = pulse.map(|pulse| Others {
            watch: Watch::new(settings.lease, settings.gap()),
            pulse,
            living: HashSet::new(),
        });
        let closing = Closing::new(graph);
        Self { store, closing, identity: graph.identity.clone(), settings, others }
    }

    /// Looks once, and closes what it can; how much could not be closed.
    pub(super) async fn sweep(&mut self) -> Result<usize, store::Error> {
        let open = self.closing.read().await?;
        let living = self.look().await?;
        self.closing.begin(open, &living);
        Ok(self.closing.finish().await)
    }

    /// Goes on looking until `stop`; alone, until nothing is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut tick = interval(self.settings.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            let next = async {
                tokio::select! {
                    // Looks come first, and several nodes in a simulation do the same each time.
                    biased;
                    _ = tick.tick() => None,
                    ended = self.closing.next() => Some(ended),
                }
            };
            let Some(next) = stop.run_until_cancelled(next).await else { return };
            let looked = match next {
                None => {
                    self.closing.begin_to_read();
                    stop.run_until_cancelled(self.look()).await.map(|looked| looked.map(drop))
                }
                Some(Ended::Read(Ok(open))) => {
                    // Behind what is open: whoever has come meanwhile lives.
                    let looked = stop.run_until_cancelled(self.look()).await;
                    looked.map(|looked| looked.map(|living| self.closing.begin(open, &living)))
                }
                Some(Ended::Read(Err(error))) => Some(Err(error)),
                Some(Ended::Closed) if self.others.is_none() && self.closing.is_done() => return,
                Some(Ended::Closed) => continue,
            };
            match looked {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot look for what dead servers have left open");
                }
                None => return,
            }
        }
    }

    /// Who lives.
    async fn look(&mut self) -> Result<HashSet<NodeId>, store::Error> {
        let Some(others) = &mut self.others else {
            return Ok(HashSet::from([self.identity.now()]));
        };
        let began = Instant::now();
        let leases = self.store.leases().await?;
        let ended = Instant::now();
        let mut living: HashSet<NodeId> = leases.iter().map(|lease| lease.node).collect();
        // Who cannot write cannot tell whether others can.
        let beats = others.pulse.last().is_some_and(|last| ended - last <= self.settings.gap());
        if beats {
            for dead in others.watch.look(&leases, began, ended) {
                // Whoever takes it away closes what is left; the others would only be in the way.
                if self.store.retire(dead).await? {
                    tracing::warn!(node = %dead.node, lease = ?self.settings.lease, "a server is dead");
                    living.remove(&dead.node);
                }
            }
        }
        if others.living.iter().any(|node| !living.contains(node)) {
            self.closing.owe_votes();
        }
        others.living.clone_from(&living);
        Ok(living)
    }
}
