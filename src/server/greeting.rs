//! The first bytes of a connection: whether it speaks HTTP/2, before anything is spent on it.
//!
//! Takes the preface off the stream and gives it back to whoever reads next. A client that speaks something else is
//! found out by its first wrong byte. Also bounds how much a connection may bring at one go, so that one that sends
//! without a pause leaves the thread to others, and reads slowly whoever sends too much of what only costs
//! ([`super::frames`]).

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, Take},
    net::TcpStream,
    time::{Sleep, sleep},
};

use crate::server::frames::Frames;

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is read before others have their turn: a few hundred frames of the kind that only costs, and a message of
/// the usual size in one go.
const TURN_BYTES: usize = 32 * 1024;
/// Streams that begin in the reads of a turn before it ends: each is a task that wants one as well.
const TURN_STREAMS: usize = 16;
/// What one read brings at first, and while streams begin: they do so with ten bytes and more, and hundreds would with all
/// that a buffer holds.
const PART_BYTES: usize = 512;
/// What is read of a client that was refused, at most.
const REFUSED_BYTES: u64 = 32 * 1024;
/// The first byte of every TLS record that begins a connection: a handshake (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// An empty SETTINGS frame, then GOAWAY (`INADEQUATE_SECURITY`) with the reason in words.
const SPEAK_TLS: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x2a\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0cthis port speaks TLS: use https://";

/// A stream whose preface was taken off, and is given back.
#[derive(Debug)]
pub(super) struct Greeted<IO> {
    /// Up to what one read may bring.
    io: Take<IO>,
    /// How much of the preface was given back.
    given: usize,
    /// How much was read in this turn, and how many streams have begun.
    turn: (usize, usize),
    /// How much one read brings at most.
    part: usize,
    frames: Frames,
    /// Until when nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
    /// Something was written.
    has_written: bool,
}

/// Waits for the preface; none: something else came, or nothing.
pub(super) async fn greeted<IO: AsyncRead + Unpin>(mut io: IO) -> Option<Greeted<IO>> {
    let mut seen = [0; PREFACE.len()];
    let mut len = 0;
    while len < PREFACE.len() {
        let read = io.read(seen.get_mut(len..)?).await.ok().filter(|read| *read > 0)?;
        len += read;
        if seen.get(..len) != PREFACE.get(..len) {
            return None;
        }
    }
    Some(Greeted::new(io))
}

/// Whether a TLS handshake begins. Who speaks HTTP/2 without TLS is told what to do; others are only refused.
pub(super) async fn begins_tls(stream: &mut TcpStream) -> bool {
    let mut first = [0; 1];
    match stream.peek(&mut first).await {
        Ok(1) if first == [TLS_HANDSHAKE] => return true,
        Ok(1) => {}
        Ok(_) | Err(_) => return false,
    }
    if greeted(&mut *stream).await.is_some() {
        let _ = stream.write_all(SPEAK_TLS).await;
        let _ = stream.shutdown().await;
        // What is unread when a socket is closed resets it, and the reason with it: read to the client's own end.
        let _ = tokio::io::copy(&mut stream.take(REFUSED_BYTES), &mut tokio::io::sink()).await;
    }
    false
}

