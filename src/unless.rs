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

/// Goes on with `main` until it is done, or `end` is; then there is no result. `end` goes first, and is polled only when it was
/// itself woken: what is behind the end is not begun.
pub(crate) async fn unless<T>(main: impl Future<Output = T>, end: impl Future) -> Option<T> {
    let (mut main, mut end) = (pin!(main), pin!(end));
    let woken = Arc::new(Woken { is_woken: AtomicBool::new(true), task: AtomicWaker::new() });
    let waker = Waker::from(Arc::clone(&woken));
    poll_fn(|context| {
        // Before the look at `is_woken`: who wakes behind that look finds this task.
        woken.task.register(context.waker());
        if woken.is_woken.swap(false, Ordering::AcqRel)
            && end.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        {
            return Poll::Ready(None);
        }
        main.as_mut().poll(context).map(Some)
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
    use std::{future::poll_fn, task::Poll, time::Duration};

    use tokio::{sync::oneshot, task::JoinSet};

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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_end_is_missed_whoever_wakes_it_and_when() {
        for round in 0..2000 {
            let (stop, stopped) = oneshot::channel::<()>();
            // Every other one is busy, so that the end comes at any time of its turns.
            let main = poll_fn(|context| {
                if round % 2 == 0 {
                    context.waker().wake_by_ref();
                }
                Poll::<()>::Pending
            });
            let mut stopping = JoinSet::new();
            stopping.spawn(async move { stop.send(()) });
            let ended = tokio::time::timeout(Duration::from_secs(30), unless(main, stopped)).await;
            assert_eq!(ended.map_err(|_| round), Ok(None));
            stopping.join_next().await.unwrap().unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn the_end_ends_it() {
        let (stop, stopped) = oneshot::channel::<()>();
        let waiting = unless(std::future::pending::<()>(), stopped);
        let (ended, ()) = tokio::join!(waiting, async { stop.send(()).unwrap() });
        assert_eq!(ended, None);
        // What is behind the end is not begun.
        let main = poll_fn(|_| -> Poll<()> { panic!("begun") });
        assert_eq!(unless(main, std::future::ready(())).await, None);
    }
}
