//! A client as a good one is: when its stream ends it goes to another node, resumes, and repeats what was not
//! acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use salon::wire::pb::room::v1::{
    self as pb, client_message::Payload as Say, room_service_client::RoomServiceClient, server_event::Payload,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use crate::harness::session::{is_lasting, join, message};

/// Between two things that somebody says.
const PACE: Duration = Duration::from_millis(50);
/// Commands that wait for their ack.
const OPEN: usize = 8;
/// Heard nothing for this long, not even one of the heartbeats that come every second: the stream is dead.
const SILENCE: Duration = Duration::from_secs(5);
/// Why a stream ended that its client has left.
pub const MOVED: &str = "moved";
/// Behind so many commands on one stream it goes to the next node of its own accord, as somebody does who travels. What is
/// not acknowledged yet is said again there.
const STAYS: usize = 150;
/// One of so many of what somebody says asks an LLM.
const ASKS: usize = 40;
/// Behind the end everybody must have seen everything within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all clients have come to.
#[derive(Debug, Clone, Default)]
pub struct News {
    /// When each sent what was acknowledged to it last.
    acked: BTreeMap<String, Instant>,
    /// Acks.
    pub acks: usize,
    /// Streams that ended, and why.
    pub ends: BTreeMap<String, usize>,
    /// The longest time from the end of a stream to the answer to the next join.
    pub longest_away: Duration,
    /// The longest time from the first sending of a command to its ack.
    pub longest: Duration,
}

impl News {
    /// Who was not acknowledged anything that was sent behind this moment, of those who ever were.
    pub fn silent_since(&self, moment: Instant) -> Vec<&str> {
        self.acked.iter().filter(|(_, at)| **at <= moment).map(|(name, _)| name.as_str()).collect()
    }

    /// Whether `count` clients were acknowledged something that they sent behind this moment.
    pub fn all_since(&self, moment: Instant, count: usize) -> bool {
        self.acked.values().filter(|at| **at > moment).count() == count
    }
}

/// A command, and how it was answered.
#[derive(Debug)]
pub struct Sent {
    pub request_id: String,
    pub content: String,
    first: Instant,
    pub ack: Option<pb::Ack>,
}

/// Somebody who writes.
#[derive(Debug)]
pub struct Client {
    pub room: String,
    pub name: String,
    pub sent: Vec<Sent>,
    /// Lasting events, in the order they came.
    pub seen: Vec<pb::ServerEvent>,
    /// What the first `room_state` spoke for: what is behind it must be seen.
    pub from: Option<u64>,
    /// What was seen last.
    pub after: Option<u64>,
    /// Which of `sent` were not acknowledged.
    open: BTreeSet<usize>,
    /// How long it was told to wait before it comes back.
    wait: Duration,
    /// The node that it tries next.
    node: usize,
}

struct Stream {
    say: mpsc::Sender<pb::ClientMessage>,
    hear: Streaming<pb::ServerEvent>,
    rooms: RoomServiceClient<tonic::transport::Channel>,
}

type Urls = watch::Receiver<Vec<Option<String>>>;

impl Client {
    pub fn new(room: &str, name: &str, node: usize) -> Self {
        let (room, name) = (room.to_owned(), name.to_owned());
        let (sent, seen, open) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { room, name, sent, seen, from: None, after: None, open, wait: Duration::ZERO, node }
    }

