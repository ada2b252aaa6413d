//! A client: it joins, talks, loses its connection, comes back on another node, and resends what was not answered.
//!
//! It keeps to the contract and no more: `after_seq` is the last position it has seen, a command keeps its
//! `request_id` until it is answered.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    acts::{self, Known},
    history::{History, Seen, Sent},
    plan::Plan,
    planted::Planted,
    random::Random,
    stream::Stream,
    world::World,
};
use crate::harness::session::is_lasting;

/// Commands that wait for their answer; a client with more waits.
const PENDING: usize = 4;
/// How long a client waits for an answer before it tries another node.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a join is called: it is answered by its snapshot, or by an error with this.
const JOIN: &str = "join";

/// See the module.
#[derive(Debug)]
pub struct Client {
    world: Arc<World>,
    random: Random,
    history: Arc<Mutex<History>>,
    user: String,
    room: String,
    /// The place of the node it prefers.
    home: usize,
    pace: u64,
    cuts: u32,
    slow: bool,
    seen: Option<u64>,
    pending: VecDeque<Pending>,
    commands: u32,
    known: Known,
}

#[derive(Debug)]
struct Pending {
    message: pb::ClientMessage,
    /// When it was sent on this stream.
    sent_at: Option<Instant>,
    /// It was refused, and may be sent again from then on.
    not_before: Option<Instant>,
}

/// What becomes of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    ComeBack,
}

impl Client {
    pub fn new(world: &Arc<World>, plan: &Plan, index: usize, room: &str) -> Self {
        let user = format!("user-{index}");
        let mut random = world.random.of(&user);
        Self {
            history: Arc::new(Mutex::new(History::new(&user, room))),
            slow: random.percent(plan.steady.slow_readers),
            cuts: plan.steady.cuts,
            pace: plan.pace,
            world: Arc::clone(world),
            room: room.to_owned(),
            home: index,
            seen: None,
            pending: VecDeque::new(),
            commands: 0,
            known: Known::default(),
            random,
            user,
        }
    }

    pub fn history(&self) -> Arc<Mutex<History>> {
        Arc::clone(&self.history)
    }

    fn note(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        self.world.trace.say(format_args!("{} {what}", self.user));
    }

    /// Goes on until the simulation is over.
    pub async fn run(mut self) {
        sleep(self.random.millis(0..=500)).await;
        let over = self.world.over.clone();
        let _ = over
            .run_until_cancelled(async {
                loop {
                    let place = self.place();
                    if let Some(node) = self.world.node(place) {
                        self.session(Stream::open(&node)).await;
                        self.note().at = None;
                    }
                    let pause = self.random.millis(20..=400);
                    sleep(pause).await;
                }
            })
            .await;
    }

    /// Where it connects: mostly to a node of its own, so that clients are apart.
    fn place(&mut self) -> usize {
        let any = self.random.below(self.world.size());
        if self.random.percent(60) { self.home % self.world.size() } else { any }
    }

    /// One stream, until it ends or breaks.
    async fn session(&mut self, stream: Stream) {
        // Now and then a client begins anew, as one does that has kept nothing.
        let after = self.seen.filter(|_| !self.random.percent(10));
        self.say(format_args!("opens on node {} behind {after:?}", stream.node.index));
        self.note().seen.push(Seen::Opened { after });
        self.pending.iter_mut().for_each(|pending| pending.sent_at = None);
        let join = pb::JoinRoom {
            room_id: self.room.clone(),
            user_id: self.user.clone(),
            after_seq: after,
            ..Default::default()
        };
        stream.say(&pb::ClientMessage { payload: Some(Say::Join(join)), request_id: JOIN.to_owned() });
        let opened = Instant::now();
        let mut joined = false;
        let mut act_at = Instant::now() + self.pause();
        let mut read_at = None;
        loop {
            let next = tokio::select! {
                biased;
                () = stream.node.crashed.cancelled() => Next::ComeBack,
                events = stream.next(), if read_at.is_none() => match events {
                    Some(events) => {
                        if self.slow && self.random.percent(30) && !self.world.is_quiet() {
                            read_at = Some(Instant::now() + self.random.millis(100..=1500));
                        }
                        self.take(events, &stream, &mut joined)
                    }
                    None => Next::ComeBack,
                },
                () = until(read_at) => {
                    read_at = None;
                    Next::GoOn
                }
                () = sleep_until(act_at) => {
                    act_at = Instant::now() + self.pause();
                    if joined {
                        self.act(&stream)
                    } else if opened.elapsed() > PATIENCE {
                        Next::ComeBack
                    } else {
                        Next::GoOn
                    }
                }
            };
            if next == Next::ComeBack {
                self.say(format_args!("is off node {}", stream.node.index));
                return;
            }
        }
    }

    fn pause(&mut self) -> Duration {
        self.random.millis(self.pace / 3..=self.pace)
    }

