//! A client on the h2 of Rust that stops reading for a minute while 64 LLMs answer.
//!
//! Its own defence against floods of small frames ends a connection on which more of them wait unread than half of the
//! connection's window allows (each counts as what it lacks of 256 bytes). Chunks are such frames. With a window that
//! is large enough for what it may miss it keeps the connection; with the default one it may lose it, and whoever
//! resumes has every text all the same. Virtual time: the minute takes no minute.

use std::time::Duration;

use salon::{
    llm::{
        Finish,
        scripted::{ScriptedProvider, Step},
    },
    wire::pb::room::v1::{self as pb, room_service_client::RoomServiceClient, server_event::Payload},
};
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{Session, Setup, TestServer, session::message};

const ANSWERS: usize = 64;
const STALL: Duration = Duration::from_secs(60);
/// A word, and how often one comes: some of it comes before the client stalls, the last of it behind.
const WORDS: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(3600);
const BETWEEN: Duration = Duration::from_millis(70);

/// A connection through memory, with this window for all of its streams.
async fn duplex(server: &TestServer, window: Option<u32>) -> RoomServiceClient<Channel> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    server.server.serve_connection(theirs);
    let mut ours = Some(hyper_util::rt::TokioIo::new(ours));
    let connector = tower::service_fn(move |_: http::Uri| {
        // A second connection is a lost one.
        let io = ours.take().ok_or_else(|| std::io::Error::other("connected once"));
        async move { io }
    });
    let endpoint = Endpoint::from_static("http://duplex").initial_connection_window_size(window);
    RoomServiceClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

/// The text of the answer, when it has ended.
async fn answer(session: &mut Session) -> Result<String, tonic::Status> {
    loop {
        let Some(event) = session.try_next().await? else {
            return Err(tonic::Status::aborted("the stream has ended"));
        };
        if let Some(Payload::MessageReceived(pb::MessageReceived { message: Some(message), .. })) =
            event.payload
            && message.sender_type() == pb::ParticipantType::Llm
        {
            return Ok(message.content);
        }
    }
}

/// How many streams were lost of a client with this window; every answer must come, on the stream or on the next one.
async fn lost_with(window: Option<u32>) -> usize {
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
    let client = duplex(&server, window).await;
    let mut sessions = Vec::new();
    for n in 0..ANSWERS {
        let room = server.room(&["ada"]).await;
        let mut session = Session::join(client.clone(), &room, &format!("user-{n}")).await;
        session.patience = PATIENCE;
        session.settle().await;
        session.say(message("@ada tell me all of it")).await;
        sessions.push((room, session));
    }
    sleep(STALL).await;
    let mut lost = 0;
    let again = duplex(&server, window).await;
    for (room, mut session) in sessions {
        let said = match answer(&mut session).await {
            Ok(said) => said,
            Err(_) => {
                lost += 1;
                let mut resumed = Session::resume(again.clone(), &room, &session.user, session.seq).await;
                resumed.patience = PATIENCE;
                answer(&mut resumed).await.unwrap()
            }
        };
        assert_eq!(said.trim_end(), text.trim_end(), "{}", session.user);
    }
    server.shutdown().await;
    lost
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_for_a_minute_keeps_its_connection_and_gets_every_answer() {
    assert_eq!(lost_with(Some(64 << 20)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_own_defence_ends_its_connection_gets_every_answer_by_resuming() {
    println!("{} of {ANSWERS} streams were ended by the client itself", lost_with(None).await);
}
