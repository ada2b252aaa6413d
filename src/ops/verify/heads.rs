//! What logs came to when it was written down: a file that is kept elsewhere, and perhaps signed by its owner.
//!
//! Each line has the digest of a room's log up to a position, the position, and the room. A store that somebody could
//! write to cannot vouch for itself; it can be held against such a file. Files may be put one behind the other: of a room
//! with several lines it is known more closely where it was changed. A line that cannot be read is an error: a head that
//! is silently passed over would be as good as none.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path};

use crate::{
    digest,
    domain::chain::Link,
    ids::{RoomId, Seq},
    ops::{
        Error,
        backup::{Unfinished, publish, sync_directory},
    },
};

/// The first line of a file.
const TITLE: &str = "# salon heads 1: the digest of a room's log up to a position, the position, the room";

/// Links by room, and of each room by position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heads(BTreeMap<RoomId, BTreeMap<Seq, Link>>);

impl Heads {
    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { doing: "read", file: file.to_owned(), source };
        let text = fs::read_to_string(file).map_err(failed)?;
        Self::parse(&text).map_err(|(line, what)| Error::Heads { file: file.to_owned(), line, what })
    }

    /// Writes a file, which must not be there yet.
    pub fn write(&self, file: &Path) -> Result<(), Error> {
        if file.exists() {
            return Err(Error::Exists { file: file.to_owned() });
        }
        let (unfinished, mut opened) = Unfinished::create(file)?;
        let failed = |source| Error::File { doing: "write", file: file.to_owned(), source };
        opened.write_all(self.text().as_bytes()).map_err(failed)?;
        opened.sync_all().map_err(failed)?;
        publish(unfinished.place(), file)?;
        drop(unfinished);
        sync_directory(file).map_err(failed)
    }

    /// How many rooms have one.
    pub fn rooms(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    /// Puts one down.
    pub(super) fn add(&mut self, room: &RoomId, link: Link) {
        self.0.entry(room.clone()).or_default().insert(link.seq, link);
    }

    /// Those of a room, by position.
    pub(super) fn of(&self, room: &RoomId) -> impl Iterator<Item = Link> {
        self.0.get(room).into_iter().flat_map(|links| links.values().copied())
    }

    /// Every room with the last of its positions.
    pub(super) fn last(&self) -> impl Iterator<Item = (&RoomId, Seq)> {
        self.0.iter().filter_map(|(room, links)| Some((room, *links.last_key_value()?.0)))
    }

    fn text(&self) -> String {
        let links = self.0.iter().flat_map(|(room, links)| links.values().map(move |link| (room, link)));
        let lines = links.map(|(room, link)| format!("{} {} {room}\n", digest::to_hex(&link.hash), link.seq));
        format!("{TITLE}\n{}", lines.collect::<String>())
    }

    /// The line, counted from 1, and what is wrong with it.
    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut heads = Self::default();
        if !text.starts_with(TITLE) {
            return Err((1, "it is not the first line of a file of heads"));
        }
        for (number, line) in (1..).zip(text.lines()) {
            if line == TITLE || line.is_empty() {
                continue;
            }
            let mut parts = line.splitn(3, ' ');
            let mut next = || parts.next().unwrap_or_default();
            let hash = digest::from_hex(next()).ok_or((number, "it begins with no digest"))?;
            let seq = next().parse().map(Seq).ok().filter(|seq| *seq > Seq::ZERO);
            let seq = seq.ok_or((number, "its second word is no position"))?;
            let room = RoomId::parse_key(next()).map_err(|_| (number, "its third word is no room"))?;
            let link = Link { seq, hash };
            if heads.0.get(&room).and_then(|links| links.get(&seq)).is_some_and(|known| *known != link) {
                return Err((number, "a line before it says something else of the same event"));
            }
            heads.add(&room, link);
        }
        Ok(heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads() -> Heads {
        let mut heads = Heads::default();
        for (room, seq) in [("lobby", 3), ("lobby", 12), ("attic", 1)] {
            let room = RoomId::parse(room).unwrap();
            heads.add(&room, Link { seq: Seq(seq), hash: [u8::try_from(seq).unwrap(); 32] });
        }
        heads
    }

    #[test]
    fn what_is_written_is_read_back_also_from_two_files_in_one() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("heads");
        heads().write(&file).unwrap();
        assert_eq!(Heads::read(&file).unwrap(), heads());
        assert!(matches!(heads().write(&file), Err(Error::Exists { .. })), "it takes the place of nothing");
        let twice = fs::read_to_string(&file).unwrap().repeat(2);
        assert_eq!(Heads::parse(&twice).unwrap(), heads());
        let positions: Vec<_> = heads().of(&RoomId::parse("lobby").unwrap()).map(|link| link.seq.0).collect();
        assert_eq!(positions, [3, 12]);
        assert_eq!(heads().rooms(), 2);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let hash = "ab".repeat(32);
        let cases = [
            (String::new(), 1),
            (format!("{hash} 3 lobby"), 1),
            (format!("{TITLE}\n{hash} 3 lobby\n{hash}"), 3),
            (format!("{TITLE}\n{} 3 lobby", &hash[2..]), 2),
            (format!("{TITLE}\n{hash} 0 lobby"), 2),
            (format!("{TITLE}\n{hash} x lobby"), 2),
            (format!("{TITLE}\n{hash} 3 no room"), 2),
            (format!("{TITLE}\n{hash} 3 lobby\n{} 3 lobby", "cd".repeat(32)), 3),
        ];
        for (text, line) in cases {
            assert_eq!(Heads::parse(&text).unwrap_err().0, line, "{text}");
        }
    }
}
