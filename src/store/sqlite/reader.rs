//! Questions: a few connections that can only read, each used by one blocking task at a time.
//!
//! A reader sees everything committed before it began and never holds up the writer. A connection that has failed is
//! not used again; the next question opens another, unless there may be but one.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::{sync::Semaphore, task};

use crate::store::{
    Error, ErrorKind,
    sqlite::{
        failure::{caused, closed, failed},
        file,
    },
};

/// How many questions are answered at once. A warm page of history takes some 50 us, so a few go a long way; each
/// connection has a cache of 2 MiB.
const READERS: u32 = 4;

/// The connections.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    /// How many there are.
    most: u32,
    /// Whether others may be opened: not where the one there is holds a moment of the file.
    may_open: bool,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// Opens the first connection, to see that it works.
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        let first = file::open_reader(&path).map_err(|source| failed("open its file to read", source))?;
        Ok(Self {
            path,
            permits: Arc::new(Semaphore::new(READERS as usize)),
            most: READERS,
            may_open: true,
            idle: Arc::new(Mutex::new(vec![first])),
        })
    }

    /// This connection alone, also when a question has failed: another one would see another moment.
    pub(super) fn of_one(path: PathBuf, only: Connection) -> Self {
        Self {
            path,
            permits: Arc::new(Semaphore::new(1)),
            most: 1,
            may_open: false,
            idle: Arc::new(Mutex::new(vec![only])),
        }
    }

    /// Asks `question` on a blocking task. If the caller stops waiting the task finishes by itself.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let idle = Arc::clone(&self.idle);
        let (path, may_open) = (self.path.clone(), self.may_open);
        let asked = task::spawn_blocking(move || {
            // Given back last, when the connection is free again.
            let _permit = permit;
            let pooled = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match pooled {
                Some(connection) => connection,
                None if may_open => file::open_reader(&path)?,
                None => return Err(rusqlite::Error::InvalidQuery),
            };
            let answer = question(&mut connection);
            // The only one stays in use: a page that is damaged says nothing of the others.
            if answer.is_ok() || !may_open {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            answer
        });
        match asked.await {
            Ok(answer) => answer.map_err(|source| failed("read", source)),
            Err(source) => {
                Err(caused(ErrorKind::Unavailable, "met a defect of its own while it read", source))
            }
        }
    }

    /// Waits for those who read, lets nobody else in, and closes the connections.
    pub(super) async fn close(&self) {
        if let Ok(all) = self.permits.acquire_many(self.most).await {
            self.permits.close();
            drop(all);
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
