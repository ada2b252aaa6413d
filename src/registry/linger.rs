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

/// About what it costs to tell one session, with the write to its connection: 5 to 10 µs (docs/performance.md).
const TELLING: Duration = Duration::from_micros(5);
/// Timers are no finer than this: a shorter wait would be a longer one.
const SHORTEST: Duration = Duration::from_millis(1);
/// Gathered bytes that are told without waiting any longer, so that one telling fits into a session's queue beside others.
const GATHERED_BYTES: usize = 64 * 1024;
/// Gathered events, whatever a session's queue holds.
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

/// How long after everybody was told something the events of a room with so many sessions wait, `longest` at most; `None`:
/// not at all.
pub(super) fn wait(sessions: usize, longest: Duration) -> Option<Duration> {
    let telling = TELLING.saturating_mul(u32::try_from(sessions).unwrap_or(u32::MAX)).min(longest);
    (telling >= SHORTEST).then_some(telling)
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
    /// Whether these events wait to be told with others, `most` at a time.
    pub(super) fn gather(
        &mut self,
        stretch: &Stretch,
        wait: Option<Duration>,
        most: usize,
        now: Instant,
    ) -> bool {
        let due = wait.and_then(|wait| self.told_at.map(|told| told + wait)).filter(|due| *due > now);
        let (events, bytes) = (super::outbound::count(stretch.first, stretch.last), stretch.frames.len());
        let fits = self.events + events <= most.min(GATHERED_EVENTS) && self.bytes + bytes <= GATHERED_BYTES;
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
    const MOST: usize = 1000;

    fn event(seq: u64) -> Stretch {
        Stretch { first: Seq(seq), last: Seq(seq), frames: Bytes::from(vec![0; 100]) }
    }

    #[test]
    fn only_large_rooms_wait() {
        let of = |sessions| wait(sessions, LONGEST);
        assert_eq!(of(199), None, "telling takes less than a timer can wait");
        assert_eq!(of(200), Some(Duration::from_millis(1)));
        assert_eq!(of(800), Some(Duration::from_millis(4)));
        assert_eq!(of(100_000), Some(LONGEST), "nobody waits longer");
        assert_eq!(wait(100_000, Duration::ZERO), None, "switched off");
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_was_quiet_does_not_wait() {
        let now = Instant::now();
        let mut linger = Linger::default();
        assert!(!linger.gather(&event(1), Some(LONGEST), MOST, now), "it was quiet");
        linger.told(now);
        assert!(!linger.gather(&event(2), None, MOST, now));
        assert!(linger.gather(&event(2), Some(LONGEST), MOST, now + Duration::from_millis(1)));
        assert_eq!((linger.due(), linger.take().unwrap().events), (Some(now + LONGEST), 1));
        let later = now + LONGEST;
        assert!(!linger.gather(&event(3), Some(LONGEST), MOST, later), "it was quiet for as long");
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
            assert!(linger.gather(&stretch, Some(LONGEST), MOST, now + Duration::from_millis(seq - 4)));
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
        let gathered =
            (1..1000).take_while(|seq| linger.gather(&event(*seq), Some(LONGEST), MOST, now)).count();
        assert_eq!(gathered, GATHERED_EVENTS);
        linger.take();
        let few = (1..1000).take_while(|seq| linger.gather(&event(*seq), Some(LONGEST), 4, now));
        assert_eq!(few.count(), 4, "of a queue of sixteen");
        linger.take();
        let large = Stretch { frames: Bytes::from(vec![0; GATHERED_BYTES + 1]), ..event(1) };
        assert!(!linger.gather(&large, Some(LONGEST), MOST, now));
    }
}
