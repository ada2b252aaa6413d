//! Random failures, many callers: what must hold however they fall.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures_util::stream;
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;

/// What one call does.
#[derive(Debug, Clone)]
enum Fate {
    Answers,
    Fails(ErrorKind, Option<u64>),
    FailsAfter(u64, ErrorKind),
    Stalls,
    BreaksOff,
    FallsSilent,
}

fn fate() -> impl Strategy<Value = Fate> {
    let kind = prop::sample::select(vec![
        ErrorKind::RateLimited,
        ErrorKind::Overloaded,
        ErrorKind::Network,
        ErrorKind::Garbled,
        ErrorKind::BadRequest,
        ErrorKind::Auth,
        ErrorKind::Refused,
    ]);
    prop_oneof![
        2 => Just(Fate::Answers),
        6 => (kind.clone(), prop::option::of(1u64..400)).prop_map(|(kind, after)| Fate::Fails(kind, after)),
        2 => (1u64..40, kind).prop_map(|(seconds, kind)| Fate::FailsAfter(seconds, kind)),
        1 => Just(Fate::Stalls),
        1 => Just(Fate::BreaksOff),
        1 => Just(Fate::FallsSilent),
    ]
}

/// Plays the fates in turn, and watches what it sees of the breaker.
#[derive(Debug)]
struct Fateful {
    name: String,
    fates: Vec<Fate>,
    calls: AtomicUsize,
    watch: Mutex<Watch>,
    two_probes: AtomicBool,
}

/// A model of the breaker from outside: it is told only what calls come to.
#[derive(Debug, Default)]
struct Watch {
    failures: u32,
    open_until: Option<Instant>,
    probing: bool,
}

#[async_trait]
impl Provider for Arc<Fateful> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn answer(&self, _: Request) -> Result<Deltas, Error> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let probe = {
            let mut watch = self.watch.lock().unwrap();
            let probe = watch.open_until.is_some();
            let too_early = watch.open_until.is_some_and(|until| Instant::now() < until);
            if probe && (watch.probing || too_early) {
                self.two_probes.store(true, Ordering::SeqCst);
            }
            watch.probing |= probe;
            probe
        };
        // However the call ends, even by being dropped, the watch hears of it.
        let seen = Seen { of: Arc::clone(self), probe, told: false, since: Instant::now() };
        let fail = |kind, after: Option<u64>| Error {
            kind,
            provider: self.name.clone(),
            message: "by fate".into(),
            retry_after: after.map(Duration::from_secs),
        };
        match self.fates[call % self.fates.len()].clone() {
            Fate::Answers => {
                seen.tell(Told::Ended);
                Ok(stream::iter([Ok(Delta::Text("yes".into())), Ok(Delta::Done(Finish::Stop))]).boxed())
            }
            Fate::BreaksOff => {
                seen.tell(Told::Begun);
                let of = Arc::clone(self);
                let cut = fail(ErrorKind::Network, None);
                let end = stream::once(async move {
                    of.failed();
                    Err(cut)
                });
                Ok(stream::iter([Ok(Delta::Text("half".into()))]).chain(end).boxed())
            }
            Fate::FallsSilent => {
                seen.tell(Told::Begun);
                let of = Silence(Arc::clone(self));
                let silence = stream::once(async move {
                    let _given_up = of;
                    std::future::pending().await
                });
                Ok(stream::iter([Ok(Delta::Text("half".into()))]).chain(silence).boxed())
            }
            Fate::Fails(kind, after) => {
                seen.tell(if is_transient(kind) { Told::Failed } else { Told::Ended });
                Err(fail(kind, after))
            }
            Fate::FailsAfter(seconds, kind) => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                seen.tell(if is_transient(kind) { Told::Failed } else { Told::Ended });
                Err(fail(kind, None))
            }
            Fate::Stalls => std::future::pending().await,
        }
    }
}

impl Fateful {
    fn failed(&self) {
        let mut watch = self.watch.lock().unwrap();
        if watch.open_until.is_none() {
            watch.failures += 1;
            if watch.failures >= 5 {
                watch.open_until = Some(Instant::now() + Duration::from_secs(60));
            }
        }
    }
}

/// An answer that says nothing more, until it is given up.
struct Silence(Arc<Fateful>);

impl Drop for Silence {
    fn drop(&mut self) {
        self.0.failed();
    }
}

/// What a call has come to.
#[derive(Clone, Copy)]
enum Told {
    /// The answer has begun, which is no success yet: it may break off.
    Begun,
    /// It is there, or what is wrong with the request was said.
    Ended,
    Failed,
}

