//! When the messages of a paced load are due, and saying each of them then.
//!
//! The times are fixed before it begins. Whoever falls behind says what is due at once when he is back: no message is
//! left out, and none is early.

use std::{rc::Rc, time::Duration};

use super::{
    clock::{Alarm, nanos},
    load::Load,
    world::Shared,
};

/// The pacer wakes no more often than this: more would cost the generator more than it gains.
const TICK_MIN: Duration = Duration::from_micros(50);

/// Says each message when it is due, or as soon as possible after it, until `to`.
pub(super) async fn pace<S: Load>(world: Shared<S>, mut alarm: Alarm, from: u64, to: u64, rate: f64) {
    let ticks = world.borrow().ticks;
    let mut sent = 0_u64;
    loop {
        let now = ticks.now();
        let next = world.borrow_mut().say(|script, say| {
            loop {
                let due = from.saturating_add(due(sent, rate));
                if due >= to || due > now {
                    return due;
                }
                script.talk().send(due, now, say);
                sent += 1;
            }
        });
        if next >= to {
            return;
        }
        let at = wake_at(next, now);
        if alarm.after(Duration::from_nanos(at.saturating_sub(ticks.now()))).await.is_err() {
            ticks.until(at).await;
        }
    }
}

/// The same in a task of its own; `Ok` or `Err`, what is returned ends when it has.
pub(super) fn begin<S: Load>(
    world: &Shared<S>,
    tasks: &super::load::Tasks,
    alarm: Alarm,
    [from, to]: [u64; 2],
    rate: f64,
) -> tokio::sync::oneshot::Receiver<()> {
    let (done, over) = tokio::sync::oneshot::channel();
    let world = Rc::clone(world);
    tasks.borrow_mut().spawn_local(async move {
        pace(world, alarm, from, to, rate).await;
        let _ = done.send(());
    });
    over
}

/// When to wake for a message that is due at `next`, after having been awake at `now`.
fn wake_at(next: u64, now: u64) -> u64 {
    next.max(now.saturating_add(nanos(TICK_MIN)))
}

/// When the message with this number is due, in nanoseconds behind the first.
pub(super) fn due(number: u64, rate: f64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "a run has far fewer messages than a float can count")]
    nanos(Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX))
}

/// How many are due before that many nanoseconds have passed.
pub(super) fn due_within(nanos: u64, rate: f64) -> u64 {
    // Each is due no earlier than the one before it.
    let (mut least, mut most) = (0, u64::MAX >> 1);
    while least < most {
        let middle = u64::midpoint(least, most);
        if due(middle, rate) < nanos { least = middle + 1 } else { most = middle }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_fixed_whatever_the_rate() {
        assert_eq!([0, 1, 2].map(|number| due(number, 4.0)), [0, 250_000_000, 500_000_000]);
        assert_eq!((due(0, 1e-20), due(1, 1e-20)), (0, u64::MAX));
        let second = nanos(Duration::from_secs(1));
        for (within, rate, count) in [
            (0, 5.0, 0),
            (1, 5.0, 1),
            (second, 3.0, 3),
            (second, 40.0, 40),
            (second, 0.5, 1),
            (second, 1e7, 10_000_000),
        ] {
            assert_eq!(due_within(within, rate), count, "{rate} in {within}");
        }
    }

    #[test]
    fn the_pacer_wakes_when_the_next_is_due_and_not_too_often() {
        let tick = nanos(TICK_MIN);
        assert_eq!(wake_at(333_333_333, 5), 333_333_333, "no later than it is due");
        assert_eq!(wake_at(10, 5), 5 + tick);
        assert_eq!(wake_at(u64::MAX, 5), u64::MAX);
    }
}
