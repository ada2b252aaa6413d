//! Cursors of lists: opaque to clients, bound to what they were made for.
//!
//! They carry no authority: who may read is checked at every call. The checksum tells a cursor that was changed, or
//! made for another list, from one of this server.

use std::fmt::Write as _;

use crate::{domain::rejection::Rejection, rooms::history::bad_cursor};

/// Makes a cursor at `position` in the list `list`.
pub fn encode(list: &str, position: &[u8]) -> String {
    let mut text = String::with_capacity(2 * (position.len() + 4));
    for byte in position.iter().chain(&checksum(list, position)) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads a cursor of the list `list`.
pub fn decode(list: &str, cursor: &str) -> Result<Vec<u8>, Rejection> {
    let bytes = hex(cursor).ok_or_else(bad_cursor)?;
    let (position, sum) = bytes.split_last_chunk::<4>().ok_or_else(bad_cursor)?;
    if sum == &checksum(list, position) { Ok(position.to_vec()) } else { Err(bad_cursor()) }
}

/// Reads a cursor that holds a number.
pub fn decode_number(list: &str, cursor: &str) -> Result<u64, Rejection> {
    let position = decode(list, cursor)?;
    position.try_into().map(u64::from_be_bytes).map_err(|_| bad_cursor())
}

fn checksum(list: &str, position: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"salon cursor 1\0");
    hasher.update(list.as_bytes());
    hasher.update(b"\0");
    hasher.update(position);
    hasher.finalize().to_be_bytes()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_list_only_and_only_unchanged() {
        let cursor = encode("history r1", &7_u64.to_be_bytes());
        assert_eq!(decode_number("history r1", &cursor), Ok(7));
        assert!(decode_number("history r2", &cursor).is_err());
        for at in 0..cursor.len() {
            let mut changed = cursor.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert!(decode_number("history r1", std::str::from_utf8(&changed).unwrap()).is_err());
        }
        for nonsense in
            ["", "x", "00", "zz", "ÄÖ", &cursor[1..], &format!("{cursor}00"), &cursor.to_uppercase()]
        {
            assert!(decode_number("history r1", nonsense).is_err() || *nonsense == cursor);
        }
    }
}
