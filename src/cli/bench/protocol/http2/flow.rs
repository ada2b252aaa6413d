//! What we send, as far as the server's windows let it: of a message the part that fits, and the rest when there is room.
//!
//! What waits on one stream leaves in its order, and holds no other stream up. A window that opens costs what leaves by
//! it, however much else waits.

use std::collections::VecDeque;

use super::frames::{DATA, FRAME_BYTES, head, id_of};

/// What a window has before anybody has said anything.
const WINDOW_DEFAULT: i64 = 65_535;
/// What has left a queue is taken out of it when it is so much, and half of it.
const KEPT_BYTES: usize = 64 << 10;

/// One stream.
#[derive(Debug)]
struct Lane {
    /// What the server still takes.
    window: i64,
    /// What waits, behind what of it has left.
    waiting: Vec<u8>,
    left: usize,
    /// Whether it stands among those that wait for the connection.
    is_queued: bool,
    is_over: bool,
}

impl Lane {
    fn new() -> Self {
        Self { window: WINDOW_DEFAULT, waiting: Vec::new(), left: 0, is_queued: false, is_over: false }
    }

    fn is_waiting(&self) -> bool {
        self.left < self.waiting.len()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flow {
    lanes: Vec<Lane>,
    /// What the server still takes on all streams together.
    window: i64,
    /// What it takes on a new stream.
    initial: i64,
    /// Streams that have something to say and a window for it, and wait for that of the connection.
    queue: VecDeque<usize>,
}

impl Flow {
    /// With so many streams.
    pub(super) fn of(streams: usize) -> Self {
        Self {
            lanes: (0..streams).map(|_| Lane::new()).collect(),
            window: WINDOW_DEFAULT,
            initial: WINDOW_DEFAULT,
            queue: VecDeque::new(),
        }
    }

    /// Sends as much of `message` as the server takes, behind what already waits there, and keeps the rest.
    pub(super) fn send(&mut self, index: usize, message: &[u8], out: &mut Vec<u8>) {
        let Some(lane) = self.lanes.get_mut(index).filter(|lane| !lane.is_over) else {
            return;
        };
        let now = if lane.is_waiting() { 0 } else { fitting(message.len(), lane.window.min(self.window)) };
        let (now, later) = message.split_at_checked(now).unwrap_or((&[], message));
        put(index, now, lane, &mut self.window, out);
        if !later.is_empty() {
            lane.waiting.extend_from_slice(later);
            self.enqueue(index);
        }
    }

    /// The stream is over: what waits there need not leave any more.
    pub(super) fn over(&mut self, index: usize) {
        if let Some(lane) = self.lanes.get_mut(index) {
            (lane.is_over, lane.waiting, lane.left) = (true, Vec::new(), 0);
        }
    }

    /// The server takes so much more on a stream, or on all together.
    pub(super) fn opened(&mut self, index: Option<usize>, more: i64, out: &mut Vec<u8>) {
        match index {
            None => self.window += more,
            Some(index) => {
                if let Some(lane) = self.lanes.get_mut(index) {
                    lane.window += more;
                    self.enqueue(index);
                }
            }
        }
        self.drain(out);
    }

    /// The server takes so much on a new stream, and the difference on those that are open.
    pub(super) fn initial(&mut self, window: u32, out: &mut Vec<u8>) {
        let change = i64::from(window) - self.initial;
        self.initial = i64::from(window);
        for index in 0..self.lanes.len() {
            if let Some(lane) = self.lanes.get_mut(index) {
                lane.window += change;
                self.enqueue(index);
            }
        }
        self.drain(out);
    }

    fn enqueue(&mut self, index: usize) {
        if let Some(lane) = self.lanes.get_mut(index)
            && lane.is_waiting()
            && lane.window > 0
            && !lane.is_queued
        {
            lane.is_queued = true;
            self.queue.push_back(index);
        }
    }

    fn drain(&mut self, out: &mut Vec<u8>) {
        while self.window > 0
            && let Some(index) = self.queue.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(index) else {
                continue;
            };
            lane.is_queued = false;
            let waiting = std::mem::take(&mut lane.waiting);
            let rest = waiting.get(lane.left..).unwrap_or_default();
            let now = fitting(rest.len(), lane.window.min(self.window));
            put(index, rest.get(..now).unwrap_or_default(), lane, &mut self.window, out);
            lane.left += now;
            if lane.left < waiting.len() {
                lane.waiting = waiting;
                if lane.left >= KEPT_BYTES && lane.left * 2 >= lane.waiting.len() {
                    lane.waiting.drain(..std::mem::take(&mut lane.left));
                }
                self.enqueue(index);
            } else {
                lane.left = 0;
            }
        }
    }
}

/// How much of so many bytes a window takes.
fn fitting(length: usize, window: i64) -> usize {
    usize::try_from(window).unwrap_or_default().min(length)
}

fn put(index: usize, bytes: &[u8], lane: &mut Lane, window: &mut i64, out: &mut Vec<u8>) {
    let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    lane.window -= length;
    *window -= length;
    for part in bytes.chunks(FRAME_BYTES) {
        head(out, part.len(), DATA, 0, id_of(index));
        out.extend_from_slice(part);
    }
}
