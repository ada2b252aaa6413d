//! What an operator does with a store: back it up, restore it, check it, make its first key.
//!
//! Works through [`Store`](crate::store::Store) alone, so from any backend to any other, and knows nothing of servers or
//! clients. A backup is a file of its own format (`proto/salon/backup/v1/backup.proto`); what is wrong with a file or a
//! store is said with its place. Nothing here holds more than one page of a log in memory, the idempotency keys of one
//! room, and one room's state.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    ids::{RoomId, Seq},
    store::{self, Page},
};

pub mod backup;
pub mod bootstrap;
pub mod file;
mod order;
pub mod restore;
pub mod verify;

/// How much of a log is read at once.
const PAGE: Page = Page { events: 1000, bytes: 4 * 1024 * 1024 };
/// How much of everything else is listed at once.
const LIST: usize = 1000;

/// How many documents are listed at once: each may have 64 KiB.
const DOCUMENTS: usize = 64;

/// Why it could not be done.
#[derive(Debug, Error)]
pub enum Error {
    /// The store failed.
    #[error("cannot use the store")]
    Store(#[source] store::Error),
    /// A file failed.
    #[error("cannot {doing} {}", file.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What is in the backup is not what was written.
    #[error("{} is no whole backup, and nothing of it was used: {why}", file.display())]
    Backup {
        /// Which file.
        file: PathBuf,
        /// What is wrong, and where.
        why: file::Fault,
    },
    /// A file of heads cannot be read.
    #[error("{}, line {line}: {what}", file.display())]
    Heads {
        /// Which file.
        file: PathBuf,
        /// Where in it.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// There is something at the place of the new file.
    #[error("{} is there already: name another file", file.display())]
    Exists {
        /// Which file.
        file: PathBuf,
    },
    /// The store is not empty.
    #[error("a backup is restored into an empty store, and this one holds {holds}: {mend}")]
    NotEmpty {
        /// Some of what is there.
        holds: String,
        /// What can be done.
        mend: &'static str,
    },
    /// A restore has ended in the middle.
    #[error("the store may hold a part of the backup now: no server should be started on it")]
    Partly {
        /// Why.
        #[source]
        why: Box<Error>,
    },
    /// Something is left of a room that is listed no more.
    #[error(
        "the store keeps what belongs to a room that it does not list (number {number}), and a backup would lose it: \
         `salon verify` lists all that is wrong"
    )]
    Stray {
        /// What the store calls it.
        number: u64,
    },
    /// A document of the backup is none.
    #[error(
        "the document {name:?} of the folder {folder:?} is none: restore with the build that made the backup"
    )]
    Document {
        /// The path of its folder.
        folder: String,
        /// Its name.
        name: String,
    },
    /// The room's log in the store cannot be saved or gone on with.
    #[error("room {room}, event {seq}: {what}")]
    Room {
        /// Which room.
        room: RoomId,
        /// Where in it.
        seq: Seq,
        /// What is wrong.
        what: String,
    },
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}
