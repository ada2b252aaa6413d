//! No order of requests, ends, cancellations, faults, crashes and jumps of the clock gets past a limit, loses anything
//! or counts anything twice.
//!
//! After each step the ledger is compared with a model that was written a second time. Steps begin only when the one
//! before has come to rest, but for those that race on purpose.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use proptest::{prelude::*, test_runner::TestRunner};
use salon::{
    budget::{Cost, Hold, Refused},
    clock::{Clock as _, Timestamp},
    store::{
        Store,
        ledger::{Account, Balance},
    },
};

use super::{
    MIDNIGHT, Process, SetClock,
    model::{self, Answer, Call, Model},
    until_open,
};
use crate::{
    domain_properties,
    harness::gate::{Fault, GatedStore},
};

/// How far the clock may go back: less than accounts are kept.
const BACK_MS: i64 = 60 * 60 * 1000;

/// Who asks for how much.
#[derive(Debug, Clone)]
struct Ask {
    user: u8,
    room: u8,
    worst: Cost,
}

#[derive(Debug, Clone)]
enum Step {
    Ask(Ask),
    /// All at once.
    Crowd(Ask, u8),
    /// Given up after so many polls.
    GiveUpAsking(Ask, u8),
    /// With these percent of what was reserved, and given up after so many polls if any.
    Settle(u8, u8, Option<u8>),
    Drop(u8),
    Crash,
    Restart,
    Forward(u32),
    Back(u16),
    /// The next change fails.
    Fault(bool),
}

fn ask() -> impl Strategy<Value = Ask> {
    let micros =
        prop_oneof![1 => Just(None), 12 => (1..40_u64).prop_map(Some), 1 => (60..200_u64).prop_map(Some)];
    let tokens = prop_oneof![12 => 1..40_u64, 1 => 50..250_u64];
    (0..4_u8, 0..2_u8, tokens, micros).prop_map(|(user, room, tokens, micros)| Ask {
        user,
        room,
        worst: Cost { tokens, micros },
    })
}

fn step() -> impl Strategy<Value = Step> {
    let percent = prop_oneof![10 => 0..=100_u8, 1 => 101..=200_u8];
    prop_oneof![
        10 => ask().prop_map(Step::Ask),
        2 => (ask(), 2..6_u8).prop_map(|(ask, n)| Step::Crowd(ask, n)),
        2 => (ask(), 1..3_u8).prop_map(|(ask, polls)| Step::GiveUpAsking(ask, polls)),
        6 => (any::<u8>(), percent, prop::option::weighted(0.2, 1..5_u8))
            .prop_map(|(call, percent, polls)| Step::Settle(call, percent, polls)),
        2 => any::<u8>().prop_map(Step::Drop),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
        4 => prop_oneof![6 => 1..90_000_u32, 1 => 3_600_000..100_000_000_u32].prop_map(Step::Forward),
        1 => any::<u16>().prop_map(Step::Back),
        1 => any::<bool>().prop_map(Step::Fault),
    ]
}

struct World {
    gated: Arc<GatedStore>,
    store: Arc<dyn Store>,
    clock: Arc<SetClock>,
    process: Process,
    open: Vec<(Call, Hold)>,
    model: Model,
    latest: Timestamp,
    reached: BTreeMap<String, usize>,
}

impl World {
    fn new() -> Self {
        let gated = Arc::new(GatedStore::new());
        gated.ledger_pauses(true);
        let store: Arc<dyn Store> = Arc::<GatedStore>::clone(&gated);
        let clock = SetClock::new(MIDNIGHT);
        let process = Process::start(&store, &clock, model::limits());
        let (open, model, reached) = (Vec::new(), Model::default(), BTreeMap::new());
        Self { gated, store, clock, process, open, model, latest: MIDNIGHT, reached }
    }

    fn reach(&mut self, name: &str) {
        *self.reached.entry(name.to_owned()).or_default() += 1;
    }

