//! What each reader sees of an answer, whatever their pace and whenever they come, in time that the test moves.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;
use prost::Message as _;
use tokio::time::advance;

use super::*;
use crate::{
    bus::{Audience, TransientContent},
    clock::Timestamp,
    domain::{
        llm::ActiveAnswer,
        room::{Member, Role},
    },
    ids::{ConnectionId, LlmId, RoomId, Seq, UserId},
    registry::{
        RegistryLimits,
        outbound::{Outbound, QueueLimits, Work},
    },
    wire::{
        frame::{PREFIX, frame, len_at, put_stored, stored},
        join::ChunkWish,
        pb::room::v1::{self as pb, server_event::Payload},
    },
};

const LIMITS: RegistryLimits = RegistryLimits {
    participants_shown: 200,
    sessions_per_user: 200,
    head_check: Duration::from_secs(2),
    chunk_interval: Duration::from_millis(40),
    linger: Duration::ZERO,
    gathered_events: 64,
};
/// A `resumed`: what it says is noted beside it.
const RESUMED: &[u8] = b"RESUMED";

/// What becomes of an answer.
struct Stage {
    feed: Arc<Feed>,
    answer: LiveAnswer,
    said: String,
    random: u64,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let feed = Arc::new(Feed::new(RoomId::parse("room").unwrap(), Seq(0), LIMITS, Arc::default()));
        let answer = LiveAnswer {
            message_id: MessageId(uuid::Uuid::now_v7()),
            llm_id: LlmId::parse("ada").unwrap(),
            reply_to: MessageId(uuid::Uuid::now_v7()),
            text: String::new(),
            started_at: Timestamp(0),
        };
        Self { feed, answer, said: String::new(), random: seed | 1 }
    }

    fn begin(&self) {
        let started = ActiveAnswer { answer: self.answer.clone(), seq: Seq(1) };
        self.log(1, &[pb::ServerEvent::default()], &[Note::RunStarted(started)]);
    }

    fn log(&self, first: u64, events: &[pb::ServerEvent], notes: &[Note]) {
        let (mut frames, mut last) = (BytesMut::new(), first);
        for (seq, event) in (first..).zip(events) {
            put_stored(&mut frames, &stored(event), Seq(seq));
            last = seq;
        }
        let batch =
            LogBatch { first: Seq(first), last: Seq(last), frames: frames.freeze(), notes: notes.into() };
        let _ = self.feed.deliver(batch);
    }

    /// The model says something; true: somebody must keep the pace.
    fn say(&mut self, text: &str) -> bool {
        let offset = self.said.len();
        self.said.push_str(text);
        self.chunk(offset, text)
    }

    fn chunk(&self, offset: usize, text: &str) -> bool {
        let content =
            TransientContent::Chunk { message_id: self.answer.message_id, offset, text: text.into() };
        let frame = transient::chunk(&self.answer, offset, text);
        self.feed.deliver_transient(&Transient { frame, audience: Audience::Room, content })
    }

    fn end(&self, text: &str) {
        let message = pb::Message {
            message_id: self.answer.message_id.to_string(),
            content: text.into(),
            ..Default::default()
        };
        let received = pb::MessageReceived { message: Some(message) };
        let events = [
            pb::ServerEvent { payload: Some(Payload::MessageReceived(received)), ..Default::default() },
            pb::ServerEvent::default(),
        ];
        self.log(2, &events, &[Note::RunEnded(self.answer.message_id)]);
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % n
    }

    fn enter(&self, wish: ChunkWish, limits: QueueLimits) -> Reader {
        let (connection, outbound) = (ConnectionId::next(), Arc::new(Outbound::new(limits)));
        let member = Member {
            id: UserId::parse(&connection.to_string()).unwrap(),
            name: String::new(),
            role: Role::Member,
            title: String::new(),
            avatar: String::new(),
            joined_at: Timestamp(0),
            muted_until: None,
        };
        let mut told = Vec::new();
        self.feed.enter(connection, &member, &outbound, wish, |now, seq| {
            told = now.answers.to_vec();
            outbound.start(Bytes::from_static(RESUMED), seq, seq);
        });
        Reader {
            connection,
            outbound,
            wish,
            resumed: [told].into(),
            text: None,
            began: Instant::now(),
            chunks: Vec::new(),
            last: None,
        }
    }
}

