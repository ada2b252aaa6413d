//! The use cases of rooms: decide, append, publish.
//!
//! Each loaded room has one task that decides its commands one after the other; [`Rooms`] finds or starts it. Never
//! talks to sockets. When the store fails nothing is acknowledged and the room's state is read anew.

pub mod chain;
mod clocks;
mod commit;
mod follow;
mod group;
pub mod history;
mod load;
mod observers;
mod orphans;
pub mod replay;
mod seats;
pub mod task;
mod worker;

use std::{fmt, sync::Arc, time::Duration};

use dashmap::{DashMap, Entry};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    clock::Clock,
    domain::{
        command::{Actor, Command},
        decide::{self, Context, Facts},
        event::{NewRoom, Recorded},
        limits::Limits,
        llm::RunReport,
        rejection::{Code, Rejection},
        room::Room,
    },
    ids::{ConnectionId, MessageId, RoomId, Seq, UserId},
    nodes::Identity,
    registry::{HandlerRegistry, feed::Feed, outbound::Outbound, seat::Seat},
    rooms::task::{Charge, CommandTask, Done, JoinTask, Reply, Task},
    store::{self, Append, Outcome, Store},
    wire::{join::Join, reply},
};

/// How rooms behave.
#[derive(Debug, Clone, Copy)]
pub struct RoomsLimits {
    /// What the rules allow.
    pub domain: Limits,
    /// Commands that wait for one room; beyond it they are refused.
    pub queue: usize,
    /// A room's state is saved when so many events have come since the last time: the most that a cold room reads.
    pub snapshot_every: u64,
    /// A room without sessions is forgotten after this time.
    pub idle_unload: Duration,
    /// Human participants shown in `room_state`.
    pub participants_shown: usize,
    /// How often a session gets a heartbeat; it is told in `room_state`.
    pub heartbeat: Duration,
    /// Whether the chains of logs are kept.
    pub chained: bool,
}

/// What an answer has used before its end.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// Cost, timing and tools.
    pub report: RunReport,
    /// What from outside of the room went into it.
    pub outside: Vec<String>,
}

/// Is told what was committed in the rooms of this node, by it and by others: every event once, in the order of the
/// log, before the next command of that room is decided on it. What was in the log when a room came into memory is not
/// told.
///
/// The node that has committed something is the one that acts on it. Must not wait: the room stands still meanwhile.
pub trait AfterCommit: Send + Sync + fmt::Debug {
    /// This node has committed these; `room` is what they leave behind, or what follows from still more.
    fn committed(&self, room: &Room, events: &[Recorded]);

    /// Others have committed these, and do what is to be done about them. Told when the room's task reads them: soon
    /// where it [`AfterCommit::concerns`] this node, else with the next task of the room.
    fn followed(&self, room: &Room, events: &[Recorded]);

    /// Whether something of this node runs or waits in the room, to which others may put an end.
    fn concerns(&self, room: &RoomId) -> bool;

    /// What an answer that is being written has used so far; `None`: it is not written here.
    fn used(&self, room: &RoomId, answer: MessageId) -> Option<Used>;

    /// The room has come into memory; nothing of it was committed here since.
    fn loaded(&self, room: &Room);
}

/// The rooms of this node.
#[derive(Debug, Clone)]
pub struct Rooms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    registry: Arc<HandlerRegistry>,
    clock: Arc<dyn Clock>,
    identity: Identity,
    clocks: clocks::Clocks,
    limits: RoomsLimits,
    loaded: DashMap<RoomId, mpsc::Sender<Task>>,
    after_commit: observers::Observers,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A session that has joined.
#[derive(Debug)]
pub struct Joined {
    /// Its place; dropping it leaves.
    pub seat: Seat,
    /// Where its commands go.
    pub room: RoomHandle,
}

/// The way to one room's task.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    rooms: Rooms,
    id: RoomId,
    /// The queue of the task that was there the last time.
    queue: mpsc::Sender<Task>,
}

impl Rooms {
    /// The rooms in `store`; their tasks end with `stop`.
    pub fn new(
        store: Arc<dyn Store>,
        registry: Arc<HandlerRegistry>,
        clock: Arc<dyn Clock>,
        identity: Identity,
        limits: RoomsLimits,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (loaded, after_commit) = (DashMap::new(), observers::Observers::default());
        let clocks = clocks::Clocks::default();
        Self(Arc::new(Inner {
            store,
            registry,
            clock,
            identity,
            clocks,
            limits,
            loaded,
            after_commit,
            tasks,
            stop,
        }))
    }

