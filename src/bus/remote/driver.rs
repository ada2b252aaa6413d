//! The task that talks to a server: connects, subscribes, sends, and does it all again when the connection is lost.
//!
//! A connection that still serves but should not be relied on ([`Inbox::replace`]) is kept until another one has all
//! its subscriptions.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    BusMessage, Inbox, Inner, Link, LinkError, Server,
    outbox::{Queue, Waiting},
    wanted::Changes,
};
use crate::ids::RoomId;

/// Messages that are sent together.
const TOGETHER: usize = 512;
/// Rooms that are subscribed to together.
const ROOMS_TOGETHER: usize = 512;
/// How often the server is asked whether it is there.
const CHECK: Duration = Duration::from_secs(5);
/// How long one call of it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long whatever is under way, and behind it what still waits, may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The first pause between two connections.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lasted so long was a good one: the next pause is short again.
const STABLE: Duration = Duration::from_secs(10);

/// A connection is not replaced sooner, however often that is asked for: while slots move from server to server, it is
/// asked for all the time.
const REPLACED_AFTER: Duration = Duration::from_secs(2);
/// Why something was not sent.
const LOST: &str = "the connection to the bus is lost";

/// Everything the task has.
pub(super) struct Driver {
    pub(super) server: Box<dyn Server>,
    pub(super) inner: Arc<Inner>,
    pub(super) queue: Queue,
}