/// A client: it puts together what it is told, and fails at the first byte that does not fit.
struct Reader {
    connection: ConnectionId,
    outbound: Arc<Outbound>,
    wish: ChunkWish,
    /// What each `resumed` that is on its way says of answers.
    resumed: VecDeque<Vec<ActiveAnswer>>,
    text: Option<String>,
    began: Instant,
    chunks: Vec<Instant>,
    last: Option<pb::Message>,
}

impl Reader {
    fn read(&mut self) {
        while let Poll::Ready(Some(Ok(bytes))) =
            self.outbound.poll_next(&mut Context::from_waker(Waker::noop()))
        {
            let mut at = 0;
            while at < bytes.len() {
                if bytes[at..].starts_with(RESUMED) {
                    let told = self.resumed.pop_front().unwrap();
                    self.text = told.into_iter().next().map(|active| active.answer.text);
                    at += RESUMED.len();
                    continue;
                }
                let len = len_at(&bytes, at).unwrap();
                self.take(pb::ServerEvent::decode(&bytes[at + PREFIX..at + len]).unwrap());
                at += len;
            }
        }
    }

    fn take(&mut self, event: pb::ServerEvent) {
        match event.payload {
            Some(Payload::LlmChunk(chunk)) => {
                assert!(self.last.is_none(), "a chunk behind the end");
                assert_eq!(chunk.message_id.is_empty(), self.wish.compact);
                assert_eq!(chunk.thinking_seq, u64::from(self.wish.compact));
                let text = self.text.get_or_insert_default();
                assert_eq!(chunk.offset, text.len() as u64, "a hole or an overlap behind {text:?}");
                text.push_str(&chunk.content);
                self.chunks.push(Instant::now());
            }
            Some(Payload::MessageReceived(received)) => self.last = received.message,
            _ => {}
        }
    }

    /// What a session does when it was behind.
    fn catch_up(&mut self, feed: &Feed) {
        match self.outbound.work() {
            Work::Resync => feed.resync(&self.outbound, |now| {
                self.resumed.push_back(now.answers.to_vec());
                self.outbound.resynced(Bytes::from_static(RESUMED));
            }),
            Work::Read(after, page) => {
                for stretch in feed.recent(after, page).unwrap() {
                    self.outbound.push_missed(stretch.first, stretch.last, stretch.frames);
                }
            }
            Work::Idle => {}
            other => panic!("{other:?}"),
        }
    }