    /// Adds somebody who is told of commits; before the first.
    pub fn observe(&self, after_commit: Arc<dyn AfterCommit>) {
        self.0.after_commit.add(after_commit);
    }

    /// The store of the logs, for readers.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// The registry of sessions.
    pub fn registry(&self) -> &Arc<HandlerRegistry> {
        &self.0.registry
    }

    /// The source of time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// To whom belongs what begins in rooms.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// How rooms behave.
    pub fn limits(&self) -> &RoomsLimits {
        &self.0.limits
    }

    /// Creates a room.
    pub async fn create(&self, new: NewRoom) -> Result<RoomId, Rejection> {
        let id = new.id.clone();
        let append = self.first_append(new)?;
        match self.append_one(&id, append).await? {
            Outcome::Appended(_) => Ok(id),
            Outcome::FenceMoved(_) | Outcome::Duplicate(_) | Outcome::Reused => {
                Err(Rejection::new(Code::AlreadyExists, format!("the room {} exists already", id.name())))
            }
        }
    }

    fn first_append(&self, new: NewRoom) -> Result<Append, Rejection> {
        let at = self.0.clock.now();
        let mut context = Context {
            at,
            limits: &self.0.limits.domain,
            facts: &Facts::default(),
            new_id: &mut Uuid::now_v7,
            secret: None,
        };
        commit::first_append(
            decide::create(Command::CreateRoom(new), &mut context)?,
            at,
            self.0.identity.now(),
        )
    }

    async fn append_one(&self, id: &RoomId, append: Append) -> Result<Outcome, Rejection> {
        let outcomes = self.0.store.append(id, vec![append]).await.map_err(|error| refused(id, &error))?;
        outcomes.into_iter().next().ok_or_else(reply::unavailable)
    }

    /// Carries out a command and waits for it.
    pub async fn submit(&self, room: &RoomId, actor: Actor, command: Command) -> Result<Done, Rejection> {
        let (reply, answer) = oneshot::channel();
        let task = CommandTask { actor, command, idempotency: None, reply: Reply::Caller(reply) };
        self.send(room, Task::Command(Box::new(task))).await?;
        answer.await.map_err(|_| reply::unavailable())?
    }

