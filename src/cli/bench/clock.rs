//! The generator's clock: nanoseconds since it began, and the moments at which a paced load is due.
//!
//! The runtime's timers know milliseconds, which is longer than most events take. On Linux a timer of the kernel wakes
//! the pacer instead; elsewhere the runtime's has to do, and what it is late by shows in the report.

use std::time::{Duration, Instant};

/// Where the clock begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks(Instant);

impl Ticks {
    /// A clock that begins now.
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since it began.
    pub(super) fn now(self) -> u64 {
        nanos(self.0.elapsed())
    }

    /// Waits until it shows `at`, as exactly as the runtime can.
    pub(super) async fn until(self, at: u64) {
        tokio::time::sleep_until((self.0 + Duration::from_nanos(at)).into()).await;
    }
}

/// A duration in nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Wakes again and again.
pub(super) struct Metronome(inner::Metronome);

impl Metronome {
    /// One that wakes every `period`; `None`: the system gives us no timer.
    pub(super) fn new(period: Duration) -> std::io::Result<Self> {
        inner::Metronome::new(period).map(Self)
    }

    /// Waits for the next time.
    pub(super) async fn tick(&mut self) -> std::io::Result<()> {
        self.0.tick().await
    }
}

#[cfg(target_os = "linux")]
mod inner {
    use std::{io, time::Duration};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::net::unix::pipe::Receiver;

    /// A timer is read like a pipe: eight bytes whenever it has gone off.
    pub(super) struct Metronome(Receiver);

    impl Metronome {
        pub(super) fn new(period: Duration) -> io::Result<Self> {
            let timer =
                timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            let every = Timespec {
                tv_sec: i64::try_from(period.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: period.subsec_nanos().into(),
            };
            let times = Itimerspec { it_interval: every, it_value: every };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
            Receiver::from_owned_fd_unchecked(timer).map(Self)
        }

        pub(super) async fn tick(&mut self) -> io::Result<()> {
            loop {
                self.0.readable().await?;
                match self.0.try_read(&mut [0; 8]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read.map(drop),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod inner {
    use std::{io, time::Duration};

    use tokio::time::{Interval, MissedTickBehavior, interval};

    pub(super) struct Metronome(Interval);

    impl Metronome {
        pub(super) fn new(period: Duration) -> io::Result<Self> {
            let mut interval = interval(period.max(Duration::from_millis(1)));
            interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
            Ok(Self(interval))
        }

        pub(super) async fn tick(&mut self) -> io::Result<()> {
            self.0.tick().await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_metronome_wakes_no_earlier_than_its_period() {
        let ticks = Ticks::new();
        let mut metronome = Metronome::new(Duration::from_micros(300)).unwrap();
        for _ in 0..10 {
            metronome.tick().await.unwrap();
        }
        // Those that are due at once while we were away count as one.
        assert!(ticks.now() >= 300_000, "{}", ticks.now());
        ticks.until(nanos(Duration::from_millis(5))).await;
        assert!(ticks.now() >= 5_000_000);
    }
}
