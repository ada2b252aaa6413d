//! SHA-256, its hexadecimal form, and comparison that tells nothing by its time.
//!
//! The one place that makes digests: of secrets that are stored, of logs that are chained. What is compared with a
//! secret or with the digest of one goes through [`same`]. Nothing here can fail but reading what is no digest.

use std::fmt::Write as _;

use aws_lc_rs::{constant_time, digest};

/// The digest of these parts, one behind the other. Where the parts can be of any length, say their lengths as well:
/// `["ab", "c"]` and `["a", "bc"]` are the same to it.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut done = [0; 32];
    for (to, from) in done.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    done
}

/// Bytes as lowercase hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Exactly `N` bytes from hexadecimal digits of either case; `None` if that is not what `text` is.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().try_fold(0, |sum: u8, digit| Some((sum << 4) | value(*digit)?))?;
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Whether two texts of bytes are equal, in a time that depends on their lengths alone.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From FIPS 180-2, appendix B.
    #[test]
    fn it_is_the_digest_of_the_standard_however_it_is_cut() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(to_hex(&sha256(&[b"abc"])), abc);
        assert_eq!(to_hex(&sha256(&[b"a", b"", b"bc"])), abc);
        let long = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(to_hex(&sha256(&[&[b'a'; 1000]; 1000].map(|part| part as &[u8]))), long);
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(to_hex(&sha256(&[])), nothing);
    }

    #[test]
    fn hexadecimal_digits_are_read_back_and_nothing_else_is() {
        assert_eq!(from_hex::<4>("00fF7a9C"), Some([0, 255, 0x7a, 0x9c]));
        assert_eq!(to_hex(&[0, 255, 0x7a, 0x9c]), "00ff7a9c");
        for wrong in ["", "00ff7a9", "00ff7a9c0", "00ff7a9g", "00ff7a +", "00ff7aé"] {
            assert_eq!(from_hex::<4>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_is_equal_is_the_same() {
        assert!(same(b"secret", b"secret"));
        assert!(same(b"", b""));
        for other in [&b"secreu"[..], b"Tecret", b"secret ", b"secre", b""] {
            assert!(!same(b"secret", other), "{other:?}");
        }
    }
}
