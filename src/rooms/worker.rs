//! The task of one room: decides its commands one after the other and commits them in groups.
//!
//! A group is what was waiting: its commands are decided on the state that the ones before them leave behind, and
//! appended together, so that a busy room pays for one commit and not for each. The state is a cache of the log:
//! whenever an append does not come out as expected, it is thrown away and read again.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    bus::BusMessage,
    domain::{
        command::{Actor, Command},
        decide::{self, Context, Decision, Facts, Lookup},
        event::Recorded,
        llm::{LiveAnswer, Run},
        message::Message,
        permissions::{self, Action},
        rejection::{Code, Rejection},
        room::Room,
    },
    ids::{MessageId, RoomId, Seq, UserId},
    registry::{
        feed::{Feed, Now},
        outbound::{Expelled, Outbound},
        seat::Seat,
    },
    rooms::{
        Rooms, commit, history, load, refused,
        task::{Done, JoinTask, Reply, Task},
    },
    store::{Append, Idempotency, Outcome, Receipt, Snapshot},
    wire::{
        command::{Join, ReadUpTo},
        reply::{self, View},
        snapshot,
    },
};

/// Commands decided and appended together.
const GROUP: usize = 256;
/// Tries of a command whose fence another node moved, each on a state read anew.
const TRIES: usize = 4;
/// A join that resumes gets what it missed one by one up to this many events, else a fresh `room_state`: a snapshot
/// with its last 50 messages is then the shorter way.
const RESUME_EVENTS: u64 = 1000;

pub(super) struct Worker {
    rooms: Rooms,
    id: RoomId,
    queue: mpsc::Receiver<Task>,
    /// `None`: must be read from the store.
    state: Option<Room>,
    /// Opened when the room is first loaded; sessions stay in it as long as the task lives.
    feed: Option<Arc<Feed>>,
    /// The position of the newest snapshot.
    saved: Seq,
    group: Vec<Entry>,
}

/// A decided command that waits for its append.
struct Entry {
    actor: Actor,
    command: Command,
    recorded: Vec<Recorded>,
    append: Append,
    then: Then,
}

/// What happens once a command is committed.
enum Then {
    Reply(Reply),
    Join(Box<JoinTask>),
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
        Self { rooms, id, queue, state: None, feed: None, saved: Seq::ZERO, group: Vec::new() }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut guard = CloseFeed(self.rooms.clone(), None);
        let stopped = stop.run_until_cancelled(self.run_inner(&mut guard)).await.is_none();
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

    async fn run_inner(&mut self, guard: &mut CloseFeed) {
        let mut tasks = Vec::new();
        let mut idle_since = Instant::now();
        loop {
            let deadline = self.next_deadline();
            let idle_at = idle_since + self.rooms.limits().idle_unload;
            tokio::select! {
                biased;
                received = self.queue.recv_many(&mut tasks, GROUP) => {
                    if received == 0 {
                        return;
                    }
                    idle_since = Instant::now();
                }
                () = sleep(deadline) => {}
                () = tokio::time::sleep_until(idle_at) => {
                    if self.may_unload() {
                        return;
                    }
                    idle_since = Instant::now();
                }
            }
            if let Err(rejection) = self.ensure_loaded().await {
                for task in tasks.drain(..) {
                    task.refuse(rejection.clone());
                }
                if self.feed.is_none() {
                    return;
                }
                continue;
            }
            guard.1.clone_from(&self.feed);
            self.close_due_polls().await;
            for task in tasks.drain(..) {
                self.take(task).await;
            }
            self.commit().await;
            self.save_snapshot();
        }
    }

    /// Whether nobody needs this room to stay in memory.
    fn may_unload(&self) -> bool {
        let unused = self.feed.as_ref().is_none_or(|feed| feed.session_count() == 0);
        let quiet = self
            .state
            .as_ref()
            .is_none_or(|room| room.runs.is_empty() && room.open_polls().all(|p| p.closes_at.is_none()));
        unused && quiet && self.queue.is_empty()
    }

    async fn ensure_loaded(&mut self) -> Result<(), Rejection> {
        if self.state.is_some() {
            return Ok(());
        }
        let store = self.rooms.store().as_ref();
        let loaded = load::load(store, &self.id).await.map_err(|error| refused(&self.id, &error))?;
        let Some(loaded) = loaded else {
            return Err(Rejection::new(Code::RoomNotFound, format!("there is no room {}", self.id)));
        };
        self.saved = loaded.snapshot;
        match &self.feed {
            // The log may have moved on without this task: whoever listens is told from the store.
            Some(feed) if feed.delivered() < loaded.room.seq => self.rooms.registry().fill(feed),
            Some(_) => {}
            None => {
                let feed = self.rooms.registry().open(&self.id, loaded.room.seq);
                feed.running(loaded.room.runs.values().map(live).collect());
                self.feed = Some(feed);
            }
        }
        self.state = Some(loaded.room);
        Ok(())
    }

