//! The one thread that writes: it takes everything that waits, up to [`GROUP`] calls, and commits it at once.
//!
//! A commit costs a wait for the disk whatever is in it, so the more callers wait the less each of them pays; one
//! who comes alone is not held back for others. If a transaction fails, all who were in it are told so and the next
//! one starts from what is committed. A defect that panics is treated the same: nobody waits for ever.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc;

use crate::store::{
    Error, ErrorKind,
    sqlite::{
        failure::{caused, error, failed},
        group::Group,
        job::Job,
        known::KnownRooms,
    },
};

/// How many calls go into one transaction: behind this the gain is small and those in front wait longer.
pub(super) const GROUP: usize = 256;

/// How many calls may wait for the writer before callers wait to be let in: four full transactions.
pub(super) const QUEUE: usize = 4 * GROUP;

/// About 200 bytes each, so a few MiB; a room that is not remembered costs one look-up.
const KNOWN_ROOMS: usize = 16 * 1024;

/// What the writer's thread owns.
#[derive(Debug)]
struct Writer {
    connection: Connection,
    known: KnownRooms,
    queue: mpsc::Receiver<Job>,
    failing: bool,
    /// Keeps other servers from the file for as long as this thread may write to it.
    lock: File,
}

/// Starts the thread. It ends when it is told to close, or when everybody who could ask it is gone.
pub(super) fn start(
    connection: Connection,
    lock: File,
) -> Result<(mpsc::Sender<Job>, JoinHandle<()>), Error> {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let writer = Writer { connection, known: KnownRooms::new(KNOWN_ROOMS), queue, failing: false, lock };
    let thread = thread::Builder::new()
        .name("salon-store".to_owned())
        .spawn(move || writer.run())
        .map_err(|source| caused(ErrorKind::Unavailable, "could not start its thread", source))?;
    Ok((jobs, thread))
}

impl Writer {
    fn run(mut self) {
        let mut jobs = Vec::with_capacity(GROUP);
        let mut closing = Vec::new();
        while self.queue.blocking_recv_many(&mut jobs, GROUP) > 0 {
            let committed = self.commit(&mut jobs);
            self.failing = match &committed {
                Ok(wrote) => self.failing && !wrote,
                Err(_) => true,
            };
            let committed = committed.map(|_| ());
            for job in jobs.drain(..) {
                if matches!(job, Job::Close { .. }) {
                    // No new work is let in; what already waits is still done.
                    self.queue.close();
                    closing.push(job);
                } else {
                    job.answer(committed.clone());
                }
            }
        }
        self.finish();
        for job in closing {
            job.answer(Ok(()));
        }
    }

    /// Does these jobs in one transaction; says whether it put anything into the file.
    fn commit(&mut self, jobs: &mut [Job]) -> Result<bool, Error> {
        let done = catch_unwind(AssertUnwindSafe(|| self.transact(jobs)));
        let failure = match done {
            Ok(Ok(wrote)) => return Ok(wrote),
            Ok(Err(source)) => failed("write", source),
            Err(_) => error(ErrorKind::Unavailable, "met a defect of its own while it wrote"),
        };
        tracing::error!(error = %failure, source = ?failure.source, calls = jobs.len(), "nothing was written");
        Err(failure)
    }

    fn transact(&mut self, jobs: &mut [Job]) -> rusqlite::Result<bool> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut group = Group::new(&transaction, &self.known, self.failing);
        for job in jobs {
            job.run(&mut group)?;
        }
        let (touched, wrote) = group.finish()?;
        transaction.commit()?;
        for (room, known) in touched {
            self.known.insert(room, known);
        }
        Ok(wrote)
    }

    /// Leaves one tidy file behind and lets go of it.
    fn finish(self) {
        let Self { connection, lock, .. } = self;
        // Everything is committed already: if this fails the log beside the file stays and the next start reads it.
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the store's log was not folded into its file");
        }
        if let Err((_, error)) = connection.close() {
            tracing::warn!(%error, "the store's file did not close cleanly");
        }
        drop(lock);
    }
}
