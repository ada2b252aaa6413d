//! One connection: reads what is there, hands it to the protocol, writes what waits.
//!
//! Polled by its task, and asked by others to send: that only puts bytes into its buffer and wakes the task, so that
//! whatever is due at once leaves in one write. All connections share one buffer to read into, and keep only what was
//! not whole.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    clock::Ticks,
    protocol::{Fault, Heard, Protocol},
};

/// What is read at once. Large enough that a burst to one connection takes few calls, small enough for a cache.
const READ_BYTES: usize = 128 << 10;

/// What is kept of the memory that a burst took.
const KEPT_BYTES: usize = 16 << 10;

/// What bytes go through.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

/// One connection.
pub(super) struct Link {
    io: Box<dyn Socket>,
    protocol: Protocol,
    /// The how manieth it is of all that were opened.
    pub number: u64,
    /// Where the sessions on it begin: that of its first stream.
    pub first_session: usize,
    out: Vec<u8>,
    written: usize,
    is_flushed: bool,
    /// What has come of something that is not whole.
    left: Vec<u8>,
    waker: Option<Waker>,
}

impl Link {
    /// A connection on which `protocol` has put its beginning into `out`.
    pub(super) fn new(
        number: u64,
        io: Box<dyn Socket>,
        protocol: Protocol,
        out: Vec<u8>,
        first_session: usize,
    ) -> Self {
        Self {
            number,
            io,
            protocol,
            first_session,
            out,
            written: 0,
            is_flushed: false,
            left: Vec::new(),
            waker: None,
        }
    }

    /// Sends a message on the stream of this session, soon.
    pub(super) fn send(&mut self, session: usize, message: &[u8]) {
        if let Some(stream) = session.checked_sub(self.first_session) {
            self.protocol.send(stream, message, &mut self.out);
            self.wake();
        }
    }

    /// Has its task look at it.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Does what can be done now. Ready: it is over.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Vec<u8>,
        ticks: Ticks,
        hear: &mut impl FnMut(Heard<'_>, u64),
    ) -> Poll<Fault> {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        match self.pump(cx, scratch, ticks, hear) {
            Ok(()) => Poll::Pending,
            Err(fault) => Poll::Ready(fault),
        }
    }

    fn pump(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Vec<u8>,
        ticks: Ticks,
        hear: &mut impl FnMut(Heard<'_>, u64),
    ) -> Result<(), Fault> {
        self.write(cx)?;
        while self.read(cx, scratch, ticks, hear)? {}
        // What was read may have asked for an answer.
        self.write(cx)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        while let Some(rest @ [_, ..]) = self.out.get(self.written..) {
            match Pin::new(&mut self.io).poll_write(cx, rest).map_err(lost)? {
                Poll::Ready(0) => return Err(lost(io::ErrorKind::WriteZero.into())),
                Poll::Ready(more) => self.written += more,
                Poll::Pending => return Ok(()),
            }
            self.is_flushed = false;
        }
        if !self.out.is_empty() {
            self.out.clear();
            self.out.shrink_to(KEPT_BYTES);
            self.written = 0;
        }
        if !self.is_flushed {
            self.is_flushed = Pin::new(&mut self.io).poll_flush(cx).map_err(lost)?.is_ready();
        }
        Ok(())
    }

    /// Reads once; false: there is nothing more now.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Vec<u8>,
        ticks: Ticks,
        hear: &mut impl FnMut(Heard<'_>, u64),
    ) -> Result<bool, Fault> {
        let begin = self.left.len();
        if scratch.len() < begin + READ_BYTES {
            scratch.resize(begin + READ_BYTES, 0);
        }
        let Some((before, free)) = scratch.split_at_mut_checked(begin) else {
            return Ok(false);
        };
        let mut free = ReadBuf::new(free);
        if Pin::new(&mut self.io).poll_read(cx, &mut free).map_err(lost)?.is_pending() {
            return Ok(false);
        }
        let end = begin + free.filled().len();
        if end == begin {
            return Err(Fault::Lost("closed by the server".into()));
        }
        before.copy_from_slice(&self.left);
        self.left.clear();
        let there = scratch.get(..end).unwrap_or_default();
        // What was read at once has come at once.
        let now = ticks.now();
        let whole = self.protocol.receive(there, &mut self.out, &mut |what| hear(what, now))?;
        self.left.extend_from_slice(there.get(whole..).unwrap_or_default());
        Ok(true)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn lost(error: io::Error) -> Fault {
    Fault::Lost(error.to_string())
}