    async fn take(&mut self, task: Task) {
        match task {
            Task::Command { actor, command, idempotency, reply } => {
                self.decide(actor, command, idempotency, Then::Reply(reply)).await;
            }
            Task::Join(task) => {
                let actor = Actor::User(task.join.user_id.clone());
                let command = Command::Join(task.join.profile.clone());
                self.decide(actor, command, None, Then::Join(task)).await;
            }
            Task::Resync { user, outbound } => {
                self.commit().await;
                self.resync(&user, &outbound).await;
            }
            Task::MarkRead { up_to, seat, reply } => {
                self.commit().await;
                self.mark_read(up_to, seat, reply);
            }
            Task::Read(look) => {
                self.commit().await;
                match (&self.state, &self.feed) {
                    (Some(room), Some(feed)) => look(Ok((room, feed))),
                    _ => look(Err(reply::unavailable())),
                }
            }
        }
    }

    /// Decides a command and adds it to the group, or answers at once.
    async fn decide(&mut self, actor: Actor, command: Command, idempotency: Option<Idempotency>, then: Then) {
        match self.try_decide(&actor, &command).await {
            Ok(decision) if !decision.events.is_empty() => {
                self.add(actor, command, decision, idempotency, then)
            }
            Ok(_) => {
                // Nothing changes: perhaps because this is a repeat of what has changed it.
                self.commit().await;
                let first = self.first_result(idempotency.as_ref()).await;
                self.done(then, first.unwrap_or(Ok(Done { events: None, duplicate: false })));
            }
            Err(rejection) => {
                self.commit().await;
                let first = self.first_result(idempotency.as_ref()).await;
                self.done(then, first.unwrap_or(Err(rejection)));
            }
        }
    }

    async fn try_decide(&mut self, actor: &Actor, command: &Command) -> Result<Decision, Rejection> {
        if self.lookup(command).is_some() {
            // What is about to be appended may be about the same message.
            self.commit().await;
        }
        self.decide_now(actor, command).await
    }

    fn lookup(&self, command: &Command) -> Option<Lookup> {
        decide::lookup(self.state.as_ref()?, command)
    }

    /// Decides on the state as it is.
    async fn decide_now(&self, actor: &Actor, command: &Command) -> Result<Decision, Rejection> {
        let facts = match self.lookup(command) {
            Some(lookup) => self.facts(lookup).await?,
            None => Facts::default(),
        };
        let room = self.state.as_ref().ok_or_else(reply::unavailable)?;
        let mut context = Context {
            at: self.rooms.clock().now(),
            limits: &self.rooms.limits().domain,
            facts: &facts,
            new_id: &mut Uuid::now_v7,
        };
        decide::decide(room, actor, command.clone(), &mut context)
    }

    async fn facts(&self, lookup: Lookup) -> Result<Facts, Rejection> {
        let store = self.rooms.store().as_ref();
        let failed = |error| refused(&self.id, &error);
        Ok(match lookup {
            Lookup::Message(id) => {
                Facts { message: history::message(store, &self.id, id).await.map_err(failed)?, poll: None }
            }
            Lookup::Poll(id) => {
                Facts { message: None, poll: history::poll(store, &self.id, id).await.map_err(failed)? }
            }
        })
    }

    fn add(
        &mut self,
        actor: Actor,
        command: Command,
        decision: Decision,
        idempotency: Option<Idempotency>,
        then: Then,
    ) {
        let Some(room) = &mut self.state else {
            return self.done(then, Err(reply::unavailable()));
        };
        let fence = decision.fenced.then_some(room.fence);
        let at = self.rooms.clock().now();
        let (recorded, records, directory) = commit::apply_and_encode(room, decision.events, at);
        let append = Append { records, fence, idempotency, directory };
        self.group.push(Entry { actor, command, recorded, append, then });
    }

    /// What a repeated command came to the first time, if it is one.
    async fn first_result(&self, idempotency: Option<&Idempotency>) -> Option<Result<Done, Rejection>> {
        let key = idempotency?;
        match self.rooms.store().request(&self.id, &key.sender, &key.request_id).await {
            Ok(Some((receipt, hash))) if hash == key.body_hash => Some(Ok(done(receipt, true))),
            Ok(Some(_)) => Some(Err(reused())),
            Ok(None) => None,
            Err(error) => Some(Err(refused(&self.id, &error))),
        }
    }

