//! The client's half of HTTP/2, as much of it as a session over gRPC needs.
//!
//! Only for the load generator. A general stack (`h2`) spends as much on an event as the server that is measured, and
//! both share a machine; here an event costs a look at nine bytes. That is possible because the peer is known to be
//! tested by others: headers are not decoded (of a stream that was refused nothing but that is known), windows are
//! given up front, and nothing is prioritised. It never does I/O; it obeys the server's windows, answers PING and
//! SETTINGS, and reports `RST_STREAM` and GOAWAY. What is no HTTP/2 is a fault, and ends the connection.

use std::collections::VecDeque;

use super::{Fault, Heard, prefixed::Assembly};

/// The largest frame that we take: the protocol's default, which we do not change.
const FRAME_BYTES: usize = 16 << 10;
/// The head of a frame.
const HEAD: usize = 9;
/// The largest window there is.
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// What a window has before anybody has said anything.
const WINDOW_DEFAULT: i64 = 65_535;
/// So many bytes are taken before a window is topped up: half of it.
const TOP_UP: u32 = 1 << 30;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

const SETTING_HEADER_TABLE_SIZE: u16 = 0x1;
const SETTING_ENABLE_PUSH: u16 = 0x2;
const SETTING_MAX_CONCURRENT_STREAMS: u16 = 0x3;
const SETTING_INITIAL_WINDOW_SIZE: u16 = 0x4;

