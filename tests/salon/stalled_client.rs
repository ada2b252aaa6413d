//! A client on the h2 of Rust that stops reading for a minute: while 64 LLMs answer, and while nothing but small events
//! come.
//!
//! Its own defence against floods of small frames ends a connection on which more of them wait unread than half of the
//! connection's window allows (each counts as what it lacks of 256 bytes). What the server sends in streams is large
//! enough that the window is full first. Chunks of the compact form are not: they show that the test can fail, and that
//! whoever resumes has every text all the same. Virtual time: the minute takes no minute.

use std::time::Duration;

use futures_util::future::join_all;
use salon::{
    llm::{
        Finish,
        scripted::{ScriptedProvider, Step},
    },
    wire::pb::room::v1::{
        self as pb, client_message::Payload as Say, room_service_client::RoomServiceClient,
        server_event::Payload,
    },
};
use tokio::time::sleep;
use tonic::transport::Channel;

use crate::harness::{
    Session, Setup, TestServer,
    session::{join, message},
};

const STREAMS: usize = 64;
/// A word, and how often one comes: some of it comes before the client stalls.
const WORDS: usize = 1000;
const BETWEEN: Duration = Duration::from_millis(70);
/// All of the answers have ended before the client reads on.
const STALL: Duration = Duration::from_secs(90);
const PATIENCE: Duration = Duration::from_secs(3600);
/// The windows of an h2 client that asks for nothing.
const OF_H2: Option<u32> = Some(65_535);
/// Those of hyper, and so of tonic: 5 MiB for the connection.
const OF_HYPER: Option<u32> = None;

async fn client(server: &TestServer, window: Option<u32>) -> RoomServiceClient<Channel> {
    RoomServiceClient::new(server.windowed(window).await)
}

/// The text of the answer, when it has ended.
async fn answer(session: &mut Session) -> Result<String, tonic::Status> {
    let (mut told, mut streamed) = (String::new(), false);
    loop {
        let Some(event) = session.try_next().await? else {
            return Err(tonic::Status::aborted("the stream has ended"));
        };
        match event.payload {
            Some(Payload::LlmChunk(chunk)) => told.push_str(&chunk.content),
            Some(Payload::MessageReceived(pb::MessageReceived { message: Some(message), .. }))
                if message.sender_type() == pb::ParticipantType::Llm =>
            {
                streamed |= message.streamed;
                return Ok(if streamed { told } else { message.content });
            }
            _ => {}
        }
    }
}

/// How many streams were lost of a client with this window; every answer must come, on the stream or on the next one.
async fn lost_with(window: Option<u32>, compact: bool) -> usize {
    let steps: Vec<Step> = (0..WORDS)
        .flat_map(|n| [Step::text(format!("{n:04} ")), Step::Pause(BETWEEN)])
        .chain([Step::Done(Finish::Stop)])
        .collect();
    let text: String = (0..WORDS).map(|n| format!("{n:04} ")).collect();
    let server = Setup::default()
        .provider(ScriptedProvider::with("scripted", move |_| steps.clone()))
        .virtual_time()
        .start_without_port()
        .await;
    let all = client(&server, window).await;
    let mut sessions = Vec::new();
    for n in 0..STREAMS {
        let room = server.room(&["ada"]).await;
        let mut session = Session::open(all.clone()).await;
        session.patience = PATIENCE;
        session.user = format!("user-{n}");
        session.say(Say::Join(pb::JoinRoom { compact_answers: compact, ..join(&room, &session.user) })).await;
        session.take_state().await;
        session.settle().await;
        sessions.push((room, session));
    }
    // From here on nothing is read: what the first are told must not hold up the joining of the last.
    for (_, session) in &mut sessions {
        session.say(message("@ada tell me all of it")).await;
    }
    sleep(STALL).await;
    let again = client(&server, window).await;
    // All at once: the window is for all streams together, and one that is not read would hold up the others.
    let read = sessions.into_iter().map(async |(room, mut session)| {
        let (said, is_lost) = match answer(&mut session).await {
            Ok(said) => (said, false),
            Err(_) => {
                let mut resumed = Session::resume(again.clone(), &room, &session.user, session.seq).await;
                resumed.patience = PATIENCE;
                (answer(&mut resumed).await.unwrap(), true)
            }
        };
        assert_eq!(said.trim_end(), text.trim_end(), "{}", session.user);
        usize::from(is_lost)
    });
    let lost = join_all(read).await.into_iter().sum();
    server.shutdown().await;
    lost
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_keeps_its_connection_and_gets_every_answer() {
    assert_eq!(lost_with(OF_H2, false).await, 0);
    assert_eq!(lost_with(OF_HYPER, false).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_of_the_compact_form_needs_a_large_window_and_has_every_answer_by_resuming() {
    assert_eq!(lost_with(OF_H2, true).await, STREAMS);
    assert_eq!(lost_with(Some(64 << 20), true).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_survives_typing_and_an_hour_of_heartbeats() {
    let server = Setup::default().virtual_time().start_without_port().await;
    let (quiet, others) = (client(&server, OF_H2).await, client(&server, OF_HYPER).await);
    let (mut sessions, mut partners) = (Vec::new(), Vec::new());
    for n in 0..STREAMS {
        let room = server.room(&[]).await;
        let mut partner = Session::join(others.clone(), &room, "partner").await;
        let mut session = Session::join(quiet.clone(), &room, &format!("user-{n}")).await;
        (session.patience, partner.patience) = (PATIENCE, PATIENCE);
        session.settle().await;
        sessions.push(session);
        partners.push(partner);
    }
    // Half a minute of typing in every room, and then nothing but signs of life.
    for is_typing in [true, false].into_iter().cycle().take(20) {
        for partner in &mut partners {
            partner.say(Say::Typing(pb::TypingIndicator { is_typing })).await;
            partner.settle().await;
        }
        sleep(Duration::from_millis(1500)).await;
    }
    sleep(PATIENCE).await;
    for partner in &mut partners {
        partner.talk("still there?").await;
    }
    let heard = sessions.iter_mut().map(async |session| {
        session.pick(|payload| matches!(payload, Payload::MessageReceived(_)).then_some(())).await;
    });
    join_all(heard).await;
    server.shutdown().await;
}
