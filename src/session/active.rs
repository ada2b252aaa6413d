//! A session that has joined.

mod catch_up;

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::BoxFuture};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use self::catch_up::Missed;
use crate::{
    allowance::rate::What,
    auth::grants::Need,
    domain::{
        command::{Actor, Command},
        permissions::Action,
        rejection::{Code, Rejection},
    },
    ids::RequestId,
    registry::seat::Seat,
    rooms::{
        Joined, RoomHandle,
        task::{CommandTask, Reply, SessionReply, Task},
    },
    session::{
        End, Held, InboundError, Step, StreamHandler, aged,
        drain::age_of_one,
        draining, finished,
        pass::{Pass, SignIns, stores},
    },
    store::Idempotency,
    wire::{
        command::{self, Inbound, Request, Shown},
        reply::{self, ClosingReason},
        transient,
    },
};

/// How long the answers to a finished client's last commands may take.
const FINISH_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) struct Active<'a> {
    pub(super) handler: &'a StreamHandler,
    pub(super) seat: Arc<Seat>,
    room: RoomHandle,
    /// For whom it is counted.
    pub(super) held: Held,
    in_flight: Arc<Semaphore>,
    /// When typing ends by itself.
    typing_until: Option<Instant>,
    /// When to look whether a sign of life is due.
    look_at: Instant,
    missed: Option<Missed>,
    /// A `resumed` has been asked for; if it has not come by then (the room was too busy), it is asked for again.
    resync_by: Option<Instant>,
    /// The asking for a `resumed`.
    resyncing: Option<BoxFuture<'static, ()>>,
    /// The client has finished speaking: resolves when the room has answered everything it had said.
    finishing: Option<BoxFuture<'static, ()>>,
    /// When this stream is to be moved.
    retire_at: Option<Instant>,
    /// It is being moved: `finishing` is the server's wish, and not the client's.
    is_retiring: bool,
    /// On what it is let go on.
    pub(super) pass: Pass,
}

impl<'a> Active<'a> {
    pub(super) fn new(handler: &'a StreamHandler, joined: Joined, held: Held) -> Self {
        let principal = Arc::clone(&handler.caller.principal);
        let (user, room) = (joined.seat.user().clone(), joined.room.id().clone());
        let sign_ins = SignIns { allowances: handler.services.allowances.clone(), peer: handler.payer.peer };
        let pass = Pass::new(handler.services.gate.clone(), principal, user, room, sign_ins);
        Self {
            pass,
            handler,
            seat: Arc::new(joined.seat),
            room: joined.room,
            held,
            in_flight: Arc::new(Semaphore::new(handler.services.limits.in_flight)),
            typing_until: None,
            look_at: Instant::now(),
            missed: None,
            resync_by: None,
            resyncing: None,
            finishing: None,
            retire_at: handler.services.limits.max_age.map(|age| Instant::now() + age_of_one(age)),
            is_retiring: false,
        }
    }

    /// Leaves the room. A cursor that is still being moved may hold the seat a moment longer.
    pub(super) fn leave(mut self) {
        self.stop_typing();
    }

    pub(super) async fn serve<S>(&mut self, inbound: &mut S) -> Step
    where
        S: Stream<Item = Result<Bytes, InboundError>> + Unpin,
    {
        let (handler, beat) = (self.handler, self.handler.services.limits.heartbeat);
        // Made once and not for each message: to wait for any of them takes a lock that all sessions share.
        let mut closing = pin!(handler.services.drain.closing());
        let mut changed = pin!(handler.outbound.changed());
        self.look_at = Instant::now() + beat;
        let mut alarm = pin!(tokio::time::sleep_until(self.look_at));
        loop {
            if let step @ (Step::End(_) | Step::Gone) = self.work() {
                return step;
            }
            // Who has said all, and has come back to be told what was missed, is told all of it. Who is moved is told
            // the rest there.
            let may_finish = self.is_retiring || !handler.outbound.is_behind();
            let due = self.due();
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            // Ends first, then what was missed, then the client: what it says is answered, never awaited.
            let step = tokio::select! {
                biased;
                () = closing.as_mut() => Step::End(draining()),
                turn = self.pass.next() => self.turn(turn),
                () = changed.as_mut() => {
                    changed.set(handler.outbound.changed());
                    Step::Continue
                }
                missed = catch_up::poll(&mut self.missed) => self.take_missed(missed),
                () = poll(&mut self.finishing), if may_finish => Step::End(self.finished()),
                message = inbound.next(), if self.finishing.is_none() => self.receive(message),
                () = poll(&mut self.resyncing) => {
                    self.resyncing = None;
                    self.resync_by = Some(Instant::now() + catch_up::RESYNC_PATIENCE);
                    Step::Continue
                }
                () = alarm.as_mut() => {
                    self.on_time(beat);
                    Step::Continue
                }
            };
            match step {
                Step::Continue => {}
                Step::End(_) | Step::Gone => return step,
            }
        }
    }

