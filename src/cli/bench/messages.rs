//! `salon bench messages`: messages to everybody in their rooms, paced or as many as the server takes.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use super::{
    Error,
    args::Contract,
    clock::{Metronome, Ticks, nanos},
    crew::{self, Crew},
    dial::Wire,
    plan::{Pace, Plan},
    process::{Process, Used},
    progress::Progress,
    report::{Measured, Report},
    talk::Talk,
    world::{Shared, World},
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

/// Runs the load.
pub(super) async fn run(plan: &Plan, progress: &Progress) -> Result<Report, Error> {
    let crew = Crew::prepare(plan, &[], progress).await?;
    let has_acks = plan.contract == Contract::Salon && crew.dial.wire != Wire::Nats;
    let ticks = Ticks::new();
    let talk = Talk::new(plan, has_acks, crew.dial.wire == Wire::Nats);
    let world = Rc::new(RefCell::new(World::new(talk, ticks, plan.sessions(), plan.per_connection)));
    let tasks = RefCell::new(JoinSet::new());
    let empty = crew.used();
    crew.open_all(plan, &world, &tasks, progress).await?;
    crew::settle(&world).await;
    let full = crew.used();

    let from = ticks.now() + nanos(plan.warm_up);
    let to = from + nanos(plan.duration);
    world.borrow_mut().script.measure(from, to);
    match plan.pace {
        Pace::Rate(rate) => {
            let own = Rc::clone(&world);
            let metronome = Metronome::new(Duration::from_secs_f64(1.0 / rate).clamp(TICK_MIN, TICK_MAX))
                .map_err(|error| Error::Machine(format!("no timer for the pace: {error}")))?;
            tasks.borrow_mut().spawn_local(pace(own, metronome, ticks.now(), to, rate));
        }
        Pace::InFlight(window) => world.borrow_mut().say(|talk, say| {
            for _ in 0..window {
                let now = ticks.now();
                talk.send(now, now, say);
            }
        }),
    }
    progress.measuring(plan.warm_up + plan.duration);
    let began = sample(&world, from, crew.process.as_ref(), progress).await;
    let ended = sample(&world, to, crew.process.as_ref(), progress).await;
    world.borrow_mut().script.stop();
    progress.finishing();
    drain(&world).await;
    tasks.borrow_mut().abort_all();

    let world = world.borrow();
    Ok(Report::messages(plan, &crew, &world.script, Measured { began, ended, empty, full }, has_acks))
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

async fn sample(world: &Shared<Talk>, at: u64, process: Option<&Process>, progress: &Progress) -> Moment {
    let ticks = world.borrow().ticks;
    while ticks.now() < at {
        ticks.until(at.min(ticks.now() + nanos(TELL))).await;
        let arrivals = world.borrow().script.arrivals;
        progress.passed(TELL, || format!("{arrivals} deliveries"));
    }
    let used = process.and_then(Process::used);
    Moment { at: ticks.now(), arrivals: world.borrow().script.arrivals, used }
}

/// Says each message when it is due, or as soon as possible after it, until `to`.
async fn pace(world: Shared<Talk>, mut metronome: Metronome, from: u64, to: u64, rate: f64) {
    let ticks = world.borrow().ticks;
    let mut sent = 0_u64;
    while metronome.tick().await.is_ok() {
        let now = ticks.now();
        let mut world = world.borrow_mut();
        let mut is_over = false;
        world.say(|talk, say| {
            loop {
                let due = from.saturating_add(due(sent, rate));
                is_over = due >= to;
                if is_over || due > now {
                    return;
                }
                talk.send(due, now, say);
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
async fn drain(world: &Shared<Talk>) {
    let mut arrived = world.borrow().arrived;
    while !world.borrow().script.is_done() {
        let done = timeout(QUIET, async {
            while !world.borrow().script.is_done() && world.borrow().arrived == arrived {
                tokio::time::sleep(LOOK).await;
            }
        });
        if done.await.is_err() {
            return;
        }
        arrived = world.borrow().arrived;
    }
}
