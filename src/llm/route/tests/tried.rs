//! Which attempts may be billed: those that came to nothing after the provider had the request.

use async_trait::async_trait;
use tokio::time::timeout;

use super::*;

const PRICES: Prices = Prices { input_micros_per_million: 3, output_micros_per_million: 15 };

fn priced(settings: &mut RouterSettings) {
    let priced = ModelSettings { prices: Some(PRICES), ..Default::default() };
    settings.names.models.insert("m".into(), priced);
    settings.names.fallbacks = vec!["two:x".into()];
}

fn tried(provider: &str, model: &str, prices: Option<Prices>) -> Tried {
    Tried { provider: provider.into(), model: model.into(), prices }
}

/// What an answer left behind.
async fn left_behind(router: &Router, limits: Attempts) -> (Result<Answered, Error>, Vec<Tried>) {
    let mut all = Vec::new();
    let answer = router.answer(&router.plan("m", &[]), request(), limits, &mut all).await;
    (answer, all)
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_read_is_told_and_what_was_turned_away_is_not() {
    use ErrorKind::{
        Auth, BadRequest, ContextTooLong, Garbled, Network, Overloaded, RateLimited, Timeout, Unreachable,
    };
    for (kind, billed) in [
        (Network, 3),
        (Timeout, 3),
        (Garbled, 3),
        (Unreachable, 0),
        (RateLimited, 0),
        (Overloaded, 0),
        (Auth, 0),
        (BadRequest, 0),
        (ContextTooLong, 0),
    ] {
        let one = always("one", fails(kind));
        let two = always("two", Step::answer("two"));
        let router = router(&[&one, &two], priced);
        let (answer, all) = left_behind(&router, limits()).await;
        assert_eq!(answer.unwrap().provider, "two");
        assert_eq!(all, vec![tried("one", "m", Some(PRICES)); billed], "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_nobody_answers_all_that_were_asked_are_told() {
    let one = always("one", vec![Step::Stall]);
    let two = always("two", fails(ErrorKind::Garbled));
    let router = router(&[&one, &two], |s| {
        priced(s);
        s.retry.attempts = 1;
    });
    let (answer, all) = left_behind(&router, limits()).await;
    assert_eq!(answer.unwrap_err().kind, ErrorKind::Timeout);
    assert_eq!(all, [tried("one", "m", Some(PRICES)), tried("two", "x", None)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_may_be_billed_and_a_wait_may_not() {
    let one = provider("one", vec![fails(ErrorKind::RateLimited), vec![Step::Stall]]);
    let router = router(&[&one], |_| {});
    let (plan, mut all) = (router.plan("m", &[]), Vec::new());
    let answer = timeout(Duration::ZERO, router.answer(&plan, request(), limits(), &mut all));
    assert!(answer.await.is_err(), "it waits for its second attempt");
    assert_eq!((one.calls(), &all), (1, &Vec::new()));
    let answer = timeout(Duration::ZERO, router.answer(&plan, request(), limits(), &mut all));
    assert!(answer.await.is_err());
    assert_eq!((one.cancelled(), all), (1, vec![tried("one", "m", None)]));
}

/// No model, and says nothing.
#[derive(Debug)]
struct BuiltIn;

#[async_trait]
impl Provider for BuiltIn {
    fn name(&self) -> &'static str {
        "built_in"
    }

    fn is_model(&self) -> bool {
        false
    }

    async fn answer(&self, _: Request) -> Result<Deltas, Error> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_built_in_costs_nothing() {
    let providers = BTreeMap::from([("built_in".to_owned(), Arc::new(BuiltIn) as Arc<dyn Provider>)]);
    let router = Router::new(providers, "built_in", RouterSettings::default()).unwrap();
    let (answer, all) = left_behind(&router, limits()).await;
    assert_eq!(answer.unwrap_err().kind, ErrorKind::Timeout);
    assert_eq!(all, vec![tried("built_in", "m", Some(Prices::default())); 3]);
}