/// What every stream's headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    fn block(&self) -> Vec<u8> {
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
fn push_text(block: &mut Vec<u8>, text: &[u8]) {
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

/// One stream.
#[derive(Debug)]
struct Stream {
    /// What the server still takes.
    window: i64,
    /// What was taken of ours since it was topped up.
    taken: u32,
    assembly: Assembly,
    is_over: bool,
}

/// One connection.
#[derive(Debug)]
pub(in crate::cli::bench) struct Http2 {
    streams: Vec<Stream>,
    /// What the server still takes on all streams together.
    window: i64,
    /// What it takes on a new stream.
    initial_window: i64,
    taken: u32,
    /// What waits for a window, with its stream.
    waiting: VecDeque<(usize, Box<[u8]>)>,
}

impl Http2 {
    /// Begins a connection with so many streams, all with the same headers.
    pub(in crate::cli::bench) fn open(request: &Request, streams: usize, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        let settings = [
            (SETTING_HEADER_TABLE_SIZE, 0),
            (SETTING_ENABLE_PUSH, 0),
            (SETTING_INITIAL_WINDOW_SIZE, WINDOW_MAX),
        ];
        head(out, settings.len() * 6, SETTINGS, 0, 0);
        for (key, value) in settings {
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        top_up(out, 0, WINDOW_MAX - 65_535);
        let block = request.block();
        for index in 0..streams {
            head(out, block.len(), HEADERS, END_HEADERS, id_of(index));
            out.extend_from_slice(&block);
        }
        let stream =
            || Stream { window: WINDOW_DEFAULT, taken: 0, assembly: Assembly::default(), is_over: false };
        Self {
            streams: (0..streams).map(|_| stream()).collect(),
            window: WINDOW_DEFAULT,
            initial_window: WINDOW_DEFAULT,
            taken: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Sends `message`, which has its prefix, or keeps it until the server takes it.
    pub(in crate::cli::bench) fn send(&mut self, index: usize, message: &[u8], out: &mut Vec<u8>) {
        if !self.waiting.is_empty() || !self.try_send(index, message, out) {
            self.waiting.push_back((index, message.into()));
        }
    }

    fn try_send(&mut self, index: usize, message: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(stream) = self.streams.get_mut(index) else {
            return true;
        };
        let length = i64::try_from(message.len()).unwrap_or(i64::MAX);
        if stream.is_over {
            return true;
        }
        if length > stream.window || length > self.window {
            return false;
        }
        stream.window -= length;
        self.window -= length;
        for part in message.chunks(FRAME_BYTES) {
            head(out, part.len(), DATA, 0, id_of(index));
            out.extend_from_slice(part);
        }
        true
    }

    /// Sends what waits, in order on each stream, as far as there are windows.
    fn send_waiting(&mut self, out: &mut Vec<u8>) {
        let mut held: Vec<usize> = Vec::new();
        for _ in 0..self.waiting.len() {
            let Some((index, message)) = self.waiting.pop_front() else {
                return;
            };
            if held.contains(&index) || !self.try_send(index, &message, out) {
                held.push(index);
                self.waiting.push_back((index, message));
            }
        }
    }

    /// Takes what has come, and says how much of it was whole frames.
    pub(in crate::cli::bench) fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<usize, Fault> {
        let mut rest = bytes;
        while let Some((frame, later)) = Frame::split(rest)? {
            self.take(&frame, out, hear)?;
            rest = later;
        }
        Ok(bytes.len() - rest.len())
    }

    fn take(
        &mut self,
        frame: &Frame<'_>,
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), Fault> {
        match frame.kind {
            DATA => self.data(frame, out, hear)?,
            HEADERS if frame.flags & END_STREAM != 0 => self.end(frame.index(), "ended by the server", hear),
            RST_STREAM => {
                let code = number(frame.payload);
                self.end(frame.index(), &format!("reset by the server, code {code}"), hear);
            }
            SETTINGS if frame.flags & ACK == 0 => self.settings(frame.payload, out)?,
            PING if frame.flags & ACK == 0 => {
                head(out, frame.payload.len(), PING, ACK, 0);
                out.extend_from_slice(frame.payload);
            }
            WINDOW_UPDATE => {
                let more = i64::from(number(frame.payload) & WINDOW_MAX);
                match frame.index().and_then(|index| self.streams.get_mut(index)) {
                    Some(stream) => stream.window += more,
                    None if frame.stream == 0 => self.window += more,
                    None => {}
                }
                self.send_waiting(out);
            }
            GOAWAY => {
                let code = frame.payload.get(4..8).map_or(0, number);
                // Streams that are open go on; the end of the connection is seen when it comes.
                if code == 0 {
                    return Ok(());
                }
                let text = String::from_utf8_lossy(frame.payload.get(8..).unwrap_or_default()).into_owned();
                return Err(Fault::GoAway { code, text });
            }
            _ => {}
        }
        Ok(())
    }

    fn data(
        &mut self,
        frame: &Frame<'_>,
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), Fault> {
        // No frame is longer than `FRAME_BYTES`.
        let length = u32::try_from(frame.payload.len()).unwrap_or_default();
        self.taken += length;
        if self.taken >= TOP_UP {
            top_up(out, 0, self.taken);
            self.taken = 0;
        }
        let Some((index, stream)) =
            frame.index().and_then(|index| Some((index, self.streams.get_mut(index)?)))
        else {
            return Ok(());
        };
        stream.taken += length;
        if stream.taken >= TOP_UP {
            top_up(out, frame.stream, stream.taken);
            stream.taken = 0;
        }
        let data = frame.unpadded()?;
        stream.assembly.feed(data, &mut |message| hear(Heard::Message(index, message)))?;
        if frame.flags & END_STREAM != 0 {
            self.end(Some(index), "ended by the server", hear);
        }
        Ok(())
    }

    fn end(&mut self, index: Option<usize>, why: &str, hear: &mut impl FnMut(Heard<'_>)) {
        let Some((index, stream)) = index.and_then(|index| Some((index, self.streams.get_mut(index)?)))
        else {
            return;
        };
        if !std::mem::replace(&mut stream.is_over, true) {
            hear(Heard::Ended(index, why));
        }
    }

    fn settings(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        for setting in payload.chunks_exact(6) {
            let (key, value) = setting.split_at_checked(2).unwrap_or_default();
            let value = number(value);
            match key.try_into().map(u16::from_be_bytes) {
                Ok(SETTING_INITIAL_WINDOW_SIZE) => {
                    let change = i64::from(value) - self.initial_window;
                    self.initial_window = i64::from(value);
                    for stream in &mut self.streams {
                        stream.window += change;
                    }
                }
                Ok(SETTING_MAX_CONCURRENT_STREAMS) if (value as usize) < self.streams.len() => {
                    return Err(Fault::Streams { allowed: value });
                }
                _ => {}
            }
        }
        head(out, 0, SETTINGS, ACK, 0);
        self.send_waiting(out);
        Ok(())
    }
}

/// A whole frame.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame, and what is behind it; none: it is not whole.
    fn split(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Fault> {
        let Some((&[a, b, c, kind, flags, s0, s1, s2, s3], rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > FRAME_BYTES {
            return Err(Fault::Spoken(format!("a frame of {length} bytes: this is no HTTP/2")));
        }
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & WINDOW_MAX;
        Ok(rest
            .split_at_checked(length)
            .map(|(payload, later)| (Self { kind, flags, stream, payload }, later)))
    }

    /// The stream's place among ours; none: the connection.
    fn index(&self) -> Option<usize> {
        (self.stream as usize).checked_sub(1).map(|odd| odd / 2)
    }

    fn unpadded(&self) -> Result<&'a [u8], Fault> {
        if self.flags & PADDED == 0 {
            return Ok(self.payload);
        }
        let inner = self.payload.split_first().and_then(|(padding, data)| {
            data.len().checked_sub(usize::from(*padding)).and_then(|length| data.get(..length))
        });
        inner.ok_or_else(|| Fault::Spoken("a frame with more padding than it has bytes".into()))
    }
}

/// The id of our stream number `index`.
fn id_of(index: usize) -> u32 {
    u32::try_from(index * 2 + 1).unwrap_or(WINDOW_MAX)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, a, b, c] = u32::try_from(length).unwrap_or_default().to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, s0, s1, s2, s3]);
}

fn top_up(out: &mut Vec<u8>, stream: u32, by: u32) {
    head(out, 4, WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&by.to_be_bytes());
}

#[cfg(test)]
#[path = "http2_tests.rs"]
mod tests;
