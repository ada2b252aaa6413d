//! Small records beside the logs: who has which credential, what was revoked, what was done to whom.
//!
//! A document is a name and bytes in a folder; the store reads neither. What several servers change at the same time is
//! changed by comparing revisions. Not for anything that a room's members must see in an order: that is the log's.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::store::{Error, ErrorKind};

/// The longest name of a document, in bytes.
pub const NAME_BYTES: usize = 256;
/// The longest path of a folder, in bytes.
pub const FOLDER_BYTES: usize = 128;
/// The largest document, in bytes: what an item of every store can hold with much to spare.
pub const BODY_BYTES: usize = 64 * 1024;

/// Where documents are that are listed together, as a path: `identities/acme`. At most 128 bytes of ASCII letters, digits,
/// `-`, `_`, `.`, `~` and `/`; only code makes them.
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

    /// A path as stores and backups keep it; `None`: it is none.
    pub fn parse(path: &str) -> Option<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '/');
        (!path.is_empty() && path.chars().all(fits)).then(|| Self(path.into()))
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

/// Refuses what no backend keeps, with every backend in the same words.
pub(super) fn check(store: &'static str, folder: &Folder, name: &str, body: &[u8]) -> Result<(), Error> {
    let what = if folder.0.is_empty() || folder.0.len() > FOLDER_BYTES {
        format!("keeps no folder of {} bytes: a path has 1-{FOLDER_BYTES}", folder.0.len())
    } else if !is_name(name) {
        format!("keeps no document with a name of {} bytes: it has 1-{NAME_BYTES}", name.len())
    } else if body.len() > BODY_BYTES {
        format!("keeps no document of {} bytes: {BODY_BYTES} are the most", body.len())
    } else {
        return Ok(());
    };
    Err(Error { kind: ErrorKind::Unusable, store, what, source: None })
}

/// Whether a document can have this name; there is none of another.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_told_from_every_other() {
        let paths = [&["a", "b"][..], &["a/b"], &["a", ""], &["a"], &["~61"], &["Zoë"], &["a", "~"]];
        let folders: Vec<Folder> = paths.iter().map(|parts| Folder::new(parts)).collect();
        for (index, folder) in folders.iter().enumerate() {
            assert!(!folders[..index].contains(folder), "{folders:?}");
            assert_eq!(Folder::parse(folder.as_str()).as_ref(), Some(folder));
        }
        assert_eq!(Folder::parse("a b"), None);
        assert_eq!(Folder::parse(""), None);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let folder = Folder::new(&["f"]);
        let kept = |folder: &Folder, name: usize, body: usize| {
            check("s", folder, &"n".repeat(name), &vec![0; body]).map_err(|error| error.what)
        };
        assert_eq!(kept(&folder, NAME_BYTES, BODY_BYTES), Ok(()));
        assert!(kept(&folder, 0, 1).unwrap_err().contains("a name of 0 bytes"));
        assert!(kept(&folder, NAME_BYTES + 1, 1).unwrap_err().contains("1-256"));
        assert!(kept(&folder, 1, BODY_BYTES + 1).unwrap_err().contains("65536 are the most"));
        let long = "f".repeat(FOLDER_BYTES + 1);
        assert!(kept(&Folder::new(&[&long]), 1, 1).unwrap_err().contains("folder of 129 bytes"));
    }
}
