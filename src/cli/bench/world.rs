//! The sessions of a load, and the connections that they are on.
//!
//! All of it lives in one thread: a task for each connection, which hands what comes to the scenario (its
//! [`Script`]), and sends what that wants said. The sessions have numbers; so many in a row are on one connection. A
//! connection that is lost ends its sessions, which the scenario is told, and nobody opens it again unasked.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinSet};

use super::{
    clock::Ticks,
    dial::{Dial, Wire},
    hear::{Event, kind},
    link::Link,
    protocol::{Fault, Heard},
};
use crate::cli::text;

/// What a scenario does with what its sessions hear.
pub(super) trait Script {
    /// A session has joined anew, and knows the room up to there.
    fn joined(&mut self, session: usize, seq: u64);
    /// A session has come back, and is told what it has missed up to there.
    fn resumed(&mut self, session: usize, seq: u64);
    /// A session that has joined has heard a message, at that time.
    fn heard(&mut self, session: usize, message: &[u8], now: u64, say: &mut Outbox);
    /// A session that had joined is over.
    fn ended(&mut self, session: usize, why: &str);
}

/// What is to be said, by whom.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Outbox {
    /// The session says this.
    pub(super) fn push(&mut self, session: usize, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.ends.push((session, self.bytes.len()));
    }

    /// All that was said, by whom.
    #[cfg(test)]
    pub(super) fn said(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let begins = [0].into_iter().chain(self.ends.iter().map(|(_, end)| *end));
        begins.zip(&self.ends).map(|(begin, (session, end))| (*session, &self.bytes[begin..*end]))
    }
}

/// Why a session was not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotOpened {
    /// The server answered the join with an error.
    Refused {
        /// The error's code.
        code: String,
        /// What it says.
        message: String,
        /// How long it asks to wait.
        retry_after: Duration,
    },
    /// The stream or the connection ended.
    Ended(String),
    /// The connection has a fault that another attempt will have, too.
    Fault(Fault),
}

/// Who waits for the sessions of a connection to have joined.
struct Door {
    left: usize,
    done: oneshot::Sender<Result<(), NotOpened>>,
}

/// See the module.
pub(super) struct World<S> {
    /// The scenario.
    pub script: S,
    /// Time.
    pub ticks: Ticks,
    /// Messages that came, of whatever kind.
    pub arrived: u64,
    links: Vec<Option<Link>>,
    /// Connections that were opened.
    opened: u64,
    doors: Vec<Option<Door>>,
    joined: Vec<bool>,
    per_connection: usize,
    scratch: Vec<u8>,
    outbox: Outbox,
}

/// The one world of a thread.
pub(super) type Shared<S> = Rc<RefCell<World<S>>>;

impl<S: Script> World<S> {
    /// A world of so many sessions, none of which is open.
    pub(super) fn new(script: S, ticks: Ticks, sessions: usize, per_connection: usize) -> Self {
        let connections = sessions.div_ceil(per_connection);
        Self {
            script,
            ticks,
            arrived: 0,
            links: (0..connections).map(|_| None).collect(),
            opened: 0,
            doors: (0..connections).map(|_| None).collect(),
            joined: vec![false; sessions],
            per_connection,
            scratch: Vec::new(),
            outbox: Outbox::default(),
        }
    }

    /// How many connections there are when all are open.
    pub(super) fn connections(&self) -> usize {
        self.links.len()
    }

    /// The sessions on a connection.
    pub(super) fn sessions_of(&self, connection: usize) -> std::ops::Range<usize> {
        let first = connection * self.per_connection;
        first..(first + self.per_connection).min(self.joined.len())
    }

    /// Has the scenario say something.
    pub(super) fn say<T>(&mut self, what: impl FnOnce(&mut S, &mut Outbox) -> T) -> T {
        let said = what(&mut self.script, &mut self.outbox);
        self.deliver();
        said
    }

    /// Ends a connection at once, without a word to the server; the scenario is not told.
    pub(super) fn cut(&mut self, connection: usize) {
        for session in self.sessions_of(connection) {
            if let Some(joined) = self.joined.get_mut(session) {
                *joined = false;
            }
        }
        if let Some(door) = self.doors.get_mut(connection) {
            *door = None;
        }
        // Its task finds that it is gone, or another in its place.
        if let Some(link) = self.links.get_mut(connection).and_then(Option::take) {
            link.wake();
        }
    }

    fn deliver(&mut self) {
        let mut begin = 0;
        for (session, end) in self.outbox.ends.drain(..) {
            let message = self.outbox.bytes.get(begin..end).unwrap_or_default();
            if let Some(Some(link)) = self.links.get_mut(session / self.per_connection) {
                link.send(session, message);
            }
            begin = end;
        }
        self.outbox.bytes.clear();
    }