    /// When there is something to do although nobody says anything.
    fn due(&self) -> Instant {
        let retire_at = self.retire_at.filter(|_| self.finishing.is_none());
        let others = [self.resync_by, retire_at, self.typing_until];
        others.into_iter().flatten().fold(self.look_at, Instant::min)
    }

    /// Does what is due by now.
    fn on_time(&mut self, beat: std::time::Duration) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.resync_by) {
            self.resync_by = None;
        }
        if is_due(self.retire_at) && self.finishing.is_none() {
            self.retire();
        }
        if is_due(self.typing_until) {
            self.stop_typing();
        }
        if self.look_at <= now {
            self.look_at = self.heartbeat(beat);
        }
    }

    /// Sends a sign of life if nothing was sent for that long; returns when to look again.
    fn heartbeat(&self, beat: std::time::Duration) -> Instant {
        let now = Instant::now();
        match self.handler.outbound.sent_at().map(|sent| sent + beat) {
            Some(due) if due > now => due,
            Some(_) | None => {
                self.handler.outbound.push_transient(&transient::heartbeat(self.seat.feed().delivered()));
                now + beat
            }
        }
    }

    fn receive(&mut self, message: Option<Result<Bytes, InboundError>>) -> Step {
        if message.is_none() {
            self.finish();
            return Step::Continue;
        }
        let bytes = match self.handler.received(message) {
            Ok(bytes) => bytes,
            Err(step) => return step,
        };
        match command::read(&bytes) {
            Ok(inbound) => self.handle(inbound),
            Err(unreadable) => {
                self.handler.refuse(&unreadable.rejection, unreadable.request_id.as_ref());
                Step::Continue
            }
        }
    }

    /// The client will say nothing more. What it has said is still answered, and told to it: a look at the room comes
    /// behind its commands, and behind those that are carried out beside the room's task nothing is in flight any more.
    fn finish(&mut self) {
        let (rooms, id) = (self.handler.services.rooms.clone(), self.room.id().clone());
        let all = u32::try_from(self.handler.services.limits.in_flight).unwrap_or(u32::MAX);
        let in_flight = Arc::clone(&self.in_flight);
        self.finishing = Some(Box::pin(async move {
            let answered = async {
                // An error means that there is nothing to wait for: the room is gone, or the limit is none.
                let _ = rooms.read(&id, |_, feed| feed.tell_gathered()).await;
                let _ = in_flight.acquire_many(all).await;
            };
            if timeout(FINISH_PATIENCE, answered).await.is_err() {
                tracing::debug!("a finished stream was ended before the room had answered");
            }
        }));
    }

    /// The stream has become as old as one may be. What was read is answered before it ends; what was not is sent again
    /// by the client, on its next stream.
    fn retire(&mut self) {
        self.retire_at = None;
        self.is_retiring = true;
        self.finish();
    }

    /// How it ends when all that was read is answered.
    fn finished(&self) -> End {
        if self.is_retiring { aged() } else { finished() }
    }

    fn handle(&mut self, inbound: Inbound) -> Step {
        let Inbound { request_id, body_hash, request } = inbound;
        let result = match request {
            Request::Command(command) => return self.command(command, request_id, body_hash),
            Request::Leave { keep_membership: false } => {
                return self.command(Command::Leave, request_id, body_hash);
            }
            Request::Leave { keep_membership: true } => {
                self.acknowledge(request_id.as_ref());
                return Step::End(End::new(ClosingReason::Left, "you have left the room"));
            }
            Request::MarkRead(up_to) => {
                return self.spend(request_id, |this, reply| {
                    let seat = Arc::clone(&this.seat);
                    this.room.try_send(Task::MarkRead { up_to, seat, reply });
                });
            }
            Request::Join(_) => Err(Rejection::new(
                Code::AlreadyJoined,
                format!(
                    "this stream has joined {}; use another stream for another room",
                    self.room.id().name()
                ),
            )),
            Request::Authenticate(Shown(shown)) => {
                let renewing =
                    self.transient_rate().and_then(|()| self.pass.renew(shown, request_id.clone()));
                renewing.map(|()| Answered::Yes)
            }
            Request::Ping => self.transient_rate().map(|()| {
                self.handler.outbound.push_reply(reply::pong(request_id.as_ref()));
                Answered::Yes
            }),
            Request::Typing(is_typing) => self.typing(is_typing),
            Request::Interrupt { llm_id, message_id } => {
                return self.interrupt(llm_id, message_id, request_id);
            }
            Request::SetPresence(presence) => self.transient_rate().map(|()| {
                self.seat.set_presence(presence);
                Answered::No
            }),
            Request::Signal { kind, data, to } => self.signal(kind, data, to),
        };
        match result {
            Ok(Answered::Yes) => {}
            Ok(Answered::No) => self.acknowledge(request_id.as_ref()),
            Err(rejection) => self.handler.refuse(&rejection, request_id.as_ref()),
        }
        Step::Continue
    }

    /// Hands a lasting command to the room, which answers.
    fn command(&mut self, command: Command, request_id: Option<RequestId>, body_hash: u64) -> Step {
        let may = match stores(&command) {
            true => self.held.allowance.check_space(),
            false => Ok(()),
        };
        if let Err(rejection) = may
            .and_then(|()| self.held.allowance.take(What::Messages))
            .and_then(|()| self.pass.allows(&command, &self.seat))
        {
            self.handler.refuse(&rejection, request_id.as_ref());
            return Step::Continue;
        }
        if matches!(command, Command::SendMessage(_)) {
            self.stop_typing();
        }
        let user = self.seat.user().clone();
        // Leaving again is no harm, and must not be taken for the leaving before one came back.
        let repeatable = request_id.clone().filter(|_| command != Command::Leave);
        let idempotency =
            repeatable.map(|request_id| Idempotency { sender: user.clone(), request_id, body_hash });
        self.spend_unlimited(request_id, |this, reply| {
            let task = CommandTask { actor: Actor::User(user), command, idempotency, reply };
            this.room.try_send(Task::Command(Box::new(task)));
        })
    }

    /// Does something that is answered later, at the rate of transient events.
    fn spend(&mut self, request_id: Option<RequestId>, act: impl FnOnce(&mut Self, Reply)) -> Step {
        match self.transient_rate() {
            Ok(()) => self.spend_unlimited(request_id, act),
            Err(rejection) => {
                self.handler.refuse(&rejection, request_id.as_ref());
                Step::Continue
            }
        }
    }

    fn spend_unlimited(&mut self, request_id: Option<RequestId>, act: impl FnOnce(&mut Self, Reply)) -> Step {
        let Ok(permit) = Arc::clone(&self.in_flight).try_acquire_owned() else {
            let limit = self.handler.services.limits.in_flight;
            let rejection = Rejection {
                retry_after: Some(std::time::Duration::from_millis(100)),
                ..Rejection::new(
                    Code::RateLimited,
                    format!("{limit} commands of this stream wait for their answer"),
                )
            };
            self.handler.refuse(&rejection, request_id.as_ref());
            return Step::Continue;
        };
        let reply = SessionReply {
            outbound: Arc::clone(&self.handler.outbound),
            request_id,
            dialect: self.handler.dialect,
            permit: Some(permit),
        };
        act(self, Reply::Session(reply));
        Step::Continue
    }

    fn typing(&mut self, is_typing: bool) -> Result<Answered, Rejection> {
        self.may_write()?;
        if is_typing {
            self.typing_until = Some(Instant::now() + self.handler.services.limits.typing_expiry);
            self.seat.typing(true);
        } else {
            self.stop_typing();
        }
        Ok(Answered::No)
    }

    fn stop_typing(&mut self) {
        if self.typing_until.take().is_some() {
            self.seat.typing(false);
        }
    }

    fn interrupt(
        &mut self,
        llm_id: Option<crate::ids::LlmId>,
        message_id: Option<crate::ids::MessageId>,
        request_id: Option<RequestId>,
    ) -> Step {
        let rate = self.held.allowance.take(What::Messages);
        let granted = || self.pass.principal().grants.require(Need::Write);
        if let Err(rejection) =
            rate.and_then(|()| granted()).and_then(|()| self.seat.require(Action::DirectLlms))
        {
            self.handler.refuse(&rejection, request_id.as_ref());
            return Step::Continue;
        }
        self.spend_unlimited(request_id, |this, reply| {
            let (dispatcher, by) = (&this.handler.services.dispatcher, this.seat.user().clone());
            dispatcher.interrupt(this.room.id(), llm_id, message_id, by, reply);
        })
    }

    fn signal(
        &mut self,
        kind: String,
        data: Bytes,
        to: Vec<crate::ids::UserId>,
    ) -> Result<Answered, Rejection> {
        self.may_write()?;
        self.seat.signal(kind, data, to);
        Ok(Answered::No)
    }

    /// Something that is told to the others, and not stored.
    fn may_write(&self) -> Result<(), Rejection> {
        self.transient_rate()?;
        self.pass.principal().grants.require(Need::Write)?;
        self.seat.require(Action::Post)
    }

    fn transient_rate(&self) -> Result<(), Rejection> {
        self.held.allowance.take(What::Transients)
    }

    fn acknowledge(&self, request_id: Option<&RequestId>) {
        if let Some(id) = request_id {
            self.handler.outbound.push_reply(reply::ack(id, None, false));
        }
    }
}

/// Whether a request has had its answer.
enum Answered {
    Yes,
    No,
}

async fn poll(future: &mut Option<BoxFuture<'static, ()>>) {
    match future {
        Some(waiting) => waiting.await,
        None => std::future::pending().await,
    }
}
