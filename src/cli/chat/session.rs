//! One user's stream in one room, kept alive.
//!
//! Owns the connection: it joins, sends what the [`Outbox`] lets go, answers silence with a ping, and comes back
//! after a loss behind the last lasting event it has seen, so that nothing is shown twice or missed. What cannot be
//! mended (a refusal, a ban, the end of the room) ends it with the reason; it never decides what to print.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

use crate::{
    cli::{
        chat::{
            dial::{DialError, Link, backoff, dial, from_status},
            outbox::{Outbox, Verdict},
        },
        client::Rooms,
        text,
    },
    wire::pb::room::v1::{
        Ack, ClientMessage, Closing, ClosingReason, Error, JoinRoom, Ping, ServerEvent,
        client_message::Payload as Said, server_event::Payload,
    },
};

/// How long to wait for a heartbeat when the server does not say how often they come.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(30);

/// From this wait on, a person is told why nothing happens.
const TELLING_WAIT: Duration = Duration::from_secs(1);

/// A stream that has lived for so long was worth coming back for: the next loss begins with short waits again.
const LIVED: Duration = Duration::from_secs(30);

/// What a session tells.
#[derive(Debug)]
pub enum Update {
    /// Something happened in the room.
    Event(Box<ServerEvent>),
    /// A command was carried out or refused for good.
    Answered {
        /// Which one.
        request_id: String,
        /// How it went.
        outcome: Result<Ack, Error>,
    },
    /// Something a person wants to know.
    Notice(String),
    /// The connection is lost, for the reason given; the session is coming back.
    Down(String),
    /// The connection is back.
    Up,
    /// It is over.
    Ended(End),
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// As asked.
    Left,
    /// The server closed the stream and does not want this client back.
    Closed(ClosingReason, String),
    /// The server does not let this client in (again): code and message.
    Refused(String, String),
    /// The server did not come back in time.
    Lost(String),
}

/// Everything a session needs besides its open stream.
#[derive(Debug)]
pub struct Session {
    client: Rooms,
    join: JoinRoom,
    commands: mpsc::Receiver<ClientMessage>,
    updates: mpsc::Sender<Update>,
    /// After how long without a connection to stop trying; none: never.
    give_up_after: Option<Duration>,
    outbox: Outbox,
    /// The last lasting event seen.
    last_seq: u64,
    heartbeat: Duration,
    /// The leave has been sent: whatever ends the stream now is what was asked for.
    leaving: bool,
    /// How often it has tried to come back, since a stream has lived.
    attempts: u32,
    /// Since when the stream lives.
    joined: Instant,
}

/// Why the stream is not read any more.
enum Stop {
    End(End),
    Lost { why: String, hint: Option<Duration> },
}

impl Session {
    /// A session of `client`, which has joined with `join`.
    pub fn new(
        client: Rooms,
        join: JoinRoom,
        give_up_after: Option<Duration>,
        commands: mpsc::Receiver<ClientMessage>,
        updates: mpsc::Sender<Update>,
    ) -> Self {
        Self {
            client,
            last_seq: join.after_seq.unwrap_or(0),
            join,
            commands,
            updates,
            give_up_after,
            outbox: Outbox::default(),
            heartbeat: HEARTBEAT_DEFAULT,
            leaving: false,
            attempts: 0,
            joined: Instant::now(),
        }
    }

    /// Runs until the session is over; the last update says why. `first` is what the join was answered with.
    pub async fn run(mut self, mut link: Link, first: ServerEvent) {
        let mut stop = self.take(first).await;
        loop {
            let stopped = match stop.take() {
                Some(stopped) => stopped,
                None => self.pump(&mut link).await,
            };
            let end = match stopped {
                Stop::End(end) => end,
                Stop::Lost { .. } if self.leaving => End::Left,
                Stop::Lost { why, hint } => match self.come_back(why, hint).await {
                    Ok((back, event)) => {
                        link = back;
                        stop = self.take(event).await;
                        continue;
                    }
                    Err(end) => end,
                },
            };
            // Nobody listens any more: then nobody wants to know either.
            let _ = self.updates.send(Update::Ended(end)).await;
            return;
        }
    }

