//! Waiting for the end, in virtual time.

use tokio::time::{Instant, interval};

use super::{
    super::{plan, talk::Speech, world::Outbox},
    *,
};

/// What goes on behind the last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    /// Signs of life, for ever.
    SignsOfLife,
    /// Messages, for ever.
    Messages,
}

/// Nothing of it is ever done.
struct Endless(Talk);

impl Script for Endless {
    fn joined(&mut self, _: usize, _: u64) {}
    fn resumed(&mut self, _: usize, _: u64) {}
    fn heard(&mut self, _: usize, _: &[u8], _: u64, _: &mut Outbox) {}
    fn ended(&mut self, _: usize, _: &str) {}
}

impl Load for Endless {
    fn talk(&mut self) -> &mut Talk {
        &mut self.0
    }

    fn is_done(&self) -> bool {
        false
    }
}

/// Whether it was over, and how long it was waited.
async fn drained(goes: Goes, longest: Duration) -> (bool, Duration) {
    let plan = plan::tests::plan(&["--rate", "5"]);
    let talk = Talk::new(&plan, Speech::Acknowledged, &[]);
    let world = Rc::new(RefCell::new(World::new(Endless(talk), Ticks::new(), 2, 1)));
    let began = Instant::now();
    let goes_on = async {
        let mut every = interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            let world = &mut *world.borrow_mut();
            match goes {
                Goes::SignsOfLife => world.arrived += 1,
                Goes::Messages => world.script.talk().arrivals += 1,
            }
        }
    };
    let is_over = tokio::select! {
        is_over = drain(&world, longest) => is_over,
        () = goes_on => unreachable!("it goes on for ever"),
    };
    (is_over, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_are_not_waited_for() {
    let (is_over, waited) = drained(Goes::SignsOfLife, Duration::from_secs(60)).await;
    assert!(is_over && waited >= QUIET && waited < QUIET * 2, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_on_and_on_is_left() {
    let longest = Duration::from_secs(60);
    let (is_over, waited) = drained(Goes::Messages, longest).await;
    assert!(!is_over && waited >= longest && waited < longest + QUIET, "{waited:?}");
}