    fn take(&mut self, events: Vec<(pb::ServerEvent, Bytes)>, stream: &Stream, joined: &mut bool) -> Next {
        for (event, bytes) in events {
            if is_lasting(&event) {
                if self.world.planted == Some(Planted::Hole) && self.random.percent(1) {
                    continue;
                }
                self.lasting(&event, bytes);
                continue;
            }
            match event.payload {
                Some(Payload::RoomState(state)) => {
                    self.say(format_args!("is shown the room at {}", event.seq));
                    self.note().seen.push(Seen::State { seq: event.seq });
                    self.known.look(&state, &self.user);
                    self.is_at(event.seq);
                    self.begin(stream, joined);
                }
                Some(Payload::Resumed(resumed)) => {
                    self.say(format_args!("goes on behind {}", resumed.after_seq));
                    self.note().seen.push(Seen::Resumed { after: resumed.after_seq });
                    self.is_at(resumed.after_seq);
                    self.begin(stream, joined);
                }
                Some(Payload::Ack(ack)) => self.acknowledged(&event.request_id, ack),
                Some(Payload::Error(error)) if event.request_id == JOIN => {
                    self.say(format_args!("cannot join: {}", error.code));
                    return Next::ComeBack;
                }
                Some(Payload::Error(error)) => self.refused(&event.request_id, &error),
                Some(Payload::Closing(closing)) => {
                    self.say(format_args!("is closed: {:?}", closing.reason()));
                    return Next::ComeBack;
                }
                _ => {}
            }
        }
        Next::GoOn
    }

    fn is_at(&mut self, seq: u64) {
        self.seen = Some(seq);
        self.note().at = Some(seq);
    }

    fn lasting(&mut self, event: &pb::ServerEvent, bytes: Bytes) {
        let id = self.world.trace.name(&event.event_id);
        self.say(format_args!("sees {} {id} {}", event.seq, acts::kind(event)));
        self.known.learn(event, &self.user);
        self.note().seen.push(Seen::Event { seq: event.seq, bytes });
        self.is_at(event.seq);
    }

    /// The room has answered the join: what is not answered is sent again.
    fn begin(&mut self, stream: &Stream, joined: &mut bool) {
        if !std::mem::replace(joined, true) {
            self.resend(stream);
        }
    }

    fn resend(&mut self, stream: &Stream) {
        let now = Instant::now();
        for pending in &mut self.pending {
            if pending.sent_at.is_none() && pending.not_before.is_none_or(|at| at <= now) {
                pending.sent_at = Some(now);
                pending.not_before = None;
                stream.say(&pending.message);
            }
        }
    }

    fn acknowledged(&mut self, request_id: &str, ack: pb::Ack) {
        if !self.answered(request_id) {
            return;
        }
        let id = self.world.trace.name(&ack.event_id);
        let again = if ack.duplicate { " again" } else { "" };
        self.say(format_args!("is acknowledged {request_id} at {} {id}{again}", ack.seq));
        let seen = Seen::Ack { request_id: request_id.to_owned(), seq: ack.seq, event_id: ack.event_id };
        self.note().seen.push(seen);
    }

    fn refused(&mut self, request_id: &str, error: &pb::Error) {
        self.say(format_args!("is refused {request_id}: {}", error.code));
        if error.retryable {
            let wait = self.random.millis(50..=500);
            if let Some(pending) = self.pending.iter_mut().find(|one| one.message.request_id == request_id) {
                pending.sent_at = None;
                pending.not_before = Some(Instant::now() + wait);
            }
        } else if self.answered(request_id) {
            let seen = Seen::Refused { request_id: request_id.to_owned(), code: error.code.clone() };
            self.note().seen.push(seen);
        }
    }

    /// A command needs no further answer. False: it was none that waits for one.
    fn answered(&mut self, request_id: &str) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| pending.message.request_id != request_id);
        let left = self.pending.len();
        self.note().pending = left;
        left < before
    }

    /// Does something, or looks after what is not answered.
    fn act(&mut self, stream: &Stream) -> Next {
        let overdue = |pending: &Pending| pending.sent_at.is_some_and(|sent_at| sent_at.elapsed() > PATIENCE);
        if self.pending.iter().any(overdue) {
            return Next::ComeBack;
        }
        self.resend(stream);
        if self.world.is_quiet() {
            return Next::GoOn;
        }
        if self.random.percent(self.cuts) {
            return Next::ComeBack;
        }
        if self.pending.len() >= PENDING {
            return Next::GoOn;
        }
        self.commands += 1;
        let request_id = format!("{}-{}", self.user, self.commands);
        let act = acts::next(&mut self.random, &self.known, &request_id);
        let label = act.label;
        self.say(format_args!("{label} as {request_id}"));
        let message = pb::ClientMessage { payload: Some(act.say), request_id: request_id.clone() };
        stream.say(&message);
        if act.keeps {
            let sent = match &message.payload {
                Some(Say::Message(message)) => Sent::Message(message.content.clone()),
                _ => Sent::Other(label),
            };
            self.pending.push_back(Pending { message, sent_at: Some(Instant::now()), not_before: None });
            let pending = self.pending.len();
            let mut note = self.note();
            note.sent.insert(request_id, sent);
            note.pending = pending;
        }
        Next::GoOn
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
