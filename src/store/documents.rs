//! Small records beside the logs: who has which credential, what was revoked, what was done to whom.
//!
//! A document is a name and bytes in a folder; the store reads neither. What several servers change at the same time is
//! changed by comparing revisions. Not for anything that a room's members must see in an order: that is the log's.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::store::{Error, ErrorKind};

/// The longest name of a document, in bytes.
pub const NAME_BYTES: usize = 256;
/// The largest document, in bytes: what an item of every store can hold with much to spare.
pub const BODY_BYTES: usize = 64 * 1024;

/// Where documents are that are listed together, as a path: `identities/acme`. At most 128 bytes of ASCII letters, digits,
/// `-`, `_`, `.` and `/`; only code makes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Folder(Arc<str>);

impl Folder {
    /// A folder; parts that hold other characters are told apart from all others by their bytes in hexadecimal digits.
    pub fn new(parts: &[&str]) -> Self {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let part = |part: &&str| match part.chars().all(fits) && !part.is_empty() {
            true => (*part).to_owned(),
            false => part.bytes().fold("~".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
        };
        Self(parts.iter().map(part).collect::<Vec<_>>().join("/").into())
    }

    /// As stores keep it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// 1 to [`NAME_BYTES`] bytes, unique in its folder.
    pub name: String,
    /// How often it was written: 1, 2, 3 …
    pub revision: u64,
    /// At most [`BODY_BYTES`] bytes; never empty.
    pub body: Bytes,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expect {
    /// Whatever there is, or nothing.
    Anything,
    /// No document of this name.
    Nothing,
    /// The document as it was when it had this revision.
    Revision(u64),
}

impl Expect {
    /// Whether a document of this revision (`None`: there is none) is what is expected.
    pub(super) fn fits(self, revision: Option<u64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Nothing => revision.is_none(),
            Self::Revision(expected) => revision == Some(expected),
        }
    }
}

/// The answer of a backend that keeps none.
pub(super) fn unsupported(store: &'static str) -> Error {
    let what = "keeps no documents: identities, keys and the audit need another store".to_owned();
    Error { kind: ErrorKind::Unusable, store, what, source: None }
}