    /// Writes until the end, then sees everything.
    pub async fn write(
        mut self,
        urls: Urls,
        mut end: watch::Receiver<bool>,
        news: watch::Sender<News>,
    ) -> Self {
        let (mut ending, mut left) = (None, None);
        loop {
            let Some(mut stream) = self.connect(&urls).await else {
                self.node += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            if let Some(left) = left.take().map(|left: Instant| left.elapsed()) {
                news.send_modify(|news| news.longest_away = news.longest_away.max(left));
            }
            let why = self.talk(&mut stream, &mut end, &news).await;
            left = Some(Instant::now());
            tokio::time::sleep(std::mem::take(&mut self.wait)).await;
            match why {
                None => return self,
                Some(why) => news.send_modify(|news| *news.ends.entry(why).or_default() += 1),
            }
            if *end.borrow() {
                let begun = *ending.get_or_insert_with(Instant::now);
                assert!(begun.elapsed() < PATIENCE, "{} does not see everything", self.name);
            }
            self.node += 1;
        }
    }

    /// A stream to the node whose turn it is, and the answer to its join; `None`: it is not there.
    async fn connect(&mut self, urls: &Urls) -> Option<Stream> {
        let url = {
            let urls = urls.borrow();
            urls[self.node % urls.len()].clone()?
        };
        let endpoint = Endpoint::from_shared(url).unwrap().connect_timeout(Duration::from_secs(1));
        let mut rooms = RoomServiceClient::new(endpoint.connect().await.ok()?);
        let (say, said) = mpsc::channel(4 * OPEN);
        let call = timeout(Duration::from_secs(2), rooms.room_session(ReceiverStream::new(said)));
        let join = pb::JoinRoom { after_seq: self.after, ..join(&self.room, &self.name) };
        say.send(pb::ClientMessage { payload: Some(Say::Join(join)), ..Default::default() }).await.ok()?;
        let hear = call.await.ok()?.ok()?.into_inner();
        let mut stream = Stream { say, hear, rooms };
        loop {
            let first = timeout(Duration::from_secs(5), stream.hear.message()).await.ok()?.ok()??;
            match first.payload {
                Some(Payload::RoomState(_)) => {
                    self.catch_up(&mut stream, first.seq).await?;
                    return Some(stream);
                }
                Some(Payload::Resumed(resumed)) => {
                    assert_eq!(Some(resumed.after_seq), self.after, "{}", self.name);
                    return Some(stream);
                }
                Some(Payload::Error(error)) if error.code == "unavailable" => return None,
                Some(Payload::Closing(_)) => return None,
                Some(_) => panic!("{}: {first:?}", self.name),
                None => {}
            }
        }
    }

    /// Reads what is missing before a `room_state`: it was away for more than a resume gives.
    async fn catch_up(&mut self, stream: &mut Stream, seq: u64) -> Option<()> {
        let Some(after) = self.after else {
            (self.from, self.after) = (Some(seq), Some(seq));
            return Some(());
        };
        let limit = seq - after;
        let request =
            pb::ReadLogRequest { room_id: self.room.clone(), after_seq: after, limit, ..Default::default() };
        let mut events = if limit == 0 {
            return Some(());
        } else {
            stream.rooms.read_log(request).await.ok()?.into_inner()
        };
        while let Some(response) = events.message().await.ok()? {
            self.see(response.event.unwrap());
        }
        assert_eq!(self.after, Some(seq), "{}: a log that ends before its room_state", self.name);
        Some(())
    }

    /// Talks and listens until the stream ends; `None`: everything is said and seen.
    async fn talk(
        &mut self,
        stream: &mut Stream,
        end: &mut watch::Receiver<bool>,
        news: &watch::Sender<News>,
    ) -> Option<String> {
        // A stream that takes nothing more has ended, and what it was told last is still to be read.
        let mut can_say = true;
        for n in self.open.clone() {
            can_say &= stream.say.send(self.command(n)).await.is_ok();
        }
        let stays = self.sent.len() + STAYS;
        let mut dead_at = Instant::now() + SILENCE;
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ending = *end.borrow();
            if ending && self.is_done() {
                return None;
            }
            if !ending && can_say && self.sent.len() >= stays {
                return Some(MOVED.to_owned());
            }
            tokio::select! {
                _ = pace.tick(), if !ending && can_say => {
                    if self.open.len() < OPEN {
                        let n = self.compose();
                        can_say = stream.say.send(self.command(n)).await.is_ok();
                    }
                }
                heard = timeout_at(dead_at, stream.hear.message()) => match heard {
                    Ok(Ok(Some(event))) => {
                        dead_at = Instant::now() + SILENCE;
                        if let Some(why) = self.take(event, stream, news).await {
                            return Some(why);
                        }
                    }
                    Ok(Ok(None)) => return Some("ended".to_owned()),
                    Ok(Err(status)) => return Some(format!("{:?}", status.code())),
                    Err(_) => return Some("silence".to_owned()),
                },
                _ = end.changed(), if !ending => {}
            }
        }
    }

    /// Everything was acknowledged, and it has seen all of it.
    fn is_done(&self) -> bool {
        let last = self.sent.iter().filter_map(|sent| Some(sent.ack.as_ref()?.last_seq)).max();
        self.open.is_empty() && self.after >= last
    }

    fn compose(&mut self) -> usize {
        let n = self.sent.len();
        let llm = ["ada", "bob"][(n / ASKS) % 2];
        let request_id = format!("{}-{n}", self.name);
        let content =
            if n % ASKS == ASKS - 1 { format!("@{llm} what of {request_id}?") } else { request_id.clone() };
        self.sent.push(Sent { request_id, content, first: Instant::now(), ack: None });
        self.open.insert(n);
        n
    }

    fn command(&self, n: usize) -> pb::ClientMessage {
        let sent = &self.sent[n];
        pb::ClientMessage { payload: Some(message(&sent.content)), request_id: sent.request_id.clone() }
    }

    fn see(&mut self, event: pb::ServerEvent) {
        let next = self.after.unwrap() + 1;
        assert_eq!(event.seq, next, "{}: a hole, or an event for the second time", self.name);
        self.after = Some(next);
        self.seen.push(event);
    }

    /// Remembers what it is told; says why the stream is to be left.
    async fn take(
        &mut self,
        event: pb::ServerEvent,
        stream: &Stream,
        news: &watch::Sender<News>,
    ) -> Option<String> {
        if is_lasting(&event) {
            self.see(event);
            return None;
        }
        let sent = self.open.iter().copied().find(|n| self.sent[*n].request_id == event.request_id);
        match (event.payload, sent) {
            (Some(Payload::Ack(ack)), Some(n)) => {
                let sent = &mut self.sent[n];
                let first = sent.ack.replace(ack).is_none();
                assert!(first, "{} was acknowledged twice", sent.request_id);
                self.open.remove(&n);
                let (name, at) = (self.name.clone(), sent.first);
                news.send_modify(|news| {
                    news.acks += 1;
                    news.longest = news.longest.max(at.elapsed());
                    let last = news.acked.entry(name).or_insert(at);
                    *last = at.max(*last);
                });
                None
            }
            // The store is away: what was not acknowledged is said again, as a client does.
            (Some(Payload::Error(error)), Some(n)) if error.code == "unavailable" => {
                tokio::time::sleep(PACE).await;
                // If the stream has ended, its end is read next.
                let _ = stream.say.send(self.command(n)).await;
                None
            }
            (Some(Payload::Closing(closing)), _) => {
                assert!(closing.reconnect, "{}: {closing:?}", self.name);
                assert!(
                    closing.resume_seq <= self.after.unwrap(),
                    "{}: {closing:?} {:?}",
                    self.name,
                    self.after
                );
                self.wait = Duration::from_millis(closing.reconnect_after_ms.into());
                Some(format!("{:?}", closing.reason()))
            }
            // An LLM could not be asked: not a matter of this client's.
            (Some(Payload::Error(error)), None) if error.code != "internal" => None,
            (Some(Payload::Error(error)), _) => panic!("{}: {error:?}", self.name),
            _ => None,
        }
    }
}
