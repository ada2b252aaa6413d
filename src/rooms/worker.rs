//! The task of one room: decides its commands one after the other and commits them in groups.
//!
//! A group is what was waiting: its commands are decided on the state that the ones before them leave behind, and
//! appended together, so that a busy room pays for one commit and not for each. The state is a cache of the log: what
//! others append is read behind it ([`super::follow`]), and when it cannot be trusted any more it is thrown away and
//! read again.
//!
//! Following costs a room nothing that nobody here is waiting for: it is done when there is a task, and at once only
//! where an answer of this node runs or waits. A task that must see what was acknowledged on another node
//! ([`Task::wants_latest`]) makes the room ask the store first how far the log reaches: one look for all tasks that wait
//! together, and none where the store is not shared.

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        command::{Actor, Command},
        llm::{LiveAnswer, Run},
        rejection::Rejection,
        room::Room,
    },
    ids::{EventId, RoomId, Seq},
    registry::{feed::Feed, outbound::Expelled},
    rooms::{
        AfterCommit as _, Rooms,
        commit::{Entry, Then},
        load, refused,
        task::{CommandTask, Reply, Task},
    },
    store::Snapshot,
    unless::unless,
    wire::{reply, snapshot},
};

/// Commands decided and appended together.
const GROUP: usize = 256;

/// Between two tries to read a room again after the store has failed.
const RELOAD: Duration = Duration::from_secs(1);
/// Until the store is asked again for what was delivered and is not in it.
const LATE_STORE: Duration = Duration::from_millis(20);
/// Members whose place in a snapshot costs about as much as reading one event.
const MEMBERS_PER_EVENT: u64 = 8;

/// The task of one room. Its decisions are in [`super::group`], its dealings with sessions in [`super::seats`].
pub(super) struct Worker {
    pub(super) rooms: Rooms,
    pub(super) id: RoomId,
    queue: mpsc::Receiver<Task>,
    /// `None`: must be read from the store.
    pub(super) state: Option<Room>,
    /// Opened when the room is first loaded; sessions stay in it as long as the task lives.
    pub(super) feed: Option<Arc<Feed>>,
    /// The position of the newest snapshot.
    pub(super) saved: Seq,
    pub(super) group: Vec<Entry>,
    /// The state before the group, where others write as well: it goes on from there when they were quicker.
    pub(super) before: Option<Box<Room>>,
    /// For so many groups more it is kept: other processes were seen to append to this room.
    pub(super) keeps_before: u32,
    /// The store was asked how far the log reaches since the tasks came that are done now.
    pub(super) looked: bool,
    /// Whoever follows commits was told of everything up to here.
    pub(super) heard: Seq,
    /// Decided here and not told yet: perhaps appended, or appended beside what others have.
    pub(super) own: HashSet<EventId>,
}

/// Sessions of a room whose task is gone must not wait for ever.
struct CloseFeed(Rooms, Option<Arc<Feed>>);

impl Drop for CloseFeed {
    fn drop(&mut self) {
        if let Some(feed) = &self.1 {
            feed.expel_all(Expelled::Internal);
            self.0.registry().close(feed);
        }
    }
}

impl Worker {
    pub(super) fn new(rooms: Rooms, id: RoomId, queue: mpsc::Receiver<Task>) -> Self {
        Self {
            rooms,
            id,
            queue,
            state: None,
            feed: None,
            saved: Seq::ZERO,
            group: Vec::new(),
            before: None,
            keeps_before: 0,
            looked: false,
            heard: Seq::ZERO,
            own: HashSet::new(),
        }
    }

    pub(super) async fn run(mut self: Box<Self>, stop: CancellationToken) {
        let mut guard = CloseFeed(self.rooms.clone(), None);
        // On the heap: the future around it would hold it twice.
        let stopped = unless(Box::pin(self.serve(&mut guard)), stop.cancelled()).await.is_none();
        // Who comes later finds the queue closed and starts a new task.
        self.queue.close();
        drop(guard);
        self.rooms.forget(&self.id);
        // Waits for whoever has a place in the closed queue and is just about to take it, unlike `try_recv`.
        while let Some(task) = self.queue.recv().await {
            if stopped {
                task.refuse(reply::unavailable());
            } else {
                // It came just before the queue was closed, and is for the next task.
                self.rooms.try_send(&self.id, task);
            }
        }
    }

