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

/// Wakes once, as often as it is asked to.
pub(super) struct Alarm(inner::Alarm);

impl Alarm {
    /// One that is not set; an error: the system gives us no timer.
    pub(super) fn new() -> std::io::Result<Self> {
        inner::Alarm::new().map(Self)
    }

    /// Waits that long, and no longer than need be.
    pub(super) async fn after(&mut self, wait: Duration) -> std::io::Result<()> {
        if wait.is_zero() {
            return Ok(());
        }
        self.0.after(wait).await
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

    /// A timer is read like a pipe: eight bytes when it has gone off.
    pub(super) struct Alarm(Receiver);

    impl Alarm {
        pub(super) fn new() -> io::Result<Self> {
            let timer =
                timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            Receiver::from_owned_fd_unchecked(timer).map(Self)
        }

        pub(super) async fn after(&mut self, wait: Duration) -> io::Result<()> {
            let once = Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: wait.subsec_nanos().into(),
            };
            let times = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: once };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &times)?;
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

    pub(super) struct Alarm;

    impl Alarm {
        #[expect(clippy::unnecessary_wraps, reason = "as on the system that has timers of its own")]
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn after(&mut self, wait: Duration) -> io::Result<()> {
            tokio::time::sleep(wait).await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_goes_off_each_time_it_is_set_and_never_early() {
        let ticks = Ticks::new();
        let mut alarm = Alarm::new().unwrap();
        alarm.after(Duration::ZERO).await.unwrap();
        for micros in [300, 1, 2_000] {
            let set = ticks.now();
            alarm.after(Duration::from_micros(micros)).await.unwrap();
            assert!(ticks.now() >= set + micros * 1000, "{micros}");
        }
        ticks.until(nanos(Duration::from_millis(5))).await;
        assert!(ticks.now() >= 5_000_000);
    }
}
