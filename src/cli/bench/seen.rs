//! What one receiver has heard of each sender of its room: nothing twice, nothing missing, nothing out of order.
//!
//! Costs four bytes for each sender, and no more while all is well. What is missing is remembered one by one, so that
//! what comes late is told from what comes twice; beyond a limit only its number is known, and it counts as lost.

use std::collections::BTreeSet;

/// Gaps that one receiver remembers. More than these is no server to measure.
const MISSING_MAX: usize = 10_000;

/// What came of one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// As it should.
    New,
    /// Behind a later one of the same sender.
    Late,
    /// Again.
    Twice,
    /// Of nobody who speaks in this room.
    Astray,
}

/// One receiver.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Of each sender the counter that comes next.
    next: Box<[u32]>,
    missing: BTreeSet<(u32, u32)>,
    /// What is missing beyond the limit.
    overflow: u64,
}

impl Seen {
    /// Of so many senders nothing yet.
    pub(super) fn of(senders: usize) -> Self {
        Self { next: vec![0; senders].into(), ..Self::default() }
    }

    /// Takes the text with this number of this sender of the room.
    pub(super) fn take(&mut self, sender: u32, counter: u32) -> Came {
        let Some(next) = self.next.get_mut(sender as usize) else {
            return Came::Astray;
        };
        if counter < *next {
            return if self.missing.remove(&(sender, counter)) { Came::Late } else { Came::Twice };
        }
        // However far it is ahead: no more is done than can be remembered.
        let room = u32::try_from(MISSING_MAX.saturating_sub(self.missing.len())).unwrap_or_default();
        let gap = counter - *next;
        for missing in *next..*next + gap.min(room) {
            self.missing.insert((sender, missing));
        }
        self.overflow += u64::from(gap.saturating_sub(room));
        *next = counter.saturating_add(1);
        Came::New
    }

    /// Whether the text with this number of this sender has come.
    pub(super) fn has(&self, sender: u32, counter: u32) -> bool {
        let next = self.next.get(sender as usize).copied().unwrap_or_default();
        counter < next && !self.missing.contains(&(sender, counter))
    }
    /// How much of what this sender has said never came: it has said `sent` texts, and those in `refused` nobody gets.
    pub(super) fn lost(&self, sender: u32, sent: u32, refused: &BTreeSet<u32>) -> u64 {
        let next = self.next.get(sender as usize).copied().unwrap_or_default();
        let tail = u64::from(sent.saturating_sub(next)) - refused.range(next.min(sent)..sent).count() as u64;
        let gaps = self.missing.range((sender, 0)..=(sender, u32::MAX));
        tail + gaps.filter(|(_, counter)| !refused.contains(counter)).count() as u64
    }

    /// What is missing and was not remembered.
    pub(super) fn overflow(&self) -> u64 {
        self.overflow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(seen: &Seen, sender: u32, sent: u32) -> u64 {
        seen.lost(sender, sent, &BTreeSet::new())
    }

    #[test]
    fn what_comes_in_order_is_new_and_nothing_is_lost() {
        let mut seen = Seen::of(2);
        for counter in 0..5 {
            assert_eq!(seen.take(0, counter), Came::New);
            assert_eq!(seen.take(1, counter), Came::New);
        }
        assert_eq!((lost(&seen, 0, 5), lost(&seen, 1, 5), seen.overflow()), (0, 0, 0));
        assert_eq!(seen.take(2, 0), Came::Astray);
    }

    #[test]
    fn gaps_and_the_end_are_lost_unless_they_were_refused() {
        let mut seen = Seen::of(1);
        seen.take(0, 0);
        seen.take(0, 3);
        assert_eq!(lost(&seen, 0, 4), 2);
        assert_eq!(lost(&seen, 0, 6), 4);
        assert_eq!(seen.lost(0, 6, &[1, 2, 4, 5].into()), 0);
        assert_eq!(seen.lost(0, 6, &[0, 1, 5].into()), 2);
    }

    #[test]
    fn late_is_told_from_twice() {
        let mut seen = Seen::of(1);
        for (counter, came) in [
            (0, Came::New),
            (2, Came::New),
            (1, Came::Late),
            (1, Came::Twice),
            (2, Came::Twice),
            (0, Came::Twice),
            (3, Came::New),
        ] {
            assert_eq!(seen.take(0, counter), came, "{counter}");
        }
        assert_eq!(lost(&seen, 0, 4), 0);
    }

    #[test]
    fn more_gaps_than_are_remembered_are_counted() {
        let mut seen = Seen::of(1);
        let far = u32::try_from(MISSING_MAX).unwrap() + 5;
        seen.take(0, far);
        assert_eq!((lost(&seen, 0, far + 1) + seen.overflow(), seen.overflow()), (u64::from(far), 5));
        // The largest number there is costs no more than that, and comes twice as any other does.
        assert_eq!((seen.take(0, u32::MAX), seen.take(0, u32::MAX - 1)), (Came::New, Came::Twice));
        assert_eq!(lost(&seen, 0, far) + seen.overflow(), u64::from(u32::MAX) - 1);
        assert!(seen.has(0, far) && !seen.has(0, 5));
    }
}
