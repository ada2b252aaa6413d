//! What a room's task is asked, and how it answers.

use std::{fmt, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    domain::{
        command::{Actor, Command, RunOutcome},
        decide::Aside,
        llm::{RunEnd, RunReport},
        rejection::Rejection,
        room::Room,
    },
    ids::{ConnectionId, EventId, MessageId, RequestId, Seq, UserId},
    registry::{feed::Feed, outbound::Outbound, seat::Seat},
    store::Idempotency,
    wire::{
        command::ReadUpTo,
        join::Join,
        reply::{self, Dialect},
    },
};

/// What came of a command that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The first and the last event it made, and the id of the first; `None`: it changed nothing.
    pub events: Option<(Seq, Seq, EventId)>,
    /// It had been carried out before.
    pub duplicate: bool,
    /// What nobody else is told.
    pub asides: Vec<Aside>,
}

impl Done {
    /// What comes of something that changes nothing.
    pub const NOTHING: Self = Self { events: None, duplicate: false, asides: Vec::new() };
}

/// Looks at the room, or is told why there is none.
pub type Look = Box<dyn FnOnce(Result<(&Room, &Arc<Feed>), Rejection>) + Send>;

/// Something for a room's task to do.
pub enum Task {
    /// Carry out a command.
    Command(Box<CommandTask>),
    /// Let a session in.
    Join(Box<JoinTask>),
    /// Tell a session that was behind what holds now.
    Resync {
        /// Whose session.
        user: UserId,
        /// Its queue.
        outbound: Arc<Outbound>,
        /// The user's read cursor.
        read: Seq,
        /// Messages of others behind it.
        unread: u32,
    },
    /// Move a read cursor.
    MarkRead {
        /// How far.
        up_to: ReadUpTo,
        /// The session that read.
        seat: Arc<Seat>,
        /// Whom to tell.
        reply: Reply,
    },
    /// Look at the room.
    Read {
        /// What for.
        look: Look,
        /// It must see what was acknowledged before it was asked, on whichever node.
        latest: bool,
    },
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command(_) => "Command",
            Self::Join(_) => "Join",
            Self::Resync { .. } => "Resync",
            Self::MarkRead { .. } => "MarkRead",
            Self::Read { .. } => "Read",
        })
    }
}

/// A command of a member, an LLM or the server.
#[derive(Debug)]
pub struct CommandTask {
    /// On whose authority.
    pub actor: Actor,
    /// What.
    pub command: Command,
    /// Whether it is a repeat.
    pub idempotency: Option<Idempotency>,
    /// Whom to tell.
    pub reply: Reply,
}

/// A session that wants in.
#[derive(Debug)]
pub struct JoinTask {
    /// Who and where.
    pub join: Join,
    /// What to call it in the answer.
    pub request_id: Option<RequestId>,
    /// Which connection.
    pub connection: ConnectionId,
    /// Its queue.
    pub outbound: Arc<Outbound>,
    /// The user's read cursor.
    pub read: Seq,
    /// Messages of others behind it.
    pub unread: u32,
    /// Asked before somebody becomes a member, or is changed by coming back.
    pub charge: Charge,
    /// Gets the seat.
    pub reply: oneshot::Sender<Result<Seat, Rejection>>,
}

/// What a join changes in a room. One that changes nothing costs nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entering {
    /// Somebody becomes a member.
    New,
    /// A member comes back as somebody else.
    Changed,
}

/// Decides whether something that costs may be done now.
pub struct Charge(Box<dyn Fn(Entering) -> Result<(), Rejection> + Send + Sync>);

impl Charge {
    /// Asks `allowed` each time.
    pub fn new(allowed: impl Fn(Entering) -> Result<(), Rejection> + Send + Sync + 'static) -> Self {
        Self(Box::new(allowed))
    }

    /// Whether it may be done now; that it may has a price.
    pub fn take(&self, entering: Entering) -> Result<(), Rejection> {
        (self.0)(entering)
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Charge")
    }
}

/// Whom to tell what came of a task.
#[derive(Debug)]
pub enum Reply {
    /// A session: an ack if the command had a request id, an error in any case.
    Session(SessionReply),
    /// Somebody in this process who waits.
    Caller(oneshot::Sender<Result<Done, Rejection>>),
    /// Nobody; a refusal is only logged.
    Nobody,
}

/// The way back to a session.
#[derive(Debug)]
pub struct SessionReply {
    /// Its queue.
    pub outbound: Arc<Outbound>,
    /// What the client called the command.
    pub request_id: Option<RequestId>,
    /// How error codes are spelled.
    pub dialect: Dialect,
    /// Counts commands in flight; let go with the answer.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Reply {
    /// Tells the result.
    pub fn send(self, result: Result<Done, Rejection>) {
        match (self, result) {
            (Self::Session(session), result) => session.send(result),
            (Self::Caller(caller), result) => {
                // Who asked may have gone.
                let _ = caller.send(result);
            }
            (Self::Nobody, Ok(_)) => {}
            (Self::Nobody, Err(rejection)) => tracing::debug!(%rejection, "a task of the server was refused"),
        }
    }
}

impl SessionReply {
    /// Tells the result.
    pub fn send(self, result: Result<Done, Rejection>) {
        let id = self.request_id.as_ref();
        let done = match result {
            Ok(done) => done,
            Err(rejection) => {
                self.outbound.push_reply(reply::error(&rejection, id, self.dialect));
                return;
            }
        };
        let tell = |aside: &Aside| self.outbound.push_reply(reply::aside(aside, id, self.dialect));
        let (first, behind): (Vec<_>, Vec<_>) =
            done.asides.iter().partition(|aside| matches!(aside, Aside::Secret { .. }));
        first.into_iter().for_each(tell);
        if let Some(id) = id {
            self.outbound.push_reply(reply::ack(id, done.events, done.duplicate));
        }
        behind.into_iter().for_each(tell);
    }
}

impl Task {
    /// Whether a room that is known up to `at` must be asked first how far its log reaches, where others write to it.
    pub(super) fn wants_latest(&self, at: Seq) -> bool {
        match self {
            Self::Join(_) | Self::Resync { .. } => true,
            Self::Read { latest, .. } => *latest,
            Self::MarkRead { up_to, .. } => matches!(up_to, ReadUpTo::Seq(seq) if *seq > at),
            // What does not fit any more is refused by the store, and what is refused here is looked at again; but
            // whom a message does not call, because the LLM was added elsewhere just now, nobody would find out.
            Self::Command(task) => match &task.command {
                Command::SendMessage(input) => !input.mentions.is_empty() || input.content.contains('@'),
                _ => false,
            },
        }
    }

    /// Answers that it will not be done.
    pub fn refuse(self, rejection: Rejection) {
        match self {
            Self::Command(task) => task.reply.send(Err(rejection)),
            Self::MarkRead { reply, .. } => reply.send(Err(rejection)),
            Self::Join(task) => {
                let _ = task.reply.send(Err(rejection));
            }
            // The session asks again when it has waited.
            Self::Resync { .. } => {}
            Self::Read { look, .. } => look(Err(rejection)),
        }
    }
}

/// The end of an answer whose process is gone.
pub fn orphaned(message_id: MessageId) -> RunOutcome {
    let detail = "the server was restarted".to_owned();
    RunOutcome {
        message_id,
        end: RunEnd::Interrupted,
        text: String::new(),
        mentions: Vec::new(),
        outside: Vec::new(),
        report: RunReport { detail, ..RunReport::default() },
    }
}
