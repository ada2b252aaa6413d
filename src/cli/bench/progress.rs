//! How far it has come, for a person who waits; nothing is written where nobody looks.

use std::{cell::RefCell, io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, or nothing.
pub(super) struct Progress {
    is_shown: bool,
    bar: RefCell<ProgressBar>,
}

impl Progress {
    /// A bar if a person watches.
    pub(super) fn new(is_wanted: bool) -> Self {
        let is_shown = is_wanted && std::io::stderr().is_terminal();
        Self { is_shown, bar: RefCell::new(ProgressBar::hidden()) }
    }

    /// So many of something will be done.
    pub(super) fn counting(&self, what: &'static str, count: usize) {
        self.begin(count as u64, &format!("{{bar:30}} {{pos}}/{{len}} {what}"));
    }

    /// So many more are done.
    pub(super) fn more(&self, count: u64) {
        self.bar.borrow().inc(count);
    }

    /// It is measured for so long.
    pub(super) fn measuring(&self, duration: Duration) {
        self.begin(duration.as_millis().try_into().unwrap_or(u64::MAX), "{bar:30} measuring, {msg}");
    }

    /// So much more of the time has passed, and this is how it goes.
    pub(super) fn passed(&self, more: Duration, message: impl FnOnce() -> String) {
        if self.is_shown {
            let bar = self.bar.borrow();
            bar.inc(more.as_millis().try_into().unwrap_or(u64::MAX));
            bar.set_message(message());
        }
    }

    /// What was sent is waited for.
    pub(super) fn finishing(&self) {
        self.begin(0, "waiting for the last messages");
    }

    /// The line is taken away.
    pub(super) fn clear(&self) {
        self.bar.borrow().finish_and_clear();
    }

    fn begin(&self, length: u64, template: &str) {
        self.clear();
        if self.is_shown {
            let bar = ProgressBar::new(length);
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            *self.bar.borrow_mut() = bar;
        }
    }
}
