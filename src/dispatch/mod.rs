//! `LlmDispatcher`: mentions and polls become runs, and every run ends exactly once.
//!
//! A run belongs to the room, not to the stream of whoever asked. The dispatcher is told what this node has
//! committed; it starts runs, keeps them apart by room, and can stop them. When a provider fails the run says so;
//! when the process dies, the next start closes what was open.

mod answer;
mod autopilot;
mod context;
mod converse;
pub mod generate;
mod listen;
mod plain;
mod run;
mod tools;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    bus::{Audience, BusMessage, Transient, TransientContent},
    dispatch::{autopilot::Autopilots, tools::Toolbox},
    domain::{
        event::{Event, Recorded},
        message::{Author, Message},
        rejection::{Code, Rejection},
        room::Room,
    },
    ids::{LlmId, MessageId, PollId, RoomId, UserId},
    llm::route::Router,
    mcp::Servers,
    rooms::{AfterCommit, Rooms},
    wire::reply::{self, Dialect},
};

/// How runs behave.
#[derive(Debug, Clone, Copy)]
pub struct DispatchLimits {
    /// Runs at the same time in one room.
    pub runs_per_room: usize,
    /// Runs that wait in one room; beyond it they are refused.
    pub queue_per_room: usize,
    /// Runs at the same time on this node.
    pub runs_per_node: usize,
    /// Chunks are merged over this time; the first text goes out at once.
    pub chunk_window: Duration,
    /// Until the first text or tool call.
    pub first_token: Duration,
    /// Between two parts of an answer.
    pub idle: Duration,
    /// For the whole answer.
    pub total: Duration,
    /// Messages an LLM is given.
    pub history_messages: usize,
    /// The longest answer, in tokens.
    pub max_tokens: u32,
    /// How many LLMs may ask one another in a chain.
    pub chain_depth: u32,
    /// How often a model may be asked again with the results of its tools.
    pub tool_rounds: usize,
    /// Tool calls in one answer.
    pub tool_calls: usize,
    /// How long a call waits for a person to approve it.
    pub approval: Duration,
}

/// Starts, owns and stops the answers of LLMs.
#[derive(Debug, Clone)]
pub struct LlmDispatcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rooms: Rooms,
    router: Arc<Router>,
    limits: DispatchLimits,
    toolbox: Toolbox,
    autopilots: Autopilots,
    node: Arc<Semaphore>,
    table: Mutex<Table>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Table {
    rooms: HashMap<RoomId, RoomRuns>,
    draining: bool,
}

#[derive(Debug, Default)]
struct RoomRuns {
    active: Vec<Active>,
    waiting: VecDeque<Job>,
}

/// A run that has its own task.
#[derive(Debug)]
struct Active {
    job: Job,
    stop: Stop,
}

/// A way to stop a run, and why it was stopped.
#[derive(Debug, Clone, Default)]
struct Stop {
    token: CancellationToken,
    why: Arc<Mutex<String>>,
}

