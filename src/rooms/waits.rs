//! How long a room's work has waited: for its store, and then for its turn. What that makes late is not taken for the fault
//! of a busy server.

use std::{future::poll_fn, pin::Pin, task::Context, time::Duration};

use tokio::time::Instant;

/// As many waits are told apart: beyond that the last is taken to go on.
const KEPT: usize = 8;

/// When the work of a room waited, as far back as it is asked for.
#[derive(Debug, Default)]
pub(super) struct Waits(Vec<(Instant, Instant)>);

impl Waits {
    /// Does this, and notes whenever it waits.
    pub(super) async fn of<F: Future>(&mut self, mut work: Pin<Box<F>>) -> F::Output {
        let mut since = None;
        poll_fn(|context: &mut Context<'_>| {
            self.end(since.take());
            let polled = work.as_mut().poll(context);
            if polled.is_pending() {
                since = Some(Instant::now());
            }
            polled
        })
        .await
    }

    fn end(&mut self, since: Option<Instant>) {
        let Some(since) = since else { return };
        let now = Instant::now();
        match self.0.get_mut(KEPT - 1) {
            Some(last) => last.1 = now,
            None => self.0.push((since, now)),
        }
    }

    /// How long it waited from then on. What was before is forgotten.
    pub(super) fn since(&mut self, from: Instant) -> Duration {
        self.0.retain(|(_, end)| *end > from);
        self.0.iter().map(|(begin, end)| end.saturating_duration_since((*begin).max(from))).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_counted_from_then_on_and_what_works_is_not() {
        let mut waits = Waits::default();
        let millis = Duration::from_millis;
        let begun = Instant::now();
        let work = async {
            sleep(millis(10)).await;
            // Whoever works does not give the thread away meanwhile.
            let mut work = pin!(advance(millis(100)));
            futures_util::FutureExt::now_or_never(&mut work);
            sleep(millis(20)).await;
        };
        waits.of(Box::pin(work)).await;
        assert_eq!(waits.since(begun), millis(30));
        assert_eq!(waits.since(begun + millis(4)), millis(26));
        assert_eq!(waits.since(Instant::now()), Duration::ZERO);
        assert_eq!(waits.since(begun), Duration::ZERO, "it was forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn it_takes_no_more_room_the_more_it_waits() {
        let mut waits = Waits::default();
        let begun = Instant::now();
        for _ in 0..100 {
            waits.of(Box::pin(sleep(Duration::from_millis(1)))).await;
        }
        assert_eq!((waits.0.len(), waits.since(begun)), (KEPT, begun.elapsed()));
    }
}