    fn poll_link(&mut self, connection: usize, opened: u64, cx: &mut Context<'_>) -> Poll<()> {
        let Self { script, links, doors, joined, scratch, outbox, ticks, arrived, .. } = self;
        let (Some(Some(link)), Some(door)) = (links.get_mut(connection), doors.get_mut(connection)) else {
            return Poll::Ready(());
        };
        if link.number != opened {
            return Poll::Ready(());
        }
        let first = link.first_session;
        let over = link.poll(cx, scratch, *ticks, &mut |what, now| match what {
            Heard::Message(stream, message) => {
                *arrived += 1;
                match joined.get_mut(first + stream) {
                    Some(true) => script.heard(first + stream, message, now, outbox),
                    Some(joined) => match enter(joined, door, message) {
                        Some(Entered::Anew(seq)) => script.joined(first + stream, seq),
                        Some(Entered::Back(seq)) => script.resumed(first + stream, seq),
                        None => {}
                    },
                    None => {}
                }
            }
            Heard::Joined(stream) => {
                if let Some(joined) = joined.get_mut(first + stream) {
                    *joined = true;
                    pass(door);
                }
            }
            Heard::Ended(stream, why) => match joined.get_mut(first + stream) {
                Some(joined) if *joined => {
                    *joined = false;
                    script.ended(first + stream, why);
                }
                _ => refuse(door, NotOpened::Ended(why.to_owned())),
            },
        });
        if let Poll::Ready(fault) = &over {
            self.over(connection, fault);
        }
        self.deliver();
        over.map(drop)
    }

    fn over(&mut self, connection: usize, fault: &Fault) {
        if let Some(link) = self.links.get_mut(connection) {
            *link = None;
        }
        // It may have the server's words in it.
        let why = text::line(&fault.to_string());
        for session in self.sessions_of(connection) {
            match self.joined.get_mut(session) {
                Some(joined) if *joined => {
                    *joined = false;
                    self.script.ended(session, &why);
                }
                _ => {}
            }
        }
        if let Some(door) = self.doors.get_mut(connection) {
            let not_opened = match fault {
                Fault::Lost(_) | Fault::GoAway { .. } => NotOpened::Ended(why),
                fault => NotOpened::Fault(fault.clone()),
            };
            refuse(door, not_opened);
        }
    }
}

/// How a session has come in.
enum Entered {
    /// With the room as it is there.
    Anew(u64),
    /// With what it has missed up to there.
    Back(u64),
}

/// Looks at what came before a session has joined.
fn enter(joined: &mut bool, door: &mut Option<Door>, message: &[u8]) -> Option<Entered> {
    let Some(event) = Event::read(message) else {
        refuse(door, NotOpened::Fault(Fault::Spoken("what is no event".into())));
        return None;
    };
    match event.kind {
        kind::ROOM_STATE | kind::RESUMED => {
            *joined = true;
            pass(door);
            let is_anew = event.kind == kind::ROOM_STATE;
            return Some(if is_anew { Entered::Anew(event.seq) } else { Entered::Back(event.seq) });
        }
        kind::ERROR => {
            let (code, message) = event.error();
            refuse(door, NotOpened::Refused { code, message, retry_after: event.retry_after() });
        }
        kind::CLOSING => {
            refuse(door, NotOpened::Ended(event.closing()));
        }
        _ => {}
    }
    None
}

fn pass(door: &mut Option<Door>) {
    if let Some(waiting) = door {
        waiting.left = waiting.left.saturating_sub(1);
        if waiting.left == 0
            && let Some(Door { done, .. }) = door.take()
        {
            let _ = done.send(Ok(()));
        }
    }
}

fn refuse(door: &mut Option<Door>, why: NotOpened) {
    if let Some(Door { done, .. }) = door.take() {
        let _ = done.send(Err(why));
    }
}

/// Opens a connection and all sessions on it: in which room each is, and how it joins. Ends when all have joined.
pub(super) async fn open<S: Script + 'static>(
    world: &Shared<S>,
    tasks: &RefCell<JoinSet<()>>,
    dial: &Dial,
    connection: usize,
    join_of: impl Fn(usize) -> (String, Vec<u8>),
) -> Result<(), NotOpened> {
    let io = dial.connect().await.map_err(|error| NotOpened::Ended(error.to_string()))?;
    let sessions = world.borrow().sessions_of(connection);
    let (rooms, joins): (Vec<_>, Vec<_>) = sessions.clone().map(join_of).unzip();
    let mut out = Vec::new();
    let protocol = dial.begin(rooms, &mut out);
    world.borrow_mut().opened += 1;
    let opened = world.borrow().opened;
    let mut link = Link::new(opened, io, protocol, out, sessions.start);
    if dial.wire != Wire::Nats {
        for (session, join) in sessions.clone().zip(&joins) {
            link.send(session, join);
        }
    }
    let (done, joined) = oneshot::channel();
    {
        let world = &mut *world.borrow_mut();
        if let (Some(place), Some(door)) = (world.links.get_mut(connection), world.doors.get_mut(connection))
        {
            *place = Some(link);
            *door = Some(Door { left: sessions.len(), done });
        }
    }
    let own = Rc::clone(world);
    tasks.borrow_mut().spawn_local(poll_fn(move |cx| own.borrow_mut().poll_link(connection, opened, cx)));
    joined.await.unwrap_or_else(|_| Err(NotOpened::Ended("cut".into())))
}
