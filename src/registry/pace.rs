//! How often, and in which form, a session is told the text of answers.
//!
//! Sessions of one pace share their bytes: a chunk is cut and encoded once for all of them. That is why there are only
//! a few paces, to which what a client asks for is rounded up.

use std::time::Duration;

use crate::wire::join::ChunkWish;

/// The intervals that there are besides the server's own, in milliseconds.
const STEPS: [u64; 6] = [0, 20, 40, 100, 250, 500];

/// One way of being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two chunks of an answer.
    pub interval: Duration,
    /// Chunks name their answer by its position, and a text that was told is not told again.
    pub compact: bool,
}

impl Pace {
    /// What a client gets that wishes this; `default` is the interval of one that does not say.
    pub fn of(wish: ChunkWish, default: Duration) -> Self {
        let step = |asked: Duration| STEPS.map(Duration::from_millis).into_iter().find(|step| *step >= asked);
        // What is longer than the longest was refused when it was read.
        let interval = wish.interval.map_or(default, |asked| step(asked).unwrap_or(asked));
        Self { interval, compact: wish.compact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::join::CHUNK_INTERVAL_MAX;

    #[test]
    fn what_is_asked_for_is_rounded_up_to_one_of_few() {
        let ms = Duration::from_millis;
        let of = |asked| Pace::of(ChunkWish { interval: Some(ms(asked)), compact: false }, ms(40)).interval;
        for (asked, given) in
            [(0, 0), (1, 20), (20, 20), (21, 40), (40, 40), (99, 100), (101, 250), (251, 500)]
        {
            assert_eq!(of(asked), ms(given), "{asked}");
        }
        assert_eq!(of(500), CHUNK_INTERVAL_MAX, "the longest is what may be asked for");
        assert_eq!(Pace::of(ChunkWish::default(), ms(33)).interval, ms(33));
    }
}