    /// Who asks, as the process and the model are told.
    fn request(
        &self,
        ask: &Ask,
    ) -> (Option<String>, String, impl Future<Output = Result<Hold, Refused>> + use<>) {
        // One in four has no user: an empty name is none.
        let user = (ask.user > 0).then(|| format!("user {}", ask.user));
        let room = format!("room-{}", ask.room);
        let asking = self.process.ask(user.as_deref().unwrap_or_default(), &room, ask.worst);
        (user, room, asking)
    }

    async fn ask(&mut self, ask: &Ask) {
        let (user, room, asking) = self.request(ask);
        let faulty = self.gated.ledger_is_faulty();
        self.answered(ask, user.as_deref(), &room, asking.await, faulty);
    }

    /// Compares an answer with that of the model.
    fn answered(
        &mut self,
        ask: &Ask,
        user: Option<&str>,
        room: &str,
        answer: Result<Hold, Refused>,
        faulty: bool,
    ) {
        if faulty && matches!(answer, Err(Refused::Unavailable)) {
            self.reach("Unavailable");
            return;
        }
        let expected = self.model.ask(user, room, ask.worst, self.clock.now());
        let got = match &answer {
            Ok(_) => Answer::Passes,
            Err(Refused::UsedUp { .. }) => Answer::UsedUp,
            Err(Refused::TooLarge { .. }) => Answer::TooLarge,
            Err(Refused::Unpriced { .. }) => Answer::Unpriced,
            Err(Refused::Unavailable) => panic!("the store works"),
        };
        assert_eq!(got, expected, "{answer:?}");
        self.reach(&format!("{got:?}"));
        if let Ok(hold) = answer {
            self.open.push((self.model.last(), hold));
        }
    }

    /// The same question by many: whoever comes first, the number of those who pass is the same.
    async fn crowd(&mut self, ask: &Ask, count: u8) {
        let requests = (0..count).map(|_| self.request(ask).2).collect::<Vec<_>>();
        let (user, room, _) = self.request(ask);
        // One that fails behind its reservation holds it for a moment, and who comes then is refused.
        self.gated.ledger_fails(None, 0);
        let mut answers = join_all(requests).await;
        answers.sort_by_key(Result::is_err);
        let mixed = answers.first().is_some_and(Result::is_ok) && answers.last().is_some_and(Result::is_err);
        self.reach(if mixed { "a crowd of which some pass" } else { "a crowd that is one" });
        for answer in answers {
            self.answered(ask, user.as_deref(), &room, answer, false);
        }
    }

    fn give_up_asking(&mut self, ask: &Ask, polls: u8) {
        let (user, room, asking) = self.request(ask);
        let faulty = self.gated.ledger_is_faulty();
        let mut asking = Box::pin(asking);
        for _ in 0..polls {
            if let Some(answer) = (&mut asking).now_or_never() {
                return self.answered(ask, user.as_deref(), &room, answer, faulty);
            }
        }
        self.reach("given up while asking");
    }

    async fn settle(&mut self, which: u8, percent: u8, polls: Option<u8>) {
        let Some((call, hold)) = self.take(which) else { return };
        let share = |amount: u64| amount * u64::from(percent) / 100;
        // What was reserved is the worst that was asked for; a share of it is what it took.
        let worst = self.model.worst(call);
        let cost = Cost { tokens: share(worst.tokens), micros: worst.micros.map(share) };
        self.model.settle(call, cost);
        let settling = hold.settle(cost);
        match polls {
            None => settling.await,
            Some(polls) => {
                let mut settling = Box::pin(settling);
                if (0..polls).all(|_| (&mut settling).now_or_never().is_none()) {
                    self.reach("given up while settling");
                }
            }
        }
        self.reach(if percent > 100 { "more than was reserved" } else { "settled" });
    }

    fn take(&mut self, which: u8) -> Option<(Call, Hold)> {
        let count = self.open.len();
        (count > 0).then(|| self.open.swap_remove(usize::from(which) % count))
    }

    /// Nobody tidies up: what was open stays so until the next start.
    async fn crash(&mut self) {
        for (call, hold) in self.open.drain(..) {
            std::mem::forget(hold);
            self.model.use_up(call);
        }
        self.start_again().await;
        self.reach("crash");
    }

