//! The rules of one session's queue, each by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use futures_util::FutureExt as _;

use super::*;

const LIMITS: QueueLimits = QueueLimits { events: 8, bytes: 80, replies: 3 };

/// A frame of ten bytes that names its position.
fn frame(seq: u64) -> Bytes {
    format!("{seq:010}").into()
}

fn text(first: u64, last: u64) -> String {
    (first..=last).map(|seq| format!("{seq:010}")).collect()
}

fn frames(first: u64, last: u64) -> Bytes {
    text(first, last).into()
}

/// A queue that is live behind position `taken`, its first frame read.
fn live(taken: u64) -> Outbound {
    let outbound = Outbound::new(LIMITS);
    outbound.start(Bytes::from_static(b"state"), Seq(taken), Seq(taken));
    assert_eq!(read(&outbound), "state");
    outbound
}

fn push(outbound: &Outbound, seq: u64) {
    outbound.push_log(Seq(seq), Seq(seq), 1, &frame(seq));
}

/// Everything that waits.
fn read(outbound: &Outbound) -> String {
    let mut all = Vec::new();
    let mut context = Context::from_waker(std::task::Waker::noop());
    while let Poll::Ready(Some(Ok(bytes))) = outbound.poll_next(&mut context) {
        all.extend_from_slice(&bytes);
    }
    String::from_utf8(all).unwrap()
}

fn next(outbound: &Outbound) -> Poll<Option<Result<Bytes, ClosingReason>>> {
    outbound.poll_next(&mut Context::from_waker(std::task::Waker::noop()))
}