struct Seen {
    of: Arc<Fateful>,
    probe: bool,
    told: bool,
    since: Instant,
}

impl Seen {
    fn tell(mut self, told: Told) {
        self.told = true;
        self.count(told);
    }

    fn count(&self, told: Told) {
        if !self.probe {
            return match told {
                Told::Begun => {}
                Told::Ended => self.of.watch.lock().unwrap().failures = 0,
                Told::Failed => self.of.failed(),
            };
        }
        let mut watch = self.of.watch.lock().unwrap();
        watch.probing = false;
        match told {
            // On trial: one more failure is enough.
            Told::Begun => (watch.failures, watch.open_until) = (4, None),
            Told::Ended => *watch = Watch::default(),
            Told::Failed => watch.open_until = Some(Instant::now() + Duration::from_secs(60)),
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        if self.since.elapsed() >= FIRST_TOKEN {
            return self.count(Told::Failed);
        }
        // The deadline has cut it off before its time: the next one may try.
        if self.probe {
            let mut watch = self.of.watch.lock().unwrap();
            (watch.probing, watch.open_until) = (false, Some(Instant::now()));
        }
    }
}

/// One caller: when it comes, and how long it waits.
type Caller = (u64, u64);

async fn run(fates: [Vec<Fate>; 2], callers: Vec<Caller>, seed: u64) -> Result<(), TestCaseError> {
    let [one, two] = [("one", 0), ("two", 1)].map(|(name, at): (&str, usize)| {
        Arc::new(Fateful {
            name: name.into(),
            fates: fates[at].clone(),
            calls: AtomicUsize::new(0),
            watch: Mutex::default(),
            two_probes: AtomicBool::new(false),
        })
    });
    let providers: BTreeMap<String, Arc<dyn Provider>> =
        [&one, &two].map(|one| (one.name.clone(), Arc::new(Arc::clone(one)) as Arc<dyn Provider>)).into();
    let mut settings = RouterSettings { jitter: Jitter::seeded(seed), ..RouterSettings::default() };
    settings.names.fallbacks = vec!["two:m".into()];
    let router = Arc::new(Router::new(providers, "one", settings).unwrap());
    let mut tasks = JoinSet::new();
    for (comes, patience) in callers {
        let router = Arc::clone(&router);
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_secs(comes)).await;
            let deadline = Instant::now() + Duration::from_secs(patience);
            let limits = Attempts { first_token: FIRST_TOKEN, deadline };
            let answer = router.answer(&router.plan("m", &[]), request(), limits, &mut Vec::new()).await;
            let in_time = Instant::now() <= deadline;
            let (attempts, pieces) = match answer {
                Ok(answered) => {
                    let attempts = answered.attempts;
                    (attempts, answered.deltas.collect::<Vec<_>>().await)
                }
                Err(_) => (0, Vec::new()),
            };
            (in_time, attempts, pieces)
        });
    }
    while let Some(done) = tasks.join_next().await {
        let (in_time, attempts, pieces) = done.unwrap();
        prop_assert!(in_time, "ended behind its deadline");
        prop_assert!(attempts <= 6, "{attempts} attempts");
        let texts = pieces.iter().filter(|piece| matches!(piece, Ok(Delta::Text(_)))).count();
        prop_assert!(texts <= 1, "entered again: {pieces:?}");
    }
    for one in [one, two] {
        prop_assert!(!one.two_probes.load(Ordering::SeqCst), "{} was probed twice, or too early", one.name);
    }
    Ok(())
}

/// A failure that comes late must not hold off the probe behind one that closed the way before: five in a row, of
/// which the second is an answer that breaks off.
#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_stays_in_the_row() {
    let fails = |after| Fate::Fails(ErrorKind::RateLimited, after);
    let late = |seconds| Fate::FailsAfter(seconds, ErrorKind::RateLimited);
    let one = vec![
        fails(Some(400)),
        Fate::BreaksOff,
        fails(Some(400)),
        late(20),
        fails(Some(400)),
        fails(Some(400)),
    ];
    let callers = vec![(0, 9), (1, 9), (2, 9), (3, 99), (4, 9), (5, 9), (65, 9)];
    run([one, vec![Fate::Answers]], callers, 7).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn however_providers_fail_the_rules_hold(
        one in prop::collection::vec(fate(), 1..30),
        two in prop::collection::vec(fate(), 1..30),
        callers in prop::collection::vec((0u64..600, 1u64..300), 1..40),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run([one, two], callers, seed))?;
    }
}
