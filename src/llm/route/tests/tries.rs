//! Trying again, asking the next one, and what is never done twice.

use super::*;
use crate::llm::{Tool, ToolCall};

const BASE: Duration = Duration::from_millis(500);

#[tokio::test(start_paused = true)]
async fn what_may_be_gone_the_next_time_is_tried_again() {
    use ErrorKind::{Garbled, Network, Overloaded, RateLimited, Timeout};
    for kind in [RateLimited, Overloaded, Network, Timeout, Garbled] {
        let one = provider("one", vec![fails(kind), fails(kind), Step::answer("at last")]);
        let router = router(&[&one], |_| {});
        let started = Instant::now();
        let answered = ask(&router, "m").await.unwrap();
        assert_eq!((answered.attempts, answered.provider.as_str(), answered.model.as_str()), (3, "one", "m"));
        assert!(started.elapsed() <= BASE + 2 * BASE, "{:?}", started.elapsed());
        assert!(started.elapsed() > Duration::ZERO, "it was waited");
        assert_eq!(hear(answered).await, ("at last".into(), None));
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_the_next_one_is_asked() {
    let one = always("one", fails(ErrorKind::Overloaded));
    let two = always("two", Step::answer("two"));
    let router = router(&[&one, &two], |s| s.names.fallbacks = vec!["two:x".into()]);
    let answered = ask(&router, "m").await.unwrap();
    assert_eq!((answered.attempts, answered.provider.as_str(), answered.model.as_str()), (4, "two", "x"));
    assert_eq!((one.calls(), two.calls()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_request_is_not_tried_again_but_elsewhere() {
    for kind in [ErrorKind::ContextTooLong, ErrorKind::BadRequest, ErrorKind::Auth] {
        let one = always("one", fails(kind));
        let two = always("two", Step::answer("two"));
        let with = router(&[&one, &two], |s| s.names.fallbacks = vec!["two:".into()]);
        let started = Instant::now();
        assert_eq!(hear(ask(&with, "m").await.unwrap()).await.0, "two");
        assert_eq!((one.calls(), started.elapsed()), (1, Duration::ZERO));
        let alone = router(&[&one], |_| {});
        assert_eq!(ask(&alone, "m").await.unwrap_err().kind, kind);
        assert_eq!(one.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_thinks_has_begun() {
    // Longer than the first token may take, and never silent for as long as that.
    let thinks =
        || [Step::Pause(FIRST_TOKEN / 2), Step::Progress].into_iter().cycle().take(6).collect::<Vec<_>>();
    let one = provider("one", vec![[thinks(), Step::answer("at last")].concat()]);
    let alone = router(&[&one], |_| {});
    let answered = ask(&alone, "m").await.unwrap();
    assert_eq!((answered.attempts, hear(answered).await), (1, ("at last".into(), None)));
    // What has begun is not entered anew, and nobody else is asked.
    let one = always("one", [thinks(), fails(ErrorKind::Overloaded)].concat());
    let two = always("two", Step::answer("two"));
    let with = router(&[&one, &two], |s| s.names.fallbacks = vec!["two:".into()]);
    let failed = hear(ask(&with, "m").await.unwrap()).await;
    assert_eq!((failed, one.calls(), two.calls()), ((String::new(), Some(ErrorKind::Overloaded)), 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer() {
    let one = always("one", fails(ErrorKind::Refused));
    let two = always("two", Step::answer("two"));
    let router = router(&[&one, &two], |s| s.names.fallbacks = vec!["two:".into()]);
    assert_eq!(ask(&router, "m").await.unwrap_err().kind, ErrorKind::Refused);
    assert_eq!((one.calls(), two.calls()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn when_everybody_fails_the_first_says_why() {
    let one = always("one", fails(ErrorKind::ContextTooLong));
    let two = always("two", fails(ErrorKind::Auth));
    let router = router(&[&one, &two], |s| s.names.fallbacks = vec!["two:".into()]);
    assert_eq!(ask(&router, "m").await.unwrap_err().kind, ErrorKind::ContextTooLong);
    assert_eq!(two.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_says_nothing_has_its_time_and_no_more() {
    let one = always("one", vec![Step::Stall]);
    let two = always("two", Step::answer("two"));
    let with = router(&[&one, &two], |s| {
        s.names.fallbacks = vec!["two:".into()];
        s.retry.attempts = 1;
    });
    let started = Instant::now();
    assert_eq!(hear(ask(&with, "m").await.unwrap()).await.0, "two");
    assert_eq!((started.elapsed(), one.cancelled()), (FIRST_TOKEN, 1));
    // The deadline comes before the second attempt ends.
    let alone = router(&[&one], |_| {});
    let started = Instant::now();
    let limits = Attempts { first_token: FIRST_TOKEN, deadline: started + Duration::from_secs(40) };
    let error = alone.answer(&alone.plan("m", &[]), request(), limits, &mut Vec::new()).await.unwrap_err();
    assert_eq!((error.kind, started.elapsed()), (ErrorKind::Timeout, Duration::from_secs(40)));
    assert_eq!((one.calls(), one.cancelled()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_asked_again_when_it_wants_to_be() {
    let wish = Duration::from_secs(7);
    let one = provider("one", vec![fails_for(ErrorKind::RateLimited, Some(wish)), Step::answer("one")]);
    let router = router(&[&one], |_| {});
    let started = Instant::now();
    assert_eq!(hear(ask(&router, "m").await.unwrap()).await.0, "one");
    assert!((wish..=wish + BASE).contains(&started.elapsed()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_does_not_fit_is_not_waited_for() {
    for (wish, has_next, waits) in
        [(400, false, false), (400, true, false), (60, true, false), (60, false, true)]
    {
        let wish = Duration::from_secs(wish);
        let one = provider("one", vec![fails_for(ErrorKind::RateLimited, Some(wish)), Step::answer("one")]);
        let two = always("two", Step::answer("two"));
        let router = router(&[&one, &two], |s| {
            s.names.fallbacks = if has_next { vec!["two:".into()] } else { Vec::new() };
        });
        let started = Instant::now();
        let text = match ask(&router, "m").await {
            Ok(answered) => hear(answered).await.0,
            Err(error) => {
                assert_eq!((error.kind, error.retry_after), (ErrorKind::RateLimited, Some(wish)));
                String::new()
            }
        };
        let expected = if waits {
            "one"
        } else if has_next {
            "two"
        } else {
            ""
        };
        assert_eq!((text.as_str(), started.elapsed() >= wish), (expected, waits), "{wish:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn times_that_no_clock_can_tell_are_only_long() {
    let one =
        provider("one", vec![fails_for(ErrorKind::RateLimited, Some(Duration::MAX)), Step::answer("one")]);
    let alone = router(&[&one], |_| {});
    let limits = Attempts { first_token: Duration::MAX, ..limits() };
    let mut wishes = Vec::new();
    for _ in 0..2 {
        let answer = alone.answer(&alone.plan("m", &[]), request(), limits, &mut Vec::new()).await;
        wishes.push(answer.map(|answered| answered.attempts).map_err(|error| error.retry_after));
    }
    assert_eq!(wishes, [Err(Some(Duration::MAX)), Ok(1)]);
    // And a way that closes for so long.
    let two = always("two", fails(ErrorKind::Overloaded));
    let broken = router(&[&two], |s| s.breaker.open = Duration::MAX);
    for _ in 0..2 {
        assert_eq!(ask(&broken, "m").await.unwrap_err().kind, ErrorKind::Overloaded);
    }
    let left = ask(&broken, "m").await.unwrap_err().retry_after.unwrap();
    assert!(left > DEADLINE, "{left:?}");
    assert_eq!(two.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_begun_is_never_asked_again() {
    let half = [Step::text("half"), fails(ErrorKind::Network).remove(0)].to_vec();
    let usage =
        [Step::Usage { prompt_tokens: 1, completion_tokens: 0 }, fails(ErrorKind::Overloaded).remove(0)];
    for (steps, said) in [(half, "half"), (usage.to_vec(), "")] {
        let one = always("one", steps);
        let two = always("two", Step::answer("two"));
        let router = router(&[&one, &two], |s| s.names.fallbacks = vec!["two:".into()]);
        let (text, error) = hear(ask(&router, "m").await.unwrap()).await;
        assert_eq!((text.as_str(), error.is_some()), (said, true));
        assert_eq!((one.calls(), two.calls()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_place_of_the_first_delta_is_a_failed_attempt() {
    let late = vec![Step::Pause(Duration::from_secs(1)), fails(ErrorKind::Garbled).remove(0)];
    let one = provider("one", vec![late, Step::answer("one")]);
    let router = router(&[&one], |_| {});
    let answered = ask(&router, "m").await.unwrap();
    assert_eq!((answered.attempts, hear(answered).await.0.as_str()), (2, "one"));
}

#[tokio::test(start_paused = true)]
async fn dropping_stops_at_once() {
    let (scripted, mut script) = ScriptedProvider::new("one");
    let one = Arc::new(scripted);
    let router = router(&[&one], |_| {});
    {
        let answering = ask(&router, "m");
        tokio::pin!(answering);
        let mut call = tokio::select! {
            _ = &mut answering => panic!("nobody has answered"),
            call = script.next_call() => call.unwrap(),
        };
        call.accept();
        drop(tokio::time::timeout(Duration::from_millis(1), &mut answering).await);
    }
    assert_eq!(one.cancelled(), 1, "the future was dropped");
    let (answered, mut call) = tokio::join!(ask(&router, "m"), async {
        let mut call = script.next_call().await.unwrap();
        call.text("begun").await;
        call
    });
    drop(answered.unwrap());
    assert!(call.is_cancelled(), "the stream was dropped");
    assert!(!call.text("more").await);
}

#[tokio::test(start_paused = true)]
async fn the_request_is_cut_to_what_the_model_can_do() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let one = Arc::new(ScriptedProvider::with("one", move |request| {
        noted.lock().unwrap().push(request.clone());
        Step::answer("one")
    }));
    let router = router(&[&one], |s| {
        let small = ModelSettings { tools: false, max_output_tokens: Some(10), ..Default::default() };
        s.names.models.insert("small".into(), small);
    });
    let call = ToolCall { id: "7".into(), name: "vote".into(), arguments: "{}".into() };
    let mut asked = request();
    asked.tools =
        vec![Tool { name: "vote".into(), description: String::new(), parameters: serde_json::json!({}) }];
    asked.turns.push(Turn::ToolCalls { text: "I vote".into(), calls: vec![call] });
    asked.turns.push(Turn::ToolResult { call_id: "7".into(), result: "done".into() });
    for model in ["small", "large"] {
        drop(
            router.answer(&router.plan(model, &[]), asked.clone(), limits(), &mut Vec::new()).await.unwrap(),
        );
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen[1], Request { model: "large".into(), ..asked.clone() }, "the other is as it was");
    let told = |speaker, text: &str| Turn::Text { speaker, text: text.into() };
    let turns = vec![
        told(Speaker::User, "hello"),
        told(Speaker::Assistant, "I vote\n[called the tool vote with {}]"),
        told(Speaker::User, "[the tool vote returned]\ndone\n[end of what the tool returned]"),
    ];
    let small = Request { model: "small".into(), tools: Vec::new(), max_tokens: 10, turns, ..asked };
    assert_eq!(seen[0], small);
}

#[test]
fn waits_grow_up_to_a_limit_and_come_from_the_seed() {
    let retry = RetrySettings::default();
    let waits = |seed| {
        let jitter = Jitter::seeded(seed);
        (1..=40).map(|done| retry.backoff(done, &jitter)).collect::<Vec<_>>()
    };
    assert_eq!(waits(7), waits(7));
    assert_ne!(waits(7), waits(8));
    for seed in 0..200 {
        for (wait, doubled) in waits(seed).iter().zip(0..) {
            let most = BASE.saturating_mul(1u32.checked_shl(doubled).unwrap_or(u32::MAX)).min(retry.max);
            assert!(*wait <= most, "{wait:?} after {doubled} doublings");
        }
    }
    // Full jitter: from nothing to everything.
    let jitter = Jitter::seeded(3);
    let many: Vec<Duration> = (0..1000).map(|_| jitter.up_to(BASE)).collect();
    assert!(many.iter().any(|wait| *wait < BASE / 10) && many.iter().any(|wait| *wait > BASE * 9 / 10));
    assert_eq!(jitter.up_to(Duration::ZERO), Duration::ZERO);
}
