//! Counts what a client sends of the frames that cost a server more than the client: HEADERS, each of which begins a
//! stream with a task of its own; SETTINGS, each of which HTTP/2 wants acknowledged by itself, with a write of its own
//! (RFC 9113, 6.5.3); and PING, each of which it wants answered.
//!
//! Looks at the heads of frames as they pass and at nothing else. Whoever sends more SETTINGS or PING than anybody needs
//! is read no faster than at a pace: what it sends besides waits, in its own socket. Streams are bounded elsewhere; here
//! is said how many begin, so that others have their turns in between.

use std::time::Duration;

use tokio::time::Instant;

/// SETTINGS of one connection that are read at once, and the time for one more. An honest client sends one, and a few as
/// it finds out how large its windows should be.
const SETTINGS_PACE: (u32, Duration) = (64, Duration::from_millis(100));
/// The same of PING, of which an honest client has one under way at a time.
const PING_PACE: (u32, Duration) = (2000, Duration::from_micros(100));
/// How long it waits at most. What answers our own pings waits as well: `grpc.keepalive_timeout` is longer, unless somebody
/// has made it short.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Bytes of a frame's head: three of length, its type, flags, and four of its stream (RFC 9113, 4.1).
const HEAD: usize = 9;
/// The types of frames, and the flag of those that answer ours.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;

/// How far the frames of one connection were looked at, and what they allow.
#[derive(Debug)]
pub(super) struct Frames {
    /// A head that has not come whole.
    head: [u8; HEAD],
    has: usize,
    /// Bytes of a frame that are still to come.
    rest: usize,
    settings: Pace,
    pings: Pace,
}

/// How much of one kind was sent: when as many may come at once again as ever.
#[derive(Debug)]
struct Pace(Instant);

/// What a read has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Streams that begin.
    pub(super) streams: usize,
    /// How long to wait before more is read.
    pub(super) wait: Option<Duration>,
}

impl Frames {
    /// Nothing was sent yet.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { head: [0; HEAD], has: 0, rest: 0, settings: Pace(now), pings: Pace(now) }
    }

    /// Looks at bytes of frames that were read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Seen {
        let (mut settings, mut pings, mut streams) = (0, 0, 0);
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            (self.rest, bytes) = (self.rest - skipped, bytes.get(skipped..).unwrap_or_default());
            let missing = HEAD - self.has;
            let part = bytes.get(..missing).unwrap_or(bytes);
            if let Some(into) = self.head.get_mut(self.has..self.has + part.len()) {
                into.copy_from_slice(part);
            }
            (self.has, bytes) = (self.has + part.len(), bytes.get(part.len()..).unwrap_or_default());
            if self.has == HEAD {
                let [a, b, c, kind, flags, ..] = self.head;
                settings += u32::from(kind == SETTINGS && flags & ACK == 0);
                pings += u32::from(kind == PING && flags & ACK == 0);
                streams += usize::from(kind == HEADERS);
                self.rest = u32::from_be_bytes([0, a, b, c]) as usize;
                self.has = 0;
            }
        }
        let settings = self.settings.count(settings, SETTINGS_PACE);
        Seen { streams, wait: settings.max(self.pings.count(pings, PING_PACE)) }
    }
}

impl Pace {
    /// Counts so many; how long to wait behind them.
    fn count(&mut self, seen: u32, (at_once, each): (u32, Duration)) -> Option<Duration> {
        if seen == 0 {
            return None;
        }
        let now = Instant::now();
        self.0 = self.0.max(now) + each * seen;
        let wait = (self.0 - now).checked_sub(each * at_once).filter(|wait| !wait.is_zero())?;
        // What was read at one go is bounded, and so is what is owed for it.
        self.0 = self.0.min(now + WAIT_MAX + each * at_once);
        Some(wait.min(WAIT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, len: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, len, kind, flags, 0, 0, 0, 0];
        // Looks like the heads of SETTINGS.
        frame.extend((0..len).map(|n| [0, 0, 0, SETTINGS, 0][usize::from(n) % 5]));
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_counted_however_they_come() {
        let (data, headers) = (frame(0, 0, 200), frame(HEADERS, 4, 99));
        let (settings, ack) = (frame(SETTINGS, 0, 12), frame(SETTINGS, ACK, 0));
        let all = [&data, &headers, &settings, &ack, &frame(6, 0, 8), &headers].map(Vec::as_slice).concat();
        for step in [1, 2, 7, 64, all.len()] {
            let mut frames = Frames::new();
            let begun = Instant::now();
            let seen: Vec<Seen> = all.chunks(step).map(|part| frames.read(part)).collect();
            assert_eq!(seen.iter().map(|seen| seen.streams).sum::<usize>(), 2);
            assert!(seen.iter().all(|seen| seen.wait.is_none()));
            let counted = (frames.settings.0 - begun, frames.pings.0 - begun);
            assert_eq!(counted, (SETTINGS_PACE.1, PING_PACE.1), "in pieces of {step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_many_waits_and_goes_on_at_a_pace() {
        for (kind, (at_once, each)) in [(SETTINGS, SETTINGS_PACE), (PING, PING_PACE)] {
            let mut frames = Frames::new();
            let mut wait = |count| frames.read(&frame(kind, 0, 0).repeat(count as usize)).wait;
            assert_eq!(wait(at_once), None);
            for _ in 0..5 {
                assert_eq!(wait(10), Some(each * 10));
                tokio::time::advance(each * 10).await;
            }
            assert_eq!(wait(1_000_000), Some(WAIT_MAX));
            tokio::time::advance(WAIT_MAX + each).await;
            assert_eq!(wait(1), None, "it owes no more than it waited for");
            tokio::time::advance(each * at_once).await;
            assert_eq!(wait(at_once), None);
        }
    }
}
