//! Closing what dead servers have left open, beside everything else.
//!
//! Many rooms at once, each by a task of its own that ends when the store has answered or given up. A room that cannot
//! be written to takes one place, and rooms take turns. What of it is left is found by the next look. What the dead had
//! reserved is settled at the same time; not before that do answers begin where something was closed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::task::{Id, JoinSet};

use crate::{
    budget::Budgets,
    dispatch::LlmDispatcher,
    ids::{NodeId, RoomId},
    rooms::Rooms,
    server::graph::Graph,
    store::{self, OpenRun, ledger::OpenReservation},
};

/// How many rooms are closed at once: enough to be quick, few enough to leave the store to those who talk.
const ROOMS_AT_ONCE: usize = 16;

/// What is open, whoever has begun it.
#[derive(Debug)]
pub(super) struct Open {
    runs: Vec<OpenRun>,
    reservations: Vec<OpenReservation>,
}

/// What a task has come to.
#[derive(Debug)]
pub(super) enum Ended {
    /// What is open was read.
    Read(Result<Open, store::Error>),
    /// Something was closed, or cannot be now.
    Closed,
}

#[derive(Debug)]
enum Task {
    Read(Result<Open, store::Error>),
    /// How much is left.
    Closed(usize),
}

#[derive(Debug, Clone)]
struct Hands {
    rooms: Rooms,
    budgets: Budgets,
    dispatcher: LlmDispatcher,
}

/// What is being closed.
#[derive(Debug)]
pub(super) struct Closing {
    hands: Hands,
    tasks: JoinSet<Task>,
    /// The task that reads what is open.
    reading: Option<Id>,
    /// The rooms that tasks are at.
    at: HashMap<Id, RoomId>,
    /// The rooms that wait for a place, as the last look has found them.
    waiting: BTreeMap<RoomId, Vec<OpenRun>>,
    /// The room that was begun last: the next is the one behind it, so that all have their turn.
    last: Option<RoomId>,
    /// The last reservations that were settled, or are.
    recovered: Option<Shared<BoxFuture<'static, usize>>>,
    /// What could not be closed since the last look.
    left: usize,
    /// Somebody has gone who may have been about to ask for votes.
    owes_votes: bool,
}

impl Closing {
    /// Nothing is being closed yet.
    pub(super) fn new(graph: &Graph) -> Self {
        let hands = Hands {
            rooms: graph.rooms.clone(),
            budgets: graph.budgets.clone(),
            dispatcher: graph.services.dispatcher.clone(),
        };
        Self {
            hands,
            tasks: JoinSet::new(),
            reading: None,
            at: HashMap::new(),
            waiting: BTreeMap::new(),
            last: None,
            recovered: None,
            left: 0,
            owes_votes: false,
        }
    }

    /// Reads what is open.
    pub(super) async fn read(&self) -> Result<Open, store::Error> {
        read(&self.hands).await
    }

    /// Reads what is open beside everything else, unless that is being done.
    pub(super) fn begin_to_read(&mut self) {
        if self.reading.is_none() {
            let hands = self.hands.clone();
            self.reading = Some(self.tasks.spawn(async move { Task::Read(read(&hands).await) }).id());
        }
    }

    /// Votes are asked for when what is known to be open is closed.
    pub(super) fn owe_votes(&mut self) {
        self.owes_votes = true;
    }

    /// Begins to close what belongs to nobody who lives.
    pub(super) fn begin(&mut self, open: Open, living: &HashSet<NodeId>) {
        let Open { runs, mut reservations } = open;
        self.left = 0;
        if self.recovered.as_ref().is_none_or(|recovered| recovered.peek().is_some()) {
            reservations.retain(|reservation| !living.contains(&reservation.node));
            let budgets = self.hands.budgets.clone();
            let recovered = async move { budgets.recover(&reservations).await }.boxed().shared();
            self.tasks.spawn(recovered.clone().map(Task::Closed));
            self.recovered = Some(recovered);
        }
        self.waiting.clear();
        for run in runs {
            if !living.contains(&run.node) && !self.at.values().any(|room| *room == run.room) {
                self.waiting.entry(run.room.clone()).or_default().push(run);
            }
        }
        self.fill();
    }

    /// What ends next; never, if nothing is being done.
    pub(super) async fn next(&mut self) -> Ended {
        let Some(joined) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, task) = match joined {
            Ok((id, task)) => (id, task),
            Err(error) => {
                tracing::error!(%error, "closing what dead servers have left open has failed");
                (error.id(), Task::Closed(1))
            }
        };
        if self.reading == Some(id) {
            self.reading = None;
        }
        self.at.remove(&id);
        match task {
            Task::Read(open) => Ended::Read(open),
            Task::Closed(left) => {
                self.left += left;
                self.fill();
                Ended::Closed
            }
        }
    }

    /// Whether everything is closed that the last look has found.
    pub(super) fn is_done(&self) -> bool {
        self.tasks.is_empty() && self.left == 0
    }

    /// Waits until all is tried; how much could not be closed. From then on autopilots go on.
    pub(super) async fn finish(&mut self) -> usize {
        while !self.tasks.is_empty() {
            self.next().await;
        }
        self.hands.dispatcher.resume([]).await;
        self.left
    }

    /// Gives places to rooms that wait.
    fn fill(&mut self) {
        while self.at.len() < ROOMS_AT_ONCE
            && let Some((room, open)) = self.take()
        {
            let task = close(self.hands.clone(), open, self.recovered.clone());
            self.at.insert(self.tasks.spawn(task).id(), room);
        }
        // A vote that a dead server was asked for is asked for again only when its answer is closed.
        if self.owes_votes && self.at.is_empty() && self.reading.is_none() {
            self.owes_votes = false;
            let hands = self.hands.clone();
            self.tasks.spawn(async move {
                hands.dispatcher.ask_votes(hands.rooms.in_memory()).await;
                Task::Closed(0)
            });
        }
    }

    fn take(&mut self) -> Option<(RoomId, Vec<OpenRun>)> {
        let behind = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.waiting.range::<RoomId, _>((behind, Bound::Unbounded)).next();
        let room = next.or_else(|| self.waiting.first_key_value())?.0.clone();
        self.last = Some(room.clone());
        self.waiting.remove_entry(&room)
    }
}

async fn read(hands: &Hands) -> Result<Open, store::Error> {
    let runs = hands.rooms.store().open_runs().await?;
    Ok(Open { runs, reservations: hands.budgets.open().await? })
}

async fn close(
    hands: Hands,
    open: Vec<OpenRun>,
    recovered: Option<Shared<BoxFuture<'static, usize>>>,
) -> Task {
    let closed = hands.rooms.close_orphans(open).await;
    if let Some(recovered) = recovered {
        // Not before what the dead had reserved is counted: from here on there are answers again.
        recovered.await;
    }
    hands.dispatcher.resume(closed.rooms).await;
    Task::Closed(closed.left)
}
