//! What has happened, line by line: what a failure shows, and what two runs of one seed must have in common.
//!
//! Ids that the server draws are different each time. They stand in it by the order in which they first appeared.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard},
};

use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub struct Trace {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<String>,
    names: HashMap<String, usize>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { began: Instant::now(), inner: Mutex::default() }
    }
}

impl Trace {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Adds a line, with the time.
    pub fn say(&self, line: fmt::Arguments<'_>) {
        let at = self.began.elapsed().as_millis();
        self.lock().lines.push(format!("{at:>6} {line}"));
    }

    /// What an id that the server has drawn is called here.
    pub fn name(&self, id: &str) -> String {
        if id.is_empty() { String::from("-") } else { format!("#{}", self.number(id)) }
    }

    /// As which an id has appeared.
    pub fn number(&self, id: &str) -> usize {
        let mut inner = self.lock();
        let next = inner.names.len() + 1;
        *inner.names.entry(id.to_owned()).or_insert(next)
    }

    /// All lines.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }
}