    /// Appends the group, answers, and publishes.
    async fn commit(&mut self) {
        let mut group = std::mem::take(&mut self.group);
        for _ in 0..TRIES {
            if group.is_empty() {
                return;
            }
            let appends = group.iter().map(|entry| entry.append.clone()).collect();
            match self.rooms.store().append(&self.id, appends).await {
                Ok(outcomes) => group = self.settle(group, outcomes).await,
                Err(error) => {
                    // Whether they were appended is found out by reading the log, not guessed.
                    self.state = None;
                    for entry in group {
                        self.done(entry.then, Err(refused(&self.id, &error)));
                    }
                    return;
                }
            }
        }
        for entry in group {
            self.done(entry.then, Err(reply::unavailable()));
        }
    }

    /// Answers what was appended; returns what must be decided again, on the state read anew.
    async fn settle(&mut self, group: Vec<Entry>, outcomes: Vec<Outcome>) -> Vec<Entry> {
        let mut batches = commit::Batches::default();
        let mut committed: Vec<Recorded> = Vec::new();
        let mut finished = Vec::new();
        let mut again = Vec::new();
        let mut as_expected = true;
        for (entry, outcome) in group.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Appended(receipt) => {
                    as_expected &= entry.recorded.first().is_some_and(|first| first.seq == receipt.first);
                    let positions = (receipt.first.0..=receipt.last.0).map(Seq);
                    for ((seq, record), recorded) in positions.zip(&entry.append.records).zip(entry.recorded)
                    {
                        let recorded = Recorded { seq, ..recorded };
                        batches.push(seq, record, &recorded);
                        committed.push(recorded);
                    }
                    finished.push((entry.then, Ok(done(receipt, false))));
                }
                Outcome::Duplicate(receipt) => {
                    as_expected = false;
                    finished.push((entry.then, Ok(done(receipt, true))));
                }
                Outcome::Reused => {
                    as_expected = false;
                    finished.push((entry.then, Err(reused())));
                }
                Outcome::FenceMoved(_) => {
                    as_expected = false;
                    again.push(entry);
                }
            }
        }
        let (joins, answers): (Vec<_>, Vec<_>) =
            finished.into_iter().partition(|(then, result)| matches!(then, Then::Join(_)) && result.is_ok());
        // The sender's ack goes out before the event itself.
        for (then, result) in answers {
            self.done(then, result);
        }
        for batch in batches.finish() {
            self.rooms.registry().bus().publish(&self.id, BusMessage::Log(batch));
        }
        if !as_expected {
            self.state = None;
            let _ = self.ensure_loaded().await;
        }
        if let (Some(room), Some(observer), false) =
            (&self.state, self.rooms.0.after_commit.get(), committed.is_empty())
        {
            observer.committed(room, &committed);
        }
        for (then, result) in joins {
            self.done(then, result);
        }
        self.decide_again(again).await
    }

    async fn decide_again(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        for entry in entries {
            let idempotency = entry.append.idempotency;
            match self.decide_now(&entry.actor, &entry.command).await {
                Ok(decision) if !decision.events.is_empty() => {
                    self.add(entry.actor, entry.command, decision, idempotency, entry.then);
                }
                Ok(_) => self.done(entry.then, Ok(Done { events: None, duplicate: false })),
                Err(rejection) => self.done(entry.then, Err(rejection)),
            }
        }
        std::mem::take(&mut self.group)
    }

    fn done(&self, then: Then, result: Result<Done, Rejection>) {
        match (then, result) {
            (Then::Reply(reply), result) => reply.send(result),
            (Then::Join(task), Ok(_)) => self.enter(*task),
            (Then::Join(task), Err(rejection)) => {
                let _ = task.reply.send(Err(rejection));
            }
        }
    }

    /// Lets a member's session in: snapshot and subscription are one step under the feed's lock.
    fn enter(&self, task: JoinTask) {
        let JoinTask { join, request_id, connection, outbound, read, unread, reply } = task;
        let Join { user_id, after, .. } = join;
        let (Some(room), Some(feed)) = (&self.state, &self.feed) else {
            let _ = reply.send(Err(reply::unavailable()));
            return;
        };
        let Some(member) = room.members.get(&user_id).cloned() else {
            let _ = reply.send(Err(Rejection::denied(format!("{user_id} is not a member of this room"))));
            return;
        };
        let news = feed.enter(connection, &member, &outbound, |now, delivered| {
            let view = self.view(&now, &user_id, read, unread);
            let known = room.seq.max(delivered);
            match after {
                Some(after) if after <= room.seq && room.seq.0 - after.0 <= RESUME_EVENTS => {
                    outbound.start(reply::resumed(room, after, &view, request_id.as_ref()), after, known);
                }
                Some(_) | None => {
                    outbound.start(reply::room_state(room, &view, request_id.as_ref()), room.seq, known);
                }
            }
        });
        let (registry, clock) = (Arc::clone(self.rooms.registry()), Arc::clone(self.rooms.clock()));
        let seat = Seat::take(registry, clock, Arc::clone(feed), connection, member, news);
        // If the session is gone, the seat is dropped here and the room is left again.
        let _ = reply.send(Ok(seat));
    }

    fn view<'a>(&self, now: &Now<'a>, you: &'a UserId, read: Seq, unread: u32) -> View<'a> {
        View {
            online: now.online,
            online_count: now.online_count,
            answers: now.answers,
            you,
            read,
            unread,
            heartbeat: self.rooms.limits().heartbeat,
            participants_shown: self.rooms.limits().participants_shown,
        }
    }

    async fn resync(&self, user: &UserId, outbound: &Arc<Outbound>) {
        let (Some(room), Some(feed)) = (&self.state, &self.feed) else {
            return;
        };
        let store = self.rooms.store();
        let read = store.cursor(&self.id, user).await.unwrap_or_default();
        let unread = store.unread(&self.id, user, read, super::UNREAD_CAP).await.unwrap_or_default();
        feed.resync(|now| {
            let view = self.view(&now, user, read, unread);
            outbound.resynced(reply::resumed(room, outbound.taken(), &view, None));
        });
    }

    /// Moves a read cursor beside the room's task: it is not part of the log.
    fn mark_read(&self, up_to: ReadUpTo, seat: Arc<Seat>, reply: Reply) {
        let Some(room) = &self.state else {
            return reply.send(Err(reply::unavailable()));
        };
        if let Err(rejection) = permissions::require(room, seat.user(), Action::Read) {
            return reply.send(Err(rejection));
        }
        let target = match up_to {
            ReadUpTo::Seq(seq) if seq > room.seq => {
                let problem = format_args!("must be at most {}, the newest position; is {seq}", room.seq);
                return reply.send(Err(Rejection::field("mark_read.seq", problem)));
            }
            ReadUpTo::Seq(seq) => (Some(seq), None),
            ReadUpTo::Message(id) => (room.recent_message(id).map(|m| m.seq), Some(id)),
        };
        let (rooms, id) = (self.rooms.clone(), self.id.clone());
        self.rooms.0.tasks.spawn(async move {
            reply.send(move_cursor(&rooms, &id, target, &seat).await);
        });
    }

    fn save_snapshot(&mut self) {
        let Some(room) = &self.state else {
            return;
        };
        if room.seq.0.saturating_sub(self.saved.0) < self.rooms.limits().snapshot_every {
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

    /// When the next poll is due, from now.
    fn next_deadline(&self) -> Option<Duration> {
        let due = self.state.as_ref()?.open_polls().filter_map(|poll| poll.closes_at).min()?;
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

async fn sleep(deadline: Option<Duration>) {
    match deadline {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

async fn move_cursor(
    rooms: &Rooms,
    id: &RoomId,
    target: (Option<Seq>, Option<MessageId>),
    seat: &Seat,
) -> Result<Done, Rejection> {
    let store = rooms.store().as_ref();
    let failed = |error| refused(id, &error);
    let seq = match target {
        (Some(seq), _) => seq,
        (None, Some(message_id)) => {
            let message: Option<Message> = history::message(store, id, message_id).await.map_err(failed)?;
            message.ok_or_else(|| Rejection::not_found("message", message_id))?.seq
        }
        (None, None) => return Err(Rejection::field("mark_read", "must have a seq or a message_id")),
    };
    let before = store.cursor(id, seat.user()).await.map_err(failed)?;
    let after = store.advance_cursor(id, seat.user(), seq).await.map_err(failed)?;
    if after > before {
        seat.receipt(after, target.1);
    }
    Ok(Done { events: None, duplicate: false })
}

fn done(receipt: Receipt, duplicate: bool) -> Done {
    Done { events: Some((receipt.first, receipt.last, receipt.event_id)), duplicate }
}

fn reused() -> Rejection {
    Rejection {
        field: Some("request_id"),
        ..Rejection::new(Code::RequestIdReused, "this request_id was used for another command")
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
