//! What is gathered for a large room before all its sessions are told at once.
//!
//! To tell a session costs a write, and a write costs more than all else; two events told together cost one. So a room
//! in which telling everybody takes a while tells a quiet moment's first event at once, and gathers what follows until
//! about as long has passed as the telling takes. Nothing waits in a small room, nor in one whose events come more slowly
//! than that; in a large and busy one events arrive sooner than if each were told by itself, because the server keeps up.
//!
//! Gathers plain events only: whatever changes who hears what is told at once, after what was gathered.

use std::{mem, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::{ids::Seq, registry::recent::Stretch};

/// What it costs to tell one session, with the write to its connection: measured, docs/performance.md.
const TELLING: Duration = Duration::from_micros(5);
/// Timers are no finer than this: a shorter wait would be a longer one.
const SHORTEST: Duration = Duration::from_millis(1);
/// Gathered bytes that are told without waiting any longer, so that one telling fits into a session's queue beside others.
const GATHERED_BYTES: usize = 64 * 1024;
/// Gathered events, for the same reason.
const GATHERED_EVENTS: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Linger {
    told_at: Option<Instant>,
    /// When what was gathered is told.
    due: Option<Instant>,
    gathered: Vec<Stretch>,
    events: usize,
    bytes: usize,
}

/// Consecutive events that are told together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Together {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) events: usize,
    pub(super) frames: Bytes,
}

impl Linger {
    /// Whether these events, of a room of so many sessions, wait to be told with others; for at most `longest`.
    pub(super) fn gather(
        &mut self,
        stretch: &Stretch,
        sessions: usize,
        longest: Duration,
        now: Instant,
    ) -> bool {
        let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
        let wait = TELLING.saturating_mul(sessions).min(longest);
        let due = self.told_at.map(|told| told + wait).filter(|due| *due > now && wait >= SHORTEST);
        let (events, bytes) = (super::outbound::count(stretch.first, stretch.last), stretch.frames.len());
        let fits = self.events + events <= GATHERED_EVENTS && self.bytes + bytes <= GATHERED_BYTES;
        let Some(due) = due.filter(|_| fits) else {
            return false;
        };
        self.due.get_or_insert(due);
        self.events += events;
        self.bytes += bytes;
        self.gathered.push(stretch.clone());
        true
    }

    /// When what was gathered is told; `None`: nothing was.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Everybody is being told something now.
    pub(super) fn told(&mut self, now: Instant) {
        self.told_at = Some(now);
    }

    /// What was gathered, to be told now.
    pub(super) fn take(&mut self) -> Option<Together> {
        let (first, last) = (self.gathered.first()?.first, self.gathered.last()?.last);
        self.due = None;
        let events = mem::take(&mut self.events);
        let bytes = mem::take(&mut self.bytes);
        let mut gathered = self.gathered.drain(..);
        let frames = match (gathered.next(), gathered.len()) {
            (Some(only), 0) => only.frames,
            (one, _) => {
                let mut joined = BytesMut::with_capacity(bytes);
                one.into_iter().chain(gathered).for_each(|stretch| joined.extend_from_slice(&stretch.frames));
                joined.freeze()
            }
        };
        Some(Together { first, last, events, frames })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(5);

    fn event(seq: u64) -> Stretch {
        Stretch { first: Seq(seq), last: Seq(seq), frames: Bytes::from(vec![0; 100]) }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_large_room_that_was_just_told_something_gathers() {
        let now = Instant::now();
        let mut linger = Linger::default();
        assert!(!linger.gather(&event(1), 10_000, LONGEST, now), "it was quiet");
        linger.told(now);
        assert!(!linger.gather(&event(2), 199, LONGEST, now), "telling takes less than a timer can wait");
        let waits = |linger: &mut Linger, sessions| {
            assert!(linger.gather(&event(2), sessions, LONGEST, now));
            let due = linger.due().unwrap() - now;
            assert_eq!(linger.take().unwrap().events, 1);
            due
        };
        assert_eq!(waits(&mut linger, 200), Duration::from_millis(1));
        assert_eq!(waits(&mut linger, 800), Duration::from_millis(4));
        assert_eq!(waits(&mut linger, 100_000), LONGEST, "nobody waits longer");
        let later = now + LONGEST;
        assert!(!linger.gather(&event(2), 100_000, LONGEST, later), "it was quiet for as long");
        assert!(!linger.gather(&event(2), 100_000, Duration::ZERO, now), "switched off");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_gathered_is_told_as_one_and_in_order() {
        let now = Instant::now();
        let mut linger = Linger::default();
        assert_eq!(linger.take(), None);
        linger.told(now);
        for seq in 5..8 {
            let frames = Bytes::from(vec![u8::try_from(seq).unwrap(); 3]);
            let stretch = Stretch { first: Seq(seq), last: Seq(seq), frames };
            assert!(linger.gather(&stretch, 1000, LONGEST, now + Duration::from_millis(seq - 4)));
        }
        assert_eq!(linger.due(), Some(now + LONGEST), "from the last telling, whenever they came");
        let frames = Bytes::from_static(&[5, 5, 5, 6, 6, 6, 7, 7, 7]);
        assert_eq!(linger.take(), Some(Together { first: Seq(5), last: Seq(7), events: 3, frames }));
        assert_eq!((linger.due(), linger.take()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_gathered_than_fits_into_a_queue() {
        let now = Instant::now();
        let mut linger = Linger::default();
        linger.told(now);
        let gathered = (1..1000).take_while(|seq| linger.gather(&event(*seq), 1000, LONGEST, now)).count();
        assert_eq!(gathered, GATHERED_EVENTS);
        linger.take();
        let large = Stretch { frames: Bytes::from(vec![0; GATHERED_BYTES + 1]), ..event(1) };
        assert!(!linger.gather(&large, 1000, LONGEST, now));
    }
}
