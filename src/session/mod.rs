//! `StreamHandler`: one task per stream, and the only state machine of a connection.
//!
//! Reads what the client says, promptly and always: a client that is too fast is told so, never made to wait, since
//! unread messages would cost it the whole connection. What the room says does not pass through here: the registry
//! puts it into the session's queue, which the connection empties. There is one way out, which leaves the room and
//! says why.

mod active;
pub mod drain;
mod pass;
mod renewed;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout};

use crate::{
    allowance::{
        Allowance, Allowances,
        payer::Payer,
        rate::What,
        streams::{Open, Waiting},
    },
    audit::{Act, Audit, Fact, Origin, SignedIn},
    auth::{
        gate::{Caller, Gate},
        principal::Principal,
    },
    dispatch::LlmDispatcher,
    domain::rejection::{Code, Rejection},
    ids::{ConnectionId, Namespace, RequestId},
    registry::outbound::{Expelled, Outbound, QueueLimits},
    rooms::{
        Joined, Rooms,
        task::{Charge, Entering},
    },
    session::{active::Active, drain::Drain},
    wire::{
        command::{self, Inbound, Request},
        join::{Join, JoinWish},
        reply::{self, Closing, ClosingReason, Dialect},
    },
};

/// How sessions behave.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// What may wait to be sent.
    pub queue: QueueLimits,
    /// Commands whose answer is still to come.
    pub in_flight: usize,
    /// Until a join must have come.
    pub join_timeout: Duration,
    /// How long typing is shown without being said again.
    pub typing_expiry: Duration,
    /// How often a quiet stream gets a sign of life.
    pub heartbeat: Duration,
    /// How long a stream may be joined, a tenth more or less; then it is moved. None: as long as it likes.
    pub max_age: Option<Duration>,
}

/// What every session needs.
#[derive(Debug)]
pub struct Services {
    /// The rooms.
    pub rooms: Rooms,
    /// The answers of LLMs.
    pub dispatcher: LlmDispatcher,
    /// Who is let in.
    pub gate: Gate,
    /// How much everybody may take.
    pub allowances: Allowances,
    /// Who did what.
    pub audit: Audit,
    /// How sessions behave.
    pub limits: SessionLimits,
    /// The going away of the server: nobody is let in, then every session ends and says so.
    pub drain: Drain,
}

/// Why nothing more can be read from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InboundError {
    /// A message beyond the limit.
    TooLarge(String),
    /// The stream was reset or is no gRPC.
    Broken(String),
}

/// One stream of a client.
#[derive(Debug)]
pub struct StreamHandler {
    services: Arc<Services>,
    outbound: Arc<Outbound>,
    connection: ConnectionId,
    dialect: Dialect,
    /// Who has opened the stream.
    caller: Caller,
    /// Where all that is done on it stays, whatever credentials come after the first.
    namespace: Namespace,
    /// By which credential it goes on, and from where: what is recorded.
    origin: Mutex<Origin>,
    /// For whom it is counted until it has joined.
    payer: Payer,
    /// Its place among those that have not joined.
    waiting: Option<Waiting>,
}

/// What a session holds of the limits from its join to its end.
#[derive(Debug)]
struct Held {
    allowance: Arc<Allowance>,
    /// Its place among the open streams.
    open: Open,
    /// That they are here, for what is recorded of what they do.
    _signed_in: Option<SignedIn>,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    reason: ClosingReason,
    message: String,
}

