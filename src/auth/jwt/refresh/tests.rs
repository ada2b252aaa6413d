//! Readings in virtual time, of a set that the test changes.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::json;
use tokio::time::{advance, sleep};

use super::*;
use crate::auth::jwt::key::Algorithm;

/// How long a reading takes.
const READING: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Published {
    /// The name of the one key; none: it cannot be read.
    kid: Mutex<Option<&'static str>>,
    readings: AtomicUsize,
}

impl Published {
    fn set(&self, kid: Option<&'static str>) {
        *self.kid.lock().unwrap() = kid;
    }

    fn readings(&self) -> usize {
        self.readings.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct Fake(Arc<Published>);

#[async_trait]
impl Source for Fake {
    async fn fetch(&self) -> Result<String, FetchError> {
        // What it is when it is asked for, however long the answer takes.
        let kid = *self.0.kid.lock().unwrap();
        self.0.readings.fetch_add(1, Ordering::SeqCst);
        sleep(READING).await;
        let kid = kid.ok_or(FetchError::Status(503))?;
        let k = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        Ok(json!({"keys": [{"kty": "oct", "kid": kid, "k": k}]}).to_string())
    }

    fn is_private(&self) -> bool {
        true
    }
}

fn refreshed(kid: Option<&'static str>) -> (Arc<Published>, Arc<Refreshed>) {
    let published = Arc::new(Published::default());
    published.set(kid);
    let source = Box::new(Fake(Arc::clone(&published)));
    (published, Arc::new(Refreshed::new("test".into(), source, RefreshSettings::default())))
}

async fn ask(set: &Refreshed, kid: &str) -> Result<(), TokenError> {
    set.keys(|keys| keys.names(Algorithm::Hs256, Some(kid))).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn all_that_wait_share_one_reading() {
    let (published, set) = refreshed(Some("a"));
    let all = futures_util::future::join_all((0..100).map(|_| ask(&set, "a"))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(published.readings(), 1);
    ask(&set, "a").await.unwrap();
    assert_eq!(published.readings(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_told_at_once_and_nothing_is_read_for_it() {
    let (published, set) = refreshed(Some("a"));
    assert!(set.kept().is_none());
    ask(&set, "a").await.unwrap();
    for _ in 0..1000 {
        assert!(set.kept().is_some_and(|keys| keys.names(Algorithm::Hs256, Some("a"))));
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(published.readings(), 1);
    // Old ones are still told, and read again.
    sleep(RefreshSettings::default().max_age).await;
    assert!(set.kept().is_some());
    sleep(READING * 2).await;
    assert_eq!(published.readings(), 2);
    published.set(None);
    sleep(RefreshSettings::default().keep + READING).await;
    assert!(set.kept().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_believed_while_invented_ones_are_asked_for() {
    let (published, set) = refreshed(Some("a"));
    ask(&set, "a").await.unwrap();
    let began = Instant::now();
    // Somebody who invents keys all the time must keep no good token out, and the issuer's server unharmed.
    let inventor = {
        let set = Arc::clone(&set);
        async move {
            loop {
                assert_eq!(ask(&set, "invented").await, Err(TokenError::UnknownKey));
            }
        }
    };
    let issuer = async {
        for kid in ["b", "c", "d", "e", "f"] {
            sleep(Duration::from_millis(1730)).await;
            published.set(Some(kid));
            ask(&set, kid).await.unwrap();
        }
    };
    tokio::select! {
        () = issuer => {}
        () = inventor => {}
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(published.readings() <= seconds + 2, "{} readings in {seconds} s", published.readings());
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_began_before_a_token_came_does_not_refuse_it() {
    let (published, set) = refreshed(Some("a"));
    let early = ask(&set, "a");
    let late = async {
        // The first reading has begun and will say `a`.
        sleep(READING / 2).await;
        published.set(Some("b"));
        ask(&set, "b").await
    };
    let (early, late) = tokio::join!(early, late);
    assert_eq!((early, late), (Ok(()), Ok(())));
    assert_eq!(published.readings(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_old_is_read_again_and_used_meanwhile() {
    let (published, set) = refreshed(Some("a"));
    ask(&set, "a").await.unwrap();
    published.set(Some("b"));
    advance(RefreshSettings::default().max_age + Duration::from_secs(1)).await;
    let before = Instant::now();
    ask(&set, "a").await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits because of age");
    sleep(READING * 2).await;
    assert_eq!(published.readings(), 2);
    // The issuer has withdrawn it.
    assert_eq!(ask(&set, "a").await, Err(TokenError::UnknownKey));
}

#[tokio::test(start_paused = true)]
async fn old_keys_are_used_while_nothing_can_be_read_but_not_for_ever() {
    let (published, set) = refreshed(Some("a"));
    ask(&set, "a").await.unwrap();
    published.set(None);
    let keep = RefreshSettings::default().keep;
    for _ in 0..23 {
        advance(keep / 24).await;
        let before = Instant::now();
        ask(&set, "a").await.unwrap();
        assert_eq!(before.elapsed(), Duration::ZERO);
        sleep(READING * 2).await;
    }
    assert_eq!(ask(&set, "b").await, Err(TokenError::Unavailable), "nobody knows");
    advance(keep / 12).await;
    assert_eq!(ask(&set, "a").await, Err(TokenError::Unavailable));
    published.set(Some("a"));
    ask(&set, "a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failing_readings_are_repeated_at_a_pace() {
    let (published, set) = refreshed(Some("a"));
    ask(&set, "a").await.unwrap();
    published.set(None);
    advance(RefreshSettings::default().max_age + Duration::from_secs(1)).await;
    for _ in 0..600 {
        ask(&set, "a").await.unwrap();
        sleep(READING).await;
    }
    // A minute, every five seconds.
    assert!((11..=14).contains(&published.readings()), "{}", published.readings());
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_hangs_is_given_up() {
    #[derive(Debug)]
    struct Hangs;
    #[async_trait]
    impl Source for Hangs {
        async fn fetch(&self) -> Result<String, FetchError> {
            std::future::pending().await
        }
        fn is_private(&self) -> bool {
            false
        }
    }
    let set = Refreshed::new("test".into(), Box::new(Hangs), RefreshSettings::default());
    let before = Instant::now();
    assert_eq!(ask(&set, "a").await, Err(TokenError::Unavailable));
    assert_eq!(before.elapsed(), RefreshSettings::default().timeout);
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_away_takes_no_reading_with_them() {
    let (published, set) = refreshed(Some("a"));
    let gone = timeout(READING / 2, ask(&set, "a")).await;
    assert!(gone.is_err());
    ask(&set, "a").await.unwrap();
    assert_eq!(published.readings(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_panics_is_one_that_failed() {
    #[derive(Debug)]
    struct Panics;
    #[async_trait]
    impl Source for Panics {
        async fn fetch(&self) -> Result<String, FetchError> {
            panic!("a fault of ours")
        }
        fn is_private(&self) -> bool {
            false
        }
    }
    let set = Refreshed::new("test".into(), Box::new(Panics), RefreshSettings::default());
    assert_eq!(ask(&set, "a").await, Err(TokenError::Unavailable));
    assert_eq!(ask(&set, "a").await, Err(TokenError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_are_limited() {
    let (_, set) = refreshed(Some("a"));
    let all = futures_util::future::join_all((0..=MOST_WAITING).map(|_| ask(&set, "a"))).await;
    let refused = all.iter().filter(|result| **result == Err(TokenError::Unavailable)).count();
    assert_eq!(refused, 1);
    assert_eq!(all.iter().filter(|result| result.is_ok()).count(), MOST_WAITING);
}
