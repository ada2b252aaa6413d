//! An end that is waited for beside something that goes on.
//!
//! A connection is woken for each delivery and a room for each command, and most of what may end them says nothing for
//! days. Asking all of that each time costs more than a lock or two: what tells all of them to stop is one thing, so the
//! locks are everybody's.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Goes on with `main` until it is done, or `end` is; then there is no result. `end` is polled only when it was itself
/// woken.
pub(crate) async fn unless<T>(main: impl Future<Output = T>, end: impl Future) -> Option<T> {
    let (mut main, mut end) = (pin!(main), pin!(end));
    let woken = Arc::new(Woken { is_woken: AtomicBool::new(true), task: AtomicWaker::new() });
    let waker = Waker::from(Arc::clone(&woken));
    poll_fn(|context| {
        // Before the look at `is_woken`: who wakes behind that look finds this task.
        woken.task.register(context.waker());
        if let Poll::Ready(done) = main.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        if woken.is_woken.swap(false, Ordering::AcqRel) {
            return end.as_mut().poll(&mut Context::from_waker(&waker)).map(|_| None);
        }
        Poll::Pending
    })
    .await
}

/// Whether the end was woken, and whom to tell.
struct Woken {
    is_woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake();
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