impl End {
    fn new(reason: ClosingReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl From<Expelled> for End {
    fn from(why: Expelled) -> Self {
        match why {
            Expelled::Left => Self::new(ClosingReason::Left, "you have left the room"),
            Expelled::Removed => Self::new(ClosingReason::Removed, "an ADMIN has removed you from the room"),
            Expelled::Banned => Self::new(ClosingReason::Banned, "an ADMIN has banned you from the room"),
            Expelled::RoomEnded => Self::new(ClosingReason::RoomEnded, "the room has ended"),
            Expelled::TooManySessions => Self::new(
                ClosingReason::TooManySessions,
                "you have joined this room on too many streams; this is the oldest",
            ),
            Expelled::SlowConsumer => {
                Self::new(ClosingReason::SlowConsumer, "too many answers to your commands were not read")
            }
            Expelled::Internal => {
                Self::new(ClosingReason::Internal, "the room failed on the server; join again")
            }
        }
    }
}

/// Where a session is between two messages.
enum Step {
    /// Go on reading.
    Continue,
    /// The session ends.
    End(End),
    /// The connection has gone: nobody is left to be told.
    Gone,
}

/// Ends the stream even if the session's task panics.
struct EndGuard(Arc<Outbound>, Drain);

impl Drop for EndGuard {
    fn drop(&mut self) {
        // The first end wins: after a regular one this does nothing.
        let end = End::new(ClosingReason::Internal, "the session failed on the server; join again");
        close(&self.0, end, &self.1);
    }
}

/// Ends a stream with its closing event.
fn close(outbound: &Outbound, end: End, drain: &Drain) {
    let End { reason, message } = end;
    let reconnect_after = reconnect_after(reason, drain);
    let deadline = drain.time_left();
    outbound.end(reason, |resume| {
        reply::closing(&Closing { reason, message, reconnect_after, resume, deadline })
    });
}

impl StreamHandler {
    /// A session of `caller` that sends through `outbound`.
    pub fn new(services: Arc<Services>, outbound: Arc<Outbound>, dialect: Dialect, caller: Caller) -> Self {
        let payer = Payer::new(&caller.principal, None);
        let namespace = caller.principal.namespace.clone();
        let origin = Mutex::new(origin_of(&caller.principal, &caller));
        let connection = ConnectionId::next();
        Self { services, outbound, connection, dialect, caller, namespace, origin, payer, waiting: None }
    }

    /// For whom it is counted, and its place among those that have not joined.
    #[must_use]
    pub fn paid_by(self, payer: Payer, waiting: Waiting) -> Self {
        Self { payer, waiting: Some(waiting), ..self }
    }

    /// Which connection this is, for logs.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Serves the stream until it ends.
    #[expect(
        clippy::manual_async_fn,
        reason = "one keeps what it is given twice, as long as the stream lives"
    )]
    pub fn run<S>(mut self, mut inbound: S) -> impl Future<Output = ()>
    where
        S: Stream<Item = Result<Bytes, InboundError>> + Unpin,
    {
        async move {
            let guard = EndGuard(Arc::clone(&self.outbound), self.services.drain.clone());
            let waiting = self.waiting.take();
            if let Some(end) = self.run_inner(&mut inbound, waiting).await {
                tracing::debug!(reason = ?end.reason, waiting = ?self.outbound.backlog(), "session ended");
                close(&self.outbound, end, &self.services.drain);
            }
            drop(guard);
        }
    }

    /// `None`: the connection has gone.
    async fn run_inner<S>(&self, inbound: &mut S, waiting: Option<Waiting>) -> Option<End>
    where
        S: Stream<Item = Result<Bytes, InboundError>> + Unpin,
    {
        // On the heap for as long as it takes: it needs twice of what the rest of the session does.
        let mut active = match Box::pin(self.wait_for_join(inbound)).await {
            Ok((joined, held)) => self.begin(joined, held),
            Err(step) => return end_of(step),
        };
        drop(waiting);
        let end = end_of(active.serve(inbound).await);
        active.leave();
        end
    }

