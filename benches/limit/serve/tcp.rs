//! The limit: rooms on plain TCP, each message behind four bytes of length (and gRPC's one of flags).
//!
//! One log of bytes for each room, into which a message is encoded once, and for each member a position in it: no queue,
//! no copy and no counter for a member. A connection is one task, which reads all there is, lets the others read too, and
//! then writes what the room has come to by one call. Everything belongs to one thread, so nothing is locked.

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, BytesMut};
use prost::Message as _;
use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;

use super::{
    BACKLOG,
    event::{self, MAX_MESSAGE, PREFIX, Who},
};

/// Read at once, by all connections into the same place.
const READ: usize = 64 * 1024;
/// Written of a room's log at once.
const WRITE: usize = 256 * 1024;

/// Serves until accepting fails.
pub(super) async fn serve(listener: &TcpListener) -> anyhow::Result<()> {
    let (tasks, rooms, scratch) =
        (TaskTracker::new(), Rooms::default(), Rc::new(RefCell::new(vec![0; READ])));
    loop {
        let stream = super::accept(listener).await?;
        let mut connection = Connection::new(stream, Rc::clone(&rooms), Rc::clone(&scratch));
        tasks.spawn_local(async move {
            // How a connection ends matters to nobody here.
            let _ = std::future::poll_fn(|context| connection.poll(context)).await;
        });
    }
}

type Rooms = Rc<RefCell<HashMap<String, Rc<RefCell<Room>>>>>;

/// What was said in a room and not yet taken by everybody.
#[derive(Default)]
struct Room {
    log: BytesMut,
    /// Where the log begins, and so where it ends, in bytes since the room was made.
    base: u64,
    seq: u64,
    members: usize,
    /// Members that have not taken all of the log.
    behind: usize,
    /// Those that have, and sleep.
    asleep: Vec<Waker>,
    /// How often they were woken.
    woken: u64,
}

impl Room {
    fn end(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    fn say(&mut self, who: &Who, said: pb::SendMessage) -> pb::ServerEvent {
        self.seq += 1;
        let event = event::received(who, said, self.seq);
        event::put(&mut self.log, &event);
        if self.log.len() > BACKLOG {
            // Whoever is behind this is dropped.
            let half = self.log.len() / 2;
            self.log.advance(half);
            self.base += half as u64;
        }
        self.behind = self.members;
        self.woken += 1;
        self.asleep.drain(..).for_each(Waker::wake);
        event
    }

    /// What waits behind a position; `None`: it was not kept for so long.
    fn tail(&self, at: u64) -> Option<&[u8]> {
        let tail = self.log.get(usize::try_from(at.checked_sub(self.base)?).ok()?..)?;
        Some(tail.get(..WRITE).unwrap_or(tail))
    }

    /// One more has taken everything, or has gone.
    fn caught_up(&mut self) {
        self.behind = self.behind.saturating_sub(1);
        if self.behind == 0 {
            self.base = self.end();
            self.log.clear();
        }
    }
}

/// A member's place in a room.
struct Seat {
    room: Rc<RefCell<Room>>,
    who: Who,
    /// Up to where the room's log was taken.
    at: u64,
    /// `Room::woken` when this one went to sleep.
    slept: Option<u64>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut room = self.room.borrow_mut();
        room.members -= 1;
        if self.at < room.end() {
            room.caught_up();
        }
    }
}

struct Connection {
    stream: TcpStream,
    rooms: Rooms,
    scratch: Rc<RefCell<Vec<u8>>>,
    /// A message that has not come whole.
    part: BytesMut,
    /// What is for this connection alone, and goes before the room's log.
    own: BytesMut,
    seat: Option<Seat>,
    /// It has let the others read since it wrote.
    gave_way: bool,
}

impl Connection {
    fn new(stream: TcpStream, rooms: Rooms, scratch: Rc<RefCell<Vec<u8>>>) -> Self {
        let (part, own) = (BytesMut::new(), BytesMut::new());
        Self { stream, rooms, scratch, part, own, seat: None, gave_way: false }
    }

