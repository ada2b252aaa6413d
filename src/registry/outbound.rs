//! What waits to be sent to one session: bounded, never waited for, and honest about what it left out.
//!
//! Three kinds of frames come in. Lasting ones are taken only in the order of their positions; when they do not fit,
//! or one is missing, nothing more is taken until the session has read the rest from the log, so that a slow reader
//! holds no memory and misses nothing. Transient ones are dropped when the queue is half full or the session is
//! behind. Replies to the session's own commands have a small budget of their own; a client that goes on sending
//! without reading the answers uses it up and is closed. The closing event has a place of its own.

mod join;

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use crate::{
    ids::Seq,
    store::Page,
    wire::reply::{ClosingReason, Dialect},
};

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Lasting and transient events.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Replies to commands.
    pub replies: usize,
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Lasting and transient events.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Replies to commands.
    pub replies: usize,
}

/// Frames that are ready are joined up to this size into one write: below it a copy costs less than a write.
const JOIN_BYTES: usize = 16 * 1024;

/// The queue of one session.
#[derive(Debug)]
pub struct Outbound {
    queue: Mutex<Queue>,
    /// Wakes the session's task: it must read the log, or end.
    session: Notify,
    limits: QueueLimits,
    dialect: Dialect,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frames>,
    events: usize,
    bytes: usize,
    replies: usize,
    /// Wakes the connection, which sends; none while it has work already. Kept here because the lock is taken anyway.
    reader: Option<Waker>,
    /// The last position taken.
    taken: Seq,
    /// The last position known to exist.
    known: Seq,
    mode: Mode,
    /// A snapshot has left out texts of answers: their messages must come whole.
    whole: bool,
    /// The session must end for this reason.
    expelled: Option<Expelled>,
    ending: Ending,
    /// The connection has gone.
    closed: bool,
    /// When something was sent the last time.
    sent_at: Option<Instant>,
}

/// How a session follows its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    /// It has not joined: nothing is taken but replies.
    #[default]
    Before,
    /// `room_state` or `resumed` has been taken, and nothing was left out since.
    Live,
    /// Something was left out since: lasting events are read from the log, transient ones dropped.
    Behind,
}

/// How far a stream is from its end.
#[derive(Debug, Default)]
enum Ending {
    /// Nobody has ended it.
    #[default]
    Open,
    /// The closing event is still to be sent, then the status.
    Closing(Bytes, ClosingReason),
    /// The status is still to be sent.
    Status(ClosingReason),
    /// Everything is sent.
    Over,
}

#[derive(Debug)]
struct Frames {
    bytes: Bytes,
    events: usize,
    replies: usize,
}

/// Why the registry wants a session to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expelled {
    /// The membership ended by the user's own wish, on this or another stream.
    Left,
    /// An ADMIN removed the user.
    Removed,
    /// An ADMIN banned the user.
    Banned,
    /// The room is over.
    RoomEnded,
    /// The user opened too many streams; this is the oldest.
    TooManySessions,
    /// Answers were not read.
    SlowConsumer,
    /// The room's task failed.
    Internal,
}

/// What the session's task has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Read the log behind this position, as much as fits, and hand it to [`Outbound::push_missed`].
    Read(Seq, Page),
    /// Everything was read: ask the room for a `resumed`.
    Resync,
    /// End.
    End(Expelled),
    /// Nothing; wait.
    Idle,
    /// The connection has gone.
    Gone,
}

impl Outbound {
    /// An empty queue.
    pub fn new(limits: QueueLimits) -> Self {
        Self::speaking(limits, Dialect::default())
    }

    /// An empty queue of a stream that speaks `dialect`.
    pub fn speaking(limits: QueueLimits, dialect: Dialect) -> Self {
        Self { queue: Mutex::default(), session: Notify::new(), limits, dialect }
    }

    /// What the stream speaks.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic while the queue was held leaves counters at worst; the session goes on.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes live events: `frames` speak for all from `first` to `last`, in `events` messages.
    pub fn push_log(&self, first: Seq, last: Seq, events: usize, frames: &Bytes) {
        self.push_live(first, last, events, frames, None);
    }

    /// [`Outbound::push_log`]; `streamed` are the same events without texts that were told by chunks, for a session that
    /// was told all of them.
    pub(super) fn push_live(
        &self,
        first: Seq,
        last: Seq,
        events: usize,
        frames: &Bytes,
        streamed: Option<&Bytes>,
    ) {
        let mut queue = self.lock();
        if queue.is_over() || last <= queue.taken {
            return;
        }
        queue.known = queue.known.max(last);
        if queue.mode == Mode::Before {
            return;
        }
        // Who has left something out may have left out a chunk.
        let frames = streamed.filter(|_| queue.mode == Mode::Live && !queue.whole).unwrap_or(frames);
        if first == queue.taken.next() && queue.fits(events, frames.len(), self.limits) {
            queue.take(last, events, frames.clone());
            wake_reader(queue);
        } else {
            queue.mode = Mode::Behind;
            drop(queue);
            self.session.notify_one();
        }
    }