impl Driver {
    /// Until `closing`.
    pub(super) async fn run(mut self, first: Option<(Box<dyn Link>, Inbox)>, closing: CancellationToken) {
        let mut next = first;
        let mut pause = Pause::default();
        loop {
            let connected = match next.take() {
                Some(connected) => Ok(connected),
                None => match closing.run_until_cancelled(self.connect()).await {
                    Some(connected) => connected,
                    None => return,
                },
            };
            let began = Instant::now();
            match connected {
                Ok((link, inbox)) => {
                    let ended = tokio::select! {
                        ended = self.serve(link, inbox, &closing) => ended,
                        () = too_late(&closing) => return,
                    };
                    let Err(error) = ended else {
                        return;
                    };
                    if let Some(count) = self.inner.lost.add() {
                        tracing::warn!(bus = self.inner.name, %error, count, "the connection to the bus is lost");
                    }
                }
                Err(error) => tracing::debug!(bus = self.inner.name, %error, "the bus cannot be reached"),
            }
            let wait = pause.next(began.elapsed() > STABLE);
            if closing.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    async fn connect(&self) -> Result<(Box<dyn Link>, Inbox), LinkError> {
        let inbox = Inbox::new(Arc::clone(&self.inner));
        let link = within(&inbox, self.server.connect(inbox.clone())).await?;
        Ok((link, inbox))
    }

    /// Serves one connection, and those that take its place, until the last one is lost, which is an error, or until
    /// the end.
    async fn serve(
        &mut self,
        mut link: Box<dyn Link>,
        mut inbox: Inbox,
        closing: &CancellationToken,
    ) -> Result<(), LinkError> {
        self.begin(link.as_mut(), &inbox).await?;
        tracing::info!(bus = self.inner.name, "connected to the bus");
        let mut check = tokio::time::interval_at(Instant::now() + CHECK, CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut replace_at = Instant::now() + REPLACED_AFTER;
        let mut waiting = Vec::new();
        loop {
            // Not before what waits: whoever gets that may have no need of it.
            if self.queue.is_empty() {
                self.send_behind(link.as_mut(), &inbox).await?;
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                () = inbox.until_lost() => return Err(LinkError::Away("it was closed".to_owned())),
                changes = self.inner.wanted.changes() => self.tell(link.as_mut(), &inbox, changes).await?,
                () = is_to_replace(&inbox, replace_at) => {
                    if let Some((next, its_inbox)) = self.next_connection().await? {
                        (link, inbox) = (next, its_inbox);
                    }
                    replace_at = Instant::now() + REPLACED_AFTER;
                }
                _ = check.tick() => within(&inbox, link.check()).await?,
                _ = self.queue.recv_many(&mut waiting, TOGETHER) => {
                    self.send(link.as_mut(), &inbox, std::mem::take(&mut waiting)).await?;
                }
            }
        }
        // The queue stays open: what is published after the end is as lost as by a crash.
        while let Ok(one) = self.queue.try_recv() {
            self.send(link.as_mut(), &inbox, vec![one]).await?;
        }
        Ok(())
    }

    /// Subscribes to all that is wanted; from here on nothing is missed any more.
    async fn begin(&self, link: &mut dyn Link, inbox: &Inbox) -> Result<(), LinkError> {
        for rooms in self.inner.wanted.all().chunks(ROOMS_TOGETHER) {
            within(inbox, link.subscribe(rooms)).await?;
            // Those that were opened while the bus was away.
            self.told(rooms);
        }
        if let Some(subscriber) = self.inner.subscriber.get() {
            subscriber.interrupted();
        }
        self.inner.connections.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A connection to take the place of the one that still serves; `None`: there is no better one now.
    ///
    /// One that fails when it is told what is wanted leaves the old one not knowing of the latest wishes: both are lost.
    async fn next_connection(&self) -> Result<Option<(Box<dyn Link>, Inbox)>, LinkError> {
        match self.connect().await {
            Ok((mut link, inbox)) => {
                self.begin(link.as_mut(), &inbox).await?;
                tracing::info!(bus = self.inner.name, "went over to another connection to the bus");
                Ok(Some((link, inbox)))
            }
            Err(error) => {
                tracing::debug!(bus = self.inner.name, %error, "no connection takes the place of this one");
                Ok(None)
            }
        }
    }

    /// Tells the server what has changed of what is wanted.
    async fn tell(&self, link: &mut dyn Link, inbox: &Inbox, changes: Changes) -> Result<(), LinkError> {
        for rooms in changes.remove.chunks(ROOMS_TOGETHER) {
            within(inbox, link.unsubscribe(rooms)).await?;
        }
        for rooms in changes.add.chunks(ROOMS_TOGETHER) {
            within(inbox, link.subscribe(rooms)).await?;
            self.told(rooms);
        }
        Ok(())
    }

    fn told(&self, rooms: &[RoomId]) {
        if let Some(subscriber) = self.inner.subscriber.get() {
            self.inner.wanted.in_force(rooms).iter().for_each(|room| subscriber.subscribed(room));
        }
    }

    async fn send(
        &mut self,
        link: &mut dyn Link,
        inbox: &Inbox,
        waiting: Vec<Waiting>,
    ) -> Result<(), LinkError> {
        let messages = self.inner.outbox.taken(waiting);
        self.publish(link, inbox, &messages).await
    }

    /// Says how far logs reach of which events were lost.
    async fn send_behind(&mut self, link: &mut dyn Link, inbox: &Inbox) -> Result<(), LinkError> {
        let behind = self.inner.outbox.take_behind();
        let mut chunks = behind.chunks(TOGETHER);
        while let Some(messages) = chunks.next() {
            if let Err(error) = self.publish(link, inbox, messages).await {
                // What has not had its turn is still behind.
                chunks.flatten().for_each(|(room, message)| self.inner.outbox.lost(room, message, LOST));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn publish(
        &self,
        link: &mut dyn Link,
        inbox: &Inbox,
        messages: &[(RoomId, BusMessage)],
    ) -> Result<(), LinkError> {
        let (outbox, largest) = (&self.inner.outbox, link.largest());
        let encoded: Vec<_> = messages
            .iter()
            .filter_map(|(room, message)| {
                Some((room.clone(), outbox.encode(self.inner.node, room, message, largest)?))
            })
            .collect();
        if encoded.is_empty() {
            return Ok(());
        }
        let sent = within(inbox, link.publish(encoded)).await;
        if sent.is_err() {
            for (room, message) in messages {
                outbox.lost(room, message, LOST);
            }
        }
        sent
    }
}

/// Waits until the end, and as long as last words may take.
async fn too_late(closing: &CancellationToken) {
    closing.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// Waits until a connection should be replaced, and may be.
async fn is_to_replace(inbox: &Inbox, not_before: Instant) {
    inbox.until_doubtful().await;
    tokio::time::sleep_until(not_before).await;
}

/// A call of the server, as long as the connection holds and it is not too slow.
async fn within<T>(
    inbox: &Inbox,
    call: impl Future<Output = Result<T, LinkError>> + Send,
) -> Result<T, LinkError> {
    tokio::select! {
        () = inbox.until_lost() => Err(LinkError::Away("it was closed".to_owned())),
        result = tokio::time::timeout(PATIENCE, call) => {
            result.unwrap_or_else(|_| Err(LinkError::Away(format!("no answer within {PATIENCE:?}"))))
        }
    }
}

/// How long to wait between connections: longer and longer, and each node its own time.
#[derive(Debug, Default)]
struct Pause(u32);

impl Pause {
    fn next(&mut self, was_good: bool) -> Duration {
        if was_good {
            self.0 = 0;
        }
        let longest = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.0)).min(LONGEST_PAUSE);
        self.0 = self.0.saturating_add(1);
        let (_, random) = Uuid::new_v4().as_u64_pair();
        let [byte, ..] = random.to_le_bytes();
        // From a half to the whole.
        longest / 2 + longest / 2 * u32::from(byte) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let mut pause = Pause::default();
        let first: Vec<Duration> = (0..20).map(|_| pause.next(false)).collect();
        let mut whole = FIRST_PAUSE;
        for wait in &first {
            assert!(*wait >= whole / 2 && *wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST_PAUSE);
        }
        assert!(first[10..].windows(2).any(|two| two[0] != two[1]));
        assert!(pause.next(true) <= FIRST_PAUSE);
    }
}
