//! Counts what a client sends of two kinds of frames that cost a server more than the client: HEADERS, each of which
//! begins a stream with a task of its own, and SETTINGS, each of which HTTP/2 wants acknowledged by itself, with a write of
//! its own (RFC 9113, 6.5.3).
//!
//! Looks at the heads of frames as they pass and at nothing else. Of SETTINGS an honest client sends one, and a few more
//! as it finds out how large its windows should be: whoever sends more than that is read no faster than at a pace.
//! Streams are bounded elsewhere; here is said how many begin, so that others have their turns in between.

use std::time::Duration;

use tokio::time::Instant;

/// SETTINGS frames of one connection that are read at once.
const AT_ONCE: u32 = 64;
/// Time for one more.
const EACH: Duration = Duration::from_millis(100);
/// How long it waits at most: less than a connection lives that does not answer.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Bytes of a frame's head: three of length, its type, flags, and four of its stream (RFC 9113, 4.1).
const HEAD: usize = 9;
/// The types of HEADERS and SETTINGS, and the flag of one that acknowledges.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;

/// How far the frames of one connection were looked at, and what they allow.
#[derive(Debug)]
pub(super) struct Frames {
    /// A head that has not come whole.
    head: [u8; HEAD],
    has: usize,
    /// Bytes of a frame that are still to come.
    rest: usize,
    /// When all that it may send at once may be sent again.
    full_at: Instant,
}

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
        Self { head: [0; HEAD], has: 0, rest: 0, full_at: Instant::now() }
    }

    /// Looks at bytes of frames that were read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Seen {
        let (mut settings, mut streams) = (0, 0);
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
                streams += usize::from(kind == HEADERS);
                self.rest = u32::from_be_bytes([0, a, b, c]) as usize;
                self.has = 0;
            }
        }
        Seen { streams, wait: if settings == 0 { None } else { self.wait(settings) } }
    }

    fn wait(&mut self, settings: u32) -> Option<Duration> {
        let now = Instant::now();
        self.full_at = self.full_at.max(now) + EACH * settings;
        let wait = (self.full_at - now).checked_sub(EACH * AT_ONCE).filter(|wait| !wait.is_zero())?;
        // What was read at one go is bounded, and so is what is owed for it.
        self.full_at = self.full_at.min(now + WAIT_MAX + EACH * AT_ONCE);
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
            assert_eq!(frames.full_at, begun + EACH, "in pieces of {step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_many_waits_and_goes_on_at_a_pace() {
        let mut frames = Frames::new();
        let one = frame(SETTINGS, 0, 0);
        assert_eq!(frames.read(&one.repeat(AT_ONCE as usize)).wait, None);
        assert_eq!(frames.read(&one).wait, Some(EACH));
        for _ in 0..5 {
            tokio::time::advance(EACH).await;
            assert_eq!(frames.read(&one).wait, Some(EACH));
        }
        assert_eq!(frames.read(&one.repeat(100_000)).wait, Some(WAIT_MAX));
        tokio::time::advance(WAIT_MAX + EACH).await;
        assert_eq!(frames.read(&one).wait, None, "it owes no more than it waited for");
        tokio::time::advance(EACH * AT_ONCE).await;
        assert_eq!(frames.read(&one.repeat(AT_ONCE as usize)).wait, None);
    }
}
