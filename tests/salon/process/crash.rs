//! SIGKILL while several clients write: what was acknowledged is there, once, where it was said to be.

use std::collections::{HashMap, HashSet};

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Place, Salon};
use crate::harness::{
    DEADLINE,
    session::{is_lasting, join, message},
};

const ROOM: &str = "crash";
const WRITERS: usize = 4;
const ROUNDS: usize = 6;
/// Commands of one writer that wait for their ack.
const PIPELINE: usize = 8;

/// A generator whose whole future is its seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

/// A command, and how it was answered.
struct Sent {
    request_id: String,
    content: String,
    ack: Option<pb::Ack>,
}

impl Sent {
    fn payload(&self) -> Say {
        if !self.content.starts_with("poll") {
            return message(&self.content);
        }
        let option = |text: &str| pb::PollOptionInput { text: text.into(), ..Default::default() };
        Say::CreatePoll(pb::CreatePoll {
            question: self.content.clone(),
            options: vec![option("yes"), option("no")],
            ..Default::default()
        })
    }
}

/// A client that remembers what it was told over all its streams.
struct Writer {
    name: String,
    sent: Vec<Sent>,
    /// Lasting events, in the order they came.
    seen: Vec<pb::ServerEvent>,
    /// What the next join resumes behind.
    after: Option<u64>,
}

/// An open stream of a writer.
struct Stream {
    say: mpsc::Sender<pb::ClientMessage>,
    hear: Streaming<pb::ServerEvent>,
}

impl Writer {
    fn new(n: usize) -> Self {
        Self { name: format!("writer-{n}"), sent: Vec::new(), seen: Vec::new(), after: None }
    }

    async fn connect(&mut self, server: &Salon) -> Stream {
        let (say, said) = mpsc::channel(2 * PIPELINE);
        let mut hear =
            server.client().await.room_session(ReceiverStream::new(said)).await.unwrap().into_inner();
        let join = pb::JoinRoom { after_seq: self.after, ..join(ROOM, &self.name) };
        say.send(pb::ClientMessage { payload: Some(Say::Join(join)), ..Default::default() }).await.unwrap();
        let first = timeout(DEADLINE, hear.message()).await.unwrap().unwrap().unwrap();
        match (&first.payload, self.after) {
            (Some(Payload::RoomState(_)), None) => self.after = Some(first.seq),
            (Some(Payload::Resumed(resumed)), Some(after)) => assert_eq!(resumed.after_seq, after),
            other => panic!("{}: {other:?}", self.name),
        }
        Stream { say, hear }
    }

    /// Repeats what was not acknowledged, then writes on until the stream breaks.
    async fn write(&mut self, mut stream: Stream, acks: &watch::Sender<usize>) {
        let mut again = self.unanswered();
        again.reverse();
        let mut open = 0;
        loop {
            while open < PIPELINE {
                let next = again.pop().unwrap_or_else(|| self.compose());
                if stream.say.send(self.repeat(next)).await.is_err() {
                    return;
                }
                open += 1;
            }
            let Ok(Some(event)) = timeout(DEADLINE, stream.hear.message()).await.expect("silence") else {
                return;
            };
            if self.take(event) {
                open -= 1;
                acks.send_modify(|acks| *acks += 1);
            }
        }
    }

    /// Repeats what was not acknowledged, and reads until all of it is and everything up to it was seen.
    async fn finish(&mut self, mut stream: Stream) {
        for n in self.unanswered() {
            stream.say.send(self.repeat(n)).await.unwrap();
        }
        let last =
            |writer: &Self| writer.sent.iter().filter_map(|sent| Some(sent.ack.as_ref()?.last_seq)).max();
        while !self.unanswered().is_empty() || self.after < last(self) {
            let event = timeout(DEADLINE, stream.hear.message()).await.expect("silence");
            self.take(event.unwrap().unwrap());
        }
    }

    fn unanswered(&self) -> Vec<usize> {
        (0..self.sent.len()).filter(|n| self.sent[*n].ack.is_none()).collect()
    }

    fn compose(&mut self) -> usize {
        let n = self.sent.len();
        // A poll is two events in one append. There may be 32 open ones in a room: 7 of each writer.
        let kind = if n % 31 == 3 && n < 7 * 31 { "poll" } else { "message" };
        let request_id = format!("{}-{n}", self.name);
        self.sent.push(Sent { content: format!("{kind} {request_id}"), request_id, ack: None });
        n
    }