    async fn pump(&mut self, link: &mut Link) -> Stop {
        let mut heard = Instant::now();
        let mut pinged = false;
        loop {
            if let Some(next) = self.outbox.next(Instant::now())
                && let Err(stop) = self.send(link, next)
            {
                return stop;
            }
            // Half an interval late: a ping asks. A whole one more without an answer: nobody is there.
            let patience = self.heartbeat / 2 * if pinged { 5 } else { 3 };
            let wait = self.outbox.wait_until();
            tokio::select! {
                message = link.stream.message() => {
                    (heard, pinged) = (Instant::now(), false);
                    let stop = match message {
                        Ok(Some(event)) => self.take(event).await,
                        Ok(None) => Some(lost("the server ended the stream")),
                        Err(status) => Some(match from_status(&status) {
                            DialError::Refused(error) => Stop::End(refused(&error)),
                            DialError::Closed(closing) => closed(&closing),
                            DialError::Lost(why) => lost(&why),
                        }),
                    };
                    if let Some(stop) = stop {
                        return stop;
                    }
                }
                command = self.commands.recv() => {
                    let Some(command) = command else { return Stop::End(End::Left) };
                    if let Some(now) = self.outbox.push(command)
                        && let Err(stop) = self.send(link, now)
                    {
                        return stop;
                    }
                }
                () = sleep_until(wait.unwrap_or(heard)), if wait.is_some() => {}
                () = sleep_until(heard + patience) => {
                    if std::mem::replace(&mut pinged, true) {
                        return lost("the server is silent");
                    }
                    let ping = ClientMessage { payload: Some(Said::Ping(Ping {})), ..Default::default() };
                    if let Err(stop) = self.send(link, ping) {
                        return stop;
                    }
                }
            }
        }
    }

    fn send(&mut self, link: &Link, message: ClientMessage) -> Result<(), Stop> {
        self.leaving |= matches!(message.payload, Some(Said::Leave(_)));
        link.wire.try_send(message).map_err(|_| lost("the server does not read"))
    }

    /// Takes in one event of the stream.
    async fn take(&mut self, event: ServerEvent) -> Option<Stop> {
        let told = match event.payload.as_ref()? {
            Payload::Pong(_) | Payload::Heartbeat(_) => return None,
            Payload::Ack(ack) => self.outbox.acked(&event.request_id).then(|| Update::Answered {
                request_id: event.request_id.clone(),
                outcome: Ok(ack.clone()),
            })?,
            Payload::Error(error) => self.error(&event.request_id, error, &event)?,
            Payload::Closing(closing) => return Some(closed(closing)),
            Payload::RoomState(state) => {
                self.last_seq = event.seq;
                self.heartbeat(state.heartbeat_interval_ms);
                Update::Event(Box::new(event))
            }
            Payload::Resumed(resumed) => {
                // The envelope's seq is the end of the log: what was missed is still to come.
                self.last_seq = self.last_seq.max(resumed.after_seq);
                self.heartbeat(resumed.heartbeat_interval_ms);
                Update::Event(Box::new(event))
            }
            _ if event.seq != 0 && event.seq <= self.last_seq => return None,
            _ => {
                self.last_seq = self.last_seq.max(event.seq);
                Update::Event(Box::new(event))
            }
        };
        match self.updates.send(told).await {
            Ok(()) => None,
            Err(_) => Some(Stop::End(End::Left)),
        }
    }

    fn error(&mut self, request_id: &str, error: &Error, event: &ServerEvent) -> Option<Update> {
        match self.outbox.refused(request_id, error, Instant::now()) {
            Verdict::Again(wait) if wait >= TELLING_WAIT => {
                let message = text::line(&error.message);
                Some(Update::Notice(format!("{message}; sending again in {:.1} s", wait.as_secs_f32())))
            }
            Verdict::Again(_) => None,
            Verdict::Refused => {
                Some(Update::Answered { request_id: request_id.to_owned(), outcome: Err(error.clone()) })
            }
            Verdict::Unknown => Some(Update::Event(Box::new(event.clone()))),
        }
    }

    fn heartbeat(&mut self, interval_ms: u32) {
        self.heartbeat = match interval_ms {
            0 => HEARTBEAT_DEFAULT,
            ms => Duration::from_millis(ms.into()),
        };
    }