    /// Looks at a room as it is between two commands, as far as this node knows it.
    pub async fn read<T: Send + 'static>(
        &self,
        room: &RoomId,
        look: impl FnOnce(&Room, &Arc<Feed>) -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        self.look(room, false, look).await
    }

    /// Looks at a room with everything in it that was acknowledged before, on whichever node. Where the store is shared
    /// that costs a look at the end of the log, one for all who ask at the same time.
    pub async fn read_latest<T: Send + 'static>(
        &self,
        room: &RoomId,
        look: impl FnOnce(&Room, &Arc<Feed>) -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        self.look(room, true, look).await
    }

    async fn look<T: Send + 'static>(
        &self,
        room: &RoomId,
        latest: bool,
        look: impl FnOnce(&Room, &Arc<Feed>) -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |found: Result<(&Room, &Arc<Feed>), Rejection>| {
            // Who asked may have gone.
            let _ = reply.send(found.map(|(room, feed)| look(room, feed)));
        });
        self.send(room, Task::Read { look, latest }).await?;
        answer.await.map_err(|_| reply::unavailable())?
    }

    /// Waits, if the room was just loaded, until other nodes may have said who is there.
    pub async fn wait_for_others(&self, room: &RoomId) -> Result<(), Rejection> {
        if self.registry().bus().is_shared() {
            self.read(room, |_, feed| Arc::clone(feed)).await?.wait_for_others().await;
        }
        Ok(())
    }

    /// Joins a session to a room: `outbound` starts with a `room_state` or a `resumed`. `charge` may refuse who is no member
    /// yet, and a member who comes back changed.
    pub async fn join(
        &self,
        join: Join,
        request_id: Option<crate::ids::RequestId>,
        connection: ConnectionId,
        outbound: Arc<Outbound>,
        charge: Charge,
    ) -> Result<Joined, Rejection> {
        let id = join.room_id.clone();
        let (read, unread) = self.read_position(&id, &join.user_id).await?;
        let (reply, answer) = oneshot::channel();
        let task = JoinTask { join, request_id, connection, outbound, read, unread, charge, reply };
        let queue = self.send(&id, Task::Join(Box::new(task))).await?;
        let seat = answer.await.map_err(|_| reply::unavailable())??;
        Ok(Joined { seat, room: RoomHandle { rooms: self.clone(), id, queue } })
    }

    /// A user's read cursor, and how many messages of others are behind it.
    pub async fn read_position(&self, room: &RoomId, user: &UserId) -> Result<(Seq, u32), Rejection> {
        let position = self.0.store.read_position(room, user, UNREAD_CAP).await;
        position.map_err(|error| refused(room, &error))
    }

    /// The rooms that are in memory here.
    pub fn in_memory(&self) -> Vec<RoomId> {
        let mut rooms: Vec<_> = self.0.loaded.iter().map(|entry| entry.key().clone()).collect();
        rooms.sort_unstable();
        rooms
    }

    /// Waits for space in the room's queue, and returns the queue that has taken it.
    async fn send(&self, room: &RoomId, task: Task) -> Result<mpsc::Sender<Task>, Rejection> {
        let mut task = task;
        for _ in 0..STARTS {
            let queue = self.sender(room);
            match queue.send(task).await {
                Ok(()) => return Ok(queue),
                Err(mpsc::error::SendError(back)) => task = back,
            }
        }
        task.refuse(reply::unavailable());
        Err(reply::unavailable())
    }

    /// Hands a task to the room without waiting for space.
    fn try_send(&self, room: &RoomId, task: Task) {
        let mut task = task;
        for _ in 0..STARTS {
            match put(&self.sender(room), task) {
                None => return,
                Some(back) => task = back,
            }
        }
        task.refuse(reply::unavailable());
    }

    /// The queue of a room's task, which is started if it is not running.
    fn sender(&self, room: &RoomId) -> mpsc::Sender<Task> {
        match self.0.loaded.entry(room.clone()) {
            Entry::Occupied(mut entry) => {
                if entry.get().is_closed() {
                    entry.insert(self.start(room));
                }
                entry.get().clone()
            }
            Entry::Vacant(entry) => entry.insert(self.start(room)).clone(),
        }
    }

    fn start(&self, room: &RoomId) -> mpsc::Sender<Task> {
        let (sender, receiver) = mpsc::channel(self.0.limits.queue);
        let worker = worker::Worker::new(self.clone(), room.clone(), receiver);
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(Box::new(worker).run(stop));
        sender
    }

    fn forget(&self, room: &RoomId) {
        self.0.loaded.remove_if(room, |_, sender| sender.is_closed());
    }
}

/// How often a task is handed to a room that was just ending. The next one could only be ending already if nobody
/// needs the room, or if there is none.
const STARTS: usize = 16;

/// Puts a task into a room's queue, or refuses it where there is no space; gives it back where nobody reads the queue
/// any more.
fn put(queue: &mpsc::Sender<Task>, task: Task) -> Option<Task> {
    match queue.try_send(task) {
        Ok(()) => None,
        Err(mpsc::error::TrySendError::Closed(back)) => Some(back),
        Err(mpsc::error::TrySendError::Full(task)) => {
            let message = "the room has more commands waiting than it takes; try again";
            task.refuse(Rejection::new(Code::Unavailable, message));
            None
        }
    }
}

/// Messages of others behind the cursor are counted up to here.
pub const UNREAD_CAP: u32 = 1000;

impl RoomHandle {
    /// Which room.
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// Hands a task to the room without waiting; it answers through its own reply.
    pub fn try_send(&mut self, task: Task) {
        // Not by the name each time: all rooms are in one table.
        if let Some(task) = put(&self.queue, task) {
            self.queue = self.rooms.sender(&self.id);
            self.rooms.try_send(&self.id, task);
        }
    }
}

/// What a client is told when the store failed; the log gets the whole chain.
fn refused(room: &RoomId, error: &store::Error) -> Rejection {
    tracing::error!(%room, error = error as &(dyn std::error::Error + 'static), "the store failed");
    reply::unavailable()
}

/// The newest position of a room that does not exist yet.
const NO_ROOM: Seq = Seq::ZERO;