/// Whether the session's task was woken since the last time this was asked.
fn session_woken(outbound: &Outbound) -> bool {
    outbound.changed().now_or_never().is_some()
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_fits_is_sent_in_order_and_joined_into_one_write() {
    let outbound = live(4);
    push(&outbound, 5);
    outbound.push_transient(&Bytes::from_static(b"typing----"));
    outbound.push_log(Seq(6), Seq(7), 2, &frames(6, 7));
    let Poll::Ready(Some(Ok(bytes))) = next(&outbound) else { panic!("nothing waits") };
    assert_eq!(bytes, format!("{:010}typing----{:010}{:010}", 5, 6, 7));
    assert!(next(&outbound).is_pending());
    assert_eq!((outbound.taken(), outbound.work()), (Seq(7), Work::Idle));
}

#[test]
fn large_frames_are_not_copied() {
    let limits = QueueLimits { events: 8, bytes: 4 * JOIN_BYTES, replies: 3 };
    let outbound = Outbound::new(limits);
    outbound.start(Bytes::new(), Seq::ZERO, Seq::ZERO);
    let large = Bytes::from(vec![b'x'; JOIN_BYTES]);
    outbound.push_log(Seq(1), Seq(1), 1, &large);
    outbound.push_log(Seq(2), Seq(2), 1, &frame(2));
    let _ = next(&outbound);
    assert!(matches!(next(&outbound), Poll::Ready(Some(Ok(bytes))) if bytes == frame(2)));
    outbound.push_log(Seq(3), Seq(3), 1, &large);
    assert!(
        matches!(next(&outbound), Poll::Ready(Some(Ok(bytes))) if std::ptr::eq(bytes.as_ref(), large.as_ref()))
    );
}

#[test]
fn nothing_is_sent_before_the_start_but_it_is_known_of() {
    let outbound = Outbound::new(LIMITS);
    push(&outbound, 5);
    outbound.push_transient(&frame(0));
    assert!(next(&outbound).is_pending());
    assert_eq!(outbound.work(), Work::Idle);
    outbound.start(Bytes::from_static(b"state"), Seq(4), Seq(4));
    assert!(session_woken(&outbound));
    assert_eq!(outbound.work(), Work::Read(Seq(4), Page { events: 8, bytes: 80 }));
}

#[test]
fn repeats_and_overlaps_are_not_sent_twice() {
    let outbound = live(4);
    push(&outbound, 5);
    push(&outbound, 5);
    push(&outbound, 3);
    outbound.push_log(Seq(4), Seq(5), 2, &frames(4, 5));
    assert_eq!(read(&outbound), frame(5));
    assert_eq!(outbound.work(), Work::Idle);
    // Only a part of it is new: the rest is read from the log.
    outbound.push_log(Seq(5), Seq(6), 2, &frames(5, 6));
    assert_eq!(read(&outbound), "");
    assert!(matches!(outbound.work(), Work::Read(Seq(5), _)));
}

#[test]
fn a_full_queue_takes_nothing_more_until_the_rest_was_read_from_the_log() {
    let outbound = live(0);
    for seq in 1..=20 {
        push(&outbound, seq);
    }
    assert_eq!(outbound.taken(), Seq(8));
    assert!(session_woken(&outbound));
    assert_eq!(outbound.work(), Work::Idle, "without space nothing is read");
    assert_eq!(read(&outbound), frames(1, 8));
    assert!(session_woken(&outbound), "the reader makes space and says so");
    let Work::Read(after, page) = outbound.work() else { panic!("nothing to do") };
    assert_eq!((after, page), (Seq(8), Page { events: 8, bytes: 80 }));
    // Live events in between are not sent out of order.
    push(&outbound, 21);
    assert_eq!(read(&outbound), "");
    outbound.push_missed(Seq(9), Seq(16), frames(9, 16));
    outbound.push_missed(Seq(9), Seq(16), frames(9, 16));
    assert_eq!(read(&outbound), frames(9, 16));
    outbound.push_missed(Seq(17), Seq(21), frames(17, 21));
    push(&outbound, 22);
    assert_eq!(read(&outbound), frames(17, 22), "live again without a gap");
    assert_eq!(outbound.work(), Work::Resync);
}

#[test]
fn bytes_are_bounded_as_events_are_and_one_too_large_for_all_comes_from_the_log() {
    let outbound = live(0);
    let large = Bytes::from(vec![b'x'; 81]);
    outbound.push_log(Seq(1), Seq(1), 1, &large);
    assert!(next(&outbound).is_pending());
    assert_eq!(outbound.work(), Work::Read(Seq(0), Page { events: 8, bytes: 80 }));
    outbound.push_missed(Seq(1), Seq(1), large);
    assert_eq!(outbound.taken(), Seq(1), "what was read for this session is taken, or it would never go on");
    assert_eq!(read(&outbound).len(), 81);
}

#[test]
fn the_log_is_not_read_before_half_of_the_queue_is_free() {
    let limits = QueueLimits { events: 8, bytes: 1 << 20, replies: 3 };
    let outbound = Outbound::new(limits);
    outbound.start(Bytes::new(), Seq::ZERO, Seq::ZERO);
    let large = Bytes::from(vec![b'x'; JOIN_BYTES]);
    for seq in 1..=9 {
        outbound.push_log(Seq(seq), Seq(seq), 1, &large);
    }
    let mut waiting = 8;
    while waiting > 4 {
        assert_eq!(outbound.work(), Work::Idle, "{waiting} wait");
        let Poll::Ready(Some(Ok(bytes))) = next(&outbound) else { panic!("nothing waits") };
        waiting -= bytes.len() / JOIN_BYTES;
    }
    assert!(matches!(outbound.work(), Work::Read(Seq(8), Page { events: 4, .. })));
}

#[test]
fn transient_events_have_half_of_the_queue_and_lasting_ones_all_of_it() {
    let outbound = live(0);
    for _ in 0..4 {
        outbound.push_transient(&frame(0));
    }
    assert_eq!(outbound.work(), Work::Idle);
    outbound.push_transient(&frame(0));
    assert!(session_woken(&outbound));
    for seq in 1..=4 {
        push(&outbound, seq);
    }
    assert_eq!(outbound.taken(), Seq(4), "the flood has not pushed the session into the log");
    assert_eq!(read(&outbound), text(0, 0).repeat(4) + &text(1, 4));
    assert_eq!(outbound.work(), Work::Resync);
    outbound.push_transient(&frame(0));
    assert_eq!(read(&outbound), "", "none before it is known what was left out");
    outbound.resynced(Bytes::from_static(b"resumed"));
    outbound.push_transient(&frame(0));
    assert_eq!(read(&outbound), "resumed0000000000");
    assert_eq!(outbound.work(), Work::Idle);
}

#[test]
fn a_resync_that_is_overtaken_waits_for_what_is_missing() {
    let outbound = live(0);
    for seq in 1..=9 {
        push(&outbound, seq);
    }
    assert_eq!(read(&outbound), frames(1, 8));
    outbound.resynced(Bytes::from_static(b"too early"));
    outbound.push_missed(Seq(9), Seq(9), frame(9));
    outbound.resynced(Bytes::from_static(b"resumed"));
    outbound.resynced(Bytes::from_static(b"and never twice"));
    assert_eq!(read(&outbound), "0000000009resumed");
}

#[test]
fn answers_have_a_budget_of_their_own_and_beyond_it_the_session_ends() {
    let outbound = live(0);
    for seq in 1..=9 {
        push(&outbound, seq);
    }
    for _ in 0..LIMITS.replies {
        outbound.push_reply(Bytes::from_static(b"a"));
    }
    assert_eq!(outbound.work(), Work::Idle, "a full queue of events leaves room for every answer");
    let _ = session_woken(&outbound);
    outbound.push_reply(Bytes::from_static(b"too many"));
    assert!(session_woken(&outbound));
    assert_eq!(outbound.work(), Work::End(Expelled::SlowConsumer));
    assert_eq!(read(&outbound), text(1, 8) + "aaa");
}

#[test]
fn a_client_that_reads_its_answers_may_go_on_for_ever() {
    let outbound = live(0);
    for _ in 0..1000 {
        outbound.push_reply(Bytes::from_static(b"a"));
        assert_eq!(read(&outbound), "a");
    }
    assert_eq!(outbound.work(), Work::Idle);
}

#[test]
fn the_closing_event_has_its_place_however_full_the_queue_is() {
    let outbound = live(0);
    for seq in 1..=9 {
        push(&outbound, seq);
    }
    for _ in 0..=LIMITS.replies {
        outbound.push_reply(Bytes::from_static(b"a"));
    }
    outbound.end(ClosingReason::SlowConsumer, |_| Bytes::from_static(b"closing"));
    outbound.end(ClosingReason::Internal, |_| Bytes::from_static(b"another"));
    assert_eq!(read(&outbound), text(1, 8) + "aaaclosing");
    assert!(matches!(next(&outbound), Poll::Ready(None)));
}

#[test]
fn the_reason_comes_once_behind_the_closing_event() {
    let outbound = live(0);
    outbound.end(ClosingReason::Draining, |_| Bytes::from_static(b"closing"));
    assert!(matches!(next(&outbound), Poll::Ready(Some(Ok(bytes))) if bytes == "closing"));
    assert!(matches!(next(&outbound), Poll::Ready(Some(Err(ClosingReason::Draining)))));
    assert!(matches!(next(&outbound), Poll::Ready(None)));
    assert!(matches!(next(&outbound), Poll::Ready(None)));
}

#[test]
fn the_first_wish_to_end_a_session_wins() {
    let outbound = live(0);
    outbound.expel(Expelled::Banned);
    assert!(session_woken(&outbound));
    outbound.expel(Expelled::RoomEnded);
    assert_eq!(outbound.work(), Work::End(Expelled::Banned));
}

#[test]
fn whatever_comes_wakes_the_reader_and_only_what_is_left_out_the_session() {
    let wakes = Arc::new(Wakes::default());
    let waker = Arc::clone(&wakes).into();
    let outbound = live(0);
    let woken = |act: &dyn Fn()| {
        while outbound.poll_next(&mut Context::from_waker(&waker)).is_ready() {}
        let before = wakes.0.load(Ordering::Relaxed);
        act();
        wakes.0.load(Ordering::Relaxed) - before
    };
    assert_eq!(woken(&|| push(&outbound, 1)), 1);
    assert_eq!(woken(&|| outbound.push_transient(&frame(0))), 1);
    assert_eq!(woken(&|| outbound.push_reply(frame(0))), 1);
    assert!(!session_woken(&outbound));
    assert_eq!(woken(&|| push(&outbound, 3)), 0);
    assert!(session_woken(&outbound));
    assert_eq!(woken(&|| outbound.push_missed(Seq(2), Seq(3), frames(2, 3))), 1);
    assert_eq!(woken(&|| outbound.resynced(frame(0))), 1);
    assert_eq!(woken(&|| outbound.end(ClosingReason::Left, |_| frame(0))), 1);
}

#[test]
fn it_is_known_when_something_was_sent() {
    let outbound = live(0);
    read(&outbound);
    let sent = outbound.sent_at();
    assert!(sent.is_some());
    assert_eq!(read(&outbound), "");
    assert_eq!(outbound.sent_at(), sent);
}

#[test]
fn a_queue_nobody_reads_any_more_holds_nothing() {
    let outbound = live(0);
    push(&outbound, 1);
    outbound.close();
    push(&outbound, 2);
    outbound.push_transient(&frame(0));
    outbound.push_reply(frame(0));
    outbound.push_missed(Seq(2), Seq(2), frame(2));
    assert!(session_woken(&outbound));
    assert_eq!(outbound.work(), Work::Gone);
    assert!(outbound.lock().frames.is_empty());
}
