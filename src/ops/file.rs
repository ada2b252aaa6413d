//! A backup as a file: parts behind one another, each with its length and its checksum.
//!
//! A byte that changed, a part that is missing or stands elsewhere, and a file that was cut are found, with the place.
//! A writer that fails leaves a file without an end, which is no backup. Blocks: nothing else happens in the program
//! meanwhile.

use std::io::{self, Read, Write};

use bytes::Bytes;
use thiserror::Error;

use crate::{
    ops::order::Order,
    wire::{
        backup::{self, Part},
        basic::Corrupt,
    },
};

/// What every backup begins with.
pub const MAGIC: &[u8; 8] = b"SALONBK1";

/// The longest part: more than the largest event, and little enough to be held.
const PART_MAX: u32 = 256 * 1024 * 1024;

/// What is wrong with a backup, and where.
#[derive(Debug, Error)]
pub enum Fault {
    /// It does not begin like one.
    #[error("it does not begin like one")]
    Foreign,
    /// It ends before its end.
    #[error("it was cut: it ends at byte {at}, inside of part {part} or before it")]
    Cut {
        /// Bytes that are there.
        at: u64,
        /// Counted from 0.
        part: u64,
    },
    /// Bytes have changed.
    #[error("part {part}, at byte {at}, is damaged: {what}")]
    Damaged {
        /// Where the part begins.
        at: u64,
        /// Counted from 0.
        part: u64,
        /// What is wrong with it.
        what: String,
    },
    /// It cannot be read.
    #[error("it cannot be read at byte {at}: {source}")]
    Unreadable {
        /// Where.
        at: u64,
        /// What the system says.
        source: io::Error,
    },
}

/// Writes parts.
#[derive(Debug)]
pub struct PartWriter<W> {
    to: W,
    parts: u64,
}

impl<W: Write> PartWriter<W> {
    /// Begins a backup.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(MAGIC)?;
        Ok(Self { to, parts: 0 })
    }

    /// Writes the next part.
    pub fn write(&mut self, part: Part) -> io::Result<()> {
        let bytes = backup::encode(part);
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= PART_MAX);
        let length = length.ok_or_else(|| io::Error::other("an event is too large for a backup"))?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(&checksum(self.parts, &bytes).to_be_bytes())?;
        self.to.write_all(&bytes)?;
        self.parts += 1;
        Ok(())
    }

    /// What it has written to.
    pub fn into_inner(self) -> W {
        self.to
    }
}

/// Reads parts, in their order.
#[derive(Debug)]
pub struct PartReader<R> {
    from: R,
    at: u64,
    parts: u64,
    order: Order,
}

impl<R: Read> PartReader<R> {
    /// Begins to read a backup.
    pub fn new(from: R) -> Result<Self, Fault> {
        let mut reader = Self { from, at: 0, parts: 0, order: Order::default() };
        let mut magic = [0; MAGIC.len()];
        let read = reader.fill(&mut magic)?;
        if read < magic.len() && MAGIC.starts_with(magic.get(..read).unwrap_or_default()) {
            return Err(reader.cut());
        }
        if magic == *MAGIC { Ok(reader) } else { Err(Fault::Foreign) }
    }

    /// The next part; none behind the end.
    pub fn next_part(&mut self) -> Result<Option<Part>, Fault> {
        let begin = self.at;
        let mut head = [0; 8];
        let read = self.fill(&mut head)?;
        if self.order.is_over() {
            return if read == 0 { Ok(None) } else { Err(self.damaged(begin, &"something follows the end")) };
        }
        if read < head.len() {
            return Err(self.cut());
        }
        let [a, b, c, d, e, f, g, h] = head;
        let (length, expected) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        if length > PART_MAX {
            return Err(self.damaged(begin, &"its length makes no sense"));
        }
        let bytes = self.bytes(length)?;
        if checksum(self.parts, &bytes) != expected {
            return Err(self.damaged(begin, &"its checksum does not fit"));
        }
        let part =
            backup::decode(Bytes::from(bytes)).map_err(|error: Corrupt| self.damaged(begin, &error))?;
        self.order.take(&part).map_err(|problem| self.damaged(begin, &problem))?;
        self.parts += 1;
        Ok(Some(part))
    }

    /// Not allocated at once: a length that was damaged must not cost more memory than there are bytes.
    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        let read = self.from.by_ref().take(length.into()).read_to_end(&mut bytes);
        let read = read.map_err(|source| Fault::Unreadable { at: self.at, source })?;
        self.at += u64::try_from(read).unwrap_or_default();
        if bytes.len() < usize::try_from(length).unwrap_or(usize::MAX) {
            return Err(self.cut());
        }
        Ok(bytes)
    }

    /// Fills the buffer, or as much of it as there is.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.from.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Fault::Unreadable { at: self.at, source }),
            }
        }
        self.at += u64::try_from(filled).unwrap_or_default();
        Ok(filled)
    }

    fn cut(&self) -> Fault {
        Fault::Cut { at: self.at, part: self.parts }
    }

    fn damaged(&self, at: u64, what: &impl ToString) -> Fault {
        Fault::Damaged { at, part: self.parts, what: what.to_string() }
    }
}

/// Of a part at its place.
fn checksum(number: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
