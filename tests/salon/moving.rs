//! Streams that the server ends while their clients want to stay: because they are old, or because it goes.

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use salon::{
    cli::{
        chat::{self, ChatOptions, style::ColorChoice},
        exit::Exit,
    },
    llm::scripted::{ScriptedProvider, Step},
    wire::pb::room::v1::{self as pb, room_service_client::RoomServiceClient, server_event::Payload},
};
use tokio::{task::JoinSet, time::Instant};
use tonic::transport::{Channel, Endpoint};

use crate::harness::{
    Session, Setup, TestServer,
    session::{is_lasting, message},
};

const AGE: Duration = Duration::from_secs(600);
/// Longer than anything that is waited for here.
const PATIENCE: Duration = Duration::from_secs(3600);

async fn start() -> Arc<TestServer> {
    let setup = Setup::default().virtual_time().config(|config| {
        config.limits.max_session_age = Some(AGE);
        config.limits.drain = Duration::from_secs(20);
    });
    Arc::new(setup.start_without_port().await)
}

async fn stop(server: Arc<TestServer>) {
    Arc::into_inner(server).expect("somebody still has the server").shutdown().await;
}

/// A client that opens a connection whenever it needs one, as one behind a balancer does; and how many it has opened.
async fn redialling(server: &Arc<TestServer>) -> (RoomServiceClient<Channel>, Arc<AtomicUsize>) {
    let dialled = Arc::new(AtomicUsize::new(0));
    let (count, server) = (Arc::clone(&dialled), Arc::downgrade(server));
    let connector = tower::service_fn(move |_: http::Uri| {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        count.fetch_add(1, Ordering::SeqCst);
        let server = server.upgrade();
        async move {
            let server = server.ok_or_else(|| std::io::Error::other("the server has gone"))?;
            server.server.serve_connection(theirs);
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
        }
    });
    let channel = Endpoint::from_static("http://redialled").connect_with_connector(connector).await.unwrap();
    (RoomServiceClient::new(channel), dialled)
}

#[tokio::test(start_paused = true)]
async fn an_old_stream_is_told_to_come_back_at_once_and_where_to_resume() {
    let server = start().await;
    let room = server.room(&[]).await;
    let mut ages = Vec::new();
    for user in ["ann", "bob", "eve"] {
        let mut session = server.join(&room, user).await;
        session.patience = PATIENCE;
        let last = session.talk("here").await.last_seq;
        let began = Instant::now();
        let (closing, status) = session.end().await;
        let closing = closing.unwrap();
        assert_eq!((closing.reason(), closing.reconnect), (pb::ClosingReason::SessionAge, true));
        assert_eq!((closing.reconnect_after_ms, closing.resume_seq), (0, last), "{closing:?}");
        assert_eq!(closing.deadline_ms, 0, "nothing is going away");
        assert_eq!(status.unwrap_err().code(), tonic::Code::Unavailable);
        let age = began.elapsed();
        assert!(age >= AGE * 9 / 10 && age <= AGE * 111 / 100, "{age:?}");
        ages.push(age);
    }
    ages.dedup();
    assert_eq!(ages.len(), 3, "streams that began together would end together");
    stop(server).await;
}

/// What a client with a busy sender has to remember, and what it has seen.
#[derive(Default)]
struct Busy {
    /// Sent and not acknowledged.
    open: BTreeMap<String, String>,
    said: usize,
    seen: Vec<u64>,
}