    /// Somebody has joined.
    fn begin(&self, joined: Joined, mut held: Held) -> Active<'_> {
        let user = joined.seat.user().clone();
        tracing::debug!(room = %joined.room.id(), %user, "joined");
        let namespace = joined.room.id().namespace();
        held._signed_in = Some(self.services.audit.signed_in(namespace, user, self.origin()));
        Active::new(self, joined, held)
    }

    /// Before the join: nothing but `join` and `ping` is taken.
    async fn wait_for_join<S>(&self, inbound: &mut S) -> Result<(Joined, Held), Step>
    where
        S: Stream<Item = Result<Bytes, InboundError>> + Unpin,
    {
        let deadline = Instant::now() + self.services.limits.join_timeout;
        let stranger = self.services.allowances.stranger();
        loop {
            let message = tokio::select! {
                biased;
                () = self.services.drain.refusing() => return Err(Step::End(draining())),
                () = self.outbound.changed() => {
                    self.check_work()?;
                    continue;
                }
                () = tokio::time::sleep_until(deadline) => return Err(Step::End(join_timeout(self))),
                message = inbound.next() => message,
            };
            let bytes = self.received(message)?;
            if let Err(rejection) = stranger.take() {
                self.refuse(&rejection, None);
                continue;
            }
            let Inbound { request_id, request, .. } = match command::read(&bytes) {
                Ok(inbound) => inbound,
                Err(unreadable) => {
                    self.refuse(&unreadable.rejection, unreadable.request_id.as_ref());
                    continue;
                }
            };
            match request {
                Request::Join(wish) => {
                    let joined = match self.who_joins(wish) {
                        Ok(join) => self.join(join, request_id.clone(), deadline).await?,
                        Err(rejection) => Err(rejection),
                    };
                    match joined {
                        Ok(joined) => return Ok(joined),
                        Err(rejection) => self.refuse(&rejection, request_id.as_ref()),
                    }
                }
                Request::Ping => self.outbound.push_reply(reply::pong(request_id.as_ref())),
                Request::Command(_)
                | Request::Authenticate(_)
                | Request::Leave { .. }
                | Request::Typing(_)
                | Request::Interrupt { .. }
                | Request::MarkRead(_)
                | Request::SetPresence(_)
                | Request::Signal { .. } => {
                    let rejection =
                        Rejection::new(Code::NotJoined, "the first message of a stream must be join");
                    self.refuse(&rejection, request_id.as_ref());
                }
            }
        }
    }

    /// Who joins what: what the credential says goes before what the message says.
    fn who_joins(&self, mut wish: JoinWish) -> Result<Join, Rejection> {
        let principal = &self.caller.principal;
        // The stream may have waited for as long as a join may take.
        self.services.gate.still_admits(principal).map_err(|refused| refused.rejection())?;
        principal.may_join()?;
        let room = principal.room(&wish.room_id)?;
        let user = principal
            .speaks_for("join.user_id", wish.user_id.take())?
            .ok_or_else(|| Rejection::field("join.user_id", "must not be empty"))?;
        if let Some(name) = &principal.name {
            wish.profile.name.clone_from(name);
        }
        wish.profile.granted = principal.grants.role;
        Ok(wish.of(room, user))
    }

    async fn join(
        &self,
        join: Join,
        request_id: Option<RequestId>,
        deadline: Instant,
    ) -> Result<Result<(Joined, Held), Rejection>, Step> {
        let payer = self.payer.speaking_for(Some(join.user_id.clone()));
        let allowance = Arc::new(self.services.allowances.of(&payer));
        let held = allowance.take(What::Joins).and_then(|()| allowance.open_stream());
        let held = match held {
            Ok(open) => Held { allowance: Arc::clone(&allowance), open, _signed_in: None },
            Err(rejection) => return Ok(Err(rejection)),
        };
        let rooms = &self.services.rooms;
        // Whether it is the members of the namespace that are too many.
        let is_full = Arc::new(AtomicBool::new(false));
        let attempt = |join: Join| {
            let (allowance, is_full) = (Arc::clone(&allowance), Arc::clone(&is_full));
            let charge = Charge::new(move |entering| match entering {
                // It is stored, and what it begins lasts.
                Entering::New => {
                    allowance.check_member().inspect_err(|_| is_full.store(true, Ordering::Relaxed))
                }
                // Coming back as somebody else costs what a command costs, beside what a join costs.
                Entering::Changed => allowance.take(What::Messages),
            });
            rooms.join(join, request_id.clone(), self.connection, Arc::clone(&self.outbound), charge)
        };
        let joining = async {
            let store = rooms.store().as_ref();
            allowance.learn(store).await;
            let begun = Instant::now();
            match attempt(join.clone()).await {
                Err(_) if is_full.load(Ordering::Relaxed) && allowance.learn_anew(store, begun).await => {
                    attempt(join).await
                }
                joined => joined,
            }
        };
        tokio::select! {
            biased;
            () = self.services.drain.closing() => Err(Step::End(draining())),
            // A store that hangs must not hold a stream for ever.
            joined = timeout(deadline.saturating_duration_since(Instant::now()), joining) => {
                joined.map_err(|_| Step::End(join_timeout(self))).map(|joined| Ok((joined?, held)))
            }
        }
    }

    /// One message, or why there are no more.
    fn received(&self, message: Option<Result<Bytes, InboundError>>) -> Result<Bytes, Step> {
        match message {
            Some(Ok(bytes)) => Ok(bytes),
            // A client that has finished speaking has finished the session.
            None => Err(Step::End(finished())),
            Some(Err(InboundError::TooLarge(message))) => {
                self.refuse(&Rejection::new(Code::ResourceExhausted, message.clone()), None);
                Err(Step::End(End::new(ClosingReason::ProtocolError, message)))
            }
            Some(Err(InboundError::Broken(message))) => {
                Err(Step::End(End::new(ClosingReason::ProtocolError, message)))
            }
        }
    }

    /// Whether the registry wants this session to end.
    fn check_work(&self) -> Result<(), Step> {
        use crate::registry::outbound::Work;
        match self.outbound.work() {
            Work::End(why) => Err(Step::End(why.into())),
            Work::Gone => Err(Step::Gone),
            Work::Read(..) | Work::Resync | Work::Idle => Ok(()),
        }
    }

    /// How whoever speaks here is connected.
    fn origin(&self) -> Origin {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The stream goes on with another credential.
    fn shows(&self, principal: &Principal) {
        let origin = origin_of(principal, &self.caller);
        *self.origin.lock().unwrap_or_else(PoisonError::into_inner) = origin;
    }

    fn refuse(&self, rejection: &Rejection, request_id: Option<&RequestId>) {
        if rejection.code == Code::RateLimited {
            let hit = Fact::new(self.namespace.clone(), Act::LimitHit).from(self.origin());
            self.services.audit.record(hit);
        }
        tracing::debug!(code = %rejection.code, "command refused");
        self.outbound.push_reply(reply::error(rejection, request_id, self.dialect));
    }
}

/// How somebody with this principal is connected who has called like this.
fn origin_of(principal: &Principal, caller: &Caller) -> Origin {
    let credential = if principal.is_open() { String::new() } else { principal.credential.to_string() };
    Origin { credential, peer: caller.peer }
}

fn end_of(step: Step) -> Option<End> {
    match step {
        Step::End(end) => Some(end),
        Step::Gone | Step::Continue => None,
    }
}

fn finished() -> End {
    End::new(ClosingReason::Left, "you have ended the stream")
}

fn draining() -> End {
    End::new(ClosingReason::Draining, "the server is going away")
}

fn join_timeout(handler: &StreamHandler) -> End {
    let limit = handler.services.limits.join_timeout;
    End::new(ClosingReason::JoinTimeout, format!("no join has come within {limit:?}"))
}

fn aged() -> End {
    End::new(ClosingReason::SessionAge, "this stream is as old as one may be: join again, at once")
}

/// When to come back: spread, so that not everybody comes at once. Ages are spread already.
fn reconnect_after(reason: ClosingReason, drain: &Drain) -> Duration {
    if reason.reconnect() && reason != ClosingReason::SessionAge {
        drain.come_back_after()
    } else {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests;
