//! The loop of a conversation: what is typed goes to the session, what the session tells goes to the screen.
//!
//! Owns when it is over. A person leaves at once; a pipe leaves when its input has ended, every command was answered
//! and every answer it caused has ended, or when its patience has.

use std::{collections::HashMap, future::pending, io::Write, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use crate::{
    cli::{
        chat::{
            answers::Answers,
            command::{self, Command, Local},
            input,
            io::{Entry, Io, PROMPT},
            live::Print,
            screen::Screen,
            session::{End, Update},
            style::Style,
            view::View,
        },
        client::Error,
        exit::Exit,
        text,
    },
    wire::pb::room::v1::{
        Ack, ClientMessage, ClosingReason, Error as Refusal, LeaveRoom, MarkRead, ServerEvent,
        client_message::Payload as Said, server_event::Payload,
    },
};

/// Commands of a person that may be open at once before the input is read on.
pub const OPEN_MAX: usize = 32;

/// How long the server has to answer the leave: the process ends anyway.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// One person's or one pipe's conversation.
#[derive(Debug)]
pub struct Conversation {
    io: Io,
    view: View,
    screen: Screen,
    commands: mpsc::Sender<ClientMessage>,
    answers: Answers,
    /// Commands that were not answered yet, with the line they came from.
    open: HashMap<String, String>,
    /// The newest lasting event seen, and the newest one that our commands made.
    seen_seq: u64,
    made_seq: u64,
    phase: Phase,
    /// The view knows the room: what a line names can be looked up.
    joined: bool,
    down: bool,
    failed: bool,
    ids: (Uuid, u64),
    wait: Duration,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Talking,
    /// The input has ended; until then answers are awaited.
    Finishing(Instant),
    /// The leave was sent; until then the end of the stream is awaited.
    Leaving(Instant),
}

impl Conversation {
    /// A conversation of `user` that sends through `commands`.
    pub fn new(
        user: &str,
        io: Io,
        style: Style,
        commands: mpsc::Sender<ClientMessage>,
        wait: Duration,
    ) -> Self {
        Self {
            screen: Screen::new(style, io.lively),
            io,
            view: View::new(user),
            commands,
            answers: Answers::default(),
            open: HashMap::new(),
            seen_seq: 0,
            made_seq: 0,
            phase: Phase::Talking,
            joined: false,
            down: false,
            failed: false,
            ids: (Uuid::new_v4(), 0),
            wait,
        }
    }

    /// Talks until it is over.
    pub async fn run(mut self, mut updates: mpsc::Receiver<Update>) -> Result<Exit, Error> {
        loop {
            let now = Instant::now();
            if self.step(now).await? {
                break;
            }
            let reads = self.takes_lines();
            let deadline = self.deadline();
            tokio::select! {
                update = updates.recv() => match update {
                    Some(Update::Ended(end)) => {
                        self.ended(end).await?;
                        break;
                    }
                    Some(update) => self.update(update).await?,
                    None => break,
                },
                entry = self.io.input.recv(), if reads => self.entry(entry).await?,
                () = until(deadline) => {}
            }
            self.show_status();
        }
        let last = self.screen.finish();
        self.io.console.show(last).await?;
        Ok(if self.failed { Exit::Failure } else { Exit::Success })
    }

    /// Whether the next line may be looked at. A script knows what its lines lead to: each of its lines is taken on
    /// the room that the one before has left behind, so that it can vote in the poll it has just made.
    fn takes_lines(&self) -> bool {
        let settled = self.open.is_empty() && self.seen_seq >= self.made_seq;
        let ready = if self.io.person { self.open.len() < OPEN_MAX } else { self.joined && settled };
        self.phase == Phase::Talking && ready
    }

    /// Moves on to the next phase when it is time; whether it is over.
    async fn step(&mut self, now: Instant) -> Result<bool, Error> {
        match self.phase {
            Phase::Talking => {}
            Phase::Finishing(until) => {
                let answered = self.open.is_empty() && self.seen_seq >= self.made_seq;
                if answered && self.answers.is_done(now) {
                    self.leave(now);
                } else if now >= until {
                    self.give_up().await?;
                    self.leave(now);
                }
                self.answers.expire(now);
            }
            Phase::Leaving(until) => return Ok(self.down || now >= until),
        }
        Ok(false)
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Talking => None,
            Phase::Leaving(until) => Some(until),
            Phase::Finishing(until) => {
                Some(self.answers.next_deadline().map_or(until, |next| next.min(until)))
            }
        }
    }

    async fn give_up(&mut self) -> Result<(), Error> {
        let awaited: Vec<String> =
            self.answers.awaited().into_iter().map(|id| text::line(self.view.name(id))).collect();
        let what = match awaited.as_slice() {
            [] => format!("{} commands", self.open.len()),
            awaited => awaited.join(", "),
        };
        self.failed = true;
        self.wrong(&format!("no answer within {} s from: {what}", self.wait.as_secs())).await
    }

    fn leave(&mut self, now: Instant) {
        if self.io.person && self.seen_seq > 0 {
            let read = MarkRead { seq: self.seen_seq, ..Default::default() };
            self.send(Said::MarkRead(read));
        }
        self.send(Said::Leave(LeaveRoom { keep_membership: true }));
        self.phase = Phase::Leaving(now + LEAVE_TIMEOUT);
    }

    /// Hands a command to the session and returns its id. There is always room: see [`OPEN_MAX`].
    fn send(&mut self, payload: Said) -> Option<String> {
        self.ids.1 += 1;
        let request_id = format!("{}-{}", self.ids.0.simple(), self.ids.1);
        let message = ClientMessage { payload: Some(payload), request_id: request_id.clone() };
        self.commands.try_send(message).ok().map(|()| request_id)
    }

    async fn entry(&mut self, entry: Option<Entry>) -> Result<(), Error> {
        let now = Instant::now();
        match entry {
            None if self.io.person => self.leave(now),
            None => self.phase = Phase::Finishing(now + self.wait),
            Some(Entry::Interrupt) => self.leave(now),
            Some(Entry::TooLong) => {
                self.failed = true;
                self.wrong("a line was too long and was not sent").await?;
            }
            Some(Entry::Line(line)) => self.line(&line).await?,
        }
        Ok(())
    }

    async fn line(&mut self, line: &str) -> Result<(), Error> {
        let understood = match input::parse(line) {
            Ok(None) => return Ok(()),
            Ok(Some(action)) => command::command(action, &self.view),
            Err(why) => Err(why),
        };
        match understood {
            Ok(Command::Send(payload)) => {
                if let Some(request_id) = self.send(payload) {
                    self.open.insert(request_id, text::excerpt(line.trim(), 40));
                }
                Ok(())
            }
            Ok(Command::Local(Local::Quit)) if self.io.person => {
                self.leave(Instant::now());
                Ok(())
            }
            Ok(Command::Local(Local::Quit)) => {
                self.phase = Phase::Finishing(Instant::now() + self.wait);
                Ok(())
            }
            Ok(Command::Local(Local::Who)) => {
                let who = self.screen.who(&self.view);
                Ok(self.io.console.show(who).await?)
            }
            Ok(Command::Local(Local::Help)) => {
                for line in input::help() {
                    let prints = self.screen.notice(&line);
                    self.io.console.show(prints).await?;
                }
                Ok(())
            }
            Err(why) => {
                self.failed |= !self.io.person;
                self.wrong(&why).await
            }
        }
    }

    async fn update(&mut self, update: Update) -> Result<(), Error> {
        match update {
            Update::Event(event) => self.event(&event).await,
            Update::Answered { request_id, outcome } => match (self.open.remove(&request_id), outcome) {
                (Some(_), Ok(ack)) => {
                    self.acked(&ack);
                    Ok(())
                }
                (Some(line), Err(refusal)) => self.refused(Some(&line), &refusal).await,
                // The leave and what goes with it.
                (None, _) => Ok(()),
            },
            Update::Notice(notice) => self.notice(&notice).await,
            Update::Down(why) => {
                self.down = true;
                self.notice(&why).await
            }
            Update::Up => {
                self.down = false;
                Ok(())
            }
            Update::Ended(_) => Ok(()),
        }
    }

    fn acked(&mut self, ack: &Ack) {
        self.made_seq = self.made_seq.max(ack.seq).max(ack.last_seq);
        if !ack.event_id.is_empty() {
            self.answers.ours(&ack.event_id);
        }
    }

    async fn refused(&mut self, line: Option<&str>, refusal: &Refusal) -> Result<(), Error> {
        // Somebody who sits there has seen it and can mend it; a script must be told by the exit code.
        self.failed |= !self.io.person;
        let message = text::line(&refusal.message);
        let message = if message.is_empty() { text::line(&refusal.code) } else { message };
        let field = match text::line(&refusal.field).as_str() {
            "" => String::new(),
            field => format!("{field}: "),
        };
        let line = line.map(|line| format!(" ({line})")).unwrap_or_default();
        self.wrong(&format!("refused: {field}{message}{line}")).await
    }

    async fn event(&mut self, event: &ServerEvent) -> Result<(), Error> {
        if let Some(Payload::Error(refusal)) = &event.payload {
            return self.refused(None, refusal).await;
        }
        // The message may be here before its ack is.
        if let Some(Payload::MessageReceived(received)) = &event.payload
            && let Some(message) = received.message.as_ref().filter(|m| m.sender_id == self.view.me)
            && !self.open.is_empty()
        {
            self.answers.ours(&message.message_id);
        }
        self.view.apply(event);
        self.joined |= matches!(event.payload, Some(Payload::RoomState(_) | Payload::Resumed(_)));
        // A resume speaks for the end of the log, and what was missed is still to come.
        if !matches!(event.payload, Some(Payload::Resumed(_))) {
            self.seen_seq = self.seen_seq.max(event.seq);
        }
        self.answers.event(event, self.view.llm_ids(), Instant::now());
        if self.open.is_empty() && self.seen_seq >= self.made_seq {
            self.answers.settle();
        }
        let prints = self.screen.event(&self.view, event);
        Ok(self.io.console.show(prints).await?)
    }

    async fn ended(&mut self, end: End) -> Result<(), Error> {
        match end {
            End::Left => Ok(()),
            End::Closed(reason, words) => {
                self.failed |= reason != ClosingReason::RoomEnded || !self.open.is_empty();
                self.wrong(&words).await
            }
            End::Refused(code, message) => {
                self.failed = true;
                self.wrong(&format!("the server does not let this session come back: {message} ({code})"))
                    .await
            }
            End::Lost(why) => {
                self.failed = true;
                self.wrong(&format!("{why}; the server did not come back in time")).await
            }
        }
    }

    async fn notice(&mut self, notice: &str) -> Result<(), Error> {
        let prints = self.screen.notice(notice);
        self.aside(prints).await
    }

    async fn wrong(&mut self, what: &str) -> Result<(), Error> {
        let prints = self.screen.wrong(what);
        self.aside(prints).await
    }

    /// What is not the room's goes to the errors of a pipe, and between the lines of a terminal.
    async fn aside(&mut self, prints: Vec<Print>) -> Result<(), Error> {
        let Some(errors) = &mut self.io.errors else {
            return Ok(self.io.console.show(prints).await?);
        };
        let (lines, open): (Vec<Print>, Vec<Print>) =
            prints.into_iter().partition(|print| matches!(print, Print::Line(_)));
        for line in lines {
            if let Print::Line(line) = line {
                writeln!(errors, "{line}")?;
            }
        }
        errors.flush()?;
        Ok(self.io.console.show(open).await?)
    }

    fn show_status(&self) {
        let Some(prompt) = &self.io.prompt else { return };
        let status = match self.down {
            true => "reconnecting".to_owned(),
            false => self.screen.status(&self.view),
        };
        let new = if status.is_empty() { PROMPT.to_owned() } else { format!("[{status}] {PROMPT}") };
        prompt.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
