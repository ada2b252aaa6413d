//! `LlmDispatcher`: mentions and polls become runs, and every run ends exactly once.
//!
//! A run belongs to the room, not to the stream of whoever asked. The dispatcher is told what this node has
//! committed; it starts runs, keeps them apart by room, and can stop them. What other nodes have committed ends runs,
//! and starts none (`elsewhere`). When a provider fails the run says so; when the process dies, what was open is closed
//! by another server of the store, or by the next start.

mod answer;
mod asks;
mod autopilot;
mod context;
mod converse;
mod doubts;
mod elsewhere;
mod ended;
pub mod generate;
mod inner;
mod job;
mod limits;
mod line;
mod listen;
mod look;
mod model;
mod past;
mod pause;
mod plain;
mod receipt;
mod run;
mod schedule;
mod spend;
mod summaries;
mod summarise;
mod toolbox;
mod tools;
mod turns;
mod unasked;
mod vote;
mod whole;

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    allowance::{Allowances, payer::Payer, rate::What},
    budget::Budgets,
    dispatch::{
        doubts::Doubts, inner::Inner, model::Model, summaries::Summaries, toolbox::Toolbox, turns::Autopilots,
    },
    domain::{
        event::{Event, Recorded},
        message::Message,
        rejection::{Code, Rejection},
        room::Room,
    },
    ids::{MessageId, RoomId, UserId},
    llm::{route::Router, tokens::Tokenizer},
    mcp::Servers,
    rooms::{AfterCommit, Rooms, Used},
    wire::transient::Receipt,
};

use asks::Wish;
use job::Job;
use schedule::{Schedule, Slots, Stopped};

pub use inner::LlmDispatcher;
pub use limits::{DispatchLimits, SummarySettings};

/// Why answers end where only the latest question of a person counts.
const NEWER: &str = "a newer question came";

/// There is a limit on how many answers there may be.
fn too_many(why: String) -> Rejection {
    Rejection::new(Code::ResourceExhausted, why)
}

impl LlmDispatcher {
    /// A dispatcher that is told what `rooms` commits; its LLMs may call tools of `servers` and spend what
    /// `budgets` admit, its runs are tracked by `tasks`.
    pub fn start(
        rooms: &Rooms,
        router: Arc<Router>,
        servers: Servers,
        budgets: Budgets,
        limits: DispatchLimits,
        allowances: Allowances,
        tasks: TaskTracker,
    ) -> Self {
        let slots = Slots {
            per_room: limits.runs_per_room,
            queue_per_room: limits.queue_per_room,
            per_node: limits.runs_per_node,
        };
        let schedule = Mutex::new(Schedule::new(slots));
        let (draining, leaving) = (AtomicBool::new(false), CancellationToken::new());
        let toolbox = Toolbox { servers, ..Toolbox::default() };
        let inner = Inner {
            rooms: rooms.clone(),
            router,
            budgets,
            limits,
            allowances,
            toolbox,
            autopilots: Autopilots::default(),
            summaries: Summaries::default(),
            schedule,
            doubts: Doubts::default(),
            draining,
            leaving,
            tasks,
        };
        let dispatcher = Self(Arc::new(inner));
        dispatcher.read_vocabulary();
        rooms.observe(Arc::new(dispatcher.clone()));
        rooms.registry().interrupts(Arc::new(dispatcher.clone()));
        dispatcher
    }

    /// Reads the vocabulary of the model that most are asked of now, and not when the first question waits for it.
    fn read_vocabulary(&self) {
        let tokenizer = Model::of(&self.0.router, "", &[], 0).tokenizer;
        if tokenizer != Tokenizer::Estimate {
            self.0.tasks.spawn_blocking(move || tokenizer.count(""));
        }
    }

    fn stop(&self, room: &RoomId, why: &Rejection, which: impl Fn(&Job) -> bool) {
        let stopped = self.schedule().stop(room, why, which);
        self.gone(&stopped, why);
    }

    /// Tells of jobs that were stopped before they began.
    fn gone(&self, stopped: &Stopped, why: &Rejection) {
        // Who waited behind those that are gone may be next.
        self.begin();
        stopped.forgone.iter().for_each(|job| self.unasked(job, why));
        for job in &stopped.dropped {
            self.unasked(job, why);
            self.turn_over(job);
        }
    }

    /// Ends what is being written here: this server was out of reach for so long that others are closing it. Whoever
    /// is first records the end.
    pub fn give_up(&self) {
        let why = unasked::unwanted("the server was out of reach");
        let forgone = self.schedule().stop_all(&why);
        forgone.iter().for_each(|job| self.unasked(job, &why));
    }

