//! The breaker: when a model is left alone, and how it is tried again.

use super::*;
use crate::llm::scripted::{Call, Script};

/// As by default.
const IDLE: Duration = Duration::from_secs(20);
const OPEN: Duration = Duration::from_secs(60);

/// One attempt an answer, so that failures are counted by hand.
fn once(settings: &mut RouterSettings) {
    settings.retry.attempts = 1;
}

/// Fails as often as the breaker allows.
async fn break_it(router: &Router, model: &str) {
    for _ in 0..5 {
        assert_eq!(ask(router, model).await.unwrap_err().kind, ErrorKind::Overloaded);
    }
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_open_it_for_a_minute() {
    let one = always("one", fails(ErrorKind::Overloaded));
    let router = router(&[&one], once);
    break_it(&router, "m").await;
    tokio::time::advance(Duration::from_secs(20)).await;
    let error = ask(&router, "m").await.unwrap_err();
    assert_eq!(
        (error.kind, error.retry_after),
        (ErrorKind::Overloaded, Some(OPEN - Duration::from_secs(20)))
    );
    assert!(error.message.contains("left alone"), "{}", error.message);
    assert_eq!(one.calls(), 5, "it was not asked");
    tokio::time::advance(Duration::from_secs(40)).await;
    drop(ask(&router, "m").await);
    assert_eq!(one.calls(), 6, "one probe");
    assert_eq!(ask(&router, "m").await.unwrap_err().retry_after, Some(OPEN), "and a minute again");
    assert_eq!(one.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_answer_between_begins_the_count_anew_and_bad_requests_count_for_nothing() {
    let mut replies = vec![fails(ErrorKind::Network); 4];
    replies.push(Step::answer("fine"));
    replies.extend(vec![fails(ErrorKind::Network); 4]);
    // The provider lives: it has said what is wrong.
    replies.push(fails(ErrorKind::BadRequest));
    replies.extend(vec![fails(ErrorKind::Network); 4]);
    replies.extend(vec![fails(ErrorKind::Refused); 10]);
    replies.push(Step::answer("still asked"));
    let one = provider("one", replies.clone());
    let router = router(&[&one], once);
    for _ in 1..replies.len() {
        if let Ok(answered) = ask(&router, "m").await {
            hear(answered).await;
        }
    }
    assert_eq!(hear(ask(&router, "m").await.unwrap()).await.0, "still asked");
}

#[tokio::test(start_paused = true)]
async fn answers_that_break_off_count() {
    let cut = [Step::text("half"), fails(ErrorKind::Network).remove(0)].to_vec();
    let one = always("one", cut);
    let router = router(&[&one], once);
    for _ in 0..5 {
        assert_eq!(hear(ask(&router, "m").await.unwrap()).await.1, Some(ErrorKind::Network));
    }
    assert!(ask(&router, "m").await.unwrap_err().message.contains("left alone"));
}

#[tokio::test(start_paused = true)]
async fn it_opens_in_the_middle_of_the_attempts() {
    let one = always("one", fails(ErrorKind::Overloaded));
    let two = always("two", Step::answer("two"));
    let router = router(&[&one, &two], |s| s.names.fallbacks = vec!["two:".into()]);
    for (answers, calls) in [(1, 3), (2, 5), (3, 5)] {
        assert_eq!(hear(ask(&router, "m").await.unwrap()).await.0, "two");
        assert_eq!((one.calls(), two.calls()), (calls, answers));
    }
}

#[tokio::test(start_paused = true)]
async fn another_model_of_the_same_provider_is_still_asked() {
    let one = Arc::new(ScriptedProvider::with("one", |request| match request.model.as_str() {
        "broken" => fails(ErrorKind::Overloaded),
        _ => Step::answer("fine"),
    }));
    let router = router(&[&one], once);
    break_it(&router, "broken").await;
    assert_eq!(hear(ask(&router, "good").await.unwrap()).await.0, "fine");
    assert!(ask(&router, "broken").await.unwrap_err().retry_after.is_some());
}

/// A router whose one model is due for a probe, which its script plays.
async fn due() -> (Router, Script) {
    let (scripted, mut script) = ScriptedProvider::new("one");
    let router = router(&[&Arc::new(scripted)], once);
    for _ in 0..5 {
        let (error, ()) = tokio::join!(ask(&router, "m"), async {
            script.next_call().await.unwrap().fail_with(ErrorKind::Overloaded).await;
        });
        assert_eq!(error.unwrap_err().kind, ErrorKind::Overloaded);
    }
    tokio::time::advance(OPEN).await;
    (router, script)
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_until_its_answer_begins() {
    let (router, mut script) = due().await;
    let probe = ask(&router, "m");
    tokio::pin!(probe);
    let mut call = tokio::select! {
        _ = &mut probe => panic!("nobody has answered"),
        call = script.next_call() => call.unwrap(),
    };
    let error = ask(&router, "m").await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Overloaded, Some(Duration::from_secs(1))));
    let (answered, _) = tokio::join!(probe, call.text("it lives"));
    // The probe has begun to answer: others are let through before it ends.
    drop(probing(&router, &mut script).await);
    drop(answered.unwrap());
}

/// A probe whose answer has begun, and the call that plays it.
async fn probing(router: &Router, script: &mut Script) -> (Answered, Call) {
    let (answered, call) = tokio::join!(ask(router, "m"), async {
        let mut call = script.next_call().await.unwrap();
        call.text("it lives").await;
        call
    });
    (answered.unwrap(), call)
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_breaks_off_or_falls_silent_has_failed() {
    let (router, mut script) = due().await;
    for kind in [ErrorKind::Network, ErrorKind::Timeout] {
        let (answered, call) = probing(&router, &mut script).await;
        let (end, _call) = tokio::join!(hear(answered), async {
            if kind == ErrorKind::Timeout {
                return Some(call);
            }
            call.fail_with(kind).await;
            None
        });
        assert_eq!(end.1, Some(kind));
        assert_eq!(ask(&router, "m").await.unwrap_err().retry_after, Some(OPEN), "{kind:?}");
        tokio::time::advance(OPEN).await;
    }
}

#[tokio::test(start_paused = true)]
async fn others_are_on_trial_while_a_probe_answers() {
    let (router, mut script) = due().await;
    let (answered, call) = probing(&router, &mut script).await;
    let (error, ()) = tokio::join!(ask(&router, "m"), async {
        script.next_call().await.unwrap().fail_with(ErrorKind::Overloaded).await;
    });
    assert_eq!(error.unwrap_err().message, "told to fail", "it was asked");
    assert_eq!(ask(&router, "m").await.unwrap_err().retry_after, Some(OPEN), "and one failure was enough");
    let (end, _) = tokio::join!(hear(answered), call.done(Finish::Stop));
    assert_eq!(end.1, None);
    assert_eq!(ask(&router, "m").await.unwrap_err().retry_after, Some(OPEN), "only a probe opens the way");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_ends_well_begins_the_count_anew() {
    let (router, mut script) = due().await;
    let (answered, call) = probing(&router, &mut script).await;
    let (end, _) = tokio::join!(hear(answered), call.done(Finish::Stop));
    assert_eq!((end.1, router.breakers.remembered()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn answers_that_fall_silent_count_and_those_of_slow_readers_do_not() {
    let one = always("one", vec![Step::text("half"), Step::text("more"), Step::Stall]);
    let router = router(&[&one], once);
    for _ in 0..5 {
        // Whoever stops reading has not found it silent.
        let mut answered = ask(&router, "m").await.unwrap();
        assert!(answered.deltas.next().await.unwrap().is_ok());
        tokio::time::advance(2 * IDLE).await;
        assert!(answered.deltas.next().await.unwrap().is_ok());
        assert!(timeout(IDLE / 2, answered.deltas.next()).await.is_err());
        drop(answered);
    }
    assert_eq!(router.breakers.remembered(), 0);
    for n in 1..=5 {
        let started = Instant::now();
        assert_eq!(
            hear(ask(&router, "m").await.unwrap()).await,
            ("halfmore".into(), Some(ErrorKind::Timeout))
        );
        assert_eq!((started.elapsed(), one.cancelled()), (IDLE, 5 + n), "it is stopped");
    }
    assert!(ask(&router, "m").await.unwrap_err().message.contains("left alone"));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_lets_the_next_one_try() {
    let (router, mut script) = due().await;
    for _ in 0..3 {
        let probe = ask(&router, "m");
        tokio::select! {
            _ = probe => panic!("nobody has answered"),
            call = script.next_call() => drop(call.unwrap()),
        }
    }
    let (answered, ()) = tokio::join!(ask(&router, "m"), async {
        let mut call = script.next_call().await.unwrap();
        call.text("it lives").await;
        call.done(Finish::Stop).await;
    });
    assert_eq!(hear(answered.unwrap()).await, ("it lives".into(), None));
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_request_is_wrong_finds_the_provider_alive() {
    let (router, mut script) = due().await;
    for _ in 0..2 {
        let (error, ()) = tokio::join!(ask(&router, "m"), async {
            script.next_call().await.unwrap().fail_with(ErrorKind::BadRequest).await;
        });
        assert_eq!(error.unwrap_err().kind, ErrorKind::BadRequest);
    }
}

#[tokio::test(start_paused = true)]
async fn what_began_before_neither_opens_nor_closes() {
    let (scripted, mut script) = ScriptedProvider::new("one");
    let router = router(&[&Arc::new(scripted)], once);
    let begin = async |script: &mut Script| {
        let (answered, call) = tokio::join!(ask(&router, "m"), async {
            let mut call = script.next_call().await.unwrap();
            call.text("slow").await;
            call
        });
        (answered.unwrap(), call)
    };
    let (good, good_call) = begin(&mut script).await;
    let (bad, bad_call) = begin(&mut script).await;
    for _ in 0..5 {
        let (error, ()) = tokio::join!(ask(&router, "m"), async {
            script.next_call().await.unwrap().fail_with(ErrorKind::Overloaded).await;
        });
        assert!(error.is_err());
    }
    let (end, _) = tokio::join!(hear(good), good_call.done(Finish::Stop));
    assert_eq!(end.1, None);
    assert_eq!(ask(&router, "m").await.unwrap_err().retry_after, Some(OPEN), "still open");
    tokio::time::advance(OPEN / 2).await;
    let (end, _) = tokio::join!(hear(bad), bad_call.fail_with(ErrorKind::Network));
    assert_eq!(end.1, Some(ErrorKind::Network));
    assert_eq!(ask(&router, "m").await.unwrap_err().retry_after, Some(OPEN / 2), "no longer than it was");
}

#[tokio::test(start_paused = true)]
async fn when_all_are_open_the_first_probe_is_named() {
    let one = always("one", fails(ErrorKind::Overloaded));
    let two = always("two", fails(ErrorKind::Overloaded));
    let router = router(&[&one, &two], once);
    break_it(&router, "one:m").await;
    tokio::time::advance(OPEN / 3).await;
    break_it(&router, "two:m").await;
    let plan = router.plan("two:m", &["one:m".into()]);
    let error = router.answer(&plan, request(), limits(), &mut Vec::new()).await.unwrap_err();
    assert_eq!((error.provider.as_str(), error.retry_after), ("one", Some(OPEN - OPEN / 3)));
}

#[tokio::test(start_paused = true)]
async fn names_out_of_rooms_do_not_fill_the_memory() {
    let one = always("one", fails(ErrorKind::Overloaded));
    let router = router(&[&one], once);
    break_it(&router, "first").await;
    for n in 0..3000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(ask(&router, &format!("m{n}")).await.is_err());
    }
    assert!(router.breakers.remembered() <= 1024, "{}", router.breakers.remembered());
}

#[tokio::test(start_paused = true)]
async fn whoever_had_no_time_has_not_failed() {
    let one = always("one", vec![Step::Stall]);
    let router = router(&[&one], once);
    for _ in 0..10 {
        let limits = Attempts { first_token: FIRST_TOKEN, deadline: Instant::now() + Duration::from_secs(1) };
        let error =
            router.answer(&router.plan("m", &[]), request(), limits, &mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout);
    }
    assert_eq!((one.calls(), router.breakers.remembered()), (10, 0));
}
