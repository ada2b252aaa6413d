//! From an event's bytes to what a connection takes out: done for each who listens.

use std::{
    collections::VecDeque,
    hint::black_box,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use salon::{
    bus::{Audience, Bus, BusMessage, LogBatch, Note, Transient, TransientContent, local::LocalBus},
    clock::{SystemClock, Timestamp},
    domain::{
        llm::{ActiveAnswer, LiveAnswer},
        room::{Member, Role},
    },
    grpc::body::SessionBody,
    ids::{ConnectionId, EventId, LlmId, MessageId, RoomId, Seq, UserId},
    registry::{
        HandlerRegistry, RegistryLimits,
        outbound::{Outbound, QueueLimits},
    },
    store::memory::MemoryStore,
    wire::{
        frame,
        join::ChunkWish,
        pb::room::v1 as pb,
        transient::{self, Stamp},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{MOST, Repeat};

const SESSIONS: usize = 100;
/// Whatever is delivered fits: nobody falls behind.
const QUEUE: QueueLimits = QueueLimits { events: 4 * MOST, bytes: 1 << 30, replies: 4 };

/// An event that is stored goes into every queue of a room, wakes who sends it, and is taken out.
pub(crate) fn event() -> Repeat {
    let mut stage = Stage::new(SESSIONS);
    stage.warm_up();
    let first = stage.at.next();
    stage.all(batches(first).into_iter().map(BusMessage::Log).collect())
}

/// Text of an answer goes into every queue, and out.
pub(crate) fn chunk() -> Repeat {
    let mut stage = Stage::new(SESSIONS);
    let mut answer = LiveAnswer {
        message_id: MessageId(Uuid::from_u128(7)),
        llm_id: LlmId::parse("ada").unwrap(),
        reply_to: MessageId(Uuid::from_u128(8)),
        text: String::new(),
        started_at: Timestamp::default(),
    };
    stage.warm_up();
    let started = ActiveAnswer { answer: answer.clone(), seq: stage.at };
    let seq = stage.at.next();
    let notes = Arc::new([Note::RunStarted(started)]);
    stage.publish(BusMessage::Log(LogBatch { first: seq, last: seq, frames: framed(seq), notes }));
    let mut chunks = VecDeque::new();
    for _ in 0..MOST {
        let (offset, text) = (answer.text.len(), "a few words more ");
        answer.text.push_str(text);
        let frame = transient::chunk(&answer, offset, text);
        let content =
            TransientContent::Chunk { message_id: answer.message_id, offset, text: text.to_owned() };
        chunks.push_back(BusMessage::Transient(Transient { frame, audience: Audience::Room, content }));
    }
    stage.all(chunks)
}

/// What is told to all but one, and not stored.
pub(crate) fn typing() -> Repeat {
    let mut stage = Stage::new(SESSIONS);
    stage.warm_up();
    let user = UserId::parse("user-50").unwrap();
    let stamp = Stamp { event_id: EventId(Uuid::from_u128(9)), at: Timestamp::default() };
    let frame = transient::typing(stamp, &user, "Somebody", true);
    let typing = Transient { frame, audience: Audience::Others(user), content: TransientContent::Other };
    stage.all((0..MOST).map(|_| BusMessage::Transient(typing.clone())).collect())
}

/// A connection takes out so many events that wait.
pub(crate) fn poll(frames: usize) -> Repeat {
    let mut stage = Stage::new(MOST);
    stage.warm_up();
    for batch in batches(stage.at.next()).into_iter().take(frames) {
        stage.publish(BusMessage::Log(batch));
    }
    Box::new(move |repetition| {
        let body = stage.bodies.get_mut(repetition).unwrap();
        black_box(Pin::new(body).poll_frame(&mut Context::from_waker(&stage.waker)).is_ready());
    })
}

/// A room in which so many listen, each by a body that is polled as a connection does.
struct Stage {
    room: RoomId,
    bus: Arc<LocalBus>,
    bodies: Vec<SessionBody>,
    waker: Waker,
    /// The last position that everybody has.
    at: Seq,
    _registry: Arc<HandlerRegistry>,
}

impl Stage {
    fn new(sessions: usize) -> Self {
        let limits = RegistryLimits {
            participants_shown: 200,
            sessions_per_user: 16,
            head_check: Duration::from_secs(2),
            chunk_interval: Duration::ZERO,
            linger: Duration::ZERO,
            gathered_events: 64,
        };
        let (room, bus, tasks) =
            (RoomId::parse("guards").unwrap(), Arc::new(LocalBus::default()), TaskTracker::new());
        let shared: Arc<dyn Bus> = Arc::clone(&bus) as Arc<dyn Bus>;
        let (store, stop) = (Arc::new(MemoryStore::new()), CancellationToken::new());
        let registry =
            HandlerRegistry::start(store, shared, Arc::new(SystemClock), limits, tasks.clone(), stop);
        let feed = registry.open(&room, Seq(1));
        let enter = |session| {
            let outbound = Arc::new(Outbound::new(QUEUE));
            let member = member(&format!("user-{session}"));
            let wish = ChunkWish::default();
            feed.enter(ConnectionId::next(), &member, &outbound, wish, |_, delivered| {
                outbound.start(Bytes::from_static(b"state"), delivered, delivered);
            });
            SessionBody::new(outbound, tasks.token())
        };
        let bodies = (0..sessions).map(enter).collect();
        Self { room, bus, bodies, waker: Waker::from(Arc::new(Nobody)), at: Seq(1), _registry: registry }
    }

    fn publish(&self, message: BusMessage) {
        self.bus.publish(&self.room, message);
    }

    /// Fills all queues once, and empties them: none of them grows any more.
    fn warm_up(&mut self) {
        for batch in batches(self.at.next()) {
            self.at = batch.last;
            self.publish(BusMessage::Log(batch));
        }
        self.take_out();
    }

    /// Every connection takes out what waits for it, until nothing does and it is to be woken.
    fn take_out(&mut self) {
        for body in &mut self.bodies {
            while let Poll::Ready(frame) =
                Pin::new(&mut *body).poll_frame(&mut Context::from_waker(&self.waker))
            {
                assert!(frame.is_some());
            }
        }
    }

    /// Publishes one message each time, and has it taken out.
    fn all(mut self, mut messages: VecDeque<BusMessage>) -> Repeat {
        Box::new(move |_| {
            self.publish(messages.pop_front().unwrap());
            self.take_out();
        })
    }
}

/// Whoever would send what waits.
struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {
        black_box(&self);
    }
}

fn member(name: &str) -> Member {
    Member {
        id: UserId::parse(name).unwrap(),
        name: String::new(),
        role: Role::Member,
        title: String::new(),
        avatar: String::new(),
        joined_at: Timestamp::default(),
        muted_until: None,
    }
}

/// One message each, from this position on.
fn batches(first: Seq) -> VecDeque<LogBatch> {
    let one = |position| {
        let seq = Seq(position);
        LogBatch { first: seq, last: seq, frames: framed(seq), notes: Arc::new([]) }
    };
    (first.0..).take(MOST).map(one).collect()
}

/// The frame of a message.
fn framed(seq: Seq) -> Bytes {
    let message = pb::Message {
        message_id: "01978c4e-5f4b-7000-8000-00000000beef".into(),
        sender_id: "somebody".into(),
        sender_name: "Somebody".into(),
        content: "x".repeat(200),
        ..Default::default()
    };
    let received = pb::MessageReceived { message: Some(message) };
    let event = pb::ServerEvent {
        payload: Some(pb::server_event::Payload::MessageReceived(received)),
        event_id: "01978c4e-5f4b-7000-8000-00000000beef".into(),
        ..Default::default()
    };
    let stored = frame::stored(&event);
    let mut frames = BytesMut::with_capacity(frame::stored_len(&stored, seq));
    frame::put_stored(&mut frames, &stored, seq);
    frames.freeze()
}