    /// How many answers are running or waiting.
    pub fn run_count(&self) -> usize {
        self.schedule().count()
    }

    /// Starts no more runs, lets those that run go on for `grace`, then ends them as interrupted. Returns when every
    /// run has ended.
    pub async fn drain(&self, grace: Duration) {
        let why = unasked::going_away();
        let dropped = {
            let mut schedule = self.schedule();
            self.0.draining.store(true, Ordering::SeqCst);
            schedule.clear_waiting()
        };
        dropped.iter().for_each(|job| self.unasked(job, &why));
        self.0.summaries.stop();
        self.0.leaving.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            let forgone = self.schedule().stop_all(&why);
            forgone.iter().for_each(|job| self.unasked(job, &why));
            self.0.tasks.wait().await;
        }
    }

    /// Lets a job wait for its turn, or refuses it.
    fn ask(&self, job: &Job) {
        let max = self.0.limits.chain_depth;
        if job.chain_depth > max {
            let why = too_many(format!("LLMs may ask one another {max} times in a row"));
            return receipt::refuse(&self.0, job, &why);
        }
        if let Err(why) = self.admit(job) {
            receipt::refuse(&self.0, job, &why);
            self.abstain(job, &why);
            return self.turn_over(job);
        }
        {
            let mut schedule = self.schedule();
            if self.0.draining.load(Ordering::SeqCst) {
                drop(schedule);
                return self.unasked(job, &unasked::going_away());
            }
            // Told before the lock is let go: the run must not be told of before its question.
            receipt::tell(&self.0, job, Receipt::Logged);
            match schedule.ask(job.clone()) {
                Ok(waiting) => receipt::tell(&self.0, job, Receipt::Delivered { waiting }),
                Err(full) => {
                    drop(schedule);
                    let why = too_many(format!("{full} answers are waiting in this room already"));
                    receipt::refuse(&self.0, job, &why);
                    self.abstain(job, &why);
                    return self.turn_over(job);
                }
            }
        }
        self.begin();
    }

    /// Whether whoever asks may ask for one more answer: it counts for them, and for the namespace. Their credential and
    /// their address are not known here, where a message may also have come from another answer.
    fn admit(&self, job: &Job) -> Result<(), Rejection> {
        let (allowances, namespace) = (&self.0.allowances, job.room.namespace());
        if allowances.quotas(&namespace).runs.is_some() {
            allowances.check_runs(&namespace, self.schedule().count_in(&namespace))?;
        }
        let asker = allowances.of(&Payer::user(namespace, job.asked_by.clone()));
        asker.check_space().and_then(|()| asker.take(What::LlmCalls))
    }

    /// Starts what may begin.
    fn begin(&self) {
        loop {
            let next = self.schedule().next();
            let Some((job, stop)) = next else {
                return;
            };
            let dispatcher = self.clone();
            self.0.tasks.spawn(async move {
                let message_id = job.message_id;
                // Whatever happens, its slot is given back.
                let running = run::run(&dispatcher.0, job.clone(), stop.clone());
                let ran = AssertUnwindSafe(running).catch_unwind().await;
                let again = dispatcher.schedule().finished(&job.room, message_id);
                dispatcher.begin();
                // Who is asked again is still asked.
                if let (Ok(Err(why)), None) = (&ran, &again) {
                    match stop.refusal() {
                        Some(stopped) => dispatcher.unasked(&job, &stopped),
                        None => dispatcher.not_begun(&job, why),
                    }
                }
                dispatcher.turn_over(&job);
                if let Some(again) = again {
                    dispatcher.ask_again(message_id, again).await;
                }
            });
        }
    }

    /// Asks again for an answer that was stopped: in the place of what it had said, if it had.
    async fn ask_again(&self, stopped: MessageId, again: Job) {
        // A fragment of another answer has given way to the whole one that was there before.
        let said = self.0.rooms.read(&again.room, move |room, _| {
            room.recent_message(stopped).map(|said| said.superseded_by.unwrap_or(said.id))
        });
        let replaces = said.await.ok().flatten().or(again.replaces);
        self.ask(&Job { replaces, ..again });
    }

    /// A person has asked something newer: answers to what was asked before are not wanted any more.
    fn newer(&self, room: &RoomId, question: MessageId) {
        self.stop(room, &unasked::unwanted(NEWER), |job| job.is_question() && job.root != question);
    }

    /// Another answer in the place of one, which may be older than what the room has in memory.
    fn replace(&self, room: &Room, old: MessageId, by: UserId, model: String) {
        if let Some(old) = room.recent_message(old) {
            return asks::replacement(room, old, Some(by), model).iter().for_each(|job| self.ask(job));
        }
        self.look_up(room.id.clone(), old, Some(by.clone()), move |dispatcher, room, old| {
            asks::replacement(room, old, Some(by), model).iter().for_each(|job| dispatcher.ask(job));
        });
    }

    /// The answers to an edited message anew.
    fn redo(&self, room: &Room, question: MessageId) {
        match room.recent_message(question) {
            Some(question) => self.redo_answers(room, question),
            None => self.look_up(room.id.clone(), question, None, |dispatcher, room, question| {
                dispatcher.redo_answers(room, question);
            }),
        }
    }

    fn redo_answers(&self, room: &Room, question: &Message) {
        let again = |old: &Job| Job {
            chain_depth: old.chain_depth,
            replaces: old.replaces,
            asked_by: question.author.user().cloned(),
            model: old.model.clone(),
            at_question: true,
            ..Job::new(room, old.llm_id.clone(), question.id)
        };
        let edited = unasked::unwanted("the question was edited");
        let mut asked = self.schedule().again(&room.id, question.id, &edited, again);
        asked.extend(self.ask_behind_others(room, question));
        asks::redo(room, question, &asked).iter().for_each(|job| self.ask(job));
    }

    /// Reads a message that has left the room's memory, and goes on with it between two commands of the room.
    fn look_up(
        &self,
        room: RoomId,
        message: MessageId,
        by: Option<UserId>,
        then: impl FnOnce(&Self, &Room, &Message) + Send + 'static,
    ) {
        let (dispatcher, teller) = (self.clone(), self.clone());
        self.0.tasks.spawn(async move {
            let rooms = dispatcher.0.rooms.clone();
            let found = match rooms.message(&room, message).await {
                Ok(Some(found)) => rooms.read(&room, move |room, _| then(&dispatcher, room, &found)).await,
                Ok(None) => Err(Rejection::not_found("message", message)),
                Err(rejection) => Err(rejection),
            };
            if let Err(rejection) = found {
                tracing::warn!(%room, %message, %rejection, "an answer could not be asked for again");
                let why = Rejection {
                    message: format!("{message} was not answered anew: {rejection}"),
                    ..rejection
                };
                receipt::tell_of(&teller.0, &room, by.as_ref(), &why);
            }
        });
    }
}