    /// The whole text as this client has it at the end.
    fn whole(&self) -> &str {
        let last = self.last.as_ref().expect("no end was told");
        if last.streamed { self.text.as_deref().unwrap() } else { &last.content }
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn wish(interval: Option<u64>, compact: bool) -> ChunkWish {
    ChunkWish { interval: interval.map(ms), compact }
}

const WIDE: QueueLimits = QueueLimits { events: 256, bytes: 1 << 20, replies: 10 };
const NARROW: QueueLimits = QueueLimits { events: 16, bytes: 1 << 20, replies: 10 };
const INTERVALS: [Option<u64>; 7] = [None, Some(0), Some(20), Some(40), Some(100), Some(250), Some(500)];

fn all_wishes() -> impl Iterator<Item = ChunkWish> {
    INTERVALS.into_iter().flat_map(|interval| [wish(interval, false), wish(interval, true)])
}

/// Lets time pass in steps of a millisecond, while the timer does what it must.
async fn pass(stage: &Stage, time: Duration, readers: &mut [Reader]) {
    for _ in 0..time.as_millis() {
        advance(ms(1)).await;
        let due = stage.feed.lock().timer;
        if due.is_some_and(|due| due <= Instant::now()) {
            stage.feed.tell_due();
        }
        readers.iter_mut().for_each(Reader::read);
    }
}

const WORDS: [&str; 8] = ["Grüße", " aus", " 東京", ",\n", "é", " wie geht es", "👋🏽", "."];

#[tokio::test(start_paused = true)]
async fn at_every_cut_every_pace_has_every_byte_once() {
    for seed in 1..=8 {
        let mut stage = Stage::new(seed);
        let mut readers: Vec<Reader> = all_wishes().map(|wish| stage.enter(wish, WIDE)).collect();
        let mut slow: Vec<Reader> = all_wishes().map(|wish| stage.enter(wish, NARROW)).collect();
        stage.begin();
        for n in 0..60_usize {
            let word = WORDS[n % WORDS.len()];
            stage.say(word);
            // Behind every part somebody joins, and somebody goes.
            let wish = all_wishes().nth(n % 14).unwrap();
            readers.push(stage.enter(wish, WIDE));
            if n % 5 == 4 {
                let gone = readers.remove(usize::try_from(stage.below(readers.len() as u64)).unwrap());
                assert!(stage.feed.exit(gone.connection).is_some());
            }
            let pause = ms(stage.below(60));
            pass(&stage, pause, &mut readers).await;
            for reader in &mut slow {
                if stage.below(12) == 0 {
                    reader.read();
                }
                reader.catch_up(&stage.feed);
            }
        }
        assert!(slow.iter().any(|reader| !reader.resumed.is_empty()), "nobody was behind");
        stage.end(&stage.said);
        for mut reader in readers {
            reader.read();
            assert_eq!(reader.text.as_deref(), Some(&*stage.said), "{:?}", reader.wish);
            assert_eq!(reader.last.as_ref().unwrap().streamed, reader.wish.compact);
            assert_eq!(reader.whole(), stage.said);
        }
        for mut reader in slow {
            for _ in 0..3 {
                reader.read();
                reader.catch_up(&stage.feed);
            }
            assert_eq!(reader.whole(), stage.said, "{:?}", reader.wish);
        }
        assert_eq!(stage.feed.lock().answers.next_due(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_more_often_than_wished_and_the_first_and_last_wait_for_nothing() {
    let mut stage = Stage::new(1);
    let mut readers: Vec<Reader> = all_wishes().map(|wish| stage.enter(wish, WIDE)).collect();
    stage.begin();
    let began = Instant::now();
    const PARTS: u64 = 900;
    for _ in 0..PARTS {
        stage.say("é");
        readers.iter_mut().for_each(Reader::read);
        pass(&stage, ms(3), &mut readers).await;
    }
    stage.say("end");
    stage.end(&stage.said);
    for reader in &mut readers {
        reader.read();
        let interval = reader.wish.interval.unwrap_or(LIMITS.chunk_interval);
        assert_eq!(reader.chunks[0], began, "the first has waited");
        let (last, others) = reader.chunks.split_last().unwrap();
        assert!(others.windows(2).all(|pair| pair[1] - pair[0] >= interval), "{:?}", reader.wish);
        // Nor does it wait longer than it must: the parts come every 3 ms.
        assert!(others.windows(2).all(|pair| pair[1] - pair[0] <= interval + ms(3)), "{:?}", reader.wish);
        assert_eq!(*last, Instant::now());
        assert_eq!(reader.whole(), stage.said);
    }
}

#[tokio::test(start_paused = true)]
async fn one_timer_serves_all_and_comes_sooner_when_it_must() {
    let mut stage = Stage::new(1);
    let mut slow = stage.enter(wish(Some(500), false), WIDE);
    stage.begin();
    assert!(!stage.say("first"), "nothing waits");
    assert!(stage.say("b"), "somebody must come back");
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(Arc::clone(&stage.feed).keep_pace());
    assert!(!stage.say("c"), "somebody does");
    tokio::time::sleep(ms(10)).await;
    let mut fast = stage.enter(wish(Some(20), true), WIDE);
    assert!(!stage.say("d"));
    assert!(!stage.say("e"));
    tokio::time::sleep(ms(21)).await;
    fast.read();
    assert_eq!(fast.text.as_deref(), Some("firstbcde"));
    slow.read();
    assert_eq!(slow.text.as_deref(), Some("first"));
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(slow.began.elapsed().as_millis() / 10, 50, "and ends when nothing waits");
    slow.read();
    assert_eq!(slow.text.as_deref(), Some("firstbcde"));
    assert!(stage.feed.exit(slow.connection).is_some() && stage.feed.exit(fast.connection).is_some());
    assert_eq!(stage.feed.shortest_interval(), None);
}

#[tokio::test(start_paused = true)]
async fn sessions_of_one_pace_share_their_bytes() {
    let mut stage = Stage::new(1);
    let sessions: Vec<Reader> = (0..3).map(|_| stage.enter(wish(Some(100), false), WIDE)).collect();
    for reader in &sessions {
        let _ = reader.outbound.poll_next(&mut Context::from_waker(Waker::noop()));
    }
    stage.begin();
    stage.say("one");
    stage.say(" two");
    advance(ms(100)).await;
    let tellings = stage.feed.lock().answers.due(Instant::now(), None);
    assert_eq!(tellings.len(), 1, "one frame for three sessions");
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_told_to_nobody_and_the_end_heals_it() {
    let stage = Stage::new(1);
    let mut readers: Vec<Reader> = all_wishes().map(|wish| stage.enter(wish, WIDE)).collect();
    stage.begin();
    stage.chunk(0, "one");
    // Four letters are lost, and what follows is more than is kept.
    for n in 0..100 {
        stage.chunk(7 + 3 * n, "xyz");
    }
    pass(&stage, ms(600), &mut readers).await;
    let late = stage.enter(wish(None, true), WIDE);
    readers.push(late);
    let whole = format!("one two{}", "xyz".repeat(100));
    stage.end(&whole);
    for reader in &mut readers {
        reader.read();
        assert_eq!(reader.text.as_deref(), Some("one"));
        assert!(!reader.last.as_ref().unwrap().streamed, "what was not told is not left out");
        assert_eq!(reader.whole(), whole);
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_with_another_text_is_told_whole() {
    let mut stage = Stage::new(1);
    let mut reader = stage.enter(wish(Some(500), true), WIDE);
    stage.begin();
    stage.say("one");
    stage.say(" two");
    stage.end("one");
    reader.read();
    assert_eq!((reader.text.as_deref(), reader.whole()), (Some("one two"), "one"));
}

#[tokio::test(start_paused = true)]
async fn who_left_out_a_chunk_is_told_the_whole_text_at_the_end() {
    let mut stage = Stage::new(1);
    let mut reader = stage.enter(wish(Some(0), true), NARROW);
    stage.begin();
    for _ in 0..20 {
        stage.say("word ");
    }
    let waiting = reader.outbound.backlog();
    assert!(waiting.events <= NARROW.events / 2, "{waiting:?}");
    stage.end(&stage.said);
    reader.read();
    assert!(!reader.last.as_ref().unwrap().streamed);
    assert_eq!(reader.whole(), stage.said);
}

#[tokio::test(start_paused = true)]
async fn whose_snapshot_leaves_out_texts_is_told_the_whole_text_at_the_end() {
    let mut stage = Stage::new(1);
    stage.begin();
    stage.say("long");
    let mut reader = stage.enter(wish(Some(0), true), WIDE);
    reader.outbound.want_whole_messages();
    stage.say(" end");
    stage.end(&stage.said);
    reader.read();
    assert!(!reader.last.as_ref().unwrap().streamed);
    assert_eq!(reader.whole(), stage.said);
}

#[test]
fn other_events_of_the_batch_stay_as_they_are() {
    let other = frame(&pb::ServerEvent { seq: 7, event_id: "e".into(), ..Default::default() });
    assert_eq!(transient::without_streamed(&other, &[]), None);
    let stage = Stage::new(1);
    let message = pb::Message {
        message_id: stage.answer.message_id.to_string(),
        content: "text".into(),
        mentions: vec!["bob".into()],
        ..Default::default()
    };
    let event = |message: pb::Message, seq| {
        let received = pb::MessageReceived { message: Some(message) };
        pb::ServerEvent { payload: Some(Payload::MessageReceived(received)), seq, ..Default::default() }
    };
    let frames = [other.clone(), frame(&event(message.clone(), 8)), other.clone()].concat();
    let told = LiveAnswer { text: "text".into(), ..stage.answer };
    let short = pb::Message { content: String::new(), streamed: true, ..message };
    let expected = [other.clone(), frame(&event(short, 8)), other].concat();
    assert_eq!(transient::without_streamed(&frames, &[&told]).unwrap(), expected);
}