impl<IO: AsyncRead> Greeted<IO> {
    /// A stream whose preface was just taken off.
    fn new(io: IO) -> Self {
        let (io, frames) = (io.take(0), Frames::new());
        Self { io, given: 0, turn: (0, 0), part: PART_BYTES, frames, pause: None, has_written: false }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Greeted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(left) = PREFACE.get(self.given..).filter(|left| !left.is_empty()) {
            let part = left.get(..into.remaining()).unwrap_or(left);
            into.put_slice(part);
            self.given += part.len();
            return Poll::Ready(Ok(()));
        }
        if self.turn.0 >= TURN_BYTES || self.turn.1 >= TURN_STREAMS {
            self.turn = (0, 0);
            // Behind all who are ready, and behind a look at sockets and timers: to be woken at once would be to stay ready, so
            // that a thread which has something to do would seldom look.
            let _ = pin!(tokio::task::yield_now()).poll(context);
            return Poll::Pending;
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let before = into.filled().len();
        let part = self.part as u64;
        self.io.set_limit(part);
        let read = Pin::new(&mut self.io).poll_read(context, into);
        match read {
            // It has had its turn, and waits by itself.
            Poll::Pending => self.turn = (0, 0),
            Poll::Ready(_) => {
                let bytes = into.filled().get(before..).unwrap_or_default();
                let seen = self.frames.read(bytes);
                self.turn = (self.turn.0 + bytes.len(), self.turn.1 + seen.streams);
                // As much as comes, and little of what only costs.
                let is_dear = seen.streams > 0 || seen.wait.is_some();
                self.part =
                    if is_dear { PART_BYTES } else { (bytes.len() * 2).clamp(PART_BYTES, TURN_BYTES) };
                self.pause = seen.wait.map(|wait| Box::pin(sleep(wait)));
            }
        }
        Poll::Ready(ready!(read))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Greeted<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.has_written = true;
        Pin::new(self.io.get_mut()).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.has_written = true;
        let io = Pin::new(self.io.get_mut());
        let mut filled = parts.iter().filter(|part| !part.is_empty());
        match (filled.next(), filled.next()) {
            // Mostly: the kernel has less to do for `send` than for `writev`.
            (Some(only), None) => io.poll_write(context, only),
            _ => io.poll_write_vectored(context, parts),
        }
    }

    /// h2 asks before anything is written, to decide what it copies: with vectored writes only frames below 256 bytes, and
    /// each that is larger becomes a write of its own; without them all below 1024, and what many streams have to say at the
    /// same time is one write. To copy a message of the usual size costs far less than that. Later it asks whether the rest
    /// of a large frame can be written with its head.
    fn is_write_vectored(&self) -> bool {
        self.has_written && self.io.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn the_preface_is_looked_at_and_given_back() {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(PREFACE).await.unwrap();
        client.write_all(b"and more").await.unwrap();
        let mut greeted = greeted(server).await.unwrap();
        let mut all = vec![0; PREFACE.len() + 8];
        // In pieces, too.
        greeted.read_exact(&mut all[..5]).await.unwrap();
        greeted.read_exact(&mut all[5..]).await.unwrap();
        assert_eq!(all, [&PREFACE[..], b"and more"].concat());
    }

    #[tokio::test]
    async fn something_else_is_found_out_by_its_first_wrong_byte() {
        for wrong in [&b"G"[..], b"PRI * HTTP/2.1"] {
            let (mut client, server) = tokio::io::duplex(1024);
            client.write_all(wrong).await.unwrap();
            // The client is still there, and is not waited for.
            assert!(greeted(server).await.is_none());
        }
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(&PREFACE[..10]).await.unwrap();
        drop(client);
        assert!(greeted(server).await.is_none(), "cut off");
    }

    #[tokio::test]
    async fn who_sends_without_a_pause_leaves_the_thread_to_others() {
        let (mut client, server) = tokio::io::duplex(2 << 20);
        client.write_all(PREFACE).await.unwrap();
        client.write_all(&vec![7; 1 << 20]).await.unwrap();
        let mut greeted = Greeted { given: PREFACE.len(), ..greeted(server).await.unwrap() };
        let (mut read, mut pauses) = (0, 0);
        poll_fn(|context| {
            while read < 1 << 20 {
                let mut bytes = [0; 8192];
                let mut into = ReadBuf::new(&mut bytes);
                if Pin::new(&mut greeted).poll_read(context, &mut into).is_pending() {
                    pauses += 1;
                    return Poll::Pending;
                }
                read += into.filled().len();
            }
            Poll::Ready(())
        })
        .await;
        assert!((20..100).contains(&pauses), "{pauses}");
    }

    #[test]
    fn who_sends_without_a_pause_leaves_the_thread_to_sockets() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().event_interval(u32::MAX).build().unwrap();
        runtime.block_on(async {
            let mut flood = Greeted { given: PREFACE.len(), ..Greeted::new(tokio::io::repeat(7)) };
            let mut tasks = tokio::task::JoinSet::new();
            let flooding = tasks.spawn(async move {
                let mut bytes = vec![0; TURN_BYTES];
                for _ in 0..100_000 {
                    flood.read_exact(&mut bytes).await.unwrap();
                }
            });
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            for _ in 0..10 {
                client.write_u8(1).await.unwrap();
                server.read_u8().await.unwrap();
            }
            assert!(!flooding.is_finished(), "nobody was heard before the flood was over");
        });
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_many_settings_is_read_slowly() {
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(PREFACE).await.unwrap();
        client.write_all(&b"\0\0\0\x04\0\0\0\0\0".repeat(200)).await.unwrap();
        let mut greeted = greeted(server).await.unwrap();
        let begun = tokio::time::Instant::now();
        let mut all = vec![0; PREFACE.len() + 90];
        greeted.read_exact(&mut all).await.unwrap();
        assert_eq!(begun.elapsed(), std::time::Duration::ZERO, "ten are no harm");
        for _ in 0..19 {
            greeted.read_exact(&mut [0; 90]).await.unwrap();
        }
        assert!((10..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn who_begins_many_streams_leaves_the_thread_to_others() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(PREFACE).await.unwrap();
        let streams = b"\0\0\x01\x01\x04\0\0\0\0\x82".repeat(1000);
        let data = [&b"\0\xea\x60\0\0\0\0\0\0"[..], &[0; 60_000]].concat();
        client.write_all(&streams).await.unwrap();
        client.write_all(&data).await.unwrap();
        let mut greeted = greeted(server).await.unwrap();
        greeted.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
        let (mut bytes, mut reads) = (vec![0; 64 * 1024], Vec::new());
        while reads.iter().sum::<usize>() < streams.len() + data.len() {
            reads.push(greeted.read(&mut bytes).await.unwrap());
        }
        assert!(reads.iter().take(15).all(|read| *read <= 512), "few streams at a time: {reads:?}");
        assert!(reads.iter().any(|read| *read > 8192), "and then as much as there is: {reads:?}");
    }

    #[test]
    fn the_refusal_is_well_formed() {
        let goaway = &SPEAK_TLS[9..];
        let len = u32::from_be_bytes([0, goaway[0], goaway[1], goaway[2]]) as usize;
        assert_eq!(goaway.len(), 9 + len);
    }
}
