//! Headers: those that begin our streams, and of those that end them what gRPC says in them.
//!
//! Neither side keeps a table: what we say is written out, and the server is told to do the same. What cannot be read is
//! passed over, as a stream that ended has ended with or without a reason.

use crate::cli::text;

/// What every stream's headers say. It has the credential in it, and so cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cli::bench) struct Request {
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// The method, as `/package.Service/Method`.
    pub path: String,
    /// Whom it is said to.
    pub authority: String,
    /// The credential, as the header has it.
    pub authorization: Option<Vec<u8>>,
}

impl Request {
    /// The headers, each written out: the server keeps no table for us, and needs none.
    pub(super) fn block(&self) -> Vec<u8> {
        let mut block = vec![0x83, if self.is_tls { 0x87 } else { 0x86 }];
        block.push(0x04);
        push_text(&mut block, self.path.as_bytes());
        block.push(0x01);
        push_text(&mut block, self.authority.as_bytes());
        // `content-type`, the 31st of the static table.
        block.extend_from_slice(&[0x0f, 0x10]);
        push_text(&mut block, b"application/grpc");
        block.push(0x00);
        push_text(&mut block, b"te");
        push_text(&mut block, b"trailers");
        if let Some(credential) = &self.authorization {
            // `authorization`, the 23rd, never to be kept by anybody on the way.
            block.extend_from_slice(&[0x1f, 0x08]);
            push_text(&mut block, credential);
        }
        block
    }
}

/// A text as HPACK writes it without Huffman's code.
pub(super) fn push_text(block: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(short @ 0..=126) => block.push(short),
        _ => {
            block.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap_or_default() | 0x80);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap_or_default());
        }
    }
    block.extend_from_slice(text);
}

/// Why a stream has ended, in words: `grpc-status` and `grpc-message` of the headers in `block`; none: as it should.
pub(super) fn reason(block: &[u8]) -> Option<String> {
    let (mut code, mut message) = (0, String::new());
    let mut rest = block;
    while let Some((name, value)) = field(&mut rest) {
        match name.as_slice() {
            b"grpc-status" => code = std::str::from_utf8(&value).ok()?.parse().ok()?,
            b"grpc-message" => message = unescaped(&value),
            _ => {}
        }
    }
    let words = text::line(&message);
    (code != 0).then(|| format!("{words} ({:?})", tonic::Code::from_i32(code)))
}

/// The next header, with neither a name nor a value where those are in a table; none: there is no other.
fn field(rest: &mut &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let first = *rest.first()?;
    if first & 0x80 != 0 {
        integer(rest, 7)?;
        return Some((Vec::new(), Vec::new()));
    }
    if first & 0xe0 == 0x20 {
        // How large the table may be, which nobody uses.
        integer(rest, 5)?;
        return Some((Vec::new(), Vec::new()));
    }
    let bits = if first & 0x40 == 0 { 4 } else { 6 };
    let name = if integer(rest, bits)? == 0 { string(rest)? } else { Vec::new() };
    Some((name, string(rest)?))
}

/// A number whose beginning is in so many bits of the first byte.
fn integer(rest: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, mut later) = rest.split_first()?;
    let mask = (1_usize << bits) - 1;
    let mut number = usize::from(*first) & mask;
    if number == mask {
        for shift in (0..28).step_by(7) {
            let (byte, behind) = later.split_first()?;
            later = behind;
            number += (usize::from(*byte) & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *rest = later;
                return Some(number);
            }
        }
        return None;
    }
    *rest = later;
    Some(number)
}

fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let is_coded = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (text, later) = rest.split_at_checked(length)?;
    *rest = later;
    if is_coded { decoded(text) } else { Some(text.to_vec()) }
}

/// How many bits each character has in Huffman's code for headers, from the space to the tilde. What gRPC says in headers
/// has no others.
const BITS: [u8; 95] = [
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
];
/// The byte 0 has as many, and stands before all others that have.
const BITS_OF_NUL: u8 = 13;
/// No character has more.
const BITS_MAX: u8 = 19;

/// A text in Huffman's code; none: it has characters that no header of gRPC has.
fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let (mut code, mut length) = (0_u32, 0_u8);
    for byte in coded {
        for place in (0..8).rev() {
            code = code << 1 | u32::from(byte >> place & 1);
            length += 1;
            if let Some(character) = character(code, length) {
                text.push(character);
                (code, length) = (0, 0);
            } else if length >= BITS_MAX {
                return None;
            }
        }
    }
    // What fills the last byte up is ones.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

/// Codes of one length follow one another in the order of their characters, behind all that are shorter.
fn character(code: u32, length: u8) -> Option<u8> {
    let mut next = 0_u32;
    for bits in 1..=length {
        next <<= 1;
        if bits == BITS_OF_NUL {
            next += 1;
        }
        for (character, _) in (b' '..).zip(BITS).filter(|(_, of)| *of == bits) {
            if bits == length && next == code {
                return Some(character);
            }
            next += 1;
        }
    }
    None
}

/// A text in which `%` and two digits stand for a byte.
fn unescaped(text: &[u8]) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((first, later)) = rest.split_first() {
        let digits = later.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { later.get(2..).unwrap_or_default() } else { later };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut block = vec![0x40];
        push_text(&mut block, name);
        push_text(&mut block, value);
        block
    }

    #[test]
    fn huffmans_code_is_that_of_the_standard() {
        // From the examples of RFC 7541, C.4 and C.6.
        for (coded, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ] {
            let bytes: Vec<u8> = (0..coded.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&coded[at..at + 2], 16).unwrap())
                .collect();
            assert_eq!(decoded(&bytes).unwrap(), text.as_bytes());
            assert_eq!(decoded(&bytes[..bytes.len() - 1]).filter(|cut| cut == text.as_bytes()), None);
        }
        // Those that are longest, and a byte that is no character.
        assert_eq!(
            [(0x7fff0, 19), (0x7ffe, 15), (0x1ff8, 13)].map(|(code, bits)| character(code, bits)),
            [Some(b'\\'), Some(b'{'), None]
        );
        assert_eq!(decoded(&[0xff; 4]), None);
    }

    #[test]
    fn the_reason_is_found_among_other_headers() {
        let block = [
            vec![0x88, 0x3f, 0x01],
            vec![0x0f, 0x10, 1, b'x'],
            literal(b"grpc-status", b"8"),
            literal(b"grpc-message", b"too many%3A caf%C3%A9s%1b[2J%"),
        ]
        .concat();
        assert_eq!(reason(&block).unwrap(), "too many: cafés% (ResourceExhausted)");
        assert_eq!(reason(&literal(b"grpc-status", b"0")), None);
        assert_eq!(reason(&[]), None);
        for end in 0..block.len() {
            // Cut anywhere it is another reason at most.
            let _ = reason(&block[..end]);
        }
        assert_eq!(reason(&[0x40, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
