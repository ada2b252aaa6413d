//! Counts what a client sends of one kind of frame that costs a server more than the client: SETTINGS, each of which
//! HTTP/2 wants acknowledged by itself, with a write of its own (RFC 9113, 6.5.3).
//!
//! Looks at the heads of frames as they pass and at nothing else. Whoever sends more than anybody needs is read no faster
//! than that: what it sends besides waits, in its own socket. An honest client sends one, and a few more as it finds out
//! how large its windows should be.

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
/// The type of SETTINGS, and the flag of one that acknowledges.
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

impl Frames {
    /// Nothing was sent yet.
    pub(super) fn new() -> Self {
        Self { head: [0; HEAD], has: 0, rest: 0, full_at: Instant::now() }
    }

    /// Looks at bytes of frames that were read; how long to wait before more are.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Option<Duration> {
        let mut seen = 0;
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
                seen += u32::from(kind == SETTINGS && flags & ACK == 0);
                self.rest = u32::from_be_bytes([0, a, b, c]) as usize;
                self.has = 0;
            }
        }
        if seen == 0 { None } else { self.wait(seen) }
    }

    fn wait(&mut self, seen: u32) -> Option<Duration> {
        let now = Instant::now();
        self.full_at = self.full_at.max(now) + EACH * seen;
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
    async fn settings_are_counted_however_they_come_and_nothing_else_is() {
        let data = frame(0, 0, 200);
        let all =
            [data.as_slice(), &frame(SETTINGS, 0, 12), &frame(SETTINGS, ACK, 0), &frame(6, 0, 8), &data];
        let all = all.concat();
        for step in [1, 2, 7, 64, all.len()] {
            let mut frames = Frames::new();
            let begun = Instant::now();
            for part in all.chunks(step) {
                assert_eq!(frames.read(part), None);
            }
            assert_eq!(frames.full_at, begun + EACH, "in pieces of {step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_many_waits_and_goes_on_at_a_pace() {
        let mut frames = Frames::new();
        let one = frame(SETTINGS, 0, 0);
        assert_eq!(frames.read(&one.repeat(AT_ONCE as usize)), None);
        assert_eq!(frames.read(&one), Some(EACH));
        for _ in 0..5 {
            tokio::time::advance(EACH).await;
            assert_eq!(frames.read(&one), Some(EACH));
        }
        assert_eq!(frames.read(&one.repeat(100_000)), Some(WAIT_MAX));
        tokio::time::advance(WAIT_MAX + EACH).await;
        assert_eq!(frames.read(&one), None, "it owes no more than it waited for");
        tokio::time::advance(EACH * AT_ONCE).await;
        assert_eq!(frames.read(&one.repeat(AT_ONCE as usize)), None);
    }
}