    /// One turn: everything is read, then everything is written.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut has_read = false;
        loop {
            match self.poll_read(context)? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => has_read = true,
                Poll::Pending => break,
            }
        }
        if has_read && !self.gave_way {
            // Others have something to say in this turn too: then it goes out by the same call.
            self.gave_way = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.gave_way = false;
        ready!(self.poll_write(context))?;
        self.sleep(context);
        Poll::Pending
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let scratch = Rc::clone(&self.scratch);
        let mut scratch = scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let read = buffer.filled();
        if self.part.is_empty() {
            let done = self.take_whole(read)?;
            self.part.extend_from_slice(read.get(done..).unwrap_or_default());
        } else {
            self.part.extend_from_slice(read);
            let have = std::mem::take(&mut self.part);
            let done = self.take_whole(&have)?;
            self.part.extend_from_slice(have.get(done..).unwrap_or_default());
        }
        Poll::Ready(Ok(read.len()))
    }

    /// Handles the messages that have come whole; how many bytes they have.
    fn take_whole(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some([_, len @ ..]) = bytes.get(done..).and_then(<[u8]>::first_chunk::<PREFIX>) {
            let len = u32::from_be_bytes(*len) as usize;
            if len > MAX_MESSAGE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let Some(message) = bytes.get(done + PREFIX..done + PREFIX + len) else { break };
            self.handle(pb::ClientMessage::decode(message)?);
            done += PREFIX + len;
        }
        Ok(done)
    }

    fn handle(&mut self, message: pb::ClientMessage) {
        match (message.payload, &mut self.seat) {
            (Some(Say::Join(join)), None) => {
                let room = Rc::clone(self.rooms.borrow_mut().entry(join.room_id.clone()).or_default());
                let who = Who::of(&join);
                let mut entered = room.borrow_mut();
                entered.members += 1;
                let (at, seq) = (entered.end(), entered.seq);
                drop(entered);
                event::put(&mut self.own, &event::room_state(&join, &who, seq, message.request_id));
                self.seat = Some(Seat { room, who, at, slept: None });
            }
            (Some(Say::Message(said)), Some(seat)) => {
                let event = seat.room.borrow_mut().say(&seat.who, said);
                event::put(&mut self.own, &event::ack(&event, message.request_id));
            }
            _ => {}
        }
    }

    /// Writes until nothing waits.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let room = self.seat.as_ref().map(|seat| seat.room.borrow());
            let tail = match (&room, &self.seat) {
                (Some(room), Some(seat)) => room.tail(seat.at).ok_or(io::ErrorKind::TimedOut)?,
                _ => &[],
            };
            if tail.is_empty() && self.own.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if self.own.len() > BACKLOG {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let stream = Pin::new(&mut self.stream);
            let written = if self.own.is_empty() {
                ready!(stream.poll_write(context, tail))?
            } else {
                let both = [IoSlice::new(&self.own), IoSlice::new(tail)];
                ready!(stream.poll_write_vectored(context, &both))?
            };
            let Some(of_tail) = written.checked_sub(self.own.len()) else {
                self.own.advance(written);
                continue;
            };
            self.own.clear();
            // What is begun is ended before anything else may come: the rest of a message may be the next byte.
            self.own.extend_from_slice(tail.get(of_tail..).unwrap_or_default());
            let taken = tail.len() as u64;
            drop(room);
            if let Some(seat) = self.seat.as_mut().filter(|_| taken > 0) {
                seat.at += taken;
                let mut room = seat.room.borrow_mut();
                if seat.at == room.end() {
                    room.caught_up();
                }
            }
        }
    }

    /// Everything is written: the room wakes it when there is more.
    fn sleep(&mut self, context: &mut Context<'_>) {
        if let Some(seat) = &mut self.seat {
            let mut room = seat.room.borrow_mut();
            if seat.slept != Some(room.woken) {
                seat.slept = Some(room.woken);
                room.asleep.push(context.waker().clone());
            }
        }
    }
}