impl LlmDispatcher {
    /// Does what follows from a commit of this node, or what ends by one of another.
    fn grant(&self, room: &Room, wish: Wish) {
        match wish {
            Wish::Ask(job) => self.ask(&job),
            Wish::Overtaken(job) => self.unasked(&job, &unasked::unwanted(NEWER)),
            Wish::Newer(question) => self.newer(&room.id, question),
            Wish::Replace(old, by, model) => self.replace(room, old, by, model),
            Wish::Redo(question) => self.redo(room, question),
            Wish::Decided(id, decided, reason) => self.0.toolbox.approvals.decided(id, decided, reason),
            Wish::Ended(run) => self.has_ended(&room.id, run),
            Wish::Stop(which, code, why) => {
                self.stop(&room.id, &Rejection::new(code, why), |job| which.matches(job));
            }
        }
    }
}

impl AfterCommit for LlmDispatcher {
    fn committed(&self, room: &Room, events: &[Recorded]) {
        asks::of(room, events).into_iter().for_each(|wish| self.grant(room, wish));
        if events.iter().any(|recorded| matches!(recorded.event, Event::AutopilotChanged(_))) {
            self.0.autopilots.set_here(&room.id);
        }
        self.end_late(room, events);
        self.drive(room);
    }

    fn followed(&self, room: &Room, events: &[Recorded]) {
        self.follow(room, events);
    }

    fn concerns(&self, room: &RoomId) -> bool {
        self.schedule().knows(room) || self.0.autopilots.asked().contains_key(room)
    }

    fn used(&self, room: &RoomId, answer: MessageId) -> Option<Used> {
        self.schedule().used(room, answer)
    }

    fn loaded(&self, room: &Room) {
        // Before that, what a crash has left is not counted yet: `resume` looks at the room.
        if self.0.autopilots.is_ready() {
            // Whoever has moved it on so far is another node, if there are others.
            if self.0.rooms.store().is_shared() {
                self.0.autopilots.set_elsewhere(room);
            }
            self.ask_owed(room);
        }
    }
}