    /// Takes events that were read from the log for this session alone.
    pub fn push_missed(&self, first: Seq, last: Seq, frames: Bytes) {
        let mut queue = self.lock();
        if queue.is_over() || first != queue.taken.next() {
            return;
        }
        queue.take(last, count(first, last), frames);
        wake_reader(queue);
    }

    /// Takes a transient event, or leaves it out.
    pub fn push_transient(&self, frame: &Bytes) {
        let mut queue = self.lock();
        if queue.is_over() || queue.mode == Mode::Before {
            return;
        }
        // Half of the queue is kept for what lasts: a flood of typing must not push a session into the log.
        let half =
            QueueLimits { events: self.limits.events / 2, bytes: self.limits.bytes / 2, ..self.limits };
        if queue.mode == Mode::Behind || !queue.fits(1, frame.len(), half) {
            queue.mode = Mode::Behind;
            drop(queue);
            // Whoever left something out must tell the session, which resynchronises once there is space.
            self.session.notify_one();
            return;
        }
        queue.push(Frames { bytes: frame.clone(), events: 1, replies: 0 });
        wake_reader(queue);
    }

    /// Takes the answer to a command. Too many unread answers end the session.
    pub fn push_reply(&self, frame: Bytes) {
        let mut queue = self.lock();
        if queue.is_over() {
            return;
        }
        if queue.replies >= self.limits.replies {
            queue.expelled.get_or_insert(Expelled::SlowConsumer);
            drop(queue);
            self.session.notify_one();
            return;
        }
        queue.push(Frames { bytes: frame, events: 0, replies: 1 });
        wake_reader(queue);
    }

    /// Takes `room_state` or `resumed`, which speaks for `at`: live events follow behind `taken`.
    pub fn start(&self, frame: Bytes, taken: Seq, known: Seq) {
        let mut queue = self.lock();
        if queue.is_over() {
            return;
        }
        queue.push(Frames { bytes: frame, events: 0, replies: 1 });
        queue.taken = taken;
        queue.known = queue.known.max(known);
        queue.mode = Mode::Live;
        let behind = queue.known > queue.taken;
        wake_reader(queue);
        if behind {
            self.session.notify_one();
        }
    }

    /// Takes the `resumed` that ends a time of leaving things out, unless more was left out since.
    pub fn resynced(&self, frame: Bytes) {
        let mut queue = self.lock();
        if queue.is_over() || queue.mode != Mode::Behind || queue.known > queue.taken {
            return;
        }
        queue.mode = Mode::Live;
        // Counted like an event: a reader who has stopped must not be told again and again.
        queue.push(Frames { bytes: frame, events: 1, replies: 0 });
        wake_reader(queue);
    }

    /// Has the session told anew what holds now, as if it had left something out.
    pub(super) fn tell_anew(&self) {
        let mut queue = self.lock();
        if queue.mode == Mode::Live {
            queue.mode = Mode::Behind;
            drop(queue);
            self.session.notify_one();
        }
    }

    /// From now on messages come with their texts, whatever chunks were told.
    pub fn want_whole_messages(&self) {
        self.lock().whole = true;
    }

    /// Asks the session's task to end.
    pub fn expel(&self, why: Expelled) {
        self.lock().expelled.get_or_insert(why);
        self.session.notify_one();
    }

    /// Ends the stream: after what waits comes the closing event, then the reason. `closing` is told the last position
    /// taken; nothing is taken after it. The first end wins.
    pub fn end(&self, reason: ClosingReason, closing: impl FnOnce(Seq) -> Bytes) {
        let mut queue = self.lock();
        if matches!(queue.ending, Ending::Open) {
            queue.ending = Ending::Closing(closing(queue.taken), reason);
        }
        wake_reader(queue);
    }

    /// When something was sent the last time; `None`: never.
    pub fn sent_at(&self) -> Option<Instant> {
        self.lock().sent_at
    }

    /// The last position this session has taken.
    pub fn taken(&self) -> Seq {
        self.lock().taken
    }

    /// Whether there are lasting events that this session has not taken yet.
    pub fn is_behind(&self) -> bool {
        let queue = self.lock();
        queue.known > queue.taken
    }

    /// How much waits to be sent.
    pub fn backlog(&self) -> Backlog {
        let queue = self.lock();
        Backlog { events: queue.events, bytes: queue.bytes, replies: queue.replies }
    }