impl Stop {
    fn stop(&self, why: &str) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why.to_owned();
        self.token.cancel();
    }

    fn why(&self) -> String {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Something an LLM is asked.
#[derive(Debug, Clone)]
struct Job {
    room: RoomId,
    message_id: MessageId,
    llm_id: LlmId,
    reply_to: MessageId,
    poll_id: Option<PollId>,
    chain_depth: u32,
    asked_by: Option<UserId>,
    /// The turn of the room's autopilot.
    turn: Option<u32>,
}

impl Job {
    /// An LLM of `room` is asked by a message.
    fn new(room: &Room, llm_id: LlmId, reply_to: MessageId) -> Self {
        Self {
            room: room.id.clone(),
            message_id: MessageId(Uuid::now_v7()),
            llm_id,
            reply_to,
            poll_id: None,
            chain_depth: 0,
            asked_by: None,
            turn: None,
        }
    }
}

impl Inner {
    /// Tells whoever asked that an LLM was not, and why.
    fn refuse(&self, job: &Job, why: &Rejection) {
        tracing::warn!(room = %job.room, llm = %job.llm_id, %why, "an LLM was not asked");
        self.autopilots.refused(job, why);
        let Some(user) = &job.asked_by else {
            return;
        };
        let message = format!("the LLM {} was not asked: {why}", job.llm_id);
        let transient = Transient {
            frame: reply::error(&Rejection { message, ..why.clone() }, None, Dialect::V1),
            audience: Audience::Users([user.clone()].into()),
            content: TransientContent::Other,
        };
        self.rooms.registry().bus().publish(&job.room, BusMessage::Transient(transient));
    }
}

fn too_many(why: String) -> Rejection {
    Rejection::new(Code::ResourceExhausted, why)
}

impl LlmDispatcher {
    /// A dispatcher that is told what `rooms` commits; its LLMs may call tools of `servers`, its runs are tracked by
    /// `tasks`.
    pub fn start(
        rooms: &Rooms,
        router: Arc<Router>,
        servers: Servers,
        limits: DispatchLimits,
        tasks: TaskTracker,
    ) -> Self {
        let node = Arc::new(Semaphore::new(limits.runs_per_node));
        let toolbox = Toolbox { servers, ..Toolbox::default() };
        let (table, autopilots) = (Mutex::default(), Autopilots::default());
        let inner = Inner { rooms: rooms.clone(), router, limits, toolbox, autopilots, node, table, tasks };
        let dispatcher = Self(Arc::new(inner));
        rooms.observe(Arc::new(dispatcher.clone()));
        dispatcher
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops answers of a room: of one LLM or all, or one answer. Returns how many; what they have said is kept.
    pub fn interrupt(
        &self,
        room: &RoomId,
        llm: Option<&LlmId>,
        message: Option<MessageId>,
        by: &UserId,
    ) -> usize {
        self.stop(room, &format!("interrupted by {by}"), |job| {
            llm.is_none_or(|id| *id == job.llm_id) && message.is_none_or(|id| id == job.message_id)
        })
    }

    fn stop(&self, room: &RoomId, why: &str, which: impl Fn(&Job) -> bool) -> usize {
        let mut table = self.table();
        let Some(runs) = table.rooms.get_mut(room) else {
            return 0;
        };
        let (dropped, waiting): (Vec<Job>, _) = runs.waiting.drain(..).partition(|job| which(job));
        runs.waiting = waiting.into();
        let mut stopped = dropped.len();
        for active in runs.active.iter().filter(|active| which(&active.job)) {
            active.stop.stop(why);
            stopped += 1;
        }
        drop(table);
        dropped.iter().for_each(|job| self.turn_over(job));
        stopped
    }

    /// How many answers are running or waiting.
    pub fn run_count(&self) -> usize {
        self.table().rooms.values().map(|runs| runs.active.len() + runs.waiting.len()).sum()
    }

    /// Starts no more runs, lets those that run go on for `grace`, then ends them as interrupted. Returns when every
    /// run has ended.
    pub async fn drain(&self, grace: Duration) {
        {
            let mut table = self.table();
            table.draining = true;
            for runs in table.rooms.values_mut() {
                runs.waiting.clear();
            }
        }
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            for runs in self.table().rooms.values() {
                for active in &runs.active {
                    active.stop.stop("the server is going away");
                }
            }
            self.0.tasks.wait().await;
        }
    }

    /// Starts a run, or lets it wait, or refuses it.
    fn ask(&self, job: Job) {
        let mut table = self.table();
        if table.draining {
            return;
        }
        let runs = table.rooms.entry(job.room.clone()).or_default();
        if runs.active.len() < self.0.limits.runs_per_room {
            self.spawn(runs, job);
        } else if runs.waiting.len() < self.0.limits.queue_per_room {
            runs.waiting.push_back(job);
        } else {
            drop(table);
            let max = self.0.limits.queue_per_room;
            self.0.refuse(&job, &too_many(format!("{max} answers are waiting in this room already")));
            self.turn_over(&job);
        }
    }

    fn spawn(&self, runs: &mut RoomRuns, job: Job) {
        let stop = Stop::default();
        runs.active.push(Active { job: job.clone(), stop: stop.clone() });
        let dispatcher = self.clone();
        self.0.tasks.spawn(async move {
            run::run(&dispatcher.0, job.clone(), stop).await;
            dispatcher.finished(&job.room, job.message_id);
            dispatcher.turn_over(&job);
        });
    }

    /// Forgets a run and starts the next one of its room.
    fn finished(&self, room: &RoomId, message_id: MessageId) {
        let mut table = self.table();
        let Some(runs) = table.rooms.get_mut(room) else {
            return;
        };
        runs.active.retain(|active| active.job.message_id != message_id);
        while runs.active.len() < self.0.limits.runs_per_room {
            let Some(job) = runs.waiting.pop_front() else {
                break;
            };
            self.spawn(runs, job);
        }
        if runs.active.is_empty() {
            table.rooms.remove(room);
        }
    }

    fn mentioned(&self, room: &Room, message: &Message, events: &[Recorded]) {
        // Half an answer calls nobody.
        if message.mentions.is_empty() || message.partial {
            return;
        }
        let chain_depth = if message.from_run { message.chain_depth + 1 } else { 0 };
        let asked_by = match &message.author {
            Author::User(user) => Some(user.clone()),
            Author::Llm(_) => events.iter().find_map(|recorded| match &recorded.event {
                Event::RunEnded { run, .. } if run.message_id == message.id => run.asked_by.clone(),
                _ => None,
            }),
        };
        let jobs = message.mentions.iter().map(|llm_id| Job {
            chain_depth,
            asked_by: asked_by.clone(),
            ..Job::new(room, llm_id.clone(), message.id)
        });
        let max = self.0.limits.chain_depth;
        for job in jobs {
            if chain_depth > max {
                self.0.refuse(&job, &too_many(format!("LLMs may ask one another {max} times in a row")));
            } else {
                self.ask(job);
            }
        }
    }
}

impl AfterCommit for LlmDispatcher {
    fn committed(&self, room: &Room, events: &[Recorded]) {
        for recorded in events {
            match &recorded.event {
                Event::MessagePosted(message) => self.mentioned(room, message, events),
                Event::PollCreated(poll) => {
                    for llm in &room.llms {
                        self.ask(Job {
                            poll_id: Some(poll.id),
                            asked_by: poll.creator.user().cloned(),
                            ..Job::new(room, llm.id.clone(), poll.message_id)
                        });
                    }
                }
                Event::PollClosed { poll, .. } => {
                    self.stop(&room.id, "the poll was closed", |job| job.poll_id == Some(poll.id));
                }
                Event::LlmRemoved(id) => {
                    self.stop(&room.id, "the LLM was removed from the room", |job| job.llm_id == *id);
                }
                Event::ApprovalDecided { id, decided, .. } => self.0.toolbox.approvals.decided(*id, *decided),
                Event::RoomEnded { .. } => {
                    self.stop(&room.id, "the room ended", |_| true);
                }
                Event::RoomCreated(_)
                | Event::RoomActivated
                | Event::MessageSuperseded { .. }
                | Event::RegenerateRequested { .. }
                | Event::VoteAbstained { .. }
                | Event::ApprovalRequested(_)
                | Event::ContextSummarised(_)
                | Event::AutopilotChanged(_)
                | Event::RoomUpdated(_)
                | Event::MemberChanged { .. }
                | Event::MessageEdited { .. }
                | Event::MessageDeleted { .. }
                | Event::ReactionChanged { .. }
                | Event::LlmAdded(_)
                | Event::LlmUpdated(_)
                | Event::PollVoted(_)
                | Event::VoteRetracted { .. }
                | Event::RunStarted(_)
                | Event::RunEnded { .. } => {}
            }
        }
        self.drive(room);
    }
}
