//! The frames of HTTP/2: nine bytes that say what follows, and what follows.

use super::super::Fault;

/// The largest frame that we take and send: the protocol's default, which we do not change.
pub(super) const FRAME_BYTES: usize = 16 << 10;
/// The head of a frame.
pub(super) const HEAD: usize = 9;
/// The largest window there is; also the bits of a stream's id.
pub(super) const WINDOW_MAX: u32 = (1 << 31) - 1;

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;

pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// A whole frame.
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame, and what is behind it; none: it is not whole.
    pub(super) fn split(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Fault> {
        let Some((&[a, b, c, kind, flags, s0, s1, s2, s3], rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > FRAME_BYTES {
            return Err(Fault::Spoken(format!("a frame of {length} bytes: this is no HTTP/2")));
        }
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & WINDOW_MAX;
        if stream != 0 && stream.is_multiple_of(2) {
            return Err(Fault::Spoken(format!("a frame on stream {stream}, which nobody has opened")));
        }
        Ok(rest
            .split_at_checked(length)
            .map(|(payload, later)| (Self { kind, flags, stream, payload }, later)))
    }

    /// The stream's place among ours; none: the connection.
    pub(super) fn index(&self) -> Option<usize> {
        (self.stream as usize).checked_sub(1).map(|odd| odd / 2)
    }

    /// What is in it, without what only fills it up.
    pub(super) fn unpadded(&self) -> Result<&'a [u8], Fault> {
        if self.flags & PADDED == 0 {
            return Ok(self.payload);
        }
        let inner = self.payload.split_first().and_then(|(padding, data)| {
            data.len().checked_sub(usize::from(*padding)).and_then(|length| data.get(..length))
        });
        inner.ok_or_else(|| Fault::Spoken("a frame with more padding than it has bytes".into()))
    }

    /// The block of headers in it; none: it goes on in another frame.
    pub(super) fn block(&self) -> Result<Option<&'a [u8]>, Fault> {
        const PRIORITY_BYTES: usize = 5;
        let inner = self.unpadded()?;
        let block = if self.flags & PRIORITY == 0 { Some(inner) } else { inner.get(PRIORITY_BYTES..) };
        Ok(block.filter(|_| self.flags & END_HEADERS != 0))
    }
}

/// The id of our stream number `index`.
pub(super) fn id_of(index: usize) -> u32 {
    u32::try_from(index * 2 + 1).unwrap_or(WINDOW_MAX)
}

/// The number in the first four bytes; 0: there are fewer.
pub(super) fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Puts the head of a frame.
pub(super) fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, a, b, c] = u32::try_from(length).unwrap_or_default().to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, s0, s1, s2, s3]);
}

/// Lets the server send so much more.
pub(super) fn top_up(out: &mut Vec<u8>, stream: u32, by: u32) {
    head(out, 4, WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&by.to_be_bytes());
}
