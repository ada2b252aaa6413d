//! An end that is waited for beside something that goes on.
//!
//! A connection is woken for each delivery, and most of what may end it says nothing for days. Asking all of that each
//! time costs more than a lock or two: what tells every connection to stop is one thing, so the locks are everybody's.

use std::{future::Future, pin::pin};

use futures_util::stream::{FuturesUnordered, StreamExt as _};

/// Goes on with `main` until it is done, or `end` is; then there is no result. `end` is polled only when it was itself
/// woken.
pub(super) async fn unless<T>(main: impl Future<Output = T>, end: impl Future) -> Option<T> {
    let mut end = FuturesUnordered::from_iter([end]);
    let mut main = pin!(main);
    tokio::select! {
        biased;
        done = main.as_mut() => Some(done),
        _ = end.next() => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_end_is_not_asked_each_time() {
        const TURNS: usize = 100;
        let (mut turns, mut asked) = (0, 0);
        let main = poll_fn(|context| {
            turns += 1;
            if turns == TURNS {
                return Poll::Ready("done");
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        let end = poll_fn(|_| {
            asked += 1;
            Poll::<()>::Pending
        });
        assert_eq!(unless(main, end).await, Some("done"));
        assert_eq!((turns, asked), (TURNS, 1));
    }

    #[tokio::test]
    async fn the_end_ends_it() {
        let (stop, stopped) = oneshot::channel::<()>();
        let waiting = unless(std::future::pending::<()>(), stopped);
        let (ended, ()) = tokio::join!(waiting, async { stop.send(()).unwrap() });
        assert_eq!(ended, None);
        assert_eq!(unless(std::future::pending::<()>(), std::future::ready(())).await, None);
    }
}