    /// Runs end with the process, and what they hold with them.
    async fn restart(&mut self) {
        for (call, hold) in self.open.drain(..) {
            drop(hold);
            self.model.use_up(call);
        }
        self.start_again().await;
        self.reach("restart");
    }

    async fn start_again(&mut self) {
        let next = Process::start(&self.store, &self.clock, model::limits());
        std::mem::replace(&mut self.process, next).end().await;
        self.process.recover().await;
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Ask(ask) => self.ask(&ask).await,
            Step::Crowd(ask, count) => self.crowd(&ask, count).await,
            Step::GiveUpAsking(ask, polls) => self.give_up_asking(&ask, polls),
            Step::Settle(which, percent, polls) => self.settle(which, percent, polls).await,
            Step::Drop(which) => {
                if let Some((call, hold)) = self.take(which) {
                    drop(hold);
                    self.model.use_up(call);
                    self.reach("dropped");
                }
            }
            Step::Crash => self.crash().await,
            Step::Restart => self.restart().await,
            Step::Forward(ms) => self.move_clock(self.clock.now().0 + i64::from(ms)),
            Step::Back(ms) => {
                self.move_clock((self.latest.0 - BACK_MS).max(self.clock.now().0 - i64::from(ms)));
            }
            Step::Fault(after) => {
                self.gated.ledger_fails(Some(if after { Fault::After } else { Fault::Before }), 1);
            }
        }
        self.check().await;
    }

    fn move_clock(&mut self, to: i64) {
        self.clock.set(Timestamp(to));
        self.latest = self.latest.max(Timestamp(to));
        self.model.is(self.latest);
    }

    /// At this instant no limit is passed; and when all has come to rest, the ledger says what the model does.
    async fn check(&mut self) {
        let expected = self.model.balances();
        let accounts: Vec<Account> = expected.keys().map(|account| (*account).clone()).collect();
        let now = self.store.balances(&accounts).await.unwrap();
        for ((account, held), balance) in expected.iter().zip(now) {
            assert!(balance.used() <= self.model.bound(account, *held), "{account:?} holds {balance:?}");
        }
        until_open(&self.store, self.open.len()).await;
        let mut forgotten = 0;
        for ((account, held), balance) in expected.iter().zip(self.store.balances(&accounts).await.unwrap()) {
            if balance == Balance::default() && self.model.is_over(account, *held) {
                forgotten += usize::from(held.spent > 0);
                continue;
            }
            assert_eq!((balance.spent, balance.reserved), (held.spent, held.reserved), "{account:?}");
        }
        if forgotten > 0 {
            self.reach("forgotten");
        }
    }
}

fn play(steps: Vec<Step>) -> BTreeMap<String, usize> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::new();
        for step in steps {
            // Between two steps the runtime's time goes on, so that old accounts are forgotten now and then.
            tokio::time::sleep(Duration::from_secs(61)).await;
            world.step(step).await;
        }
        world.gated.ledger_fails(None, 0);
        world.crash().await;
        world.check().await;
        world.process.end().await;
        world.reached
    })
}

#[test]
fn no_order_of_events_gets_past_a_limit_or_loses_anything() {
    let reached = RefCell::new(BTreeMap::<String, usize>::new());
    TestRunner::new(domain_properties::config())
        .run(&prop::collection::vec(step(), 1..120), |steps| {
            for (name, count) in play(steps) {
                *reached.borrow_mut().entry(name).or_default() += count;
            }
            Ok(())
        })
        .unwrap();
    let reached = reached.into_inner();
    let names: Vec<&str> = reached.keys().map(String::as_str).collect();
    let expected = [
        "Passes",
        "TooLarge",
        "Unavailable",
        "Unpriced",
        "UsedUp",
        "a crowd of which some pass",
        "a crowd that is one",
        "crash",
        "dropped",
        "forgotten",
        "given up while asking",
        "given up while settling",
        "more than was reserved",
        "restart",
        "settled",
    ];
    assert_eq!(names, expected, "{reached:#?}");
}