    async fn serve(&mut self, guard: &mut CloseFeed) {
        let mut tasks = Vec::new();
        let mut idle_since = Instant::now();
        let idle = self.rooms.limits().idle_unload;
        // One timer, that looks again when it was set off in vain: a new one for each task costs more than the task's turn.
        let mut idle_alarm = pin!(tokio::time::sleep_until(idle_since + idle));
        loop {
            let deadline = self.next_deadline();
            let news = news(self.concerned());
            tokio::select! {
                biased;
                received = self.queue.recv_many(&mut tasks, GROUP) => {
                    if received == 0 {
                        return;
                    }
                    idle_since = Instant::now();
                }
                () = sleep(deadline) => {}
                () = news => {}
                () = idle_alarm.as_mut() => {
                    if idle_since + idle > Instant::now() {
                        idle_alarm.as_mut().reset(idle_since + idle);
                        continue;
                    }
                    // A run that has ended elsewhere keeps no room here.
                    if self.ensure_loaded().await.is_ok() && self.may_unload() {
                        return;
                    }
                    idle_since = Instant::now();
                    idle_alarm.as_mut().reset(idle_since + idle);
                }
            }
            // On the heap for as long as it takes, so that a room that is idle keeps none of it.
            if !Box::pin(self.work(&mut tasks, guard)).await {
                return;
            }
        }
    }

    /// Does what was taken, and what is due; false: there is no such room.
    async fn work(&mut self, tasks: &mut Vec<Task>, guard: &mut CloseFeed) -> bool {
        self.looked = false;
        if let Err(rejection) = self.prepare(tasks).await {
            for task in tasks.drain(..) {
                task.refuse(rejection.clone());
            }
            return self.feed.is_some();
        }
        guard.1.clone_from(&self.feed);
        self.close_due_polls().await;
        for task in tasks.drain(..) {
            self.take(task).await;
        }
        self.commit().await;
        self.save_snapshot();
        true
    }

    /// Makes the state what these tasks need. If it cannot be found out what was acknowledged on other nodes, those that
    /// must have it are refused, and the others are left.
    async fn prepare(&mut self, tasks: &mut Vec<Task>) -> Result<(), Rejection> {
        let known = self.state.as_ref().map(|room| room.seq).filter(|_| self.rooms.store().is_shared());
        let Some(known) = known.filter(|known| tasks.iter().any(|task| task.wants_latest(*known))) else {
            return self.ensure_loaded().await;
        };
        let Err(rejection) = Box::pin(self.catch_up()).await else {
            return Ok(());
        };
        for task in tasks.extract_if(.., |task| task.wants_latest(known)) {
            task.refuse(rejection.clone());
        }
        self.ensure_loaded().await
    }

    /// What to listen to, and how far it is known, if something of this node runs or waits here.
    fn concerned(&self) -> Option<(Arc<Feed>, Seq)> {
        let (room, feed) = (self.state.as_ref()?, self.feed.as_ref()?);
        let concerned = self.rooms.store().is_shared() && self.rooms.0.after_commit.concerns(&self.id);
        concerned.then(|| (Arc::clone(feed), room.seq))
    }

    /// Whether nobody needs this room to stay in memory.
    ///
    /// What has become of an append nobody else would find out, or tell whoever follows commits. That keeps one group
    /// for each room that was in memory when the store failed: until it can be read again a room takes no other.
    fn may_unload(&self) -> bool {
        let unused = self.feed.as_ref().is_none_or(|feed| feed.session_count() == 0);
        let quiet = self
            .state
            .as_ref()
            .is_none_or(|room| room.runs.is_empty() && room.open_polls().all(|p| p.closes_at.is_none()));
        let told = self.state.is_some() || self.own.is_empty();
        unused && quiet && told && self.concerned().is_none() && self.queue.is_empty()
    }

    pub(super) async fn ensure_loaded(&mut self) -> Result<(), Rejection> {
        if self.state.is_some() {
            return if self.is_behind() { Box::pin(self.follow()).await } else { Ok(()) };
        }
        // Seldom: it must not make the task of every room large.
        Box::pin(self.load()).await
    }

