//! Running a load of messages: opening it, keeping its pace, looking at the server meanwhile, and waiting for the end.
//!
//! The times of a paced load are fixed before it begins. A generator that falls behind says so in the report; it never
//! leaves a message out, and never sends one early.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use super::{
    Error,
    clock::{Metronome, Ticks, nanos},
    crew::{self, Crew},
    plan::{Pace, Plan},
    process::{Process, Used},
    progress::Progress,
    talk::Talk,
    world::{Script, Shared, World},
};

/// The pacer wakes no more often than this: more would cost the generator more than it gains.
const TICK_MIN: Duration = Duration::from_micros(50);
/// And no less often, so that it also notices its end.
const TICK_MAX: Duration = Duration::from_millis(100);
/// Behind the last message nothing comes any more when so long nothing has come.
const QUIET: Duration = Duration::from_secs(3);
/// How often somebody who watches is told how it goes.
const TELL: Duration = Duration::from_millis(200);
/// How often it is looked whether all has come.
const LOOK: Duration = Duration::from_millis(10);

/// A scenario in which messages flow.
pub(super) trait Load: Script + 'static {
    /// The messages.
    fn talk(&mut self) -> &mut Talk;
    /// Whether all that was set off has come to its end.
    fn is_done(&self) -> bool;
}

impl Load for Talk {
    fn talk(&mut self) -> &mut Talk {
        self
    }

    fn is_done(&self) -> bool {
        self.is_delivered()
    }
}

/// A moment: when it was, how much had come, and what the server had used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// When, by the generator's clock.
    pub at: u64,
    /// Deliveries until then.
    pub arrivals: u64,
    /// What the server had used.
    pub used: Option<Used>,
}

/// What was looked at around the load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// When measuring began.
    pub began: Moment,
    /// When it ended.
    pub ended: Moment,
    /// Before any session was open.
    pub empty: Option<Used>,
    /// When all had joined.
    pub full: Option<Used>,
}

/// The tasks of a run; dropped, they end.
pub(super) type Tasks = Rc<RefCell<JoinSet<()>>>;

/// Sessions that have joined, and nothing that moves.
pub(super) struct Ready<S> {
    /// The sessions.
    pub world: Shared<S>,
    /// Who reads and writes for them.
    pub tasks: Tasks,
    /// What the server had used before.
    pub empty: Option<Used>,
    /// And now.
    pub full: Option<Used>,
}

/// Opens all sessions.
pub(super) async fn open<S: Script + 'static>(
    plan: &Plan,
    crew: &Crew,
    script: S,
    progress: &Progress,
) -> Result<Ready<S>, Error> {
    let world = World::new(script, Ticks::new(), plan.sessions(), plan.per_connection);
    let world = Rc::new(RefCell::new(world));
    let tasks = Tasks::default();
    let empty = crew.used();
    crew.open_all(plan, &world, &tasks, progress).await?;
    crew::settle(&world).await;
    Ok(Ready { world, tasks, empty, full: crew.used() })
}

/// Runs the load on them to its end. What is in `beside` runs as long as it is measured.
pub(super) async fn run<S: Load>(
    plan: &Plan,
    crew: &Crew,
    ready: &Ready<S>,
    progress: &Progress,
    beside: impl Future<Output = Result<(), Error>>,
) -> Result<Measured, Error> {
    let Ready { world, tasks, empty, full } = ready;
    let ticks = world.borrow().ticks;
    let begin = ticks.now();
    let from = begin + nanos(plan.warm_up);
    let to = from + nanos(plan.duration);
    world.borrow_mut().script.talk().measure(from, to);
    match plan.pace {
        Pace::Rate(rate) => {
            let metronome = Metronome::new(Duration::from_secs_f64(1.0 / rate).clamp(TICK_MIN, TICK_MAX))
                .map_err(|error| Error::Machine(format!("no timer for the pace: {error}")))?;
            tasks.borrow_mut().spawn_local(pace(Rc::clone(world), metronome, begin, to, rate));
        }
        Pace::InFlight(window) => world.borrow_mut().say(|script, say| {
            for _ in 0..window {
                let now = ticks.now();
                script.talk().send(now, now, say);
            }
        }),
    }
    progress.measuring(plan.warm_up + plan.duration);
    let process = crew.process.as_ref();
    let measured = async {
        let began = sample(world, from, process, progress).await;
        let ended = sample(world, to, process, progress).await;
        Ok(Measured { began, ended, empty: *empty, full: *full })
    };
    let (measured, ()) = futures_util::future::try_join(measured, beside).await?;
    world.borrow_mut().script.talk().stop();
    progress.finishing();
    drain(world).await;
    Ok(measured)
}

async fn sample<S: Load>(
    world: &Shared<S>,
    at: u64,
    process: Option<&Process>,
    progress: &Progress,
) -> Moment {
    let ticks = world.borrow().ticks;
    while ticks.now() < at {
        ticks.until(at.min(ticks.now() + nanos(TELL))).await;
        let arrivals = world.borrow_mut().script.talk().arrivals;
        progress.passed(TELL, || format!("{arrivals} deliveries"));
    }
    let used = process.and_then(Process::used);
    Moment { at: ticks.now(), arrivals: world.borrow_mut().script.talk().arrivals, used }
}

/// Says each message when it is due, or as soon as possible after it, until `to`.
async fn pace<S: Load>(world: Shared<S>, mut metronome: Metronome, from: u64, to: u64, rate: f64) {
    let ticks = world.borrow().ticks;
    let mut sent = 0_u64;
    while metronome.tick().await.is_ok() {
        let now = ticks.now();
        let mut is_over = false;
        world.borrow_mut().say(|script, say| {
            loop {
                let due = from.saturating_add(due(sent, rate));
                is_over = due >= to;
                if is_over || due > now {
                    return;
                }
                script.talk().send(due, now, say);
                sent += 1;
            }
        });
        if is_over {
            return;
        }
    }
}

/// When the message with this number is due, in nanoseconds behind the first.
fn due(number: u64, rate: f64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "a run has far fewer messages than a float can count")]
    nanos(Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX))
}

/// Waits until everything has come, or nothing comes any more.
async fn drain<S: Load>(world: &Shared<S>) {
    let is_done = || world.borrow().script.is_done();
    let mut arrived = world.borrow().arrived;
    while !is_done() {
        let more = async {
            while !is_done() && world.borrow().arrived == arrived {
                tokio::time::sleep(LOOK).await;
            }
        };
        if timeout(QUIET, more).await.is_err() {
            return;
        }
        arrived = world.borrow().arrived;
    }
}