    /// What the session's task has to do now.
    pub fn work(&self) -> Work {
        let queue = self.lock();
        if queue.closed {
            return Work::Gone;
        }
        if let Some(why) = queue.expelled {
            return Work::End(why);
        }
        // Not before half is free: many small readings cost more than few large ones.
        let events = self.limits.events.saturating_sub(queue.events);
        let bytes = self.limits.bytes.saturating_sub(queue.bytes);
        let has_space = events >= self.limits.events / 2 && bytes >= self.limits.bytes / 2;
        if queue.mode == Mode::Before || !has_space {
            return Work::Idle;
        }
        if queue.known > queue.taken {
            Work::Read(queue.taken, Page { events, bytes })
        } else if queue.mode == Mode::Behind && queue.is_nearly_empty(self.limits) {
            Work::Resync
        } else {
            Work::Idle
        }
    }

    /// Has the session's task look at [`Outbound::work`] once more.
    pub fn look_again(&self) {
        self.session.notify_one();
    }

    /// Waits until [`Outbound::work`] may have changed.
    pub async fn changed(&self) {
        self.session.notified().await;
    }

    /// The connection has gone: nothing more is taken.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.frames.clear();
        drop(queue);
        self.session.notify_one();
    }

    /// The next bytes to send; at the end the reason.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClosingReason>>> {
        let mut queue = self.lock();
        if let Some(bytes) = queue.pop() {
            queue.sent_at = Some(Instant::now());
            let waiting = queue.mode == Mode::Behind || queue.known > queue.taken;
            drop(queue);
            if waiting {
                self.session.notify_one();
            }
            return Poll::Ready(Some(Ok(bytes)));
        }
        match std::mem::take(&mut queue.ending) {
            Ending::Open => {
                // Whoever was given something comes again by themselves.
                match &mut queue.reader {
                    Some(known) => known.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            Ending::Closing(closing, reason) => {
                queue.ending = Ending::Status(reason);
                Poll::Ready(Some(Ok(closing)))
            }
            Ending::Status(reason) => {
                queue.ending = Ending::Over;
                Poll::Ready(Some(Err(reason)))
            }
            Ending::Over => {
                queue.ending = Ending::Over;
                Poll::Ready(None)
            }
        }
    }
}

impl Queue {
    /// Whether nothing more is taken: the connection has gone, or the end is decided.
    fn is_over(&self) -> bool {
        self.closed || !matches!(self.ending, Ending::Open)
    }

    /// Whether what was left out can be told anew. Far below where transient events are left out, so that a reader who
    /// has stopped is not told over and over.
    fn is_nearly_empty(&self, limits: QueueLimits) -> bool {
        self.events <= limits.events / 4 && self.bytes <= limits.bytes / 4
    }

    fn fits(&self, events: usize, bytes: usize, limits: QueueLimits) -> bool {
        self.events + events <= limits.events && self.bytes + bytes <= limits.bytes
    }

    fn take(&mut self, last: Seq, events: usize, bytes: Bytes) {
        self.taken = last;
        self.known = self.known.max(last);
        self.push(Frames { bytes, events, replies: 0 });
    }

    fn push(&mut self, frames: Frames) {
        self.events += frames.events;
        self.replies += frames.replies;
        if frames.replies == 0 {
            self.bytes += frames.bytes.len();
        }
        self.frames.push_back(frames);
    }

    /// One frame as it is, or several small ones joined.
    fn pop(&mut self) -> Option<Bytes> {
        let mut have = 0;
        let fits = |next: &&Frames| {
            have += next.bytes.len();
            have <= JOIN_BYTES
        };
        let count = self.frames.iter().take_while(fits).count();
        if count < 2 {
            return self.pop_one();
        }
        let ready = || self.frames.iter().take(count);
        if let Some(joined) = join::again(ready().map(|one| &one.bytes)) {
            (0..count).for_each(|_| drop(self.pop_one()));
            return Some(joined);
        }
        let bytes = ready().map(|one| one.bytes.len()).sum();
        Some(join::anew(std::iter::from_fn(|| self.pop_one()).take(count), bytes))
    }

    fn pop_one(&mut self) -> Option<Bytes> {
        let frames = self.frames.pop_front()?;
        self.events -= frames.events;
        self.replies -= frames.replies;
        if frames.replies == 0 {
            self.bytes -= frames.bytes.len();
        }
        Some(frames.bytes)
    }
}

/// Lets go of the queue, and wakes whoever reads it.
fn wake_reader(mut queue: MutexGuard<'_, Queue>) {
    let reader = queue.reader.take();
    drop(queue);
    if let Some(reader) = reader {
        reader.wake();
    }
}

/// How many positions there are from `first` to `last`.
pub(super) fn count(first: Seq, last: Seq) -> usize {
    usize::try_from(last.0.saturating_sub(first.0).saturating_add(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
