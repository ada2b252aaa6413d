//! How often a client is told of an answer, and in how many bytes: what it chooses, and that every cut fits. In time
//! that the test moves, so that every rate is exact.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use salon::{
    bus::lossy::{Faults, LossyBus},
    llm::{
        Finish,
        scripted::{ScriptedProvider, Step},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::transport::Endpoint;

use super::*;
use crate::harness::session::join;

const INTERVALS: [Option<u32>; 7] = [None, Some(0), Some(20), Some(40), Some(100), Some(250), Some(500)];
/// Far longer than an answer.
const PATIENCE: Duration = Duration::from_secs(3600);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn virtual_setup(provider: ScriptedProvider) -> Setup {
    Setup::default().provider(provider).virtual_time()
}

async fn enter(
    server: &TestServer,
    room: &str,
    user: &str,
    (interval, compact): (Option<u32>, bool),
    after: Option<u64>,
) -> Session {
    let mut session = Session::open(server.client().await).await;
    session.patience = PATIENCE;
    session.user = user.to_owned();
    let wish = pb::JoinRoom {
        chunk_interval_ms: interval,
        compact_answers: compact,
        after_seq: after,
        ..join(room, user)
    };
    session.say(Say::Join(wish)).await;
    session
}

/// One answer as a client puts it together.
struct Followed {
    text: String,
    /// When each chunk came.
    chunks: Vec<Instant>,
    message: pb::Message,
    /// When it came.
    ended: Instant,
}

/// Reads from the join to the end of the answer; every chunk must fit to what is there.
async fn follow_it(mut session: Session) -> Followed {
    let (mut text, mut chunks, mut answer) = (String::new(), Vec::new(), None);
    loop {
        let event = session.next().await;
        match event.payload.unwrap() {
            Payload::RoomState(pb::RoomState { active_answers, .. })
            | Payload::Resumed(pb::Resumed { active_answers, .. }) => {
                if let [active] = active_answers.as_slice() {
                    text.clone_from(&active.content);
                    answer = Some((active.thinking_seq, active.message_id.clone()));
                }
            }
            Payload::LlmThinking(thinking) => answer = Some((event.seq, thinking.message_id)),
            Payload::LlmChunk(chunk) => {
                let (seq, id) = answer.clone().expect("a chunk of nothing");
                assert!((&chunk.message_id, chunk.thinking_seq) == (&id, 0) || chunk.thinking_seq == seq);
                assert_eq!(chunk.offset, text.len() as u64, "{}: a hole or an overlap", session.user);
                text.push_str(&chunk.content);
                chunks.push(Instant::now());
            }
            Payload::MessageReceived(received) => {
                let message = received.message.unwrap();
                if message.sender_type() == pb::ParticipantType::Llm {
                    return Followed { text, chunks, message, ended: Instant::now() };
                }
            }
            _ => {}
        }
    }
}

const WORDS: [&str; 10] = ["Grüße", " aus", " 東京", ",\n", "wie", " geht", " es", "? 👋🏽", " Gut", "é"];

#[tokio::test(start_paused = true)]
async fn whoever_comes_at_any_cut_at_any_pace_has_every_byte_once() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = virtual_setup(provider).start_without_port().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.patience = PATIENCE;
    let mut following = JoinSet::new();
    for (n, interval) in INTERVALS.into_iter().enumerate() {
        for compact in [false, true] {
            let user = format!("first{n}{compact}");
            following.spawn(follow_it(enter(&server, &room, &user, (interval, compact), None).await));
        }
    }
    let asked = ann.talk("@ada hello").await;
    let mut call = script.next_call().await.unwrap();
    let mut said = String::new();
    for n in 0..70 {
        let word = WORDS[n % WORDS.len()];
        assert!(call.text(word).await);
        said.push_str(word);
        // Some before the server has taken it, some behind it.
        sleep(ms([0, 1, 7, 13, 33][n % 5])).await;
        let (interval, compact) = (INTERVALS[n % 7], n % 2 == 0);
        let after = (n % 3 == 0).then_some(asked.seq + (n % 2) as u64);
        following.spawn(follow_it(enter(&server, &room, &format!("u{n}"), (interval, compact), after).await));
    }
    assert!(call.done(Finish::Stop).await);
    let mut left_out = 0;
    while let Some(followed) = following.join_next().await {
        let Followed { text, message, .. } = followed.unwrap();
        // An answer whose end was on its way already is told whole, without a chunk.
        if message.streamed || !text.is_empty() {
            assert_eq!(text, said);
        }
        left_out += usize::from(message.streamed);
        assert_eq!(if message.streamed { &text } else { &message.content }, &said);
    }
    assert!(left_out > 20, "{left_out}");
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn over_a_bus_that_loses_no_text_has_a_hole_and_the_end_is_whole() {
    for seed in 1..=6 {
        let (provider, mut script) = ScriptedProvider::new("scripted");
        let bus = LossyBus::new(seed, Faults { drop: 12, repeat: 40, delay: 60 });
        let server = virtual_setup(provider).bus(bus).start_without_port().await;
        let room = server.room(&["ada"]).await;
        let mut following = JoinSet::new();
        for (n, interval) in INTERVALS.into_iter().enumerate() {
            let session = enter(&server, &room, &format!("u{n}"), (interval, n % 2 == 0), None).await;
            following.spawn(follow_it(session));
        }
        server.join(&room, "ann").await.talk("@ada hello").await;
        let mut call = script.next_call().await.unwrap();
        let mut said = String::new();
        for n in 0..50 {
            let word = WORDS[n % WORDS.len()];
            assert!(call.text(word).await);
            said.push_str(word);
            sleep(ms(11)).await;
        }
        assert!(call.done(Finish::Stop).await);
        while let Some(followed) = following.join_next().await {
            let Followed { text, message, .. } = followed.unwrap();
            assert!(said.starts_with(&text), "{text:?}");
            assert_eq!(if message.streamed { &text } else { &message.content }, &said);
        }
        server.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_has_their_own_rate_and_no_end_waits() {
    let text: Vec<String> = (0..600).map(|n| format!("w{n} ")).collect();
    let steps: Vec<Step> = text.iter().flat_map(|word| [Step::text(word), Step::Pause(ms(7))]).collect();
    let steps = [steps, vec![Step::text("end"), Step::Done(Finish::Stop)]].concat();
    let server =
        virtual_setup(ScriptedProvider::with("scripted", move |_| steps.clone())).start_without_port().await;
    let room = server.room(&["ada"]).await;
    let mut following = JoinSet::new();
    for interval in INTERVALS {
        let session =
            enter(&server, &room, &format!("u{interval:?}").replace(['(', ')'], "-"), (interval, true), None)
                .await;
        following.spawn(async move { (interval.unwrap_or(40), follow_it(session).await) });
    }
    server.join(&room, "ann").await.talk("@ada hello").await;
    while let Some(followed) = following.join_next().await {
        let (interval, Followed { text, chunks, message, ended }) = followed.unwrap();
        assert!(message.streamed && text.ends_with("end"));
        let rate = ms(u64::from(interval));
        let (last, others) = chunks.split_last().unwrap();
        assert!(others.windows(2).all(|pair| pair[1] - pair[0] >= rate), "{interval}: too often");
        let most = rate.max(ms(7)) + ms(8);
        assert!(others.windows(2).all(|pair| pair[1] - pair[0] <= most), "{interval}: too seldom");
        assert_eq!(*last, ended, "the last text comes with the message");
    }
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn text_that_waits_is_told_before_an_end_of_any_kind() {
    for end in ["interrupt", "fail", "end the room"] {
        let (provider, mut script) = ScriptedProvider::new("scripted");
        let server = virtual_setup(provider).start_without_port().await;
        let room = server.room(&["ada"]).await;
        let mut admin = server.join(&room, "admin").await;
        let compact = enter(&server, &room, "bob", (Some(500), true), None).await;
        let usual = enter(&server, &room, "eve", (Some(500), false), None).await;
        admin.talk("@ada hello").await;
        let mut call = script.next_call().await.unwrap();
        for word in ["one", " two", " three"] {
            assert!(call.text(word).await);
            sleep(ms(45)).await;
        }
        match end {
            "interrupt" => admin.say(interrupt("ada", None)).await,
            "fail" => assert!(call.fail_with(salon::llm::ErrorKind::Network).await),
            _ => admin.say(Say::EndRoom(pb::EndRoom::default())).await,
        }
        for session in [compact, usual] {
            let Followed { text, message, .. } = follow_it(session).await;
            assert_eq!(text, "one two three", "{end}");
            assert!(message.partial && (message.streamed || message.content == text), "{end}: {message:?}");
        }
        server.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_and_the_stream_lives() {
    let server = Setup::default().virtual_time().start_without_port().await;
    let room = server.room(&[]).await;
    let mut session = enter(&server, &room, "ann", (Some(501), false), None).await;
    let Some(Payload::Error(error)) = session.next().await.payload else { panic!("not refused") };
    assert_eq!((error.code.as_str(), error.field.as_str()), ("invalid_argument", "join.chunk_interval_ms"));
    assert!(error.message.contains("500"), "{error:?}");
    let wish = pb::JoinRoom { chunk_interval_ms: Some(500), ..join(&room, "ann") };
    session.say(Say::Join(wish)).await;
    session.take_state().await;
    server.shutdown().await;
}

/// Counts what comes from the server.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        self.1.fetch_add(buffer.filled().len() - before, Ordering::SeqCst);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Bytes of the connection for each byte of an answer of 4000 tokens, from the question to `llm_done`.
async fn wire_ratio(between_tokens: Duration, wish: (Option<u32>, bool)) -> f64 {
    const TOKENS: usize = 4000;
    let text = "four".repeat(TOKENS);
    let paced = |_| [Step::text("four"), Step::Pause(between_tokens)];
    let steps: Vec<Step> = (0..TOKENS).flat_map(paced).chain([Step::Done(Finish::Stop)]).collect();
    let server =
        virtual_setup(ScriptedProvider::with("scripted", move |_| steps.clone())).start_without_port().await;
    let room = server.room(&["ada"]).await;
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    server.server.serve_connection(theirs);
    let count = Arc::new(AtomicUsize::new(0));
    let mut ours = Some(TokioIo::new(Counted(ours, Arc::clone(&count))));
    let connector = tower::service_fn(move |_: http::Uri| {
        let io = ours.take().ok_or_else(|| std::io::Error::other("connected once"));
        async move { io }
    });
    let channel = Endpoint::from_static("http://duplex").connect_with_connector(connector).await.unwrap();
    let mut session = Session::open(pb::room_service_client::RoomServiceClient::new(channel)).await;
    session.patience = PATIENCE;
    let wish = pb::JoinRoom { chunk_interval_ms: wish.0, compact_answers: wish.1, ..join(&room, "ann") };
    session.say(Say::Join(wish)).await;
    session.take_state().await;
    session.settle().await;
    let before = count.load(Ordering::SeqCst);
    session.say(crate::harness::session::message("@ada hello")).await;
    let mut told = String::new();
    loop {
        match session.next().await.payload.unwrap() {
            Payload::LlmChunk(chunk) => told.push_str(&chunk.content),
            Payload::LlmDone(_) => break,
            _ => {}
        }
    }
    assert_eq!(told, text);
    let bytes = count.load(Ordering::SeqCst) - before;
    server.shutdown().await;
    bytes as f64 / text.len() as f64
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "figures")]
async fn a_compact_answer_costs_at_most_half_its_text_more() {
    for (tokens_per_second, interval) in [(100, 250), (100, 500), (50, 500), (1000, 40)] {
        let between = Duration::from_secs(1) / tokens_per_second;
        let ratio = wire_ratio(between, (Some(interval), true)).await;
        println!("{tokens_per_second} tokens a second, {interval} ms: {ratio:.2} times the text");
        assert!(ratio <= 1.5, "{ratio}");
    }
    // The usual form says the text twice, and the names of the answer with every chunk.
    let usual = wire_ratio(ms(10), (Some(500), false)).await;
    println!("100 tokens a second, 500 ms, usual form: {usual:.2} times the text");
    assert!(usual > 2.0 && usual < 3.0, "{usual}");
}