    fn repeat(&self, n: usize) -> pb::ClientMessage {
        let sent = &self.sent[n];
        pb::ClientMessage { payload: Some(sent.payload()), request_id: sent.request_id.clone() }
    }

    /// Remembers what it is told; whether it is an ack.
    fn take(&mut self, event: pb::ServerEvent) -> bool {
        if is_lasting(&event) {
            let next = self.after.unwrap() + 1;
            assert_eq!(event.seq, next, "{}: a hole, or an event for the second time", self.name);
            self.after = Some(next);
            self.seen.push(event);
            return false;
        }
        match event.payload {
            Some(Payload::Ack(ack)) => {
                let sent = self.sent.iter_mut().find(|sent| sent.request_id == event.request_id).unwrap();
                assert!(sent.ack.replace(ack).is_none(), "acknowledged twice");
                true
            }
            Some(Payload::Error(error)) => panic!("{}: {error:?}", self.name),
            _ => false,
        }
    }
}

/// Compares what clients were told with what is in the log.
fn compare(log: &[pb::ServerEvent], writers: &[Writer]) {
    let ids: HashSet<&str> = log.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids.len(), log.len(), "an event id stands in the log twice");
    let (mut said, mut asked) = (HashMap::<&str, Vec<u64>>::new(), HashMap::<&str, Vec<u64>>::new());
    for event in log {
        match &event.payload {
            Some(Payload::MessageReceived(received)) => {
                said.entry(&received.message.as_ref().unwrap().content).or_default().push(event.seq);
            }
            Some(Payload::PollCreated(created)) => {
                asked.entry(&created.poll.as_ref().unwrap().question).or_default().push(event.seq);
            }
            _ => {}
        }
    }
    for writer in writers {
        for sent in &writer.sent {
            let at = said.remove(sent.content.as_str()).unwrap_or_default();
            let poll_at = asked.remove(sent.content.as_str()).unwrap_or_default();
            assert!(at.len() <= 1, "{} is there at {at:?}", sent.content);
            if sent.content.starts_with("poll") {
                assert!(poll_at.iter().copied().eq(at.iter().map(|seq| seq + 1)), "half of {}", sent.content);
            }
            if let Some(ack) = &sent.ack {
                assert_eq!(at, [ack.seq], "{} was acknowledged at {}", sent.content, ack.seq);
                assert_eq!(log[usize::try_from(ack.seq).unwrap() - 1].event_id, ack.event_id);
                assert_eq!(poll_at, Vec::from_iter((ack.seq < ack.last_seq).then_some(ack.last_seq)));
            }
        }
        for seen in &writer.seen {
            assert_eq!(seen, &log[usize::try_from(seen.seq).unwrap() - 1], "the log has changed");
        }
    }
    assert!(said.is_empty() && asked.is_empty(), "nobody said {said:?} {asked:?}");
}

async fn survives(seed: u64) {
    // The shortest distance between snapshots, so that kills also fall between a commit and its snapshot.
    let place = Place::new().env("SALON__ROOMS__SNAPSHOT_EVERY", "10");
    let mut random = Random(seed);
    let mut server = place.start().await;
    server.room(ROOM, &[]).await;
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    for _ in 0..ROUNDS {
        let (acks, mut acked) = watch::channel(0);
        let mut writing = JoinSet::new();
        for mut writer in writers.drain(..) {
            let stream = writer.connect(&server).await;
            let acks = acks.clone();
            writing.spawn(async move {
                writer.write(stream, &acks).await;
                writer
            });
        }
        let moment = random.below(300);
        timeout(DEADLINE, acked.wait_for(|acks| *acks >= moment)).await.expect("nobody writes").unwrap();
        server.kill().await;
        writers = writing.join_all().await;
        server = place.start().await;
        let log = server.log_of(ROOM).await;
        compare(&log, &writers);
    }
    for writer in &mut writers {
        let stream = writer.connect(&server).await;
        writer.finish(stream).await;
    }
    let log = server.log_of(ROOM).await;
    assert!(writers.iter().all(|writer| writer.unanswered().is_empty()));
    compare(&log, &writers);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_has_everything_it_acknowledged_and_nothing_twice() {
    survives(1).await;
}

#[tokio::test]
async fn another_six_kills_lose_nothing_either() {
    survives(20_260_501).await;
}
