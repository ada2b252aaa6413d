//! The client's half of HTTP/2, as much of it as a session over gRPC needs.
//!
//! Only for the load generator. A general stack (`h2`) spends as much on an event as the server that is measured, and
//! both share a machine; here an event costs a look at nine bytes. That is possible because the peer is known to be
//! tested by others: of headers only those are read that end a stream (`headers.rs`), windows are given up front, and
//! nothing is prioritised. It never does I/O; it obeys the server's windows (`flow.rs`), answers PING and SETTINGS, and
//! reports `RST_STREAM` and GOAWAY. What is no HTTP/2 is a fault, and ends the connection.

mod flow;
mod frames;
mod headers;

pub(in crate::cli::bench) use self::headers::Request;
use self::{
    flow::Flow,
    frames::{
        ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_MAX,
        WINDOW_UPDATE, head, id_of, number, top_up,
    },
};
use super::{Fault, Heard, prefixed::Assembly};

/// So many bytes are taken before a window is topped up: half of it.
const TOP_UP: u32 = 1 << 30;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const SETTING_HEADER_TABLE_SIZE: u16 = 0x1;
const SETTING_ENABLE_PUSH: u16 = 0x2;
const SETTING_MAX_CONCURRENT_STREAMS: u16 = 0x3;
const SETTING_INITIAL_WINDOW_SIZE: u16 = 0x4;

/// One stream.
#[derive(Debug)]
struct Stream {
    /// What was taken of ours since it was topped up.
    taken: u32,
    assembly: Assembly,
    is_over: bool,
}

/// One connection.
#[derive(Debug)]
pub(in crate::cli::bench) struct Http2 {
    streams: Vec<Stream>,
    taken: u32,
    flow: Flow,
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
        let stream = || Stream { taken: 0, assembly: Assembly::default(), is_over: false };
        Self { streams: (0..streams).map(|_| stream()).collect(), taken: 0, flow: Flow::of(streams) }
    }

    /// Sends `message`, which has its prefix, or keeps of it what the server does not take yet.
    pub(in crate::cli::bench) fn send(&mut self, index: usize, message: &[u8], out: &mut Vec<u8>) {
        self.flow.send(index, message, out);
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
            HEADERS if frame.flags & END_STREAM != 0 => {
                let reason = frame.block()?.and_then(headers::reason);
                let why = reason.map(|reason| format!("ended by the server: {reason}"));
                self.end(frame.index(), why.as_deref().unwrap_or("ended by the server"), hear);
            }
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
                self.flow.opened(frame.index(), more, out);
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
        self.flow.over(index);
        if !std::mem::replace(&mut stream.is_over, true) {
            hear(Heard::Ended(index, why));
        }
    }

    fn settings(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut initial = None;
        for setting in payload.chunks_exact(6) {
            let (key, value) = setting.split_at_checked(2).unwrap_or_default();
            let value = number(value);
            match key.try_into().map(u16::from_be_bytes) {
                Ok(SETTING_INITIAL_WINDOW_SIZE) => initial = Some(value),
                Ok(SETTING_MAX_CONCURRENT_STREAMS) if (value as usize) < self.streams.len() => {
                    return Err(Fault::Streams { allowed: value });
                }
                _ => {}
            }
        }
        // The server counts by what it has set as soon as it has read this.
        head(out, 0, SETTINGS, ACK, 0);
        if let Some(window) = initial {
            self.flow.initial(window, out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