    /// Reads the room from its newest snapshot on.
    pub(super) async fn load(&mut self) -> Result<(), Rejection> {
        let store = self.rooms.store().as_ref();
        let chained = self.rooms.limits().chained;
        let loaded = load::load(store, &self.id, chained).await.map_err(|error| refused(&self.id, &error))?;
        let Some(loaded) = loaded else {
            return Err(Rejection::no_room(&self.id));
        };
        self.saved = loaded.snapshot;
        match self.feed.clone() {
            Some(feed) => {
                self.hear(&loaded.room).await.map_err(|error| refused(&self.id, &error))?;
                // The log may have moved on without this task: whoever listens is told from the store.
                if feed.delivered() < loaded.room.seq {
                    self.rooms.registry().fill(&feed);
                }
            }
            None => {
                let feed = self.rooms.registry().open(&self.id, loaded.room.seq);
                feed.running(loaded.room.runs.values().map(live).collect());
                feed.permit(loaded.room.profile.settings.permissions.clone());
                self.feed = Some(feed);
                self.heard = loaded.room.seq;
                self.rooms.0.after_commit.loaded(&loaded.room);
            }
        }
        self.state = Some(loaded.room);
        Ok(())
    }

    async fn take(&mut self, task: Task) {
        match task {
            Task::Command(task) => {
                let CommandTask { actor, command, idempotency, reply } = *task;
                self.decide(actor, command, idempotency, Then::Reply(reply)).await;
            }
            Task::Join(task) => {
                let actor = Actor::User(task.join.user_id.clone());
                let command = Command::Join(task.join.profile.clone());
                self.decide(actor, command, None, Then::Join(task)).await;
            }
            Task::Resync { user, outbound, read, unread } => {
                self.commit().await;
                self.resync(&user, &outbound, read, unread);
            }
            Task::MarkRead { up_to, seat, reply } => {
                self.commit().await;
                self.mark_read(up_to, seat, reply);
            }
            Task::Read { look, .. } => {
                self.commit().await;
                match (&self.state, &self.feed) {
                    (Some(room), Some(feed)) => look(Ok((room, feed))),
                    _ => look(Err(reply::unavailable())),
                }
            }
        }
    }

    fn save_snapshot(&mut self) {
        let Some(room) = &self.state else {
            return;
        };
        // A snapshot holds every member: in a large room it is only worth its writing after more events.
        let members = u64::try_from(room.members.len()).unwrap_or(u64::MAX);
        let every = self.rooms.limits().snapshot_every.max(members / MEMBERS_PER_EVENT);
        if room.seq.0.saturating_sub(self.saved.0) < every {
            return;
        }
        self.saved = room.seq;
        let snapshot = Snapshot { seq: room.seq, version: snapshot::VERSION, state: snapshot::encode(room) };
        let (store, id) = (Arc::clone(self.rooms.store()), self.id.clone());
        self.rooms.0.tasks.spawn(async move {
            if let Err(error) = store.save_snapshot(&id, snapshot).await {
                tracing::warn!(room = %id, %error, "cannot save a snapshot; the next one will be tried");
            }
        });
    }

    /// When there is something to do although nobody asks, from now.
    fn next_deadline(&self) -> Option<Duration> {
        let Some(room) = &self.state else {
            // The store has failed: the room is read again although nobody asks, for its sessions and its deadlines.
            return self.feed.is_some().then_some(RELOAD);
        };
        let due = room.open_polls().filter_map(|poll| poll.closes_at).min()?;
        Some(due.since(self.rooms.clock().now()))
    }

    async fn close_due_polls(&mut self) {
        let now = self.rooms.clock().now();
        let due: Vec<_> = self
            .state
            .iter()
            .flat_map(Room::open_polls)
            .filter(|poll| poll.closes_at.is_some_and(|at| at <= now))
            .map(|poll| poll.id)
            .collect();
        for poll in due {
            self.decide(Actor::Server, Command::ClosePoll(poll), None, Then::Reply(Reply::Nobody)).await;
        }
    }
}

/// Until something was delivered that is not in the state; for ever where that is nobody's business.
async fn news(concerned: Option<(Arc<Feed>, Seq)>) {
    match concerned {
        // It was looked for just now: a store may show an event a moment after the bus has told of it.
        Some((feed, known)) if feed.delivered() > known => tokio::time::sleep(LATE_STORE).await,
        Some((feed, known)) => feed.beyond(known).await,
        None => std::future::pending().await,
    }
}

async fn sleep(deadline: Option<Duration>) {
    match deadline {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

fn live(run: &Run) -> LiveAnswer {
    LiveAnswer {
        message_id: run.message_id,
        llm_id: run.llm_id.clone(),
        reply_to: run.reply_to,
        text: String::new(),
        started_at: run.started_at,
    }
}

#[cfg(test)]
mod tests;
