//! Running a load of messages: opening it, keeping its pace, looking at the server meanwhile, and waiting for the end.
//!
//! What is under way at the end is waited for as long as any of it comes, but not for ever: a server that goes on and on
//! is left, and what has not come by then is lost.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use super::{
    Error,
    clock::{Alarm, Ticks, nanos},
    crew::{self, Crew},
    pace,
    plan::{Pace, Plan},
    process::{self, Process, Used},
    progress::Progress,
    talk::Talk,
    world::{Script, Shared, World},
};

/// Behind the last message nothing comes any more when so long nothing has come.
const QUIET: Duration = Duration::from_secs(3);
/// However much comes behind it, no longer than this and as long as the load has run is waited for it.
const DRAIN_MAX: Duration = Duration::from_secs(30);
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
    /// Deliveries of messages until then.
    pub arrivals: u64,
    /// Deliveries of parts of answers.
    pub parts: u64,
    /// What the server had used.
    pub used: Option<Used>,
    /// What the generator had used of its processor.
    pub own: Duration,
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
    /// For how long it was waited for what was under way at the end, if that was still coming then.
    pub given_up: Option<Duration>,
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
    let mut paced = None;
    match plan.pace {
        Pace::Rate(rate) => {
            let alarm =
                Alarm::new().map_err(|error| Error::Machine(format!("no timer for the pace: {error}")))?;
            paced = Some(pace::begin(world, tasks, alarm, [begin, to], rate));
        }
        Pace::Silent => {}
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
        Ok(Measured { began, ended, empty: *empty, full: *full, given_up: None })
    };
    let (mut measured, ()) = futures_util::future::try_join(measured, beside).await?;
    world.borrow_mut().script.talk().stop();
    progress.finishing();
    // A pacer that was held up still has something to say.
    let longest = DRAIN_MAX + plan.warm_up + plan.duration;
    if let Some(over) = paced {
        let _ = timeout(longest, over).await;
    }
    measured.given_up = (!drain(world, longest).await).then_some(longest);
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
    let own = process::own();
    let mut world = world.borrow_mut();
    let talk = world.script.talk();
    Moment { at: ticks.now(), arrivals: talk.arrivals, parts: talk.parts, used, own }
}

/// Waits until everything has come, or nothing comes any more. False: it was still coming after `longest`.
async fn drain<S: Load>(world: &Shared<S>, longest: Duration) -> bool {
    let come = || world.borrow_mut().script.talk().come();
    let is_done = || world.borrow().script.is_done();
    let quiet = async {
        let mut before = come();
        while !is_done() {
            // Signs of life are not what is waited for.
            let more = async {
                while !is_done() && come() == before {
                    tokio::time::sleep(LOOK).await;
                }
            };
            if timeout(QUIET, more).await.is_err() {
                return;
            }
            before = come();
        }
    };
    timeout(longest, quiet).await.is_ok()
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