impl Busy {
    /// Talks every second on one stream until the server ends it; where to resume.
    async fn use_up(&mut self, session: &mut Session) -> pb::Closing {
        for (request_id, content) in self.open.clone() {
            session.send(pb::ClientMessage { request_id, payload: Some(message(&content)) }).await;
        }
        let mut next = Instant::now();
        loop {
            let event = tokio::select! {
                biased;
                event = session.try_next() => event.unwrap().expect("it ended without a closing event"),
                () = tokio::time::sleep_until(next) => {
                    next += Duration::from_secs(1);
                    self.said += 1;
                    let (request_id, content) = (format!("r{}", self.said), format!("number {}", self.said));
                    self.open.insert(request_id.clone(), content.clone());
                    session.send(pb::ClientMessage { request_id, payload: Some(message(&content)) }).await;
                    continue;
                }
            };
            if is_lasting(&event) {
                self.seen.push(event.seq);
            }
            match event.payload {
                Some(Payload::Ack(_)) => drop(self.open.remove(&event.request_id)),
                Some(Payload::Closing(closing)) => return closing,
                _ => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_sender_that_is_moved_loses_nothing_and_says_nothing_twice() {
    let server = start().await;
    let room = server.room(&[]).await;
    let (client, dialled) = redialling(&server).await;
    let mut busy = Busy::default();
    let mut session = Session::join(client.clone(), &room, "ann").await;
    let first = session.seq;
    for moved in 1..=3 {
        session.patience = PATIENCE;
        let closing = busy.use_up(&mut session).await;
        assert_eq!(closing.reason(), pb::ClosingReason::SessionAge);
        assert_eq!(closing.resume_seq, *busy.seen.last().unwrap(), "it resumes where it has ended");
        session = Session::resume(client.clone(), &room, "ann", closing.resume_seq).await;
        let resumed = session.next().await;
        assert!(matches!(resumed.payload, Some(Payload::Resumed(_))), "{resumed:?}");
        // An old connection takes no new streams: a balancer would have chosen a server anew.
        assert_eq!(dialled.load(Ordering::SeqCst), moved + 1);
    }
    for (request_id, content) in std::mem::take(&mut busy.open) {
        session.command_as(&request_id, message(&content)).await.unwrap();
    }
    let log = server.log(&room).await;
    let mut said: Vec<&str> = log.iter().filter_map(content).collect();
    assert_eq!(said.len(), busy.said, "lost or doubled");
    said.sort_unstable();
    said.dedup();
    assert_eq!(said.len(), busy.said, "doubled");
    let head = log.last().unwrap().seq;
    while busy.seen.last().is_some_and(|last| *last < head) {
        let event = session.next().await;
        if is_lasting(&event) {
            busy.seen.push(event.seq);
        }
    }
    assert_eq!(busy.seen, (first + 1..=head).collect::<Vec<_>>(), "a hole, a repetition or another order");
    drop((session, client));
    stop(server).await;
}

fn content(event: &pb::ServerEvent) -> Option<&str> {
    match &event.payload {
        Some(Payload::MessageReceived(received)) => Some(received.message.as_ref()?.content.as_str()),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_joins_while_the_server_goes_is_sent_elsewhere_at_once() {
    let provider = ScriptedProvider::replies("scripted", vec![vec![Step::text("Well"), Step::Stall]]);
    let setup = Setup::default().virtual_time().provider(provider);
    let server =
        setup.config(|config| config.limits.drain = Duration::from_secs(20)).start_without_port().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.patience = PATIENCE;
    let mut late = Session::open(server.client().await).await;
    late.patience = PATIENCE;
    late.settle().await;
    ann.talk("@ada hello").await;
    ann.find(|event| matches!(event.payload, Some(Payload::LlmChunk(_)))).await;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.shutdown());
    let (closing, status) = late.end().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(closing.unwrap().reason(), pb::ClosingReason::Draining);
    assert_eq!(status.unwrap_err().code(), tonic::Code::Unavailable);
    // Who is here already goes on until the answer has had its time, and is told how long the rest may take.
    let closing = ann.end().await.0.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    assert!((1..=10_000).contains(&closing.deadline_ms), "{closing:?}");
    assert!((100..=3000).contains(&closing.reconnect_after_ms), "{closing:?}");
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn the_chat_client_moves_without_a_word() {
    let setup =
        Setup::default().config(|config| config.limits.max_session_age = Some(Duration::from_millis(300)));
    let server = setup.start().await;
    let room = server.room(&[]).await;
    let mut bob = server.join(&room, "bob").await;
    let options = ChatOptions {
        server: server.url.clone().into(),
        room: room.clone(),
        user: "ann".into(),
        name: None,
        create: false,
        invitation: String::new(),
        color: ColorChoice::Never,
        resume_after: None,
        wait: crate::harness::DEADLINE,
    };
    let (input, mut typed) = std::io::pipe().unwrap();
    let (out, errors) = (crate::cli_client::Written::default(), crate::cli_client::Written::default());
    let io = chat::io::pipes(std::io::BufReader::new(input), out.clone(), errors.clone(), false).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(chat::run_with(options, io));
    // Bob comes back as every client must, and hears each line however often both are moved.
    let mut moved = 0;
    for number in 0..6 {
        writeln!(typed, "line {number}").unwrap();
        loop {
            match bob.try_next().await {
                Ok(Some(event)) => {
                    let at = event.seq;
                    if content(&event).is_some_and(|said| said == format!("line {number}")) {
                        bob.seq = at;
                        break;
                    }
                    if let Some(Payload::Closing(closing)) = event.payload {
                        moved += 1;
                        bob = Session::resume(server.client().await, &room, "bob", closing.resume_seq).await;
                    }
                }
                other => panic!("the stream ended without a closing event: {other:?}"),
            }
        }
        // Until the next move, so that several happen.
        if number < 3 {
            let closing = bob.end().await.0.expect("no closing event");
            moved += 1;
            bob = Session::resume(server.client().await, &room, "bob", closing.resume_seq).await;
        }
    }
    assert!(moved >= 3);
    drop(typed);
    assert_eq!(tasks.join_next().await.unwrap().unwrap().unwrap(), Exit::Success);
    assert_eq!(errors.text(), "", "nothing was lost, so there is nothing to say");
    let log = server.log(&room).await;
    assert_eq!(log.iter().filter_map(content).count(), 6);
    drop(bob);
    server.shutdown().await;
}