    /// Joins again behind the last event seen.
    async fn come_back(
        &mut self,
        why: String,
        mut hint: Option<Duration>,
    ) -> Result<(Link, ServerEvent), End> {
        let since = Instant::now();
        for request_id in self.outbox.connection_lost() {
            let message = "it was lost with the connection".to_owned();
            let outcome = Err(Error { code: "unavailable".to_owned(), message, ..Default::default() });
            self.tell(Update::Answered { request_id, outcome }).await?;
        }
        let down = format!("{why}; coming back behind #{}", self.last_seq);
        // Who is only moved has lost nothing, and is told only if that does not work at once.
        let mut is_moved = hint == Some(Duration::ZERO);
        // A stream that is moved was well; one that ends again and again is come back to ever more slowly.
        if is_moved || self.joined.elapsed() >= LIVED {
            self.attempts = 0;
        }
        if !is_moved {
            self.tell(Update::Down(down.clone())).await?;
        }
        self.join.after_seq = Some(self.last_seq);
        loop {
            let (random, _) = Uuid::new_v4().as_u64_pair();
            sleep(wait(hint.take(), self.attempts, random)).await;
            self.attempts = self.attempts.saturating_add(1);
            if self.give_up_after.is_some_and(|limit| since.elapsed() >= limit) {
                break;
            }
            match dial(&mut self.client, &self.join).await {
                Ok(joined) => {
                    self.joined = Instant::now();
                    if !is_moved {
                        self.tell(Update::Up).await?;
                    }
                    return Ok(joined);
                }
                Err(DialError::Refused(error)) if !error.retryable => return Err(refused(&error)),
                Err(DialError::Refused(error)) => {
                    hint = Some(Duration::from_millis(error.retry_after_ms.into())).filter(|h| !h.is_zero());
                }
                Err(DialError::Closed(closing)) => match closed(&closing) {
                    Stop::End(end) => return Err(end),
                    Stop::Lost { hint: wait, .. } => hint = wait,
                },
                Err(DialError::Lost(_)) => {}
            }
            if std::mem::take(&mut is_moved) {
                self.tell(Update::Down(down.clone())).await?;
            }
        }
        Err(End::Lost(why))
    }

    async fn tell(&self, update: Update) -> Result<(), End> {
        self.updates.send(update).await.map_err(|_| End::Left)
    }
}

/// How long to wait before the next attempt: as long as the server asks, and more after attempts that were in vain.
fn wait(hint: Option<Duration>, attempts: u32, random: u64) -> Duration {
    match hint {
        Some(hint) if attempts == 0 => hint,
        hint => backoff(attempts, random).max(hint.unwrap_or_default()),
    }
}

fn lost(why: &str) -> Stop {
    Stop::Lost { why: format!("connection lost ({why})"), hint: None }
}

fn refused(error: &Error) -> End {
    End::Refused(text::line(&error.code), text::line(&error.message))
}

/// What a `closing` event means: who comes back waits as long as the server asks.
fn closed(closing: &Closing) -> Stop {
    let reason = closing.reason();
    if reason == ClosingReason::Left {
        return Stop::End(End::Left);
    }
    let words = format!("the server closed the stream: {}", closing_words(reason, &closing.message));
    if closing.reconnect {
        return Stop::Lost {
            why: words,
            hint: Some(Duration::from_millis(closing.reconnect_after_ms.into())),
        };
    }
    Stop::End(End::Closed(reason, words))
}

fn closing_words(reason: ClosingReason, message: &str) -> String {
    let what = match reason {
        ClosingReason::Left => "you left",
        ClosingReason::RoomEnded => "the room has ended",
        ClosingReason::Removed => "you were removed",
        ClosingReason::Banned => "you were banned",
        ClosingReason::Draining => "it is going away",
        ClosingReason::JoinTimeout => "the join came too late",
        ClosingReason::TooManySessions => "you have too many sessions here",
        ClosingReason::SlowConsumer => "this client read too slowly",
        ClosingReason::ProtocolError => "it did not understand this client",
        ClosingReason::Internal => "it has a problem of its own",
        ClosingReason::SessionAge => "it moves long streams",
        ClosingReason::CredentialExpired => "your credential has expired",
        ClosingReason::CredentialRevoked => "your credential was revoked",
        ClosingReason::Unspecified => "it does not say why",
    };
    match text::line(message).as_str() {
        "" => what.to_owned(),
        message => format!("{what} ({message})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_sent_away_again_and_again_comes_back_ever_later() {
        let hint = Some(Duration::from_secs(2));
        assert_eq!(wait(hint, 0, 0), Duration::from_secs(2));
        assert_eq!(wait(Some(Duration::ZERO), 0, 7), Duration::ZERO, "a stream that is moved comes at once");
        assert_eq!(wait(hint, 1, 0), Duration::from_secs(2));
        assert!(wait(hint, 10, 0) > Duration::from_secs(7));
        assert_eq!(wait(None, 3, 5), backoff(3, 5));
    }

    #[test]
    fn a_closing_is_obeyed() {
        let closing = |reason: ClosingReason, reconnect| Closing {
            reason: reason.into(),
            reconnect,
            reconnect_after_ms: 1200,
            message: "see\u{1b}[2J you".into(),
            ..Default::default()
        };
        assert!(matches!(closed(&closing(ClosingReason::Left, false)), Stop::End(End::Left)));
        let Stop::Lost { why, hint } = closed(&closing(ClosingReason::Draining, true)) else {
            panic!("comes back")
        };
        assert_eq!(hint, Some(Duration::from_millis(1200)));
        assert!(why.contains("going away (see you)"), "{why}");
        let stop = closed(&closing(ClosingReason::Banned, false));
        assert!(matches!(stop, Stop::End(End::Closed(ClosingReason::Banned, _))));
    }
}
